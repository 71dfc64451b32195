"""Other queues beside gqueue, one worker process each, with the settings that their documentation gives for speed.

On the same server and machine, through their own clients. "drain": no-ops that wait already. They were enqueued by one
producer before, one by one ("single") or with the queue's own call for many, 1,000 a call; "bytes a job" is what a
waiting one takes in Redis, its number being all that it carries. "latency": from the time at which a no-op is to be
enqueued to its first statement, on a worker that has nothing else to do, 125 a second on average (RQ with a process for
each job: 25), after 1 s of such jobs. The times are drawn beforehand, with gaps of all lengths; one producer makes one
call after the other, and what a call is late ("called") counts. "I/O": jobs that wait 50 ms; "of ideal" is the share of
`slots / 50 ms`. RSS and PSS are those of all processes of the worker after these, with 100 slots that have all been
busy, where a worker can have as many. "commands a job" are counted with those of scripts; "idle" are those of clients
alone, as in idle.py, in a single window of 20 s.

Drain and I/O are what gqueue is fast at, since its calls carry many jobs. One job by itself it does not handle faster
than all others: Huey, BullMQ and Sidekiq enqueue more a second, one by one, and Sidekiq in bulk as well; Sidekiq starts
a job in 0.6 of the time. Huey and Sidekiq only put it on a list, where gqueue's two scripts also see to capacity,
place, lease and what comes twice; BullMQ's scripts also take a lock and look whether the id is there. Some workers take
less memory, too.

Each was checked as gqueue is: every job ran exactly once, and none was left. What they promise for a worker that is
killed differs, and is told as their documentation has it; [docs/faults.md](../docs/faults.md) shows what becomes of
jobs then. Each is installed from its package index when it is first wanted, in an environment of its own below
`~/.cache/gqueue-peers`.
"""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.benchmark import (
    Benchmark,
    Cell,
    Record,
    Target,
    command,
    group,
    same_rounds,
    select,
    spread,
    table,
    values,
)
from benchmarks.queues import trial
from benchmarks.queues.environments import CannotInstall, versions
from benchmarks.queues.systems import OURS, PACE, SYSTEMS, System
from benchmarks.server import Server

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BACKLOG, LIVE, IDLE = "backlog", "live", "idle"
IDLE_S = 20.0
"""As in idle.py: heartbeats come each 10 s with some."""
TIMED = 1_000
"""Jobs of which the latency is measured in a run, in 8 s: fewer, where they come slower."""
SHORT = (OURS, "dramatiq", "bullmq")
SHORT_PART = 10
SHORT_TIMED = 100


class Peers(Benchmark):
    """Rates, latency and memory, queue by queue; three cells for each: with a backlog, live, and idle."""

    title = "Beside other queues"

    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return the cells of each queue; in the short form, of those in the targets.

        Those in the targets come next to one another: a rate of the same minute is what they are compared with, and
        from one minute to the next the machine may run at half its speed.
        """
        part, timed = (SHORT_PART, SHORT_TIMED) if short else (1, TIMED)
        systems = [SYSTEMS[name] for name in (SHORT if short else dict.fromkeys((*SHORT, *SYSTEMS)))]
        backlog: list[dict[str, Any]] = []
        live: list[dict[str, Any]] = []
        idle: list[dict[str, Any]] = []
        for system in systems:
            bulk = {"bulk": system.bulk // part} if system.bulk else {}
            backlog.append({"peer": system.name, "part": BACKLOG, "single": system.single // part, **bulk})
            turns = max(2, system.io_turns // part)
            paced = round(timed * system.pace / PACE)
            live.append({"peer": system.name, "part": LIVE, "turns": turns, "timed": paced})
            if system.shows_idle:
                idle.append({"peer": system.name, "part": IDLE, "seconds": IDLE_S / part})
        return [*backlog, *live, *idle]

    def rounds(self, cell: Cell, rounds: int) -> int:
        """Return 1 for an idle worker, which varies little and takes long."""
        return 1 if cell["part"] == IDLE else rounds

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Measure one queue, or tell why it cannot be."""
        system = SYSTEMS[cell["peer"]]
        try:
            folder = system.make()
        except CannotInstall as error:
            return {"missing": str(error)}
        told = {"versions": versions(folder, system.installs, system.told)}
        if cell["part"] == BACKLOG:
            return {**told, **trial.backlog(system, folder, server, cell["single"], cell.get("bulk", 0))}
        if cell["part"] == IDLE:
            return {**told, **trial.idle(system, folder, server, cell["seconds"])}
        return {**told, **trial.live(system, folder, server, cell["turns"], cell["timed"])}

    def line(self, record: Record) -> str:
        """Return the figures that are looked at first."""
        name = f"{SYSTEMS[record['peer']].label:21}"
        if "missing" in record:
            return f"{name} cannot be measured: {record['missing']}"
        if record["part"] == BACKLOG:
            return (
                f"{name} {record['jobs_per_s']:9,.0f} jobs/s, single {record['single_per_s']:7,.0f}/s, "
                f"many {record.get('bulk_per_s', 0):9,.0f}/s (PING {record['ping_per_s']:7,.0f}/s)"
            )
        if record["part"] == IDLE:
            return f"{name} {record['commands_per_s']:9,.2f} commands/s while idle: {record['by_name']}"
        return (
            f"{name} {record['jobs_per_s']:9,.1f} I/O jobs/s, {record['of_ideal']:4.0%}, "
            f"latency {record['p50_ms']:.2f} ms, p99 {record['p99_ms']:.2f} ms (PING {record['ping_per_s']:7,.0f}/s)"
        )

    def tables(self, records: Sequence[Record]) -> str:
        """Return what is measured, then the figures, then what could not be had."""
        had = [record for record in records if "missing" not in record]
        backlog, live = select(had, part=BACKLOG), select(had, part=LIVE)
        missing = {SYSTEMS[record["peer"]].label: record["missing"] for record in records if "missing" in record}
        parts = [_table_of_settings(had), _table_of_rates(backlog), _table_of_cost(backlog), _table_of_live(live)]
        parts.append(_table_of_idle(select(had, part=IDLE)))
        if missing:
            parts.append(table(["not measured", "because"], missing.items(), text_columns=2))
        return "\n\n".join(parts)

    def plot(self, records: Sequence[Record], figure: "Figure") -> bool:
        """Draw bars of the drain and of the latency."""
        had = [record for record in records if "missing" not in record]
        panels = [
            (select(had, part=BACKLOG), "jobs_per_s", "no-op jobs/s"),
            (select(had, part=LIVE), "p50_ms", "latency on an idle worker, median, ms"),
        ]
        panels = [panel for panel in panels if panel[0]]
        if not panels:
            return False
        figure.set_size_inches(11, 5.5)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, (runs, name, title) in zip(axes, panels, strict=True):
            _bars(panel, runs, name)
            panel.set(title=title, xscale="log")
        return True

    def targets(self, records: Sequence[Record]) -> list[Target]:
        """Return how many times the best queue for Python, and BullMQ, are made, in the same round."""
        backlog = select(records, part=BACKLOG)
        python = [name for name, system in SYSTEMS.items() if system.language == "Python" and not _is_ours(system)]
        return [
            _times("no-op drain to the best of the other Python queues", 10, backlog, python),
            _times("no-op drain to BullMQ", 3.5, backlog, ["bullmq"]),
        ]


def _is_ours(system: System) -> bool:
    return system.name.startswith(OURS)


def _times(what: str, bound: float, backlog: Sequence[Record], others: Sequence[str]) -> Target:
    """Return the target that gqueue's rate is *bound* times the best of *others*', round by round."""
    had = [record for record in backlog if "jobs_per_s" in record]
    rates = {name: values(select(had, peer=name), "jobs_per_s") for name in others}
    medians = {name: statistics.median(of) for name, of in rates.items() if of}
    ratios = []
    if medians:
        best = max(medians, key=lambda name: medians[name])
        pairs = same_rounds(select(had, peer=OURS), select(had, peer=best))
        ratios = [run["jobs_per_s"] / other["jobs_per_s"] for run, other in pairs]
        what += f" ({SYSTEMS[best].label})" if len(others) > 1 else ""
    met = bool(ratios) and statistics.median(ratios) >= bound
    return Target(what, f">= {bound:g} x", spread(ratios, digits=1, unit=" x"), met)


def _table_of_settings(records: Sequence[Record]) -> str:
    rows = []
    for (name,), runs in group(records, "peer").items():
        system = SYSTEMS[name]
        guarantee = f"[{system.guarantee}]({system.source})"
        rows.append([system.label, runs[0]["versions"] or "this one", system.settings, guarantee])
    return table(["queue", "versions", "worker", "when a worker is killed"], rows, text_columns=4)


def _table_of_rates(backlog: Sequence[Record]) -> str:
    rows = []
    for (name,), runs in group(backlog, "peer").items():
        system = SYSTEMS[name]
        enqueue = [
            spread(values(runs, "single_per_s")),
            f"{statistics.median(values(runs, 'single_per_s', per='ping_per_s')):.2f}",
            spread(values(runs, "bulk_per_s")) if system.bulk else "",
        ]
        rows.append(
            [
                system.label,
                f"{len(runs)} x {runs[0]['jobs']:,}",
                spread(values(runs, "jobs_per_s")),
                f"{statistics.median(values(runs, 'jobs_per_s', per='ping_per_s')):.2f}",
                *(enqueue if system.shows_enqueue else [""] * len(enqueue)),
            ]
        )
    return table(["queue", "runs", "drain, jobs/s", "x PING", "single/s", "x PING", "many/s"], rows)


def _table_of_cost(backlog: Sequence[Record]) -> str:
    rows = [
        [
            SYSTEMS[name].label,
            f"{runs[0]['slots']}",
            f"{statistics.median(values(runs, 'redis_cpu_us')):.1f} us",
            f"{statistics.median(values(runs, 'redis_commands')):.1f}",
            f"{statistics.median(values(runs, 'bytes_a_job')):,.0f}",
        ]
        for (name,), runs in group(backlog, "peer").items()
    ]
    return table(["queue", "slots", "Redis CPU a job", "commands a job", "bytes a job"], rows)


def _table_of_live(live: Sequence[Record]) -> str:
    rows = [
        [
            SYSTEMS[name].label,
            spread(values(runs, "p50_ms"), digits=2),
            spread(values(runs, "p99_ms"), digits=2),
            f"{max(values(runs, 'p100_ms')):,.1f}",
            f"{statistics.median(values(runs, 'called_p99_ms')):.2f}",
            f"{len(runs)} x {runs[0]['timed']:,}",
            f"{runs[0]['slots']}",
            spread(values(runs, "jobs_per_s")),
            f"{statistics.median(values(runs, 'of_ideal')):.0%}",
            spread(values(runs, "rss_mb")),
            f"{statistics.median(values(runs, 'pss_mb')):.0f}",
        ]
        for (name,), runs in group(live, "peer").items()
    ]
    head = ["queue", "latency p50, ms", "p99, ms", "most", "called p99", "runs"]
    return table([*head, "slots", "I/O, jobs/s", "of ideal", "RSS, MB", "PSS, MB"], rows)


def _table_of_idle(idle: Sequence[Record]) -> str:
    rows = [
        [
            SYSTEMS[run["peer"]].label,
            f"{run['commands_per_s']:,.2f}",
            ", ".join(f"{name} {rate:,.2f}" for name, rate in run["by_name"].items()),
        ]
        for run in idle
    ]
    return table(["queue, idle", "commands/s of clients", "which"], rows)


def _bars(panel: Any, records: Sequence[Record], name: str) -> None:
    found = {SYSTEMS[peer].label: values(runs, name) for (peer,), runs in group(records, "peer").items()}
    middle = [statistics.median(runs) for runs in found.values()]
    spans = [
        [m - min(runs) for m, runs in zip(middle, found.values(), strict=True)],
        [max(runs) - m for m, runs in zip(middle, found.values(), strict=True)],
    ]
    colours = ["tab:orange" if label.startswith(OURS) else "tab:blue" for label in found]
    panel.barh(list(found), middle, xerr=spans, capsize=3, color=colours)
    panel.invert_yaxis()
    panel.grid(axis="x", alpha=0.3)


BENCHMARK = Peers()

if __name__ == "__main__":
    command("peers")
