"""Scenario 30: producers that wait in line, and die there."""

from attrs import evolve

from tests.faults.rig import Rig
from tests.faults.scenarios.scenario import FULL, SHORT, scenario

LINE = {"capacity": 10, "producers": 6, "threads": 10, "many": 3, "seconds": 1.0, "raising": 0.0, "retrying": 0.0}
"""60 producers, in 6 processes; they bring all they have as fast as they are let in.

No job fails: one that waits to be tried again was in before, and may be above the capacity.
"""
HALF = (0, 2, 4)
CAPACITIES = (3, 25, 1, 10)


@scenario(
    30,
    full=evolve(FULL, **LINE, jobs=24_000, duration=0.1),
    short=evolve(SHORT, **LINE, jobs=1_800, duration=0.1),
    duplicated=0,
    inversions=0,
    depth_over=0,
    reached=("producers in line", "kill -9 producer", "capacity changed"),
)
def full_queue(rig: Rig) -> None:
    """60 producers stand in line before a queue of 10; half of them are killed there; the capacity changes up and down.

    The depth is never above the capacity in force, but for what waited when it was lowered. A dead producer holds up
    nobody for longer than 3 s; no job that was acknowledged is lost, and none is done twice.
    """
    rig.wait(lambda: rig.stats().waiters > 30, 20, "30 producers did not come to stand in line")
    for number in rig.every(rig.scaled(1.0)):
        rig.reach("producers in line", rig.stats().waiters)
        if number < len(HALF):
            rig.kill_producer(HALF[number])
        rig.set_capacity(CAPACITIES[number % len(CAPACITIES)])
        rig.reach("capacity changed")
    rig.set_capacity(rig.setup.capacity)
