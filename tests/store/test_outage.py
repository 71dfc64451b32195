"""What an error means, and how a process behaves while its server is away."""

import logging
import random
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from redis import exceptions

from gqueue.store.outage import Fault, Gate, fault_of
from tests.conftest import wait_until

IN_SCRIPT_62 = "Error running script (call to f_0123): @user_script:12: @user_script: 12: -%s"


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (exceptions.ConnectionError("Connection closed by server."), Fault.AWAY),
        (exceptions.TimeoutError("Timeout reading from socket"), Fault.AWAY),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), Fault.AWAY),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), Fault.AWAY),
        (exceptions.ClusterDownError("CLUSTERDOWN The cluster is down"), Fault.AWAY),
        (exceptions.MasterDownError("MASTERDOWN Link with MASTER is down"), Fault.AWAY),
        (exceptions.ResponseError("UNBLOCKED force unblock from blocking operation"), Fault.AWAY),
        (exceptions.ResponseError("BUSY Redis is busy running a script."), Fault.AWAY),
        (exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), Fault.AWAY),
        (exceptions.ResponseError(IN_SCRIPT_62 % "READONLY You can't write against a replica."), Fault.AWAY),
        (exceptions.InvalidResponse("Protocol Error"), Fault.AWAY),
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), Fault.FULL),
        (exceptions.ResponseError(IN_SCRIPT_62 % "OOM command not allowed when used memory"), Fault.FULL),
        (exceptions.NoScriptError("No matching script. Please use EVAL."), Fault.NO_SCRIPT),
        (exceptions.MovedError("3999 127.0.0.1:6381"), Fault.MOVED),
        (exceptions.ResponseError("MOVED 3999 127.0.0.1:6381"), Fault.MOVED),
        (exceptions.AuthenticationError("invalid username-password pair"), Fault.REFUSED),
        (exceptions.NoPermissionError("this user has no permissions to run the 'evalsha' command"), Fault.FATAL),
        (exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), Fault.FATAL),
        (exceptions.ResponseError("unknown command 'EVALSHA'"), Fault.FATAL),
        (exceptions.ResponseError("Error running script: user_script:3: READONLY is what a job said"), Fault.FATAL),
    ],
)
def test_error_tells_what_to_do(error: Exception, fault: Fault):
    assert fault_of(error) is fault


def test_open_gate_lets_all_through_and_shut_one_only_one_to_try():
    gate = Gate("here")
    assert not gate.enter(time.monotonic())
    gate.shut(OSError("gone"))

    assert gate.enter(time.monotonic() + 5)
    with pytest.raises(TimeoutError):
        gate.enter(time.monotonic() + 0.05)
    gate.tried(back=True)
    assert not gate.enter(time.monotonic())


def test_of_many_callers_one_at_a_time_tries_until_the_server_is_back():
    gate = Gate("here")
    gate.shut(OSError("gone"))
    trying, most, tries, through = [0], [0], [0], []
    lock = threading.Lock()

    def call():
        deadline = time.monotonic() + 20
        while gate.enter(deadline):
            with lock:
                trying[0] += 1
                tries[0] += 1
                most[0] = max(most[0], trying[0])
                back = tries[0] == 4
            time.sleep(0.005)
            with lock:
                trying[0] -= 1
            gate.tried(back=back)
        through.append(1)

    threads = [threading.Thread(target=call) for _ in range(20)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(through) == 20
    assert time.monotonic() - started < 10
    assert (most[0], tries[0]) == (1, 4)


def test_turn_to_try_goes_on_when_who_slept_for_all_gives_up():
    gate = Gate("here")
    gate.shut(OSError("gone"))
    gate._next_at = time.monotonic() + 0.4
    turns = []

    def enter(name: str, seconds: float):
        try:
            turns.append((name, gate.enter(time.monotonic() + seconds)))
        except TimeoutError:
            turns.append((name, "gave up"))

    impatient = threading.Thread(target=enter, args=("impatient", 0.1))
    patient = threading.Thread(target=enter, args=("patient", 10))
    impatient.start()
    wait_until(lambda: gate._sleeps_until)
    patient.start()
    for thread in (impatient, patient):
        thread.join(10)

    assert turns == [("impatient", "gave up"), ("patient", True)]


def test_who_is_hit_in_its_turn_and_cannot_tell_leaves_it_to_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gqueue.store.outage.TURN_S", 0.1)
    gate = Gate("here")
    gate.shut(OSError("gone"))
    assert gate.enter(time.monotonic() + 10)

    assert gate.enter(time.monotonic() + 10)
    gate.tried(back=True)
    assert not gate.enter(time.monotonic() + 10)


def test_who_is_hit_as_it_sleeps_for_all_does_not_leave_them_asleep(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gqueue.store.outage.TURN_S", 0.1)
    gate = Gate("here")
    gate.shut(OSError("gone"))
    gate._next_at = time.monotonic() + 0.1
    wait = gate._parking.wait
    monkeypatch.setattr(gate._parking, "wait", interrupt)
    gate.__class__ = Untidy
    with pytest.raises(KeyboardInterrupt):
        gate.enter(time.monotonic() + 10)
    assert gate._sleeps_until

    monkeypatch.setattr(gate._parking, "wait", wait)
    assert gate.enter(time.monotonic() + 10)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class Untidy(Gate):
    """A gate whose sleeper does not get to say that it sleeps no more."""

    def __setattr__(self, name: str, value: object) -> None:
        if (name, value) != ("_sleeps_until", 0.0):
            super().__setattr__(name, value)


def test_pauses_grow_to_two_seconds_at_most(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gqueue.store.outage.random.random", lambda: 1.0)
    gate = Gate("here")
    gate.shut(OSError("gone"))
    pauses = []
    for _ in range(9):
        pauses.append(round(gate._next_at - time.monotonic(), 2))
        gate._next_at = 0.0
        assert gate.enter(time.monotonic())
        gate.tried(back=False)

    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0], abs=0.02)


def test_pauses_are_drawn_evenly_from_nothing_to_the_longest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gqueue.store.outage.random", random.Random(1))
    monkeypatch.setattr("gqueue.store.outage.time", SimpleNamespace(monotonic=lambda: 0.0))
    firsts, laters = [], []
    for _ in range(2_000):
        gate = Gate("here", speaks=False)
        gate.shut(OSError("gone"))
        firsts.append(gate._next_at)
    for _ in range(2_000):  # of one gate: after six tries there is no longer pause
        gate.tried(back=False)
        laters.append(gate._next_at)

    for pauses, longest in ((firsts, 0.05), (laters[6:], 2.0)):
        assert 0.0 <= min(pauses) < max(pauses) <= longest
        tenths = Counter(int(10 * pause / longest) for pause in pauses)
        assert all(150 < tenths[tenth] < 250 for tenth in range(10)), tenths  # 3.7 standard deviations


def test_one_that_hurries_pauses_no_longer_than_it_was_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gqueue.store.outage.random.random", lambda: 1.0)
    gate = Gate("here")
    gate.hurry(0.125)
    gate.shut(OSError("gone"))
    for _ in range(5):
        gate._next_at = 0.0
        assert gate.enter(time.monotonic())
        gate.tried(back=False)

    assert gate._next_at - time.monotonic() == pytest.approx(0.125, abs=0.02)


def test_who_has_no_time_left_still_tries_if_it_is_due():
    gate = Gate("here")
    gate.shut(OSError("gone"))
    gate._next_at = 0.0

    assert gate.enter(time.monotonic() - 1)


def test_outage_is_one_line_when_it_begins_and_one_when_it_ends(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "gqueue.store")
    gate = Gate("redis://:***@here")
    for _ in range(5):
        gate.shut(OSError("gone"))
    for back in (False, False, True):
        gate._next_at = 0.0
        gate.enter(time.monotonic())
        gate.tried(back=back)

    away, back = (record.getMessage() for record in caplog.records)
    assert away.startswith("Redis at redis://:***@here is away: OSError: gone")
    assert back.startswith("Redis at redis://:***@here is back after ")


def test_silent_gate_logs_nothing(caplog: pytest.LogCaptureFixture):
    gate = Gate("here", speaks=False)
    gate.shut(OSError("gone"))
    gate._next_at = 0.0
    gate.enter(time.monotonic())
    gate.tried(back=True)

    assert not caplog.records


def test_closing_lets_everyone_through():
    closed: list[bool] = []
    gate = Gate("here")
    gate.shut(OSError("gone"))
    gate._next_at = time.monotonic() + 60
    went = []
    threads = [
        threading.Thread(target=lambda: went.append(gate.enter(time.monotonic() + 60, lambda: bool(closed))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    closed.append(True)
    gate.wake()
    for thread in threads:
        thread.join(5)

    assert went == [False] * 3
