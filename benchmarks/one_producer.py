"""The producer of enqueue.py, a process of its own: `python -m benchmarks.one_producer WAY COUNT`.

It prints what it measured, as JSON. Greenlets need a process that is patched: `python -m gevent.monkey --module` before
its name.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from unittest import mock

import redis

import gqueue
from gqueue.store import scripts
from gqueue.store.connection import Opening
from gqueue.store.keys import Keys
from gqueue.store.owners import patched
from gqueue.task import new_job_id

if TYPE_CHECKING:
    from gqueue.task import Task

WARM_UP = 1_000
TURN = 500


class Stretch:
    """What is measured, as a context manager, perhaps in several stretches: time, and processor time of both sides."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.seconds = self.cpu_s = self.redis_cpu_s = 0.0

    def __enter__(self) -> "Stretch":
        self._redis, self._cpu, self._start = self._redis_cpu(), time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._start
        self.cpu_s += time.process_time() - self._cpu
        self.redis_cpu_s += self._redis_cpu() - self._redis

    def _redis_cpu(self) -> float:
        cpu: dict[str, float] = self._client.info("cpu")
        return cpu["used_cpu_user"] + cpu["used_cpu_sys"]


def produce(way: str, count: int) -> dict[str, Any]:
    """Enqueue the numbers 0 to *count* - 1 in one *way*; return what was measured."""
    if "greenlets" in way and not patched():
        raise SystemExit(f"{way}: these would be threads; run `python -m gevent.monkey --module` and the module's name")
    queue = gqueue.Queue("bench", capacity=10_000_000)

    @queue.task(result_ttl=0)
    def no_op(number: int) -> None:
        """Do nothing."""

    client = redis.Redis.from_url(queue.url, protocol=2, single_connection_client=True)
    for _ in range(WARM_UP):
        no_op.enqueue(-1)
    stretch, beside = Stretch(client), {}
    match way:
        case "one by one":
            beside = one_by_one(no_op, count, stretch, references(no_op, client))
        case "enqueue_many":
            queue.enqueue_many(no_op.job(-1) for _ in range(WARM_UP))
            with stretch:
                queue.enqueue_many(no_op.job(number) for number in range(count))
        case _:
            at_once(no_op, count, stretch, int(way.split()[0]))
    queue.close()
    return {
        "seconds": round(stretch.seconds, 4),
        "jobs_per_s": round(count / stretch.seconds, 1),
        "cpu_us": round(stretch.cpu_s / count * 1e6, 2),
        "redis_cpu_us": round(stretch.redis_cpu_s / count * 1e6, 2),
        **beside,
    }


def at_once(no_op: "Task[[int], None]", count: int, stretch: Stretch, callers: int) -> None:
    """Have so many *callers* share the jobs: threads, which are greenlets in a process that is patched."""

    def call(numbers: Iterable[int]) -> None:
        start.wait()
        for number in numbers:
            no_op.enqueue(number)

    start = threading.Event()
    threads = [threading.Thread(target=call, args=(range(first, count, callers),)) for first in range(callers)]
    for thread in threads:
        thread.start()
    with stretch:
        start.set()
        for thread in threads:
            thread.join()


def one_by_one(
    no_op: "Task[[int], None]", count: int, stretch: Stretch, calls: dict[str, Callable[[], Any]]
) -> dict[str, float]:
    """Enqueue in turns with the references; return their rates."""
    seconds = dict.fromkeys(calls, 0.0)
    for first in range(0, count, TURN):
        with stretch:
            for number in range(first, first + TURN):
                no_op.enqueue(number)
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(TURN):
                call()
            seconds[name] += time.perf_counter() - start
    return {name: round(count / taken, 1) for name, taken in seconds.items()}


def references(no_op: "Task[[int], None]", client: redis.Redis) -> dict[str, Callable[[], Any]]:
    """Return the calls to compare with: what an enqueue sends and is answered, by redis-py."""
    script = scripts.load()["enqueue"]
    sha = script.sha.decode()
    pooled = redis.Redis.from_url(no_op.queue.url, protocol=2)
    with mock.patch.object(Opening, "pack", autospec=True, side_effect=Opening.pack) as packing:
        no_op.enqueue(-1)
    opening, behind = packing.call_args.args
    arguments = [len(opening.keys), *opening.keys, *behind]
    first = 1 + len(script.keys)
    arguments[1 + script.keys.index("call:LANE")] = Keys(no_op.queue.name)("call:LANE", "bench.1")
    call, job_id = (first + script.arguments.index(name) for name in ("call", "jobs"))

    def same() -> Any:
        arguments[call] += 1
        arguments[job_id] = new_job_id()
        return client.evalsha(sha, *arguments)

    arguments[call] = 0
    status, reply = same()
    bare = client.script_load(f"return {{'{status.decode()}', '{reply.decode()}'}}")
    sent = tuple(arguments)
    assert client.evalsha(bare, *sent) == [status, reply]
    return {
        "bare_per_s": lambda: client.evalsha(bare, *sent),
        "same_per_s": same,
        "pooled_per_s": lambda: pooled.evalsha(bare, *sent),
    }


if __name__ == "__main__":
    print(json.dumps(produce(sys.argv[1], int(sys.argv[2]))))
