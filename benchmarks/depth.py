"""Rates and latency by how many jobs wait: they must not depend on it.

So many jobs wait, of ten priorities. Then, beside them: calls one by one, each timed, that enqueue a job of the next
priority ("enqueue") or claim the most urgent job and settle the one before, as a worker with one slot does ("claim").
Then a stretch of jobs more urgent than all others is enqueued in bulk and drained by a worker of 50 slots: the depth
meanwhile goes from what is named to that and the stretch, and back. Each job of the stretch ran exactly once, and as
many as were put in ran or wait still. "bytes a job" is what Redis's memory grew by.

The same is measured within the same seconds on a second redis-server on which 1,000 jobs wait: calls in pieces that
alternate, drains in turn. Rates "to 1,000 beside" are ratios of one run, which a slow minute of the machine does not
change; where 1,000 wait on both servers they tell how far such ratios are off by chance. All this is done several times
in a run, and a figure of the run is the median.

Whenever a hash table of Redis's is full, at each power of two, Redis doubles it, a bucket with each command on it until
all are moved, which makes the commands dearer meanwhile. That depends on how the depth changes and not on the depth, so
it is let come to an end first; "filling", the rate at which the jobs came in, has it all. But beside fewer than 100,000
the stretch itself has tables doubled, and beside 1,000 most often: a ratio may be above 100% for that.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gqueue
from benchmarks import notes, process, tasks
from benchmarks.benchmark import (
    Benchmark,
    BenchmarkError,
    Cell,
    Record,
    Target,
    at_least,
    group,
    percentile,
    select,
    spread,
    table,
    values,
    whiskers,
)
from benchmarks.server import Server
from benchmarks.worker import Worker
from gqueue.store.keys import Keys

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gqueue.task import PreparedJob, Task

DEPTHS = (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
SHORT_DEPTHS = (1_000, 100_000)

STRETCH, CALLS, WARM_UP = 25_000, 1_000, 2_000
"""Jobs that are measured in bulk and one by one, and those that the worker runs first, which are not.

So few that no table is enlarged from 100,000 on: with all of them there are less than 2^17 jobs, and less than 2^20.
"""

PRIORITIES = 10

TOUCH = """
for _ = 1, ARGV[1] do
  redis.call('HEXISTS', KEYS[1], '')
  redis.call('ZSCORE', KEYS[2], '')
end
"""
"""Looks for nothing in both tables that grow with the depth; each look moves a bucket of one that is enlarged."""

WEIGHED = 100_000
"""Jobs from which on their memory is told: of fewer, it does not stand out from what else a server does."""

TURNS, SHORT_TURNS = 4, 2
"""Turns in a run: an even number, that each side is the first in half of them."""

PIECE, BULK = 100, 5_000
"""Calls one by one, and jobs of one call in bulk, until it is the turn of the other side: some 20 and 70 ms."""

BESIDE = 1_000
"""Jobs that wait on the other side."""

JOB_BYTES, SPARE_BYTES = 500, 2 << 30
"""A depth is left out if the machine has not so much memory for each job, and to spare: else it would swap."""

RATES = {"jobs_per_s": "drain", "many_per_s": "enqueue_many", "enqueues_per_s": "enqueue", "claims_per_s": "claim"}
"""Value of a record -> what it is the rate of."""

AT_BESIDE = "at_1000_"
"""With it begin the names of what was measured on the other side."""


class Depth(Benchmark):
    """Rates and latency by depth."""

    title = "The depth of the queue"

    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return each depth for which there is memory."""
        has = process.available_bytes()
        stretch, calls, turns = (20_000, 500, SHORT_TURNS) if short else (STRETCH, CALLS, TURNS)
        return [
            {"depth": depth, "turns": turns, "stretch": stretch, "calls": calls}
            for depth in (SHORT_DEPTHS if short else DEPTHS)
            if depth * JOB_BYTES + SPARE_BYTES <= has
        ]

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Fill a queue and a small one beside, then measure both in turns."""
        with Server(server.settings) as other:
            sides = [Side(server, cell["depth"]), Side(other, BESIDE)]
            filled, _ = (side.fill() for side in sides)
            for number in range(cell["turns"]):
                turn(sides[::-1] if number % 2 else sides, cell["stretch"], cell["calls"])
            measured, beside = (side.end() for side in sides)
        return {**filled, **measured, **{f"{AT_BESIDE}{name}": value for name, value in beside.items()}}

    def line(self, record: Record) -> str:
        """Return the rates, and what they are to those beside."""
        rates = ", ".join(
            f"{what} {record[name]:,.0f}/s = {_percent([record], name)[0]:.0f}%" for name, what in RATES.items()
        )
        return f"{record['depth']:9,} waiting: {rates} (ZPOPMIN {record['zpopmin_per_s']:,}/s)"

    def tables(self, records: Sequence[Record]) -> str:
        """Return a row for each depth: rates, then these to those beside, then latencies."""
        rates, ratios, waits = [], [], []
        for (depth,), runs in group(records, "depth").items():
            rates.append(
                [
                    f"{depth:,}",
                    spread(values(runs, "jobs_per_s")),
                    f"{statistics.median(values(runs, 'jobs_per_s', per='zpopmin_per_s')):.2f}",
                    *(f"{statistics.median(values(runs, f'{whose}_cpu_us')):.1f} us" for whose in ("worker", "redis")),
                    spread(values(runs, "many_per_s")),
                    spread(values(runs, "filling_per_s")),
                    spread(values(runs, "job_bytes")) if depth >= WEIGHED else "",
                ]
            )
            ratios.append(
                [f"{depth:,}", *(spread(_percent(runs, name), digits=1, unit="%") for name in RATES)],
            )
            waits.append(
                [f"{depth:,}"]
                + [
                    f"{statistics.median(values(runs, f'{what}_{share}_us')):,.0f} us"
                    for what in ("claim", "enqueue")
                    for share in ("p50", "p99")
                ]
                + [f"{statistics.median(values(runs, 'ping_per_s')):,.0f}"]
            )
        head = [
            "waiting",
            "drain, jobs/s",
            "x ZPOPMIN",
            "worker CPU",
            "Redis CPU",
            "enqueue_many, jobs/s",
            "filling, jobs/s",
            "bytes a job",
        ]
        beside = [f"waiting, to {BESIDE:,} beside", *RATES.values()]
        waiting = ["waiting", "claim, p50", "p99", "enqueue, p50", "p99", "PING/s"]
        parts = ((head, rates), (beside, ratios), (waiting, waits))
        return "\n\n".join(table(titles, rows, text_columns=0) for titles, rows in parts)

    def plot(self, records: Sequence[Record], figure: "Figure") -> bool:
        """Draw rates, to those beside, and latencies by depth."""
        figure.set_size_inches(10, 4.5)
        left, right = figure.subplots(1, 2)
        by_depth = {depth: runs for (depth,), runs in sorted(group(records, "depth").items())}
        for name, what in RATES.items():
            whiskers(left, {depth: _percent(runs, name) for depth, runs in by_depth.items()}, what)
        for what in ("claim", "enqueue"):
            for share in ("p50", "p99"):
                name = f"{what}_{share}_us"
                whiskers(right, {depth: values(runs, name) for depth, runs in by_depth.items()}, f"{what}, {share}")
        left.set(xscale="log", xlabel="jobs that wait", ylabel=f"% of the rate where {BESIDE:,} wait", ylim=0)
        right.set(xscale="log", xlabel="jobs that wait", ylabel="us a call", ylim=0)
        for panel in (left, right):
            panel.grid(alpha=0.3)
            panel.legend()
        return True

    def targets(self, records: Sequence[Record]) -> list[Target]:
        """Return that each rate at the greatest depth is nine tenths of that beside, in the same run, or more."""
        most = max((record["depth"] for record in records), default=0)
        if most <= BESIDE:
            return []
        runs = select(records, depth=most)
        return [
            at_least(f"{what}, {most:,} waiting to {BESIDE:,}", 90, _percent(runs, name), "%", digits=1)
            for name, what in RATES.items()
        ]


def _percent(records: Sequence[Record], name: str) -> list[float]:
    return [100 * ratio for ratio in values(records, name, per=f"{AT_BESIDE}{name}")]


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


BENCHMARK = Depth()
