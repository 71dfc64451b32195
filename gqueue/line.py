"""Waiting for room: this process's producers that stand in line, and the two daemon threads that attend to them.

Admission decides in the store who gets in; here producers only sleep until it is worth asking again: a hint came, the
ticket lapsed, the first of this process is to look for itself, or the longest sleep is over. All of a process (under
gevent: of a native thread) share one blocked connection and one renewal. Nothing here may be needed for a ticket to
lapse: a dead process renews nothing.
"""

import atexit
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from copy import copy

from gqueue.attendant import Attendant
from gqueue.core.model import MOVE_LIMIT, Admission, Ticket
from gqueue.core.producer import first_in_line, tell_wait
from gqueue.errors import CallRefused, StoreUnavailable
from gqueue.store.base import Store
from gqueue.store.owners import guard

RENEW_S = 0.9
"""Tickets live 2 s: one renewal may be late."""

POLL_S = 2.0
"""The longest sleep without a hint; hints may be lost."""

EARLY_MAX = 1_000
"""Hints kept for producers that are about to lie down; the sleep's end makes up for one that was dropped."""

_logger = logging.getLogger("gqueue.producer")


class Waiter:
    """A producer in line; *refusal*: why it is no use to wait on."""

    __slots__ = ("event", "refusal", "reply", "since", "ticket")

    def __init__(self, ticket: Ticket, reply: Admission) -> None:
        self.ticket, self.reply = Ticket(ticket.name, reply.place), reply
        self.event = threading.Event()
        self.refusal: CallRefused | None = None
        self.since = time.monotonic()

    def stand(self, reply: Admission) -> None:
        """Take the place that *reply* gives."""
        self.ticket, self.reply = Ticket(self.ticket.name, reply.place), reply


class Line:
    """The producers of this process, or of this native thread, that wait for room in one queue.

    *rests*: greenlets here stand still between calls, so nothing may go on after the last producer has left.
    """

    def __init__(self, queue_name: str, store: Callable[[], Store], *, rests: bool = False) -> None:
        self._queue_name, self._store, self._rests = queue_name, store, rests
        self._producer = os.urandom(12).hex()
        self._pid = os.getpid()
        self._numbers = itertools.count(1)
        self._lock = guard()
        self._waiters: dict[str, Waiter] = {}
        self._early: dict[str, bool] = {}
        self._leaving: list[Ticket] = []
        self._stir = threading.Event()
        self._renewed_at = 0.0
        self._told = self._away = self._at_exit = False
        self._renewer = Attendant(
            f"gqueue tickets {queue_name}", self._attend, self._needed, self._ended, self._refused, lingers=not rests
        )
        self._listener = Attendant(
            f"gqueue room {queue_name}", self._listen, self._needed, refused=self._refused, lingers=not rests
        )

    @property
    def anyone(self) -> bool:
        """Return whether anyone of this process waits."""
        return bool(self._waiters)

    def new_ticket(self) -> Ticket:
        """Return a ticket for a producer that arrives."""
        return Ticket(f"{self._producer}.{next(self._numbers):x}")

    def join(self, waiter: Waiter) -> None:
        """Keep the ticket of *waiter* alive and look out for its hints, until it parts.

        Threads may be started, so an exception may be thrown into this: `part` is to follow in any case.
        """
        with self._lock:
            if not self._waiters:
                self._told, self._renewed_at = False, time.monotonic()
            self._waiters[waiter.ticket.name] = waiter
            if self._early.pop(waiter.ticket.name, None):
                waiter.event.set()
        self._ensure()
        if not self._at_exit:
            self._at_exit = True
            atexit.register(self._leave_at_exit)

    def sleep(self, waiter: Waiter, until: float | None) -> bool:
        """Sleep until *waiter* should ask again; return False if nothing came until *until* (`time.monotonic()`).

        Raises CallRefused if tickets may not be renewed, or hints not be read.
        """
        seconds = POLL_S if until is None else min(POLL_S, until - time.monotonic())
        if waiter.event.wait(max(0.0, seconds)):
            waiter.event.clear()
            if waiter.refusal is not None:
                raise copy(waiter.refusal) from waiter.refusal  # of its own: others raise it on their threads
            return True
        self._ensure()
        return until is None or time.monotonic() < until

    def part(self, waiter: Waiter) -> None:
        """Forget *waiter*: it was admitted, or gives up; its ticket is renewed no more."""
        with self._lock:
            self._waiters.pop(waiter.ticket.name, None)
            last = self._rests and not self._waiters
        if last:
            self._stir.set()
            self._store().stop_waiting("room")
            self._renewer.wait_for_end()
            self._listener.wait_for_end()

    def leave_soon(self, ticket: Ticket) -> None:
        """Take *ticket* out of the line in the background: for a producer that may not wait for an answer now."""
        self._leaving.append(ticket)
        self._stir.set()
        try:
            self._renewer.ensure()
        except RuntimeError:
            pass  # no thread can be started, and the ticket lapses by itself

    def close(self) -> None:
        """End the threads, without delay if nothing is blocked."""
        self.end_threads()
        self._ended()
        self._stir.set()

    def end_threads(self) -> None:
        """Let the threads end after their turns; in a forked child too."""
        self._renewer.close()
        self._listener.close()

    def _ensure(self) -> None:
        self._renewer.ensure()
        self._listener.ensure()

    def _needed(self) -> bool:
        return bool(self._waiters or self._leaving)

    def _ended(self) -> None:
        self._at_exit = False
        atexit.unregister(self._leave_at_exit)

    def _refused(self, error: CallRefused) -> None:
        with self._lock:
            waiters = list(self._waiters.values())
        for waiter in waiters:
            waiter.refusal = error
            waiter.event.set()

    def _attend(self) -> None:
        """Take out of the line who leaves; every 0.9 s renew the tickets and wake who should ask again by itself."""
        self._stir.wait(max(0.0, self._renewed_at + RENEW_S - time.monotonic()))
        self._stir.clear()
        if self._renewer.closed:
            return
        store = self._store()
        try:
            while self._leaving:
                store.leave_line(self._leaving.pop())
            if time.monotonic() < self._renewed_at + RENEW_S:
                return
            self._renewed_at = time.monotonic()
            with self._lock:
                waiters = list(self._waiters.values())
            tickets = [waiter.ticket for waiter in waiters]
            for start in range(0, len(tickets), MOVE_LIMIT):
                for name in store.renew_tickets(tickets[start : start + MOVE_LIMIT]):
                    self._wake(name)
        except StoreUnavailable:
            self._away = True
            raise
        self._away = False
        # Room that a dead producer's ticket held back is announced by nobody: the first of each process looks.
        first = first_in_line((waiter.ticket.place, waiter) for waiter in waiters if waiter.ticket.place)
        if first is not None:
            first.event.set()
        self._tell(waiters)

    def _listen(self) -> None:
        """Wake whom hints of room name."""
        for name in dict.fromkeys(self._store().wait_room(self._producer, POLL_S)):
            if not self._wake(name):
                with self._lock:
                    self._early[name] = True
                    while len(self._early) > EARLY_MAX:
                        del self._early[next(iter(self._early))]

    def _wake(self, name: str) -> bool:
        with self._lock:
            waiter = self._waiters.get(name)
        if waiter is None:
            return False
        waiter.event.set()
        return True

    def _tell(self, waiters: list[Waiter]) -> None:
        now = time.monotonic()
        if self._told or not tell_wait([int((now - waiter.since) * 1000) for waiter in waiters]):
            return
        self._told = True
        oldest = min(waiters, key=lambda waiter: waiter.since)
        _logger.warning(
            "queue %s is full (%d jobs wait, capacity %d): producers that wait for room here: %d, the first for %.1f s",
            self._queue_name,
            oldest.reply.depth,
            oldest.reply.capacity,
            len(waiters),
            now - oldest.since,
        )

    def _leave_at_exit(self) -> None:
        """Leave the line when the interpreter ends, unless Redis is away: then the tickets lapse by themselves."""
        if self._away or os.getpid() != self._pid:
            return
        try:
            for ticket in [*self._leaving, *(waiter.ticket for waiter in self._waiters.values())]:
                self._store().leave_line(ticket)
        except Exception:  # an interpreter that ends has nobody to tell; the tickets lapse in 2 s
            _logger.debug("queue %s: the line was not left", self._queue_name, exc_info=True)
