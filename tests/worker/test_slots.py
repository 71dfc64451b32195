"""Slots and what a pump puts into a call, on the hub of the test's own process: no worker, no store, no patches."""

import inspect
import sys
from collections.abc import Iterator
from types import FrameType, SimpleNamespace
from typing import Any

import gevent
import pytest

from gqueue.config import SigningKeys
from gqueue.core.dispatch import Why
from gqueue.core.model import MOVE_BYTES, MOVE_LIMIT, Backoff, ClaimedJob, Settlement
from gqueue.job import current
from gqueue.store.codec import Record, decode_death, decode_outcome, decode_report, encode_record
from gqueue.store.records import Records
from gqueue.worker import attempt
from gqueue.worker.pump import Pump
from gqueue.worker.running import Tasks
from gqueue.worker.slots import Slot, Slots
from tests.worker.test_attempt import EVIL, RaisesNotes


class Home:
    """A pump that keeps what the slots leave with it."""

    tells = False
    max_payload_bytes = 10_000
    read = Records("q", 10_000, SigningKeys({})).read

    def __init__(self, *functions: Any, result_ttl_ms: int = 0) -> None:
        options = {
            "timeout_ms": 60_000,
            "max_attempts": 1,
            "backoff": Backoff(),
            "result_ttl_ms": result_ttl_ms,
            "sensitive": False,
        }
        tasks: Any = {function.__name__: SimpleNamespace(function=function, **options) for function in functions}
        self.tasks = Tasks(tasks, 1_000)
        self.worker_id = "w"
        self.queue = SimpleNamespace(name="q")
        self.done: list[str] = []
        self.settlements: list[Settlement] = []
        self.ended: list[int] = []
        self.owner: Any = None

    def job_ended(self, outcomes: int) -> None:
        self.ended.append(outcomes)

    def tell(self, *_: object) -> None: ...


def jobs(task: str, *job_ids: str) -> list[ClaimedJob]:
    return [ClaimedJob(job_id, encode_record(Record(task, [job_id])), 0, 0) for job_id in job_ids]


def settle_down(slots: Slots) -> None:
    """Let the hub turn until nothing is about to run."""
    for _ in range(5):
        gevent.sleep(0)


@pytest.fixture(autouse=True)
def no_job_left() -> Iterator[None]:
    """Have no later test of this process run in a job of one here."""
    yield
    current.set(None)


@pytest.fixture
def stuck() -> list[Any]:
    return []


def test_jobs_start_in_order_and_those_beyond_the_slots_wait_their_turn(stuck: list[Any]) -> None:
    started: list[str] = []

    def waits(job_id: str) -> None:
        started.append(job_id)
        gevent.sleep(0.001)

    slots, home = Slots(2, stuck.append), Home(waits)
    slots.hand_over(home, jobs("waits", *"abcde"))  # type: ignore[arg-type]
    settle_down(slots)
    assert started == ["a", "b"]
    assert slots.waiting(home) == ["c", "d", "e"]  # type: ignore[arg-type]

    gevent.sleep(0.05)
    assert started == ["a", "b", "c", "d", "e"]
    assert sorted(home.done) == ["a", "b", "c", "d", "e"]
    assert len(slots.all) == 2
    slots.close()


def test_each_job_is_seen_running_or_waiting_while_slots_are_made(stuck: list[Any]) -> None:
    seen: list[set[str]] = []

    def looks(job_id: str) -> None:
        running = {job.job.id for job in slots.running()}
        seen.append({*running, *slots.waiting(home), *home.done})  # type: ignore[arg-type]

    slots, home = Slots(9, stuck.append), Home(looks)
    slots.hand_over(home, jobs("looks", *"abcdef"))  # type: ignore[arg-type]
    settle_down(slots)

    assert seen == [set("abcdef")] * 6
    slots.close()


def test_call_for_the_first_half_of_short_jobs_goes_out_before_the_other_half_runs(stuck: list[Any]) -> None:
    happened: list[str] = []
    loop = gevent.get_hub().loop

    def short(job_id: str) -> None:
        if job_id == "a":  # as a pump does: a callback gathers what ended, and has another call
            loop.run_callback(loop.run_callback, lambda: happened.append("call"))
        happened.append(job_id)

    slots, home = Slots(6, stuck.append), Home(short)
    slots.hand_over(home, jobs("short", *"uvwxyz"))  # type: ignore[arg-type]
    settle_down(slots)
    happened.clear()
    slots.hand_over(home, jobs("short", *"abcdef"))  # type: ignore[arg-type]
    settle_down(slots)

    assert happened == ["a", "b", "c", "call", "d", "e", "f"]
    slots.close()


def test_slots_are_grown_on_demand_and_used_again(stuck: list[Any]) -> None:
    slots, home = Slots(100, stuck.append), Home(print_nothing)
    for _ in range(5):
        slots.hand_over(home, jobs("print_nothing", "a", "b", "c"))  # type: ignore[arg-type]
        settle_down(slots)

    assert len(home.done) == 15
    assert len(slots.all) <= 3
    slots.close()


def print_nothing(_: str) -> None: ...


def test_interrupt_that_comes_when_its_job_has_ended_hits_no_other(stuck: list[Any]) -> None:
    def waits(_: str) -> None:
        gevent.sleep(0.02)

    slots, home = Slots(1, stuck.append), Home(waits)
    slots.hand_over(home, jobs("waits", "a"))  # type: ignore[arg-type]
    settle_down(slots)
    (first,) = slots.running()
    slots.condemn(home, Why.GRACE_OVER)  # type: ignore[arg-type]
    gevent.sleep(0.03)
    slots.hand_over(home, jobs("waits", "b"))  # type: ignore[arg-type]
    settle_down(slots)
    slots.all[0].strike(first)
    gevent.sleep(0.03)

    assert home.done == ["a", "b"]
    slots.close()


def test_condemned_jobs_are_interrupted_and_others_are_not(stuck: list[Any]) -> None:
    def waits(_: str) -> None:
        gevent.sleep(0.02)

    slots, home, other = Slots(4, stuck.append), Home(waits), Home(waits)
    slots.hand_over(home, jobs("waits", "a", "b"))  # type: ignore[arg-type]
    slots.hand_over(other, jobs("waits", "c"))  # type: ignore[arg-type]
    settle_down(slots)
    slots.condemn(home, None, {"a"})  # type: ignore[arg-type]
    slots.strike()
    gevent.sleep(0.04)

    assert [(s.job_id, s.move) for s in home.settlements] == [("a", "cancel")]
    assert (home.done, other.done) == (["b"], ["c"])
    slots.close()


def test_outcome_of_a_lost_lease_is_dropped_whatever_it_is(stuck: list[Any]) -> None:
    def stays(_: str) -> str:
        try:
            gevent.sleep(5)
        except BaseException:
            return "all the same"
        return ""

    slots, home = Slots(1, stuck.append), Home(stays)
    slots.hand_over(home, jobs("stays", "a"))  # type: ignore[arg-type]
    settle_down(slots)
    slots.condemn(home, Why.LEASE_LOST)  # type: ignore[arg-type]
    slots.strike()
    settle_down(slots)

    assert (home.done, home.settlements, home.ended) == ([], [], [0])
    slots.close()


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_blow_of_the_watchdog_after_the_tasks_end_leaves_its_outcome_as_it_is(ending: str, stuck: list[Any]) -> None:
    def task(_: str) -> str:
        if ending == "raises":
            raise ValueError("its own")
        return "its own"

    slots, home = Slots(1, stuck.append), Home(task, result_ttl_ms=1_000)
    lines, first = inspect.getsourcelines(Slot.work)
    disarms = first + next(number for number, line in enumerate(lines) if "self.armed = False" in line)
    struck: list[int] = []

    def on_line(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is Slot.work.__code__ and event == "line" and frame.f_lineno == disarms and not struck:
            struck.append(disarms)
            assert slots.all[0].job
            raise slots.all[0].job.blow(0.0, 1.0)
        return on_line

    slots.hand_over(home, jobs("nobody", "x"))  # type: ignore[arg-type]
    settle_down(slots)
    home.settlements.clear()
    slot = slots.all[0]
    original = slot.work

    def traced(*item: Any) -> None:
        sys.settrace(on_line)
        try:
            original(*item)
        finally:
            sys.settrace(None)

    slots.idle.remove(slot)
    traced(home, *jobs("task", "a"))
    (settlement,) = home.settlements

    assert struck == [disarms]
    if ending == "returns":
        assert decode_outcome(settlement.outcome).value == "its own"
    else:
        assert (settlement.move, settlement.reason) == ("bury", "failed")
        assert decode_death(settlement.outcome).error == "ValueError: its own"
    assert slot.armed is False
    slots.close()


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("ttl_ms", [0, 1_000])
def test_exception_that_cannot_be_shown_ends_its_job_and_not_the_slot(name: str, ttl_ms: int, stuck: list[Any]) -> None:
    def raises(_: str) -> None:
        raise EVIL[name]

    slots, home = Slots(1, stuck.append), Home(raises, print_nothing, result_ttl_ms=ttl_ms)
    slots.hand_over(home, [*jobs("raises", "a"), *jobs("print_nothing", "b")])  # type: ignore[arg-type]
    settle_down(slots)

    settlement = home.settlements[0]
    assert (settlement.job_id, settlement.move, settlement.reason) == ("a", "bury", "failed")
    assert decode_report(settlement.report).error
    assert home.ended == [1, 1]
    assert (len(slots.idle), slots.running()) == (1, [])
    slots.close()


def test_what_gets_out_of_the_making_of_an_outcome_fails_the_job(
    stuck: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> Any:
        raise RaisesNotes

    monkeypatch.setattr(attempt, "outcome_of", breaks)
    slots, home = Slots(1, stuck.append), Home(print_nothing, result_ttl_ms=1_000)
    slots.hand_over(home, jobs("print_nothing", "a", "b"))  # type: ignore[arg-type]
    settle_down(slots)

    assert [(s.job_id, s.reason) for s in home.settlements] == [("a", "failed"), ("b", "failed")]
    assert len(slots.idle) == 1
    slots.close()


def test_outcome_that_cannot_be_settled_at_all_is_a_fault_of_the_worker_and_not_the_end_of_a_slot(
    stuck: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any, **__: Any) -> Any:
        raise RaisesNotes

    monkeypatch.setattr("gqueue.worker.slots.settle", breaks)
    faults: list[BaseException] = []
    slots, home = Slots(1, stuck.append), Home(print_nothing, result_ttl_ms=1_000)
    home.owner = SimpleNamespace(give_up=faults.append)
    slots.hand_over(home, jobs("nobody", "a"))  # type: ignore[arg-type]
    settle_down(slots)

    assert [type(fault) for fault in faults] == [RaisesNotes]
    assert (len(slots.idle), slots.running()) == (1, [])
    slots.close()


def pump_with(done: int, sizes: list[int]) -> Any:
    pump = object.__new__(Pump)
    pump.done = [f"d{number}" for number in range(done)]
    pump.settlements = [Settlement(f"s{n}", "succeed", outcome=b"x" * size) for n, size in enumerate(sizes)]
    pump.max_payload_bytes = 1024 * 1024
    return pump


@pytest.mark.parametrize(
    ("done", "sizes", "sent_done", "sent_settlements"),
    [
        (0, [], 0, 0),
        (50, [10] * 50, 50, 50),
        (MOVE_LIMIT + 1, [], MOVE_LIMIT, 0),
        (MOVE_LIMIT, [10] * 5, MOVE_LIMIT - 5, 5),
        (10, [MOVE_BYTES // 4] * 9, 10, 4),
        (10, [MOVE_BYTES * 2, 10], 10, 1),
    ],
)
def test_call_settles_a_thousand_outcomes_and_four_megabytes_at_most(
    done: int, sizes: list[int], sent_done: int, sent_settlements: int
) -> None:
    pump = pump_with(done, sizes)
    before = [*pump.done, *(settlement.job_id for settlement in pump.settlements)]
    first, second = pump._take()

    assert (len(first), len(second)) == (sent_done, sent_settlements)
    rest = [*pump.done, *(settlement.job_id for settlement in pump.settlements)]
    assert sorted([*first, *(settlement.job_id for settlement in second), *rest]) == sorted(before)
