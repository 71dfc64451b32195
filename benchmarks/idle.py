"""Workers of 50 slots that have nothing to do: what they cost, and how fast they wake up.

"commands/s" are those of clients, a worker process, by MONITOR without the lines of scripts ("lua"); "all" are those
that the scripts carry out, too, by INFO commandstats. Shares of a core are of each worker process, and of Redis beyond
what it takes when nobody is connected. "wake-up" is from enqueuing to a job's first statement, 10 a second on average
(open_loop.py), so that the worker is idle before each; "bare" is the reference of latency.py at that rate.
"""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from benchmarks import bare, open_loop, process
from benchmarks.benchmark import Benchmark, Cell, Record, Target, at_most, command, group, select, spread, table, values
from benchmarks.latency import waits
from benchmarks.moments import at, distribution
from benchmarks.open_loop import Plan
from benchmarks.server import Server
from benchmarks.timed import APP, Run
from benchmarks.worker import Worker, await_workers

SLOTS = 50
SECONDS = 20.0
"""Ten turns of the poll that makes up for lost hints, two heartbeats."""

WAKES = 200
WAKES_PER_S = 10.0
SHORT_PART = 4

END = "the end of the window"


class Idle(Benchmark):
    """Commands, processor time, wake-up."""

    title = "Idle workers"

    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return numbers of worker processes."""
        part = SHORT_PART if short else 1
        return [
            {"processes": processes, "seconds": SECONDS / part, "wakes": WAKES // part}
            for processes in ((1,) if short else (1, 10))
        ]

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Look at idle workers for a while, then wake them."""
        processes, seconds = cell["processes"], cell["seconds"]
        plan = Plan(cell["wakes"], WAKES_PER_S)
        reference = bare.measure(server, WAKES_PER_S, plan.count / WAKES_PER_S / 2)
        alone_s = _redis_alone(server, seconds / 2)
        with Run(server, plan.count) as run:
            with Worker(server, SLOTS, app=APP, processes=processes, environ=run.environ) as worker:
                await_workers(run.queue, processes, worker)
                time.sleep(1.0)  # what a start brings along is over
                of_workers = list(process.tree(worker.pid))[-processes:]  # the supervisor comes first, if there is one
                idle = _watch(server, of_workers, seconds)
                sent = open_loop.send(server, plan)
                run.await_all()
            report = run.report(range(plan.count))
        return {
            "commands_per_s": round(sum(idle["commands"].values()) / seconds / processes, 3),
            "by_name": {name: round(count / seconds / processes, 3) for name, count in idle["commands"].items()},
            "all_per_s": round(idle["all"] / seconds / processes, 3),
            "worker_percent": round(100 * idle["worker_s"] / seconds / processes, 3),
            "redis_percent": round(100 * (idle["redis_s"] / seconds - alone_s), 3),
            **waits(sent, report),
            "bare_ms": distribution(reference),
        }

    def line(self, record: Record) -> str:
        """Return commands and wake-up."""
        rates = f"{record['commands_per_s']:.2f} commands/s, {record['worker_percent']:.2f}% of a core"
        wake = ", ".join(f"p{percent} {at([record], 'latency_ms', percent)[0]:.2f}" for percent in (50, 99))
        reference = at([record], "bare_ms", 50)[0]
        return f"{record['processes']:2} processes: {rates} each; wake-up {wake} ms (bare p50 {reference:.2f} ms)"

    def tables(self, records: Sequence[Record]) -> str:
        """Return a row for each number of processes; then what the commands are."""
        cells = group(records, "processes")
        rows = [
            [
                f"{processes}",
                spread(values(runs, "commands_per_s"), digits=2),
                spread(values(runs, "all_per_s"), digits=1),
                spread(values(runs, "worker_percent"), digits=2, unit="%"),
                spread(values(runs, "redis_percent"), digits=2, unit="%"),
                *(spread(at(runs, "latency_ms", percent), digits=2) for percent in (50, 99, 100)),
                *(spread(at(runs, "bare_ms", percent), digits=2) for percent in (50, 99)),
            ]
            for (processes,), runs in cells.items()
        ]
        head = ["processes", "commands/s", "all/s", "worker CPU", "Redis CPU"]
        head += ["wake-up p50, ms", "p99", "longest", "bare p50", "bare p99"]
        names = list(dict.fromkeys(name for record in records for name in record["by_name"]))
        by_name = [
            [
                f"{processes}",
                *(f"{statistics.median(run['by_name'].get(name, 0) for run in runs):.2f}" for name in names),
            ]
            for (processes,), runs in cells.items()
        ]
        parts = [table(head, rows, text_columns=0), table(["processes", *names], by_name, text_columns=0)]
        return "\n\n".join(parts)

    def targets(self, records: Sequence[Record]) -> list[Target]:
        """Return those of one process."""
        runs = select(records, processes=1)
        return [
            at_most("client commands/s of a worker", 2, values(runs, "commands_per_s"), digits=2),
            at_most("wake-up, p50", 0.4, at(runs, "latency_ms", 50), "ms", digits=2),
            at_most("wake-up, p99", 1.5, at(runs, "latency_ms", 99), "ms", digits=2),
        ]


def _redis_alone(server: Server, seconds: float) -> float:
    """Return the share of a core that *server* takes when nobody is there but us, who are still."""
    before = server.usage()
    time.sleep(seconds)
    return (server.usage() - before).cpu_s / seconds


def _watch(server: Server, pids: Sequence[int], seconds: float) -> dict[str, Any]:
    """Return what happens within *seconds*: commands of clients by name, all commands, processor time."""
    worker_s = sum(map(process.cpu_s, pids))
    with server.client.monitor() as monitor:
        before = server.usage()
        time.sleep(seconds)
        used = server.usage() - before
        worker_s = sum(map(process.cpu_s, pids)) - worker_s
        server.client.echo(END)
        return {
            "commands": count_commands(monitor.listen()),
            "all": sum(used.calls.values()) - used.calls.get("info", 0),
            "worker_s": worker_s,
            "redis_s": used.cpu_s,
        }


def count_commands(seen: Any) -> Counter[str]:
    """Return how many commands of clients were *seen* by MONITOR, by name, without our own, up to the END."""
    found: Counter[str] = Counter()
    for one in seen:
        name = one["command"].partition(" ")[0].upper()
        if name == "ECHO" and one["command"].endswith(END):
            break
        if one["client_type"] != "lua" and name != "INFO":
            found[name] += 1
    return found


BENCHMARK = Idle()

if __name__ == "__main__":
    command("idle")
