"""A random soak: for so many minutes, one fault after another, some on top of others, chosen by a seed.

What is chosen, and how long it lasts, is the same for a seed; when it meets which job is not. Every fault here is one
after which nothing may be lost, and after which what a worker ran when it was hit runs again within the promised time.
"""

import time
from collections.abc import Callable
from pathlib import Path

import redis
from attrs import evolve, frozen

from tests.faults.history import Expect, Run
from tests.faults.rig import Rig, Setup
from tests.faults.scenarios.scenario import MARGIN_S, run_once

Move = Callable[[Rig], None]


def _kill_worker(rig: Rig) -> None:
    rig.kill_worker(rig.chance.randrange(rig.setup.workers))


def _stop_worker(rig: Rig) -> None:
    worker = rig.chance.randrange(rig.setup.workers)
    rig.stop_worker(worker)
    rig.sleep(rig.setup.lease * rig.chance.uniform(0.2, 2.0))
    rig.cont_worker(worker)


def _replace_worker(rig: Rig) -> None:
    worker = rig.chance.randrange(rig.setup.workers)
    rig.wait(rig.workers[worker].is_up, 20, f"worker {worker} was not up")
    rig.term_worker(worker)
    rig.wait_worker(worker, rig.setup.grace + 15)
    rig.start_worker(worker)


def _kill_redis(rig: Rig) -> None:
    rig.kill_redis()
    rig.sleep(rig.chance.uniform(0.0, 3.0))
    rig.start_redis()


def _freeze_redis(rig: Rig) -> None:
    rig.freeze_redis()
    rig.sleep(rig.setup.lease * rig.chance.uniform(0.2, 3.0))
    rig.thaw_redis()


def _cut_all(rig: Rig) -> None:
    for _ in range(rig.chance.randint(1, 10)):
        rig.note("reset")
        rig.proxy.reset_all()
        rig.sleep(0.2)


def _kill_clients(rig: Rig) -> None:
    with rig.redis() as client:
        rig.note("CLIENT KILL")
        try:
            client.client_kill_filter(_type="normal", skipme=True)
        except redis.ConnectionError:
            pass


def _flush_scripts(rig: Rig) -> None:
    rig.note("SCRIPT FLUSH")
    with rig.redis() as client:
        client.script_flush()


def _slow(rig: Rig) -> None:
    with rig.during("latency"):
        rig.proxy.latency(rig.chance.uniform(0.01, 0.2), 0.01, rig.chance.choice(("up", "down", "both")))
        rig.sleep(rig.chance.uniform(1.0, 5.0))
        rig.proxy.clear()


def _lose(rig: Rig) -> None:
    with rig.during("replies lost"):
        rig.proxy.lose_replies(rig.chance.uniform(0.01, 0.3))
        rig.sleep(rig.chance.uniform(1.0, 5.0))
        rig.proxy.clear()


def _cut_inside(rig: Rig) -> None:
    with rig.during("cut inside replies"):
        rig.proxy.cut_inside_reply(rig.chance.uniform(0.01, 0.3))
        rig.sleep(rig.chance.uniform(1.0, 5.0))
        rig.proxy.clear()


def _swallow(rig: Rig) -> None:
    with rig.during("black hole"):
        rig.proxy.blackhole(rig.chance.choice(("up", "down", "both")))
        rig.sleep(rig.setup.lease * rig.chance.uniform(0.1, 3.0))
        rig.proxy.clear()


def _slice(rig: Rig) -> None:
    with rig.during("slicer"):
        rig.proxy.slicer(rig.chance.randint(1, 40), 0.0005, rig.chance.choice(("up", "down", "both")))
        rig.sleep(rig.chance.uniform(1.0, 4.0))
        rig.proxy.clear()


def _throttle(rig: Rig) -> None:
    with rig.during("bandwidth"):
        rig.proxy.bandwidth(rig.chance.uniform(2_000, 100_000), rig.chance.choice(("up", "down", "both")))
        rig.sleep(rig.chance.uniform(1.0, 5.0))
        rig.proxy.clear()


def _kill_while_replies_are_lost(rig: Rig) -> None:
    with rig.during("replies lost"):
        rig.proxy.lose_replies(0.1)
        for _ in range(3):
            rig.sleep(0.5)
            _kill_worker(rig)
        rig.proxy.clear()


def _kill_redis_while_slow(rig: Rig) -> None:
    with rig.during("latency"):
        rig.proxy.latency(0.05, 0.05, "both")
        rig.sleep(0.5)
        _kill_redis(rig)
        rig.sleep(0.5)
        rig.proxy.clear()


MET = (
    *("stats: crashed", "workers seen standing still", "redis seen standing still", "outages over", "resets", "slices"),
    *("replies lost", "cuts inside a reply", "bytes held up", "bytes held down", "met NOSCRIPT"),
)
"""What was seen of the faults, in a soak that is long enough for all."""

MOVES: tuple[Move, ...] = (
    _kill_worker,
    _stop_worker,
    _replace_worker,
    _kill_redis,
    _freeze_redis,
    _cut_all,
    _kill_clients,
    _flush_scripts,
    _slow,
    _lose,
    _cut_inside,
    _swallow,
    _slice,
    _throttle,
    _kill_while_replies_are_lost,
    _kill_redis_while_slow,
)

SETUP = Setup(jobs=0, duration=0.3, priorities=(0.0,), wait_timeout=4.0, fsync="always", drain=90.0)
"""More than half a rig can do, so that a backlog grows: of one priority, since recovery is bounded."""


@frozen
class Soak:
    """Like a scenario, for so many minutes."""

    minutes: float
    full: Setup = SETUP
    name: str = "soak"

    def run(self, folder: Path, *, seed: int = 1, short: bool = False, jobs: int | None = None) -> Run:
        """Run it in *folder*; *short* and *jobs* say nothing to it."""
        expect = Expect(overlapping=None)
        if self.minutes >= 2:  # else no worker may be hit
            bound_s = round(self.full.lease * 4 / 3 + MARGIN_S, 3)
            met = MET if self.minutes >= 10 else ("kill -9 worker",)
            expect = Expect(overlapping=None, recovery_s=bound_s, reached=met)
        setup = evolve(self.full, seconds=60 * self.minutes)
        command = f"python -m tests.faults --minutes {self.minutes:g} --seed {seed}"
        return run_once(folder, setup, self._act, self.name, expect, seed=seed, short=short, command=command)

    def _act(self, rig: Rig) -> None:
        rig.may_die = frozenset({3})  # a worker that is started while Redis is away
        until = time.monotonic() + 60 * self.minutes
        while time.monotonic() < until:
            rig.sleep(rig.chance.uniform(0.2, 4.0))
            move = rig.chance.choice(MOVES)
            rig.reach(f"move {move.__name__.strip('_')}")
            move(rig)
