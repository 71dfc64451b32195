"""The dead man's switch: how long it waits, as data; then what a fork and the end of a worker make of its timer."""

import faulthandler
import math
import os
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gqueue
from gqueue.worker import deadman
from gqueue.worker.deadman import AGAIN_S, MOST_S, SPARE_S, STRAY_S, Deadman, patience_s
from tests.worker.stage import perform, play, until

NOW = 1_000.0

times = st.sampled_from([-50.0, 0.0, 0.3, 1.0, 60.0, 3_600.0])
deadlines = st.lists(times.map(lambda left: NOW + left) | st.just(math.inf), max_size=4)
limits = st.lists(st.sampled_from([0.001, 1.0, 60.0, 86_400.0, 1e9]), max_size=3)
stuck = st.sampled_from([0.1, 30.0])


@given(deadlines, limits, stuck)
def test_no_job_is_ended_that_is_less_than_stuck_after_beyond_its_limit(
    running: list[float], known: list[float], stuck_after: float
) -> None:
    waits = patience_s(NOW, running, known, stuck_after)

    assert waits >= min(stuck_after + SPARE_S, MOST_S)
    assert all(NOW + waits >= min(deadline + stuck_after, NOW + MOST_S) for deadline in running if deadline < math.inf)
    assert all(waits >= min(limit + stuck_after, MOST_S) for limit in known)
    assert waits <= MOST_S


@pytest.mark.parametrize(
    ("running", "known", "waits"),
    [
        ([], [], STRAY_S + 30),
        ([math.inf], [], STRAY_S + 30),
        ([], [5.0], 35),
        ([NOW + 100], [5.0], 130),
        ([NOW - 100], [5.0], 35),
        ([NOW - 100], [], 30),
    ],
)
def test_it_waits_as_long_as_the_longest_job_there_may_be(running: list[float], known: list[float], waits: int) -> None:
    assert patience_s(NOW, running, known, 30.0) == waits + SPARE_S


class Timer:
    """A switch whose timer is set here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *deadlines: float) -> None:
        self.set: list[Any] = []
        self.now = NOW
        monkeypatch.setattr(deadman, "_arm", lambda seconds, **_: self.set.append(seconds))
        monkeypatch.setattr(deadman, "_disarm", lambda: self.set.append("off"))
        monkeypatch.setattr(deadman, "_monotonic", lambda: self.now)
        jobs = [SimpleNamespace(deadline=deadline) for deadline in deadlines]
        slots: Any = SimpleNamespace(all=[SimpleNamespace(job=job, lost=None) for job in jobs])
        self.deadman = Deadman(slots, lambda: [1.0], 30.0)


def test_timer_is_set_anew_at_most_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer(monkeypatch, NOW + 100)
    for tick in range(21):
        timer.deadman.look(NOW + tick * AGAIN_S / 10)

    assert timer.set == pytest.approx([130 + SPARE_S, 129 + SPARE_S, 128 + SPARE_S])


def test_job_that_may_take_longer_than_its_task_is_allowed_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer(monkeypatch)
    timer.deadman.allow(1_000.0)
    assert timer.set == []  # it is not set at all
    timer.deadman.look(NOW)
    timer.deadman.allow(0.5)
    assert timer.set == [31 + SPARE_S]
    timer.deadman.allow(1_000.0)
    assert timer.set == [31 + SPARE_S, 1_030 + SPARE_S]


def test_timer_is_off_during_a_fork_and_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer(monkeypatch)
    timer.deadman.look(NOW)
    timer.deadman.hold()
    timer.deadman.look(NOW + 10)
    assert timer.set == [31 + SPARE_S, "off"]
    timer.deadman.go_on()
    assert timer.set == [31 + SPARE_S, "off", 31 + SPARE_S]
    timer.deadman.end()
    timer.deadman.look(NOW + 10)
    timer.deadman.allow(1_000.0)
    assert timer.set[3:] == ["off"]


def test_timer_that_is_not_its_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer(monkeypatch)
    timer.deadman.end()
    timer.deadman.hold()
    assert timer.set == []


def test_fork_waits_for_a_timer_that_is_just_being_set_and_takes_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer(monkeypatch)
    setting, go_on = threading.Event(), threading.Event()

    def arm(seconds: float, **_: object) -> None:
        setting.set()
        assert go_on.wait(10)
        timer.set.append(seconds)

    monkeypatch.setattr(deadman, "_arm", arm)
    beats = threading.Thread(target=timer.deadman.look, args=(NOW,))
    beats.start()
    assert setting.wait(10)
    threading.Timer(0.05, go_on.set).start()
    timer.deadman.hold()
    assert timer.set == [31 + SPARE_S, "off"]
    beats.join(10)


def scene_of_a_fork() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    real, seen = deadman._arm, []
    deadman._arm = lambda *args, **more: (seen.append(args), real(*args, **more))

    @queue.task
    def forks() -> int:
        until(lambda: seen)
        before = len(seen)
        pid = os.fork()
        if pid == 0:
            faulthandler.dump_traceback_later(60)  # would wait for ever for a thread that did not come along
            os._exit(7)
        again = len(seen) - before
        until(lambda: os.waitpid(pid, os.WNOHANG)[0], 5)
        return again

    results: list[Any] = []

    def script(_worker: Any) -> None:
        results.append(forks.enqueue().result(timeout=10))

    perform(queue, script)
    ended = len(seen)
    time.sleep(2 * AGAIN_S)
    return {"set again": results[0], "after the end": len(seen) - ended}


def test_child_that_a_task_forks_has_no_timer_and_the_parent_has_its_own_again() -> None:
    scene = play(scene_of_a_fork)

    assert scene.code == 0, scene.log
    assert scene["set again"] == 1
    assert scene["after the end"] == 0


def scene_of_a_job_with_more_time_than_its_task() -> dict[str, Any]:
    queue = gqueue.Queue("q", "memory:", lease=1.5)
    real, seen = deadman._arm, []
    deadman._arm = lambda seconds, **more: (seen.append(seconds), real(seconds, **more))

    @queue.task(timeout=1)
    def lasts() -> float:
        return max(seen)

    def script(_worker: Any) -> None:
        until(lambda: seen)
        results.append(lasts.enqueue().result(timeout=10))
        results.append(lasts.options(timeout=500).enqueue().result(timeout=10))

    results: list[float] = []
    perform(queue, script, stuck_after_ms=1_000)
    return {"seconds": results}


def test_limit_of_a_record_counts_from_the_start_of_its_job() -> None:
    scene = play(scene_of_a_job_with_more_time_than_its_task)

    assert scene["seconds"] == [2 + SPARE_S, 501 + SPARE_S], scene.log
