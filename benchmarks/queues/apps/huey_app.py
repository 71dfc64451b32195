"""Huey: a list in Redis. A result that is None, as these are, is not stored."""

import os

from huey import RedisHuey

from benchmarks.queues.jobs import JOBS

# As for Dramatiq: redis-py 8 would let no more than 100 greenlets have a connection.
huey = RedisHuey("bench", url=f"{os.environ['PEERS_URL']}?max_connections=400")

_tasks = {kind: huey.task()(function) for kind, function in JOBS.items()}


def enqueue(kind: str, number: int) -> None:
    """Enqueue one."""
    _tasks[kind](number)
