"""The worker as a value: its phase, its slots, and what each of its queues is to be asked next.

Decides which queue's pump calls the store when, for how many jobs, when it listens for hints, when the process has to
make way for a fresh one, and when all ends.
Leaves jobs, outcomes and time to the shell: it counts jobs, and is asked once a batch, never once a job. Each function
below is an event, a fact that the shell reports; what comes back are commands, to be carried out in order. A change
must keep this: every command that is still to be done follows from the state (`_plan`), so no event can be missed.
"""

import math
from enum import Enum
from typing import NamedTuple

from attrs import frozen

from gqueue.core.model import MOVE_LIMIT, Left
from gqueue.core.sharing import Doing, QueueState, refund, shares
from gqueue.errors import GqueueError

POLL_MS = 2_000
"""Longest time without asking a queue that was empty: what a lost hint may cost."""


ENOUGH = 100
"""So many outcomes are worth a call of their own, however many slots there are."""


class Phase(Enum):
    """What the worker does: claims and runs; only runs; runs to the end and leaves; leaves at once."""

    RUNNING = "running"
    QUIET = "quiet"
    DRAINING = "draining"
    STOPPED = "stopped"


class Why(Enum):
    """Why jobs are interrupted."""

    LEASE_LOST = "lease lost"
    GRACE_OVER = "grace over"


class Cause(Enum):
    """Why a process makes way for a fresh one."""

    STUCK = "too many of its slots are lost to stuck jobs"
    MAX_JOBS = "it has run as many jobs as it is to"
    MAX_RSS = "it has more memory than it is to"


class MiscountedJobs(GqueueError):
    """The shell reported more jobs than there can be: a fault of gqueue."""


# Commands.


@frozen
class Claim:
    """Settle what is done, and claim at most *limit* (1 to 1,000) jobs."""

    queue: int
    limit: int


@frozen
class Settle:
    """Settle what is done, and claim nothing; the call passes a hint on if claimable jobs remain."""

    queue: int


@frozen
class Wait:
    """Listen for a hint, for at most *ms*; report `hint_taken` or `wait_ended`."""

    queue: int
    ms: int


@frozen
class Alarm:
    """Report `alarm_rang` in *ms*: a scheduled job is due then. Replaces the alarm before it."""

    queue: int
    ms: int


@frozen
class Adopt:
    """Take over the jobs that the store says are held and nobody here knows; report `adopted`."""

    queue: int


@frozen
class Interrupt:
    """Interrupt the queue's running jobs."""

    queue: int
    why: Why


@frozen
class Register:
    """Register under a new worker id, forget all outcomes of the old one; report `registered`."""

    queue: int


@frozen
class Leave:
    """Give back what is still held, deregister; report `left`."""

    queue: int


@frozen
class Replace:
    """Give what runs the grace, and have a fresh process take over: the worker drains, for *cause*."""

    cause: Cause


@frozen
class Exit:
    """End: every queue was left. *cause* is that of the Replace before, if there was one."""

    cause: Cause | None = None


Command = Claim | Settle | Wait | Alarm | Adopt | Interrupt | Register | Leave | Replace | Exit


# State.


class WorkerState(NamedTuple):
    """All queues of a worker process, and the slots they share.

    Args:
        limit: slots that are left.
        strict: the queues are asked in the order given, else by weights.
        lost: slots that were written off; *bearable*: with so many, the process is to be replaced.
        jobs_left: jobs that may still end before the process is to be replaced; None: any number.
        grown: the process has more memory than it is to.
        replaced: why the worker drains, if nobody asked it to.
    """

    limit: int
    queues: tuple[QueueState, ...]
    strict: bool = True
    phase: Phase = Phase.RUNNING
    ended: bool = False
    lost: int = 0
    bearable: int = 1
    jobs_left: int | None = None
    grown: bool = False
    replaced: Cause | None = None

    @property
    def running(self) -> int:
        """Return how many jobs hold a slot, or wait for one."""
        return sum(queue.running for queue in self.queues)


Step = tuple[WorkerState, tuple[Command, ...]]


# Events.


def start(
    limit: int, weights: tuple[int, ...], *, strict: bool, stuck_share: float = 0.25, max_jobs: int | None = None
) -> Step:
    """Begin with *limit* slots (>= 1) and a registered queue a weight (>= 1).

    Args:
        stuck_share: see `bearable_losses`.
        max_jobs: the process is replaced when so many jobs ended (>= 1; None: never for that).
    """
    if limit < 1 or not weights or min(weights) < 1:
        raise ValueError(f"limit {limit} and weights {weights} must be at least 1, of at least one queue")
    if max_jobs is not None and max_jobs < 1:
        raise ValueError(f"max_jobs {max_jobs} must be at least 1")
    worker = WorkerState(limit, (), strict, bearable=bearable_losses(limit, stuck_share), jobs_left=max_jobs)
    return _plan(worker, [QueueState(weight) for weight in weights], [])


def bearable_losses(slots: int, share: float) -> int:
    """Return with how many lost slots a process of *slots* (>= 1) is to be replaced: their *share*, rounded up.

    So it is at least one, and of one to four slots one is a quarter: a process that lost half of its slots or all of
    them does not go on, and neither does one that cannot lose less. Raises ValueError if not 0 < share <= 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share} is outside (0, 1]")
    # A quarter of 20 is 5: what a float has beyond that by rounding must not make it 6.
    return min(slots, max(1, math.ceil(slots * share - 1e-9)))


def spread(max_jobs: int, jitter: float) -> int:
    """Return *max_jobs* less up to a tenth, so that processes that began together do not all end together.

    *jitter* is a uniform draw from [0, 1), made by the caller; never below 1.
    """
    return max(1, max_jobs - int(max_jobs * 0.1 * jitter))


def finished(worker: WorkerState, queue: int, ended: int, outcomes: int) -> Step:
    """Free the slots of *ended* jobs; *outcomes* of them are to be settled, the others were interrupted.

    Raises MiscountedJobs if more ended than were running.
    """
    state = worker.queues[queue]
    if not 0 <= outcomes <= ended <= state.running:
        raise MiscountedJobs(f"{ended} jobs ended with {outcomes} outcomes, {state.running} were running")
    if worker.jobs_left is not None:
        worker = worker._replace(jobs_left=worker.jobs_left - ended)
    return _after(worker, queue, state._replace(running=state.running - ended, unsettled=state.unsettled + outcomes))


def slot_lost(worker: WorkerState, queue: int, outcomes: int) -> Step:
    """Write a slot off, with the stuck job on it; it was given an outcome (1), or there is nothing to settle (0).

    The slot comes back in no case. Raises MiscountedJobs if no job was running, or no slot is left.
    """
    state = worker.queues[queue]
    if not 0 <= outcomes <= 1 <= min(state.running, worker.limit):
        raise MiscountedJobs(f"lost one of {worker.limit} slots with {outcomes} outcomes, {state.running} were running")
    worker = worker._replace(limit=worker.limit - 1, lost=worker.lost + 1)
    return finished(worker, queue, 1, outcomes)


def memory_grown(worker: WorkerState) -> Step:
    """Take it that the process has more memory than it is to."""
    return _plan(worker._replace(grown=True), list(worker.queues), [])


def call_sent(worker: WorkerState, queue: int, *, settling: int) -> Step:
    """Take it that a call is on its way that settles *settling*, and what has ended since.

    Enough of that is settled, and its slots are filled, by a second call right behind the first: so the store has it at
    hand when it is done with that, and is at work while the worker is, too. Not while another queue may have something:
    which of them is next depends on the answer.
    """
    queues = list(worker.queues)
    state = queues[queue]
    free = worker.limit - sum(each.running + each.requested for each in queues)
    if (
        worker.phase is not Phase.RUNNING
        or state.doing is not Doing.CALLING
        or state.behind is not None
        or state.adopt
        or [number for number, each in enumerate(queues) if each.wants] != [queue]
        or state.unsettled - settling < min((worker.limit + 1) // 2, ENOUGH)
        or free < 1
    ):
        return worker, ()
    share = min(free, MOVE_LIMIT)
    queues[queue] = state._replace(behind=share, requested=state.requested + share, hinted=False, due=False)
    return worker._replace(queues=tuple(queues)), (Claim(queue, share),)


def answered(
    worker: WorkerState, queue: int, *, settled: int, claimed: int, left: Left, due_in_ms: int | None = None
) -> Step:
    """Take the answer to a Claim or Settle: *claimed* jobs go to slots. A call that was sent behind it is next.

    Raises MiscountedJobs if it claimed more than was asked, or settled more than there was.
    """
    state = worker.queues[queue]
    if state.doing is not Doing.CALLING or not 0 <= claimed <= state.asked or not 0 <= settled <= state.unsettled:
        raise MiscountedJobs(f"{settled} settled, {claimed} claimed in answer to {state}")
    empty, unused = left is not Left.MORE, max(0, state.charged - claimed)
    commands: list[Command] = []
    if empty and due_in_ms is not None and due_in_ms < POLL_MS and worker.phase is Phase.RUNNING:
        commands.append(Alarm(queue, max(1, due_in_ms)))
    state = state._replace(
        doing=Doing.NOTHING if state.behind is None else Doing.CALLING,
        running=state.running + claimed,
        unsettled=state.unsettled - settled,
        asked=state.behind or 0,
        behind=None,
        charged=0,
        requested=state.behind or 0,
        empty=empty,
        failing=False,
    )
    queues = list(worker.queues)
    queues[queue] = state
    if unused:
        refund(queues, queue, unused)
    return _plan(worker, queues, commands)


def call_failed(worker: WorkerState, queue: int) -> Step:
    """Let the other queues have the slots kept for this one: its store does not answer. The shell calls again."""
    return _after(worker, queue, worker.queues[queue]._replace(requested=0, failing=True))


def call_refused(worker: WorkerState, queue: int) -> Step:
    """Take it that a call of the pump was refused, since the lease is lost; nothing was recorded."""
    state = worker.queues[queue]
    idle = state._replace(doing=Doing.NOTHING, asked=0, behind=None, charged=0, requested=0, failing=False)
    return _lose(worker, queue, idle)


def lease_lost(worker: WorkerState, queue: int) -> Step:
    """Take it from the heartbeat that the lease is lost; a call in flight will be refused, and then reported."""
    state = worker.queues[queue]
    if state.lost or state.doing in (Doing.REGISTERING, Doing.LEAVING, Doing.LEFT):
        return worker, ()
    return _lose(worker, queue, state)


def registered(worker: WorkerState, queue: int) -> Step:
    """Go on with a new lease."""
    state = worker.queues[queue]._replace(doing=Doing.NOTHING, lost=False, empty=False, adopt=False, failing=False)
    return _after(worker, queue, state)


def hint_taken(worker: WorkerState, queue: int) -> Step:
    """Call next, whatever the phase and the free slots: that call passes the hint on."""
    return _after(worker, queue, worker.queues[queue]._replace(listening=False, hinted=True))


def wait_ended(worker: WorkerState, queue: int) -> Step:
    """Ask again: no hint came, or it was lost."""
    return _after(worker, queue, worker.queues[queue]._replace(listening=False, due=True))


def alarm_rang(worker: WorkerState, queue: int) -> Step:
    """Ask again: a scheduled job is due."""
    return _after(worker, queue, worker.queues[queue]._replace(due=True))


def held_more(worker: WorkerState, queue: int) -> Step:
    """Note that the store holds more jobs for this worker than are known here."""
    return _after(worker, queue, worker.queues[queue]._replace(adopt=True))


def adopted(worker: WorkerState, queue: int, count: int) -> Step:
    """Run *count* jobs more; they may exceed the slots, and then wait for one here."""
    state = worker.queues[queue]
    return _after(worker, queue, state._replace(doing=Doing.NOTHING, running=state.running + count, failing=False))


def quiet_asked(worker: WorkerState) -> Step:
    """Claim no more; what runs goes on."""
    return _enter(worker, Phase.QUIET, []) if worker.phase is Phase.RUNNING else (worker, ())


def drain_asked(worker: WorkerState) -> Step:
    """Claim no more, finish what runs, leave, exit."""
    may = worker.phase is Phase.RUNNING or worker.phase is Phase.QUIET
    return _enter(worker, Phase.DRAINING, []) if may else (worker, ())


def grace_ended(worker: WorkerState) -> Step:
    """Interrupt what still runs; what ends of it is settled or given back."""
    return (worker, tuple(_interrupts(worker))) if worker.phase is Phase.DRAINING else (worker, ())


def stop_asked(worker: WorkerState) -> Step:
    """Give everything back at once, and exit whatever the running jobs do."""
    return (worker, ()) if worker.phase is Phase.STOPPED else _enter(worker, Phase.STOPPED, _interrupts(worker))


def left(worker: WorkerState, queue: int) -> Step:
    """Take it that the queue was left: nothing of it is held any more."""
    return _after(worker, queue, worker.queues[queue]._replace(doing=Doing.LEFT, listening=False))


# What follows from the state.


def _after(worker: WorkerState, queue: int, state: QueueState, commands: list[Command] | None = None) -> Step:
    queues = list(worker.queues)
    queues[queue] = state
    return _plan(worker, queues, commands or [])


def _lose(worker: WorkerState, queue: int, state: QueueState) -> Step:
    commands: list[Command] = [Interrupt(queue, Why.LEASE_LOST)] if state.running and not state.lost else []
    return _after(worker, queue, state._replace(lost=True, unsettled=0, requested=0, hinted=False), commands)


def _enter(worker: WorkerState, phase: Phase, commands: list[Command]) -> Step:
    return _plan(worker._replace(phase=phase), list(worker.queues), commands)


def _interrupts(worker: WorkerState) -> list[Command]:
    return [Interrupt(number, Why.GRACE_OVER) for number, queue in enumerate(worker.queues) if queue.running]


def _worn(worker: WorkerState) -> Cause | None:
    """Return why the process is to be replaced, if it is. One that claims nothing any more is left as it is."""
    if worker.phase is not Phase.RUNNING:
        return None
    if worker.lost >= worker.bearable:
        return Cause.STUCK
    if worker.jobs_left is not None and worker.jobs_left <= 0:
        return Cause.MAX_JOBS
    return Cause.MAX_RSS if worker.grown else None


def _plan(worker: WorkerState, queues: list[QueueState], commands: list[Command]) -> Step:
    """Give every pump that has nothing to do what the state asks for, and end when all is done."""
    if (cause := _worn(worker)) is not None:
        worker = worker._replace(phase=Phase.DRAINING, replaced=cause)
        commands.append(Replace(cause))
    running = worker.phase is Phase.RUNNING
    given = shares(queues, worker.limit, strict=worker.strict) if running else [0] * len(queues)
    for number, queue in enumerate(queues):
        if queue.doing is Doing.NOTHING:
            queues[number] = _next(worker.phase, number, queue, given[number], commands)
    if not running and _ends(worker, queues):
        commands.append(Exit(worker.replaced))
        worker = worker._replace(phase=Phase.STOPPED, ended=True)
    return worker._replace(queues=tuple(queues)), tuple(commands)


def _ends(worker: WorkerState, queues: list[QueueState]) -> bool:
    drained = worker.phase is Phase.DRAINING and not any(queue.running for queue in queues)
    ending = worker.phase is Phase.STOPPED or drained
    return ending and not worker.ended and all(queue.doing is Doing.LEFT for queue in queues)


def _next(phase: Phase, number: int, queue: QueueState, share: int, commands: list[Command]) -> QueueState:
    leaving = phase is Phase.STOPPED or phase is Phase.DRAINING
    if queue.lost:
        if leaving:
            return queue._replace(doing=Doing.LEFT)
        commands.append(Register(number))
        return queue._replace(doing=Doing.REGISTERING)
    if queue.adopt and not leaving:
        commands.append(Adopt(number))
        return queue._replace(doing=Doing.ADOPTING, adopt=False)
    if share or queue.unsettled or queue.hinted:
        commands.append(Claim(number, share) if share else Settle(number))
        return queue._replace(doing=Doing.CALLING, asked=share, requested=share, hinted=False, due=False)
    if leaving and (phase is Phase.STOPPED or not queue.running):
        commands.append(Leave(number))
        return queue._replace(doing=Doing.LEAVING)
    if phase is Phase.RUNNING and queue.empty and not queue.listening:
        commands.append(Wait(number, POLL_MS))
        return queue._replace(listening=True)
    return queue
