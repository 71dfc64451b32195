"""Dramatiq: its default middleware, and connections for as many greenlets as there are."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.queues.jobs import JOBS

# redis-py 8 caps a pool at 100 connections; 100 greenlets and the consumers need more, and fail for seconds without.
broker = RedisBroker(url=f"{os.environ['PEERS_URL']}?max_connections=400")
dramatiq.set_broker(broker)

_actors = {kind: dramatiq.actor(function) for kind, function in JOBS.items()}


def enqueue(kind: str, number: int) -> None:
    """Enqueue one."""
    _actors[kind].send(number)
