"""A call to the store, made until it is answered.

Decides what is said of an outage, and when to try again. The store has tried for `retry_for` before it gives up; a
worker does not: its jobs run on, and their outcomes have nowhere else to go. A fault of gqueue is none of its business:
the same call sent again would meet it again, and the worker only look alive.
"""

import logging
import random
from collections.abc import Callable
from typing import TypeVar

import gevent

from gqueue.errors import GqueueError, LeaseLost, StaleCall, StoreUnavailable

T = TypeVar("T")

BASE_S, CAP_S = 0.1, 3.0
"""Pause before the n-th try: uniform over [0, min(CAP_S, BASE_S * 2**n)]."""

_logger = logging.getLogger("gqueue.worker")


class Persistence:
    """Calls of one queue's pump; *gone* is told once an outage, after the first call that failed."""

    def __init__(self, queue: str, gone: Callable[[], None]) -> None:
        self._queue, self._gone = queue, gone
        self._down = False

    def __call__(self, call: Callable[[], T]) -> T:
        """Return the answer to *call*, in the end.

        Raises LeaseLost, StaleCall, which are answers too; and what is neither an error of gqueue's nor of the system:
        an answer that cannot be read. The process is to be given up then.
        """
        tries = 0
        while True:
            try:
                answer = call()
            except (LeaseLost, StaleCall):
                raise
            except StoreUnavailable as error:
                self._fail(error, trace=False)
            except (GqueueError, OSError) as error:  # the server refuses it, until somebody mends that
                self._fail(error, trace=True)
            else:
                if self._down:
                    self._down = False
                    _logger.info("queue %s: the store answers again", self._queue)
                return answer
            tries += 1
            gevent.sleep(random.uniform(0, min(CAP_S, BASE_S * 2 ** min(tries, 10))))

    def _fail(self, error: Exception, *, trace: bool) -> None:
        if self._down:
            return
        self._down = True
        _logger.warning(
            "queue %s: %s: %s; running jobs go on, and the call is repeated until it is answered",
            self._queue,
            type(error).__name__,
            error,
            exc_info=error if trace else None,
        )
        self._gone()
