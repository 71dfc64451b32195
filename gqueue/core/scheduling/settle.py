"""The heart: record what ended, promote what is due, claim what comes next; and read back what a worker holds."""

from collections.abc import Mapping, Sequence

from attrs import evolve

from gqueue.core.lifecycle import Move, after
from gqueue.core.model import MOVE_LIMIT, Claim, ClaimedJob, Left, Reason, Rules, Settlement, State
from gqueue.core.scheduling.leases import renew
from gqueue.core.scheduling.state import (
    QueueState,
    Run,
    best,
    bury,
    cancel_now,
    count,
    drop,
    is_suspect,
    keep,
    make_ready,
    stop_waiting,
    within_bytes,
    without,
)
from gqueue.errors import LeaseLost, StaleCall


def settle_and_claim(
    state: QueueState,
    rules: Rules,
    worker: str,
    call: int,
    done: Sequence[str],
    settlements: Sequence[Settlement],
    limit: int,
    *,
    now_ms: int,
) -> tuple[QueueState, Claim]:
    """Apply call number *call* of *worker*, or answer its last one, or the one before, again.

    Raises LeaseLost, StaleCall: nothing is applied.
    """
    if worker not in state.workers:
        raise LeaseLost(worker)
    last = state.calls.get(worker, 0)
    if call not in (last - 1, last, last + 1):
        raise StaleCall(worker, call)
    state = renew(state, rules, worker, now_ms)
    if call <= last:
        again = best(state, (i for i, run in state.running.get(worker, {}).items() if run.call == call))
        return state, _answer(state, rules, worker, again, (), now_ms)

    skipped = []
    for settlement in (*(Settlement(job_id, Move.SUCCEED.value) for job_id in done), *settlements):
        if settlement.job_id in state.running.get(worker, {}):
            state = _settle(state, rules, worker, settlement, now_ms)
        else:
            skipped.append(settlement.job_id)
    state = count(state, skipped=len(skipped))
    state = _promote(state, rules, now_ms)
    claimed = () if state.paused else _choose(state, rules, worker, limit)
    for job_id in claimed:
        after(State.READY, Move.CLAIM)
        state = stop_waiting(state, job_id)
    runs = {**state.running.get(worker, {}), **{job_id: Run(call, now_ms) for job_id in claimed}}
    state = evolve(state, running=_replace(state.running, worker, runs), calls={**state.calls, worker: call})
    state = count(state, claimed=len(claimed))
    return state, _answer(state, rules, worker, claimed, tuple(skipped), now_ms)


def held(
    state: QueueState, rules: Rules, worker: str, call: int, *, now_ms: int
) -> tuple[QueueState, tuple[ClaimedJob, ...]]:
    """Return what *worker*, whose last call was number *call*, holds, best first. Raises LeaseLost, StaleCall."""
    if worker not in state.workers:
        raise LeaseLost(worker)
    if call != state.calls.get(worker, 0):
        raise StaleCall(worker, call)
    job_ids = within_bytes(state, best(state, state.running.get(worker, {}))[:MOVE_LIMIT])
    return state, _jobs(state, job_ids)


def _settle(state: QueueState, rules: Rules, worker: str, settlement: Settlement, now_ms: int) -> QueueState:
    job_id, move = settlement.job_id, Move(settlement.move)
    state = evolve(state, running=_replace(state.running, worker, without(state.running[worker], job_id)))
    if move is not Move.SUCCEED and (job_id in state.cancels or move is Move.CANCEL):
        return cancel_now(state, job_id, settlement.ttl_ms, now_ms)
    after(State.RUNNING, move)
    failures = state.attempts.get(job_id, 0) + 1
    if move is Move.SUCCEED:
        state = drop(state, job_id)
        state = keep(state, job_id, settlement.outcome, State.SUCCEEDED, settlement.ttl_ms, now_ms)
        return count(state, succeeded=1)
    if move is Move.RETRY:
        state = evolve(
            state,
            attempts={**state.attempts, job_id: failures},
            scheduled={**state.scheduled, job_id: now_ms + settlement.delay_ms},
            progress=without(state.progress, job_id),
        )
        return count(state, retried=1)
    return bury(
        state,
        rules,
        job_id,
        Reason(settlement.reason),
        failures=failures,
        report=settlement.report,
        outcome=settlement.outcome,
        ttl_ms=settlement.ttl_ms,
        now_ms=now_ms,
    )


def _promote(state: QueueState, rules: Rules, now_ms: int) -> QueueState:
    due = sorted((at, job_id) for job_id, at in state.scheduled.items() if at <= now_ms)[:MOVE_LIMIT]
    for job_id in within_bytes(state, [job_id for _, job_id in due]):
        after(State.SCHEDULED, Move.PROMOTE)
        state = make_ready(evolve(state, scheduled=without(state.scheduled, job_id)), job_id, rules)
    return state


def _choose(state: QueueState, rules: Rules, worker: str, limit: int) -> list[str]:
    """Return the jobs to claim: the best of the ready ones, and of the suspects one if the worker holds none."""
    candidates = best(state, state.ready)[:limit]
    if state.suspects and not _holds_suspect(state, rules, worker):
        candidates = best(state, [*candidates, best(state, state.suspects)[0]])[:limit]
    return within_bytes(state, candidates)


def _holds_suspect(state: QueueState, rules: Rules, worker: str) -> bool:
    return any(is_suspect(state.crashes.get(job_id, 0), rules) for job_id in state.running.get(worker, {}))


def _answer(
    state: QueueState, rules: Rules, worker: str, job_ids: Sequence[str], skipped: tuple[str, ...], now_ms: int
) -> Claim:
    if state.paused:
        left = Left.PAUSED
    elif state.ready or (state.suspects and not _holds_suspect(state, rules, worker)):
        left = Left.MORE
    else:
        left = Left.NOTHING
    due_in_ms = max(0, min(state.scheduled.values()) - now_ms) if state.scheduled else None
    return Claim(_jobs(state, job_ids), skipped, left, due_in_ms)


def _jobs(state: QueueState, job_ids: Sequence[str]) -> tuple[ClaimedJob, ...]:
    return tuple(
        ClaimedJob(job_id, state.jobs[job_id].record, state.attempts.get(job_id, 0), state.crashes.get(job_id, 0))
        for job_id in job_ids
    )


def _replace(
    running: Mapping[str, Mapping[str, Run]], worker: str, runs: Mapping[str, Run]
) -> Mapping[str, Mapping[str, Run]]:
    return {**running, worker: runs} if runs else without(running, worker)
