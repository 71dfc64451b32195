"""One worker process runs jobs of 100 ms of I/O that wait already, on so many slots.

"of ideal" is the share of `slots / 100 ms`, which no worker can pass. Each slot runs 20 jobs or more, after one for
warming up. Processor time is that of the worker and of Redis, a job; what is left of the core is idle.
"""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks import worker
from benchmarks.benchmark import (
    Benchmark,
    Cell,
    Record,
    Target,
    at_least,
    command,
    group,
    select,
    spread,
    table,
    values,
    whiskers,
)
from benchmarks.server import Server

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SECONDS = 0.100
TURNS = {100: 40, 1_000: 40, 10_000: 20}
"""Slots -> jobs that each runs."""

SHORT_TURNS = {100: 10, 10_000: 8}


class Io(Benchmark):
    """Rates by slots, with results kept and without."""

    title = "Jobs that wait for I/O"

    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return each number of slots."""
        turns = SHORT_TURNS if short else TURNS
        kept = (False,) if short else (False, True)
        return [
            {"slots": slots, "results": results, "jobs": slots * turns[slots]} for slots in turns for results in kept
        ]

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Drain a queue."""
        slots = cell["slots"]
        return worker.drain(server, "100 ms", cell["jobs"], slots=slots, results=cell["results"], warm_up=slots)

    def line(self, record: Record) -> str:
        """Return the rate, and what it is to the ideal."""
        kept = "on " if record["results"] else "off"
        share = f"{100 * _share(record):5.1f}% of ideal"
        return f"{record['slots']:6,} slots, results {kept}: {record['jobs_per_s']:9,.0f} jobs/s, {share}"

    def tables(self, records: Sequence[Record]) -> str:
        """Return a row for each cell."""
        rows = [
            [
                f"{slots:,}",
                "kept" if results else "off",
                f"{runs[0]['jobs']:,}",
                spread(values(runs, "jobs_per_s")),
                f"{slots / SECONDS:,.0f}",
                f"{100 * statistics.median(map(_share, runs)):.1f}%",
                f"{statistics.median(values(runs, 'jobs_per_s', per='zpopmin_per_s')):.3f}",
                f"{statistics.median(values(runs, 'worker_cpu_us')):.1f} us",
                f"{statistics.median(values(runs, 'redis_cpu_us')):.1f} us",
                f"{statistics.median(values(runs, 'jobs_a_call')):.0f}",
            ]
            for (slots, results), runs in group(records, "slots", "results").items()
        ]
        head = ["slots", "results", "jobs a run", "jobs/s", "ideal", "of ideal", "x ZPOPMIN"]
        return table([*head, "worker CPU", "Redis CPU", "jobs a call"], rows, text_columns=0)

    def plot(self, records: Sequence[Record], figure: "Figure") -> bool:
        """Draw the rate by slots, and the ideal."""
        figure.set_size_inches(6.5, 4.5)
        panel = figure.subplots()
        for results, label in ((False, "results off"), (True, "results kept")):
            runs = group(select(records, results=results), "slots")
            whiskers(panel, {slots: values(cell, "jobs_per_s") for (slots,), cell in sorted(runs.items())}, label)
        slots = sorted({record["slots"] for record in records})
        panel.plot(slots, [count / SECONDS for count in slots], "--", color="grey", label="ideal: slots / 100 ms")
        panel.set(xscale="log", yscale="log", xlabel="slots", ylabel="jobs/s of 100 ms")
        panel.set_xticks(slots, [f"{count:,}" for count in slots])
        panel.grid(alpha=0.3)
        panel.legend()
        return True

    def targets(self, records: Sequence[Record]) -> list[Target]:
        """Return that of 10,000 slots."""
        runs = select(records, slots=10_000, results=False)
        return [at_least("10,000 slots, results off", 45_000, values(runs, "jobs_per_s"))]


def _share(record: Record) -> float:
    return float(record["jobs_per_s"] * SECONDS / record["slots"])


BENCHMARK = Io()

if __name__ == "__main__":
    command("io")
