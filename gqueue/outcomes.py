"""Waiting for outcomes: one listener a process and queue, for any number of waiters; under gevent, one a native thread.

It listens first, then each waiter notes in the store that it waits, and only then looks: so an outcome between the look
and the wait is not missed. The note is renewed by the listener, and each renewal tells what ended unheard. When the
listener ends, so does the subscription: a server keeps in memory what is sent to a subscriber that does not read.
"""

import math
import threading
import time
from collections.abc import Callable
from copy import copy

from gqueue.attendant import Attendant
from gqueue.core.model import MOVE_LIMIT
from gqueue.errors import CallRefused, StoreUnavailable
from gqueue.job import carried
from gqueue.store import patience
from gqueue.store.base import Store
from gqueue.store.owners import guard

RENEW_S = 1.5
"""A note lives 5 s and is to be renewed every 2 s at most; this is also how late a lost message is made up for."""

ENSURE_S = 5.0
"""How often a waiter looks after the listener, which may have been killed if it is a greenlet."""


class Waiter:
    """Somebody who waits: woken by *event*; *refusal*: why Redis will not tell."""

    __slots__ = ("event", "refusal")

    def __init__(self) -> None:
        self.event = threading.Event()
        self.refusal: CallRefused | None = None


class Outcomes:
    """Who in this process, or in this native thread, waits for which job of one queue.

    *rests*: greenlets here stand still between calls, so nothing may go on after the last waiter has left.
    """

    def __init__(self, queue_name: str, store: Callable[[], Store], *, rests: bool = False) -> None:
        self._queue_name, self._store, self._rests = queue_name, store, rests
        self._lock = guard()
        self._waiting: dict[str, set[Waiter]] = {}
        self._listening = threading.Event()
        self._renewed_at = 0.0
        self._listener = Attendant(
            f"gqueue outcomes {queue_name}", self._listen, self._needed, self._ended, self._refused, lingers=not rests
        )

    def wait(self, job_id: str, until: float | None) -> None:
        """Block until the job may be done, or until *until* (`time.monotonic()`).

        Raises StoreUnavailable, CallRefused.
        """
        waiter = Waiter()
        try:
            with self._lock:
                if not self._waiting:
                    self._renewed_at = time.monotonic()
                self._waiting.setdefault(job_id, set()).add(waiter)
            if self._attended(waiter, self._listening, until) and not carried(
                lambda: patience.until(until, lambda: self._store().await_done((job_id,)))
            ):
                self._attended(waiter, waiter.event, until)
        finally:
            with self._lock:
                others = self._waiting.get(job_id)
                if others is not None:
                    others.discard(waiter)
                    if not others:
                        del self._waiting[job_id]
                last = self._rests and not self._waiting
            if last:
                self._ended()
                self._listener.wait_for_end()

    def _attended(self, waiter: Waiter, event: threading.Event, until: float | None) -> bool:
        """Wait for *event* until *until*; return whether it is set. See to it that the listener is there.

        Raises CallRefused if the listener was refused, StoreUnavailable if there will be none any more.
        """
        while True:
            self._listener.ensure()
            left = math.inf if until is None else max(0.0, until - time.monotonic())
            came = event.wait(min(left, ENSURE_S))
            if waiter.refusal is not None:
                raise copy(waiter.refusal) from waiter.refusal  # of its own: others raise it on their threads
            if came:
                return True
            if self._listener.closed:
                raise StoreUnavailable(f"queue {self._queue_name!r} was closed, or the process forked", (), False)
            if left <= ENSURE_S:
                return False

    def close(self) -> None:
        """End the listener, and wake all."""
        self.end_threads()
        self._listening.set()
        self._wake(list(self._waiting))

    def end_threads(self) -> None:
        """Let the listener end after its turn; in a forked child too."""
        self._listener.close()

    def _needed(self) -> bool:
        return bool(self._waiting)

    def _ended(self) -> None:
        if self._listening.is_set():
            self._listening.clear()
            self._store().stop_waiting("done")

    def _refused(self, error: CallRefused) -> None:
        """Wake all with *error*, those too who wait until it is listened, for it is not."""
        listening = self._listening
        if not listening.is_set():
            self._listening = threading.Event()  # before the look at who waits: who comes later waits for this one
        with self._lock:
            waiters = [waiter for some in self._waiting.values() for waiter in some]
        for waiter in waiters:
            waiter.refusal = error
            waiter.event.set()
        if listening is not self._listening:
            listening.set()

    def _listen(self) -> None:
        if not self._listening.is_set():
            self._wake(self._store().wait_done(0))
            self._listening.set()
        self._wake(self._store().wait_done(max(0.0, self._renewed_at + RENEW_S - time.monotonic())))
        if time.monotonic() >= self._renewed_at + RENEW_S:
            self._renewed_at = time.monotonic()
            with self._lock:
                ids = list(self._waiting)
            for start in range(0, len(ids), MOVE_LIMIT):
                self._wake(self._store().await_done(ids[start : start + MOVE_LIMIT]))

    def _wake(self, job_ids: list[str] | tuple[str, ...]) -> None:
        for job_id in job_ids:
            with self._lock:
                waiters = tuple(self._waiting.get(job_id, ()))
            for waiter in waiters:
                waiter.event.set()
