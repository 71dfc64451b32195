"""What a worker process tells its supervisor: by its exit code, and on its line."""

EXIT_STUCK = 4
"""A process of which a job would not let go; its jobs are dead letters, or run elsewhere."""

SAYS_UP, SAYS_REPLACED = b"u", b"r"
"""It came up; it drains, in order to be replaced."""
