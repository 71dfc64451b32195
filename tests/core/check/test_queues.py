"""What is said of a queue."""

from typing import Any

import pytest
from attrs import evolve

from gqueue.core.check.queues import QueueFacts, judge_queue

SOUND = QueueFacts(
    name="mail",
    tasks=["send"],
    signing=["k1", "k0"],
    capacity=1_000,
    lease_ms=30_000,
    meta={"capacity": "1000", "lease": "30000", "sequence": "7"},
    missing={"worker": []},
    flaws={},
)


def said(**changed: Any) -> list[str]:
    lines = judge_queue(evolve(SOUND, **changed))
    assert {line.topic for line in lines} == {"queue mail"}
    return [f"{line.verdict.value} {line.seen}" for line in lines]


def test_sound_queue_has_these_lines():
    assert said() == [
        "ok the rights of a worker are there",
        "ok 1 task: send",
        "ok records are signed, by key k1 of 2",
        "ok capacity 1,000",
        "ok lease 30 s",
        "ok its keys fit together",
    ]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"missing": {"worker": ["+zadd", "~gq:{mail}:jobs"]}}, "bad the rights of a worker are not there: +zadd, ~gq"),
        ({"missing": {"worker": ["+evalsha"]}}, "bad the rights of a worker are not there: +evalsha (without which no"),
        ({"missing": {"worker": ["EVALSHA", "+zadd"]}}, "bad the rights of a worker are not there: +zadd"),
        ({"missing": {"worker": ["EVALSHA", "+zadd"]}}, "bad the server has no EVALSHA, which a worker needs: renamed"),
        ({"tasks": []}, "warn the app has no task for it: its jobs would die as unknown_task"),
        ({"tasks": [f"t{n:02}" for n in range(12)]}, "ok 12 tasks: t00, t01,"),
        ({"signing": []}, "ok records are not signed: who may write to Redis may have any task run"),
        ({"signing": [], "local": False}, "warn records are not signed: who may write to Redis may have any task run"),
        ({"meta": {"capacity": "500"}}, "warn capacity 500 came with the last enqueue, but the app has 1,000"),
        ({"meta": {"capacity": "9", "capacity_set": "500"}}, "ok capacity 500, set by an operator; the app's 1,000"),
        ({"meta": {"lease": "60000"}}, "warn the lease in force is 60 s, the longest of its workers; the app has 30 s"),
        ({"meta": {"paused": "1"}}, "warn it is paused: no job is claimed"),
        ({"meta": {"capacity": "x", "lease": "y"}}, "warn capacity x came with the last enqueue"),
        ({"meta": {}}, "ok nobody has used it yet"),
        ({"meta": None}, "unknown what is in force may not be read"),
        ({"flaws": {"no_place": 2, "no_job": 1}}, "bad 3 findings in its keys: no job 1, no place 2"),
        ({"flaws": None}, "unknown its keys were not looked through"),
        ({"flaws": None, "refused": "may not"}, "unknown may not"),
    ],
)
def test_one_thing_is_remarked(changed: dict[str, Any], line: str):
    assert [each for each in said(**changed) if each.startswith(line)]


def test_queue_that_was_given_by_its_name_alone_is_not_said_to_have_no_tasks():
    lines = said(tasks=None, signing=None, capacity=None, lease_ms=None)

    assert lines == [
        "ok the rights of a worker are there",
        "ok capacity 1,000",
        "ok lease 30 s",
        "ok its keys fit together",
    ]
