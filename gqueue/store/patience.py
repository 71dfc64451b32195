"""How long a caller would wait for a connection while all are busy.

No operation of a store takes a time-out: an answer that is on its way must be awaited, else the connection is lost. But
where thousands of threads share the connections to a distant server, what takes its time is not the server, and the
caller's own limit counts.
"""

import math
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

from gqueue.errors import StoreUnavailable

T = TypeVar("T")

LEAST_S = 1.0
"""So long one waits at least: a limit of 0 means not to wait for jobs or room, and still needs an answer."""

ends: ContextVar[float] = ContextVar("gqueue.store.patience", default=math.inf)
"""When (`time.monotonic()`) this caller waits no longer for a connection to be free."""


class AllBusy(StoreUnavailable):
    """The server answers, but no connection was free before the caller's time was up.

    Nothing was sent, unless `may_be_in`: then an earlier try was.
    """


def until(limit: float | None, call: Callable[[], T]) -> T:
    """Carry out a call to a store; wait for a free connection until *limit* (`time.monotonic()`), None: for ever.

    Raises AllBusy.
    """
    token = ends.set(math.inf if limit is None else max(limit, time.monotonic() + LEAST_S))
    try:
        return call()
    finally:
        ends.reset(token)
