"""Who may work: registration, heartbeats, fences, and taking jobs back from those who fell silent."""

from attrs import evolve

from gqueue.core.lifecycle import Move, after
from gqueue.core.model import MOVE_LIMIT, Ask, Beat, Reaped, Reason, Rules, State
from gqueue.core.scheduling.state import (
    LOST_OUTCOME,
    LOST_REPORT,
    QueueState,
    bury,
    cancel_now,
    count,
    make_ready,
    within_bytes,
    without,
)
from gqueue.errors import LeaseLost, NotLapsed

MOST_GRACES = 3
"""Silences in a row that a worker is granted without being heard. A dead one must not be granted each: others may be
silent again and again, as where jobs hold the interpreter's lock. A live one may miss the moment between two silences
of a Redis that comes and goes, and not three such moments."""


def touch(state: QueueState, rules: Rules, now_ms: int) -> QueueState:
    """Note that a worker was heard at *now_ms*; after a silence of all of them, grant the gap first.

    If nobody was heard for half a lease, or the clock went back by a sixth, Redis was away or its clock was stepped:
    every deadline is set into [now + lease/3, now + lease], so that no live worker is fenced for it. A worker that was
    not heard since MOST_GRACES such silences keeps its deadline, and so is over by the end of the next.
    """
    lease_ms = state.lease_ms or rules.lease_ms
    seen_ms = now_ms if state.seen_ms is None else state.seen_ms
    if 2 * (now_ms - seen_ms) > lease_ms or 6 * (seen_ms - now_ms) > lease_ms:
        first, last = now_ms + lease_ms // 3, now_ms + lease_ms
        workers, graces = dict(state.workers), dict(state.graces)
        for worker, until in workers.items():
            if graces.get(worker, 0) < MOST_GRACES:
                graces[worker] = graces.get(worker, 0) + 1
                until = max(until, first)
            workers[worker] = min(until, last)
        state = evolve(state, workers=workers, graces=graces)
    return evolve(state, seen_ms=now_ms)


def renew(state: QueueState, rules: Rules, worker: str, now_ms: int) -> QueueState:
    """Note that *worker*, which is registered, was heard at *now_ms*: its lease begins anew."""
    state = touch(state, rules, now_ms)
    until_ms = now_ms + (state.lease_ms or rules.lease_ms)
    return evolve(state, workers={**state.workers, worker: until_ms}, graces=without(state.graces, worker))


def register(state: QueueState, rules: Rules, worker: str, *, now_ms: int) -> tuple[QueueState, None]:
    """Give *worker* a lease. The longest lease that registered workers brought is in force for all of them."""
    state = evolve(
        state,
        workers={**state.workers, worker: now_ms},
        graces=without(state.graces, worker),
        leases={**state.leases, worker: rules.lease_ms},
    )
    state = _agree(state, now_ms)
    return evolve(state, workers={**state.workers, worker: now_ms + (state.lease_ms or rules.lease_ms)}), None


def heartbeat(state: QueueState, rules: Rules, worker: str, *, now_ms: int) -> tuple[QueueState, Beat]:
    """Renew the lease of *worker*. Raises LeaseLost."""
    if worker not in state.workers:
        raise LeaseLost(worker)
    state = renew(state, rules, worker, now_ms)
    running = state.running.get(worker, {})
    return state, Beat(tuple(sorted(state.cancels.keys() & running.keys())), state.asked.get(worker), len(running))


def fence(state: QueueState, rules: Rules, *, now_ms: int) -> tuple[QueueState, tuple[str, ...]]:
    """Fence the workers whose lease is over; return all whose jobs are still to be taken back.

    Forgets who waited for an outcome and no longer does: this is called when nobody waits, too.
    """
    state = touch(state, rules, now_ms)
    state = evolve(state, awaited={job_id: until for job_id, until in state.awaited.items() if until > now_ms})
    over = sorted((until, -state.graces.get(w, 0), w) for w, until in state.workers.items() if until <= now_ms)
    for _, _, worker in over[:MOVE_LIMIT]:
        state = evolve(_deregister(state, worker), lapsed={**state.lapsed, worker: now_ms})
    return _agree(state, now_ms) if over else state, tuple(sorted(state.lapsed)[:MOVE_LIMIT])


def reap(state: QueueState, rules: Rules, worker: str, limit: int, *, now_ms: int) -> tuple[QueueState, Reaped]:
    """Take jobs of a fenced worker back: to the ready, the suspects, the dead, or the cancelled. Raises NotLapsed."""
    if worker not in state.lapsed:
        raise NotLapsed(worker)
    state = touch(state, rules, now_ms)
    runs = state.running.get(worker, {})
    went = {"ready": 0, "suspect": 0, "cancelled": 0}
    buried: list[str] = []
    for job_id in within_bytes(state, sorted(runs)[:limit]):
        state = _take_from(state, worker, job_id)
        crashes = state.crashes.get(job_id, 0) + 1
        if job_id in state.cancels:
            state = cancel_now(state, job_id, rules.result_ttl_ms, now_ms)
            went["cancelled"] += 1
            continue
        state = evolve(state, crashes={**state.crashes, job_id: crashes}, progress=without(state.progress, job_id))
        if crashes >= rules.max_crashes:
            state = bury(
                state,
                rules,
                job_id,
                Reason.WORKER_LOST,
                failures=state.attempts.get(job_id, 0),
                report=LOST_REPORT,
                outcome=LOST_OUTCOME,
                ttl_ms=rules.result_ttl_ms,
                now_ms=now_ms,
            )
            buried.append(job_id)
            continue
        after(State.RUNNING, Move.REAP)
        state = make_ready(state, job_id, rules)
        went["suspect" if job_id in state.suspects else "ready"] += 1
    state = count(state, crashed=sum(went.values()) + len(buried))
    left = len(state.running.get(worker, {}))
    if not left:
        state = evolve(state, lapsed=without(state.lapsed, worker))
    return state, Reaped(**went, buried=tuple(buried), left=left)


def leave(state: QueueState, rules: Rules, worker: str, limit: int, *, now_ms: int) -> tuple[QueueState, int]:
    """Give jobs of *worker* back, and deregister it with the last of them. Raises LeaseLost if it was fenced."""
    if worker in state.lapsed:
        raise LeaseLost(worker)
    if worker not in state.workers:
        return state, 0
    given_back = 0
    for job_id in within_bytes(state, sorted(state.running.get(worker, {}))[:limit]):
        state = _take_from(state, worker, job_id)
        if job_id in state.cancels:
            state = cancel_now(state, job_id, rules.result_ttl_ms, now_ms)
            continue
        after(State.RUNNING, Move.GIVE_BACK)
        state = make_ready(evolve(state, progress=without(state.progress, job_id)), job_id, rules)
        given_back += 1
    state = count(state, given_back=given_back)
    left = len(state.running.get(worker, {}))
    return (state, left) if left else (_agree(_deregister(state, worker), now_ms), 0)


def ask(state: QueueState, worker: str, what: Ask) -> tuple[QueueState, bool]:
    """Note what an operator asks of *worker*, told by its heartbeats."""
    if worker not in state.workers:
        return state, False
    return evolve(state, asked={**state.asked, worker: what}), True


def report_progress(state: QueueState, worker: str, job_id: str, progress: bytes) -> tuple[QueueState, bool]:
    """Keep what a running job reports of itself, if *worker* holds it."""
    if worker not in state.workers or job_id not in state.running.get(worker, {}):
        return state, False
    return evolve(state, progress={**state.progress, job_id: progress}), True


def _agree(state: QueueState, now_ms: int) -> QueueState:
    """Put the longest lease that registered workers brought in force, and let no deadline count on a longer one.

    A worker without an entry, as of a version that made none, counts on the lease in force.
    """
    leases = {worker: state.leases[worker] for worker in state.workers if worker in state.leases}
    if not state.workers:
        return evolve(state, leases=leases)
    lease_ms = max(leases.get(worker, state.lease_ms or 0) for worker in state.workers)
    workers = {worker: min(until, now_ms + lease_ms) for worker, until in state.workers.items()}
    return evolve(state, lease_ms=lease_ms, leases=leases, workers=workers)


def _deregister(state: QueueState, worker: str) -> QueueState:
    return evolve(
        state,
        workers=without(state.workers, worker),
        graces=without(state.graces, worker),
        calls=without(state.calls, worker),
        asked=without(state.asked, worker),
    )


def _take_from(state: QueueState, worker: str, job_id: str) -> QueueState:
    left = without(state.running[worker], job_id)
    running = {**state.running, worker: left} if left else without(state.running, worker)
    return evolve(state, running=running)
