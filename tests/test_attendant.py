"""The daemon thread that is there for as long as somebody waits."""

import threading
import time

import pytest

from gqueue import attendant
from gqueue.attendant import Attendant
from gqueue.errors import StoreUnavailable


class Work:
    """What an attendant does here: it counts turns, and does what the test says in each."""

    def __init__(self):
        self.needed, self.turns, self.ends = True, 0, 0
        self.threads = set()
        self.action = lambda: None
        self.attendant = Attendant("test attendant", self.turn, lambda: self.needed, self.end)

    def turn(self):
        self.turns += 1
        self.threads.add(threading.current_thread())
        self.action()
        time.sleep(0.001)

    def end(self):
        self.ends += 1


@pytest.fixture
def work(monkeypatch):
    monkeypatch.setattr(attendant, "LINGER_S", 0.0)
    monkeypatch.setattr(attendant, "PAUSE_S", 0.001)
    monkeypatch.setattr(attendant, "START_S", 0.05)
    work = Work()
    yield work
    work.needed = False
    work.attendant.close()
    for thread in work.threads:
        thread.join(10)


def test_it_turns_while_it_is_needed_and_ends_then(work, eventually):
    work.attendant.ensure()
    eventually(lambda: work.turns > 3)

    work.needed = False

    eventually(lambda: work.ends == 1)
    assert len(work.threads) == 1


def test_it_comes_again_when_it_is_needed_again(work, eventually):
    for times in (1, 2):
        work.needed = True
        work.attendant.ensure()
        eventually(lambda times=times: len(work.threads) == times)
        work.needed = False
        eventually(lambda times=times: work.ends == times)


def test_it_lingers(work, monkeypatch, eventually):
    monkeypatch.setattr(attendant, "LINGER_S", 60)
    work.needed = False
    work.attendant.ensure()

    eventually(lambda: work.turns > 3)
    assert work.ends == 0
    work.attendant.close()
    eventually(lambda: work.ends == 1)


def test_many_who_need_it_have_one(work, eventually):
    callers = [threading.Thread(target=work.attendant.ensure) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)

    eventually(lambda: work.turns > 20)
    assert len(work.threads) == 1


@pytest.mark.parametrize("error", [StoreUnavailable("away"), ValueError("a fault")])
def test_it_outlives_a_turn_that_fails_and_tells_of_faults(work, eventually, caplog, error):
    def fail():
        raise error

    work.action = fail
    work.attendant.ensure()

    eventually(lambda: work.turns > 3)
    assert len(work.threads) == 1
    assert ("a fault" in caplog.text) == isinstance(error, ValueError)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_if_it_is_killed_the_next_who_needs_it_starts_another(work, eventually):
    def kill():
        work.action = lambda: None
        raise SystemExit

    work.action = kill
    work.attendant.ensure()
    eventually(lambda: work.ends == 1 and not any(thread.is_alive() for thread in work.threads))

    work.attendant.ensure()

    eventually(lambda: len(work.threads) == 2)


def test_it_is_asked_for_once_however_long_the_start_takes(work, monkeypatch):
    monkeypatch.setattr(attendant, "START_S", 60)
    starts = []
    monkeypatch.setattr(threading.Thread, "start", lambda thread: starts.append(thread))

    for _ in range(20):
        work.attendant.ensure()

    assert len(starts) == 1


def test_a_second_thread_ends_at_once(work, eventually):
    work.attendant.ensure()
    eventually(lambda: work.turns)

    second = threading.Thread(target=work.attendant._run)
    second.start()
    second.join(10)

    assert not second.is_alive()
    assert second not in work.threads


def test_if_its_start_was_interrupted_it_is_started_again(work, eventually, monkeypatch):
    def interrupted(thread):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            work.attendant.ensure()

    eventually(lambda: work.attendant.ensure() or work.turns)
    assert len(work.threads) == 1


def test_if_no_thread_can_be_started_the_caller_knows_and_the_next_one_tries_at_once(work, eventually, monkeypatch):
    monkeypatch.setattr(attendant, "START_S", 60)

    def refused(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError):
            work.attendant.ensure()
    work.attendant.ensure()

    eventually(lambda: work.turns)


def test_a_closed_one_does_not_start(work, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda thread: pytest.fail("it was started"))
    work.attendant.close()

    work.attendant.ensure()


def test_one_that_does_not_linger_is_gone_when_its_end_was_waited_for(work, eventually, monkeypatch):
    monkeypatch.setattr(attendant, "LINGER_S", 60)
    work.attendant = Attendant("test attendant", work.turn, lambda: work.needed, work.end, lingers=False)
    work.attendant.ensure()
    eventually(lambda: work.turns > 3)

    work.needed = False
    work.attendant.wait_for_end()

    assert work.ends == 1


def test_nobody_waits_for_ever_for_the_end_of_one_that_is_needed(work, eventually, monkeypatch):
    monkeypatch.setattr(attendant, "END_S", 0.05)
    work.attendant.ensure()
    eventually(lambda: work.turns > 3)

    work.attendant.wait_for_end()

    assert work.ends == 0
