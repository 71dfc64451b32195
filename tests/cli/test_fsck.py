"""`gqueue fsck`: what it prints, for people and for programs, and its exit codes."""

import json
from collections.abc import Callable

import pytest

from gqueue.cli.main import run
from gqueue.queue import Queue
from tests.servers import Server


@pytest.fixture
def queue(redis_url: str, queue_name: str):
    with_one_job = Queue(queue_name, redis_url)
    with_one_job.task(lambda: None, name="nothing").enqueue()
    yield with_one_job
    with_one_job.close()


@pytest.fixture
def raw(server: Server, queue_name: str):
    with server.client() as client:
        yield lambda command, key, *arguments: client.execute_command(command, f"gq:{{{queue_name}}}:{key}", *arguments)


def test_sound_queue_is_clean(queue: Queue, redis_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fsck", queue.name, "--redis", redis_url]) == 0

    assert capsys.readouterr().out.startswith(f"{queue.name}: clean; ")


def test_finding_is_told_with_its_repair_and_exits_1(
    queue: Queue, redis_url: str, raw: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    raw("DEL", "ready")

    assert run(["fsck", queue.name, "--redis", redis_url]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{queue.name}: no place: jobs '")
    assert first.endswith(": it stands nowhere; --repair: back to ready, with its rank and sequence")
    assert last.startswith(f"{queue.name}: 1 finding; ")

    assert run(["fsck", queue.name, "--redis", redis_url, "--repair"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.endswith("; repaired: back to ready, with its rank and sequence")
    assert last.startswith(f"{queue.name}: 1 finding, 1 repaired; ")
    assert run(["fsck", queue.name, "--redis", redis_url]) == 0


def test_programs_read_an_object_a_line(
    queue: Queue, redis_url: str, raw: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    raw("HSET", "attempts", "gone", "1")

    assert run(["fsck", queue.name, "--redis", redis_url, "--json"]) == 1

    finding, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert (finding["flaw"], finding["key"], finding["job"], finding["repaired"]) == (
        "no_job",
        "attempts",
        "gone",
        False,
    )
    assert (summary["found"], summary["left"], summary["complete"]) == ({"no_job": 1}, 1, True)


def test_many_findings_of_a_kind_are_summed_up(
    queue: Queue, redis_url: str, raw: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(25):
        raw("HSET", "progress", f"gone{number}", "1")

    assert run(["fsck", queue.name, "--redis", redis_url]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22
    assert lines[-2].endswith("no job: 5 more; --json shows all")


def test_what_cannot_be_repaired_exits_1(
    queue: Queue, redis_url: str, raw: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    raw("SET", "suspects", "x")

    assert run(["fsck", queue.name, "--redis", redis_url, "--repair"]) == 1

    assert "RENAME it, then look again" in capsys.readouterr().out


def test_unknown_queue_is_no_clean_one(redis_url: str, queue_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fsck", queue_name, "--redis", redis_url]) == 1

    assert "nothing is known of a queue" in capsys.readouterr().err


def test_queue_must_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fsck"]) == 2

    assert "which queue? Give its name" in capsys.readouterr().err
