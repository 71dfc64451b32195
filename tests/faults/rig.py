"""The rig: a redis-server, the proxy before it, workers and producers, and the verbs that break them.

A `Rig` is one run of one scenario: it starts everything, lets the scenario act, heals what is broken, drains, and
leaves the folder that the checker reads. Everything has a deadline; every process dies with the one that runs the rig.
Verbs belong to its main thread: a process dies with the thread that started it.
"""

import json
import logging
import os
import platform
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import msgspec
import redis
from attrs import frozen

import gqueue
from gqueue import JobFailed, ResultTimeout, UnknownJob
from gqueue.core.model import Stats
from gqueue.store.audit import audit
from gqueue.task import PreparedJob
from tests.faults.crew import Child, Worker
from tests.faults.history import DepthRecorder, Expect, Recorder, Run, Told, events, write_run
from tests.faults.producer import Spec, enqueue
from tests.faults.toxics import Toxics, Way
from tests.processes import ROOT
from tests.servers import Sentinels, Server, in_step, role

SIDES: dict[Way, str] = {"both": "both ways", "down": "replies", "up": "requests"}
POLL_S = 0.01
SAMPLE_S = 0.05


@frozen
class Setup:
    """What a run is made of.

    Args:
        jobs: enqueued by all producers together, spread over about *seconds*; 0: until the scenario ends.
        duration: of a job in seconds, uniform from 0.
        priorities: of the producers' jobs, one by chance; 0 alone where recovery is bounded and order is not: a job
            that was taken back waits behind a backlog of more urgent ones: the order of the queue, no late recovery.
        many: largest batch of a producer.
        threads: of each producer process, every one of them a producer.
        wait_timeout: of the odd-numbered producers' enqueues, seconds; None, and the others': for ever.
        scale: what `Rig.scaled` multiplies with.
        drain: seconds after the last fault has healed, in which all must be done.
        failpoints: GQUEUE_FAILPOINTS of the first *failing* workers; one that dies of it is started again.
        direct: workers and producers talk to the server itself, not through the proxy.
        direct_workers: of the workers, the last so many do.
        durable: of the first *durable_producers*, as `Queue` takes it; the keys of their jobs begin with d, not p.
        sentinels: a master and a replica watched by three sentinels instead of one server; all ask these, no proxy.
        redis: further settings of the server, as in redis.conf with _ for -.
        tcp: the server listens on a port, too.
        burst: share of the jobs that is enqueued at once, at the beginning: a backlog in which order shows.
        raising: share of the producers' jobs of which the first attempt raises.
        retrying: share of those of which it asks for another.
        doomed: share of those of which every attempt raises: they are dead letters in the end.
        delayed: share of those that may not run for up to a second.
        kept: share of those of which the result is kept, and asked for at the end.
        runs: of the full form, each with a seed of its own.
    """

    jobs: int = 10_000
    seconds: float = 60.0
    duration: float = 0.1
    lease: float = 2.0
    capacity: int = 100_000
    workers: int = 2
    slots: int = 20
    producers: int = 4
    priorities: tuple[float, ...] = (-1.0, 0.0, 0.0, 0.0, 0.5, 2.0)
    many: int = 20
    threads: int = 1
    wait_timeout: float | None = None
    max_crashes: int = 50
    retry_for: float = 3.0
    grace: float = 5.0
    fsync: str = "everysec"
    scale: float = 1.0
    drain: float = 60.0
    failpoints: str = ""
    failing: int = 1
    direct: bool = False
    direct_workers: int = 0
    durable: str = ""
    durable_producers: int = 0
    sentinels: bool = False
    redis: dict[str, str] = attrs.field(factory=dict)
    tcp: bool = False
    burst: float = 0.0
    raising: float = 0.1
    retrying: float = 0.05
    doomed: float = 0.02
    delayed: float = 0.1
    kept: float = 0.1
    runs: int = 1


class Rig:
    """One run. Use it as a context; call `finish` inside.

    Attributes:
        proxy: the network's faults, see `Toxics`; write them into the history with `during`.
        server: the redis-server, of several the master; `redis()` is a client that goes past the proxy.
        chance: for the scenario's choices: the same seed chooses the same.
        reached: what was met, by name; see `reach`.
        never: names that must not be in `reached` at the end: a problem if one is.

    What the rig does to others is in `reached`, too, by the name of the fault: that it struck, a scenario shows by what
    was seen of it.
    """

    def __init__(self, folder: Path, setup: Setup, *, seed: int, short: bool) -> None:
        self.folder, self.setup, self.seed, self.short = folder, setup, seed, short
        folder.mkdir(parents=True)
        self.chance = random.Random(seed)
        self.reached: Counter[str] = Counter()
        self.problems: list[str] = []
        self.never: set[str] = set()
        self.recorder = Recorder(folder, "rig")
        self._asked = Recorder(folder, "producer")
        self.sentinels: Sentinels | None = None
        if setup.sentinels:
            self.sentinels = Sentinels(appendonly=True, appendfsync=setup.fsync, **setup.redis)
            self.server = self.sentinels.servers[0]
        else:
            self.server = Server(appendonly=True, tcp=setup.tcp, appendfsync=setup.fsync, **setup.redis)
        self.workers: list[Worker] = []
        self.producers: list[Child] = []
        self._up = True
        self._seen_up: set[int] = set()
        self._began = time.monotonic()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._ended = threading.Event()

    # The run.

    def __enter__(self) -> "Rig":
        """Start everything."""
        setup = self.setup
        (self.sentinels or self.server).start()
        try:
            self.version = str(self.redis().info("server")["redis_version"])
            self.proxy = Toxics(self.server.socket, self.seed)
            self.queue = gqueue.Queue("faults", self.url, lease=setup.lease, capacity=setup.capacity, retry_for=0.5)
            self.recorder.capacity(setup.capacity)
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()
            for number in range(setup.workers):
                direct = number >= setup.workers - setup.direct_workers
                self.workers.append(Worker(self.folder, number, self._worker_command(), self._environ(direct=direct)))
                self.start_worker(number)
            self.wait(lambda: self._stats().workers == setup.workers, 30, "the workers did not register")
            for number in range(setup.producers):
                self._start_producer(number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        self._ended.set()
        for child in (*self.workers, *self.producers):
            child.end()
        if hasattr(self, "proxy"):
            self.proxy.close()
        if hasattr(self, "queue"):
            self._sampler.join(5)
            self.queue.close()
        (self.sentinels or self.server).remove()

    def finish(self, name: str, expect: Expect, command: str = "") -> Run:
        """Heal, drain, look at what is left, end; write and return `run.json`."""
        setup = self.setup
        self.heal_all()
        until = time.monotonic() + setup.drain
        self._end_producers(until)
        drained = self._drain(until)
        self._end_workers()
        counters = dict(self._stats().counters)
        self._list_letters()
        self._list_results()
        if not drained:
            self._list_waiting()
        fsck = [str(finding) for finding in audit(self.queue.store)] if drained else None
        self._ended.set()
        self._count_reached(counters)
        for what in sorted(self.never):
            if self.reached[what]:
                self.problems.append(f"{what}: {self.reached[what]}, and it was to be never")
        run = Run(
            scenario=name,
            seed=self.seed,
            short=self.short,
            lease_s=setup.lease,
            capacity=setup.capacity,
            slots=setup.slots,
            workers=setup.workers,
            started=self._started,
            python=platform.python_version(),
            redis=self.version,
            gqueue_commit=_commit(),
            seconds=round(time.monotonic() - self._began, 1),
            expect=expect,
            reached=dict(sorted(self.reached.items())),
            counters=counters,
            fsck=fsck,
            problems=self.problems,
            settings=_told(setup),
            machine=f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
            command=command,
        )
        write_run(self.folder, run)
        return run

    # Verbs: time.

    def scaled(self, seconds: float) -> float:
        """Return *seconds* for the full form, less for the short one."""
        return seconds * self.setup.scale

    def sleep(self, seconds: float) -> None:
        """Wait; start workers again that died of a failpoint meanwhile."""
        until = time.monotonic() + seconds
        while True:
            self._tend()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(POLL_S, left))

    def wait(self, condition: Callable[[], object], seconds: float, what: str) -> bool:
        """Wait until *condition* holds; after *seconds* note *what* as a problem, and return False."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                self.problems.append(f"{what} within {seconds:g} s")
                return False
            self.sleep(0.02)
        return True

    def loading(self) -> bool:
        """Return whether a producer is still at it, and has not been for three times as long as it should."""
        late = self._began + 3 * self.setup.seconds + 30
        return time.monotonic() < late and any(child.alive() for child in self.producers)

    def every(self, seconds: float) -> Iterator[int]:
        """Yield 0, 1, 2, ... every *seconds* while producers load the queue, at least twice."""
        number = 0
        while number < 2 or self.loading():
            self.sleep(seconds)
            yield number
            number += 1

    # Verbs: workers. The history gets its lines by itself.

    def start_worker(self, number: int, *, failpoints: bool = True) -> None:
        """Start a worker process that is not running."""
        failing = failpoints and number < self.setup.failing
        self.workers[number].start(self.setup.failpoints if failing else "")

    def kill_worker(self, number: int, *, again: bool = True) -> None:
        """SIGKILL; start it again at once unless told not to."""
        worker = self.workers[number]
        if worker.alive():
            worker.kill()
            self._hit("kill -9 worker", worker.pid)
            self.recorder.died(worker.pid, "SIGKILL")
        if again:
            self.start_worker(number)

    def wait_failpoint(self, number: int, what: str) -> None:
        """Wait until a worker meets its failpoint *what* the next time."""
        log, text = self.workers[number].log, f"failpoint {what}"
        before = log().count(text)
        self.wait(lambda: log().count(text) > before, 10, f"worker {number} did not meet {what}")

    def stop_worker(self, number: int) -> None:
        """SIGSTOP: it stands still, its connections too."""
        worker = self.workers[number]
        worker.stop()
        self._hit("SIGSTOP worker", worker.pid)

    def cont_worker(self, number: int) -> None:
        """SIGCONT."""
        self.reach("workers seen standing still", _stands_still(self.workers[number].pid))
        self.workers[number].cont()
        self.recorder.heal("SIGSTOP worker")

    def term_worker(self, number: int, what: str = "SIGTERM worker") -> None:
        """SIGTERM; wait for it with `wait_worker`."""
        worker = self.workers[number]
        self.note(what, f"pid {worker.pid}")
        worker.term()

    def wait_worker(self, number: int, seconds: float) -> int | None:
        """Wait until it has ended; return its exit code. None, and a problem: it has not."""
        worker = self.workers[number]
        code = worker.wait(seconds)
        if code is None:
            self.problems.append(f"worker {number} did not end within {seconds:g} s")
        else:
            self.recorder.died(worker.pid, f"exit {code}")
        return code

    # Verbs: the server.

    @property
    def url(self) -> str:
        """Return the URL of the server, past the proxy, or that of the sentinels."""
        return self.sentinels.url if self.sentinels is not None else self.server.url

    def redis(self) -> "redis.Redis":
        """Return a client of the server, past the proxy."""
        return self.server.client()

    def kill_redis(self) -> None:
        """SIGKILL of the server; `start_redis` heals."""
        self._up = False
        self._note("kill -9 redis")
        self.server.kill()

    def start_redis(self) -> None:
        """Start the server again, on its data."""
        self.server.start()
        self._up = True
        self.recorder.heal("kill -9 redis")

    def freeze_redis(self) -> None:
        """SIGSTOP of the server; `thaw_redis` heals."""
        self._up = False
        self._note("SIGSTOP redis")
        self.server.pause()

    def thaw_redis(self) -> None:
        """SIGCONT of the server."""
        self.reach("redis seen standing still", _stands_still(self.server.process.pid if self.server.process else 0))
        self.server.go_on()
        self._up = True
        self.recorder.heal("SIGSTOP redis")

    def fail_over(self) -> None:
        """Have a sentinel make the replica the master, as an operator does; wait until the old one is its replica.

        The fault ends with the promotion: what the old master acknowledges after it is lost.
        """
        with self.during("failover"):
            self.server = self._sentinels().failover()
        self._wait_for_the_old_one()

    def kill_master(self, cut: float) -> None:
        """SIGKILL of the master, *cut* seconds after the replica lost its link; start it again when another is.

        The fault ends with the promotion of that.
        """
        before, replica = self.server, self._sentinels().replica()
        with self.during("kill -9 master"):
            replica.pause()  # else it connects again at once
            try:
                with self.redis() as client:
                    self.reach("links to the replica cut", client.client_kill_filter(_type="replica"))
                self.sleep(cut)
                before.kill()
            finally:
                replica.go_on()
            self.server = self._sentinels().wait_for_another(before)
        before.start()
        with before.client() as client:  # the sentinels see to it too, but 8 s later
            client.replicaof("127.0.0.1", self.server.port)
        self._wait_for_the_old_one()

    def _wait_for_the_old_one(self) -> None:
        other = next(server for server in self._sentinels().servers if server is not self.server)
        self.wait(lambda: role(other) == "slave" and in_step(other), 30, "the old master did not become a replica")

    def _sentinels(self) -> Sentinels:
        assert self.sentinels is not None
        return self.sentinels

    # Verbs: everything else.

    @contextmanager
    def during(self, what: str, detail: str = "") -> Iterator[None]:
        """Note a fault that begins now and is healed at the end of the block."""
        self._note(what, detail)
        try:
            yield
        finally:
            self.recorder.heal(what)

    @contextmanager
    def hole(self, number: int, way: Way) -> Iterator[None]:
        """Swallow what goes through the proxy; of the workers, number *number* alone may be behind it.

        It begins when that one runs jobs, so that there is something to take back.
        """
        what, pid = f"black hole {way}", self.workers[number].pid
        self.wait(lambda: len(self._held_by(pid)) > 1, 10, f"worker {number} had no two jobs to run")
        self.proxy.blackhole(way)
        before = self.proxy.counts()
        self._hit(what, pid)
        try:
            yield
        finally:
            seen = self.proxy.counts() - before
            self.proxy.clear()
            self.recorder.heal(what)
        held_up, held_down = seen["bytes held up"], seen["bytes held down"]
        passed_up, passed_down = seen["bytes passed up"], seen["bytes passed down"]
        shut = {
            "both": held_up and not (passed_up or passed_down),
            "down": held_down and passed_up and not passed_down,
            "up": held_up and not (held_down or passed_up),
        }
        self.reach(f"swallowed: {SIDES[way]}", bool(shut[way]))

    def note(self, what: str, detail: str = "") -> None:
        """Note a fault of a moment, just before it is injected."""
        self._note(what, detail)
        self.recorder.heal(what)

    def reach(self, what: str, times: int = 1) -> None:
        """Count that something was met, for the scenario's `reached`."""
        self.reached[what] += times

    def put(self, task: str, key: str, *arguments: Any, priority: float = 0.0, delay: float = 0.0) -> str:
        """Enqueue one job past the proxy, with lines in the history like those of a producer; return its id."""
        job = self._prepared(task, priority, delay, key, *arguments)
        enqueue(self.queue, self._asked, [(key, job)], alone=True)
        return job.id

    def put_together(self, jobs: Sequence[tuple[Any, ...]], priority: float) -> list[str]:
        """Enqueue *jobs*, each (task, key, argument, ...), in one call; return their ids."""
        prepared = [(key, self._prepared(task, priority, 0.0, key, *rest)) for task, key, *rest in jobs]
        enqueue(self.queue, self._asked, prepared, alone=False)
        return [job.id for _, job in prepared]

    def _prepared(self, task: str, priority: float, delay: float, *arguments: Any) -> PreparedJob[Any]:
        from tests.faults import app

        function = app.queue.tasks[task]
        if task not in self.queue.tasks:
            self.queue.task(function.function, name=task, timeout=function.timeout_ms / 1000)
        return self.queue.tasks[task].options(priority=priority, delay=delay).job(*arguments)

    def is_over(self, job_id: str) -> bool:
        """Return whether a job that was `put` has ended, for good."""
        return self.queue.fetch_job(job_id).status() in ("dead", "unknown")

    def runs_on(self, job_id: str, seconds: float = 20.0) -> int:
        """Wait until a job runs; return the pid of its worker, 0 and a problem if it does not come to it."""
        found: list[int] = []

        def look() -> bool:
            with self.redis() as client:
                for key in client.scan_iter(match="gq:{faults}:running:*", count=1000):
                    if client.hexists(key, job_id):
                        found.append(int(key.split(b":")[-2]))
            return bool(found)

        return found[-1] if self.wait(look, seconds, f"job {job_id} did not run") else 0

    def hit(self, what: str, pid: int) -> None:
        """Note a fault of the rig's jobs that hits the worker *pid* now; `healed` ends it."""
        self._hit(what, pid)

    def healed(self, what: str) -> None:
        """Note that a fault is over."""
        self.recorder.heal(what)

    def set_capacity(self, capacity: int) -> None:
        """Put another capacity in force, as an operator does."""
        self.queue.set_capacity(capacity)
        self.recorder.capacity(capacity)

    def kill_producer(self, number: int) -> None:
        """SIGKILL."""
        self.note("kill -9 producer", str(number))
        self.producers[number].kill()
        self.reach("producers killed", self.setup.threads * (self.producers[number].wait(0) == -signal.SIGKILL))

    def log_has(self, text: str) -> int:
        """Return how often *text* is in the workers' logs so far."""
        return sum(worker.log().count(text) for worker in self.workers)

    def stats(self) -> Stats:
        """Return the queue in numbers, asked past the proxy."""
        return self._stats()

    def heal_all(self) -> None:
        """End every fault: the network passes, the server and all workers run, without failpoints that end them."""
        self.proxy.clear()
        if not self.server.alive():
            self.start_redis()
        self.server.go_on()
        self._up = True
        for number, worker in enumerate(self.workers):
            worker.cont()
            if re.search("=(kill|exit)", worker.failpoints) and worker.alive():
                self.kill_worker(number, again=False)
            if not worker.alive():
                self._bury(worker)
                self.start_worker(number, failpoints=False)
        self.recorder.heal("all")

    # What the verbs are made of.

    def _note(self, what: str, detail: str = "") -> None:
        self.recorder.fault(what, None, detail)
        self.reached[what] += 1

    def _hit(self, what: str, pid: int) -> None:
        """Note a fault that has just hit a worker, with the jobs that Redis holds for it."""
        self.recorder.fault(what, pid, "", self._held_by(pid))
        self.reached[what] += not what.startswith("failpoint")  # these are counted in the logs

    def _held_by(self, pid: int) -> tuple[str, ...]:
        if not self._up:
            return ()
        try:
            with self.redis() as client:
                keys = list(client.scan_iter(match=f"gq:{{faults}}:running:*:{pid}:*", count=1000))
                return tuple(job.decode() for key in keys for job in client.hkeys(key))
        except redis.RedisError:
            return ()

    def _tend(self) -> None:
        """Start workers again that ended by themselves: a problem unless a failpoint asked for it; note who is up."""
        for number, worker in enumerate(self.workers):
            if worker.pid not in self._seen_up and worker.is_up():
                self._seen_up.add(worker.pid)
                self.recorder.up(worker.pid)
            if worker.wanted and not worker.alive():
                self._bury(worker)
                self.start_worker(number)

    def _bury(self, worker: Worker) -> None:
        if not worker.wanted:
            return
        struck = worker.struck()
        code = worker.wait(0)
        self._hit(struck or f"worker ended: {code}", worker.pid)
        self.recorder.died(worker.pid, f"exit {code}")
        if not struck and not self._may_die(code):
            self.problems.append(f"worker {worker.number} (pid {worker.pid}) ended by itself with {code}")
        worker.wanted = False

    def _may_die(self, code: int | None) -> bool:
        return code in self.may_die

    may_die: frozenset[int] = frozenset()
    """Exit codes with which a worker may end by itself, where a scenario's jobs kill it; negative: a signal."""

    def _start_producer(self, number: int) -> None:
        setup = self.setup
        paced = setup.jobs * (1 - setup.burst) / setup.seconds if setup.jobs else 100
        spec = Spec(
            number=number,
            seed=self.seed * 1_000 + number,
            jobs=setup.jobs // setup.producers,
            pace=paced / setup.producers,
            duration=setup.duration,
            priorities=setup.priorities,
            many=setup.many,
            threads=setup.threads,
            durable=setup.durable if number < setup.durable_producers else "",
            wait_timeout=setup.wait_timeout if number % 2 else None,
            burst=int(setup.jobs * setup.burst) // setup.producers,
            raising=setup.raising,
            retrying=setup.retrying,
            doomed=setup.doomed,
            delayed=setup.delayed,
            kept=setup.kept,
        )
        command = [sys.executable, "-m", "tests.faults.producer", msgspec.json.encode(spec).decode()]
        child = Child(self.folder / f"producer-{number}.log", command, self._environ())
        child.start()
        self.producers.append(child)

    def _worker_command(self) -> list[str]:
        setup = self.setup
        return [
            *(sys.executable, "-m", "gqueue", "--app", "tests.faults.app:queue", "--workers", str(setup.slots)),
            *("--grace", str(setup.grace), "--log-level", "info"),
        ]

    def _environ(self, *, direct: bool = False) -> dict[str, str]:
        setup = self.setup
        return {
            "GQUEUE_REDIS_URL": self.url if direct or setup.direct or setup.sentinels else self.proxy.url,
            "FAULTS_FOLDER": str(self.folder.absolute()),
            "FAULTS_LEASE": str(setup.lease),
            "FAULTS_CAPACITY": str(setup.capacity),
            "FAULTS_MAX_CRASHES": str(setup.max_crashes),
            "FAULTS_RETRY_FOR": str(setup.retry_for),
        }

    def _stats(self) -> Stats:
        return self.queue.stats()

    def _sample(self) -> None:
        depth = DepthRecorder(self.folder)
        while not self._ended.wait(SAMPLE_S):
            try:
                stats = self._stats()
            except gqueue.GqueueError:
                continue
            depth.sample(stats.depth, stats.running, stats.capacity)

    # The end.

    def _end_producers(self, until: float) -> None:
        for number, child in enumerate(self.producers):
            if not self.setup.jobs:
                child.term()
            while child.alive() and time.monotonic() < until:
                self.sleep(0.02)
            if child.alive():
                self.problems.append(f"producer {number} did not end within {self.setup.drain:g} s of the heal")
                child.kill()
            elif child.wait(0) not in (0, -9):
                self.problems.append(f"producer {number} ended with {child.wait(0)}: {child.log()[-500:]}")

    def _drain(self, until: float) -> bool:
        last: object = "no time was left"
        while time.monotonic() < until:
            try:
                stats = self._stats()
            except gqueue.GqueueError as error:  # our own connections may find out a moment later that it is back
                last = error
                continue
            last = stats
            if stats.depth == stats.running == stats.lapsed == 0:
                return True
            self.sleep(0.02)
        self.problems.append(f"not drained within {self.setup.drain:g} s of the heal: {last}")
        return False

    def _end_workers(self) -> None:
        for worker in self.workers:  # a signal that comes before Python reaches main() ends it as any program
            self.wait(worker.is_up, 20, f"worker {worker.number} was not up")
        for worker in self.workers:
            worker.term()
        for number, _ in enumerate(self.workers):
            code = self.wait_worker(number, self.setup.grace + 15)
            if code not in (0, None):
                self.problems.append(f"worker {number} ended with {code} at the end, not 0")

    def keys(self) -> dict[str, str]:
        """Return the keys of all jobs so far, by the queue's ids."""
        return {event.id: event.job for event in events(self.folder) if event.id}

    def effects(self, begin: str) -> int:
        """Return how many effects jobs have had so far whose keys begin with *begin*."""
        return sum(event.e == "effect" and event.job.startswith(begin) for event in events(self.folder))

    def _list_letters(self) -> None:
        keys = self.keys()  # by these, since of a damaged record the arguments are not known
        for shed in (False, True):
            for letter in self.queue.dead.list(limit=100_000, shed=shed):
                self.recorder.dead(keys.get(letter.id, ""), ascii(letter.id)[1:-1], letter.reason)  # of any bytes

    def _list_results(self) -> None:
        """Ask for each result that was to be kept, as its producer would."""
        from tests.faults.app import answer

        for event in list(events(self.folder)):
            if event.e == "attempt" and event.kept:
                told: Told = "missing"
                try:
                    value = self.queue.fetch_job(event.id).result(0)
                    told = "right" if value == answer(event.job) else "wrong"
                except (UnknownJob, ResultTimeout, JobFailed):
                    pass  # whether it should be there is the checker's to say
                self.recorder.result(event.job, event.id, told)

    def _list_waiting(self) -> None:
        with self.redis() as client:
            for job_id, entry in client.hscan_iter("gq:{faults}:jobs", count=1000):
                try:
                    key = str(json.loads(entry.split(b" ", 1)[1])["args"][0])
                except (ValueError, LookupError, TypeError):
                    key = ""
                self.recorder.waiting(key, job_id.decode())

    def _count_reached(self, counters: dict[str, int]) -> None:
        reached = self.reached
        for name, count in self.proxy.counts().items():
            if _tells(name):
                reached[name] += count
            status = name.partition(": ")[2]
            if status.isupper():
                reached[f"met {status}"] += count
        for worker in self.workers:
            text = worker.log()
            reached["second signals heard"] += text.count("asked a second time")
            for place in re.findall(r"^failpoint (\S+) pid", text, re.MULTILINE):
                reached[f"failpoint {place}"] += 1
            reached["stale calls"] += text.count("was overtaken by a later one")
            reached["outages over"] += text.count(" is back after ")
            for told in re.findall(r"^(app: .+)", text, re.MULTILINE):
                reached[told] += 1
            reached["leases lost"] += text.count(" is lost\n") + text.count("has no lease any more")
            reached["jobs taken back"] += sum(map(int, re.findall(r"took (\d+) jobs of worker", text)))
        for event in events(self.folder):
            if event.e == "end" and event.how == "interrupted":
                reached["attempts interrupted"] += 1
            elif event.e in ("refused", "unknown"):
                reached[f"{event.e}: {event.why.partition(':')[0]}"] += 1
        for name in ("crashed", "given_back", "skipped", "retried", "dead"):
            reached[f"stats: {name}"] += counters.get(name, 0)


def _stands_still(pid: int) -> bool:
    """Return whether a process is stopped; its state follows its name, which may have any characters."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(") ")[2][0] == "T"


def _tells(count: str) -> bool:
    """Return whether a count of the proxy is worth keeping: what went well is not."""
    if count.startswith("request"):
        return False
    status = count.partition(": ")[2]
    return not status or status.isupper() or status in ("lease_lost", "stale_call", "not_lapsed", "full")


def _told(setup: Setup) -> str:
    plain = Setup()
    chosen = {name: value for name, value in attrs.asdict(setup).items() if value != getattr(plain, name)}
    return ", ".join(f"{name} {value}" for name, value in chosen.items())


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


logging.getLogger("gqueue").addHandler(logging.NullHandler())
