"""When the watchdog sends its signal, raises, and ends the process: as data, with a hub of the test's own."""

import math
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from gqueue.core.dispatch import Why
from gqueue.worker import watchdog
from gqueue.worker.running import Interrupted
from gqueue.worker.watchdog import HASTE_S, STRAY_S, TICK_S, Watchdog


class Hub:
    """A watchdog, its slots, and what it does to the world."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *deadlines: float) -> None:
        self.slots: list[Any] = [self.slot(number, deadline) for number, deadline in enumerate(deadlines)]
        self.posted: list[Any] = []
        self.signals = 0
        self.deaths: list[str] = []
        self.now = 100.0
        self.hog: Any = None
        slots = SimpleNamespace(
            all=self.slots, by_greenlet={}, loop=SimpleNamespace(run_callback_threadsafe=self.posted.append)
        )
        self.slots_of_greenlets = slots.by_greenlet
        self.watchdog = Watchdog(slots, 30.0, 7)  # type: ignore[arg-type]
        self.watchdog.kill = self.kill
        self.watchdog.die = self.deaths.append
        monkeypatch.setattr(self.watchdog, "_hog", lambda: self.hog)
        monkeypatch.setattr(watchdog, "_monotonic", lambda: self.now)

    @staticmethod
    def slot(number: int, deadline: float) -> Any:
        job = SimpleNamespace(
            job_id=f"j{number}", task_name="t", deadline=deadline, due=deadline, hits=0, condemned=None, blows=[]
        )

        def blow(now: float, again_after: float) -> BaseException:
            job.hits += 1
            job.due = now + again_after
            return gevent.Timeout(1)

        job.blow = blow
        return SimpleNamespace(number=number, job=job, lost=None, armed=True)

    def write_off(self, number: int) -> None:
        """Write the slot off; what runs there goes on."""
        slot = self.slots[number]
        slot.job, slot.lost = None, slot.job

    def kill(self, ident: int, signal: int) -> None:
        assert (ident, signal) == (7, watchdog.SIGNAL)
        self.signals += 1

    def turn(self) -> None:
        for callback in self.posted:
            callback()
        self.posted.clear()

    def look(self, seconds: float = 0.0) -> float:
        self.now += seconds
        return self.watchdog.look(self.now)

    def look_for(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end and not self.deaths:
            self.look(0.05)


def test_nothing_is_done_while_no_job_is_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch, 101.0, math.inf)

    assert hub.look() == TICK_S
    assert (hub.posted, hub.signals) == ([], 0)


def test_overdue_job_is_left_to_the_hub_if_it_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch, 99.0)
    assert hub.look() == HASTE_S
    hub.turn()

    hub.look(HASTE_S)
    assert hub.signals == 0


def test_job_that_hogs_the_hub_beyond_its_limit_is_signalled_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch, 99.0)
    hub.hog = hub.slots[0]
    hub.look()
    hub.look(HASTE_S * 1.5)

    assert hub.signals == 1


def test_hog_within_its_limit_is_left_alone_however_long_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch, 99.0, 1_000.0)
    hub.hog = hub.slots[1]
    hub.look_for(200)

    assert (hub.signals, hub.deaths) == (0, [])


def test_the_end_of_a_long_hog_within_its_limit_is_not_taken_for_a_hub_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub(monkeypatch, 1_000.0, 101.0)
    hub.hog = hub.slots[0]
    hub.look_for(60)
    hub.slots[0].armed = False  # it has ended, and the hub is about to turn
    hub.look(0.02)

    assert hub.deaths == []
    hub.look_for(31)
    assert len(hub.deaths) == 1


def test_hog_that_takes_no_notice_ends_the_process_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch, 99.0)
    hub.hog = hub.slots[0]
    hub.look_for(28)
    assert hub.deaths == []

    hub.look_for(4)
    assert "job j0 (t) is" in hub.deaths[0]


def test_hub_hogged_by_no_job_ends_the_process_as_if_that_had_the_usual_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    hub.watchdog.probe()
    hub.look_for(STRAY_S + 28)
    assert hub.deaths == []

    hub.look_for(4)
    assert "no job of a slot" in hub.deaths[0]


def test_hub_that_turns_in_between_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch, 99.0)
    hub.hog = hub.slots[0]
    hub.look_for(20)
    hub.turn()
    hub.look_for(20)

    assert hub.deaths == []


def test_stuck_job_whose_slot_was_written_off_may_not_hog_the_hub_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub(monkeypatch, 99.0, 1_000.0)
    hub.slots_of_greenlets[gevent.getcurrent()] = hub.hog = hub.slots[0]
    hub.write_off(0)
    assert hub.look() == TICK_S
    assert not hub.posted  # it is no reason to bother the hub

    hub.watchdog.probe()
    hub.look(HASTE_S * 1.5)
    assert hub.signals == 1
    with pytest.raises(gevent.Timeout):
        hub.watchdog.handle(watchdog.SIGNAL, None)
    hub.look_for(32)
    assert "job j0 (t) is" in hub.deaths[0]


def test_hub_hogged_by_an_innocent_job_is_left_alone_though_a_slot_was_written_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Hub(monkeypatch, 99.0, 1_000.0)
    hub.write_off(0)
    hub.hog = hub.slots[1]
    hub.watchdog.probe()
    hub.look_for(STRAY_S + 100)

    assert (hub.signals, hub.deaths) == (0, [])


def test_job_that_is_condemned_is_signalled_before_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch, 1_000.0)
    hub.hog = hub.slots[0]
    hub.slots[0].job.condemned, hub.slots[0].job.due = Interrupted(Why.LEASE_LOST), 99.0
    hub.look()
    hub.look(HASTE_S * 1.5)

    assert hub.signals == 1


@pytest.mark.parametrize("spared", ["turned", "another greenlet", "disarmed", "not due", "idle"])
def test_signal_raises_only_in_the_overdue_slot_while_the_hub_hangs(
    monkeypatch: pytest.MonkeyPatch, spared: str
) -> None:
    hub = Hub(monkeypatch, 99.0)
    slot = hub.slots[0]
    hub.slots_of_greenlets[gevent.getcurrent()] = slot
    hub.look()
    with pytest.raises(gevent.Timeout):
        hub.watchdog.handle(watchdog.SIGNAL, None)
    slot.job.due = 99.0

    match spared:
        case "turned":
            hub.turn()
        case "another greenlet":
            hub.slots_of_greenlets.clear()
        case "disarmed":
            slot.armed = False
        case "not due":
            slot.job.due = 100.1
        case "idle":
            slot.job = None
    hub.watchdog.handle(watchdog.SIGNAL, None)


def test_job_that_was_hit_is_not_hit_again_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch, 99.0)
    hub.slots_of_greenlets[gevent.getcurrent()] = hub.hog = hub.slots[0]
    hub.look()
    with pytest.raises(gevent.Timeout):
        hub.watchdog.handle(watchdog.SIGNAL, None)
    hub.watchdog.handle(watchdog.SIGNAL, None)
    hub.look_for(0.9)
    assert hub.signals == 0

    hub.look_for(0.3)
    assert hub.signals > 0
