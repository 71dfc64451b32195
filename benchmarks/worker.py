"""Workers to be measured: real `python -m gqueue` processes, and a whole drain by them, checked."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import gqueue
from benchmarks import notes
from benchmarks.benchmark import BenchmarkError
from benchmarks.server import Server

LONGEST_S = 900.0
"""A worker that takes longer for a run hangs."""


class Worker:
    """`python -m gqueue` on *server*; a context manager, which has it drain at the end. Attributes: pid.

    Args:
        slots: of each process.
        processes: more than one: *pid* is the supervisor's.
        app: what it runs.
        burst: it ends by itself once all jobs are done.
        environ: variables that it gets beside those of this process.
    """

    def __init__(
        self,
        server: Server,
        slots: int,
        *,
        processes: int = 1,
        app: str = "benchmarks.tasks:queue",
        burst: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        # Bytecode is written: an installed package has it, and without it start and memory would be other ones.
        own = {"PYTHONDONTWRITEBYTECODE": "", "GQUEUE_REDIS_URL": server.url}
        self._environ = {**os.environ, **own, **(environ or {})}
        self._command = [sys.executable, "-m", "gqueue", "--app", app, "--workers", str(slots), "--log-level", "ERROR"]
        if processes > 1:
            self._command += ["--processes", str(processes)]
        if burst:
            self._command += ["--burst"]

    def __enter__(self) -> "Worker":
        self._process = subprocess.Popen(self._command, env=self._environ)
        self.pid = self._process.pid
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self.wait(60 if error is None else 10)
        except BenchmarkError:
            if error is None:
                raise

    def wait(self, seconds: float = LONGEST_S) -> None:
        """Wait until it ends by itself; raise BenchmarkError if it does not, or does not end well."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise BenchmarkError(f"the worker was still there after {seconds:g} s") from None
        if code:
            raise BenchmarkError(f"the worker ended with {code}")

    def alive(self) -> bool:
        """Return whether it is there."""
        return self._process.poll() is None


def await_workers(queue: gqueue.Queue, count: int, worker: Worker, seconds: float = 30.0) -> None:
    """Wait until *count* processes are registered with *queue*."""
    deadline = time.monotonic() + seconds
    while queue.stats().workers < count:
        if time.monotonic() > deadline or not worker.alive():
            raise BenchmarkError(f"{queue.stats().workers} of {count} workers have registered")
        time.sleep(0.02)


def produce(server: Server, environ: Mapping[str, str], **what: Any) -> None:
    """Have another process enqueue; *what*: the arguments of `tasks.produce`."""
    with start_producer(server, environ, **what) as producer:
        if code := producer.wait():
            raise BenchmarkError(f"the producer ended with {code}")


def start_producer(server: Server, environ: Mapping[str, str], **what: Any) -> "subprocess.Popen[bytes]":
    """Start what `produce` waits for."""
    command = [sys.executable, "-m", "benchmarks.tasks", json.dumps(what)]
    return subprocess.Popen(command, env={**os.environ, "GQUEUE_REDIS_URL": server.url, **environ})


def drain(
    server: Server,
    kind: str,
    count: int,
    *,
    slots: int,
    results: bool = False,
    processes: int = 1,
    warm_up: int = 5_000,
    payload: int = 0,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Have workers run *count* jobs that wait already; return the rate and what it took, a job.

    Timed is the worker at work, from the start of the first measured job to the end of the last: the queue is paused
    until all processes are there, and warm-up jobs come first, so many for each, whoever takes them. Redis's part,
    which cannot be told from without, is that of all jobs, those for warming up too.

    Raises BenchmarkError if a job did not run exactly once, or anything but counters and the *results* is left.
    """
    queue = gqueue.Queue("bench", url=server.url)
    environ = environ or {}
    with tempfile.TemporaryDirectory() as folder:
        queue.pause()
        produce(server, environ, kind=kind, results=results, count=count, warm_up=warm_up * processes, payload=payload)
        noting = {"GQUEUE_BENCH_COUNT": str(count), "GQUEUE_BENCH_NOTES": folder}
        with Worker(server, slots, processes=processes, burst=True, environ={**environ, **noting}) as worker:
            await_workers(queue, processes, worker)
            before = server.usage()
            queue.resume()
            worker.wait()
        used = server.usage() - before
        report = notes.read(Path(folder), count)
    stats = queue.stats()
    queue.close()
    left, kept, jobs = server.keys_left(), server.results_kept(), count + warm_up * processes
    if report.wrong or left or stats.depth + stats.running + stats.dead:
        raise BenchmarkError(f"{report.wrong or 'each job ran once'}; left behind: {stats}, keys {left[:5]}")
    if kept != (jobs if results else 0):
        raise BenchmarkError(f"results of {kept:,} jobs were kept; of {jobs:,} they are {'on' if results else 'off'}")
    return {
        "jobs": count,
        "seconds": round(report.seconds, 4),
        "jobs_per_s": round(count / report.seconds, 1),
        "worker_cpu_us": report.cpu_us and round(report.cpu_us, 2),
        "redis_cpu_us": round(used.cpu_s / jobs * 1e6, 2),
        "redis_commands": round(sum(used.calls.values()) / jobs, 2),
        "jobs_a_call": round(jobs / used.scripts, 1),
    }
