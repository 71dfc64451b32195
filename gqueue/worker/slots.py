"""The slots: persistent greenlets that run jobs, one at a time each.

Decides which slot takes which job, and makes of each attempt an outcome. Nothing a task does gets past a slot: what it
raises is a value afterwards. The path of a job that succeeds is measured in tenths of microseconds: change it with
`benchmarks/` at hand. All but `Slot.work` runs on the hub's thread between two switches, so nothing here needs a lock.
"""

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Container, Iterable
from contextvars import Context
from random import random
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from gevent import Greenlet, get_hub
from gevent.pool import Pool

from gqueue.core.dispatch import Why
from gqueue.core.lifecycle import Move
from gqueue.core.model import ClaimedJob, Settlement
from gqueue.core.retry import Outcome, Succeeded, settle, settle_success
from gqueue.job import current
from gqueue.store import codec
from gqueue.worker import attempt, lines
from gqueue.worker.attempt import MISSING, SCALARS
from gqueue.worker.running import Interrupted, RunningJob

if TYPE_CHECKING:
    from gqueue.worker.pump import Pump

HIT_AGAIN_S = 1.0
"""A task that swallows its time-out gets so long to clean up before it is hit again."""

STUCK_HITS = 2
"""A task that swallowed so many, and is to be hit again, is stuck: its slot is written off."""

TURN_S = 0.005
"""Jobs handed over in one go before the hub gets its turn: as long as gevent itself lets callbacks run."""

SUCCEED = Move.SUCCEED.value

Item = tuple["Pump", ClaimedJob]

_set = current.set
_monotonic = time.monotonic


class Retired(BaseException):
    """A task has ended whose slot was written off: so does the slot's greenlet."""


class Slot:
    """One greenlet. *armed* while code of the task's own runs, and only then may anything be raised in it.

    *lost* is the stuck job for which the slot was written off. No other ever runs here: *job* stays None.
    """

    __slots__ = ("_alarm", "_alarm_at", "_slots", "armed", "frame", "greenlet", "job", "lost", "number")

    def __init__(self, slots: "Slots", number: int) -> None:
        self._slots, self.number = slots, number
        self.job: RunningJob | None = None
        self.lost: RunningJob | None = None
        self.armed = False
        self._alarm: Any = None
        self._alarm_at = math.inf
        self.greenlet: Greenlet[..., None]
        self.frame: FrameType | None = None

    def run(self, item: Item) -> None:
        """Work for ever: first on *item*, then on what is handed over."""
        self.frame = sys._getframe()  # by which the watchdog knows who hogs the hub
        slots = self._slots
        while True:
            try:
                self.work(*item)
            except Retired:
                return
            except BaseException as stray:  # noqa: BLE001 - gevent.kill(block=False) of a stranger, after the job's end
                if self.lost is not None:
                    return
                self._survive(item[0], stray)
            if slots.closed:
                return
            item = slots.backlog.popleft() if slots.backlog else self._park()

    def work(self, pump: "Pump", claimed: ClaimedJob) -> None:
        """Run one job, and leave its outcome with the pump."""
        error: BaseException | None
        started = _monotonic()
        self.job = job = RunningJob(pump, claimed, self.number, started, pump.tasks.stranger)
        try:
            job.record = record = pump.read(claimed.id, claimed.record)
            job.known = known = pump.tasks[record.task].under(record)
        except codec.BadRecord as bad:
            return self._end(pump, job, attempt.unreadable(bad))
        except KeyError:
            return self._end(pump, job, attempt.unknown(job, pump.tasks.stranger))
        job.deadline = job.due = due = started + known.limit_s
        if due < self._alarm_at:
            self._set_alarm(due)
        value: object = MISSING
        error = None
        try:
            try:
                self.armed = True
                self.greenlet.gr_context = Context()  # what the last job left in its own may have destructors
                _set(job)
                value = known.function(*record.args, **record.kwargs)
            except BaseException as raised:  # noqa: BLE001 - whatever it is: sys.exit, GreenletExit, a foreign Timeout
                error = raised
            self.armed = False
        except BaseException as late:  # noqa: BLE001 - the watchdog's blow, after the task's end: that outcome stands
            self.armed = False
            if value is MISSING and error is None:
                error = late
            elif self.lost is None:
                job.fate = None
        if self._slots.forked:
            end_child(error)
        try:
            plain = error is None and type(value) in SCALARS
            if plain and job.fate is None and not known.result_ttl_ms and not job.lost:
                pump.done.append(claimed.id)  # the path of most jobs; all others are told apart by `outcome_of`
                self.job = None
                pump.job_ended(1)
                if pump.tells:
                    pump.tell(job, attempt.SUCCEEDED, None, lines.shorten(value))
            elif plain:
                outcome = attempt.outcome_of(job, value, None, pump.max_payload_bytes)
                self._end(pump, job, outcome, lines.shorten(value) if pump.tells else "")
            else:
                came = [value, error]
                value = error = None
                self._end(pump, job, *self._judge(pump, job, came))
        finally:
            error = None  # its traceback refers to this frame: a cycle that only the collector would end

    def _judge(self, pump: "Pump", job: RunningJob, came: list[Any]) -> tuple[Outcome | None, str]:
        """Return the outcome of what *came* of the task, a value and an error, and the value in words, for the log.

        Code of the task's own runs here: exceptions and values show themselves, and they may have destructors. So the
        task's limit holds for it too; *came* is emptied under it.
        """
        made: list[Any] = []
        try:
            try:
                self.armed = True
                value, error = came
                made.append(attempt.outcome_of(job, value, error, pump.max_payload_bytes))
                made.append(lines.shorten(value) if pump.tells and error is None else "")
                value = error = None
                job.fate = None
                came.clear()
            except BaseException:  # noqa: BLE001 - a blow; or a fault of gqueue's, and then the job has an outcome, too
                pass
            self.armed = False
        except BaseException:  # noqa: BLE001 - a blow that comes late
            self.armed = False
        if not made:
            made.append(attempt.outcome_untold(job))
        return made[0], made[1] if len(made) > 1 else ""

    def strike(self, job: RunningJob) -> None:
        """Raise in the task what it is due; called by the hub. The slot may have gone on to another job meanwhile."""
        if self.job is not job or not self.armed:
            return
        if job.hits >= STUCK_HITS and not job.given_back:
            self._write_off(job)
            return
        blow = job.blow(_monotonic(), HIT_AGAIN_S)
        self._set_alarm(job.due)
        self.greenlet.throw(blow)

    def _write_off(self, job: RunningJob) -> None:
        """Give the job up, and this slot with it: what still runs here may never end, and is never waited for."""
        self.job, self.lost = None, job
        outcome = attempt.outcome_stuck(job, attempt.stack_of(self.greenlet.gr_frame, self.frame, bare=job.sensitive))
        self._slots.wrote_off(job, outcome, None if outcome is None else _settlement(job, outcome))

    def _end(self, pump: "Pump", job: RunningJob, outcome: Outcome | None, shown: str = "") -> None:
        if self.lost is job:
            lines.stuck_ended(job)
            raise Retired
        settlement = None
        if job.lost:  # it may be since the outcome was taken
            outcome = None
        if outcome is attempt.SUCCEEDED:
            pump.done.append(job.job.id)
        elif outcome is not None:
            settlement = _settlement(job, outcome)
            pump.settlements.append(settlement)
        self.job = None
        pump.job_ended(0 if outcome is None else 1)
        if pump.tells or (settlement is not None and settlement.move != SUCCEED):
            pump.tell(job, outcome, settlement, shown)

    def _survive(self, pump: "Pump", stray: BaseException) -> None:
        """End the job that *stray* got out of; a slot that is lost would hold its job for ever, and never raises."""
        self.armed = False
        if self._slots.forked:
            end_child(stray)
        job = self.job
        if job is None:  # it came when the outcome was taken
            return
        try:
            self._end(pump, job, attempt.outcome_strange(stray))
        except BaseException as fault:  # noqa: BLE001 - nothing of the task's runs here any more
            if self.job is not None:  # a fault of gqueue's own: the lease lapses, and the job goes on elsewhere
                self.job = None
                pump.owner.give_up(fault)

    def _park(self) -> Item:
        slots = self._slots
        slots.idle.append(self)
        while True:
            try:
                item = slots.park()
            except BaseException:  # gevent.kill of a stranger; a slot lives as long as its worker
                if slots.closed:
                    raise
                continue
            if type(item) is tuple:
                return item

    def _set_alarm(self, at: float) -> None:
        """Have the hub look at this slot at *at*. Never moved to later: most jobs end long before their limit."""
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm.close()
        self._alarm_at = at
        self._alarm = self._slots.loop.timer(max(0.0, at - _monotonic()), ref=False)
        self._alarm.start(self._ring, update=True)

    def _ring(self) -> None:
        self._alarm_at = math.inf
        job = self.job
        if job is None:
            return
        if job.due - _monotonic() > 0.0005:
            self._set_alarm(job.due)
        else:
            self.strike(job)


class Slots:
    """All slots of a worker process: at most *limit* greenlets, grown on demand.

    Idle slots are a stack, to which jobs are handed directly: with a gevent queue, thousands of idle getters make
    each get O(n) (10,000 slots on 100 ms of I/O: 9,000 jobs/s with a SimpleQueue, 58,000 with the stack).
    """

    def __init__(self, limit: int, wrote_off: Callable[[RunningJob, Outcome | None, Settlement | None], None]) -> None:
        self.limit, self.wrote_off = limit, wrote_off
        hub = get_hub()
        self.loop: Any = hub.loop
        self.park: Callable[[], Any] = hub.switch
        self.all: list[Slot] = []
        self.idle: list[Slot] = []
        self.backlog: deque[Item] = deque()
        self.forked = self.closed = False
        self.by_greenlet: dict[Any, Slot] = {}
        self._pool = Pool(limit)
        self._coming: deque[Item] = deque()
        self._called = False

    def hand_over(self, pump: "Pump", jobs: Iterable[ClaimedJob]) -> None:
        """Have the hub start *jobs*, in order; what exceeds the slots waits for the next that is free."""
        self._coming.extend((pump, job) for job in jobs)
        self._call()

    def running(self) -> list[RunningJob]:
        """Return the jobs on slots."""
        return [slot.job for slot in self.all if slot.job is not None]

    def lost(self) -> list[RunningJob]:
        """Return the stuck jobs that still run on slots that were written off."""
        return [slot.lost for slot in self.all if slot.lost is not None and not slot.greenlet.dead]

    def runs(self, job: RunningJob) -> bool:
        """Return whether that claim is still on its slot."""
        return self.all[job.slot].job is job

    def waiting(self, pump: "Pump") -> list[str]:
        """Return the ids of the pump's jobs that have no slot yet."""
        return [job.id for home, job in (*self._coming, *self.backlog) if home is pump]

    def drop_waiting(self, pump: "Pump") -> int:
        """Forget the pump's jobs that have no slot yet; return how many there were."""
        dropped = len(self.waiting(pump))
        for items in (self._coming, self.backlog):
            kept = [item for item in items if item[0] is not pump]
            items.clear()
            items.extend(kept)
        return dropped

    def condemn(
        self, pump: "Pump", why: Why | None, job_ids: Container[str] | None = None, *, worker_id: str = ""
    ) -> None:
        """Mark the pump's running jobs (of *job_ids*; None: all) to be interrupted; `strike` does it.

        *worker_id*: only those that were claimed under it: the pump may have registered anew meanwhile.
        The heartbeat's thread may call it: it sets single attributes only. What is marked already keeps its mark, but
        a lost lease goes above all else.
        """
        now = _monotonic()
        for slot in self.all:
            job = slot.job
            if job is None or job.home is not pump or (job_ids is not None and job.job.id not in job_ids):
                continue
            if worker_id and job.worker_id != worker_id:
                continue
            if why is Why.LEASE_LOST:
                job.lost = True
            if job.condemned is None:
                job.condemned = Interrupted(why)
                if job.hits < STUCK_HITS:  # else it is written off when its time has come, not before
                    job.due = now

    def strike(self) -> None:
        """Have the hub raise in each condemned task what it is due."""
        now = _monotonic()
        for slot in self.all:
            job = slot.job
            if job is not None and job.condemned is not None and job.due <= now:
                self.loop.run_callback(slot.strike, job)

    def close(self) -> None:
        """End the idle greenlets, and let the others end with their jobs; their outcomes count no more."""
        self.closed = True
        for slot in self.idle:
            slot.greenlet.kill(block=False)

    def _call(self) -> None:
        if not self._called:
            self._called = True
            self.loop.run_callback(self._start)

    def _call_behind(self) -> None:
        # The callbacks before this one have a pump call for what ended: that call goes out first.
        self.loop.run_callback(self._start)

    def _start(self) -> None:
        # On the hub: a slot's `switch` comes back here as soon as its task waits for anything, or is done. No more than
        # half of the slots in a turn: of short jobs, one half then runs while the call for the other is under way.
        self._called = False
        coming, idle = self._coming, self.idle
        turn_ends, more = _monotonic() + TURN_S, (self.limit + 1) // 2
        while coming:
            if idle:
                idle.pop().greenlet.switch(coming.popleft())
            elif len(self.all) < self.limit:
                self._grow(coming.popleft())
            else:
                self.backlog.extend(coming)
                coming.clear()
            more -= 1
            if coming and (not more or _monotonic() > turn_ends):
                self._called = True
                self.loop.run_callback(self._call_behind)
                break

    def _grow(self, item: Item) -> None:
        slot = Slot(self, len(self.all))
        self.all.append(slot)
        greenlet: Greenlet[..., Any] = Greenlet(slot.run, item)
        slot.greenlet = greenlet
        self.by_greenlet[greenlet] = slot
        self._pool.add(greenlet)
        greenlet.switch()  # at once, as to an idle slot: a job that is to start later would be seen nowhere meanwhile


def _settlement(job: RunningJob, outcome: Outcome) -> Settlement:
    known = job.known
    if type(outcome) is Succeeded:
        return settle_success(job.job.id, outcome.value, known.result_ttl_ms)
    return settle(
        outcome,
        job_id=job.job.id,
        failures=job.job.failures,
        max_attempts=known.max_attempts,
        backoff=known.backoff,
        jitter=random(),
        result_ttl_ms=known.result_ttl_ms,
        encoder=codec,
    )


def end_child(error: BaseException | None) -> NoReturn:
    """End a process that a task forked, and that came back from the task: the job is the parent's."""
    code = 1
    try:
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is None:
            code = 0
        else:
            running = current.get()
            bare = isinstance(running, RunningJob) and running.sensitive
            trace = attempt.bare_trace_of(error) if bare else attempt.trace_of(error)
            os.write(2, trace.encode("utf-8", "backslashreplace"))
    finally:
        os._exit(code)
