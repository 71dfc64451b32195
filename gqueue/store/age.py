"""How old a call is that may have arrived, by a clock that goes on while the machine sleeps, as the server's does.

Waits and deadlines are by `time.monotonic()`, which stands still then: a machine that wakes has lost none of its time.
"""

import time
from collections.abc import Callable
from functools import partial

from gqueue.core.producer import too_late_to_send_again

_now: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)


def now() -> float:
    """Return the time, in seconds since some moment before the process was started."""
    return _now()


def too_old(since: float) -> bool:
    """Return whether what was sent at *since* (`now`) for the first time is not to be sent again."""
    return too_late_to_send_again(int((now() - since) * 1000))
