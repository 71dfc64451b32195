"""A clean end for a worker that is asked to end before it has begun.

From the first moment of the process until the worker's own handlers stand there is nothing to drain. Imports nothing
that gevent patches: this comes before the patching.
"""

import signal
from types import FrameType


class Leave(SystemExit):
    """Raised by the signal; not to be taken for a sys.exit in an app's module."""


def on_signals() -> None:
    """Have SIGTERM and SIGINT raise Leave(0)."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise Leave(0)
