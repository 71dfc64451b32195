"""Judge a run by its history, in the terms of Jepsen's total-queue.

attempted      a producer began to enqueue it
acknowledged   the enqueue returned: the queue has promised to do it
refused        the enqueue raised, and the job is certainly not in; indeterminate: attempted, and neither is known
succeeded      at least one effect
lost           acknowledged, no effect, and nowhere: neither among the dead letters nor still in the queue
phantom        started or acknowledged, and never attempted
duplicated     more than one effect; unexplained: and no fault is the reason, see doubles.py
overlapping    two of its attempts ran at one time, in processes that were alive
wrong          refused, and started nevertheless
early          started before its delay was over, or that which its last attempt asked for; tardy: long after it
unfinished     still in the queue at the end of the drain
missing result the job succeeded, its result was to be kept until now and longer, and is not there; wrong: is another
recovery       from the fault that hit an attempt of a job to its next start; or, if a later one hit all for a while
               before that start (Redis away, say), from its end

`check` is pure: events, samples and what was expected in, a `Verdict` out. Each finding is a line that begins with its
kind, names the job, and tells the evidence; a run without findings is ok.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from attrs import frozen

from tests.faults.doubles import Doubles
from tests.faults.history import Depth, Event, Run, depths, events, read_run
from tests.faults.ledger import Attempt, Entry, Ledger, Recovery

SHOWN = 10
"""Findings of one kind that are told one by one; of the others there is the number."""
STALE = "stale settlements refused"
"""The name in a run's `reached` of settlements that came after the lease had lapsed."""


@frozen(kw_only=True)
class Verdict:
    """What a run came to: plain data. Of the counts, all are of jobs but where it says otherwise."""

    ok: bool
    findings: tuple[str, ...]
    attempted: int
    acknowledged: int
    indeterminate: int
    refused: int
    started: int
    succeeded: int
    lost: int
    phantom: int
    duplicated: int
    overlapping: int
    wrong: int
    unfinished: int
    results: int
    """That were to be kept, and were there and right at the end."""
    wrong_results: int
    missing_results: int
    dead: dict[str, int]
    """Reason -> dead letters."""
    faults: dict[str, int]
    """What -> how often it was injected."""
    reached: dict[str, int]
    stale_refused: int
    """Settlements."""
    recovery_ms: tuple[int, ...]
    """Of each recovery, in ascending order."""
    inversions: int
    max_depth: int
    max_over: int
    """By how much the depth was above the capacity at most."""
    early: int = 0
    unexplained: int = 0
    """Of the duplicated, those of which no fault explains the second effect."""

    def recovery_s(self, share: float) -> float | None:
        """Return the time that *share* of the recoveries did not exceed (0.5, 0.99, 1); None if there was none."""
        return quantile_s(self.recovery_ms, share)


def quantile_s(ascending_ms: tuple[int, ...], share: float) -> float | None:
    """Return the nearest-rank quantile, in seconds."""
    if not ascending_ms:
        return None
    rank = max(0, min(len(ascending_ms) - 1, -int(-share * len(ascending_ms) // 1) - 1))
    return ascending_ms[rank] / 1000


def check_folder(folder: Path) -> Verdict:
    """Judge the run that left *folder*; see tests/faults/history.py for what is in it."""
    return check(events(folder), read_run(folder), depths(folder))


def check(history: Iterable[Event], run: Run, samples: Iterable[Depth] = ()) -> Verdict:
    """Judge a run.

    Args:
        history: all events, in the order of time.
        run: what was run, expected and reached.
        samples: of the depth, in the order of time.
    """
    ledger = Ledger(lease_ns=int(run.lease_s * 1e9))
    for event in history:
        ledger.add(event)
    samples = tuple(samples)
    max_depth, max_over = _depth(samples)
    jobs = ledger.jobs.values()
    recoveries = _of_the_most_urgent(ledger)
    recovery_ms = tuple(sorted(round(recovery.seconds * 1000) for recovery in recoveries))
    unexplained = {job.job: attempts for job, attempts in Doubles(ledger, run.expect).all()}
    findings = tuple(_Findings(ledger, run, max_over if samples else None, unexplained, recoveries).all())
    return Verdict(
        ok=not findings,
        findings=findings,
        attempted=_count(jobs, lambda job: job.attempts > 0),
        acknowledged=_count(jobs, lambda job: job.acknowledged_at > 0),
        indeterminate=_count(jobs, lambda job: job.is_indeterminate),
        refused=_count(jobs, lambda job: job.was_refused),
        started=_count(jobs, lambda job: job.starts > 0),
        succeeded=_count(jobs, lambda job: job.effects > 0),
        lost=_count(jobs, is_lost),
        phantom=_count(jobs, is_phantom),
        duplicated=_count(jobs, lambda job: job.effects > 1),
        overlapping=_count(jobs, lambda job: job.overlap[0] > 0),
        wrong=_count(jobs, is_wrong),
        unfinished=_count(jobs, lambda job: job.waiting),
        results=_count(jobs, lambda job: job.result == "right"),
        wrong_results=_count(jobs, has_wrong_result),
        missing_results=_count(jobs, misses_result),
        dead=dict(Counter(job.dead for job in jobs if job.dead)),
        faults=dict(Counter(fault.what for fault in ledger.faults)),
        reached=run.reached,
        stale_refused=run.reached.get(STALE, 0),
        recovery_ms=recovery_ms,
        inversions=ledger.order.inversions,
        early=_count(jobs, lambda job: job.early[0] > 0),
        max_depth=max_depth,
        max_over=max_over,
        unexplained=len(unexplained),
    )


def is_lost(job: Entry) -> bool:
    """Return whether *job* was promised, was not done, and is nowhere."""
    return job.acknowledged_at > 0 and not job.effects and not job.dead and not job.waiting


def is_phantom(job: Entry) -> bool:
    """Return whether *job* came out of the queue, or was acknowledged, although nobody tried to put it in."""
    return not job.attempts and (job.starts + job.effects > 0 or job.acknowledged_at > 0)


def is_wrong(job: Entry) -> bool:
    """Return whether *job* ran although its producer was told that it is not in."""
    return job.was_refused and job.starts + job.effects > 0


def has_wrong_result(job: Entry) -> bool:
    """Return whether what was told as the result of *job* is not what it returned."""
    return job.result == "wrong"


def misses_result(job: Entry) -> bool:
    """Return whether the result of *job*, which succeeded, was to be kept and is not there, nor had its time passed.

    Nobody asked: it is missing, too.
    """
    if not job.kept or not job.effects or job.dead or job.waiting or job.result in ("right", "wrong"):
        return False
    return not job.result_at or job.result_at <= job.done[-1].effect_at + int(job.kept * 1e9)


def _count(jobs: Iterable[Entry], condition: Callable[[Entry], bool]) -> int:
    return sum(map(condition, jobs))


def _of_the_most_urgent(ledger: Ledger) -> list[Recovery]:
    """Return the recoveries of the jobs that no other may precede: the rest wait for their turn as well."""
    best = min((job.priority for job in ledger.jobs.values() if job.attempts), default=0.0)
    return [recovery for recovery in ledger.recoveries if ledger.jobs[recovery.job].priority == best]


def _depth(samples: Iterable[Depth]) -> tuple[int, int]:
    """Return the greatest depth, and by how much it exceeded what the capacity allowed, at most.

    After the capacity was lowered, the jobs that wait already may go on to wait, and no other comes in: what is allowed
    comes down with them: from the sample after, since some may have come in between the one before and the change.
    """
    deepest = over = allowed = before = capacity = 0
    for sample in samples:
        allowed = max(sample.capacity, allowed if sample.capacity < capacity else min(allowed, before))
        capacity = sample.capacity
        deepest = max(deepest, sample.depth)
        over = max(over, sample.depth - allowed)
        before = sample.depth
    return deepest, over


class _Findings:
    """What of a run is not as it must be, kind by kind."""

    def __init__(
        self,
        ledger: Ledger,
        run: Run,
        max_over: int | None,
        unexplained: Mapping[str, Sequence[Attempt]],
        recoveries: Sequence[Recovery],
    ) -> None:
        self.ledger = ledger
        self.recoveries = recoveries
        self.run = run
        self.expect = run.expect
        self.max_over = max_over
        self.unexplained = unexplained

    def all(self) -> Iterator[str]:
        jobs = self.ledger.jobs.values()
        yield from self._nothing_done()
        expect = self.expect
        yield from self._beyond("lost", expect.lost, filter(is_lost, jobs), self._last)
        if expect.lost_within_s is not None:
            old = (job for job in jobs if is_lost(job) and not self._near_a_fault(job))
            yield from self._beyond("lost of old", 0, old, self._last)
        if expect.never_lost:
            kept = (job for job in jobs if is_lost(job) and job.job.startswith(expect.never_lost))
            yield from self._beyond("lost though kept", 0, kept, self._last)
        yield from self._beyond("phantom", expect.phantom, filter(is_phantom, jobs), self._last)
        yield from self._beyond(
            "duplicated", expect.duplicated, (job for job in jobs if job.effects > 1), self._effects
        )
        yield from self._beyond(
            "unexplained", expect.unexplained, (job for job in jobs if job.job in self.unexplained), self._in_vain
        )
        yield from self._beyond(
            "overlapping", expect.overlapping, (job for job in jobs if job.overlap[0]), self._overlap
        )
        yield from self._beyond("early", expect.early, (job for job in jobs if job.early[0]), self._early)
        if expect.tardy_s is not None:
            tardy = (job for job in jobs if job.tardy[0] - job.tardy[1] > expect.tardy_s * 1e9)
            yield from self._beyond("tardy", 0, tardy, self._tardy)
        yield from self._beyond("wrong", 0, filter(is_wrong, jobs), self._refused)
        yield from self._beyond("unfinished", 0, (job for job in jobs if job.waiting), self._last)
        yield from self._beyond("wrong result", 0, filter(has_wrong_result, jobs), self._last)
        yield from self._beyond("missing result", expect.missing, filter(misses_result, jobs), self._last)
        for reason in sorted({job.dead for job in jobs if job.dead}):
            letters = (job for job in jobs if job.dead == reason != job.doomed)
            yield from self._beyond(f"dead as {reason}", expect.dead.get(reason, 0), letters, self._last)
        yield from self._late()
        yield from self._bounds()

    def _nothing_done(self) -> Iterator[str]:
        if not any(job.acknowledged_at for job in self.ledger.jobs.values()):
            yield "empty: no job was acknowledged, so the run shows nothing"

    def _bounds(self) -> Iterator[str]:
        """Yield what is said of the whole run, not of jobs."""
        expect, ledger = self.expect, self.ledger
        if expect.depth_over is not None and self.max_over is None:
            yield "depth: nobody looked at it, so the run shows nothing about it"
        elif expect.depth_over is not None and self.max_over > expect.depth_over:
            yield f"depth: {self.max_over} jobs above the capacity, at most {expect.depth_over} were expected"
        order = ledger.order
        if expect.inversions is not None and order.inversions > expect.inversions:
            started, overtaken = order.first
            first = f"first {self._named(ledger.jobs[started])} before {self._named(ledger.jobs[overtaken])}"
            yield f"order: {order.inversions} jobs overtook a better one, {expect.inversions} expected; {first}"
        most = ledger.backoffs / 2 + 2 * ledger.backoffs**0.5  # four standard deviations above what is to be expected
        if expect.early is not None and ledger.hasty > most:
            share = f"{ledger.hasty} of {ledger.backoffs} attempts started within half of the longest back-off"
            yield f"early: {share}: it is uniform, so half of them should"
        for name in expect.reached:
            if not self.run.reached.get(name):
                yield f"not reached: {name}: the fault was not met, so the run shows nothing about it"
        if self.run.fsck is None and not self.run.compared:
            yield "fsck: nobody audited the keys"
        yield from (f"fsck: {finding}" for finding in self.run.fsck or ())
        yield from (f"problem: {problem}" for problem in self.run.problems)

    def _beyond(
        self, kind: str, bound: int | None, jobs: Iterable[Entry], evidence: Callable[[Entry], str]
    ) -> Iterator[str]:
        """Yield a line for each of the first of *jobs*, and one with their number, if they are more than *bound*."""
        if bound is None:
            return
        found = list(jobs)
        if len(found) <= bound:
            return
        for job in islice(found, SHOWN):
            yield f"{kind}: {self._named(job)}: {evidence(job)}"
        if bound or len(found) > SHOWN:
            yield f"{kind}: {len(found)} jobs in all, at most {bound} expected"

    def _late(self) -> Iterator[str]:
        bound = self.expect.recovery_s
        if bound is None:
            return
        if not self.recoveries:
            yield "no recovery: no job was hit and started again, so the run shows nothing about how soon it does"
        late = sorted((r for r in self.recoveries if r.seconds > bound), key=lambda r: -r.seconds)
        for recovery in islice(late, SHOWN):
            hit = f"hit by {recovery.fault}"
            again = f"started again {recovery.seconds:.3f} s after {self._at(recovery.from_at)}, {bound:g} s expected"
            yield f"late: {self._named(self.ledger.jobs[recovery.job])}: {hit}, {again}"
        if len(late) > SHOWN:
            yield f"late: {len(late)} of {len(self.recoveries)} recoveries in all"

    def _tardy(self, job: Entry) -> str:
        started_at, due_at = job.tardy
        return (
            f"started at {self._at(started_at)}, due at {self._at(due_at)}, within {self.expect.tardy_s:g} s expected"
        )

    def _near_a_fault(self, job: Entry) -> bool:
        """Return whether a fault may have taken *job* along: none does what was asked for well after its end.

        The call counts, not its acknowledgement: a busy machine may write that down when the fault is over.
        """
        before_ns, after_ns = int((self.expect.lost_within_s or 0) * 1e9), int(self.expect.lost_after_s * 1e9)
        return any(
            fault.began - before_ns <= job.acknowledged_at and job.attempted_at <= fault.ended + after_ns
            for fault in self.ledger.faults
        )

    def _last(self, job: Entry) -> str:
        acknowledged = (
            f"acknowledged at {self._at(job.acknowledged_at)}" if job.acknowledged_at else "never acknowledged"
        )
        done = f"{job.attempts} calls to enqueue, {job.starts} starts, {job.effects} effects"
        return f"{acknowledged}; {done}; last: {job.last} in process {job.last_pid} at {self._at(job.last_at)}"

    def _effects(self, job: Entry) -> str:
        first, last = job.done[0], job.done[-1]
        began = f"first in process {first.pid} at {self._at(first.effect_at)}"
        return f"{job.effects} effects, {began}, last in {last.pid} at {self._at(last.effect_at)}"

    def _in_vain(self, job: Entry) -> str:
        had = (f"in process {each.pid} at {self._at(each.effect_at)}" for each in self.unexplained[job.job])
        return f"effects {', '.join(had)}, and no fault hit any of these attempts"

    def _overlap(self, job: Entry) -> str:
        at, pid, other = job.overlap
        return f"started in process {pid} at {self._at(at)} while it still ran in {other}"

    def _early(self, job: Entry) -> str:
        at, due_at = job.early
        return f"started at {self._at(at)}, {(due_at - at) / 1e9:.3f} s before its time"

    def _refused(self, job: Entry) -> str:
        return f"refused ({job.refused_why}), and started at {self._at(job.started_at)}"

    def _named(self, job: Entry) -> str:
        return f"{job.job} ({job.id})" if job.id else job.job

    def _at(self, t: int) -> str:
        """Return a moment as seconds since the run's first event."""
        return f"{(t - self.ledger.began) / 1e9:.3f} s"
