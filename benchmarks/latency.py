"""From the time at which a producer is to enqueue a job to its first statement, on a worker of 50 slots.

"rate": no-op jobs at so many a second, on average; each is sent at a time drawn beforehand and its latency counts from
then, whatever became of the jobs before (open_loop.py). "each" job is an `enqueue` of its own, of up to 16 threads, or
of 50 greenlets; "together" is one `enqueue_many` with what is due by then. "called" is when that call is made, which is
late if all threads are in calls, or the producer has no core; "acknowledged" is its return. All are from the time at
which the job was due. Threads that send one by one do not make 10,000/s: what they are late is most of that latency.
Shares of a core are those of the producer, the worker and Redis. "bare" is the reference: RPUSH, BLPOP and a script
that does nothing, by redis-py, just before and at the same rate, 1,000 a second at most (bare.py). The fewer there are
the longer it takes, since the cores fall asleep in between. The producer collects its garbage before the first job;
the full collection that greenlets come to after some 35,000, which holds all of them up for some 20 ms, counts.

"urgent": the same for jobs of top priority, 100 a second, while at least so many others wait, and the slots are busy
with such. "once a slot is free" is what it waited beyond the rest of a running job: of those that ran when its call
was answered, the one that had least left of the time that such a job takes. What this one took longer, as behind a
worker that stalls, counts; behind no-ops all does. Of the others at most as many as there are slots may start when it
is in already, since these are claimed ("before it"); more are an error. What waits at the end, beside what ran, is
counted and thrown away.
"""

import statistics
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks import bare, open_loop, process
from benchmarks.benchmark import (
    Benchmark,
    BenchmarkError,
    Cell,
    Record,
    Target,
    at_most,
    beside,
    command,
    group,
    select,
    spread,
    table,
    values,
)
from benchmarks.moments import Report, at, distribution
from benchmarks.open_loop import Plan, Sent
from benchmarks.server import Server
from benchmarks.timed import APP, Run
from benchmarks.worker import Worker, await_workers
from gqueue.store.keys import Keys

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLOTS = 50

RATES: tuple[dict[str, Any], ...] = (
    {"rate": 100, "sent": "each", "seconds": 20},
    {"rate": 1_000, "sent": "each", "seconds": 10},
    {"rate": 10_000, "sent": "each", "seconds": 5},
    {"rate": 10_000, "sent": "each, greenlets", "seconds": 5},
    {"rate": 10_000, "sent": "together", "seconds": 5},
)
SHORT_RATES: tuple[dict[str, Any], ...] = (
    {"rate": 100, "sent": "each", "seconds": 3},
    {"rate": 10_000, "sent": "together", "seconds": 1},
)

BARE_S = 3.0
"""For so long the reference is measured."""

URGENT_RATE = 100
URGENT_SECONDS = 4
BACKLOG = 100_000
KINDS = {"no-op": (0.0, 150_000), "10 ms": (0.010, 5_000), "100 ms": (0.100, 500)}
"""Jobs that keep the slots busy -> the seconds that one takes, and more than run in a second."""

SPARE_S = 1.0
"""For so long beyond the last urgent job there are enough of them."""


class Latency(Benchmark):
    """How long jobs wait for their start when they need not."""

    title = "Latency"

    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return rates, then kinds of jobs that an urgent one is behind."""
        backlog, seconds = (BACKLOG // 5, 1) if short else (BACKLOG, URGENT_SECONDS)
        urgent = [{"urgent": kind, "backlog": backlog, "seconds": seconds} for kind in KINDS]
        return [*(SHORT_RATES if short else RATES), *(urgent[:1] if short else urgent)]

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Send jobs to a worker that waits for them, or that is busy with others."""
        return _urgent(cell, server) if "urgent" in cell else _at_rate(cell, server)

    def line(self, record: Record) -> str:
        """Return the latency."""
        shown = ", ".join(f"p{percent:g} {at([record], 'latency_ms', percent)[0]:.2f}" for percent in (50, 99, 99.9))
        if "urgent" in record:
            beyond = at([record], "beyond_ms", 99)[0]
            return f"behind {record['urgent']:>6} jobs: {shown} ms; once a slot is free: p99 {beyond:.2f} ms"
        return f"{record['rate']:6,}/s, {record['sent']}: {shown} ms (bare p50 {at([record], 'bare_ms', 50)[0]:.2f} ms)"

    def tables(self, records: Sequence[Record]) -> str:
        """Return a row for each rate; then one for each kind of other jobs."""
        rates = [
            [
                f"{rate:,}",
                sent,
                *(spread(at(runs, "latency_ms", percent), digits=2) for percent in (50, 99, 99.9, 100)),
                spread(at(runs, "called_ms", 99), digits=2),
                spread(at(runs, "acknowledged_ms", 50), digits=2),
                *(spread(at(runs, "bare_ms", percent), digits=2) for percent in (50, 99)),
                " / ".join(f"{statistics.median(values(runs, name)):.0f}%" for name in SHARES),
            ]
            for (rate, sent), runs in group(_rates(records), "rate", "sent").items()
        ]
        head = [
            "rate",
            "sent",
            "p50, ms",
            "p99",
            "p99.9",
            "longest",
            "called p99",
            "acknowledged p50",
            "bare p50",
            "bare p99",
            "producer / worker / Redis",
        ]
        urgent = [
            [
                kind,
                f"{min(values(runs, 'left')):,}",
                f"{max(values(runs, 'before')):,.0f}",
                *(spread(at(runs, "latency_ms", percent), digits=2) for percent in (50, 99, 100)),
                *(spread(at(runs, "beyond_ms", percent), digits=2) for percent in (50, 99, 100)),
            ]
            for (kind,), runs in group(_behind(records), "urgent").items()
        ]
        beyond = ["once a slot is free: p50", "p99", "longest"]
        urgent_head = ["urgent, behind", "so many at least", "before it, at most", "p50, ms", "p99", "longest", *beyond]
        parts = [(head, rates, 2), (urgent_head, urgent, 1)]
        return "\n\n".join(table(head, rows, columns) for head, rows, columns in parts if rows)

    def plot(self, records: Sequence[Record], figure: "Figure") -> bool:
        """Draw the distributions, the rarer the more to the right."""
        figure.set_size_inches(11, 4.5)
        left, right = figure.subplots(1, 2, sharey=True)
        for (rate, sent), runs in group(_rates(records), "rate", "sent").items():
            _curve(left, runs, "latency_ms", f"{rate:,}/s, {sent}")
        for (kind,), runs in group(_behind(records), "urgent").items():
            _curve(right, runs, "latency_ms", f"behind {kind} jobs")
            _curve(right, runs, "beyond_ms", f"behind {kind} jobs, once a slot is free", "--")
        left.set(title="no-op jobs, by rate", ylabel="ms from due to start (median of the runs)")
        right.set(title="urgent jobs behind a backlog")
        for panel in (left, right):
            panel.set(xscale="log", yscale="log", xlabel="one job in ... waits longer")
            panel.grid(alpha=0.3)
            panel.legend(fontsize="small")
        return True

    def targets(self, records: Sequence[Record]) -> list[Target]:
        """Return those of an idle worker, of a busy one, and of urgent jobs."""
        idle = select(records, rate=100)
        by_greenlets, by_threads = (
            at(select(records, rate=10_000, sent=sent), "latency_ms", 99) for sent in ("each, greenlets", "each")
        )
        behind = group(_behind(records), "urgent", "backlog")
        return [
            at_most("idle worker (100 jobs/s), p50", 0.4, at(idle, "latency_ms", 50), "ms", digits=2),
            at_most("idle worker (100 jobs/s), p99", 1.5, at(idle, "latency_ms", 99), "ms", digits=2),
            at_most("10,000 jobs/s, each sent by a greenlet, p99", 10, by_greenlets, "ms", digits=2),
            beside("10,000 jobs/s, each sent by a thread, p99", by_threads, "ms", digits=2),
            *(
                at_most(
                    f"urgent behind {backlog:,} {kind} jobs, once a slot is free, p99",
                    5,
                    at(runs, "beyond_ms", 99),
                    "ms",
                    digits=2,
                )
                for (kind, backlog), runs in (behind or {(kind, BACKLOG): [] for kind in KINDS}).items()
            ),
        ]

    def marks(self, records: Sequence[Record]) -> dict[str, float]:
        """Return how long the reference takes, to the latency: of jobs sent one by one, and of urgent ones.

        Medians: between sets of 2 short rounds p99 varied by 18%, and that of urgent jobs by 46%. With 10,000/s sent
        together the median varied by 39% between sets of 3 rounds, on a machine where nothing else ran.
        """
        marks = {}
        for (rate, sent), runs in group(_rates(records), "rate", "sent").items():
            if sent == "each":
                bare_ms, latency_ms = (statistics.median(at(runs, name, 50)) for name in ("bare_ms", "latency_ms"))
                marks[f"{rate:,} jobs/s, sent each, p50"] = bare_ms / latency_ms
        round_trip_ms = 1e3 / statistics.median(values(records, "ping_per_s"))
        for (kind,), runs in group(_behind(records), "urgent").items():
            marks[f"urgent behind {kind} jobs, p50"] = round_trip_ms / statistics.median(at(runs, "latency_ms", 50))
        return marks


SHARES = ("producer_percent", "worker_percent", "redis_percent")


def _at_rate(cell: Cell, server: Server) -> dict[str, Any]:
    how = {"together": cell["sent"] == "together", "greenlets": "greenlets" in cell["sent"]}
    plan = Plan(cell["rate"] * cell["seconds"], cell["rate"], **how)
    reference = bare.measure(server, plan.rate, BARE_S)
    with Run(server, plan.count) as run:
        with Worker(server, SLOTS, app=APP, environ=run.environ) as worker:
            await_workers(run.queue, 1, worker)
            before, worker_s = server.usage(), process.cpu_s(worker.pid)
            sent = open_loop.send(server, plan)
            run.await_all()
            used, worker_s = server.usage() - before, process.cpu_s(worker.pid) - worker_s
        report = run.report(range(plan.count))
    seconds = (max(report.starts) - sent.due[0]) / 1e9
    shares = zip(SHARES, (sent.cpu_s, worker_s, used.cpu_s), strict=True)
    return {
        "jobs": plan.count,
        **waits(sent, report),
        "bare_ms": distribution(reference),
        **{name: round(100 * taken / seconds, 1) for name, taken in shares},
        "jobs_a_call": round(plan.count / used.scripts, 2),
    }


def _urgent(cell: Cell, server: Server) -> dict[str, Any]:
    seconds, most = KINDS[cell["urgent"]]
    others = cell["backlog"] + int(most * (cell["seconds"] + SPARE_S))
    plan = Plan(URGENT_RATE * cell["seconds"], URGENT_RATE, first=others, priority=-1.0)
    with Run(server, others + plan.count) as run:
        queue, tasks = run.queue, run.tasks

        def fill() -> None:
            queue.pause()
            queue.enqueue_many(tasks.job(number, seconds) for number in range(others))
            queue.resume()

        with Worker(server, SLOTS, app=APP, environ=run.environ) as worker:
            await_workers(queue, 1, worker)
            sent = open_loop.send(server, plan, before=fill)
            _await_none_ranked_below(server, 0)  # those claimed are finished before the worker ends
        left = queue.stats().depth
        check_backlog(left, cell["backlog"])
        queue.purge()
        report = run.report([*range(others - left), *range(others, others + plan.count)])
    before = most_before(sent.answered, report.starts[others:], report.starts[: others - left])
    check_claimed(before)
    return {
        "jobs": plan.count,
        "others": others,
        "left": left,
        "before": before,
        **waits(sent, report, others, seconds),
    }


def check_backlog(left: int, backlog: int) -> None:
    """Raise BenchmarkError if fewer are left than the backlog that each urgent job was to be behind."""
    if left < backlog:
        raise BenchmarkError(f"{left:,} jobs waited at the end, of a backlog of {backlog:,} or more")


def most_before(answered: Sequence[int], starts: Sequence[int], others: Sequence[int]) -> int:
    """Return how many *others* started, at most, after an urgent job was acknowledged and before it started."""
    began = sorted(others)
    moments = zip(answered, starts, strict=True)
    return max(max(0, bisect_left(began, start) - bisect_right(began, in_at)) for in_at, start in moments)


def check_claimed(before: int) -> None:
    """Raise BenchmarkError if more started before an urgent job than a worker can have claimed until it was in."""
    if before > SLOTS:
        raise BenchmarkError(f"{before:,} less urgent jobs started before an urgent one, on a worker of {SLOTS} slots")


def _await_none_ranked_below(server: Server, rank: float, seconds: float = 30.0) -> None:
    ready, deadline = Keys("bench")("ready"), time.monotonic() + seconds
    while left := server.client.zcount(ready, "-inf", f"({rank}"):
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{left} urgent jobs have not started within {seconds:g} s")
        time.sleep(0.01)


def waits(sent: Sent, report: Report, first: int = 0, seconds: float = 0.0) -> dict[str, Any]:
    """Return the distributions of how long jobs waited; the first that was sent is numbered *first*.

    Behind others (first > 0), which take so many *seconds* each, also what is beyond: see `beyond`.
    """
    starts = report.starts[first:]
    late = distribution(start - due for start, due in zip(starts, sent.due, strict=True))
    found = {
        "latency_ms": late,
        "acknowledged_ms": distribution(end - due for end, due in zip(sent.answered, sent.due, strict=True)),
        "called_ms": distribution(call - due for call, due in zip(sent.called, sent.due, strict=True)),
    }
    if first:
        ran = zip(report.starts[:first], report.ends[:first], strict=True)
        others = [(began, ended) for began, ended in ran if ended] if seconds else []  # no-ops have no rest
        moments = zip(sent.due, sent.answered, starts, strict=True)
        found["beyond_ms"] = distribution(beyond(*moment, others, round(seconds * 1e9)) for moment in moments)
    return found


def beyond(due: int, answered: int, start: int, others: Sequence[tuple[int, int]], takes: int) -> int:
    """Return how long a job waited that is not the rest of a running one.

    That rest begins when it was *answered*, and ends when the first of the jobs that ran then should have ended. If it
    started before, a slot was free, and there was none to wait for. If none ran, but others started before it, these
    had been claimed already: it may wait for one of them, as if that had started when it was answered.

    Args:
        others: start and end of each of the jobs that keep the slots busy.
        takes: what such a job takes by itself; all in ns.
    """
    rests = [max(0, began + takes - answered) for began, ended in others if began <= answered < ended]
    claimed = not rests and any(answered < began < start for began, _ in others)
    rest = min(rests, default=takes if claimed else 0)
    return start - due - (rest if answered + rest <= start else 0)


def _rates(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if "rate" in record]


def _behind(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if "urgent" in record]


def _curve(panel: Any, runs: Sequence[Record], name: str, label: str, line: str = "-") -> None:
    percents = [float(percent) for percent in runs[0][name] if 10 <= float(percent) < 100]
    rarity = [100 / (100 - percent) for percent in percents]
    panel.plot(rarity, [statistics.median(at(runs, name, percent)) for percent in percents], line, label=label)


BENCHMARK = Latency()

if __name__ == "__main__":
    command("latency")
