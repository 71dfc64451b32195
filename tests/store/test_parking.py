"""Waiting to be woken: nobody sleeps through a wake-up, and none is lost with who was to have it."""

import threading
import time
from collections import deque

import pytest

from gqueue.store.parking import Parking
from tests.conftest import wait_until


def never() -> bool:
    return False


def park(parking: Parking, woken: list[float], seconds: float = 20) -> threading.Thread:
    """Let a thread wait; return when it is parked."""
    before = len(parking._parked)

    def wait() -> None:
        started = time.monotonic()
        parking.wait(never, seconds)
        woken.append(time.monotonic() - started)

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: len(parking._parked) > before)
    return thread


def test_who_waits_longest_is_woken_first():
    parking, first, second = Parking(), [], []
    threads = [park(parking, first), park(parking, second)]
    parking.wake_one()
    threads[0].join(10)
    assert (len(first), len(second)) == (1, 0)

    parking.wake_one()
    threads[1].join(10)
    assert second[0] < 10


def test_all_are_woken_together():
    parking, woken = Parking(), []
    threads = [park(parking, woken) for _ in range(5)]
    parking.wake_all()
    for thread in threads:
        thread.join(10)

    assert len(woken) == 5
    assert max(woken) < 10


def test_wait_ends_at_its_time_out_and_leaves_nothing():
    parking = Parking()
    started = time.monotonic()
    parking.wait(never, 0.05)
    parking.wait(never, -1)

    assert 0.04 < time.monotonic() - started < 5
    assert not parking._parked


def test_who_sees_what_it_waits_for_does_not_wait():
    parking = Parking()
    started = time.monotonic()
    parking.wait(lambda: True, 10)

    assert time.monotonic() - started < 5
    assert not parking._parked


def test_wake_up_that_strikes_who_leaves_goes_to_the_next():
    parking, woken, threads = Parking(), [], []

    def another_parks_and_we_are_woken() -> bool:
        threads.append(park(parking, woken))
        parking.wake_one()
        return True

    parking.wait(another_parks_and_we_are_woken, 10)
    threads[0].join(15)

    assert woken
    assert woken[0] < 10


def test_waking_nobody_is_nothing():
    parking = Parking()
    parking.wake_one()
    parking.wake_all()


def test_who_is_hit_as_it_parks_leaves_no_spot_that_a_wake_up_is_lost_on():
    class Struck(deque):
        def append(self, spot):
            super().append(spot)
            raise KeyboardInterrupt

    parking, woken = Parking(), []
    parking._parked = Struck()
    with pytest.raises(KeyboardInterrupt):
        parking.wait(never, 1)
    parking._parked = deque(parking._parked)
    thread = park(parking, woken)
    parking.wake_one()
    thread.join(10)

    assert len(woken) == 1
