"""What a first-time user sees: `python -m gqueue`, nothing given."""

import json
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from gqueue import demo
from tests.cli.conftest import ROOT, Program, Start
from tests.servers import Server

SUMMARY = "20 jobs: 19 succeeded, 1 dead (timed out)"


def test_summary_counts_outcomes_in_words() -> None:
    assert demo.summary(20, ["succeeded"] * 19 + ["dead (timed out)"]) == SUMMARY
    assert demo.summary(20, ["waiting", "succeeded", "running"]) == (
        "3 of 20 jobs enqueued: 1 succeeded, 1 running, 1 waiting"
    )
    assert demo.summary(0, []) == "0 jobs: nothing done"


def test_tasks_are_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert [demo.sum_first(n) for n in (0, 1, 10, 100)] == [0, 1, 55, 5050]
    with pytest.raises(ValueError, match="natural number"):
        demo.sum_first(-1)
    tasks = demo.make_queue("memory:").tasks
    assert {name: (task.max_attempts, task.timeout_ms) for name, task in tasks.items()} == {
        "sum_first": (1, 60_000),
        "never_ends": (1, 1_000),
    }


def end_cleanly(program: Program, number: int = signal.SIGTERM) -> None:
    program.send(number)
    assert program.end()[0] == 0, program.said


@pytest.mark.blackbox
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_shows_all_it_should_on_a_private_server_and_takes_more_jobs(
    start: Start, state_home: Path, number: int
) -> None:
    if listens_on_the_default_port():
        pytest.skip("a Redis listens on localhost:6379: the demo would take it")
    program = start()
    program.await_line(SUMMARY, seconds=25)
    program.await_line("waiting for more jobs")
    assert program.count("private redis-server") >= 1
    said = "\n".join(program.lines[: program.lines.index(program.await_line(SUMMARY))])
    for part in (
        "gqueue ",
        "gevent ",
        "Python 3.",
        "Redis ",
        "queue demo (size 3)",
        "5 slots",
        "never_ends, sum_first",
    ):
        assert part in said
    assert program.count("enqueued sum_first(") == 19
    assert program.count("enqueued never_ends(") == 1
    assert program.count("for room") >= 1
    results = [re.search(r"sum_first\((\d+)\) = (\d+)", line) for line in program.lines]
    sums = [(int(found[1]), int(found[2])) for found in results if found]
    assert len(sums) == 19
    assert all(total == n * (n + 1) // 2 for n, total in sums)

    other = start("enqueue", "sum_first", "1000", "--priority", "-1", "--wait")
    code, printed = other.end()
    job_id, result = printed.split()
    assert (code, result) == (0, "500500")
    assert job_id in program.await_line("sum_first(1000) = 500500")

    end_cleanly(program, number)
    assert program.count(SUMMARY) == 2  # when all were done, and at the end
    assert not (state_home / "gqueue" / "redis.sock").exists()


def listens_on_the_default_port() -> bool:
    try:
        socket.create_connection(("localhost", 6379), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.blackbox
def test_burst_ends_when_the_producer_is_done_and_nothing_is_left(start: Start, redis_url: str) -> None:
    program = start("--burst", "--jobs", "8", "--redis", redis_url, "--queue-size", "2")
    assert program.end()[0] == 0
    assert program.count("8 jobs: 7 succeeded, 1 dead (timed out)") == 1
    assert program.count("waiting for more jobs") == 0


@pytest.mark.blackbox
def test_with_many_workers_it_says_whether_anybody_had_to_wait(start: Start, redis_url: str) -> None:
    program = start("--workers", "50", "--burst", "--redis", redis_url)
    assert program.end()[0] == 0
    assert program.count(SUMMARY) == 1
    assert (program.count("the producer waited") > 0) != (program.count("nobody had to wait for room") > 0)


@pytest.mark.blackbox
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_it_produces_drains_and_sums_up(start: Start, redis_url: str, number: int) -> None:
    program = start("--redis", redis_url, "--workers", "1", "--jobs", "500")
    program.await_line("the producer waited")
    end_cleanly(program, number)
    assert re.search(r"\d+ of 500 jobs enqueued: ", program.said)
    assert "running" not in program.lines[-1]


@pytest.mark.blackbox
def test_json_log_is_one_object_a_line(start: Start, redis_url: str) -> None:
    program = start("--redis", redis_url, "--burst", "--log-format", "json")
    assert program.end()[0] == 0
    records = [json.loads(line) for line in program.lines]
    assert [record["message"] for record in records if record["message"] == SUMMARY] == [SUMMARY]
    assert {"time", "level", "logger", "message"} <= set(records[0])


@pytest.mark.blackbox
def test_only_the_first_of_several_processes_is_the_producer(start: Start, redis_url: str) -> None:
    program = start("--redis", redis_url, "--processes", "2", "--jobs", "150")
    program.await_line("150 jobs: 149 succeeded, 1 dead (timed out)")
    assert {line.split()[1] for line in program.lines if " demo: enqueued" in line} == {"[0]"}
    assert {line.split()[1] for line in program.lines if " jobs: " in line} == {"[0]", "[1]"}
    end_cleanly(program)
    assert program.count("150 jobs:") == 2


@pytest.mark.blackbox
def test_enqueue_to_the_demo_leaves_its_queue_size_as_it_is(start: Start, own_server: Server) -> None:
    program = start("--redis", own_server.url, "--jobs", "2", "--queue-size", "7")
    program.await_line("waiting for more jobs")
    assert start("enqueue", "sum_first", "3", "--redis", own_server.url).end()[0] == 0
    code, printed = start("stats", "--json", "--redis", own_server.url).end()
    assert (code, json.loads(printed)["capacity"]) == (0, 7)


@pytest.mark.blackbox
def test_failure_of_a_job_that_is_waited_for_is_told_and_exit_1(start: Start, own_server: Server) -> None:
    worker = start("--redis", own_server.url, "--jobs", "0")
    program = start("enqueue", "sum_first", "ten", "--wait", "--redis", own_server.url)
    code, printed = program.end()
    assert code == 1
    assert len(printed.split()) == 1
    assert "is dead (failed): TypeError" in program.said
    never = start("enqueue", "never_ends", "--wait", "--redis", own_server.url)
    assert never.end()[0] == 1
    assert "is dead (timed_out)" in never.said
    end_cleanly(worker)


def test_readme_of_the_examples_names_every_example() -> None:
    readme = (ROOT / "examples" / "README.md").read_text()
    for path in (ROOT / "examples").glob("*.py"):
        assert path.name in readme or path.name == "__init__.py"
