"""Dramatiq: acknowledges a message when it has ended, and tries again what raised, by default."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.faults.peers import tasks

broker = RedisBroker(
    url=os.environ["PEERS_URL"],
    heartbeat_timeout=int(float(os.environ["PEERS_TIMEOUT"]) * 1000),
    maintenance_chance=100_000,
)
dramatiq.set_broker(broker)

_actors = {function.__name__: dramatiq.actor(function) for function in (tasks.work, tasks.burn)}


def enqueue(task: str, key: str, *arguments: object) -> str:
    """Enqueue, and return the message's id."""
    return str(_actors[task].send(key, *arguments).message_id)
