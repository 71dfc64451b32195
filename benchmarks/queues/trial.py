"""One run of one queue, the same for all of them: a producer, a worker, and what is measured of the two.

Nothing is asked of a queue but through its own client, its worker's command and its keys in Redis (systems.py). When
and how often a job ran tells a file that the jobs write into (jobs.py).
"""

import json
import math
import os
import subprocess
import tempfile
import time
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from attrs import frozen

from benchmarks import process
from benchmarks.benchmark import BenchmarkError, percentile
from benchmarks.idle import END, count_commands
from benchmarks.open_loop import Plan
from benchmarks.queues.jobs import IO, IO_S, NO_OP, WIDTH
from benchmarks.queues.systems import System
from benchmarks.server import Server

ROOT = Path(__file__).parents[2]
POLL_S = 0.02
SETTLE_S = 0.2
"""How long after the last job a second run of one is still waited for."""
START_OVER_S = 1.0
"""How long after its first jobs a worker is not idle yet: what a start brings along."""
SLOWEST = 20
"""Jobs a second: a worker that makes fewer, after its start of `START_S`, hangs."""
START_S = 30.0
FORGOTTEN_S = 15.0
"""How long after the last job the queue may still hold some of it."""
FILL, FILL_BULK = 5_000, 20_000
"""Jobs of which the memory is measured: one by one it would take too long to enqueue as many as in bulk."""
WARM_UP_SHARE = 10
"""One warm-up job for so many that are measured."""


class Tally:
    """What the jobs 0 to *count* - 1 have written of themselves, in a file of *folder*."""

    def __init__(self, folder: Path, count: int) -> None:
        self.path, self.count = folder / "tally", count
        self.path.write_bytes(bytes(8 * WIDTH * count))

    def read(self, first: int, count: int) -> "array[float]":
        """Return `WIDTH` values for each of *count* jobs from *first* on."""
        cells = array("d")
        with self.path.open("rb") as file:
            file.seek(8 * WIDTH * first)
            cells.frombytes(file.read(8 * WIDTH * count))
        return cells

    def all_ran(self, first: int, count: int) -> bool:
        """Return whether all of *count* jobs from *first* on have ended; cheap while the last has not."""
        return bool(self.read(first + count - 1, 1)[0]) and all(self.read(first, count)[::WIDTH])

    def wrong(self) -> str:
        """Return what is not as it must be, "" if each job ran exactly once."""
        ran = self.read(0, self.count)[::WIDTH]
        missing, twice = ran.count(0.0), sum(count > 1 for count in ran)
        return f"{missing:,} jobs did not run, {twice:,} ran more than once" if missing or twice else ""

    def starts(self, first: int, count: int) -> "array[float]":
        """Return when each started last."""
        return self.read(first, count)[1::WIDTH]

    def seconds(self, first: int, count: int) -> float:
        """Return what lies between the first start and the last end of these jobs."""
        return max(self.read(first, count)[2::WIDTH]) - min(self.starts(first, count))


@frozen
class Paced:
    """When each job was to be enqueued, and when the call was made: later, if the one before took long (seconds)."""

    due: Sequence[float]
    called: Sequence[float]


class Trial:
    """One run of *system* on *server*, with jobs numbered 0 to *count* - 1; a context manager, which ends the worker.

    Args:
        folder: where its programs are.
        live: few jobs come, of which is to be seen at once that they ran, also where the job cannot map a file.
    """

    def __init__(
        self, system: System, folder: Path, server: Server, slots: int, count: int, *, live: bool = False
    ) -> None:
        self.system, self._folder, self.server, self._slots = system, folder, server, slots
        self._temporary = tempfile.TemporaryDirectory(prefix="gqueue-peers-")
        self._log = Path(self._temporary.name) / "worker.log"
        self.tally = Tally(Path(self._temporary.name), count)
        self._environ: dict[str, str] = {
            **os.environ,
            **system.more_environ(folder),
            **system.environ,
            "PEERS_URL": server.url,
            "PEERS_SLOTS": str(slots),
            "PYTHONPATH": str(ROOT),
        }
        self._worker_environ: Mapping[str, str] = {
            **self._environ,
            "PEERS_COUNT": str(count),
            "PEERS_TALLY": str(self.tally.path),
            **({"PEERS_LIVE": "1"} if live else {}),
        }
        self._worker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Trial":
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._worker:
            # Nothing is left to be done, and to end well takes some of them seconds.
            process.kill(process.tree(self._worker.pid))
            self._worker.wait()
        self._temporary.cleanup()

    def produce(self, *what: str | int | float) -> dict[str, Any]:
        """Have the queue's producer do *what* (produce.py); return what it tells."""
        command = [*self.system.producer(self._folder), *map(str, what)]
        ended = subprocess.run(command, env=self._environ, capture_output=True, text=True, cwd=ROOT)
        if ended.returncode:
            raise BenchmarkError(f"{self.system.label}: the producer failed: {_tail(ended.stderr)}")
        told: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
        return told

    def produce_paced(self, first: int, count: int, pace: float) -> Paced:
        """Have it enqueue *count* no-ops from *first* on, *pace* a second on average, at times drawn beforehand."""
        offsets = [due / 1e9 for due in Plan(count, pace).due_ns()]
        plan = Path(self._temporary.name) / "plan"
        plan.write_text(json.dumps(offsets))
        told = self.produce("paced", first, str(plan))
        return Paced([told["start"] + offset for offset in offsets], told["called"])

    def start_worker(self) -> None:
        """Start the worker; `exit` ends it."""
        command = self.system.worker(self._folder, self._slots)
        with self._log.open("wb") as log:
            self._worker = subprocess.Popen(
                command, env=self._worker_environ, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def await_jobs(self, first: int, count: int) -> None:
        """Wait until these jobs have ended."""
        assert self._worker
        until = time.monotonic() + START_S + count / SLOWEST
        while not self.tally.all_ran(first, count):
            if self._worker.poll() is not None:
                raise BenchmarkError(
                    f"{self.system.label}: the worker ended with {self._worker.poll()}: {self._said()}"
                )
            if time.monotonic() > until:
                missing = self.tally.read(first, count)[::WIDTH].count(0.0)
                raise BenchmarkError(f"{self.system.label}: {missing:,} of {count:,} jobs never ran: {self._said()}")
            time.sleep(POLL_S)

    def check_waiting(self, count: int) -> None:
        """Check that *count* jobs wait; of 0: that the queue has forgotten all, before long."""
        until = time.monotonic() + (0 if count else FORGOTTEN_S)
        while (found := self.system.waiting(self.server.client)) != count:
            if time.monotonic() > until:
                raise BenchmarkError(f"{self.system.label}: {found:,} jobs are in Redis instead of {count:,}")
            time.sleep(POLL_S)

    def check_all_ran_once(self) -> None:
        """Check that nothing is left, and each job ran once."""
        self.check_waiting(0)
        time.sleep(SETTLE_S)
        if wrong := self.tally.wrong():
            raise BenchmarkError(f"{self.system.label}: {wrong}")

    def memory(self) -> process.Memory:
        """Return what the worker has in memory, all its processes."""
        assert self._worker
        rss, pss = 0, 0
        for pid in process.tree(self._worker.pid):
            try:
                part = process.memory(pid)
            except OSError:  # a process of RQ's for a job, which has ended
                continue
            rss, pss = rss + part.rss_bytes, pss + part.pss_bytes
        return process.Memory(rss, pss)

    def _said(self) -> str:
        return _tail(self._log.read_text(errors="replace"))


def backlog(system: System, folder: Path, server: Server, single: int, bulk: int) -> dict[str, Any]:
    """Enqueue no-ops without a worker, one by one, then by the queue's call for many; have a worker drain them.

    The rate of the drain counts from the start of the first job to the end of the last; warm-up jobs come before them.
    What it costs Redis is that of all jobs.
    """
    count = single + bulk
    warm_up = count // WARM_UP_SHARE
    with Trial(system, folder, server, system.drain_slots, count) as trial:
        bytes_a_job = _bytes_a_job(trial)
        took = trial.produce("fill", NO_OP, warm_up, single, bulk)
        trial.check_waiting(warm_up + count)
        before = server.usage()
        trial.start_worker()
        trial.await_jobs(0, count)
        used = server.usage() - before
        trial.check_all_ran_once()
        seconds = trial.tally.seconds(0, count)
    return {
        "slots": system.drain_slots,
        "jobs": count,
        "seconds": round(seconds, 4),
        "jobs_per_s": round(count / seconds, 1),
        "redis_cpu_us": round(used.cpu_s / (count + warm_up) * 1e6, 1),
        "redis_commands": round(sum(used.calls.values()) / (count + warm_up), 1),
        "single_per_s": round(single / took["single_s"], 1),
        "producer_cpu_us": round(took["single_cpu_s"] / single * 1e6, 1),
        **({"bulk_per_s": round(bulk / took["bulk_s"], 1)} if bulk else {}),
        "bytes_a_job": bytes_a_job,
    }


def _bytes_a_job(trial: Trial) -> int:
    """Fill the server, and empty it; return what a job took.

    Not what it holds before is subtracted, but what it holds afterwards: with the first call of each command it keeps a
    histogram of its latency, which is no job's part. And it is not taken of the jobs that are drained: of slow queues
    these are too few.
    """
    single, bulk = (0, FILL_BULK) if trial.system.bulk else (FILL, 0)
    trial.produce("fill", NO_OP, 1, single, bulk)
    filled = trial.server.used_memory()
    trial.server.empty()
    return round((filled - trial.server.used_memory()) / (1 + single + bulk))


def live(system: System, folder: Path, server: Server, turns: int, timed: int) -> dict[str, Any]:
    """Have a worker run I/O jobs that wait already; then, idle, jobs that come one by one, which are timed.

    Latency is from the time at which a job is due to its first statement, of *timed* jobs.
    """
    jobs = system.io_slots * turns
    # 1 s: so long may a worker of Dramatiq sleep that was idle, and p99 would be nothing but what came meanwhile.
    warm_up = math.ceil(system.pace)
    with Trial(system, folder, server, system.io_slots, jobs + warm_up + timed, live=True) as trial:
        single, bulk = (0, jobs) if system.bulk else (jobs, 0)
        trial.produce("fill", IO, system.io_slots, single, bulk)
        trial.start_worker()
        trial.await_jobs(0, jobs)
        memory = trial.memory()
        seconds = trial.tally.seconds(0, jobs)
        trial.check_waiting(0)
        paced = trial.produce_paced(jobs, warm_up + timed, system.pace)
        trial.await_jobs(jobs, warm_up + timed)
        trial.check_all_ran_once()
        starts = trial.tally.starts(jobs, warm_up + timed)
    return {
        "slots": system.io_slots,
        "jobs": jobs,
        "seconds": round(seconds, 4),
        "jobs_per_s": round(jobs / seconds, 1),
        "of_ideal": round(jobs / seconds * IO_S / system.io_slots, 4),
        "rss_mb": round(memory.rss_bytes / 1e6, 1),
        "pss_mb": round(memory.pss_bytes / 1e6, 1),
        **_late("", paced.due[warm_up:], starts[warm_up:]),
        **_late("called_", paced.due[warm_up:], paced.called[warm_up:]),
    }


def _late(name: str, due: Sequence[float], at: Sequence[float]) -> dict[str, float]:
    late = [moment - early for early, moment in zip(due, at, strict=True)]
    return {f"{name}p{percent:g}_ms": round(percentile(late, percent) * 1e3, 3) for percent in (50, 99, 100)}


def idle(system: System, folder: Path, server: Server, seconds: float) -> dict[str, Any]:
    """Have a worker run a job a slot; then count for so many *seconds* what its clients send, as idle.py does."""
    with Trial(system, folder, server, system.io_slots, system.io_slots, live=True) as trial:
        trial.produce("fill", IO, 0, system.io_slots, 0)
        trial.start_worker()
        trial.await_jobs(0, system.io_slots)
        trial.check_waiting(0)
        time.sleep(START_OVER_S)
        with server.client.monitor() as monitor:
            time.sleep(seconds)
            server.client.echo(END)
            commands = count_commands(monitor.listen())
        trial.check_all_ran_once()
    by_name = {name: round(count / seconds, 2) for name, count in commands.items()}
    return {"slots": system.io_slots, "commands_per_s": round(commands.total() / seconds, 2), "by_name": by_name}


def _tail(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-5:])[-800:] or "it said nothing"
