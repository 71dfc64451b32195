"""`--burst`: a worker that ends when its queues are empty.

Decides what a queue still has that is worth waiting for: also jobs that run elsewhere, since they may fail and come
back, and producers in line.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import gevent

from gqueue.core.model import Stats
from gqueue.errors import CallRefused, StoreUnavailable

if TYPE_CHECKING:
    from gqueue.worker.pump import Pump

LOOK_S = 0.1
"""How often an idle worker counts what is left."""

SAY_S = 10.0
"""How often it says what it waits for."""

REFUSED_S = 10.0
"""For so long on end the store may refuse to count: a right that is granted anew, a key that is mended. Then it is not
to be known when to end."""

_logger = logging.getLogger("gqueue.worker")


def waits_for(stats: Stats) -> str | None:
    """Return what a queue still has, in words; None if nothing is left.

    >>> waits_for(Stats(0, 0, 2, 1, 7, 0, 0, 1, 0, 100, False, {}))
    '2 scheduled, 1 running'
    """
    counts = {
        "ready": stats.ready + stats.suspects,
        "scheduled": stats.scheduled,
        "running": stats.running,
        "producers in line": stats.waiters,
    }
    text = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    if text and stats.paused:
        text += " (paused)"
    return text or None


def wait(pumps: Sequence["Pump"], idle: Callable[[], bool], busy: Callable[[], str | None] | None) -> None:
    """Return when nothing is left in the queues of *pumps*, and *busy* says nothing any more.

    Args:
        idle: whether this worker runs nothing; only then the queues are counted.
        busy: what else is waited for, in words.

    Raises CallRefused: the store refused to count for REFUSED_S.
    """
    now = time.monotonic()
    say_at, refused_at = now + SAY_S, now + REFUSED_S
    while True:
        try:
            waited_for = _left(pumps, busy) if idle() else "jobs of this worker"
            refused_at = time.monotonic() + REFUSED_S
        except CallRefused as refused:
            if time.monotonic() >= refused_at:
                raise
            waited_for = f"the store, which refuses to count: {refused.reason}"
        if waited_for is None:
            return
        if time.monotonic() >= say_at:
            say_at = time.monotonic() + SAY_S
            _logger.info("burst: waiting for %s", waited_for)
        gevent.sleep(LOOK_S)


def _left(pumps: Sequence["Pump"], busy: Callable[[], str | None] | None) -> str | None:
    if busy is not None and (text := busy()) is not None:
        return text
    for pump in pumps:
        try:
            text = waits_for(pump.store.stats())
        except StoreUnavailable:
            text = "the store to answer"
        if text is not None:
            return f"queue {pump.queue.name}: {text}"
    return None
