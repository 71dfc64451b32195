"""Workers run no-op jobs that wait already: what gqueue itself costs.

"processes" are of one `python -m gqueue --processes N`, each with so many slots; "payload" is what a job carries beside
its number; "signed" are records with a key, which are verified. "AOF" is how often Redis syncs its append-only file, in
the folder for temporary files; where nothing is said it has none. Processor time is that of the worker processes and of
Redis, a job, and "jobs a call" how many of them share one round trip.
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
    at_most,
    command,
    group,
    mark,
    select,
    spread,
    table,
    values,
    whiskers,
)
from benchmarks.server import EVERY_SECOND, Server

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIGNED = {"GQUEUE_SIGNING_KEYS": "bench:hex:" + "5a" * 32}

PLAIN = {"processes": 1, "slots": 50, "results": False, "payload": 0, "signed": False, "fsync": None, "jobs": 100_000}
"""What a cell is where it does not say otherwise."""

MANY = 500_000
"""Jobs of what the first rows and a file are measured with: some seconds, with a sync in each."""

CELL = ("processes", "slots", "results", "payload", "signed", "fsync")

CELLS: tuple[dict[str, Any], ...] = (
    {"jobs": MANY},
    {"jobs": MANY, "results": True},
    {"slots": 1, "jobs": 20_000},
    {"slots": 1, "jobs": 20_000, "results": True},
    {"processes": 2},
    {"processes": 2, "results": True},
    {"processes": 3},
    {"processes": 3, "results": True},
    {"processes": 4},
    {"processes": 4, "results": True},
    {"payload": 100},
    {"payload": 1_000},
    {"payload": 10_000, "jobs": 30_000},
    {"signed": True},
    {"jobs": MANY, "fsync": EVERY_SECOND["appendfsync"]},
)
SHORT_CELLS: tuple[dict[str, Any], ...] = (
    {"jobs": 30_000},
    {"results": True, "jobs": 30_000},
    {"slots": 1, "jobs": 3_000},
)


class Drain(Benchmark):
    """Rates and cost a job of no-ops."""

    title = "No-op jobs"

    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return the plain cell, and each variation of it."""
        return [{**PLAIN, **cell} for cell in (SHORT_CELLS if short else CELLS)]

    def settings(self, cell: Cell) -> dict[str, str]:
        """Return those of a file that is synced, if *cell* wants it."""
        return dict(EVERY_SECOND) if cell["fsync"] else {}

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Drain a queue."""
        return worker.drain(
            server,
            "no-op",
            cell["jobs"],
            slots=cell["slots"],
            results=cell["results"],
            processes=cell["processes"],
            payload=cell["payload"],
            warm_up=5_000 if cell["slots"] > 1 else 500,
            environ=SIGNED if cell["signed"] else {},
        )

    def line(self, record: Record) -> str:
        """Return the rate, and what it is to the reference."""
        return f"{named(record)}: {record['jobs_per_s']:9,.0f} jobs/s (PING {record['ping_per_s']:7,.0f}/s)"

    def tables(self, records: Sequence[Record]) -> str:
        """Return a row for each cell."""
        rows = []
        for (processes, slots, results, payload, signed, fsync), runs in group(records, *CELL).items():
            rows.append(
                [
                    f"{processes}",
                    f"{slots}",
                    "kept" if results else "off",
                    f"{payload:,} B" if payload else "",
                    "yes" if signed else "",
                    fsync or "",
                    spread(values(runs, "jobs_per_s")),
                    f"{statistics.median(values(runs, 'jobs_per_s', per='ping_per_s')):.2f}",
                    f"{statistics.median(values(runs, 'jobs_per_s', per='zadd_per_s')):.2f}",
                    f"{statistics.median(values(runs, 'worker_cpu_us')):.1f} us",
                    f"{statistics.median(values(runs, 'redis_cpu_us')):.1f} us",
                    f"{statistics.median(values(runs, 'jobs_a_call')):.0f}",
                ]
            )
        head = ["processes", "slots", "results", "payload", "signed", "AOF", "jobs/s", "x PING", "x ZADD"]
        return table([*head, "worker CPU", "Redis CPU", "jobs a call"], rows, text_columns=0)

    def plot(self, records: Sequence[Record], figure: "Figure") -> bool:
        """Draw the rate by processes and by payload."""
        figure.set_size_inches(10, 4.5)
        left, right = figure.subplots(1, 2)
        for results, label in ((False, "results off"), (True, "results kept")):
            runs = select(records, slots=50, payload=0, signed=False, fsync=None, results=results)
            whiskers(left, _rates(runs, "processes"), label)
        runs = select(records, slots=50, processes=1, signed=False, fsync=None, results=False)
        whiskers(right, _rates(runs, "payload"), "results off")
        left.set(xlabel="processes of 50 slots", ylabel="no-op jobs/s", ylim=0)
        right.set(xlabel="payload, bytes", ylim=0, xscale="symlog")
        for panel in (left, right):
            panel.grid(alpha=0.3)
            panel.legend()
        return True

    def targets(self, records: Sequence[Record]) -> list[Target]:
        """Return those for one process."""
        runs = select(records, processes=1, payload=0, signed=False, fsync=None)
        off, on = select(runs, slots=50, results=False), select(runs, slots=50, results=True)
        return [
            at_least("50 slots, results off", 80_000, values(off, "jobs_per_s")),
            at_least("50 slots, results on", 60_000, values(on, "jobs_per_s")),
            at_least("1 slot, one after another", 5_000, values(select(runs, slots=1, results=False), "jobs_per_s")),
            at_most("Redis CPU a job, results off", 5, values(off, "redis_cpu_us"), "us", digits=1),
        ]

    def marks(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the rates of one process: of one slot to PING, of 50 to ZADD, which goes in batches too."""
        records = select(records, fsync=None)
        return {
            f"{slots} slot{'s' * (slots > 1)}, results {'on' if results else 'off'}": mark(
                runs, "jobs_per_s", records, "ping_per_s" if slots == 1 else "zadd_per_s"
            )
            for (slots, results), runs in group(
                select(records, processes=1, payload=0, signed=False), "slots", "results"
            ).items()
        }


def named(record: Record) -> str:
    """Return a cell in words."""
    parts = [f"{record['processes']} x {record['slots']:2} slots", f"results {'on ' if record['results'] else 'off'}"]
    parts += [f"{record['payload']:6,} B"] if record["payload"] else []
    parts += ["signed"] if record["signed"] else []
    return ", ".join([*parts, *([f"AOF {record['fsync']}"] if record["fsync"] else [])])


def _rates(records: Sequence[Record], name: str) -> dict[float, list[float]]:
    return {key: values(runs, "jobs_per_s") for (key,), runs in sorted(group(records, name).items())}


BENCHMARK = Drain()

if __name__ == "__main__":
    command("drain")
