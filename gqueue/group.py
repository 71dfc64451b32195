"""Group commit: enqueues that meet on their way travel in one call, and each is answered on its own.

One of the callers carries the call of all; there is no thread for it, and nobody waits for an answer that is under way:
who meets others waits until all that could run have come along, and then leaves with them. So a busy process makes few
large calls, and one that mostly waits for a distant server makes as many at once as it has callers. What happens to
the caller that carries - a time-out, a kill, an interrupt between any two lines - happens to it alone: a numbered call
is sent again by the next.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from gqueue.store.owners import guard, patched

T = TypeVar("T")

LOOK_AGAIN_S = 1.0
"""After so long a waiting thread looks whether who was hit could tell the others. Greenlets are hit where they wait
alone, and can."""


def let_others_come() -> None:
    """Let all run that can run now."""
    time.sleep(0)


class Rider(Generic[T]):
    """A caller that travels with others, and what it brings.

    Attributes:
        trip: the call that it goes with, None as long as that has not formed; *seat*: which of its riders, from 0.
        gone: it was hit, and does nothing any more.
    """

    __slots__ = ("brings", "gone", "seat", "spot", "trip")

    def __init__(self, brings: T) -> None:
        self.brings, self.seat = brings, 0
        self.trip: Trip[T] | None = None
        self.gone = False
        self.spot = threading.Lock()
        self.spot.acquire()

    def wake(self) -> None:
        """Have it look what it is to do; once too often does no harm. For who holds the lock of its group."""
        if self.spot.locked():
            self.spot.release()


class Trip(Generic[T]):
    """One call, and whom it carries; *outcome* and *error*: how it ended.

    *carrier* makes the call. *state* is for the sender, which goes on with it when another rider carries the call on.
    """

    __slots__ = ("_end", "carrier", "riders", "state")

    def __init__(self, riders: Sequence[Rider[T]]) -> None:
        self.riders = riders
        self.carrier = riders[0]
        self.state: Any = None
        self._end: tuple[Any, Exception | None] | None = None

    def end(self, outcome: object, error: Exception | None = None) -> None:
        """Note how it ended, once."""
        self._end = outcome, error

    @property
    def ended(self) -> bool:
        """Return whether `end` was called."""
        return self._end is not None

    @property
    def outcome(self) -> Any:
        """Return what it ended with."""
        return self._end and self._end[0]

    @property
    def error(self) -> Exception | None:
        """Return the error it ended with."""
        return self._end and self._end[1]


class GroupCommit(Generic[T]):
    """Those of one process, or of one native thread under gevent, whose calls may be one.

    All changes are made with the lock, in an order in which `_mend` can complete what was broken off after any line:
    Python runs the handlers of signals between two instructions, and they may raise. So a comprehension is not written
    below a `with`: from 3.12 on it is a loop in the same function, parts of which no `__exit__` covers.

    *under_way*: has an entry for each caller that is inside; who finds it empty has nobody to travel with.

    Args:
        send: carries a trip to its end (`Trip.end`); what it raises has befallen its caller alone.
        fits: how many of those who wait, in order of arrival, one call is to carry, by how many are inside; at least 1.
    """

    def __init__(self, send: Callable[[Trip[T]], None], fits: Callable[[Sequence[T], int], int]) -> None:
        self._send, self._fits = send, fits
        self.under_way: set[object] = set()
        self._look_again_s = -1 if patched() else LOOK_AGAIN_S
        self._lock = guard()
        self._waiting: list[Rider[T]] = []
        self._boarder: Rider[T] | None = None  # forms the next trip
        self._trips: set[Trip[T]] = set()  # not all of whose riders were told that it ended
        self._broken = False

    def ride(self, brings: T) -> Rider[T]:
        """Travel with whoever else comes; return the rider, whose trip has ended."""
        rider = Rider(brings)
        try:
            self._join(rider)
            while rider.trip is None or not rider.trip.ended:
                if not rider.spot.acquire(timeout=self._look_again_s):
                    self._mend()
                elif self._boarder is rider:
                    let_others_come()
                    self._board()
                if rider.trip and rider.trip.carrier is rider and not rider.trip.ended:
                    self._send(rider.trip)
                    self._tell(rider.trip)
        except BaseException:
            rider.gone = self._broken = True
            self._mend()
            raise
        return rider

    def _join(self, rider: Rider[T]) -> None:
        if self._broken:
            self._mend()
        with self._lock:
            self._waiting.append(rider)
            if self._boarder is None:
                self._choose_boarder()

    def _choose_boarder(self) -> None:
        """Have the one let others aboard that has waited longest."""
        self._boarder = self._waiting[0] if self._waiting else None
        if self._boarder:
            self._boarder.wake()

    def _board(self) -> None:
        """Form the trip of who has waited longest and of others; who comes later goes with another."""
        with self._lock:
            self._form_trip()

    def _form_trip(self) -> None:
        riders = self._waiting[: self._fits([one.brings for one in self._waiting], len(self.under_way))]
        trip = Trip(riders)
        self._trips.add(trip)
        self._seat(trip)
        del self._waiting[: len(riders)]
        self._choose_boarder()

    def _seat(self, trip: Trip[T]) -> None:
        for seat, rider in enumerate(trip.riders):
            rider.seat, rider.trip = seat, trip

    def _tell(self, trip: Trip[T]) -> None:
        """Wake all riders of a trip that has ended."""
        with self._lock:
            self._wake_all(trip)

    def _wake_all(self, trip: Trip[T]) -> None:
        for rider in trip.riders:
            rider.wake()
        self._trips.discard(trip)

    def _mend(self) -> None:
        """Complete what was broken off, and have others go on with what those were to do who are gone."""
        with self._lock:
            self._complete()

    def _complete(self) -> None:
        for trip in list(self._trips):
            self._seat(trip)
            if trip.ended:
                self._wake_all(trip)
            else:
                self._wake_carrier(trip)
        self._waiting[:] = [rider for rider in self._waiting if rider.trip is None and not rider.gone]
        self._choose_boarder()
        self._broken = False

    def _wake_carrier(self, trip: Trip[T]) -> None:
        """Wake who carries the trip, or, if that one is gone, another who does from now on."""
        for rider in (trip.carrier, *trip.riders):
            if not rider.gone:
                trip.carrier = rider
                rider.wake()
                return
        self._trips.discard(trip)
