"""The dead man's switch: for a task that holds the interpreter's lock, so that no Python runs at all.

Neither the watchdog nor a handler of a signal gets a turn then. A timer of C, faulthandler's, needs no lock: it is set
anew by the heartbeat's thread about once a second; if it is not, for longer than any job may take, it writes all stacks
and ends the process with 1. Decides how long that is (`patience_s`). A process has only one such timer: it is set in a
worker and nowhere else, and never survives one. A child forked while it is set would wait for its thread for ever, so
it is taken off around each fork.
"""

import faulthandler
import math
import time
from collections.abc import Callable, Iterable

from gevent import monkey

from gqueue.worker.slots import Slots

_allocate_lock = monkey.get_original("_thread", "allocate_lock")
_monotonic = time.monotonic  # a task may put another in its place
_arm: Callable[..., None] = faulthandler.dump_traceback_later
_disarm: Callable[[], None] = faulthandler.cancel_dump_traceback_later

AGAIN_S = 1.0
"""How often the timer is set anew: it takes 70 us."""

SPARE_S = 10.0
"""On top of everything: so long may a busy machine keep the heartbeat's thread from its turn."""

STRAY_S = 60.0
"""Limit of what is no job, where no task is known: the default one of a task."""

MOST_S = 365 * 86_400.0
"""The timer takes no time of any length."""


def patience_s(now: float, deadlines: Iterable[float], limits: Iterable[float], stuck_after_s: float) -> float:
    """Return for how long from *now*, in seconds, no Python may run before the process counts as stuck.

    Whichever job it is that holds the lock is not known then: it may be one that starts after this was decided.

    Args:
        deadlines: of the jobs that run, on the clock of *now*; infinite while a job is only being read.
        limits: of the tasks that may start at any moment, in seconds.
        stuck_after_s: how far beyond its limit a job may block the process, > 0.
    """
    left = [deadline - now for deadline in deadlines if deadline != math.inf]
    longest = max([*left, *limits], default=STRAY_S)
    return min(max(longest, 0.0) + stuck_after_s + SPARE_S, MOST_S)


class Deadman:
    """The timer of a worker. `look` is for the heartbeat's thread, all else for the others.

    *limits* gives the limits, in seconds, of the tasks that may start at any moment. A lock of the interpreter's own
    stands around each touch of the timer; a fork holds it from before it to after it.
    """

    def __init__(self, slots: Slots, limits: Callable[[], Iterable[float]], stuck_after_s: float) -> None:
        self._slots, self._limits, self._stuck_after_s = slots, limits, stuck_after_s
        self._next = -math.inf
        self._until = math.inf
        self._on = True
        self._touching = _allocate_lock()

    def look(self, now: float) -> None:
        """Set the timer anew, if it is time to; while the process forks, the next look does."""
        if now >= self._next and self._touching.acquire(False):
            try:
                self._set_anew(now)
            finally:
                self._touching.release()

    def allow(self, limit_s: float) -> None:
        """Let a job that starts now have *limit_s*, though its task has less: it may hold the lock from here on."""
        with self._touching:
            now = _monotonic()
            wanted = patience_s(now, (), (limit_s,), self._stuck_after_s)
            if now + wanted > self._until:
                self._set(now, wanted)

    def hold(self) -> None:
        """Take the timer off before a fork."""
        self._touching.acquire()
        self._take_off()

    def go_on(self) -> None:
        """Set it again after a fork, in the parent."""
        self._set_anew(_monotonic())
        self._touching.release()

    def end(self) -> None:
        """Take the timer off for good."""
        with self._touching:
            self._on = False
            self._take_off()

    def _set_anew(self, now: float) -> None:
        self._next = now + AGAIN_S
        jobs = (slot.job or slot.lost for slot in self._slots.all)
        deadlines = [job.deadline for job in jobs if job is not None]
        self._set(now, patience_s(now, deadlines, self._limits(), self._stuck_after_s))

    def _set(self, now: float, seconds: float) -> None:
        if self._on:
            _arm(seconds, exit=True, file=2)
            self._until = now + seconds

    def _take_off(self) -> None:
        if self._until != math.inf:  # else the timer, if there is one, is the application's
            self._until = math.inf
            _disarm()
