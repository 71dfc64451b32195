"""One run of the comparison: a redis-server, the proxy before it, workers and producers of some queue, and faults.

The same for every queue, gqueue among them: what is asked of a queue goes through its client, its worker's command and
its keys in Redis (see systems.py), and a worker is all that its command has started. The rig of gqueue's own campaign
looks deeper into gqueue than one can look into others.
"""

import math
import os
import platform
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import redis
from attrs import frozen

from tests.faults.crew import Child
from tests.faults.history import Expect, Recorder, Run, write_run
from tests.faults.peers.produce import Spec
from tests.faults.peers.systems import TIMEOUT_S, System, keys_in
from tests.faults.toxics import Toxics
from tests.processes import ROOT
from tests.servers import Server, debug_allowed

POLL_S = 0.02
UP_S = 60.0
"""For how long a worker may take to be up, before the load begins."""
SETTLED_S = 2.0
"""The queue is drained when its keys were empty for so long: longer than a job takes that is not in them meanwhile."""


@frozen
class Load:
    """How much is enqueued, and how: *jobs* by all producers, over *seconds*, each of up to *duration* seconds."""

    jobs: int = 2_000
    seconds: float = 30.0
    duration: float = 0.5
    workers: int = 2
    slots: int = 20
    producers: int = 4
    dies: float = 0.0
    burn: float = 0.0
    fsync: str = "everysec"
    scale: float = 1.0


class Trial:
    """One run. Use it as a context; `finish` inside.

    Attributes:
        proxy: the network's faults.
        server: the redis-server, with `debug` allowed.
        reached: what was met, by name.
    """

    def __init__(self, folder: Path, system: System, programs: Path, load: Load, seed: int) -> None:
        self.folder, self.system, self.load, self.seed = folder, system, load, seed
        folder.mkdir(parents=True)
        self._programs = programs
        self.recorder = Recorder(folder, "rig")
        self.reached: Counter[str] = Counter()
        self.problems: list[str] = []
        self.server = Server(appendonly=True, appendfsync=load.fsync, **debug_allowed())
        self.workers: list[Child] = []
        self.producers: list[Child] = []
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._began = time.monotonic()

    def __enter__(self) -> "Trial":
        """Start everything."""
        load = self.load
        self.server.start()
        try:
            with self.server.client() as client:
                self._version = str(client.info("server")["redis_version"])
            self.proxy = Toxics(self.server.socket, self.seed)
            for number in range(load.workers):
                command = self.system.worker(self._programs, load.slots)
                self.workers.append(Child(self.folder / f"worker-{number}.log", command, self._environ("worker")))
                self.workers[number].start()
            self._wait_until_up()
            for number in range(load.producers):
                self._start_producer(number)
            self._loaded_by = time.monotonic() + 3 * load.seconds + 60
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        for child in (*self.workers, *self.producers):
            kill_tree(child)
            child.end()
        if hasattr(self, "proxy"):
            self.proxy.close()
        self.server.remove()
        gather(self.folder)

    def _wait_until_up(self) -> None:
        until = time.monotonic() + UP_S
        ready, times = self.system.ready, self.system.ready_times
        while not all(worker.log().count(ready) >= times for worker in self.workers):
            if time.monotonic() > until:
                raise RuntimeError(f"a worker was not up within {UP_S:g} s: {self.workers[0].log()[-1000:]}")
            self.sleep(0.1)

    # Verbs.

    def scaled(self, seconds: float) -> float:
        """Return *seconds* for the full form, less for the short one."""
        return seconds * self.load.scale

    def sleep(self, seconds: float) -> None:
        """Wait; start workers again that ended by themselves meanwhile, as an init system does."""
        until = time.monotonic() + seconds
        while True:
            for number, worker in enumerate(self.workers):
                if not worker.alive():
                    if not self.load.dies:
                        self.problems.append(f"worker {number} ended by itself with {worker.wait(0)}")
                    self.recorder.died(worker.pid, f"exit {worker.wait(0)}")
                    worker.start()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(POLL_S, left))

    def every(self, seconds: float) -> Iterator[int]:
        """Yield 0, 1, 2, ... every *seconds* while producers load the queue, at least twice."""
        number = 0
        while number < 2 or self.loading():
            self.sleep(seconds)
            yield number
            number += 1

    def loading(self) -> bool:
        """Return whether a producer is still at it, and has not been for far too long."""
        return time.monotonic() < self._loaded_by and any(child.alive() for child in self.producers)

    def kill_worker(self, number: int) -> None:
        """SIGKILL of the worker and all that it started, as if its machine were gone; start it again at once."""
        worker = self.workers[number]
        self._fault("kill -9 worker", worker.pid)
        for pid in kill_tree(worker):
            self.recorder.died(pid, "SIGKILL")
        worker.start()

    @contextmanager
    def stopped(self, number: int) -> Iterator[None]:
        """SIGSTOP of the worker and all that it started; SIGCONT at the end of the block."""
        pids = session(self.workers[number].pid)
        for pid in pids:
            _send(pid, signal.SIGSTOP)
        for pid in pids:
            self.recorder.fault("SIGSTOP worker", pid)
        self.reached["SIGSTOP worker"] += 1
        try:
            yield
        finally:
            for pid in pids:
                _send(pid, signal.SIGCONT)
            self.recorder.heal("SIGSTOP worker")

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Note a fault that hits all, begins now, and is healed at the end of the block."""
        self._fault(what, None)
        try:
            yield
        finally:
            self.recorder.heal(what)

    def debug_sleep(self, seconds: float) -> None:
        """Have the server answer nobody for so long."""
        with self.during("DEBUG SLEEP"), self.server.client() as client:
            try:
                client.execute_command("DEBUG", "SLEEP", seconds)
            except redis.TimeoutError:  # the client waits for 10 s
                client.ping()

    # The end.

    def finish(self, scenario: str, expect: Expect, *, short: bool, command: str) -> Run:
        """Drain, look at what is left, and write `run.json`."""
        self.proxy.clear()
        while self.loading():
            self.sleep(POLL_S)
        self._drain()
        with self.server.client() as client:
            for reason, record in self.system.dead(client):
                for key in keys_in([record]):
                    self.recorder.dead(key, "", reason)
            waiting = keys_in(self.system.held(client))
            for key in waiting:
                self.recorder.waiting(key)
            if waiting and self.system.lock:  # why they wait
                self.reached[f"seconds for which {self.system.lock} is locked"] = max(0, client.ttl(self.system.lock))
        self._count()
        load = self.load
        run = Run(
            scenario=scenario,
            seed=self.seed,
            short=short,
            lease_s=TIMEOUT_S,
            capacity=0,
            slots=load.slots,
            workers=load.workers,
            started=self._started,
            python=platform.python_version(),
            redis=self._version,
            gqueue_commit=_commit(),
            seconds=round(time.monotonic() - self._began, 1),
            expect=expect,
            reached=dict(sorted(self.reached.items())),
            problems=self.problems,
            system=self.system.label,
            settings=self.system.settings,
            compared=True,
            promise=f"{self.system.promise} ({self.system.source})",
            drain_s=self.system.drain_s,
            machine=f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
            command=command,
        )
        write_run(self.folder, run)
        return run

    def _drain(self) -> None:
        """Wait until the queue's keys were empty for `SETTLED_S`, or no fewer for the `drain_s` of the system.

        What is left then is told as waiting.
        """
        least, since = math.inf, 0.0
        while True:
            with self.server.client() as client:
                left = sum(1 for _ in self.system.held(client))
            now = time.monotonic()
            if left < least or (left and not least):  # fewer; or something came back
                least, since = left, now
            if now - since >= (self.system.drain_s if left else SETTLED_S):
                return
            self.sleep(0.2)

    def _count(self) -> None:
        """Count what was met that the verbs do not see."""
        self.reached["replies lost"] = self.proxy.counts()["replies lost"]
        self.reached["kill -9 itself"] = len(list(self.folder.glob("died/*")))

    def _fault(self, what: str, pid: int | None) -> None:
        self.recorder.fault(what, pid)
        self.reached[what] += 1

    def _start_producer(self, number: int) -> None:
        load = self.load
        spec = Spec(
            number=number,
            seed=self.seed * 1_000 + number,
            jobs=load.jobs // load.producers,
            pace=load.jobs / load.seconds / load.producers,
            duration=load.duration,
            dies=load.dies,
            burn=load.burn if number == 0 else 0.0,
        )
        text = msgspec.json.encode(spec).decode()
        command = [str(self._programs / "python"), "-m", "tests.faults.peers.produce", self.system.app, text]
        child = Child(self.folder / f"producer-{number}.log", command, self._environ("producer"))
        child.start()
        self.producers.append(child)

    def _environ(self, role: str) -> dict[str, str]:
        return {
            **self.system.environ,
            "PEERS_ROLE": role,
            "PEERS_URL": f"{self.proxy.url}/0",
            "PEERS_TIMEOUT": str(TIMEOUT_S),
            "FAULTS_FOLDER": str(self.folder.absolute()),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }


def kill_tree(child: Child) -> list[int]:
    """SIGKILL *child* and all that it started; return their pids.

    Looked up before the first is hit, so that all are gone at one moment: a client that stood still for long, with its
    connections open, would be another fault.
    """
    gone: dict[int, None] = {}
    while pids := [pid for pid in session(child.pid) if pid not in gone]:
        for pid in pids:
            _send(pid, signal.SIGKILL)
        gone |= dict.fromkeys(pids)
    child.kill()
    return list(gone)


def session(leader: int) -> list[int]:
    """Return the pids of the session that *leader* leads, eldest first: a child that forks another is hit before it."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append((int(fields[19]), int(stat.parent.name)))
    return [pid for _, pid in sorted(found)]


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def gather(folder: Path) -> None:
    """Make one file of the workers' histories: who forks for each job leaves thousands, too many to have open."""
    files = sorted((folder / "history").glob("worker-*.jsonl"))
    lines = [line for file in files for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    lines.sort(key=lambda line: int(_TIME.match(line)[1]))  # type: ignore[index]
    (folder / "history" / "workers.jsonl").write_bytes(b"".join(lines))
    for file in files:
        file.unlink()


_TIME = re.compile(rb'\{"t":(\d+)')


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"
