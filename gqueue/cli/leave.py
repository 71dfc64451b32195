"""A clean end for a worker that is asked to end before it has begun.

From the first moment of the process until the worker's own handlers stand (`worker.signals`) nothing is registered, so
there is nothing to drain: the handler itself ends the process. Keep it from raising: an exception at an arbitrary
bytecode is swallowed by an import or a finalizer, or leaves gevent's patching half done, and then threading never ends.
"""

import contextlib
import os
import signal
import sys
import time
from types import FrameType

_pid = os.getpid()
_sleep = time.sleep  # not yet gevent's: this comes before the patching


def on_signals() -> None:
    """Have SIGTERM and SIGINT end this process with 0, at once."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)


def _leave(number: int, _frame: FrameType | None) -> None:
    if os.getpid() != _pid:  # a child that the app forked when it was imported
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # Only if it is there: an import may be what was interrupted.
        abandon = getattr(sys.modules.get("gqueue.embedded"), "abandon", None)
        if abandon is not None:
            abandon(_sleep)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # interrupted in a write of its own, or closed
                stream.flush()
    finally:
        os._exit(0)
