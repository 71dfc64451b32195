"""What `python -m gqueue` runs when no app is named: sums, a task that never ends, and a producer of both.

Decides what a first-time user sees. Uses nothing but the public face of gqueue, as any program would, so that it
can be copied from; only the producer's greenlet is gevent's.
"""

import logging
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gqueue.config import DEFAULT_LEASE_S, DEFAULT_URL, masked
from gqueue.errors import (
    GqueueError,
    JobCancelled,
    JobFailed,
    QueueFull,
    ResultTimeout,
    StoreUnavailable,
    UnknownJob,
)
from gqueue.job import JobHandle
from gqueue.queue import Queue
from gqueue.task import Task

if TYPE_CHECKING:
    from gevent import Greenlet

NAME = "demo"
CAPACITY = 3
WORKERS = 5

RESULT_TTL_S = 3600.0
"""The summary reads the outcomes at the end, and --jobs may be large."""

PAUSE_S = 0.002
"""Between two jobs, as calls would come in: far more than 5 workers serve, and no more than 50 can take at once."""

_logger = logging.getLogger("gqueue.demo")


def sum_first(n: int) -> int:
    """Return the sum of the first *n* natural numbers, as slowly as if something were to be waited for."""
    if n < 0:
        raise ValueError(f"n must be a natural number, not {n}")
    time.sleep(random.uniform(0.05, 0.2))
    return n * (n + 1) // 2


def never_ends() -> None:
    """Go on until the time limit."""
    while True:
        time.sleep(0.1)


def make_queue(url: str | None, *, capacity: int = CAPACITY, lease: float = DEFAULT_LEASE_S) -> Queue:
    """Return the demo's queue with its two tasks, which have one attempt each."""
    queue = Queue(NAME, url=url, capacity=capacity, lease=lease)
    queue.task(max_attempts=1, result_ttl=RESULT_TTL_S)(sum_first)
    queue.task(max_attempts=1, result_ttl=RESULT_TTL_S, timeout=1.0)(never_ends)
    return queue


class Demo:
    """The demo's producer: enqueues *jobs* calls, waits for their outcomes, sums them up."""

    def __init__(self, queue: Queue, *, jobs: int, workers: int, burst: bool = False) -> None:
        self._queue, self._jobs, self._workers, self._burst = queue, jobs, workers, burst
        self._handles: list[JobHandle[Any]] = []
        self._waits = 0
        self._summary = ""
        # `enqueue` finds these by itself, as the demo did.
        self._found = queue.url in ("embedded:", DEFAULT_URL)
        self._greenlet: Greenlet[[], None] | None = None

    def start(self) -> None:
        """Start the producer on a greenlet of its own."""
        import gevent

        self._greenlet = gevent.spawn(self._produce)

    def busy(self) -> str | None:
        """Return what a worker that is to end when nothing is left still waits for."""
        return None if self._greenlet is None or self._greenlet.dead else "the demo's producer"

    def end(self) -> None:
        """Stop the producer, if it was started, and sum up what was done; in a burst that is the last line anyway."""
        if self._greenlet is None:
            return
        self._greenlet.kill()
        try:
            if not self._summary:
                self._sum_up()
            elif not self._burst:
                _logger.info("%s", self._summary)
        except GqueueError as error:
            _logger.warning("no summary: %s", error)

    def _produce(self) -> None:
        self._await_worker()
        for task, args, priority in self._calls():
            self._handles.append(self._enqueue(task, args, priority))
            time.sleep(PAUSE_S)
        if self._jobs and not self._waits:
            _logger.info("nobody had to wait for room: %d workers took the jobs as they came", self._workers)
        for handle in self._handles:
            self._patiently(handle.wait)
        self._sum_up()
        if not self._burst:
            where = "" if self._found else f" --redis {masked(self._queue.url)}"
            _logger.info("waiting for more jobs; add one: python -m gqueue enqueue sum_first 10 --priority -1%s", where)

    def _await_worker(self) -> None:
        # So that the first jobs meet a worker: without one, three of them fill the queue.
        while not self._patiently(self._queue.stats).workers:
            time.sleep(0.01)

    def _calls(self) -> list[tuple[Task[..., Any], tuple[int, ...], int]]:
        sums = self._queue.tasks["sum_first"]
        calls: list[tuple[Task[..., Any], tuple[int, ...], int]]
        calls = [(sums, (random.randint(1, 100),), random.randint(-5, 5)) for _ in range(self._jobs)]
        if self._jobs > 1:
            calls[random.randrange(self._jobs // 2)] = (self._queue.tasks["never_ends"], (), random.randint(-5, 5))
        return calls

    def _enqueue(self, task: Task[..., Any], args: tuple[int, ...], priority: int) -> JobHandle[Any]:
        shown = f"{task.name}({', '.join(map(str, args))})"
        # An id of our own: sent twice, whatever became of the first, the job is there once.
        job_id = uuid.uuid4().hex
        try:
            job = task.options(priority=priority, job_id=job_id, when_full="reject").enqueue(*args)
        except (QueueFull, StoreUnavailable) as error:
            since = time.monotonic()
            job = task.options(priority=priority, job_id=job_id).enqueue(*args)
            waited_ms = (time.monotonic() - since) * 1000
            self._waits += 1
            _logger.info("the producer waited %d ms for room for %s: %s", waited_ms, shown, _why(error))
        _logger.info("enqueued %s, job %s, priority %d", shown, job.id, priority)
        return job

    def _patiently(self, call: Any) -> Any:
        """Carry out a call to Redis, again and again through an outage, of which the worker tells."""
        while True:
            try:
                return call()
            except StoreUnavailable:
                time.sleep(1.0)

    def _sum_up(self) -> None:
        self._summary = summary(self._jobs, [outcome(handle) for handle in self._handles])
        _logger.info("%s", self._summary)


def outcome(job: JobHandle[Any]) -> str:
    """Return what became of *job*, in words."""
    try:
        job.result(timeout=0)
    except JobFailed as error:
        return f"dead ({error.reason.replace('_', ' ')})"
    except JobCancelled:
        return "cancelled"
    except ResultTimeout:
        status = job.status()
        return "waiting" if status in ("ready", "scheduled") else status
    except UnknownJob:
        return "unknown"
    return "succeeded"


def summary(jobs: int, outcomes: Sequence[str]) -> str:
    """Return how many jobs came to which of *outcomes*; *jobs* were to be enqueued.

    >>> summary(3, ["succeeded", "dead (timed out)", "succeeded"])
    '3 jobs: 2 succeeded, 1 dead (timed out)'
    """
    counts = sorted(Counter(outcomes).items(), key=lambda item: (item[0] != "succeeded", item[0]))
    number = f"{jobs} jobs" if len(outcomes) == jobs else f"{len(outcomes)} of {jobs} jobs enqueued"
    return f"{number}: {', '.join(f'{count} {outcome}' for outcome, count in counts) or 'nothing done'}"


def _why(error: QueueFull | StoreUnavailable) -> str:
    return f"{error.depth} of {error.capacity} waited" if isinstance(error, QueueFull) else str(error)
