"""A producer that sends each job at a time that was drawn beforehand, whatever became of those before.

What is late counts from that time: if the producer, Redis or the worker stalls, the jobs that should have been sent
meanwhile have waited too. A loop that sends the next job after the last one's answer would leave them out ("coordinated
omission"). Gaps are exponential, as of many users who come independently. A process of its own.
"""

import gc
import json
import random
import sys
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic_ns

from attrs import asdict, frozen

from benchmarks import timed
from benchmarks.benchmark import BenchmarkError
from benchmarks.child import Child, ready
from benchmarks.moments import sleep_until, wake_in_time
from benchmarks.server import Server

MOST_CALLERS = 16
"""Threads that send: as many calls may be in flight. A thread for each 100 jobs a second, but two at least."""

GREENLETS = 50
"""That send, if they are greenlets."""

WARM_UP = 20
"""Jobs of each thread before: they open its connection."""

WARM_UP_S = 30.0
"""They are run within that, or there is no worker."""

AHEAD_NS = 50_000_000
"""From the end of the warm-up to the first job."""


@frozen
class Plan:
    """What is to be sent: no-op jobs numbered first to first + count - 1.

    Attributes:
        rate: jobs a second, on average.
        together: what is due by now goes in one `enqueue_many`; else each job is an `enqueue` of its own, of as many
            threads as it takes, or of greenlets.
        seed: of the gaps: equal ones in all runs.
    """

    count: int
    rate: float
    together: bool = False
    greenlets: bool = False
    first: int = 0
    priority: float = 0.0
    seed: int = 1

    def due_ns(self) -> list[int]:
        """Return when each job is to be sent, from the start on."""
        draw, at, due = random.Random(self.seed), 0.0, []
        for _ in range(self.count):
            at += draw.expovariate(self.rate)
            due.append(int(at * 1e9))
        return due


@frozen
class Sent:
    """When each job was to be sent, was sent, and was known to be in (ns); and the processor time of the producer."""

    due: Sequence[int]
    called: Sequence[int]
    answered: Sequence[int]
    cpu_s: float


def send(server: Server, plan: Plan, before: Callable[[], object] = lambda: None) -> Sent:
    """Carry out *plan* in another process; call *before* when that is ready. Return when all are in."""
    with Child("benchmarks.open_loop", asdict(plan), server, patched=plan.greenlets) as child:
        child.await_ready()
        before()
        child.tell("go")
        return Sent(**child.result())


# The producer: what follows runs in a process of its own.


class Producer:
    """Carries a plan out, on threads; they are greenlets where gevent has patched."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._task = timed.tasks.no_op.options(priority=plan.priority)
        self._due = array("q", plan.due_ns())
        self._called, self._answered = (array("q", bytes(8 * plan.count)) for _ in range(2))
        self._numbers = iter(range(plan.count))

    def run(self) -> Sent:
        """Send it all."""
        send = self._send_together if self._plan.together else self._send_each
        callers = GREENLETS if self._plan.greenlets else min(MOST_CALLERS, max(2, round(self._plan.rate / 100)))
        if self._plan.together:
            callers = 1
        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(self._warm_up, range(callers)))
            gc.collect()  # of what the imports have made: 20 ms that else fall before the first job or behind it
            ready()
            start, cpu_s = monotonic_ns() + AHEAD_NS, time.process_time()
            self._due = array("q", (start + due for due in self._due))
            list(pool.map(send, range(callers)))
        return Sent(self._due, self._called, self._answered, time.process_time() - cpu_s)

    def _warm_up(self, _caller: int) -> None:
        for _ in range(WARM_UP):
            job = self._task.enqueue(-1)
        deadline = time.monotonic() + WARM_UP_S
        while job.status() in ("ready", "running"):
            if time.monotonic() > deadline:
                raise BenchmarkError(f"a job for warming up was not run within {WARM_UP_S:g} s")
            time.sleep(0.01)

    def _send_each(self, _caller: int) -> None:
        enqueue, first = self._task.enqueue, self._plan.first
        due, called, answered = self._due, self._called, self._answered
        for number in self._numbers:  # shared: each thread takes the next, and sleeps until it is due
            sleep_until(due[number])
            called[number] = monotonic_ns()
            enqueue(first + number)
            answered[number] = monotonic_ns()

    def _send_together(self, _caller: int) -> None:
        due, first, next_one = self._due, self._plan.first, 0
        while next_one < len(due):
            sleep_until(due[next_one])
            now = monotonic_ns()
            end = bisect_right(due, now, next_one)
            numbers = range(next_one, end)
            timed.queue.enqueue_many(self._task.job(first + number) for number in numbers)
            answered = monotonic_ns()
            for number in numbers:
                self._called[number], self._answered[number] = now, answered
            next_one = end


if __name__ == "__main__":
    wake_in_time()
    sent = Producer(Plan(**json.loads(sys.argv[1]))).run()
    timed.queue.close()
    print(json.dumps({name: value if name == "cpu_s" else list(value) for name, value in asdict(sent).items()}))
