"""Two queues of unlike depth, each on a server of its own, that are measured in turns: see depth.py."""

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gqueue
from benchmarks import notes, tasks
from benchmarks.benchmark import BenchmarkError, percentile
from benchmarks.server import Server
from benchmarks.worker import Worker
from gqueue.store.keys import Keys

if TYPE_CHECKING:
    from gqueue.task import PreparedJob, Task

WARM_UP = 2_000
"""Jobs that the worker runs first, which are not measured."""

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


class Side:
    """A queue on a server of its own in which *depth* jobs wait; its methods are called in turn with another's.

    Attributes: server; turns, what was measured in each.
    """

    def __init__(self, server: Server, depth: int) -> None:
        self.turns: list[dict[str, float]] = []
        self.server, self._depth = server, depth
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
        self.top_up()
        filling_s = time.perf_counter() - start
        rest(self.server, self._depth)
        return {
            "filling_per_s": round(self._depth / filling_s, 1),
            "job_bytes": round((self.server.used_memory() - before) / self._depth, 1),
        }

    def top_up(self) -> None:
        """Put in what is missing to the depth: all, or what the worker of the last turn ran beyond the stretch."""
        missing = self._depth - self.server.client.zcard(Keys("bench")("ready"))
        tasks.enqueue_all(self._queue, spread_out(self._task, missing))
        self._put_in += missing

    def enqueue(self, count: int) -> Iterator[float]:
        """Enqueue *count* jobs one by one; yield the seconds of each call."""
        options = [self._task.options(priority=priority) for priority in range(PRIORITIES)]
        self._put_in += count
        for number in range(count):
            start = time.perf_counter()
            options[number % PRIORITIES].enqueue(-1)
            yield time.perf_counter() - start

    def claim(self, count: int) -> Iterator[float]:
        """Run *count* jobs as a worker of one slot does, without the worker; yield the seconds of each claim."""
        store = self._queue.open_store()
        done: list[str] = []
        store.register("bench")
        for call in range(1, count + 1):
            start = time.perf_counter()
            claim = store.settle_and_claim("bench", call, done, (), 1)
            yield time.perf_counter() - start
            done = [job.id for job in claim.jobs]
        store.settle_and_claim("bench", count + 1, done, (), 0)
        store.leave("bench", 1)
        store.close()

    def enqueue_many(self, count: int) -> Iterator[float]:
        """Enqueue jobs for the worker to warm up, then the stretch of *count*; yield the seconds of each call."""
        first, urgent = self._task.options(priority=-2), self._task.options(priority=-1)
        self._queue.enqueue_many(first.job(-1) for _ in range(WARM_UP))
        self._put_in += WARM_UP + count
        for begin in range(0, count, BULK):
            start = time.perf_counter()
            self._queue.enqueue_many(urgent.job(number) for number in range(begin, min(begin + BULK, count)))
            yield time.perf_counter() - start

    def end(self) -> dict[str, float]:
        """Return the median of each value of the turns; raise BenchmarkError if a job is missing."""
        check(self._queue, self._put_in)
        self._queue.close()
        return medians(self.turns)


def turn(sides: Sequence[Side], stretch: int, calls: int) -> None:
    """Measure *calls* of each kind one by one, then the *stretch* in bulk, on each of the sides."""
    for side in sides:
        side.top_up()
        rest(side.server, WARM_UP + stretch)  # the last drain may have had tables made smaller
    enqueues = alternate([side.enqueue(calls) for side in sides], PIECE)
    claims = alternate([side.claim(calls) for side in sides], PIECE)
    many = alternate([side.enqueue_many(stretch) for side in sides], 1)
    for number, side in enumerate(sides):
        side.turns.append(
            {
                "many_per_s": round(stretch / sum(many[number]), 1),
                **drain(side.server, stretch),
                **latency("enqueue", enqueues[number]),
                **latency("claim", claims[number]),
            }
        )


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


def spread_out(task: "Task[[int], int]", count: int) -> "Iterator[PreparedJob[int]]":
    """Return *count* jobs that are not noted, of PRIORITIES priorities in turn."""
    options = [task.options(priority=priority) for priority in range(PRIORITIES)]
    return (options[number % PRIORITIES].job(-1) for number in range(count))


def rest(server: Server, jobs: int) -> None:
    """Have Redis end the resizing of its tables: not more buckets are to be moved than there were *jobs*."""
    name = Keys("bench")
    for _ in range(0, jobs, 100_000):
        server.client.eval(TOUCH, 2, name("jobs"), name("ready"), min(jobs, 100_000))


def latency(what: str, seconds: Sequence[float]) -> dict[str, float]:
    """Return rate and percentiles of calls one by one."""
    return {
        f"{what}s_per_s": round(len(seconds) / sum(seconds), 1),
        f"{what}_p50_us": round(percentile(seconds, 50) * 1e6, 1),
        f"{what}_p99_us": round(percentile(seconds, 99) * 1e6, 1),
    }


def drain(server: Server, count: int) -> dict[str, Any]:
    """Have a worker run the *count* measured jobs, which are the next; then stop it, whatever it runs."""
    ready = Keys("bench")("ready")
    with tempfile.TemporaryDirectory() as folder:
        noting = {"GQUEUE_BENCH_COUNT": str(count), "GQUEUE_BENCH_NOTES": folder}
        before, waited = server.usage(), server.client.zcard(ready)
        with Worker(server, 50, environ=noting) as worker:
            deadline = time.monotonic() + 120
            while server.client.zcount(ready, "-inf", "(0"):
                if time.monotonic() > deadline or not worker.alive():
                    raise BenchmarkError("the worker does not drain the queue")
                time.sleep(0.01)
        used, ran = server.usage() - before, waited - server.client.zcard(ready)
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
