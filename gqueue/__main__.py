"""The program: `python -m gqueue`, and the console script `gqueue`.

Decides one thing, which must come before any other import: whether this process runs jobs, and so needs gevent's
monkey patching. All else is in `cli`. Importing this module does nothing.
"""

import os
import sys


def main() -> int:
    """Run the command line; return the exit code."""
    try:
        return _main(sys.argv[1:])
    except KeyboardInterrupt:  # while something was imported; later `cli` sees to it
        return 130


def _main(args: list[str]) -> int:
    if is_worker(args):
        from gqueue.cli import leave

        leave.on_signals()
        if not supervises(args, os.environ.get("GQUEUE_PROCESSES", "")):
            from gevent import monkey

            monkey.patch_all()
    from gqueue.cli.main import run

    return run(args)


def is_worker(args: list[str]) -> bool:
    """Return whether *args* call for the command `worker`, which is the one where none is named."""
    return not args or args[0] == "worker" or (args[0].startswith("-") and args[0] not in ("--help", "--version"))


def supervises(args: list[str], processes: str) -> bool:
    """Return whether a worker with *args* is to start others, and so needs no gevent itself.

    *processes* is the default of --processes. The last --processes counts, as click has it; what is no number will be
    refused there.
    """
    for index, arg in enumerate(args):
        if arg == "--processes" and index + 1 < len(args):
            processes = args[index + 1]
        elif arg.startswith("--processes="):
            processes = arg.partition("=")[2]
    return processes.strip().isdecimal() and int(processes) > 1


if __name__ == "__main__":
    sys.exit(main())
