"""Random programs against a store: what a queue goes through in its life, for tests of what it then holds."""

from typing import Any

from hypothesis import strategies as st

from gqueue.core.lifecycle import Move
from gqueue.core.model import Ask, NewJob, Reason, Settlement, Ticket, WhenFull
from gqueue.errors import GqueueError
from gqueue.store.base import Store
from tests.strategies import ids, priorities, steps_ms, ttls_ms

READABLE = b'{"task":"t"}'

_jobs = st.builds(
    NewJob, id=ids, priority=priorities, delay_ms=st.sampled_from([0, 0, 0, 100]), record=st.just(READABLE)
)
_moves = st.sampled_from([Move.SUCCEED, Move.RETRY, Move.BURY, Move.CANCEL])
_picks = st.integers(0, 3)

steps = st.one_of(
    st.tuples(
        st.just("enqueue"), st.lists(_jobs, min_size=1, max_size=4), st.sampled_from(WhenFull), st.integers(1, 6)
    ),
    st.tuples(st.just("enqueue"), st.lists(_jobs, min_size=1, max_size=4), st.just(WhenFull.REJECT), st.just(9)),
    st.tuples(st.just("register")),
    st.tuples(st.just("claim"), _picks, st.integers(1, 3)),
    st.tuples(st.just("claim"), _picks, st.integers(1, 3)),
    st.tuples(st.just("settle"), _picks, _picks, _moves, ttls_ms),
    st.tuples(st.just("progress"), _picks, _picks),
    st.tuples(st.just("silence"), _picks, st.integers(0, 3)),
    st.tuples(st.just("leave"), _picks, st.integers(1, 3)),
    st.tuples(st.just("ask"), _picks),
    st.tuples(st.just("cancel"), ids, ttls_ms),
    st.tuples(st.just("await_done"), ids),
    st.tuples(st.just("set_priority"), ids, priorities),
    st.tuples(st.just("redrive"), ids, st.booleans()),
    st.tuples(st.just("delete"), ids),
    st.tuples(st.just("purge"), st.integers(1, 3)),
    st.tuples(st.just("capacity"), st.integers(0, 5)),
    st.tuples(st.sampled_from(["pause", "resume", "resume"])),
    st.tuples(st.just("wait"), steps_ms),
)
programs = st.lists(steps, max_size=30)


class Life:
    """One queue and what its producers and workers know. Step by step; what a store refuses is no fault."""

    def __init__(self, store: Store) -> None:
        self.store, self.now_ms = store, 1_000_000
        self.workers: list[str] = []
        self.calls: dict[str, int] = {}
        self.lane = 0

    def go(self, program: list[tuple[Any, ...]]) -> None:
        """Carry out a program."""
        for name, *arguments in [("register",), *program]:
            try:
                getattr(self, name)(*arguments)
            except GqueueError:
                pass

    @property
    def clock(self) -> dict[str, int]:
        return {"now_ms": self.now_ms}

    def enqueue(self, jobs: list[NewJob], when_full: WhenFull, capacity: int) -> None:
        self.lane += 1
        ticket = Ticket(f"p.{self.lane}") if when_full is WhenFull.WAIT else None
        self.store.enqueue(
            f"l{self.lane}", 1, jobs, when_full=when_full, capacity=capacity, ticket=ticket, **self.clock
        )

    def register(self) -> None:
        self.workers.append(f"w{len(self.workers) + 1}")
        self.store.register(self.workers[-1], **self.clock)

    def pick(self, number: int) -> str:
        return self.workers[number % len(self.workers)]

    def call(self, worker: str, settlements: list[Settlement], limit: int) -> None:
        number = self.calls.get(worker, 0) + 1
        self.store.settle_and_claim(worker, number, [], settlements, limit, **self.clock)
        self.calls[worker] = number

    def held(self, worker: str, number: int) -> str:
        jobs = sorted(job.id for job in self.store.held(worker, self.calls.get(worker, 0), **self.clock))
        return jobs[number % len(jobs)] if jobs else "a"

    def claim(self, number: int, limit: int) -> None:
        self.call(self.pick(number), [], limit)

    def settle(self, number: int, which: int, move: Move, ttl_ms: int) -> None:
        worker = self.pick(number)
        job = self.held(worker, which)
        self.call(
            worker,
            [Settlement(job, move.value, 100, Reason.FAILED.value, b"{}", b'{"state":"x"}', ttl_ms)],
            0,
        )

    def progress(self, number: int, which: int) -> None:
        worker = self.pick(number)
        self.store.report_progress(worker, self.held(worker, which), b"1", **self.clock)

    def silence(self, survivor: int, limit: int) -> None:
        for _ in range(4):
            self.now_ms += 300
            self.store.heartbeat(self.pick(survivor), **self.clock)
            lapsed = self.store.fence(**self.clock)
        for worker in lapsed if limit else ():
            self.store.reap(worker, limit, **self.clock)

    def leave(self, number: int, limit: int) -> None:
        self.store.leave(self.pick(number), limit, **self.clock)

    def ask(self, number: int) -> None:
        self.store.ask(self.pick(number), Ask.QUIET)

    def cancel(self, job: str, ttl_ms: int) -> None:
        self.store.cancel(job, ttl_ms, **self.clock)

    def await_done(self, job: str) -> None:
        self.store.await_done([job], **self.clock)

    def set_priority(self, job: str, priority: float) -> None:
        self.store.set_priority(job, priority, **self.clock)

    def redrive(self, job: str, force: bool) -> None:
        self.store.redrive([job], force=force, **self.clock)

    def delete(self, job: str) -> None:
        self.store.delete_letters([job])

    def purge(self, limit: int) -> None:
        self.store.purge(limit, **self.clock)

    def capacity(self, number: int) -> None:
        self.store.set_capacity(number or None, **self.clock)

    def pause(self) -> None:
        self.store.pause()

    def resume(self) -> None:
        self.store.resume()

    def wait(self, step_ms: int) -> None:
        self.now_ms += step_ms
