"""One worker process runs jobs that wait already, by the number of its slots.

Three kinds of job, with results kept and without: a no-op, and 10 ms and 100 ms of I/O. "of ideal" is the share of
`slots / duration`, which no pool can pass.
"""

import statistics
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from benchmarks import worker
from benchmarks.benchmark import Benchmark, Cell, Record, command, group, select, spread, table, values, whiskers
from benchmarks.server import Server

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = (1, 5, 10, 50, 100, 500, 1_000)
SHORT_SIZES = (1, 50, 500)

KINDS = {"no-op": 0.0, "10 ms": 0.010, "100 ms": 0.100}
"""Kind of job -> seconds of I/O: a pool of N slots cannot run more than N / seconds."""

SECONDS = 4.0
"""How long a run of I/O jobs takes if the pool is ideal: 40 turns of the pool at 100 ms."""

MOST_JOBS = 100_000
"""Jobs in a run of no-ops, and most in any: 1 to 3 s of work."""


class PoolSizes(Benchmark):
    """Rates by kind of job, results, and size of the pool."""

    title = "The size of the pool"

    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return each combination, with how many jobs to run."""
        sizes = SHORT_SIZES if short else SIZES
        return [
            {"kind": kind, "results": results, "slots": slots, "jobs": job_count(kind, slots, short)}
            for kind, results, slots in product(KINDS, (False, True), sizes)
        ]

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Drain a queue."""
        kind, slots = cell["kind"], cell["slots"]
        warm_up = slots if KINDS[kind] else 5_000
        return worker.drain(server, kind, cell["jobs"], slots=slots, results=cell["results"], warm_up=warm_up)

    def line(self, record: Record) -> str:
        """Return the rate, and what it is to PING."""
        kept = "on " if record["results"] else "off"
        ratio = record["jobs_per_s"] / record["ping_per_s"]
        cell = f"{record['kind']:>6}, {record['slots']:5} slots, results {kept}"
        return f"{cell}: {record['jobs_per_s']:9,.0f} jobs/s, {ratio:5.2f} x PING ({record['ping_per_s']:7,.0f}/s)"

    def tables(self, records: Sequence[Record]) -> str:
        """Return a row for each combination."""
        rows = []
        for (kind, results, slots), runs in group(records, "kind", "results", "slots").items():
            rates = values(runs, "jobs_per_s")
            share = statistics.median(rates) * KINDS[kind] / slots
            rows.append(
                [
                    kind,
                    "kept" if results else "off",
                    f"{slots:,}",
                    f"{runs[0]['jobs']:,}",
                    spread(rates),
                    f"{statistics.median(values(runs, 'jobs_per_s', per='ping_per_s')):.2f}",
                    f"{100 * share:.1f}%" if share else "",
                ]
            )
        return table(["job", "results", "slots", "jobs a run", "jobs/s", "x PING", "of ideal"], rows)

    def plot(self, records: Sequence[Record], figure: "Figure") -> bool:
        """Draw jobs a second by pool size: a panel for each kind of job, whiskers from the least to the most."""
        kinds = list(dict.fromkeys(record["kind"] for record in records))
        figure.set_size_inches(5 * len(kinds), 4.5)
        for panel, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
            runs = select(records, kind=kind)
            sizes = sorted({record["slots"] for record in runs})
            for results, label in ((False, "results off"), (True, "results kept")):
                cell = {slots: values(select(runs, slots=slots, results=results), "jobs_per_s") for slots in sizes}
                whiskers(panel, cell, label)
            if KINDS[kind]:
                ideal = [size / KINDS[kind] for size in sizes]
                panel.plot(sizes, ideal, "--", color="grey", label="ideal: slots / duration")
            ping = statistics.median(values(runs, "ping_per_s"))
            panel.axhline(ping, linestyle=":", color="grey", label="PING, one client")
            panel.set(xscale="log", yscale="log", xlabel="slots", ylabel="jobs/s", title=f"{kind} jobs")
            panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
            panel.minorticks_off()
            panel.grid(alpha=0.3)
            panel.legend()
        figure.suptitle("One worker process: jobs a second by pool size (median, least to most)")
        return True


def job_count(kind: str, slots: int, short: bool) -> int:
    """Return how many jobs to measure: of I/O full turns of the pool, so that no slot is idle at the end."""
    part = 5 if short else 1
    if not KINDS[kind]:
        return (MOST_JOBS if slots >= 10 else MOST_JOBS // 4) // part
    turns = round(SECONDS / KINDS[kind] / part)
    return slots * max(4, min(turns, MOST_JOBS // part // slots))


BENCHMARK = PoolSizes()

if __name__ == "__main__":
    command("pool_sizes")
