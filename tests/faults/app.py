"""The app of the campaign: a queue, and tasks that leave a line for all they do in the run's history.

The rig sets FAULTS_FOLDER (the run's folder) and the queue's settings (FAULTS_LEASE, FAULTS_CAPACITY,
FAULTS_MAX_CRASHES, FAULTS_RETRY_FOR) in the environment of workers and producers alike. The first argument of every
task is the job's key, which the producer chose: it stays the same over all attempts.
"""

import ctypes
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache

import redis
import redis.backoff
import redis.retry

import gqueue
from tests.faults.history import Recorder

QUEUE = "faults"
RETRY_S = 0.1
"""For how long a task that asks for another attempt wants to wait."""
BACKOFF_S = 0.05
"""Longest wait of one that raised once."""


class Failed(Exception):
    """What a job raises of which an attempt is to fail."""


recorder = Recorder(os.environ.get("FAULTS_FOLDER", "/nonexistent/FAULTS_FOLDER"), "worker")
queue = gqueue.Queue(
    QUEUE,
    lease=float(os.environ.get("FAULTS_LEASE", "1.5")),
    capacity=int(os.environ.get("FAULTS_CAPACITY", "100000")),
    max_crashes=int(os.environ.get("FAULTS_MAX_CRASHES", "50")),
    retry_for=float(os.environ.get("FAULTS_RETRY_FOR", "3")),
    result_ttl=0,
)


def _attempt() -> int:
    return gqueue.current_job().attempt


def answer(job: str) -> str:
    """Return what `work` returns."""
    return f"{job} is done"


@queue.task(backoff=gqueue.Backoff(base=BACKOFF_S, cap=0.2))
def work(job: str, seconds: float, first: str = "") -> str:
    """Take a while, as a request to a slow server does; then have the effect.

    The *first* attempt may "raise", or ask for another ("retry"), half-way and before it has any effect; so may all
    attempts ("fail").
    """
    attempt = _attempt()
    delay, backoff = (RETRY_S, 0.0) if first == "retry" else (0.0, BACKOFF_S)
    with recorder.running(job, attempt, delay=delay, backoff=backoff):
        if first and (attempt == 1 or first == "fail"):
            time.sleep(seconds / 2)
            raise gqueue.Retry(RETRY_S) if first == "retry" else Failed(job)
        time.sleep(seconds)
        recorder.effect(job, attempt)
    return answer(job)


@queue.task
def burn(job: str, seconds: float) -> None:
    """Keep the hub busy in Python; never yield."""
    import gevent  # the producers, which read this module too, are not patched

    attempt = _attempt()
    turns: list[int] = []
    with recorder.running(job, attempt):
        gevent.spawn(turns.append, 1)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass
        if not turns:
            print("app: hub stood still", flush=True)
        recorder.effect(job, attempt)


@queue.task
def hold_gil(job: str, seconds: float) -> None:
    """Sit in a call of C that keeps the interpreter's lock: no thread of the process runs, the heartbeat's neither.

    In the first attempt only: one that did so every time would be dead as `worker_lost`, like a poison job.
    """
    attempt = _attempt()
    seconds = seconds if attempt == 1 else 0.0
    with recorder.running(job, attempt):
        usleep = ctypes.PyDLL(None).usleep
        until = time.monotonic() + seconds
        usleep(int(seconds * 1e6))
        while (left := until - time.monotonic()) > 0:  # a signal ends it early
            usleep(int(left * 1e6))
        recorder.effect(job, attempt)


@queue.task(max_attempts=1)
def poison(job: str) -> None:
    """Kill the worker, every time."""
    recorder.start(job, _attempt())
    os.kill(os.getpid(), signal.SIGKILL)


@queue.task(max_attempts=1, timeout=0.5)
def swallow(job: str, seconds: float) -> None:
    """Swallow the time-out, and whatever else would end it, for so long."""
    with recorder.running(job, _attempt()):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                time.sleep(until - time.monotonic())
            except BaseException:  # the fault that this is about
                pass


@queue.task
def fork(job: str, way: str) -> None:
    """Fork, in one of several ways; the effect is the parent's."""
    attempt = _attempt()
    with recorder.running(job, attempt):
        if way == "process":
            child = multiprocessing.get_context("fork").Process(target=_tell_of_the_child, args=(way,))
            child.start()
            child.join()
        elif way == "command":
            subprocess.run(["echo", f"app: child {way}"], check=True)
        else:
            pid = os.fork()
            if pid == 0:
                _tell_of_the_child(way)
                if way == "exit":
                    os._exit(0)
                if way == "outlives":
                    time.sleep(2.0)
                    os._exit(0)
                if way == "raise":
                    raise RuntimeError("in the child")
                return
            if way != "outlives":
                os.waitpid(pid, 0)
        recorder.effect(job, attempt)


def _tell_of_the_child(way: str) -> None:
    os.write(1, f"app: child {way}\n".encode())  # not by print: what is buffered is the parent's


@cache
def own() -> "redis.Redis":
    """Return the client that tasks have of their own, as an application has one."""
    never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    return redis.Redis.from_url(os.environ["GQUEUE_REDIS_URL"], protocol=2, socket_timeout=2.0, retry=never)


@queue.task(max_attempts=1)
def meddle(job: str, seconds: float) -> None:
    """Time out and kill greenlets that talk to Redis, some by a client of their own and some by gqueue."""
    import gevent  # the producers, which read this module too, are not patched

    here = gqueue.current_job()
    chance = random.Random(job)
    with recorder.running(job, here.attempt):
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until:
            number += 1
            time.sleep(chance.uniform(0.0, 0.1))
            name, talk = chance.choice((("redis", _talk_to_redis), ("gqueue", _talk_to_gqueue)))
            after = chance.uniform(0.0, 0.05)
            if chance.random() < 0.5:
                try:
                    with gevent.Timeout(after) as limit:
                        talk(f"{job}.{number}", here)
                except gevent.Timeout as hit:
                    if hit is not limit:
                        raise
                    print("app:", name, "timed out", flush=True)
            else:
                spawn = chance.choice((gqueue.spawn, gevent.spawn))  # the other's greenlets make calls by themselves
                talker = spawn(talk, f"{job}.{number}", here)
                if not talker.join(after) and not talker.ready():
                    talker.kill()
                    print("app:", name, "killed", flush=True)
                elif talker.exception is not None:
                    raise talker.exception
        recorder.effect(job, here.attempt)


def _talk_to_redis(key: str, _: object) -> None:
    try:
        own().set(f"own:{key}", key, ex=60)
        told = own().get(f"own:{key}")
    except redis.RedisError:
        return
    if told != key.encode():
        print("app: redis told another's reply", flush=True)  # the application's own fault, if it is one


def _talk_to_gqueue(key: str, here: gqueue.CurrentJob) -> None:
    from tests.faults.producer import enqueue

    handle = queue.fetch_job(here.id)
    asked: list[tuple[Callable[[], object], object]] = [
        (handle.status, "running"),
        (lambda: here.progress(key), None),
        (lambda: queue.stats().capacity, queue.settings.capacity),
        (lambda: enqueue(queue, recorder, [(key, work.job(key, 0.0))], alone=True), None),
    ]
    random.shuffle(asked)
    for ask, expected in asked:
        told = ask()
        if told != expected:
            raise RuntimeError(f"gqueue told {told!r}, not {expected!r}: another's reply")
