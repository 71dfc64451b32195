"""What a waiting job takes in Redis, and what worker processes take.

Redis: what so many waiting no-op jobs add to its memory ("in all"), and what it tells of two keys, which leaves out a
part; then what is left, in all, when a worker has run them: records of calls, which expire. The arguments are none, or
a number and perhaps a text.

Worker: RSS of one process before its first job ("idle"), at most while every slot holds a job of 3 s ("busy"), and when
it is idle again after those and ten no-op jobs a slot ("after").

Many jobs: RSS of a worker of 50 slots, sampled, while one producer enqueues no-op jobs and waits for room, so that
Redis stays small.

In every run as many jobs were enqueued as claimed, and as recorded as succeeded; and no key was left but counters,
and perhaps a hint, which the next worker takes. The many jobs have numbers, and each ran exactly once; what the worker
notes of them, a byte a job in a file that it maps, is not counted as its memory.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gqueue
from benchmarks import notes, process
from benchmarks.benchmark import (
    Benchmark,
    BenchmarkError,
    Cell,
    Record,
    Target,
    at_most,
    command,
    group,
    same_rounds,
    select,
    spread,
    table,
    values,
    whiskers,
)
from benchmarks.server import Server
from benchmarks.worker import Worker, await_workers, produce, start_producer
from gqueue.store.keys import Keys

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MB, KB = 1e6, 1e3

PAYLOADS = (None, 0, 100, 1_000)
"""Bytes of text that a job carries beside a number; None: it has no arguments."""

SLOTS, SHORT_SLOTS = (50, 1_000, 10_000), (50, 1_000)
WAITING, SHORT_WAITING = 100_000, 20_000
MANY, SHORT_MANY = 10_000_000, 300_000

CAPACITY = 20_000
"""Of the queue while many jobs go through it."""

SAMPLE_JOBS = 50_000
"""Least jobs from one sample to the next."""

WARM_JOBS = 100_000
"""After so many all that a worker allocates once is there: drift is counted from here."""

STATES = ("idle", "busy", "after")
KEYS = ("jobs", "ready")


class MemoryUse(Benchmark):
    """Bytes of Redis and of workers."""

    title = "Memory"

    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return cells of three kinds."""
        waiting = SHORT_WAITING if short else WAITING
        return [
            *({"of": "Redis", "payload": payload, "jobs": waiting} for payload in PAYLOADS),
            *({"of": "worker", "slots": slots} for slots in (SHORT_SLOTS if short else SLOTS)),
            {"of": "many jobs", "slots": 50, "jobs": SHORT_MANY if short else MANY},
        ]

    def rounds(self, cell: Cell, rounds: int) -> int:
        """Return 1 for the minutes of many jobs: a run has its own samples."""
        return 1 if cell["of"] == "many jobs" else rounds

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Measure a cell by its kind."""
        queue = gqueue.Queue("bench", url=server.url)
        try:
            match cell["of"]:
                case "Redis":
                    return of_redis(server, queue, cell["payload"], cell["jobs"])
                case "worker":
                    return of_worker(server, queue, cell["slots"])
                case _:
                    return of_many_jobs(server, queue, cell["slots"], cell["jobs"])
        finally:
            queue.close()

    def line(self, record: Record) -> str:
        """Return what was measured."""
        match record["of"]:
            case "Redis":
                return f"{named(record['payload'])}: {record['job_bytes']:,.0f} bytes a waiting job"
            case "worker":
                rss = ", ".join(f"{state} {record[f'{state}_bytes'] / MB:.1f} MB" for state in STATES)
                return f"{record['slots']:6,} slots: {rss}"
            case _:
                first, drift = after_warm_up(record)[0], drift_bytes(record)
                return f"{record['jobs']:,} jobs: from {first / MB:.1f} MB on, at most {drift / MB:+.2f} MB"

    def tables(self, records: Sequence[Record]) -> str:
        """Return a table for each kind."""
        waiting = [
            [
                named(payload),
                f"{jobs:,}",
                spread(values(runs, "job_bytes")),
                *(spread(values(runs, f"{key}_key_bytes")) for key in KEYS),
                spread(values(runs, "left_bytes")),
            ]
            for (payload, jobs), runs in group(select(records, of="Redis"), "payload", "jobs").items()
        ]
        workers = [
            [f"{slots:,}", *(spread(_in(MB, runs, f"{state}_bytes"), digits=1, unit=" MB") for state in STATES)]
            for (slots,), runs in group(select(records, of="worker"), "slots").items()
        ]
        many = []
        for run in select(records, of="many jobs"):
            rss = after_warm_up(run)
            shown = (rss[0], rss[-1], min(rss), max(rss))
            many.append(
                [
                    f"{run['jobs']:,}",
                    *(f"{size / MB:.1f} MB" for size in shown),
                    f"{drift_bytes(run) / MB:+.2f} MB",
                    *(f"{max(run[f'{which}_bytes'], default=0) / MB:.1f} MB" for which in ("producer", "redis")),
                ]
            )
        first = f"after {WARM_JOBS:,}"
        parts = [
            (["arguments", "jobs", "bytes a job, in all", *(f"key {key}" for key in KEYS), "left"], waiting),
            (["slots", *STATES], workers),
            (["jobs", first, "at the end", "least", "most", "drift", "producer, most", "Redis, most"], many),
        ]
        return "\n\n".join(table(head, rows, text_columns=0) for head, rows in parts if rows)

    def plot(self, records: Sequence[Record], figure: "Figure") -> bool:
        """Draw the worker's memory by slots, and over many jobs."""
        figure.set_size_inches(10, 4.5)
        left, right = figure.subplots(1, 2)
        workers = group(select(records, of="worker"), "slots")
        for state in STATES:
            sizes = {slots: _in(MB, runs, f"{state}_bytes") for (slots,), runs in workers.items()}
            whiskers(left, sizes, state)
        for run in select(records, of="many jobs"):
            done = [ran / 1e6 for ran in run["ran"]]
            right.plot(done, [size / MB for size in run["worker_bytes"]], label="worker, 50 slots")
            producer = run["producer_bytes"]  # it ends before the worker
            right.plot(done[: len(producer)], [size / MB for size in producer], label="producer")
            right.plot(done, [size / MB for size in run["redis_bytes"]], label="Redis's data")
        left.set(xscale="log", xlabel="slots", ylabel="RSS, MB", ylim=0)
        right.set(xlabel="millions of jobs", ylim=0)
        for panel in (left, right):
            panel.grid(alpha=0.3)
            if panel.get_legend_handles_labels()[0]:  # not all kinds may have been measured
                panel.legend()
        return True

    def targets(self, records: Sequence[Record]) -> list[Target]:
        """Return those of Redis and of workers; what is named for many slots or jobs is not judged by fewer."""
        plain = select(records, of="Redis", payload=None)
        few, many = (select(records, of="worker", slots=slots) for slots in (SLOTS[0], SLOTS[-1]))
        more = [size / KB for size in _a_slot(few, many, SLOTS[-1] - SLOTS[0])]
        drift = [abs(drift_bytes(run)) / MB for run in select(records, of="many jobs", jobs=MANY)]
        return [
            at_most("Redis, a no-op job that waits", 250, values(plain, "job_bytes"), "bytes"),
            at_most(f"worker, {SLOTS[0]} slots, at most", 50, [max_bytes(run) / MB for run in few], "MB", digits=1),
            at_most(f"each slot beyond, up to {SLOTS[-1]:,}, at most", 12, more, "KB", digits=1),
            at_most(f"worker over {MANY:,} jobs, away from {WARM_JOBS:,}", 2, drift, "MB", digits=2),
        ]


def named(payload: int | None) -> str:
    """Return the arguments of a job in words."""
    return "none" if payload is None else f"a number, {payload:,} B" if payload else "a number"


def of_redis(server: Server, queue: gqueue.Queue, payload: int | None, count: int) -> dict[str, Any]:
    """Have *count* jobs wait, then run."""
    warm_up = 1_000
    run_all(server, warm_up, payload)  # scripts, counters, connections: what is there once and for all
    check(server, queue, warm_up)
    before = server.used_memory()
    produce(server, {}, count=0, warm_up=count, **what(payload))
    waiting, name = server.used_memory(), Keys("bench")
    keys = {key: server.client.memory_usage(name(key), samples=0) or 0 for key in KEYS}
    run_all(server, 0, payload)
    check(server, queue, warm_up + count)
    return {
        "job_bytes": round((waiting - before) / count, 1),
        **{f"{key}_key_bytes": round(size / count, 1) for key, size in keys.items()},
        "left_bytes": server.used_memory() - before,
    }


def what(payload: int | None) -> dict[str, Any]:
    """Return the arguments of `produce` for jobs with so many bytes beside a number; None: without any argument."""
    return {"kind": "nothing" if payload is None else "no-op", "results": False, "payload": payload or 0}


def run_all(server: Server, count: int, payload: int | None) -> None:
    """Enqueue *count* jobs, and have a worker run all that wait."""
    produce(server, {}, count=0, warm_up=count, **what(payload))
    with Worker(server, 50, burst=True) as worker:
        worker.wait()


def of_worker(server: Server, queue: gqueue.Queue, slots: int) -> dict[str, Any]:
    """Have a worker run a job on every slot at once, then many more."""
    with Worker(server, slots) as worker:
        await_workers(queue, 1, worker)
        await_idle(server, worker)
        sizes = {"idle": process.memory(worker.pid).rss_bytes, "busy": 0}
        produce(server, {}, kind="3 s", results=False, count=0, warm_up=slots)
        most = 0

        def look() -> int:
            nonlocal most
            stats = queue.stats()
            most = max(most, stats.running)
            sizes["busy"] = max(sizes["busy"], process.memory(worker.pid).rss_bytes)
            return succeeded(stats)

        await_all(look, slots, worker)
        if most < slots:
            raise BenchmarkError(f"at most {most:,} of {slots:,} slots ran a job at once")
        produce(server, {}, kind="no-op", results=False, count=0, warm_up=10 * slots)
        await_all(lambda: succeeded(queue.stats()), 11 * slots, worker)
        await_idle(server, worker)
        sizes["after"] = process.memory(worker.pid).rss_bytes
    check(server, queue, 11 * slots)
    return {f"{state}_bytes": size for state, size in sizes.items()}


def of_many_jobs(server: Server, queue: gqueue.Queue, slots: int, count: int) -> dict[str, Any]:
    """Sample the processes while *count* jobs go through."""
    queue.set_capacity(CAPACITY)
    every = max(SAMPLE_JOBS, count // 100)
    ran: list[int] = []
    sizes: dict[str, list[int]] = {"worker_bytes": [], "producer_bytes": [], "redis_bytes": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noting = {"GQUEUE_BENCH_COUNT": str(count), "GQUEUE_BENCH_NOTES": name}
        with (
            Worker(server, slots, environ=noting) as worker,
            start_producer(server, {}, kind="no-op", results=False, count=count, warm_up=0) as producer,
        ):

            def look() -> int:
                done = succeeded(queue.stats())
                if done >= every * (len(ran) + 1):
                    ran.append(done)
                    own = process.memory(worker.pid).rss_bytes - notes.mapped_bytes(folder, worker.pid)
                    sizes["worker_bytes"].append(own)
                    sizes["redis_bytes"].append(server.used_memory())
                    if producer.poll() is None:
                        sizes["producer_bytes"].append(process.memory(producer.pid).rss_bytes)
                return done

            try:
                await_all(look, count, worker, every_s=0.2)
            finally:
                producer.kill()  # it is no more if all went well
        wrong = notes.read(folder, count).wrong
    if wrong:
        raise BenchmarkError(f"of {count:,} jobs {wrong}")
    check(server, queue, count)
    return {"ran": ran, **sizes}


def await_idle(server: Server, worker: Worker) -> None:
    """Wait until the worker waits for a hint: it has settled everything, and has nothing to claim."""
    deadline = time.monotonic() + 60
    while not server.client.info("clients")["blocked_clients"]:
        if time.monotonic() > deadline or not worker.alive():
            raise BenchmarkError("the worker does not come to rest")
        time.sleep(0.02)


def await_all(look: Callable[[], int], count: int, worker: Worker, every_s: float = 0.05) -> None:
    """Call *look*, which returns how many jobs are done, until it is *count*."""
    done, deadline = 0, 0.0
    while done < count:
        if (now := look()) > done or not deadline:
            done, deadline = now, time.monotonic() + 60
        if time.monotonic() > deadline or not worker.alive():
            raise BenchmarkError(f"{done:,} of {count:,} jobs are done, and no more")
        time.sleep(every_s)


def succeeded(stats: gqueue.Stats) -> int:
    """Return how many jobs are done."""
    counters: dict[str, int] = stats.counters
    return counters.get("succeeded", 0)


def check(server: Server, queue: gqueue.Queue, count: int) -> None:
    """Raise BenchmarkError if other than *count* jobs were enqueued, claimed and done, or anything is left."""
    counters, left = queue.stats().counters, server.keys_left()
    if left or any(counters.get(name) != count for name in ("enqueued", "claimed", "succeeded")):
        raise BenchmarkError(f"of {count:,} jobs: {counters}; left behind: keys {left[:5]}")


def after_warm_up(record: Record) -> list[int]:
    """Return what the worker of a run of many jobs took from WARM_JOBS on."""
    pairs = zip(record["ran"], record["worker_bytes"], strict=True)
    return [size for ran, size in pairs if ran >= WARM_JOBS]


def drift_bytes(record: Record) -> int:
    """Return how far the worker's memory went away from what it was after the warm-up: the greatest way, signed."""
    first, *others = after_warm_up(record)
    return max((size - first for size in others), key=abs, default=0)


def max_bytes(record: Record) -> int:
    """Return the most that the worker of a run took in any state."""
    sizes: list[int] = [record[f"{state}_bytes"] for state in STATES]
    return max(sizes)


def _a_slot(few: Sequence[Record], many: Sequence[Record], slots: int) -> list[float]:
    """Return what each of so many *slots* more takes, round by round."""
    return [(max_bytes(more) - max_bytes(less)) / slots for less, more in same_rounds(few, many)]


def _in(unit: float, records: Sequence[Record], name: str) -> list[float]:
    return [size / unit for size in values(records, name)]


BENCHMARK = MemoryUse()

if __name__ == "__main__":
    command("memory")
