"""Huey: takes a task off its list before it runs it."""

import os

from huey import RedisHuey

from tests.faults.peers import tasks

huey = RedisHuey("faults", url=os.environ["PEERS_URL"])

_tasks = {function.__name__: huey.task()(function) for function in (tasks.work, tasks.burn)}


def enqueue(task: str, key: str, *arguments: object) -> str:
    """Enqueue, and return the task's id."""
    return str(_tasks[task](key, *arguments).id)
