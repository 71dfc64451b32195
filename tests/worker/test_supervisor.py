"""The supervisor: first what it decides, then what it does with processes that come, go and are killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from gqueue.worker.supervisor import (
    AFTER_GRACE_S,
    AFTER_THIRD_S,
    BACKOFF_CAP_MS,
    BACKOFF_MS,
    GIVE_UP_AFTER,
    STEADY_MS,
    End,
    GiveUp,
    Leave,
    Restart,
    after_end,
    code_left,
    exit_code,
    passed_on,
    patience_s,
)
from tests.conftest import wait_until

ends = st.builds(
    End,
    st.sampled_from([0, 1, 2, 3, 4, 137, 143]),
    st.booleans(),
    st.sampled_from([0, 100, STEADY_MS - 1, STEADY_MS]),
    replaced=st.booleans(),
)
failures = st.integers(0, 100)
jitters = st.floats(0, 1, exclude_max=True)


@given(ends, failures, st.booleans(), st.booleans(), jitters)
def test_nothing_is_started_while_the_processes_end(
    end: End, before: int, burst: bool, came: bool, jitter: float
) -> None:
    assert after_end(end, before, ending=True, burst=burst, any_came_up=came, jitter=jitter) == Leave()


@given(ends, failures, st.booleans(), jitters)
def test_process_that_fails_after_one_came_up_is_always_started_again_within_the_cap(
    end: End, before: int, burst: bool, jitter: float
) -> None:
    verdict = after_end(end, before, ending=False, burst=burst, any_came_up=True, jitter=jitter)
    if (end.replaced and end.code == 0) or (end.came_up and end.code == 4):
        assert verdict == Restart(0, 0)
        return
    if burst and end.code == 0:
        assert verdict == Leave()
        return
    assert isinstance(verdict, Restart)
    most = min(BACKOFF_CAP_MS, BACKOFF_MS * 2 ** (verdict.failures - 1))
    assert most // 2 <= verdict.delay_ms <= most
    assert verdict.failures == (1 if end.came_up and end.lived_ms >= STEADY_MS else before + 1)


@pytest.mark.parametrize("code", [2, 3])
def test_process_that_cannot_come_up_is_given_up_with_its_code(code: int) -> None:
    end = End(code, came_up=False, lived_ms=100)
    assert after_end(end, 0, ending=False, burst=False, any_came_up=False, jitter=0.5) == GiveUp(code)
    # Once one has come up, settings and app are sound, and Redis may come back.
    assert after_end(end, 0, ending=False, burst=False, any_came_up=True, jitter=0.5) == Restart(375, 1)


def test_crashes_before_any_came_up_are_given_up_after_some() -> None:
    end, seen = End(1, came_up=False, lived_ms=100), 0
    while isinstance(
        verdict := after_end(end, seen, ending=False, burst=False, any_came_up=False, jitter=0.0), Restart
    ):
        seen = verdict.failures
    assert (verdict, seen) == (GiveUp(1), GIVE_UP_AFTER - 1)


@pytest.mark.parametrize("burst", [False, True])
def test_process_that_made_way_is_followed_by_a_fresh_one_at_once_and_has_not_failed(burst: bool) -> None:
    for end in (End(0, True, 100, replaced=True), End(4, True, 100, replaced=True), End(4, True, 100)):
        assert after_end(end, 3, ending=False, burst=burst, any_came_up=True, jitter=0.9) == Restart(0, 0)
    killed = End(137, True, 100, replaced=True)  # while it drained
    assert after_end(killed, 3, ending=False, burst=burst, any_came_up=True, jitter=0.0) == Restart(2_000, 4)
    never_up = End(4, False, 100)
    assert isinstance(after_end(never_up, 0, ending=False, burst=burst, any_came_up=True, jitter=0.0), Restart)
    assert after_end(never_up, 0, ending=False, burst=burst, any_came_up=True, jitter=0.0) != Restart(0, 0)


def test_clean_end_is_final_in_a_burst_only() -> None:
    end = End(0, came_up=True, lived_ms=100)
    assert after_end(end, 0, ending=False, burst=True, any_came_up=True, jitter=0.0) == Leave()
    assert after_end(end, 0, ending=False, burst=False, any_came_up=True, jitter=0.0) == Restart(250, 1)


@given(ends, st.sampled_from([Leave(), GiveUp(1), Restart(250, 1)]), st.sets(st.sampled_from([2, 10, 15, 20])))
def test_only_what_ended_for_good_and_not_by_our_signal_in_its_start_leaves_its_code(
    end: End, verdict: Leave | GiveUp | Restart, sent: set[int]
) -> None:
    left = code_left(evolve(end, sent=frozenset(sent)), verdict)
    assert left in (0, end.code)
    if isinstance(verdict, Restart):
        assert left == 0
    elif end.came_up or end.code < 128:
        assert left == end.code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interpreter_that_was_ended_by_the_signal_passed_on_ended_well(number: int) -> None:
    starting = End(128 + number, came_up=False, lived_ms=20, sent=frozenset([number]))
    assert code_left(starting, Leave()) == 0
    assert code_left(evolve(starting, sent=frozenset()), Leave()) == 128 + number  # somebody else's
    assert code_left(evolve(starting, came_up=True), Leave()) == 128 + number  # it had handlers, and jobs


def test_interpreter_that_only_starts_gets_term_for_int() -> None:
    assert passed_on(signal.SIGINT, came_up=False) == signal.SIGTERM
    assert passed_on(signal.SIGINT, came_up=True) == signal.SIGINT
    for number in (signal.SIGTERM, signal.SIGTSTP):
        assert passed_on(number, came_up=False) == passed_on(number, came_up=True) == number


def test_interpreter_that_only_starts_is_not_asked_for_its_stacks() -> None:
    assert passed_on(signal.SIGUSR1, came_up=False) is None
    assert passed_on(signal.SIGUSR1, came_up=True) == signal.SIGUSR1


@given(st.integers(1, 5), st.sampled_from([0.0, 30.0, 3_600.0]))
def test_each_signal_shortens_how_long_a_process_may_take_to_end(asked: int, grace_s: float) -> None:
    waits = patience_s(asked, grace_s)
    assert waits >= patience_s(asked + 1, grace_s) > 0
    assert waits == {1: grace_s + AFTER_GRACE_S, 2: AFTER_GRACE_S}.get(asked, AFTER_THIRD_S)


def test_exit_code_is_the_worst() -> None:
    assert exit_code([]) == 0
    assert exit_code([0, 4, 1]) == 4
    assert exit_code([0, 137]) == 137


CHILD = """
import os, signal, socket, sys, time
index, line, folder = int(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])), sys.argv[3]
def tell(*words):
    with open(os.path.join(folder, "told"), "a") as file:
        file.write(" ".join(map(str, (index, *words))) + "\\n")
def end_of_line():
    try:
        return line.recv(1)
    except ConnectionResetError as error:  # it was killed before it had read what was sent
        return error
def stop(number, frame):
    tell("got", signal.Signals(number).name)
    if number == signal.SIGTERM:
        line.setblocking(True)
        sys.exit(0)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP, signal.SIGUSR1):
    signal.signal(number, stop)
%s
"""

SUPERVISE = """
import logging, sys
from gqueue.worker import supervisor
from gqueue.worker.supervisor import Supervisor
logging.basicConfig(level=logging.INFO, format="%(message)s")
child, folder, processes, burst, grace, after_grace, after_third = sys.argv[1:]
supervisor.AFTER_GRACE_S, supervisor.AFTER_THIRD_S = float(after_grace), float(after_third)
command = lambda index, line: (sys.executable, "-S", "-c", child, str(index), str(line), folder)
sys.exit(Supervisor(command, int(processes), burst=burst == "True", grace_s=float(grace)).run())
"""

WORKS = 'line.sendall(b"u"); tell("up", os.getpid(), os.getsid(0)); tell("line gone", end_of_line())'


def exists(pid: int) -> bool:
    """Return whether there is such a process, be it one that has ended and was not waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Supervised:
    """A supervisor of children that run *script* after their preparations."""

    def __init__(
        self,
        folder: Path,
        script: str,
        processes: int = 2,
        burst: bool = False,
        patience: tuple[float, float, float] = (30, 15, 3),
    ) -> None:
        self.told_in = folder / "told"
        given = (processes, burst, *patience)
        command = [sys.executable, "-c", SUPERVISE, CHILD % script, str(folder), *map(str, given)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def told(self, what: str) -> list[list[str]]:
        """Return what the children told of *what*: index, then words."""
        lines = self.told_in.read_text().splitlines() if self.told_in.exists() else []
        words = [line.split() for line in lines]
        return sorted([each[0], *each[2:]] for each in words if each[1] == what)

    def pids(self) -> list[int]:
        return [int(words[1]) for words in self.told("up")]

    def await_up(self, count: int = 2) -> list[int]:
        wait_until(lambda: len(self.told("up")) == count)
        return self.pids()

    def await_end(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[object]:
    made: list[Supervised] = []

    def start(script: str, processes: int = 2, burst: bool = False, **more: tuple[float, float, float]) -> Supervised:
        made.append(Supervised(tmp_path, script, processes, burst, **more))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.communicate()
        for pid in each.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def test_children_have_sessions_of_their_own_and_end_with_term(supervise) -> None:
    group = supervise(WORKS)
    group.await_up()
    assert [words[0] for words in group.told("up")] == ["0", "1"]
    assert all(pid == session for _, pid, session in group.told("up"))
    group.process.terminate()
    assert group.await_end() == (0, "draining: 2 processes\n")
    assert group.told("got") == [["0", "SIGTERM"], ["1", "SIGTERM"]]


def test_child_that_is_killed_is_started_again_and_the_other_left_alone(supervise) -> None:
    group = supervise(WORKS)
    first, second = group.await_up()
    os.kill(second, signal.SIGKILL)
    group.await_up(3)
    assert [words[0] for words in group.told("up")] == ["0", "1", "1"]
    assert not group.told("got")
    os.kill(first, 0)
    group.process.terminate()
    code, said = group.await_end()
    assert code == 0
    assert "process 1 ended (killed by SIGKILL); it is started again in " in said


def test_signals_are_passed_on_each_time(supervise) -> None:
    group = supervise('line.sendall(b"u"); tell("up", os.getpid())\nwhile True: time.sleep(0.05)', processes=1)
    group.await_up(1)
    for count, number in enumerate((signal.SIGUSR1, signal.SIGTSTP, signal.SIGINT, signal.SIGINT, signal.SIGTERM), 1):
        group.process.send_signal(number)
        wait_until(lambda count=count: len(group.told("got")) == count)
    assert group.await_end()[0] == 0
    assert [words[1] for words in group.told("got")] == ["SIGINT", "SIGINT", "SIGTERM", "SIGTSTP", "SIGUSR1"]


def test_usr1_kills_no_child_that_only_starts(supervise) -> None:
    group = supervise('signal.signal(signal.SIGUSR1, signal.SIG_DFL); tell("up", os.getpid()); time.sleep(60)')
    group.await_up()
    group.process.send_signal(signal.SIGUSR1)
    group.process.terminate()
    code, said = group.await_end()
    assert code == 0
    assert "process 0 only starts: SIGUSR1 is not passed on to it" in said
    assert [words[1] for words in group.told("got")] == ["SIGTERM", "SIGTERM"]


def test_child_that_dies_when_all_are_quiet_is_not_started_again(supervise) -> None:
    group = supervise(WORKS, processes=1)
    (pid,) = group.await_up(1)
    group.process.send_signal(signal.SIGTSTP)
    wait_until(lambda: group.told("got"))
    os.kill(pid, signal.SIGKILL)
    assert group.await_end()[0] == 137
    assert len(group.pids()) == 1


def test_child_that_had_not_come_up_when_it_was_told_to_end_had_nothing_to_spoil(supervise) -> None:
    group = supervise('signal.signal(signal.SIGTERM, signal.SIG_DFL); tell("up", os.getpid()); time.sleep(60)')
    group.await_up()
    group.process.terminate()
    assert group.await_end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_while_children_wait_to_be_started_again_or_are_in_their_start_is_a_clean_one(supervise, number) -> None:
    once = 'if index and "crashed" not in open(os.path.join(folder, "told")).read():\n'
    crash = '    line.sendall(b"u"); tell("crashed", os.getpid()); os._exit(9)\n'
    starting = 'signal.signal(signal.SIGTERM, signal.SIG_DFL); tell("up", os.getpid()); time.sleep(60)'
    group = supervise('tell("here")\n' + once + crash + starting)
    wait_until(lambda: group.told("up") and group.told("crashed"))
    wait_until(lambda: not exists(int(group.told("crashed")[0][1])))  # the supervisor has heard of it
    group.process.send_signal(number)
    code, said = group.await_end()
    assert code == 0, said
    assert "Traceback" not in said


def test_children_see_the_end_of_a_supervisor_that_is_killed(supervise) -> None:
    group = supervise(WORKS)
    group.await_up()
    group.process.kill()
    wait_until(lambda: len(group.told("line")) == 2)


def test_group_whose_app_is_wrong_gives_up_and_ends_the_others(supervise) -> None:
    group = supervise("sys.exit(2) if index else time.sleep(60)")
    code, said = group.await_end()
    assert code == 2
    assert "process 1 does not come up (exit 2); giving up" in said


def test_code_with_which_it_gave_up_stands_whatever_the_others_end_with(supervise) -> None:
    others = 'signal.signal(signal.SIGTERM, lambda *_: os._exit(4)); tell("up", os.getpid()); time.sleep(60)\n'
    wrong = 'tell("here")\nwhile "0 up" not in open(os.path.join(folder, "told")).read(): time.sleep(0.01)\n'
    group = supervise(f"if not index: {others}{wrong}sys.exit(2)")
    assert group.await_end()[0] == 2


@pytest.mark.slow
def test_child_that_had_come_up_once_is_started_again_though_redis_is_away(supervise) -> None:
    once = 'tell("up", os.getpid())\nif open(os.path.join(folder, "told")).read().count("up") > 1: sys.exit(3)\n'
    group = supervise(once + 'line.sendall(b"u"); sys.exit(3)', processes=1)
    group.await_up(3)
    group.process.terminate()
    code, said = group.await_end()
    assert code in (0, 3)  # 3: it ended by itself when the signal was here
    assert "giving up" not in said


def test_burst_ends_when_all_have_ended_and_what_died_was_started_again(supervise) -> None:
    once = 'line.sendall(b"u"); tell("up", os.getpid())\n'
    once += 'if index and open(os.path.join(folder, "told")).read().count("1 up") == 1: os._exit(9)'
    group = supervise(once, burst=True)
    assert group.await_end()[0] == 0
    assert [words[0] for words in group.told("up")] == ["0", "1", "1"]


def test_child_that_makes_way_is_followed_by_a_fresh_one_in_a_burst_too(supervise) -> None:
    once = 'line.sendall(b"u"); tell("up", os.getpid())\n'
    once += 'if index and open(os.path.join(folder, "told")).read().count("1 up") < 4: line.sendall(b"r"); sys.exit(0)'
    group = supervise(once, burst=True)
    code, said = group.await_end()
    assert code == 0
    assert [words[0] for words in group.told("up")] == ["0", "1", "1", "1", "1"]
    assert said.count("process 1 ended as it should; a fresh one takes over") == 3
    assert "started again" not in said


def test_exit_code_is_that_of_the_worst_child(supervise) -> None:
    group = supervise(WORKS.replace('b"u")', 'b"u"); signal.signal(signal.SIGTERM, lambda *_: os._exit(index * 4))'))
    group.await_up()
    group.process.terminate()
    assert group.await_end()[0] == 4


DEAF = 'signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); line.sendall(b"u"); tell("up", os.getpid())\n'
DEAF += "while True: time.sleep(1)"


def test_child_that_has_not_ended_some_time_after_its_grace_is_killed(supervise) -> None:
    group = supervise(DEAF, patience=(0.3, 0.2, 60))
    pids = group.await_up()
    group.process.send_signal(signal.SIGTSTP)
    group.process.terminate()
    code, said = group.await_end()
    assert code == 128 + signal.SIGKILL
    assert said.count("does not end, and is killed") == 2
    assert not any(map(exists, pids))


def test_child_that_does_not_heed_a_third_signal_is_killed(supervise) -> None:
    group = supervise(f"if index: {WORKS}\nelse:\n    " + DEAF.replace("\n", "\n    "), patience=(60, 60, 0.2))
    group.await_up()
    for count in (1, 2):
        group.process.terminate()
        wait_until(lambda count=count: group.told("got") or count == 2)
    assert group.process.poll() is None
    group.process.send_signal(signal.SIGINT)
    group.process.terminate()
    code, said = group.await_end()
    assert code in (128 + signal.SIGKILL, 128 + signal.SIGTERM)  # a later TERM may meet the other as it finalizes
    assert said.count("is killed") == 1
    assert "process 0 does not end" in said
