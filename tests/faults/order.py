"""Whether jobs started in the order of the queue: the more urgent first, of equals the one that came first.

Only first starts are looked at, and only what is certain is counted: one overtook a job that was better off for no
reason but the queue. A job that is given back is admitted once more, as it stood. One that a lost worker had claimed
keeps its place and comes late: whoever folds the history says so by `Waits.claimed`.
"""

from collections import deque
from heapq import heappop, heappush
from typing import Protocol

from attrs import define, field

WELL_BEFORE_NS = 1_000_000_000
"""A job is overtaken if it was in, and due, so long before a worse one started: more than a claim takes."""
CLAIMED_NS = 500_000_000
"""It is not if it starts within so long after that one: it was in another worker's hands already."""


class Waits(Protocol):
    """What is asked of a job: times in ns, 0: never."""

    job: str
    priority: float
    attempted_at: int
    acknowledged_at: int
    started_at: int
    claimed: bool


@define
class Order:
    """Counts the jobs that overtook a better one; tell it of each that is in, of each first start, and of the time."""

    inversions: int = 0
    first: tuple[str, str] = ("", "")
    """The job that started, and the one that it overtook."""
    _admitted: list[tuple[int, int, Waits]] = field(factory=list)
    """A heap: from when on a job may run, a number that tells equals apart, the job."""
    _started: deque[Waits] = field(factory=deque)
    """First starts of which it is not known yet whether they were inversions."""
    _waiting: list[tuple[float, int, int, Waits]] = field(factory=list)
    """A heap of those that are due: priority, when it was acknowledged, the number, the job."""
    _number: int = 0

    def admit(self, job: Waits, due_at: int) -> None:
        """Note that *job* is in, and may run from *due_at* on."""
        self._number += 1
        heappush(self._admitted, (due_at, self._number, job))

    def start(self, job: Waits) -> None:
        """Note its first start."""
        self._started.append(job)

    def until(self, at: int) -> None:
        """Judge the starts of which enough is known at *at*."""
        while self._started and self._started[0].started_at <= at - CLAIMED_NS:
            self._judge(self._started.popleft())

    def _judge(self, started: Waits) -> None:
        while self._admitted and self._admitted[0][0] <= started.started_at - WELL_BEFORE_NS:
            _, number, job = heappop(self._admitted)
            if not job.started_at:
                heappush(self._waiting, (job.priority, job.acknowledged_at, number, job))
        while self._waiting and (self._waiting[0][3].started_at or self._waiting[0][3].claimed):
            heappop(self._waiting)
        if self._waiting and not started.claimed and _before(self._waiting[0][3], started):
            self.inversions += 1
            if not self.first[0]:
                self.first = (started.job, self._waiting[0][3].job)


def _before(job: Waits, other: Waits) -> bool:
    """Return whether the queue puts *job* before *other* for certain: of equals, if it was in when that was brought."""
    if job.priority != other.priority:
        return job.priority < other.priority
    return job.acknowledged_at < other.attempted_at
