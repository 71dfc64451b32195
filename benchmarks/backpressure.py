"""Producers that are twice as fast as the workers, and a queue of 100 places.

Jobs take 10 ms. There are twice as many producers as slots, in two processes, and each takes as long to make a job as a
slot takes to run it; then it enqueues the job, and is stalled while the queue is full. "batches": 10 producers make 100
jobs each at a time, as fast together, for one `enqueue_many`. "no-op batches": two producers bring 1,000 no-ops at a
time, as fast as they can.

"unbounded" is the same with room for all, just before: what the worker can do beside such producers, which are so much
"ahead". A stall is how long a call took; "ideal" is what it must be on average, if the worker is never short of jobs.
"fewest" is what the producer with the fewest jobs got in, to the one with the most. "depth" is the most that was seen
to wait, by looking every 10 ms.
"""

import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

from benchmarks import producers
from benchmarks.benchmark import (
    Benchmark,
    BenchmarkError,
    Cell,
    Record,
    command,
    group,
    spread,
    table,
    values,
)
from benchmarks.moments import at, distribution
from benchmarks.producers import Call, Plan
from benchmarks.server import Server
from benchmarks.timed import APP, UNBOUNDED, Run
from benchmarks.worker import Worker, await_workers
from gqueue.store.keys import Keys

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPACITY = 100
PROCESSES = 2
AHEAD = 2
JOB_S = 0.010

SECONDS = 5.0
SETTLING_S = 1.0
"""At the beginning, not counted."""

LOOK_S = 0.010

MOST_PER_S = 200_000
"""No-ops that all producers together may bring: a bound for the notes."""

CELLS: tuple[dict[str, Any], ...] = (
    {"slots": 10, "producers": "threads"},
    {"slots": 10, "producers": "greenlets"},
    {"slots": 50, "producers": "threads"},
    {"slots": 50, "producers": "greenlets"},
    {"slots": 50, "producers": "batches"},
    {"slots": 50, "producers": "no-op batches"},
)


@frozen
class Producers:
    """How many there are; how many jobs each makes at a time and what that takes; what a job takes to run."""

    count: int
    batch: int
    gap_s: float
    job_s: float


def producers_of(kind: str, slots: int) -> Producers:
    """Return those of one kind that are ahead of so many *slots*."""
    match kind:
        case "batches":
            return Producers(10, 100, 10 * 100 * JOB_S / (AHEAD * slots), JOB_S)
        case "no-op batches":
            return Producers(PROCESSES, 1_000, 0.0, 0.0)
        case _:
            return Producers(AHEAD * slots, 1, JOB_S, JOB_S)


def ideal_ms(made: Producers, jobs_per_s: float) -> float:
    """Return how long a call must take on average if so many jobs are run, and all producers wait alike."""
    return 1e3 * (made.count * made.batch / jobs_per_s - made.gap_s)


class Backpressure(Benchmark):
    """Stalls, fairness, and what it costs."""

    title = "Backpressure"

    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return each kind of producers."""
        return [{**cell, "seconds": 2.0 if short else SECONDS} for cell in (CELLS[:1] if short else CELLS)]

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Run the same producers and workers with room for all, then with little."""
        without = _run(cell, server, UNBOUNDED)
        server.empty()
        bounded = _run(cell, server, CAPACITY)
        if bounded["depth"] > CAPACITY:
            raise BenchmarkError(f"{bounded['depth']:,} jobs were seen to wait, with a capacity of {CAPACITY:,}")
        return {
            **bounded,
            "unbounded_per_s": without["jobs_per_s"],
            "ahead": round(without["sent_per_s"] / without["jobs_per_s"], 3),
            "ideal_ms": round(ideal_ms(producers_of(cell["producers"], cell["slots"]), without["jobs_per_s"]), 3),
        }

    def line(self, record: Record) -> str:
        """Return rates and stalls."""
        share = f"{100 * record['jobs_per_s'] / record['unbounded_per_s']:.1f}% of {record['unbounded_per_s']:,.0f}"
        stalls = ", ".join(f"p{percent} {at([record], 'stall_ms', percent)[0]:.1f}" for percent in (50, 99))
        fair = f"fewest {100 * record['fewest']:.0f}% of most"
        return f"{_named(record)}: {record['jobs_per_s']:,.0f} jobs/s, {share}; stalls {stalls} ms; {fair}"

    def tables(self, records: Sequence[Record]) -> str:
        """Return a row for each cell."""
        rows = [
            [
                _named(runs[0]),
                f"{statistics.median(values(runs, 'ahead')):.1f} x",
                spread(values(runs, "unbounded_per_s")),
                spread(values(runs, "jobs_per_s")),
                spread(
                    [100 * share for share in values(runs, "jobs_per_s", per="unbounded_per_s")], digits=1, unit="%"
                ),
                f"{statistics.median(values(runs, 'ideal_ms')):.1f}",
                *(spread(at(runs, "stall_ms", percent), digits=1) for percent in (50, 99, 100)),
                spread([100 * fewest for fewest in values(runs, "fewest")], unit="%"),
                f"{max(values(runs, 'depth'))}",
            ]
            for runs in group(records, "slots", "producers").values()
        ]
        head = ["slots, producers", "ahead", "unbounded, jobs/s", "capacity 100, jobs/s", "of unbounded"]
        return table([*head, "ideal stall, ms", "p50", "p99", "longest", "fewest", "depth"], rows)

    def plot(self, records: Sequence[Record], figure: "Figure") -> bool:
        """Draw the distribution of stalls, in parts of what they must be."""
        figure.set_size_inches(6.5, 4.5)
        panel = figure.subplots()
        for runs in group(records, "slots", "producers").values():
            percents = [float(percent) for percent in runs[0]["stall_ms"]]
            curve = [
                statistics.median(
                    stall / run["ideal_ms"] for stall, run in zip(at(runs, "stall_ms", percent), runs, strict=True)
                )
                for percent in percents
            ]
            panel.plot(percents, curve, marker=".", label=_named(runs[0]))
        panel.axhline(1, linestyle=":", color="grey", label="all wait alike, no slot is idle")
        panel.set(xlabel="percent of the calls", ylabel="stall, in parts of the ideal (median of the runs)")
        panel.set_yscale("log")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
        return True


def _run(cell: Cell, server: Server, capacity: int) -> dict[str, Any]:
    made = producers_of(cell["producers"], cell["slots"])
    count, rate = made.count, made.count * made.batch / made.gap_s if made.gap_s else MOST_PER_S
    most = int((cell["seconds"] + 1) * rate) // count
    plans = [
        Plan(list(range(first, count, PROCESSES)), count, most, made.gap_s, made.batch, made.job_s, capacity)
        for first in range(PROCESSES)
    ]
    depth = Depth(server)
    with Run(server, most * count, capacity) as run:
        with Worker(server, cell["slots"], app=APP, environ=run.environ) as worker:
            await_workers(run.queue, 1, worker)
            patched = cell["producers"] == "greenlets"
            calls, start, end = producers.run(server, plans, cell["seconds"], depth.look, patched=patched)
            run.await_all()
        sent = jobs_of(calls, count)
        report = run.report(
            number for producer, jobs in enumerate(sent) for number in range(producer, jobs * count, count)
        )
    start += int(SETTLING_S * 1e9)
    seconds = (end - start) / 1e9
    return {
        "jobs": sum(sent),
        "jobs_per_s": round(sum(start <= ended < end for ended in report.ends) / seconds, 1),
        "sent_per_s": round(sum(call.jobs for call in calls if start <= call.ended < end) / seconds, 1),
        "stall_ms": distribution(call.ended - call.began for call in calls if start <= call.began < end),
        "fewest": round(min(sent) / max(sent), 4),
        "depth": depth.most,
    }


class Depth:
    """Looks how many jobs wait; *most* is the most that was seen."""

    def __init__(self, server: Server) -> None:
        keys = Keys("bench")
        self._client, self._waiting = server.client, [keys(kind) for kind in ("ready", "suspects", "scheduled")]
        self.most = 0

    def look(self) -> None:
        """Look once, at one moment, and rest."""
        with self._client.pipeline(transaction=True) as looking:
            for key in self._waiting:
                looking.zcard(key)
            self.most = max(self.most, sum(looking.execute()))
        time.sleep(LOOK_S)


def jobs_of(calls: Sequence[Call], count: int) -> list[int]:
    """Return how many jobs each of *count* producers got in."""
    jobs = [0] * count
    for call in calls:
        jobs[call.producer] += call.jobs
    return jobs


def _named(record: Record) -> str:
    return f"{record['slots']}, {record['producers']}"


BENCHMARK = Backpressure()

if __name__ == "__main__":
    command("backpressure")
