"""Backpressure: who may put how many jobs into a queue that is nearly full, and who stands where in line.

Waiting producers are served most urgent first, then in order of arrival; a newcomer never overtakes one. These
functions see numbers and places only; `scheduling.enqueue` applies them, and enqueue.lua repeats them.
"""

from collections.abc import Iterable

from gqueue.core.model import Place, WhenFull


def ahead_of_newcomer(line: Iterable[Place], rank: float) -> int:
    """Return how many places of *line* stand before a producer that arrives now with a job of *rank*: equals too."""
    return sum(place.rank <= rank for place in line)


def ahead_of(line: Iterable[Place], place: Place) -> int:
    """Return how many places of *line* stand before *place*."""
    return sum(other < place for other in line)


def quota(room: int, ahead: int, *, in_line: bool) -> int:
    """Return how many jobs may enter.

    A newcomer enters only if nobody stands before it. A waiter leaves one job's room to each of those before it.
    """
    if in_line:
        return max(0, room - ahead)
    return max(0, room) if ahead == 0 else 0


def reached(line: Iterable[tuple[Place, str]], room: int) -> list[str]:
    """Return the tickets, best first, that *room* reaches: those that would be admitted if they asked now."""
    return [ticket for _, ticket in sorted(line)[: max(0, room)]]


def policy_inside_task(when_full: WhenFull, *, served_here: bool) -> WhenFull:
    """Return the policy for a job that a task enqueues.

    A task never waits for room in a queue that its own worker serves: all slots could come to wait for one another.
    """
    return WhenFull.REJECT if served_here and when_full is WhenFull.WAIT else when_full
