"""What a producer decides: how a batch is cut, what an answer means for it, when to ask again.

Leaves who is admitted to `admission`, and the waiting itself to `gqueue.line`.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import Enum
from typing import Generic, TypeVar

from gqueue.core.admission import policy_inside_task
from gqueue.core.model import MOVE_BYTES, MOVE_LIMIT, Admission, Place, WhenFull

T = TypeVar("T")

SEND_AGAIN_MS = 300_000
"""For how long a call that may have arrived may be sent again: so long before its answer is forgotten (LANE_MS) that
the server's clock may be stepped an hour ahead meanwhile."""

SEND_JOBS, SEND_BYTES = MOVE_LIMIT // 2, MOVE_BYTES // 2
"""What a call for many jobs carries, unless one alone is larger: half of what it may, for as much again is taken from
the caller while it is under way."""

QUICK_MS = 50
"""A caller who brings a call's worth of jobs in so long is asked for more before the answer to it is read."""

TELL_AFTER_MS = 5_000
"""A wait for room that lasts so long is logged, once."""


class Step(Enum):
    """What to do after an answer."""

    DONE = "done"
    REFUSED = "refused"
    ASK_AGAIN = "ask again"
    WAIT = "wait"


def policy(when_full: WhenFull, wait_ms: int | None, *, served_here: bool) -> WhenFull:
    """Return the policy in force: who has no time to wait, or must not, is refused.

    Args:
        wait_ms: longest wait for room; None: for ever.
        served_here: the call comes from a task, and its own worker serves the queue.
    """
    if wait_ms == 0 and when_full is WhenFull.WAIT:
        return WhenFull.REJECT
    return policy_inside_task(when_full, served_here=served_here)


def next_step(left: int, reply: Admission) -> Step:
    """Return what a producer with *left* jobs not yet in does after *reply*.

    A batch of which a part went in may find that room reaches its new place already; no hint may come for that.
    """
    if left == 0:
        return Step.DONE
    if reply.place is None:
        return Step.REFUSED
    return Step.ASK_AGAIN if reply.ahead < reply.capacity - reply.depth else Step.WAIT


def refusal(asked: WhenFull, wait_ms: int | None, *, served_here: bool) -> str:
    """Return why a job was not let in, for people; the arguments are those of `policy`."""
    if asked is WhenFull.SHED:
        return "no ready job is less urgent than this one (when_full='shed')"
    if asked is WhenFull.REJECT:
        return "it was to be refused then (when_full='reject')"
    if served_here:
        return "a task never waits for room in a queue that its own worker serves"
    if wait_ms == 0:
        return "it was not to wait (wait_timeout=0)"
    return f"no room came within {(wait_ms or 0) / 1000:g} s (wait_timeout)"


class Chunks(Generic[T]):
    """*jobs* cut into runs, in order, that one call carries: 500 jobs and 2 MiB, unless one alone is larger.

    Takes no more of *jobs* than the run at hand, and one: *beyond* holds what was taken, and is in no run yet.

    Args:
        size: bytes of a job's record.
        alike: what must be equal among the jobs of a call: their policy.
    """

    def __init__(self, jobs: Iterable[T], size: Callable[[T], int], alike: Callable[[T], Hashable]) -> None:
        self._jobs, self._size, self._alike = iter(jobs), size, alike
        self.beyond: list[T] = []

    def __iter__(self) -> "Chunks[T]":
        return self

    def __next__(self) -> list[T]:
        """Return the next run."""
        run, size, alike = self.beyond, self._size, self._alike
        bytes_in_run, kind = sum(map(size, run)), alike(run[0]) if run else None
        for job in self._jobs:
            its_size, its_kind = size(job), alike(job)
            if run and (len(run) == SEND_JOBS or bytes_in_run + its_size > SEND_BYTES or its_kind != kind):
                self.beyond = [job]
                return run
            run.append(job)
            bytes_in_run, kind = bytes_in_run + its_size, its_kind
        self.beyond = []
        if not run:
            raise StopIteration
        return run


def worth_taking_ahead(took_ms: float) -> bool:
    """Return whether to ask the caller for more jobs while a call is under way: those of it took *took_ms* to come.

    Who brings them slowly is not kept from the answer.
    """
    return took_ms <= QUICK_MS


def travels_alone(jobs: int, when_full: WhenFull, *, usual: bool, line: bool) -> bool:
    """Return whether the first call for so many jobs carries no one else's: it is to do what one for many does not.

    A call that carries those of several producers has nobody stand in line.

    Args:
        usual: as durable as all jobs of this queue.
        line: others of this process stand in line already, so who may wait most likely has to.
    """
    return jobs > 1 or when_full is WhenFull.SHED or not usual or (line and when_full is WhenFull.WAIT)


FEW_CALLERS = 8
"""So many always go together: two calls would cost more than is gained by their overlap."""


def one_call_carries(sizes: Sequence[int], callers: int) -> int:
    """Return how many of the jobs whose records have these *sizes* (bytes) one call is to carry: at least one.

    *callers* is how many enqueue at once, those included whom other calls carry. Of many, half go with one call: so the
    others get ready while it is under way.
    """
    most, total = min(MOVE_LIMIT, max(FEW_CALLERS, (callers + 1) // 2)), 0
    for count, size in enumerate(sizes):
        total += size
        if count and (count == most or total > MOVE_BYTES):
            return count
    return len(sizes)


def too_late_to_send_again(waited_ms: int) -> bool:
    """Return whether a call that may have arrived *waited_ms* ago might no longer be known, and so be applied twice."""
    return waited_ms > SEND_AGAIN_MS


def first_in_line(places: Iterable[tuple[Place, T]]) -> T | None:
    """Return whose place is the best."""
    best = min(places, key=lambda pair: pair[0], default=None)
    return best[1] if best else None


def tell_wait(waits_ms: Sequence[int]) -> bool:
    """Return whether the waits for room, as long as they last by now, are worth a line in the log."""
    return any(waited >= TELL_AFTER_MS for waited in waits_ms)
