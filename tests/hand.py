"""A worker by hand: what a test does to jobs in place of a worker, through the store alone."""

import itertools
from collections.abc import Sequence

from gqueue.core.model import ClaimedJob, Settlement
from gqueue.queue import Queue
from gqueue.store import codec

_numbers = itertools.count(1)


class Hand:
    """A registered worker that claims and settles when it is told to."""

    def __init__(self, queue: Queue) -> None:
        self.store = queue.open_store()
        self.worker = f"hand-{next(_numbers)}"
        self._call = 0
        self.store.register(self.worker)

    def claim(self, limit: int = 1) -> tuple[ClaimedJob, ...]:
        """Claim at most *limit* jobs, best first."""
        return self._do((), (), limit)

    def succeed(self, job_id: str, value: object = None, *, ttl_ms: int = 60_000) -> None:
        """Settle a claimed job as succeeded with *value*."""
        self.settle(Settlement(job_id, "succeed", outcome=codec.encode_value(value), ttl_ms=ttl_ms))

    def bury(
        self, job_id: str, reason: str = "failed", error: str = "no", traceback: str = "", *, ttl_ms: int = 60_000
    ) -> None:
        """Settle a claimed job as dead."""
        outcome, report = codec.encode_death(reason, error, traceback), codec.encode_report(error, traceback)
        self.settle(Settlement(job_id, "bury", reason=reason, report=report, outcome=outcome, ttl_ms=ttl_ms))

    def drop(self, jobs: Sequence[ClaimedJob]) -> None:
        """Settle claimed jobs as succeeded, without results."""
        self._do(tuple(job.id for job in jobs), (), 0)

    def settle(self, settlement: Settlement) -> None:
        """Record one settlement."""
        self._do((), (settlement,), 0)

    def _do(self, done: Sequence[str], settlements: Sequence[Settlement], limit: int) -> tuple[ClaimedJob, ...]:
        self._call += 1
        return self.store.settle_and_claim(self.worker, self._call, done, settlements, limit).jobs
