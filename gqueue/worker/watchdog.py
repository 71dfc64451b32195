"""The watchdog: for jobs that hog the hub, so that no timer of its loop can end them.

Decides from the heartbeat's thread when to send the main thread a signal; the handler, which runs between two
bytecodes of whatever greenlet is hogging, decides whether to raise there. Raising in the wrong place would end an
innocent job, so it raises only if the hub has not turned since the job was found overdue, and the greenlet that runs is
the slot of a job whose own call is under way and whose time is up.
"""

import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from gevent import getcurrent

from gqueue.config import name_shown
from gqueue.worker import stacks
from gqueue.worker.child import EXIT_STUCK
from gqueue.worker.running import RunningJob
from gqueue.worker.slots import HIT_AGAIN_S, Slot, Slots

_monotonic = time.monotonic  # a task may put another in its place

SIGNAL = signal.SIGURG
"""Ignored by default, so one that comes too early or too late hurts nobody; hardly in use (Go preempts with it)."""

TICK_S = 0.05
"""How often the slots are looked at: 1,000 of them take 50 us."""

HASTE_S = 0.02
"""How long the hub may take to turn, once a job is found overdue, before the signal is sent."""

STRAY_S = 60.0
"""Limit of what hogs the hub and is no job: the default one of a task. One whose slot was written off has none left."""


class Probe:
    """A callback left with the hub: when it is called, the hub has turned. Costs nothing but when a job is overdue."""

    __slots__ = ("posted", "turned")

    def __init__(self, posted: float) -> None:
        self.posted, self.turned = posted, False

    def turn(self) -> None:
        """Note that the hub has turned."""
        self.turned = True


class Watchdog:
    """Made on the main thread; `look` is called by the heartbeat's thread."""

    def __init__(self, slots: Slots, stuck_after_s: float, main_ident: int) -> None:
        self._slots, self._stuck_after_s, self._main = slots, stuck_after_s, main_ident
        self._probe: Probe | None = None
        self._stuck_since: float | None = None
        self._allowed_at = 0.0
        self.post: Callable[[Callable[[], None]], Any] = slots.loop.run_callback_threadsafe
        self.kill: Callable[[int, int], None] = signal.pthread_kill
        self.die: Callable[[str], None] = _die

    def probe(self) -> None:
        """Leave a probe, if none is under way: so that a hub hogged by no job is noticed too. Called at each beat."""
        if self._probe is None or self._probe.turned:
            self._leave_probe(_monotonic())

    def look(self, now: float) -> float:
        """Look for jobs that are overdue, and do what is due; return after how many seconds to look again."""
        probe = self._probe
        waiting = probe is not None and not probe.turned
        overdue = [job for job in self._armed() if job.due <= now]
        if not waiting:
            self._stuck_since = None
            if overdue:
                self._leave_probe(now)
                return HASTE_S
            return TICK_S
        assert probe is not None
        stray = not overdue and now - probe.posted < STRAY_S
        if stray and not any(slot.lost for slot in self._slots.all):
            return TICK_S
        hog = self._hog()
        job = _job_of(hog) if hog is not None and hog.armed else None
        if stray and (hog is None or hog.lost is None):
            return TICK_S
        if job is not None and now < job.due and job.hits == 0:
            self._stuck_since, self._allowed_at = None, now  # it hogs the hub within its limit: the others have to wait
            return TICK_S
        if self._stuck_since is None:
            self._stuck_since = min((now, *(each.deadline for each in overdue)))
        if job is not None and job.due <= now and now - probe.posted >= HASTE_S:
            self.kill(self._main, SIGNAL)
        if now - max(self._stuck_since, probe.posted, self._allowed_at) >= self._stuck_after_s:
            self.die(f"the hub has not turned for {now - probe.posted:.0f} s: {self._tell(job)}")
        return HASTE_S

    def handle(self, _signal: int, _frame: FrameType | None) -> None:
        """Raise in the greenlet that runs, if it is a slot whose job is to end."""
        probe = self._probe
        if probe is None or probe.turned:
            return
        slot = self._slots.by_greenlet.get(getcurrent())
        job = _job_of(slot) if slot is not None and slot.armed else None
        now = _monotonic()
        if job is not None and job.due <= now:
            raise job.blow(now, HIT_AGAIN_S)

    def _leave_probe(self, now: float) -> None:
        self._probe = probe = Probe(now)
        self.post(probe.turn)

    def _armed(self) -> Iterator[RunningJob]:
        for slot in self._slots.all:
            job = slot.job
            if job is not None and slot.armed:
                yield job

    def _hog(self) -> Slot | None:
        """Return the slot that the main thread is in; None if it is in none, or moved while it was looked for."""
        frame = sys._current_frames().get(self._main)
        frames = {slot.frame: slot for slot in self._slots.all if _job_of(slot) is not None}
        while frame is not None:
            if frame in frames:
                return frames[frame]
            frame = frame.f_back
        return None

    def _tell(self, job: RunningJob | None) -> str:
        if job is None:
            return "what hogs it is no job of a slot"
        return f"job {name_shown(job.job_id)} ({job.task_name}) is {_monotonic() - job.deadline:.1f} s over its limit"


def _job_of(slot: Slot) -> RunningJob | None:
    """Return the job whose task runs in the slot's greenlet, be it one for which the slot was written off."""
    return slot.job or slot.lost


def _die(why: str) -> None:
    """Write why and all stacks, and end the process at once: its lease lapses, and the jobs go on elsewhere."""
    stacks.write(f"gqueue: {why}; ending the process with exit code {EXIT_STUCK}. All stacks:\n")
    faulthandler.dump_traceback(file=2, all_threads=True)
    os._exit(EXIT_STUCK)
