"""The least that a queue in Python takes: redis-py, RPUSH, BLPOP and a call of a script that does nothing.

A producer pushes at times drawn beforehand, as in open_loop.py; a consumer, another process, waits for it, and calls
the script, as a worker that claims: four times a process has to be woken. This is what latency is compared with. The
longer a core had nothing to do the longer it takes, several times as long as in a row: it wakes up with cold caches.
So it is measured at the rate of what it is compared with.
"""

import json
import sys
from collections.abc import Sequence
from time import monotonic_ns

import redis

from benchmarks.child import Child, ready
from benchmarks.moments import sleep_until, wake_in_time
from benchmarks.open_loop import Plan
from benchmarks.server import Server

MOST_RATE = 1_000
"""Elements a second at most: above some 5,000 they wait for each other, as each takes four round trips."""

KEY = "bare"
PAYLOAD = "x" * 100
NOTHING = "return {'ok', ''}"

AHEAD_NS = 50_000_000
LONGEST_S = 60


def measure(server: Server, rate: float, seconds: float) -> list[int]:
    """Push so many elements a second, on average, for so long; return how long each took (ns), from when it was due."""
    rate = min(rate, MOST_RATE)
    plan = {"port": server.port, "due_ns": Plan(int(rate * seconds), rate).due_ns()}
    with (
        Child("benchmarks.bare", {"role": "consumer", **plan}, server) as consumer,
        Child("benchmarks.bare", {"role": "producer", **plan}, server) as producer,
    ):
        for child in (consumer, producer):
            child.await_ready()
        for child in (consumer, producer):
            child.tell("go")
        return [came - due for due, came in zip(producer.result(), consumer.result(), strict=True)]


def _produce(client: redis.Redis, due_ns: Sequence[int]) -> list[int]:
    wake_in_time()
    client.ping()
    ready()
    start = monotonic_ns() + AHEAD_NS
    due = [start + offset for offset in due_ns]
    for moment in due:
        sleep_until(moment)
        client.rpush(KEY, PAYLOAD)
    return due


def _consume(client: redis.Redis, other: redis.Redis, count: int) -> list[int]:
    sha, came = other.script_load(NOTHING), []
    ready()
    for _ in range(count):
        client.blpop([KEY], LONGEST_S)
        other.evalsha(sha, 0)
        came.append(monotonic_ns())
    return came


if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    one, other = (redis.Redis(port=plan["port"], protocol=2, single_connection_client=True) for _ in range(2))
    due_ns = plan["due_ns"]
    print(json.dumps(_produce(one, due_ns) if plan["role"] == "producer" else _consume(one, other, len(due_ns))))
