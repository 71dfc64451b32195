"""How much memory this process has, for `--max-rss`.

Decides where the figure comes from: on Linux what is resident now; elsewhere the most there ever was, which is all that
POSIX tells.
"""

import os
import resource
import sys

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(statm: str = "/proc/self/statm") -> int:
    """Return the resident memory of this process in bytes."""
    try:
        with open(statm, "rb", buffering=0) as file:
            return int(file.read(256).split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def in_words(size: int) -> str:
    """Return *size* bytes in MiB: `512 MiB`."""
    return f"{size / 2**20:,.0f} MiB"
