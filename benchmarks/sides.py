"""Two queues of unlike depth, each on a server of its own, that are measured in turns: see depth.py."""

import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import gqueue
from benchmarks import notes, tasks
from benchmarks.benchmark import BenchmarkError, percentile
from benchmarks.server import Server
from benchmarks.worker import Worker
from gqueue.store.codec import decode_record
from gqueue.store.keys import Keys

WARM_UP = 2_000
"""Jobs that the worker runs first, which are not measured."""

OVERRUN = 10_000
"""Jobs that a worker may run beyond the stretch, before it is stopped, where these are the lead of the next turn."""

PRIORITIES = 10

TOUCH = """
for _ = 1, ARGV[1] do
  redis.call('HEXISTS', KEYS[1], '')
  redis.call('ZSCORE', KEYS[2], '')
end
"""
"""Looks for nothing in both tables that grow with the depth; each look moves a bucket of one that is enlarged."""

PIECE, BULK = 100, 5_000
"""Calls one by one, and jobs of one call in bulk, until it is the turn of the other side: some 20 and 70 ms."""

_READY, _JOBS = Keys("bench")("ready"), Keys("bench")("jobs")


class Side:
    """A queue on a server of its own in which *depth* jobs wait; its methods are called in turn with another's.

    In each turn are claimed, and then drained, jobs more urgent than the others: the *lead*, of which the last are for
    the worker to warm up, then the *stretch*. Where there is room, those of all turns are put in before the others, and
    wait until it is theirs; else just before they are needed.

    Attributes: server; stretch, how many jobs it has; waited, whether those of all turns are put in first; turns, what
    was measured in each.
    """

    def __init__(self, server: Server, depth: int, *, turns: int, stretch: int, calls: int) -> None:
        self.turns: list[dict[str, float]] = []
        self.server, self._depth = server, depth
        self._count, self.stretch, self._calls = turns, stretch, calls
        self.waited = depth >= turns * (calls + WARM_UP + OVERRUN + stretch)
        self._queue = gqueue.Queue("bench", url=server.url, capacity=tasks.queue.settings.capacity)
        self._task = self._queue.task(name=tasks.TASKS["no-op", False].name, result_ttl=0)(lambda number: number)
        self._put_in = 0

    def fill(self) -> dict[str, float]:
        """Put in the jobs that wait; return the rate and their memory."""
        self._task.enqueue(-1)
        self._queue.purge()
        self._put_in += 1
        before = self.server.used_memory()
        start = time.perf_counter()
        for number in range(self._count if self.waited else 0):
            lead = self._priority(number)
            self._enqueue(self._calls + WARM_UP + OVERRUN, [lead])
            self._enqueue(self.stretch, [lead + 1], numbered=True)
        self._top_up()
        filling_s = time.perf_counter() - start
        rest(self.server, self._depth)
        return {
            "filling_per_s": round(self._depth / filling_s, 1),
            "job_bytes": round((self.server.used_memory() - before) / self._depth, 1),
        }

    def begin(self) -> None:
        """Make the depth what it is to be, with just as much of a lead as this turn needs."""
        lead = self._priority(len(self.turns))
        if self.waited:
            left = self.server.client.zcount(_READY, "-inf", lead) - self._calls - WARM_UP
            if left < 0:
                raise BenchmarkError(f"the last worker ran {OVERRUN - left:,} jobs too many, before it was stopped")
            deque(claim_by_hand(self._queue, left, lead, limit=1_000), 0)
            self._top_up()
        else:
            self._queue.purge()
            self._top_up()
            self._enqueue(self._calls + WARM_UP, [lead])
        rest(self.server, self._depth + self._calls + WARM_UP + self.stretch)  # purging makes tables smaller

    def enqueue(self) -> Iterator[float]:
        """Enqueue jobs one by one; yield the seconds of each call."""
        options = [self._task.options(priority=priority) for priority in range(PRIORITIES)]
        self._put_in += self._calls
        for number in range(self._calls):
            start = time.perf_counter()
            options[number % PRIORITIES].enqueue(-1)
            yield time.perf_counter() - start

    def claim(self) -> Iterator[float]:
        """Run jobs of the lead one by one; yield the seconds of each claim."""
        return claim_by_hand(self._queue, self._calls, self._priority(len(self.turns)))

    def enqueue_many(self) -> Iterator[float]:
        """Enqueue in bulk the stretch, or, if it waits already, as many of the least urgent; yield the seconds."""
        # The least urgent stay, in place of the stretch that is drained.
        priority = PRIORITIES - 1 if self.waited else self._priority(len(self.turns)) + 1
        options = self._task.options(priority=priority)
        self._put_in += self.stretch
        for begin in range(0, self.stretch, BULK):
            numbers = range(begin, min(begin + BULK, self.stretch))
            start = time.perf_counter()
            self._queue.enqueue_many(options.job(-1 if self.waited else number) for number in numbers)
            yield time.perf_counter() - start

    def drain(self) -> dict[str, Any]:
        """Have a worker run the rest of the lead and the stretch; return the rate and what it took."""
        rest(self.server, self.stretch)
        return drain(self.server, self.stretch, self._priority(len(self.turns)) + 1)

    def end(self) -> dict[str, float]:
        """Return the median of each value of the turns; raise BenchmarkError if a job is missing."""
        check(self._queue, self._put_in)
        self._queue.close()
        return medians(self.turns)

    def _priority(self, number: int) -> int:
        """Return the priority of the lead of a turn; that of its stretch is the next, and all are below 0."""
        return 2 * (number - self._count)

    def _top_up(self) -> None:
        self._enqueue(self._depth - self.server.client.zcard(_READY), range(PRIORITIES))

    def _enqueue(self, count: int, priorities: Sequence[int], *, numbered: bool = False) -> None:
        options = [self._task.options(priority=priority) for priority in priorities]
        jobs = (options[number % len(options)].job(number if numbered else -1) for number in range(count))
        tasks.enqueue_all(self._queue, jobs)
        self._put_in += max(0, count)


def turn(sides: Sequence[Side]) -> None:
    """Measure calls of each kind one by one, then in bulk, on each of the sides."""
    for side in sides:
        side.begin()
    with apart([side.server.pid for side in sides]):
        enqueues = alternate([side.enqueue() for side in sides], PIECE)
        claims = alternate([side.claim() for side in sides], PIECE)
    many = alternate([side.enqueue_many() for side in sides], 1)
    for number, side in enumerate(sides):
        side.turns.append(
            {
                "many_per_s": round(side.stretch / sum(many[number]), 1),
                **side.drain(),
                **latency("enqueue", enqueues[number]),
                **latency("claim", claims[number]),
            }
        )


@contextmanager
def apart(servers: Sequence[int]) -> Iterator[None]:
    """Keep the processes *servers* on one core and this one on another, if there are two; undo it at the end.

    A round trip takes 100 or 180 us by where the scheduler puts both ends, which it may decide otherwise for each side:
    of 6 runs where 1,000 jobs waited on both, ratios of p50 were 71 to 114%, and kept apart 98 to 102%.
    """
    before = {pid: os.sched_getaffinity(pid) for pid in (0, *servers)}
    cores = sorted(before[0])
    if len(cores) < 2:
        yield
        return
    try:
        for pid in before:
            os.sched_setaffinity(pid, {cores[1] if pid else cores[0]})
        yield
    finally:
        for pid, those in before.items():
            os.sched_setaffinity(pid, those)


def alternate(timed: Sequence[Iterator[float]], piece: int) -> list[list[float]]:
    """Take from each in turn *piece* values, until there are no more; return those of each."""
    taken: list[list[float]] = [[] for _ in timed]
    while parts := [part for part in (list(islice(one, piece)) for one in timed) if part]:
        for whole, part in zip(taken, parts, strict=True):
            whole += part
    return taken


def medians(turns: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each value of the turns."""
    return {name: round(statistics.median(one[name] for one in turns), 2) for name in turns[0]}


def claim_by_hand(queue: gqueue.Queue, count: int, priority: float, limit: int = 1) -> Iterator[float]:
    """Run *count* jobs as a worker of *limit* slots does, without the worker; yield the seconds of each claim.

    Raises BenchmarkError if a claim gives other than as many jobs as asked for, not seen before, of the *priority*.
    """
    store = queue.open_store()
    seen: set[str] = set()
    done: list[str] = []
    calls = range(0, count, limit)
    store.register("bench")
    try:
        for call, begin in enumerate(calls, 1):
            asked = min(limit, count - begin)
            start = time.perf_counter()
            claim = store.settle_and_claim("bench", call, done, (), asked)
            yield time.perf_counter() - start
            done = [job.id for job in claim.jobs]
            priorities = {decode_record(job.record).priority for job in claim.jobs}
            if len(done) != asked or seen.intersection(done) or priorities != {priority}:
                raise BenchmarkError(f"a claim of {asked} of priority {priority:g} gave {done} of {priorities}")
            seen.update(done)
        store.settle_and_claim("bench", len(calls) + 1, done, (), 0)
        store.leave("bench", 1)
    finally:
        store.close()


def rest(server: Server, jobs: int) -> None:
    """Have Redis end the resizing of its tables: not more buckets are to be moved than there were *jobs*."""
    for _ in range(0, jobs, 100_000):
        server.client.eval(TOUCH, 2, _JOBS, _READY, min(jobs, 100_000))


def latency(what: str, seconds: Sequence[float]) -> dict[str, float]:
    """Return rate and percentiles of calls one by one."""
    return {
        f"{what}s_per_s": round(len(seconds) / sum(seconds), 1),
        f"{what}_p50_us": round(percentile(seconds, 50) * 1e6, 1),
        f"{what}_p99_us": round(percentile(seconds, 99) * 1e6, 1),
    }


def drain(server: Server, count: int, priority: int) -> dict[str, Any]:
    """Have a worker run the *count* measured jobs, the last up to *priority*; then stop it, whatever it runs."""
    with tempfile.TemporaryDirectory() as folder:
        noting = {"GQUEUE_BENCH_COUNT": str(count), "GQUEUE_BENCH_NOTES": folder}
        before, waited = server.usage(), server.client.zcard(_READY)
        with Worker(server, 50, environ=noting) as worker:
            deadline = time.monotonic() + 120
            while server.client.zcount(_READY, "-inf", priority):
                if time.monotonic() > deadline or not worker.alive():
                    raise BenchmarkError("the worker does not drain the queue")
                time.sleep(0.01)
        used, ran = server.usage() - before, waited - server.client.zcard(_READY)
        report = notes.read(Path(folder), count)
    if report.wrong:
        raise BenchmarkError(report.wrong)
    return {
        "jobs_per_s": round(count / report.seconds, 1),
        "worker_cpu_us": report.cpu_us and round(report.cpu_us, 2),
        "redis_cpu_us": round(used.cpu_s / ran * 1e6, 2),
    }


def check(queue: gqueue.Queue, put_in: int) -> None:
    """Raise BenchmarkError if of the jobs that were put in any neither ran, nor waits, nor was purged."""
    stats = queue.stats()
    ran, purged = (stats.counters.get(name, 0) for name in ("succeeded", "purged"))
    if ran + purged + stats.depth != put_in or stats.running or stats.dead:
        raise BenchmarkError(f"of {put_in:,} jobs {ran:,} ran and {stats.depth:,} wait: {stats}")
