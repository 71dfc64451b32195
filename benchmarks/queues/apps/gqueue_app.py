"""gqueue: as any app; PEERS_RESULTS=1 keeps results."""

import os
from collections.abc import Iterable

import gqueue
from benchmarks.queues.jobs import JOBS

queue = gqueue.Queue("bench", os.environ["PEERS_URL"], capacity=10_000_000)
_TTL = 300 if os.environ.get("PEERS_RESULTS") else 0
_tasks = {kind: queue.task(name=kind, result_ttl=_TTL)(function) for kind, function in JOBS.items()}


def enqueue(kind: str, number: int) -> None:
    """Enqueue one."""
    _tasks[kind].enqueue(number)


def enqueue_many(kind: str, numbers: Iterable[int]) -> None:
    """Enqueue all."""
    task = _tasks[kind]
    queue.enqueue_many(task.job(number) for number in numbers)
