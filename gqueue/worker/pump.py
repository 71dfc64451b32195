"""A queue's pump: the greenlet that makes its calls, and the one that listens for hints.

Decides what goes into a call, and what is done until it is answered. When to call and for how much is told by
`core.dispatch`, through the worker. A numbered call is sent until it is answered, whatever else happens: what a lost
reply leaves behind is cured by sending the very same one again.
"""

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import gevent
from gevent import Greenlet, get_hub

from gqueue import failpoints
from gqueue.core import dispatch
from gqueue.core.dispatch import Adopt, Claim, Command, Leave, Register, Settle, Step
from gqueue.core.model import MOVE_BYTES, MOVE_LIMIT, ClaimedJob, Left, Settlement, WorkerCall
from gqueue.core.retry import Outcome
from gqueue.core.sharing import Doing
from gqueue.errors import LeaseLost, StaleCall
from gqueue.worker import lines
from gqueue.worker.persistence import Persistence
from gqueue.worker.progress import Progress
from gqueue.worker.running import RunningJob, Tasks

if TYPE_CHECKING:
    from gqueue.queue import Queue
    from gqueue.worker.slots import Slots

AGAIN_S = 1.0
"""A lease that is lost so soon has not lapsed: Redis evicts its keys, or somebody deletes them. Then wait as long."""

T = TypeVar("T")

_logger = logging.getLogger("gqueue.worker")


class Owner(Protocol):
    """The worker process, as its pumps see it."""

    state: dispatch.WorkerState
    slots: "Slots"
    stopped: bool

    def tell(self, step: Step) -> None:
        """Take the state, carry the commands out."""
        ...

    def gather_soon(self) -> None:
        """Have the hub report what ended to the dispatch."""
        ...

    def serves(self, url: str, queue_name: str) -> bool:
        """Return whether this process serves that queue."""
        ...

    def allow(self, limit_s: float) -> None:
        """Note that a job starts that may take *limit_s*, which its task does not say."""
        ...

    def give_up(self, error: BaseException) -> None:
        """End the process: gqueue itself is at fault."""
        ...


class Pump:
    """One queue's part of a worker process.

    Attributes:
        done: ids of jobs that succeeded and leave no result; with `settlements`, what the next call settles.
        read: gives the record of a claimed job, by its id and what is stored.
        held: how many jobs the store holds for this worker, as far as is known here.
        lost: the heartbeat found that the lease of `worker_id` is over.
        leaving: the worker is being taken out of the queue; *left*: it is out.
    """

    def __init__(self, owner: Owner, number: int, queue: "Queue", *, alone: bool, log_jobs: bool) -> None:
        self.owner, self.number, self.queue, self._alone = owner, number, queue, alone
        self.store = queue.open_store()
        self.tasks = Tasks(queue.tasks, queue.settings.rules.result_ttl_ms, owner.allow)
        self.max_payload_bytes = queue.settings.max_payload_bytes
        self.read = queue.records.read
        self.worker_id = ""
        self.done: list[str] = []
        self.settlements: list[Settlement] = []
        self.held = 0
        self.lost = self.leaving = self.left = False
        self.tells = False
        self.progress = Progress(queue.name, self.store, owner.slots.runs)
        self._log_jobs = log_jobs
        self._call = 0
        self._registered_at = 0.0
        self._ended = self._outcomes = 0
        self._noticed = False
        self._calling = self._paused = False
        self._persist = Persistence(queue.name, self._gone)
        hub = get_hub()
        self._loop, self._park = hub.loop, hub.switch
        self._command: Command | None = None
        self._parked = self._listens = self._over = False
        self._wait_s: float | None = None
        self._caller = Greenlet(self._guarded, self._make_calls)
        self._listener = Greenlet(self._guarded, self._listen)
        self._alarm: object = None
        rules = queue.settings.failpoints
        self._at_settle, self._at_settled = failpoints.at("settle", rules), failpoints.at("settled", rules)
        self._at_claimed = failpoints.at("claimed", rules)
        self._at_registered, self._at_leave = failpoints.at("registered", rules), failpoints.at("leave", rules)

    # What the worker and the slots ask.

    def open(self) -> None:
        """Register for the first time; raise StoreUnavailable, StoreTooOld."""
        self.worker_id = new_worker_id()
        self.store.register(self.worker_id)
        self._registered_at = time.monotonic()
        self._at_registered()

    def start(self) -> None:
        """Start the greenlets."""
        self._caller.start()
        self._listener.start()

    def obey(self, command: Command) -> None:
        """Have the caller carry *command* out next; it has nothing to do now."""
        assert self._command is None
        self._command = command
        if self._parked:
            self._parked = False
            self._loop.run_callback(self._caller.switch)

    def listen(self, ms: int) -> None:
        """Have the listener wait for a hint."""
        self._wait_s = ms / 1000
        if self._listens:
            self._listens = False
            self._loop.run_callback(self._listener.switch)

    def set_alarm(self, ms: int) -> None:
        """Report to the dispatch in *ms*."""
        if isinstance(self._alarm, Greenlet):
            self._alarm.kill(block=False)
        self._alarm = gevent.spawn_later(ms / 1000, self._guarded, self._ring)

    def job_ended(self, outcomes: int) -> None:
        """Count a job that ended, with an outcome (1) or without (0)."""
        self._ended += 1
        self._outcomes += outcomes
        if not self._noticed and not (self._calling and self._alone):
            self._noticed = True
            self.owner.gather_soon()

    def forget_waiting(self) -> None:
        """Let go of the jobs that have no slot yet: they are given back, or are lost."""
        self._ended += self.owner.slots.drop_waiting(self)
        self.owner.gather_soon()

    def report_ended(self) -> None:
        """Tell the dispatch of the jobs that ended since the last time."""
        self._noticed = False
        if self._ended:
            ended, outcomes = self._ended, self._outcomes
            self._ended = self._outcomes = 0
            if self.lost:
                outcomes = 0
            self.owner.tell(dispatch.finished(self.owner.state, self.number, ended, outcomes))

    def slot_lost(self, settlement: Settlement | None) -> None:
        """Settle a stuck job, whose slot was written off; None: there is nothing to settle."""
        if settlement is not None and not self.lost:
            self.settlements.append(settlement)
        outcomes = int(settlement is not None and not self.lost)
        self.owner.tell(dispatch.slot_lost(self.owner.state, self.number, outcomes))

    def tell(self, job: RunningJob, outcome: Outcome | None, settlement: Settlement | None, shown: str) -> None:
        """Log the line of a job that ended."""
        lines.job_ended(job, outcome, settlement, shown, self._log_jobs)

    def serves(self, url: str, queue_name: str) -> bool:
        """Return whether this process serves that queue."""
        return self.owner.serves(url, queue_name)

    def end(self) -> None:
        """End the greenlets and drop the connections."""
        self._over = True
        self.progress.end()
        for greenlet in (self._caller, self._listener, self._alarm):
            if isinstance(greenlet, Greenlet) and greenlet is not gevent.getcurrent():
                greenlet.kill(block=False)
        self.store.close()

    # The caller.

    def _make_calls(self) -> None:
        while True:
            if self._command is None:
                self._parked = True
                self._park()
            command, self._command = self._command, None
            match command:
                case Claim(_, limit):
                    self._settle_and_claim(limit)
                case Settle():
                    self._settle_and_claim(0)
                case Adopt():
                    self._adopt()
                case Register():
                    self._register()
                case Leave():
                    self._leave()
                case None:  # a stray switch
                    continue
                case _:
                    raise TypeError(f"a pump cannot carry out {command!r}")

    def _settle_and_claim(self, limit: int) -> None:
        call: WorkerCall | None = self._gather(limit)
        while call is not None:
            call = self._carry(call)

    def _gather(self, limit: int) -> WorkerCall:
        """Return what the next call brings."""
        self.tells = lines.wanted(self._log_jobs)
        if self.done or self.settlements:
            self._at_settle()
        done, settlements = self._take()
        return WorkerCall(done, settlements, min(limit, MOVE_LIMIT - len(done) - len(settlements)))

    def _carry(self, call: WorkerCall) -> WorkerCall | None:
        """Make *call*; return the one that was sent behind it."""
        settled, number = len(call.done) + len(call.settlements), self._call + 1
        store, worker_id, calls = self.store, self.worker_id, [call]

        def meanwhile() -> WorkerCall | None:
            # The jobs that were handed over run before the answer is looked for: it is there by then, and needs no
            # watcher. What of them has ended need not wait for it.
            gevent.sleep()
            if len(calls) > 1 or self.lost:  # sent again, this call goes alone
                return None
            try:
                calls.extend(self._gather_behind(settled))
            except Exception as fault:  # gqueue's own, not the store's: the same call would meet it again
                raise RuntimeError("the call behind the one under way could not be made") from fault
            return calls[1] if len(calls) > 1 else None

        self._calling = True
        reply = self._answer(lambda: store.settle_and_claim(worker_id, number, *call, meanwhile=meanwhile), calls)
        behind = calls[1] if len(calls) > 1 else None
        if reply is not None and self.lost and behind is not None:  # it is on its way, and may yet be recorded
            self._answer(partial(store.settle_and_claim, worker_id, number + 1, *behind), [behind])
        self._calling = False
        self.report_ended()
        if reply is None or self.lost:
            self._refused()
            return None
        self._call = number
        if settled:
            self._at_settled()
        if reply.jobs:
            self._at_claimed()
        self.held += len(reply.jobs) - settled
        owner = self.owner
        if reply.jobs and not owner.stopped:
            owner.slots.hand_over(self, reply.jobs)
        owner.tell(
            dispatch.answered(
                owner.state,
                self.number,
                settled=settled,
                claimed=len(reply.jobs),
                left=reply.left,
                due_in_ms=reply.due_in_ms,
            )
        )
        # Last, for a log's handler may let others run: a lease that is lost meanwhile would be told of what it settled.
        if reply.skipped:
            lines.not_recorded(self.queue.name, reply.skipped)
        if (reply.left is Left.PAUSED) is not self._paused:
            self._say_paused()
        return behind

    def _gather_behind(self, settling: int) -> list[WorkerCall]:
        """Return the call that is to be sent right behind the one under way, which settles so many; if any."""
        self.report_ended()
        self.owner.tell(dispatch.call_sent(self.owner.state, self.number, settling=settling))
        command, self._command = self._command, None
        return [self._gather(command.limit)] if isinstance(command, Claim) else []

    def _take(self) -> tuple[list[str], list[Settlement]]:
        """Return what the next call settles: at most 1,000 outcomes, of about 4 MiB."""
        done, settlements = self.done, self.settlements
        count = size = 0
        for settlement in settlements[:MOVE_LIMIT]:
            size += len(settlement.outcome) + len(settlement.report)
            if count and size > MOVE_BYTES:
                break
            count += 1
        if len(done) + count <= MOVE_LIMIT and count == len(settlements):
            self.done, self.settlements = [], []
            return done, settlements
        settlements, self.settlements = settlements[:count], settlements[count:]
        done, self.done = done[: MOVE_LIMIT - count], done[MOVE_LIMIT - count :]
        return done, settlements

    def _answer(self, call: Callable[[], T], brings: Sequence[WorkerCall] = ()) -> T | None:
        """Make *call* until it is answered; return None if it is refused, and say what then is not recorded."""
        try:
            return self._persist(call)
        except (LeaseLost, StaleCall) as refused:
            _logger.warning("queue %s: %s", self.queue.name, refused)
            for each in brings:
                self._say_dropped(each.done, each.settlements)
            return None

    def _with_lease(self, call: Callable[[], T], brings: Sequence[WorkerCall] = ()) -> T | None:
        """Make *call* until it is answered; return None if the lease is lost."""
        answer = self._answer(call, brings)
        # The lease may have been lost after the call was applied: what it claimed is taken back by others.
        return None if self.lost else answer

    def _gone(self) -> None:
        """Let the other queues have the slots kept for a call that is not answered."""
        if self.owner.state.queues[self.number].doing is Doing.CALLING:
            self.report_ended()
            self._noticed = self._calling = False  # what becomes free from now on is for them too
            self.owner.tell(dispatch.call_failed(self.owner.state, self.number))

    def _refused(self) -> None:
        self.lose(self.worker_id)
        self._drop_outcomes()
        self.owner.tell(dispatch.call_refused(self.owner.state, self.number))

    def lose(self, worker_id: str) -> None:
        """Take it that the lease of *worker_id* is over: its jobs run elsewhere, and are not ours to settle."""
        if worker_id == self.worker_id:
            self.lost = True
            self._drop_outcomes()

    def _drop_outcomes(self) -> None:
        if self.done or self.settlements:
            gevent.spawn(self._say_dropped, self.done, self.settlements)  # the hub may be here, and may not wait
        self.done, self.settlements = [], []
        self._outcomes = 0

    def _register(self) -> None:
        if time.monotonic() < self._registered_at + AGAIN_S:
            gevent.sleep(AGAIN_S)
        worker_id = new_worker_id()
        self._persist(lambda: self.store.register(worker_id))
        self._registered_at = time.monotonic()
        self._at_registered()
        self._drop_outcomes()
        self.report_ended()
        self.worker_id, self._call, self.held, self.lost = worker_id, 0, 0, False
        _logger.warning("queue %s: registered anew as %s", self.queue.name, worker_id)
        self.owner.tell(dispatch.registered(self.owner.state, self.number))

    def _adopt(self) -> None:
        found = self._with_lease(lambda: self.store.held(self.worker_id, self._call))
        self.report_ended()
        if found is None:
            return self._refused()
        strange = self._strange(found)
        self.held += len(strange)
        if strange:
            _logger.warning("queue %s: took %d jobs over whose claim got lost", self.queue.name, len(strange))
            self.owner.slots.hand_over(self, strange)
        return self.owner.tell(dispatch.adopted(self.owner.state, self.number, len(strange)))

    def _strange(self, found: Sequence[ClaimedJob]) -> list[ClaimedJob]:
        """Return those of *found* that nobody here knows of."""
        slots = self.owner.slots
        known = {job.job_id for job in slots.running() if job.home is self and not job.lost}
        known.update(slots.waiting(self), self.done, (settlement.job_id for settlement in self.settlements))
        return [job for job in found if job.id not in known]

    def _leave(self) -> None:
        left = 1
        self.leaving = True
        self._settle_last()
        self._at_leave()
        while left:
            answer = self._with_lease(lambda: self.store.leave(self.worker_id, MOVE_LIMIT))
            left = answer or 0
        self.left = True
        self.report_ended()
        self._drop_outcomes()
        self.owner.tell(dispatch.left(self.owner.state, self.number))

    def _settle_last(self) -> None:
        """Settle what ended since the last call: with the rest it would be given back, and done again."""
        while True:
            call = WorkerCall(*self._take(), 0)
            settled = len(call.done) + len(call.settlements)
            if not settled:
                return
            settle = partial(self.store.settle_and_claim, self.worker_id, self._call + 1, *call)
            reply = self._with_lease(settle, [call])
            if reply is None:
                return
            self._call += 1
            self.held -= settled
            if reply.skipped:
                lines.not_recorded(self.queue.name, reply.skipped)

    def _say_paused(self) -> None:
        self._paused = not self._paused
        if self._paused:
            _logger.warning("queue %s is paused: nothing is claimed until `gqueue resume`", self.queue.name)
        else:
            _logger.info("queue %s is resumed", self.queue.name)

    def _say_dropped(self, done: Sequence[str], settlements: Sequence[Settlement]) -> None:
        if job_ids := [*done, *(settlement.job_id for settlement in settlements)]:
            lines.not_recorded(self.queue.name, job_ids)

    # The listener.

    def _listen(self) -> None:
        while True:
            while self._wait_s is None:
                self._listens = True
                self._park()
            wait_s, self._wait_s = self._wait_s, None
            hinted = self._hear(wait_s)
            owner = self.owner
            event = dispatch.hint_taken if hinted else dispatch.wait_ended
            owner.tell(event(owner.state, self.number))

    def _hear(self, wait_s: float) -> bool:
        started = time.monotonic()
        try:
            return self.store.wait_hint(wait_s)
        except Exception as error:  # noqa: BLE001 - the calls say so too, and go on
            _logger.debug("queue %s: listening for hints: %s", self.queue.name, error)
            gevent.sleep(max(0.0, wait_s - (time.monotonic() - started)))
            return False

    def _ring(self) -> None:
        self._alarm = None
        self.owner.tell(dispatch.alarm_rang(self.owner.state, self.number))

    def _guarded(self, loop: Callable[[], None]) -> None:
        try:
            loop()
        except gevent.GreenletExit as killed:
            if not self._over:  # a stranger's kill: heartbeats would go on, and hold the jobs for ever
                self.owner.give_up(killed)
        except BaseException as error:  # noqa: BLE001 - without its pump the worker would only look alive
            self.owner.give_up(error)


def new_worker_id() -> str:
    """Return a worker's id: where it runs, for people; and 48 random bits, since each registration has its own."""
    host = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in socket.gethostname())[:60]
    return f"{host}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
