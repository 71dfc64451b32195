"""A private redis-server for one run, and what a run costs it.

On a free port of localhost, as users have it on a network, and without persistence unless a benchmark wants it.
"""

import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from attrs import frozen

from benchmarks.benchmark import BenchmarkError
from gqueue.embedded import find_server

PLAIN: Mapping[str, str] = {"save": "", "appendonly": "no"}
"""The settings of every server, unless a benchmark says otherwise: nothing goes to the disk."""

EVERY_SECOND: Mapping[str, str] = {"appendonly": "yes", "appendfsync": "everysec"}
"""What a benchmark gives as settings to measure with an append-only file."""

COUNTERS = frozenset({"meta", "stats", "calls", "call", "result", "room", "wake"})
"""Kinds of keys that a drained queue may leave: counters, records that expire, and hints, of which one may be the last.

A worker takes the last hints when it has run the last job, unless it is ended at that moment, as a burst may be.
"""


@frozen
class Usage:
    """What a server has done so far; the difference of two is what lies between."""

    cpu_s: float
    """Processor time of all its threads."""

    calls: Mapping[str, int]
    """Command, in small letters -> how often it was called, by scripts too."""

    def __sub__(self, before: "Usage") -> "Usage":
        calls = {name: count - before.calls.get(name, 0) for name, count in self.calls.items()}
        return Usage(self.cpu_s - before.cpu_s, {name: count for name, count in calls.items() if count})

    @property
    def scripts(self) -> int:
        """Return how many calls of scripts there were: of gqueue's, each is a round trip."""
        return self.calls.get("evalsha", 0) + self.calls.get("eval", 0)


class Server:
    """A redis-server of our own; a context manager. Attributes: url, port, pid, and `client`, for looking."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.settings = {**PLAIN, **(settings or {})}

    def __enter__(self) -> "Server":
        self._folder = tempfile.TemporaryDirectory(prefix="gqueue-bench-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [find_server().path, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder.name]
        command += [part for name, value in self.settings.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen([*command, "--logfile", str(Path(self._folder.name) / "log")])
        self.pid = self._process.pid
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, protocol=2, socket_timeout=60)
        try:
            self._await_answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def usage(self) -> Usage:
        """Return what it has done since its start."""
        cpu: dict[str, float] = self.client.info("cpu")
        stats: dict[str, dict[str, Any]] = self.client.info("commandstats")
        calls = {name.removeprefix("cmdstat_"): int(of["calls"]) for name, of in stats.items()}
        return Usage(cpu["used_cpu_user"] + cpu["used_cpu_sys"], calls)

    def used_memory(self) -> int:
        """Return the bytes that its data take, with what it needs itself."""
        return int(self.client.info("memory")["used_memory"])

    def empty(self) -> None:
        """Drop all data, as before the first command."""
        self.client.flushall()

    def keys_left(self) -> list[bytes]:
        """Return what queues have left beside counters and records that expire: nothing, once all jobs are done."""
        keys: list[bytes] = list(self.client.scan_iter(count=10_000))
        return [key for key in keys if key.rpartition(b"}:")[2].partition(b":")[0].decode() not in COUNTERS]

    def results_kept(self) -> int:
        """Return of how many jobs a result is kept."""
        return sum(b"}:result:" in key for key in self.client.scan_iter(count=10_000))

    def _await_answer(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client.ping()
                return
            except redis.ConnectionError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise BenchmarkError(f"redis-server does not answer: {error}") from error
                time.sleep(0.01)
