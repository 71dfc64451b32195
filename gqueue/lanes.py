"""Numbered calls: what makes an enqueue whose reply was lost safe to send again.

A lane has one call in flight at a time. Whoever calls takes a lane from the stack and gives it back when the answer
is there; after anything else - no answer, an exception thrown into the middle - the lane's number is in doubt, so it is
dropped and its id never used again.
"""

import itertools
import os


class Lane:
    """A lane's id and the number of its last answered call."""

    __slots__ = ("call", "id")

    def __init__(self, lane_id: str) -> None:
        self.id, self.call = lane_id, 0


class Lanes:
    """The idle lanes of one process and queue. The operations of a list are atomic; there is no lock to be forked."""

    def __init__(self) -> None:
        self._prefix = os.urandom(12).hex()
        self._numbers = itertools.count(1)
        self._idle: list[Lane] = []

    def take(self) -> Lane:
        """Return a lane that nobody else has."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.new()

    def new(self) -> Lane:
        """Return a lane that was never used."""
        return Lane(f"{self._prefix}.{next(self._numbers):x}")

    def give_back(self, lane: Lane) -> None:
        """Make *lane* free for others: its last call was answered."""
        lane.call += 1
        self._idle.append(lane)
