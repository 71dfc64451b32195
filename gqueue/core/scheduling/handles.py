"""What handles and operators ask of the queue: look, wait for an outcome, cancel, rank anew, redrive, purge, count."""

from collections.abc import Sequence

from attrs import evolve

from gqueue.core.lifecycle import Move, after
from gqueue.core.model import AWAITED_MS, Look, Rules, State, Stats
from gqueue.core.order import rank_of
from gqueue.core.scheduling.state import (
    QueueState,
    best,
    cancel_now,
    count,
    drop,
    stop_waiting,
    where,
    without,
)


def look(state: QueueState, job_ids: Sequence[str], *, now_ms: int) -> tuple[QueueState, tuple[Look, ...]]:
    """Return state and outcome of each of *job_ids*."""
    return state, tuple(_look(state, job_id, now_ms) for job_id in job_ids)


def _look(state: QueueState, job_id: str, now_ms: int) -> Look:
    found = where(state, job_id, now_ms)
    if job_id in state.jobs:
        return Look(found, b"", state.attempts.get(job_id, 0), state.crashes.get(job_id, 0))
    kept = state.results.get(job_id)
    outcome = kept.outcome if kept and now_ms < kept.since_ms + kept.ttl_ms else b""
    if job_id in state.letters:
        death = state.letters[job_id]
        return Look(found, outcome, death.failures, death.crashes, death.reason, death.report)
    return Look(found, outcome)


def await_done(state: QueueState, job_ids: Sequence[str], *, now_ms: int) -> tuple[QueueState, tuple[str, ...]]:
    """Note that someone waits for *job_ids*; return those that are neither waiting nor running."""
    awaited = {job_id: until for job_id, until in state.awaited.items() if until > now_ms}
    awaited |= dict.fromkeys(job_ids, now_ms + AWAITED_MS)
    return evolve(state, awaited=awaited), tuple(job_id for job_id in job_ids if job_id not in state.jobs)


def cancel(state: QueueState, job_id: str, ttl_ms: int, *, now_ms: int) -> tuple[QueueState, State]:
    """Cancel a job that waits; note it of one that runs."""
    found = where(state, job_id, now_ms)
    if found in (State.READY, State.SCHEDULED):
        return cancel_now(state, job_id, ttl_ms, now_ms), State.CANCELLED
    if found is State.RUNNING and job_id not in state.cancels:
        state = evolve(state, cancels={**state.cancels, job_id: now_ms})
    return state, found


def set_priority(
    state: QueueState, rules: Rules, job_id: str, priority: float, *, now_ms: int
) -> tuple[QueueState, State]:
    """Rank a waiting job anew; under aging, as one enqueued now. Its sequence stays."""
    found = where(state, job_id, now_ms)
    if found in (State.READY, State.SCHEDULED):
        rank = rank_of(priority, rules.aging_per_second, now_ms - (state.epoch_ms or 0))
        state = evolve(state, jobs={**state.jobs, job_id: state.jobs[job_id]._replace(rank=rank)})
    return state, found


def redrive(
    state: QueueState, job_ids: Sequence[str], *, force: bool, now_ms: int
) -> tuple[QueueState, tuple[str, ...]]:
    """Put dead letters back to ready, in the order given, until there is no more room."""
    went = []
    for job_id in job_ids:
        if job_id not in state.letters:
            continue
        if not force and state.capacity is not None and state.room <= 0:
            break
        after(State.DEAD, Move.REDRIVE)
        state = evolve(
            state,
            jobs={**state.jobs, job_id: state.letters[job_id].entry},
            letters=without(state.letters, job_id),
            results=without(state.results, job_id),
            ready=state.ready | {job_id},
        )
        went.append(job_id)
    return count(state, redriven=len(went)), tuple(went)


def delete_letters(state: QueueState, job_ids: Sequence[str]) -> tuple[QueueState, int]:
    """Forget dead letters."""
    letters = {job_id: death for job_id, death in state.letters.items() if job_id not in set(job_ids)}
    return evolve(state, letters=letters), len(state.letters) - len(letters)


def purge(state: QueueState, limit: int) -> tuple[QueueState, int]:
    """Drop waiting jobs, worst first: of the ready, then of the suspects, then the scheduled that are due last."""
    ready = best(state, state.ready)[::-1]
    suspects = best(state, state.suspects)[::-1]
    scheduled = [job_id for _, job_id in sorted(((at, i) for i, at in state.scheduled.items()), reverse=True)]
    dropped = [*ready, *suspects, *scheduled][:limit]
    for job_id in dropped:
        after(State.READY, Move.PURGE)
        state = drop(stop_waiting(state, job_id), job_id)
    state = count(state, purged=len(dropped))
    return state, state.depth


def stats(state: QueueState, *, now_ms: int) -> tuple[QueueState, Stats]:
    """Count everything."""
    shed = sum(death.reason.value == "shed" for death in state.letters.values())
    return state, Stats(
        ready=len(state.ready),
        suspects=len(state.suspects),
        scheduled=len(state.scheduled),
        running=len(state.jobs) - state.depth,
        dead=len(state.letters) - shed,
        shed=shed,
        waiters=sum(waiter.until_ms > now_ms for waiter in state.line.values()),
        workers=len(state.workers),
        lapsed=len(state.lapsed),
        capacity=state.capacity or 0,
        paused=state.paused,
        counters=dict(state.counters),
    )
