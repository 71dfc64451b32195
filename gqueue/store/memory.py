"""A store in memory, for tests and inline mode: a cell around `core.scheduling`, the model Redis is checked against.

Decides nothing about jobs. It adds what a value cannot have: a clock, a lock, and waiting. Content lives as long as the
process; stores that share a cell are views of one queue.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from attrs import evolve

from gqueue.core import scheduling
from gqueue.core.durability import Durability
from gqueue.core.model import (
    Admission,
    Ask,
    Beat,
    Claim,
    ClaimedJob,
    Letter,
    Look,
    NewJob,
    Reaped,
    Rules,
    Settlement,
    State,
    Stats,
    Ticket,
    WhenFull,
    WorkerCall,
)
from gqueue.core.order import member
from gqueue.core.scheduling import QueueState
from gqueue.core.scheduling.state import best
from gqueue.errors import DurabilityUnsupported
from gqueue.store.base import Wait
from gqueue.store.owners import owner
from gqueue.store.parking import Parking

R = TypeVar("R")


class Cell:
    """One queue: its value now, and who waits for what."""

    def __init__(self) -> None:
        self.state = QueueState()
        self.lock, self.parking = threading.Lock(), Parking()
        self.hints = 0
        self.room: dict[str, deque[str]] = {}
        self.done: list[deque[str]] = []

    def apply(self, operation: Callable[[QueueState], tuple[QueueState, R]], *, passes_on: bool = False) -> R:
        """Replace the value by what *operation* makes of it, hint whom it concerns, return the reply."""
        with self.lock:
            before = self.state
            after, reply = operation(before)
            self.state = after
            claimable = (after.ready | after.suspects) if not after.paused else frozenset()
            newly = claimable - (before.ready | before.suspects) or (claimable and (passes_on or before.paused))
            soonest = min(after.scheduled.values(), default=None)
            sooner = soonest is not None and soonest < min(before.scheduled.values(), default=soonest + 1)
            if newly or sooner:
                self.hints = 1
            known = set(scheduling.hinted(before))
            for ticket in scheduling.hinted(after):
                if ticket not in known:
                    self.room.setdefault(ticket.rpartition(".")[0], deque(maxlen=1024)).append(ticket)
            if ended := [job_id for job_id in before.jobs.keys() - after.jobs.keys() if job_id in after.awaited]:
                for listener in self.done:
                    listener.extend(ended)
        self.parking.wake_all()
        return reply

    def wait_for(self, ready: Callable[[], object], timeout: float) -> None:
        """Wait until *ready*, for *timeout* seconds at most; the caller looks again."""
        until = time.monotonic() + timeout
        while not ready() and (left := until - time.monotonic()) > 0:
            self.parking.wait(ready, left)


class MemoryStore:
    """A Store (see store.base) in this process's memory."""

    def __init__(self, name: str, rules: Rules, cell: Cell | None = None) -> None:
        self.name, self.rules = name, rules
        self._cell = cell or Cell()
        self._done: dict[int, deque[str]] = {}
        self._closed = False

    def clone(self) -> "MemoryStore":
        return MemoryStore(self.name, self.rules, self._cell)

    def close(self) -> None:
        with self._cell.lock:
            self._closed = True
            for done in self._done.values():
                self._forget(done)
        self._cell.parking.wake_all()

    # Producers.

    def enqueue(
        self,
        lane: str,
        call: int,
        jobs: Sequence[NewJob],
        *,
        when_full: WhenFull,
        capacity: int,
        ticket: Ticket | None = None,
        durable: Durability | None = None,
        meanwhile: Callable[[], None] | None = None,
        first_sent: float | None = None,
        now_ms: int | None = None,
    ) -> Admission:
        if durable is not None:
            why = "a queue in the memory of this process has neither replicas nor a disk"
            raise DurabilityUnsupported(self.name, str(durable), why)
        if meanwhile is not None:
            meanwhile()
        now = _now(now_ms)
        return self._cell.apply(
            lambda state: scheduling.enqueue(
                state,
                self.rules,
                lane,
                call,
                jobs,
                when_full=when_full,
                capacity=capacity,
                ticket=ticket,
                now_ms=now,
            )
        )

    def renew_tickets(self, tickets: Sequence[Ticket], *, now_ms: int | None = None) -> tuple[str, ...]:
        now = _now(now_ms)
        return self._cell.apply(lambda state: scheduling.renew_tickets(state, tickets, now_ms=now))

    def leave_line(self, ticket: Ticket, *, now_ms: int | None = None) -> None:
        now = _now(now_ms)
        self._cell.apply(lambda state: scheduling.leave_line(state, ticket, now_ms=now))

    def wait_room(self, producer: str, timeout: float) -> tuple[str, ...]:
        cell = self._cell
        cell.wait_for(lambda: self._closed or cell.room.get(producer), timeout)
        with cell.lock:
            return tuple(cell.room.pop(producer, ()))

    # Workers.

    def register(self, worker: str, *, now_ms: int | None = None) -> None:
        now = _now(now_ms)
        self._cell.apply(lambda state: scheduling.register(state, self.rules, worker, now_ms=now))

    def settle_and_claim(
        self,
        worker: str,
        call: int,
        done: Sequence[str],
        settlements: Sequence[Settlement],
        limit: int,
        *,
        meanwhile: Callable[[], WorkerCall | None] | None = None,
        now_ms: int | None = None,
    ) -> Claim:
        now = _now(now_ms)
        if meanwhile is not None:
            meanwhile()
        return self._cell.apply(
            lambda state: scheduling.settle_and_claim(
                state, self.rules, worker, call, done, settlements, limit, now_ms=now
            ),
            passes_on=True,
        )

    def held(self, worker: str, call: int, *, now_ms: int | None = None) -> tuple[ClaimedJob, ...]:
        now = _now(now_ms)
        return self._cell.apply(lambda state: scheduling.held(state, self.rules, worker, call, now_ms=now))

    def heartbeat(self, worker: str, *, now_ms: int | None = None) -> Beat:
        now = _now(now_ms)
        return self._cell.apply(lambda state: scheduling.heartbeat(state, self.rules, worker, now_ms=now))

    def fence(self, *, now_ms: int | None = None) -> tuple[str, ...]:
        now = _now(now_ms)
        return self._cell.apply(lambda state: scheduling.fence(state, self.rules, now_ms=now))

    def reap(self, worker: str, limit: int, *, now_ms: int | None = None) -> Reaped:
        now = _now(now_ms)
        return self._cell.apply(lambda state: scheduling.reap(state, self.rules, worker, limit, now_ms=now))

    def leave(self, worker: str, limit: int, *, now_ms: int | None = None) -> int:
        now = _now(now_ms)
        return self._cell.apply(lambda state: scheduling.leave(state, self.rules, worker, limit, now_ms=now))

    def wait_hint(self, timeout: float) -> bool:
        cell = self._cell
        cell.wait_for(lambda: self._closed or cell.hints, timeout)
        with cell.lock:
            hinted, cell.hints = cell.hints > 0, 0
            return hinted

    def report_progress(self, worker: str, job_id: str, progress: bytes, *, now_ms: int | None = None) -> bool:
        return self._cell.apply(lambda state: scheduling.report_progress(state, worker, job_id, progress))

    # Handles.

    def look(self, job_ids: Sequence[str], *, now_ms: int | None = None) -> tuple[Look, ...]:
        now = _now(now_ms)
        return self._cell.apply(lambda state: scheduling.look(state, job_ids, now_ms=now))

    def progress(self, job_id: str) -> bytes | None:
        return self._cell.state.progress.get(job_id)

    def await_done(self, job_ids: Sequence[str], *, now_ms: int | None = None) -> tuple[str, ...]:
        now = _now(now_ms)
        return self._cell.apply(lambda state: scheduling.await_done(state, job_ids, now_ms=now))

    def wait_done(self, timeout: float) -> tuple[str, ...]:
        cell = self._cell
        with cell.lock:
            done = self._done.get(owner())
            if done is None:
                done = self._done[owner()] = deque()
                cell.done.append(done)
        cell.wait_for(lambda: self._closed or done, timeout)
        with cell.lock:
            ended = tuple(done)
            done.clear()
            return ended

    def stop_waiting(self, what: Wait) -> None:
        if what == "done":
            with self._cell.lock:
                self._forget(self._done.pop(owner(), None))

    def _forget(self, listener: deque[str] | None) -> None:
        self._cell.done = [one for one in self._cell.done if one is not listener]

    def cancel(self, job_id: str, ttl_ms: int, *, now_ms: int | None = None) -> State:
        now = _now(now_ms)
        return self._cell.apply(lambda state: scheduling.cancel(state, job_id, ttl_ms, now_ms=now))

    def set_priority(self, job_id: str, priority: float, *, now_ms: int | None = None) -> State:
        now = _now(now_ms)
        return self._cell.apply(lambda state: scheduling.set_priority(state, self.rules, job_id, priority, now_ms=now))

    # Operators.

    def stats(self, *, now_ms: int | None = None) -> Stats:
        now = _now(now_ms)
        return self._cell.apply(lambda state: scheduling.stats(state, now_ms=now))

    def pause(self) -> None:
        self._cell.apply(lambda state: (evolve(state, paused=True), None))

    def resume(self) -> None:
        self._cell.apply(lambda state: (evolve(state, paused=False), None))

    def set_capacity(self, capacity: int | None, *, now_ms: int | None = None) -> None:
        self._cell.apply(lambda state: (evolve(state, capacity_set=capacity), None))

    def ask(self, worker: str, what: Ask) -> bool:
        return self._cell.apply(lambda state: scheduling.ask(state, worker, what))

    def workers(self, *, now_ms: int | None = None) -> dict[str, int]:
        return {worker: until - _now(now_ms) for worker, until in sorted(self._cell.state.workers.items())}

    def letters(self, *, offset: int = 0, limit: int = 100, shed: bool = False) -> tuple[Letter, ...]:
        ours = [(d.died_at_ms, i) for i, d in self._cell.state.letters.items() if (d.reason.value == "shed") is shed]
        chosen = sorted(ours, reverse=True)[offset : offset + limit]
        found = [(job_id, self._cell.state.letters[job_id]) for _, job_id in chosen]
        return tuple(
            Letter(i, d.reason, d.died_at_ms, d.failures, d.crashes, d.report, d.entry.record) for i, d in found
        )

    def redrive(self, job_ids: Sequence[str], *, force: bool = False, now_ms: int | None = None) -> tuple[str, ...]:
        now = _now(now_ms)
        return self._cell.apply(lambda state: scheduling.redrive(state, job_ids, force=force, now_ms=now))

    def delete_letters(self, job_ids: Sequence[str]) -> int:
        return self._cell.apply(lambda state: scheduling.delete_letters(state, job_ids))

    def purge(self, limit: int, *, now_ms: int | None = None) -> int:
        return self._cell.apply(lambda state: scheduling.purge(state, limit))

    def inspect(self, state: State, *, offset: int = 0, limit: int = 100) -> tuple[tuple[str, float, bytes], ...]:
        now = self._cell.state
        if state is State.SCHEDULED:
            due = sorted((at, job_id) for job_id, at in now.scheduled.items())[offset : offset + limit]
            return tuple((job_id, float(at), now.jobs[job_id].record) for at, job_id in due)
        waiting = [*best(now, now.ready), *best(now, now.suspects)][offset : offset + limit]
        return tuple((job_id, now.jobs[job_id].rank, now.jobs[job_id].record) for job_id in waiting)

    def snapshot(self) -> dict[str, Any]:
        return snapshot(self._cell.state)


def snapshot(state: QueueState) -> dict[str, Any]:
    """Return the content of *state* in the words of Redis: the shape that every store's snapshot has."""
    jobs = state.jobs
    return {
        "jobs": {job_id: (e.sequence, e.rank, e.record) for job_id, e in jobs.items()},
        "ready": sorted((jobs[i].rank, member(jobs[i].sequence, i)) for i in state.ready),
        "suspects": sorted((jobs[i].rank, member(jobs[i].sequence, i)) for i in state.suspects),
        "scheduled": sorted((at, job_id) for job_id, at in state.scheduled.items()),
        "running": {w: {i: tuple(run) for i, run in runs.items()} for w, runs in state.running.items()},
        "workers": dict(state.workers),
        "graces": dict(state.graces),
        "lapsed": dict(state.lapsed),
        "calls": dict(state.calls),
        "lanes": {lane: (last.call, last.reply) for lane, last in state.lanes.items()},
        "attempts": dict(state.attempts),
        "crashes": dict(state.crashes),
        "cancels": dict(state.cancels),
        "asked": {worker: what.value for worker, what in state.asked.items()},
        "leases": dict(state.leases),
        "progress": dict(state.progress),
        "letters": {
            i: (d.died_at_ms, d.reason.value, d.failures, d.crashes, d.report, (d.entry.sequence, d.entry.rank))
            for i, d in state.letters.items()
        },
        "results": {i: (kept.outcome, kept.ttl_ms) for i, kept in state.results.items()},
        "awaited": dict(state.awaited),
        "line": sorted((w.rank, number, name, w.until_ms) for (number, name), w in state.line.items()),
        "meta": {
            "sequence": state.sequence,
            "places": state.places,
            "epoch": state.epoch_ms,
            "seen": state.seen_ms,
            "lease": state.lease_ms,
            "capacity": state.capacity_brought,
            "capacity_set": state.capacity_set,
            "paused": state.paused,
        },
        "counters": dict(state.counters),
    }


def _now(now_ms: int | None) -> int:
    return time.time_ns() // 1_000_000 if now_ms is None else now_ms
