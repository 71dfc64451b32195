"""Rates and latency by how many jobs wait: they must not depend on it.

So many jobs wait, of ten priorities. Then, beside them: calls one by one, each timed, that enqueue a job of the next
priority ("enqueue") or claim the most urgent job and settle the one before, as a worker with one slot does ("claim").
Then a stretch of jobs more urgent than all others is enqueued in bulk and drained by a worker of 50 slots: the depth
meanwhile goes from what is named to that and the stretch, and back. Each job of the stretch ran exactly once, and as
many as were put in ran or wait still. "bytes a job" is what Redis's memory grew by.

Whenever a hash table of Redis's is full, at each power of two, Redis doubles it, a bucket with each command on it until
all are moved, which makes the commands dearer meanwhile. That depends on how the depth changes and not on the depth, so
it is let come to an end first; "filling", the rate at which the jobs came in, has it all.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
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

STRETCH, CALLS, WARM_UP = 25_000, 2_000, 2_000
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

JOB_BYTES, SPARE_BYTES = 500, 2 << 30
"""A depth is left out if the machine has not so much memory for each job, and to spare: else it would swap."""

RATES = {"jobs_per_s": "drain", "many_per_s": "enqueue_many", "enqueues_per_s": "enqueue", "claims_per_s": "claim"}
"""Value of a record -> what it is the rate of."""


class Depth(Benchmark):
    """Rates and latency by depth."""

    title = "The depth of the queue"

    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return each depth for which there is memory."""
        has = process.available_bytes()
        stretch, calls = (20_000, 500) if short else (STRETCH, CALLS)
        return [
            {"depth": depth, "stretch": stretch, "calls": calls}
            for depth in (SHORT_DEPTHS if short else DEPTHS)
            if depth * JOB_BYTES + SPARE_BYTES <= has
        ]

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Fill a queue, then measure beside what waits."""
        queue = gqueue.Queue("bench", url=server.url, capacity=tasks.queue.settings.capacity)
        task = queue.task(name=tasks.TASKS["no-op", False].name, result_ttl=0)(lambda number: number)
        depth, calls, stretch = cell["depth"], cell["calls"], cell["stretch"]
        task.enqueue(-1)
        queue.purge()
        before = server.used_memory()
        start = time.perf_counter()
        tasks.enqueue_all(queue, spread_out(task, depth))
        filling_s = time.perf_counter() - start
        rest(server, depth)
        job_bytes = (server.used_memory() - before) / depth
        enqueues = enqueue_one_by_one(task, calls)
        claims = claim_by_hand(queue, calls)
        first, urgent = task.options(priority=-2), task.options(priority=-1)
        tasks.enqueue_all(queue, (first.job(-1) for _ in range(WARM_UP)))
        start = time.perf_counter()
        tasks.enqueue_all(queue, (urgent.job(number) for number in range(stretch)))
        many_s = time.perf_counter() - start
        drained = drain(server, stretch)
        check(queue, put_in=1 + depth + calls + WARM_UP + stretch)
        queue.close()
        return {
            "filling_per_s": round(depth / filling_s, 1),
            "job_bytes": round(job_bytes, 1),
            "many_per_s": round(stretch / many_s, 1),
            **drained,
            **latency("enqueue", enqueues),
            **latency("claim", claims),
        }

    def line(self, record: Record) -> str:
        """Return the rates and latencies."""
        rates = ", ".join(f"{what} {record[name]:,.0f}/s" for name, what in RATES.items())
        return f"{record['depth']:9,} waiting: {rates} (ZPOPMIN {record['zpopmin_per_s']:,}/s)"

    def tables(self, records: Sequence[Record]) -> str:
        """Return a row for each depth: rates, then latencies."""
        rates, waits = [], []
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
        waiting = ["waiting", "claim, p50", "p99", "enqueue, p50", "p99", "PING/s"]
        return "\n\n".join([table(head, rates, text_columns=0), table(waiting, waits, text_columns=0)])

    def plot(self, records: Sequence[Record], figure: "Figure") -> bool:
        """Draw rates and latencies by depth."""
        figure.set_size_inches(10, 4.5)
        left, right = figure.subplots(1, 2)
        for name in ("jobs_per_s", "many_per_s"):
            whiskers(left, _by_depth(records, name), RATES[name])
        for what in ("claim", "enqueue"):
            for share in ("p50", "p99"):
                whiskers(right, _by_depth(records, f"{what}_{share}_us"), f"{what}, {share}")
        left.set(xscale="log", xlabel="jobs that wait", ylabel="jobs/s", ylim=0)
        right.set(xscale="log", xlabel="jobs that wait", ylabel="us a call", ylim=0)
        for panel in (left, right):
            panel.grid(alpha=0.3)
            panel.legend()
        return True

    def targets(self, records: Sequence[Record]) -> list[Target]:
        """Return that each rate at the greatest depth is that at the least: nine tenths of it, in the same rounds."""
        depths = sorted({record["depth"] for record in records})
        if len(depths) < 2:
            return []
        least, most = select(records, depth=depths[0]), select(records, depth=depths[-1])
        beside = f"{depths[-1]:,} waiting to {depths[0]:,}"
        return [
            at_least(f"{what}, {beside}", 90, ratios(most, least, name), "%", digits=1) for name, what in RATES.items()
        ]


def ratios(most: Sequence[Record], least: Sequence[Record], name: str) -> list[float]:
    """Return the value *name* of *most* in percent of that of *least*, round by round."""
    return [100 * one[name] / other[name] for one, other in zip(most, least, strict=False)]


def spread_out(task: "Task[[int], int]", count: int) -> "Iterator[PreparedJob[int]]":
    """Return *count* jobs that are not noted, of PRIORITIES priorities in turn."""
    options = [task.options(priority=priority) for priority in range(PRIORITIES)]
    return (options[number % PRIORITIES].job(-1) for number in range(count))


def rest(server: Server, depth: int) -> None:
    """Have Redis end the enlarging of its tables: there are not more buckets to move than jobs."""
    name = Keys("bench")
    for _ in range(0, depth, 100_000):
        server.client.eval(TOUCH, 2, name("jobs"), name("ready"), min(depth, 100_000))


def enqueue_one_by_one(task: "Task[[int], int]", count: int) -> list[float]:
    """Enqueue *count* jobs; return the seconds of each call."""
    options = [task.options(priority=priority) for priority in range(PRIORITIES)]
    seconds = []
    for number in range(count):
        start = time.perf_counter()
        options[number % PRIORITIES].enqueue(-1)
        seconds.append(time.perf_counter() - start)
    return seconds


def latency(what: str, seconds: Sequence[float]) -> dict[str, float]:
    """Return rate and percentiles of calls one by one."""
    return {
        f"{what}s_per_s": round(len(seconds) / sum(seconds), 1),
        f"{what}_p50_us": round(percentile(seconds, 50) * 1e6, 1),
        f"{what}_p99_us": round(percentile(seconds, 99) * 1e6, 1),
    }


def claim_by_hand(queue: gqueue.Queue, count: int) -> list[float]:
    """Run *count* jobs as a worker of one slot does, without the worker; return the seconds of each claim."""
    store, seconds = queue.open_store(), []
    done: list[str] = []
    store.register("bench")
    for call in range(1, count + 1):
        start = time.perf_counter()
        claim = store.settle_and_claim("bench", call, done, (), 1)
        seconds.append(time.perf_counter() - start)
        done = [job.id for job in claim.jobs]
    store.settle_and_claim("bench", count + 1, done, (), 0)
    store.leave("bench", 1)
    store.close()
    return seconds


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


def _by_depth(records: Sequence[Record], name: str) -> Mapping[float, list[float]]:
    return {depth: values(runs, name) for (depth,), runs in sorted(group(records, "depth").items())}


BENCHMARK = Depth()
