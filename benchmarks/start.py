"""From the start of a worker to the first statement of its first job, which waits already.

Timed from just before `python -m gqueue` is executed. A run is so many starts, one after another; beside each, in the
same second, an interpreter that does nothing ("interpreter"), and one that imports what gqueue stands on, with gevent's
patches ("with imports"): below that no worker can start. With several processes it is the supervisor that starts, and
the first job is that of whichever child is first. All bytecode is there beforehand, as after an installation.

Where imports take their time is told by one more start with `-X importtime`, which takes time itself: read it as
shares. What is imported on behalf of a package counts as its own, so asyncio is redis-py's.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gqueue
from benchmarks import notes, tasks
from benchmarks.benchmark import (
    Benchmark,
    BenchmarkError,
    Cell,
    Record,
    Target,
    at_most,
    command,
    group,
    percentile,
    select,
    spread,
    table,
)
from benchmarks.server import Server
from benchmarks.worker import Worker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STARTS, SHORT_STARTS = 20, 5

NOW = "import time; print(time.perf_counter())"
"""Ends a program that is timed: on Linux, this clock is the same in all processes."""

PROGRAMS = {
    "interpreter": NOW,
    "imports": "from gevent import monkey; monkey.patch_all(); import attrs, click, gevent.pool, msgspec, redis; "
    + NOW,
}

PACKAGES = {"attr": "attrs", "attrs": "attrs", "click": "click", "gevent": "gevent", "msgspec": "msgspec"} | {
    "redis": "redis-py, with asyncio"
}
"""Package that gqueue stands on -> what it is called in the table."""

OWN = {"gqueue": "gqueue", "benchmarks": "the app"}


class Start(Benchmark):
    """Milliseconds to the first job."""

    title = "Starting a worker"

    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return one process, and a supervisor with two."""
        starts = SHORT_STARTS if short else STARTS
        return [{"processes": 1, "slots": 50, "starts": starts}, {"processes": 2, "slots": 50, "starts": starts}]

    def measure(self, cell: Cell, server: Server) -> dict[str, Any]:
        """Start workers one after another, each for one job."""
        queue = gqueue.Queue("bench", url=server.url)
        task = queue.task(name=tasks.TASKS["no-op", False].name, result_ttl=0)(lambda number: number)
        taken: dict[str, list[float]] = {"first_job": [], **{name: [] for name in PROGRAMS}}
        for number in range(cell["starts"] + 1):
            task.enqueue(0)
            first_job = first_job_ms(server, cell["slots"], cell["processes"])
            if number:  # before, there may have been no bytecode
                taken["first_job"].append(first_job)
                for name, program in PROGRAMS.items():
                    taken[name].append(program_ms(program))
        shares = {}
        if cell["processes"] == 1:
            task.enqueue(0)
            shares = imports_ms(import_times(server, cell["slots"]))
        queue.close()
        if left := server.keys_left():
            raise BenchmarkError(f"left behind: keys {left[:5]}")
        return {
            **{f"{name}_ms": [round(one, 1) for one in each] for name, each in taken.items()},
            **({"imports_by": shares} if shares else {}),
        }

    def line(self, record: Record) -> str:
        """Return median and most."""
        first, base = record["first_job_ms"], record["imports_ms"]
        return (
            f"--processes {record['processes']}: first job after {statistics.median(first):.0f} ms, at most "
            f"{max(first):.0f} ms (imports alone {statistics.median(base):.0f} ms)"
        )

    def tables(self, records: Sequence[Record]) -> str:
        """Return a row for each cell, then the imports by package."""
        rows = [
            [
                f"{processes}",
                f"{sum(len(run['first_job_ms']) for run in runs)}",
                spread(medians(runs, "interpreter_ms"), unit=" ms"),
                spread(medians(runs, "imports_ms"), unit=" ms"),
                spread(medians(runs, "first_job_ms"), unit=" ms"),
                f"{percentile(_all(runs, 'first_job_ms'), 90):,.0f} ms",
                f"{max(_all(runs, 'first_job_ms')):,.0f} ms",
            ]
            for (processes,), runs in group(records, "processes").items()
        ]
        head = ["processes", "starts", "interpreter, p50", "with imports, p50", "first job, p50", "p90", "most"]
        told = [run["imports_by"] for run in records if "imports_by" in run]
        names = sorted({name for one in told for name in one}, key=lambda name: -_median(told, name))
        by = [[name, spread([one.get(name, 0.0) for one in told], digits=1, unit=" ms")] for name in names]
        parts = [table(head, rows), table(["imports, with -X importtime", "taken"], by) if by else ""]
        return "\n\n".join(filter(None, parts))

    def plot(self, records: Sequence[Record], figure: "Figure") -> bool:
        """Draw every start, in order of its time."""
        figure.set_size_inches(8, 4)
        panel = figure.subplots()
        runs = select(records, processes=1)
        labels = {"interpreter_ms": "interpreter alone", "imports_ms": "with imports", "first_job_ms": "first job"}
        for name, label in labels.items():
            _draw(panel, _all(runs, name), label)
        if two := select(records, processes=2):
            _draw(panel, _all(two, "first_job_ms"), "first job, --processes 2")
        panel.axhline(TARGET_MS, linestyle=":", color="grey", label="target")
        panel.set(xlabel="% of starts", ylabel="ms", ylim=0)
        panel.grid(alpha=0.3)
        panel.legend()
        return bool(runs)

    def targets(self, records: Sequence[Record]) -> list[Target]:
        """Return that of one process."""
        runs = select(records, processes=1)
        return [at_most("start to the first job, median", TARGET_MS, medians(runs, "first_job_ms"), "ms")]


TARGET_MS = 400


def first_job_ms(server: Server, slots: int, processes: int = 1) -> float:
    """Start a worker for the one job that waits; return milliseconds from the start to the job's first statement."""
    with tempfile.TemporaryDirectory() as folder:
        noting = {"GQUEUE_BENCH_COUNT": "1", "GQUEUE_BENCH_NOTES": folder}
        worker = Worker(server, slots, processes=processes, burst=True, environ=noting)
        start = time.perf_counter()
        with worker:
            worker.wait()
        report = notes.read(Path(folder), 1)
    if report.wrong:
        raise BenchmarkError(report.wrong)
    return (report.began - start) * 1000


def program_ms(program: str) -> float:
    """Return milliseconds from the start of an interpreter to the end of *program*, which prints the clock."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    return (float(done.stdout) - start) * 1000


def import_times(server: Server, slots: int) -> str:
    """Run a worker with -X importtime until the queue is empty; return what that prints."""
    command = [sys.executable, "-X", "importtime", "-m", "gqueue", "--app", "benchmarks.tasks:queue"]
    environ = {**os.environ, "GQUEUE_REDIS_URL": server.url}
    done = subprocess.run(
        [*command, "--workers", str(slots), "--burst"], env=environ, stderr=subprocess.PIPE, text=True, check=True
    )
    return done.stderr


_IMPORT = re.compile(r"^import time: +(\d+) \| +\d+ \|( *)(\S+)$", re.MULTILINE)


def imports_ms(told: str) -> dict[str, float]:
    """Return by package how many milliseconds its imports took, with all that it imports, each module once.

    What `-X importtime` told: an imported module comes before that which imports it, and deeper.
    """
    taken: dict[str, float] = {}
    above: list[str] = []  # who imports whom, the outermost first
    for own_us, indent, module in reversed(_IMPORT.findall(told)):
        del above[len(indent) // 2 :]
        above.append(module.partition(".")[0])
        others = [PACKAGES[name] for name in above if name in PACKAGES]
        package = others[0] if others else OWN.get(above[-1], "standard library")
        taken[package] = taken.get(package, 0.0) + int(own_us) / 1000
    return {package: round(ms, 3) for package, ms in taken.items()}


def medians(records: Sequence[Record], name: str) -> list[float]:
    """Return the median of each run."""
    return [statistics.median(each) for each in _lists(records, name)]


def _lists(records: Sequence[Record], name: str) -> list[list[float]]:
    return [record[name] for record in records]


def _all(records: Sequence[Record], name: str) -> list[float]:
    return [one for each in _lists(records, name) for one in each]


def _median(told: Sequence[Mapping[str, float]], name: str) -> float:
    return statistics.median(one.get(name, 0.0) for one in told)


def _draw(panel: Any, measured: Sequence[float], label: str) -> None:
    shares = [100 * (rank + 1) / len(measured) for rank in range(len(measured))]
    panel.step(shares, sorted(measured), where="post", label=label)


BENCHMARK = Start()

if __name__ == "__main__":
    command("start")
