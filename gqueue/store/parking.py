"""Where callers wait until another has something for them."""

import threading
from collections import deque
from collections.abc import Callable


class Parking:
    """A place to wait, to be woken one by one or all together; under no lock.

    threading.Condition will not do: on its way out of `wait` it takes its lock again, and a gevent.Timeout or a kill
    that strikes there makes it release a lock that it does not hold. Seen with 50 greenlets under random time-outs.
    """

    def __init__(self) -> None:
        self._parked: deque[threading.Lock] = deque()

    def wait(self, unless: Callable[[], object], seconds: float) -> None:
        """Wait until woken, for *seconds* at most, or not at all if *unless* holds once those who wake can see us.

        The caller looks again afterwards. A wake-up that strikes as the caller leaves otherwise goes to the next.
        """
        spot = threading.Lock()
        spot.acquire()
        woken = False
        try:
            self._parked.append(spot)
            if not unless():
                woken = spot.acquire(timeout=max(0.0, seconds))
        finally:
            try:
                self._parked.remove(spot)
            except ValueError:
                if not woken:
                    self.wake_one()

    def wake_one(self) -> None:
        """Wake who has waited longest, if anyone."""
        if self._parked:  # else an exception for nothing in every call
            try:
                self._parked.popleft().release()
            except IndexError:
                pass

    def wake_all(self) -> None:
        """Wake all that wait now."""
        for _ in range(len(self._parked)):
            self.wake_one()
