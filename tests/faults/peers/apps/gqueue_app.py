"""gqueue: as any app, but for the lease."""

import os

import gqueue
from tests.faults.peers import tasks

queue = gqueue.Queue("faults", os.environ["PEERS_URL"], lease=float(os.environ["PEERS_TIMEOUT"]))

_tasks = {function.__name__: queue.task(function) for function in (tasks.work, tasks.burn)}


def enqueue(task: str, key: str, *arguments: object) -> str:
    """Enqueue, and return the job's id."""
    return _tasks[task].enqueue(key, *arguments).id
