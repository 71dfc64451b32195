"""One producer, a process of its own, enqueues no-op jobs; no worker is there.

"one by one" is one thread that waits for each reply. "50 greenlets" and "8 threads" each do the same at once; every
call is acknowledged on its own. "enqueue_many" is one call with all jobs. Processor time is that of the producer and of
Redis, a job. After every run the queue holds each job once, and each has its place in the line; none is run.
With "AOF everysec" Redis has an append-only file, in the folder for temporary files, and syncs it every second; else it
has none.

Beside "one by one", in turns of 500 within the same seconds, are references: redis-py's `evalsha()` with the very same
keys and arguments, of gqueue's own script ("same script"), and of one that does nothing but give the same reply ("bare
EVALSHA"); each on a held connection (`single_connection_client`), and the latter from redis-py's pool as well, which is
its default.
"""

import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.benchmark import (
    Benchmark,
    BenchmarkError,
    Cell,
    Record,
    Target,
    at_least,
    beside,
    command,
    group,
    mark,
    select,
    spread,
    table,
    values,
)
from benchmarks.server import EVERY_SECOND, Server
from gqueue.store.keys import Keys
from gqueue.store.replies import record_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAYS = {"one by one": 20_000, "50 greenlets": 100_000, "8 threads": 50_000, "enqueue_many": 200_000}
"""How -> jobs a run."""

SHORT_PART = 5

SEQUENCE = 13
"""Hex digits before the rest: of a job's entry, and, before its id, of its place in the line."""


class Enqueue(Benchmark):
    """Rates and cost a job of one producer."""

    title = "Enqueuing"

    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return each way, and one with a file that is synced."""
        part = SHORT_PART if short else 1
        plain = [{"way": way, "jobs": jobs // part, "fsync": None} for way, jobs in WAYS.items()]
        return plain if short else [*plain, {**plain[0], "fsync": EVERY_SECOND["appendfsync"]}]

    def settings(self, cell: Cell) -> dict[str, str]:
        """Return those of a file that is synced, if *cell* wants it."""
        return dict(EVERY_SECOND) if cell["fsync"] else {}

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Have a process enqueue, which measures; look at what the queue holds."""
        producer = ["benchmarks.one_producer", cell["way"], str(cell["jobs"])]
        patched = ["gevent.monkey", "--module"] if "greenlets" in cell["way"] else []
        environ = {**os.environ, "GQUEUE_REDIS_URL": server.url}
        made = subprocess.run(
            [sys.executable, "-m", *patched, *producer], env=environ, stdout=subprocess.PIPE, text=True
        )
        if made.returncode:
            raise BenchmarkError(f"the producer ended with {made.returncode}")
        if said := wrong(server, cell["jobs"]):
            raise BenchmarkError(said)
        measured: dict[str, Any] = json.loads(made.stdout)
        return measured

    def line(self, record: Record) -> str:
        """Return the rates."""
        beside = {name.removesuffix("_per_s"): record[name] for name in REFERENCES if name in record}
        beside["PING"] = record["ping_per_s"]
        rates = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in beside.items())
        return f"{named(record['way'], record['fsync']):>12}: {record['jobs_per_s']:9,.0f} jobs/s ({rates})"

    def tables(self, records: Sequence[Record]) -> str:
        """Return a row for each way; then one for each reference of one by one."""
        rows = [
            [
                named(way, fsync),
                f"{jobs:,}",
                spread(values(runs, "jobs_per_s")),
                f"{statistics.median(values(runs, 'jobs_per_s', per='ping_per_s')):.2f}",
                f"{statistics.median(values(runs, 'jobs_per_s', per='zadd_per_s')):.2f}",
                f"{statistics.median(values(runs, 'cpu_us')):.1f} us",
                f"{statistics.median(values(runs, 'redis_cpu_us')):.1f} us",
            ]
            for (way, jobs, fsync), runs in group(records, "way", "jobs", "fsync").items()
        ]
        head = ["enqueue", "jobs a run", "jobs/s", "x PING", "x ZADD", "producer CPU", "Redis CPU"]
        one = select(records, way="one by one", fsync=None)
        beside = [
            [text, spread(values(one, name)), spread(_percent(one, name), digits=1, unit="%")]
            for name, text in REFERENCES.items()
        ]
        return "\n\n".join([table(head, rows), table(["beside one by one", "calls/s", "jobs to calls"], beside)])

    def plot(self, records: Sequence[Record], figure: "Figure") -> bool:
        """Draw a bar for each way, and for each reference."""
        figure.set_size_inches(8, 3.5)
        panel = figure.subplots()
        one = select(records, way="one by one", fsync=None)
        bars = {REFERENCES[name]: values(one, name) for name in REFERENCES}
        bars = {name: rates for name, rates in bars.items() if rates}  # one by one may not have been measured
        ways = group(records, "way", "fsync").items()
        bars |= {named(*way): values(runs, "jobs_per_s") for way, runs in ways}
        for row, (name, rates) in enumerate(bars.items()):
            middle = statistics.median(rates)
            ends = [[middle - min(rates)], [max(rates) - middle]]
            colour = "lightgrey" if name in REFERENCES.values() else "tab:blue"
            panel.barh(row, middle, xerr=ends, capsize=3, color=colour)
            panel.annotate(f" {middle:,.0f}", (max(rates), row), va="center")
        panel.set_yticks(range(len(bars)), list(bars))
        panel.set(xscale="log", xlabel="a second (median, least to most)")
        panel.margins(x=0.15)
        return True

    def targets(self, records: Sequence[Record]) -> list[Target]:
        """Return those of each way."""
        plain = select(records, fsync=None)
        one = select(plain, way="one by one")

        def rates(way: str) -> list[float]:
            return values(select(plain, way=way), "jobs_per_s")

        return [
            at_least("one by one, to a bare EVALSHA of its size and reply", 90, _percent(one, "bare_per_s"), "%", 1),
            beside("one by one, to an EVALSHA of the same script", _percent(one, "same_per_s"), "%", 1),
            at_least("from 50 greenlets at once", 50_000, rates("50 greenlets")),
            at_least("from 8 threads at once", 25_000, rates("8 threads")),
            at_least("enqueue_many", 150_000, rates("enqueue_many")),
        ]

    def marks(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the rates: of one by one to the bare calls, of threads to PING, of what forms batches to ZADD."""
        records = select(records, fsync=None)
        per = {"one by one": "bare_per_s", "8 threads": "ping_per_s"}
        return {
            way: mark(runs, "jobs_per_s", runs if way == "one by one" else records, per.get(way, "zadd_per_s"))
            for (way,), runs in group(records, "way").items()
        }


REFERENCES = {"bare_per_s": "bare EVALSHA", "same_per_s": "same script", "pooled_per_s": "bare EVALSHA, pool"}
"""Value of a record of one by one -> the call that it is the rate of."""


def named(way: str, fsync: str | None) -> str:
    """Return a cell in words."""
    return f"{way}, AOF {fsync}" if fsync else way


def _percent(records: Iterable[Record], per: str) -> list[float]:
    return [100 * ratio for ratio in values(records, "jobs_per_s", per=per)]


def wrong(server: Server, count: int) -> str:
    """Return what is wrong with the jobs that the queue holds, "" if each number is there once, and in the line."""
    name = Keys("bench")
    held = dict(server.client.hscan_iter(name("jobs"), count=5_000))
    places = {member for member, _ in server.client.zscan_iter(name("ready"), count=5_000)}
    found = Counter(json.loads(record_of(entry))["args"][0] for entry in held.values())
    found.pop(-1, None)
    missing, more = sum(number not in found for number in range(count)), found.total() - count
    if missing or more:
        return f"of {count:,} jobs the queue holds {found.total():,}; {missing:,} are missing"
    adrift = len(places ^ {entry[:SEQUENCE] + job_id for job_id, entry in held.items()})
    return f"of {count:,} jobs {adrift:,} have no place in the line, or a place has no job" if adrift else ""


BENCHMARK = Enqueue()

if __name__ == "__main__":
    command("enqueue")
