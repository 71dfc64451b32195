"""The queue as one value, and what its operations share.

Everything that Redis keeps of a queue is a field here, hints aside. Mappings are treated as immutable: an operation
builds new ones. This is the specification that Lua repeats: it is written for reading, and costs O(n) where a server
would not.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from attrs import evolve, field, frozen

from gqueue.core.admission import reached
from gqueue.core.lifecycle import Move, after
from gqueue.core.model import MOVE_BYTES, TICKET_MS, Admission, Ask, Place, Reason, Rules, State
from gqueue.core.order import Entry, entry_size

V = TypeVar("V")

COUNTERS = (
    "enqueued",
    "claimed",
    "succeeded",
    "retried",
    "dead",
    "cancelled",
    "shed",
    "crashed",
    "given_back",
    "redriven",
    "purged",
    "skipped",
)
"""Totals since the queue's epoch; `crashed` counts jobs taken back from lost workers, `skipped` refused settlements."""

CANCELLED_OUTCOME = b'{"state":"cancelled"}'
LOST_TEXT = "its workers were lost while they ran it"
LOST_REPORT = f'{{"error":"{LOST_TEXT}"}}'.encode()
LOST_OUTCOME = f'{{"state":"dead","reason":"worker_lost","error":"{LOST_TEXT}"}}'.encode()
SHED_TEXT = "a more urgent job took its place in the full queue"
SHED_REPORT = f'{{"error":"{SHED_TEXT}"}}'.encode()
SHED_OUTCOME = f'{{"state":"dead","reason":"shed","error":"{SHED_TEXT}"}}'.encode()


class Run(NamedTuple):
    """A claim: the number of the worker's call that made it, and when."""

    call: int
    claimed_at_ms: int


class Kept(NamedTuple):
    """An outcome that is kept for *ttl_ms* from *since_ms* on."""

    state: State
    outcome: bytes
    ttl_ms: int
    since_ms: int


class Death(NamedTuple):
    """A dead letter."""

    died_at_ms: int
    reason: Reason
    failures: int
    crashes: int
    report: bytes
    entry: Entry


class InLine(NamedTuple):
    """A ticket in line."""

    rank: float
    until_ms: int


class LastCall(NamedTuple):
    """A lane's last call and the reply to it."""

    call: int
    reply: Admission


@frozen
class QueueState:
    """A queue. Fields are named as the keys in Redis are; `line` is `waiters` and `tickets` in one.

    `graces` is part of `workers` there: how many silences in a row a worker was granted and not heard since.
    """

    jobs: Mapping[str, Entry] = field(factory=dict)
    ready: frozenset[str] = frozenset()
    suspects: frozenset[str] = frozenset()
    scheduled: Mapping[str, int] = field(factory=dict)
    running: Mapping[str, Mapping[str, Run]] = field(factory=dict)
    workers: Mapping[str, int] = field(factory=dict)
    graces: Mapping[str, int] = field(factory=dict)
    lapsed: Mapping[str, int] = field(factory=dict)
    calls: Mapping[str, int] = field(factory=dict)
    lanes: Mapping[str, LastCall] = field(factory=dict)
    attempts: Mapping[str, int] = field(factory=dict)
    crashes: Mapping[str, int] = field(factory=dict)
    cancels: Mapping[str, int] = field(factory=dict)
    asked: Mapping[str, Ask] = field(factory=dict)
    leases: Mapping[str, int] = field(factory=dict)
    progress: Mapping[str, bytes] = field(factory=dict)
    letters: Mapping[str, Death] = field(factory=dict)
    results: Mapping[str, Kept] = field(factory=dict)
    awaited: Mapping[str, int] = field(factory=dict)
    line: Mapping[tuple[int, str], InLine] = field(factory=dict)
    sequence: int = 0
    places: int = 0
    epoch_ms: int | None = None
    seen_ms: int | None = None
    lease_ms: int | None = None
    capacity_brought: int | None = None
    capacity_set: int | None = None
    paused: bool = False
    counters: Mapping[str, int] = field(factory=dict)

    @property
    def depth(self) -> int:
        """Return how many jobs wait."""
        return len(self.ready) + len(self.suspects) + len(self.scheduled)

    @property
    def capacity(self) -> int | None:
        """Return the capacity in force: an operator's, else what the last enqueue brought, else None."""
        return self.capacity_set or self.capacity_brought

    @property
    def room(self) -> int:
        """Return how many more jobs may wait; negative if retries came back into a full queue."""
        return (self.capacity or 0) - self.depth


def where(state: QueueState, job_id: str, now_ms: int) -> State:
    """Return where a job is."""
    if job_id in state.jobs:
        if job_id in state.scheduled:
            return State.SCHEDULED
        return State.READY if job_id in state.ready or job_id in state.suspects else State.RUNNING
    if job_id in state.letters:
        return State.DEAD
    kept = state.results.get(job_id)
    return kept.state if kept and now_ms < kept.since_ms + kept.ttl_ms else State.UNKNOWN


def best(state: QueueState, job_ids: Iterable[str]) -> list[str]:
    """Return *job_ids* in the order in which they should run."""
    return sorted(job_ids, key=lambda job_id: (state.jobs[job_id].rank, state.jobs[job_id].sequence))


def within_bytes(state: QueueState, job_ids: list[str]) -> list[str]:
    """Return the longest prefix of *job_ids* whose records one call may touch: the first one always."""
    total = 0
    for index, job_id in enumerate(job_ids):
        total += entry_size(state.jobs[job_id])
        if index and total > MOVE_BYTES:
            return job_ids[:index]
    return job_ids


def is_suspect(crashes: int, rules: Rules) -> bool:
    """Return whether a job that lost so many workers runs only where no other suspect does."""
    return 1 <= rules.max_crashes - 1 <= crashes


def count(state: QueueState, **counts: int) -> QueueState:
    """Add to the totals."""
    totals = dict(state.counters)
    for name, more in counts.items():
        if more:
            totals[name] = totals.get(name, 0) + more
    return evolve(state, counters=totals)


def stop_waiting(state: QueueState, job_id: str) -> QueueState:
    """Take a job out of the ready, suspect and scheduled ones."""
    return evolve(
        state,
        ready=state.ready - {job_id},
        suspects=state.suspects - {job_id},
        scheduled=without(state.scheduled, job_id),
    )


def make_ready(state: QueueState, job_id: str, rules: Rules) -> QueueState:
    """Let a job wait to be claimed, among the suspects if it is one."""
    if is_suspect(state.crashes.get(job_id, 0), rules):
        return evolve(state, suspects=state.suspects | {job_id})
    return evolve(state, ready=state.ready | {job_id})


def drop(state: QueueState, job_id: str) -> QueueState:
    """Forget the record and the counts of a job that neither waits nor runs any more."""
    return evolve(
        state,
        jobs=without(state.jobs, job_id),
        attempts=without(state.attempts, job_id),
        crashes=without(state.crashes, job_id),
        cancels=without(state.cancels, job_id),
        progress=without(state.progress, job_id),
    )


def keep(state: QueueState, job_id: str, outcome: bytes, final: State, ttl_ms: int, now_ms: int) -> QueueState:
    """Keep an outcome for *ttl_ms*; 0 or an empty outcome: not at all."""
    if ttl_ms <= 0 or not outcome:
        return state
    live = {i: kept for i, kept in state.results.items() if now_ms < kept.since_ms + kept.ttl_ms}
    return evolve(state, results={**live, job_id: Kept(final, outcome, ttl_ms, now_ms)})


def cancel_now(state: QueueState, job_id: str, ttl_ms: int, now_ms: int) -> QueueState:
    """Record that a job, which waits or was just taken from its worker, is cancelled."""
    after(where(state, job_id, now_ms), Move.CANCEL)
    state = drop(stop_waiting(state, job_id), job_id)
    state = keep(state, job_id, CANCELLED_OUTCOME, State.CANCELLED, ttl_ms, now_ms)
    return count(state, cancelled=1)


def bury(
    state: QueueState,
    rules: Rules,
    job_id: str,
    reason: Reason,
    *,
    failures: int,
    report: bytes,
    outcome: bytes,
    ttl_ms: int,
    now_ms: int,
) -> QueueState:
    """Move a job, which waits or was just taken from its worker, to the dead letters, and trim those."""
    after(where(state, job_id, now_ms), Move.BURY if reason is not Reason.SHED else Move.SHED)
    death = Death(now_ms, reason, failures, state.crashes.get(job_id, 0), report, state.jobs[job_id])
    state = drop(stop_waiting(state, job_id), job_id)
    state = evolve(state, letters={**state.letters, job_id: death})
    state = keep(state, job_id, outcome, State.DEAD, ttl_ms, now_ms)
    state = trim_letters(state, rules, now_ms)
    return count(state, **{"shed" if reason is Reason.SHED else "dead": 1})


def trim_letters(state: QueueState, rules: Rules, now_ms: int) -> QueueState:
    """Forget the oldest dead letters beyond what the rules keep: by age, then by count, shed ones apart."""
    letters = dict(state.letters)
    for shed, most in ((False, rules.letters_max), (True, rules.shed_max)):
        ours = sorted((d.died_at_ms, i) for i, d in letters.items() if (d.reason is Reason.SHED) is shed)
        old = [i for died_at_ms, i in ours if died_at_ms <= now_ms - rules.letters_ms]
        surplus = [i for _, i in ours[: max(0, len(ours) - most)]]
        for job_id in {*old, *surplus}:
            del letters[job_id]
    return evolve(state, letters=letters)


def drop_lapsed_tickets(state: QueueState, now_ms: int) -> QueueState:
    """Take the tickets out of the line that were not renewed.

    So are those whose deadline lies beyond any that could be given now: the clock was stepped back, and their
    producers may be dead. A live one comes back where it stood.
    """
    live = {key: waiter for key, waiter in state.line.items() if now_ms < waiter.until_ms <= now_ms + TICKET_MS}
    return evolve(state, line=live)


def places(state: QueueState) -> list[tuple[Place, str]]:
    """Return the line: places with their tickets."""
    return [(Place(waiter.rank, number), name) for (number, name), waiter in state.line.items()]


def hinted(state: QueueState) -> list[str]:
    """Return the tickets that room reaches now, best first."""
    return reached(places(state), state.room)


def without(mapping: Mapping[str, V], key: str) -> Mapping[str, V]:
    """Return *mapping* without *key*."""
    if key not in mapping:
        return mapping
    return {k: v for k, v in mapping.items() if k != key}
