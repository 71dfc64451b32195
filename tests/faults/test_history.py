"""The history of a run: what is written is read again, in the order of time, by whatever process it was written."""

import os
from pathlib import Path

import msgspec
import pytest

from tests.faults.history import (
    DepthRecorder,
    Expect,
    HistoryDamaged,
    Recorder,
    Run,
    depths,
    events,
    read_run,
    write_run,
)
from tests.faults.scenarios.names import NAMES


def test_what_was_recorded_is_read_in_the_order_of_time(tmp_path: Path) -> None:
    producer, worker, rig = (Recorder(tmp_path, role) for role in ("producer", "worker", "rig"))
    rig.capacity(10)
    producer.attempt("a", priority=1.5, delay=0.5, kept=60.0)
    producer.ack("a", "id-a")
    with worker.running("a", 1):
        worker.effect("a", 1)
    rig.fault("kill -9", pid=7, ids=("id-a",))
    rig.died(7, "-9")
    rig.dead("b", "id-b", "worker_lost")
    rig.result("a", "id-a", "right")

    read = list(events(tmp_path))

    assert [event.e for event in read] == [
        "capacity",
        "attempt",
        "ack",
        "start",
        "effect",
        "end",
        "fault",
        "died",
        "dead",
        "result",
    ]
    assert [event.t for event in read] == sorted(event.t for event in read)
    assert (read[1].priority, read[2].id, read[5].how, read[6].pid, read[6].ids) == (
        1.5,
        "id-a",
        "returned",
        7,
        ("id-a",),
    )
    assert (read[1].delay, read[1].kept, read[9].how) == (0.5, 60.0, "right")
    assert read[3].worker == str(os.getpid())


@pytest.mark.parametrize(
    ("raised", "how"), [(ValueError, "raised"), (KeyboardInterrupt, "interrupted"), (SystemExit, "interrupted")]
)
def test_end_of_an_attempt_is_recorded_however_it_comes(tmp_path: Path, raised: type[BaseException], how: str) -> None:
    with pytest.raises(raised), Recorder(tmp_path, "worker").running("a", 1):
        raise raised

    assert [event.how for event in events(tmp_path)] == ["", how]


def test_child_of_a_fork_writes_into_a_file_of_its_own(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "worker")
    recorder.start("a", 1)
    child = os.fork()
    if child == 0:
        recorder.effect("a", 1)
        os._exit(0)
    os.waitpid(child, 0)
    recorder.end("a", 1, "returned")

    assert {event.e: event.pid for event in events(tmp_path)} == {
        "start": os.getpid(),
        "effect": child,
        "end": os.getpid(),
    }
    assert len(list((tmp_path / "history").iterdir())) == 2


def test_line_cut_by_a_kill_is_passed_over_and_any_other_that_is_none_is_named(tmp_path: Path) -> None:
    Recorder(tmp_path, "worker").start("a", 1)
    (file,) = (tmp_path / "history").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:20])
    assert len(list(events(tmp_path))) == 1

    file.write_bytes(whole + b'{"t":1,"pid":1,"e":"begin"}\n')
    with pytest.raises(HistoryDamaged, match="line 2"):
        list(events(tmp_path))


def test_attempt_that_raises_says_when_the_next_may_start_and_one_that_returns_does_not(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "worker")
    with pytest.raises(ValueError, match="once"), recorder.running("a", 1, delay=0.1, backoff=0.2):
        raise ValueError("once")
    with recorder.running("a", 2, delay=0.1, backoff=0.2):
        pass

    ends = [event for event in events(tmp_path) if event.e == "end"]
    assert [(end.how, end.delay, end.backoff) for end in ends] == [("raised", 0.1, 0.2), ("returned", 0.0, 0.0)]


def test_depth_and_run_come_back_as_written(tmp_path: Path) -> None:
    assert list(depths(tmp_path)) == []
    DepthRecorder(tmp_path).sample(12, 3, 10)
    run = Run(
        scenario=str(NAMES[1]), seed=3, short=True, lease_s=1.5, capacity=10, slots=20, workers=2,
        started="2026-11-24T09:00:00Z", python="3.13.0", redis="7.0.15", gqueue_commit="abc", seconds=9.5,
        expect=Expect(recovery_s=3.0, dead={"worker_lost": 1}, reached=("recovered",)), reached={"recovered": 4},
    )  # fmt: skip
    write_run(tmp_path, run)

    (sample,) = depths(tmp_path)
    assert (sample.depth, sample.running, sample.capacity) == (12, 3, 10)
    assert read_run(tmp_path) == run


def test_expectation_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(msgspec.ValidationError, match="recovery"):
        msgspec.json.decode(b'{"recovery": 3.0}', type=Expect)


def test_the_35_scenarios_have_each_a_name_of_its_own() -> None:
    assert sorted(NAMES) == list(range(1, 36))
    assert len({name.slug for name in NAMES.values()}) == 35
    assert str(NAMES[1]) == "01-kill-workers"
