"""Group commit: enqueues that meet on their way travel in one call, and each is answered on its own.

One of the callers carries the call of all; there is no thread for it, and nobody waits for an answer that is under way:
who meets others waits until all that could run have come along, and then leaves with them. So a busy process makes few
large calls, and one that mostly waits for a distant server makes as many at once as it has callers. What happens to
the caller that carries - a time-out, a kill - happens to it alone: a numbered call is sent again by the next.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def let_others_come() -> None:
    """Let all run that can run now."""
    time.sleep(0)


class Rider(Generic[T]):
    """A caller that travels with others, and what it brings.

    Attributes:
        trip: the call that it goes with, None as long as that has not left; *seat*: which of the riders it is, from 0.
        arrived: the call has ended; its outcome is with the trip.
        boards: it holds the token of who lets others aboard.
    """

    __slots__ = ("_choice", "arrived", "boards", "brings", "seat", "spot", "trip")

    def __init__(self, brings: T) -> None:
        self.brings, self.seat = brings, 0
        self.trip: Trip[T] | None = None
        self.arrived = self.boards = False
        self.spot = threading.Lock()
        self.spot.acquire()
        self._choice = [None]

    def choose(self, *, boards: bool) -> bool:
        """Have it carry the call of its trip, or of one that is to form (*boards*); return whether it still waits."""
        if not self._settle():
            return False
        self.boards = boards
        self.spot.release()
        return True

    def withdraw(self) -> bool:
        """Note that it waits no longer; return False if it was chosen before."""
        return self._settle()

    @property
    def waits(self) -> bool:
        """Return whether it was neither chosen nor withdrawn nor taken along."""
        return bool(self._choice) and self.trip is None

    def _settle(self) -> bool:
        try:  # the operations of a list are atomic: one of two gets it
            self._choice.pop()
        except IndexError:
            return False
        return True


class Trip(Generic[T]):
    """One call, and whom it carries; *outcome* and *error*: how it ended.

    *state* is for the sender, which goes on with it when another rider carries the call on.
    """

    __slots__ = ("error", "outcome", "riders", "state")

    def __init__(self, riders: Sequence[Rider[T]]) -> None:
        self.riders = riders
        self.state: Any = None
        self.outcome: Any = None
        self.error: Exception | None = None

    def end(self, outcome: object, error: Exception | None = None) -> None:
        """Tell all riders."""
        self.outcome, self.error = outcome, error
        for rider in self.riders:
            rider.arrived = True
        for rider in self.riders:
            if rider.withdraw():
                rider.spot.release()


class GroupCommit(Generic[T]):
    """Those of one process, or of one native thread under gevent, whose calls may be one.

    *under_way*: has an entry for each caller that is inside; who finds it empty has nobody to travel with.

    Args:
        send: carries a trip to its end (`Trip.end`); what it raises has befallen its caller alone.
        fits: how many of those who wait, in order of arrival, one call is to carry, by how many are inside; at least 1.
    """

    def __init__(self, send: Callable[[Trip[T]], None], fits: Callable[[Sequence[T], int], int]) -> None:
        self._send, self._fits = send, fits
        self.under_way: list[None] = []
        self._waiting: list[Rider[T]] = []  # anybody appends; only who holds the token takes out
        self._token: list[None] = [None]

    def ride(self, brings: T) -> Rider[T]:
        """Travel with whoever else comes; return the rider, whose trip has ended."""
        rider = Rider(brings)
        self._waiting.append(rider)
        try:
            self._let_board()
            rider.spot.acquire()
            if not rider.arrived:
                if rider.boards:
                    let_others_come()
                    self._board(rider)
                assert rider.trip is not None
                self._send(rider.trip)
        except BaseException:
            if not rider.withdraw() and not rider.arrived:
                self._replace(rider)
            raise
        return rider

    def _let_board(self) -> None:
        """If nobody lets others aboard, have the one do it that has waited longest."""
        while self._waiting:
            try:
                self._token.pop()
            except IndexError:
                return
            waiting = self._waiting[:]
            for rider in waiting:
                if rider.waits and rider.choose(boards=True):
                    return
            self._waiting[: len(waiting)] = []
            self._token.append(None)

    def _board(self, rider: Rider[T]) -> None:
        """Form the trip of *rider* and of those who wait; who comes later goes with another."""
        waiting = self._waiting[:]
        riders = [rider, *(other for other in waiting if other.waits)]
        riders = riders[: self._fits([one.brings for one in riders], len(self.under_way))]
        trip = Trip(riders)
        for seat, one in enumerate(riders):
            one.trip, one.seat = trip, seat
        self._waiting[: len(waiting)] = [other for other in waiting if other.waits]
        self._leave(rider)

    def _leave(self, rider: Rider[T]) -> None:
        rider.boards = False
        self._token.append(None)
        self._let_board()

    def _replace(self, rider: Rider[T]) -> None:
        """Have another go on with what *rider* was chosen for."""
        if rider.boards:
            self._leave(rider)
        if rider.trip is not None:
            for other in rider.trip.riders:
                if other is not rider and other.choose(boards=False):
                    return
