"""Rates and latency by how many jobs wait: they must not depend on it.

So many jobs wait, of ten priorities, and some more urgent than all of these, which take turns to be measured: they came
first, and all others after them. Calls one by one, each timed, enqueue a job of the next priority ("enqueue") or claim
the most urgent job and settle the one before, as a worker with one slot does ("claim"); each must give one of those.
Jobs of the last priority are enqueued in bulk ("enqueue_many"). Then a stretch of those that waited is drained by a
worker of 50 slots: each job of it ran exactly once, and as many as were put in ran or wait still. With 5,000,000
waiting this is done for 8 stretches of 25,000, with fewer for 4. "bytes a job" is what Redis's memory grew by.

Depths below 150,000 have no room for all stretches, nor has the other side: there a stretch is what was just enqueued
in bulk, and the depth goes from what is named to that and the stretch, and back. So few cannot have waited under many.

The same is measured within the same seconds on a second redis-server on which 1,000 jobs wait: calls in pieces that
alternate, drains in turn. For calls one by one both servers are kept on one core and their caller on another, which
makes them slower and their ratios steady. Rates "to 1,000 beside" are ratios of one run, which a slow minute of the
machine does not change; the row where 1,000 wait on both servers is the noise: how far such ratios are off by chance.
Of the four the drain has a target, the others stand below it. A figure of a run is the median of its turns.

Whenever a hash table of Redis's is full, at each power of two, Redis doubles it, a bucket with each command on it until
all are moved, which makes the commands dearer meanwhile. That depends on how the depth changes and not on the depth, so
it is let come to an end first, and again before a drain; "filling", the rate at which the jobs came in, has it all. But
where fewer than 100,000 wait, a stretch that is enqueued has tables doubled: beside so few, the ratio of "enqueue_many"
may be above 100% for that.

What a drain loses with a million and more is what cold memory costs: it keeps Redis busy all the time, as calls one by
one do not. Without gqueue, too: ZRANGE, HMGET, ZREMRANGEBYRANK and HDEL of 50 jobs at a time, by redis-py, took 2.0 us
of Redis's processor a job with 51,000 waiting and 6.6 with 5,000,000 (one run, on a machine with other work).
"""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks import process
from benchmarks.benchmark import (
    Benchmark,
    Cell,
    Record,
    Target,
    at_least,
    beside,
    command,
    group,
    select,
    spread,
    table,
    values,
    whiskers,
)
from benchmarks.server import Server
from benchmarks.sides import Side, turn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JUDGED = 5_000_000
DEPTHS = (1_000, 10_000, 100_000, 1_000_000, JUDGED)
SHORT_DEPTHS = (1_000, 100_000)

STRETCH, CALLS = 25_000, 1_000
"""Jobs that are measured in bulk and one by one.

So few that no table is enlarged from 100,000 on: with all of them there are less than 2^17 jobs, and less than 2^20.
"""

WEIGHED = 100_000
"""Jobs from which on their memory is told: of fewer, it does not stand out from what else a server does."""

TURNS, JUDGED_TURNS, SHORT_TURNS = 4, 8, 2
"""Turns in a run; of the depth that is judged; in the short form. Even, that each side is the first in half of them."""

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
        sizes = {"stretch": 20_000, "calls": 500} if short else {"stretch": STRETCH, "calls": CALLS}
        usual = SHORT_TURNS if short else TURNS
        return [
            {"depth": depth, "turns": JUDGED_TURNS if depth == JUDGED else usual, **sizes}
            for depth in (SHORT_DEPTHS if short else DEPTHS)
            if depth * JOB_BYTES + SPARE_BYTES <= has
        ]

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Fill a queue and a small one beside, then measure both in turns."""
        sizes = {name: cell[name] for name in ("turns", "stretch", "calls")}
        with Server(server.settings) as other:
            sides = [Side(server, cell["depth"], **sizes), Side(other, BESIDE, **sizes)]
            filled, _ = (side.fill() for side in sides)
            for number in range(cell["turns"]):
                turn(sides[::-1] if number % 2 else sides)
            measured, of_other = (side.end() for side in sides)
        return {**filled, **measured, **{f"{AT_BESIDE}{name}": value for name, value in of_other.items()}}

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
                [
                    f"{depth:,}{' (noise)' if depth == BESIDE else ''}",
                    *(spread(_percent(runs, name), digits=1, unit="%") for name in RATES),
                ],
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
        to_beside = [f"waiting, to {BESIDE:,} beside", *RATES.values()]
        waiting = ["waiting", "claim, p50", "p99", "enqueue, p50", "p99", "PING/s"]
        parts = ((head, rates), (to_beside, ratios), (waiting, waits))
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
        """Return that 5,000,000 are drained at nine tenths of the rate beside, in the same run, or more."""
        runs = select(records, depth=JUDGED)
        (drained, *others), to = RATES, f", {JUDGED:,} waiting to {BESIDE:,}"
        return [
            at_least(f"{RATES[drained]}{to}", 90, _percent(runs, drained), "%", digits=1),
            *(beside(f"{RATES[name]}{to}", _percent(runs, name), "%", digits=1) for name in others),
        ]


def _percent(records: Sequence[Record], name: str) -> list[float]:
    return [100 * ratio for ratio in values(records, name, per=f"{AT_BESIDE}{name}")]


BENCHMARK = Depth()

if __name__ == "__main__":
    command("depth")
