"""How the command ends: with all that it started, and without its files."""

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from types import FrameType

from benchmarks import process


@contextlib.contextmanager
def leaving_nothing() -> Iterator[None]:
    """Have SIGTERM end this process in good order; whatever ends it, end its descendants and remove its files.

    A signal may come at any line: where a server runs and no variable holds it yet, or a folder is there that nobody
    would remove. So the processes are found by /proc, and all folders lie in one, made before a signal is heard.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with tempfile.TemporaryDirectory(prefix="gqueue-bench-") as folder:
        tempfile.tempdir = folder
        signal.signal(signal.SIGTERM, _exit)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            yield
        finally:
            _end_descendants()


def _exit(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the end
    sys.exit(128 + number)


def _end_descendants() -> None:
    _, *others = process.tree(os.getpid())
    process.kill(others)
    for pid in others:
        with contextlib.suppress(ChildProcessError):  # it is a child's child, or waited for already
            os.waitpid(pid, 0)
