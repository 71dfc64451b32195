"""Scenario 30: producers that wait in line, and die there."""

from itertools import pairwise

from attrs import evolve

from tests.faults.history import events
from tests.faults.rig import Rig
from tests.faults.scenarios.scenario import FULL, SHORT, scenario

STEADY = {"raising": 0.0, "retrying": 0.0, "doomed": 0.0}
LINE = {"capacity": 10, "producers": 6, "threads": 10, "many": 3, "seconds": 1.0, **STEADY}
"""60 producers, in 6 processes; they bring all they have as fast as they are let in.

No job fails: one that waits to be tried again was in before, and may be above the capacity.
"""
HALF = (0, 2, 4)
HELD_UP_S = 3.0
"""For how long a dead producer may hold the others up; not taken from gqueue."""
CAPACITIES = (3, 25, 1, 10)


@scenario(
    30,
    full=evolve(FULL, **LINE, jobs=24_000, duration=0.1),
    short=evolve(SHORT, **LINE, jobs=1_800, duration=0.1),
    duplicated=0,
    inversions=0,
    depth_over=0,
    reached=("producers in line", "producers killed", "capacity changed", "longest stall, ms"),
)
def full_queue(rig: Rig) -> None:
    """60 producers stand in line before a queue of 10; half of them are killed there; the capacity changes up and down.

    The depth is never above the capacity in force, but for what waited when it was lowered. A dead producer holds up
    nobody for longer than 3 s; no job that was acknowledged is lost, and none is done twice.
    """
    rig.wait(lambda: rig.stats().waiters > 50, 20, "50 producers did not come to stand in line")
    for number in rig.every(rig.scaled(1.0)):
        rig.reach("producers in line", rig.stats().waiters)
        if number < len(HALF):
            rig.kill_producer(HALF[number])
        rig.set_capacity(CAPACITIES[number % len(CAPACITIES)])
        rig.reach("capacity changed")
    rig.set_capacity(rig.setup.capacity)
    admitted = [event.t for event in events(rig.folder) if event.e == "ack"]
    stall_s = max(after - before for before, after in pairwise(admitted)) / 1e9
    rig.reach("longest stall, ms", round(stall_s * 1000))
    if stall_s > HELD_UP_S + 0.5:
        rig.problems.append(f"nobody was let in for {stall_s:.1f} s: a dead producer holds up nobody for so long")
