"""Failpoints: how GQUEUE_FAILPOINTS is read, when a place strikes, and where the places are."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gqueue
from gqueue import failpoints
from gqueue.config import PLACES, Failpoint
from gqueue.config import failpoints as read
from gqueue.core.model import MOVE_LIMIT
from gqueue.errors import BadSetting
from gqueue.failpoints import FailpointReached
from tests.hand import Hand
from tests.processes import ROOT, Process


def test_failpoints_are_off_unless_asked_for():
    assert read({}) == read({"GQUEUE_FAILPOINTS": ""}) == ()
    assert failpoints.at("settle", ()) is failpoints.at("claimed", (Failpoint("settle", "kill"),))


def test_each_part_of_the_text_is_one_failpoint():
    text = "claimed=kill@3; settle=kill%0.05;beat=sleep:2.5@1;leave=exit:7;enqueue=raise;"

    assert read({"GQUEUE_FAILPOINTS": text}) == (
        Failpoint("claimed", "kill", time=3),
        Failpoint("settle", "kill", share=0.05),
        Failpoint("beat", "sleep", 2.5, time=1),
        Failpoint("leave", "exit", 7),
        Failpoint("enqueue", "raise"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "claimed",
        "claimed=",
        "nowhere=kill",
        "claimed=jump",
        "claimed=kill:3",
        "claimed=raise:3",
        "claimed=exit",
        "claimed=exit:1.5",
        "claimed=exit:256",
        "claimed=sleep",
        "claimed=sleep:-1",
        "claimed=kill@0",
        "claimed=kill@x",
        "claimed=kill%0",
        "claimed=kill%1.5",
        "claimed=kill@1%0.5",
        "claimed=kill,settle=kill",
    ],
)
def test_what_cannot_be_read_is_refused_and_names_the_variable(text, monkeypatch):
    with pytest.raises(BadSetting, match=f"GQUEUE_FAILPOINTS: .*{re.escape(text)}"):
        read({"GQUEUE_FAILPOINTS": f"beat=raise@9;{text}"})
    monkeypatch.setenv("GQUEUE_FAILPOINTS", text)
    with pytest.raises(BadSetting, match="GQUEUE_FAILPOINTS"):
        gqueue.Queue("failpoints", "memory:")


def test_a_time_is_counted_by_who_asked_for_the_place(capfd):
    rules = read({"GQUEUE_FAILPOINTS": "settle=raise@2"})
    one, other = failpoints.at("settle", rules), failpoints.at("settle", rules)

    one()
    other()
    with pytest.raises(FailpointReached, match="at settle"):
        one()
    one()
    assert re.fullmatch(r"failpoint settle=raise pid=\d+ t=\d+\n", capfd.readouterr().err)


def test_a_share_strikes_by_chance():
    reached = failpoints.at("settle", read({"GQUEUE_FAILPOINTS": "settle=raise%0.2"}))
    struck = 0
    for _ in range(2_000):
        try:
            reached()
        except FailpointReached:
            struck += 1

    assert 250 < struck < 570  # 10 standard deviations


@pytest.mark.parametrize(("action", "code"), [("kill", -signal.SIGKILL), ("exit:9", 9)])
def test_the_process_ends_as_asked(action, code):
    program = "import os, gqueue.config as c, gqueue.failpoints as f; f.at('beat', c.failpoints())(); print('went on')"
    environ = {"GQUEUE_FAILPOINTS": f"beat={action}", "PYTHONPATH": str(ROOT)}

    ended = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=30)

    assert (ended.returncode, ended.stdout) == (code, "")
    assert "failpoint beat=" in ended.stderr


@given(
    st.builds(Failpoint, st.sampled_from(PLACES), st.just("raise"), time=st.integers(0, 9))
    | st.builds(Failpoint, st.sampled_from(PLACES), st.just("kill"), share=st.sampled_from([0.25, 1.0]))
    | st.builds(Failpoint, st.sampled_from(PLACES), st.sampled_from(["exit", "sleep"]), st.sampled_from([2.0, 7.0]))
)
def test_a_failpoint_is_shown_as_it_is_written(rule):
    assert read({"GQUEUE_FAILPOINTS": str(rule)}) == (rule,)


def test_a_process_that_is_to_go_wrong_says_so_once_when_it_opens_a_store(monkeypatch, caplog):
    monkeypatch.setattr("gqueue.failpoints._announced", set())
    gqueue.Queue("quiet", "memory:").stats()
    monkeypatch.setenv("GQUEUE_FAILPOINTS", "settle=kill@3;beat=sleep:2.5")
    queues = [gqueue.Queue(name, "memory:") for name in ("one", "other")]
    assert not caplog.records

    for queue in queues:
        queue.stats()

    (record,) = caplog.records
    assert (record.name, record.levelname) == ("gqueue.failpoints", "WARNING")
    assert "settle=kill@3, beat=sleep:2.5" in record.getMessage()


def test_a_producer_meets_its_places(monkeypatch, queue_name):
    monkeypatch.setenv("GQUEUE_FAILPOINTS", "enqueue=raise@1;enqueued=raise@1")
    queue = gqueue.Queue(queue_name, "memory:")
    task = queue.task(len)

    with pytest.raises(FailpointReached, match=r"at enqueue$"):
        task.enqueue("a")
    assert queue.stats().depth == 0
    with pytest.raises(FailpointReached, match="at enqueued"):
        task.enqueue("a")
    assert queue.stats().depth == 1


def test_contributing_tells_of_every_place():
    told = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()

    assert re.findall(r"^\| `(\w+)` \|.*(?:producer|worker|heartbeat)", told, re.MULTILINE) == list(PLACES)


@pytest.mark.blackbox
@pytest.mark.parametrize("place", ["registered", "claimed", "settle", "settled", "beat", "leave"])
def test_a_worker_meets_its_places(redis_url, queue_name, place, tmp_path):
    environ = {"GQUEUE_REDIS_URL": redis_url, "GQUEUE_TEST_EFFECTS": str(tmp_path / "effects")}
    queue = gqueue.Queue("promises", redis_url, lease=1.5)
    job = queue.enqueue(queue.task(print, name="run").job(1))
    process = Process("--app", "tests.effects:queue", "--burst", GQUEUE_FAILPOINTS=f"{place}=exit:9", **environ)
    try:
        assert process.wait() == 9
        assert (tmp_path / "effects").exists() is (place in ("settle", "settled", "leave"))
    finally:
        process.remove()
        job.cancel()
        queue.purge()
        queue.close()


@pytest.mark.blackbox
def test_a_worker_meets_reap_before_each_call_that_takes_jobs_back(redis_url, queue_name, tmp_path):
    (tmp_path / "reaping.py").write_text(f"import gqueue\nqueue = gqueue.Queue({queue_name!r}, lease=0.5)\n")
    queue = gqueue.Queue(queue_name, redis_url, lease=0.5)
    task = queue.task(print, name="run")
    queue.enqueue_many(task.job(number) for number in range(MOVE_LIMIT + 1))
    gone = Hand(queue)
    while queue.stats().ready:
        gone.claim(MOVE_LIMIT)
    environ = {"GQUEUE_REDIS_URL": redis_url, "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    process = Process("--app", "reaping:queue", "--workers", "1", GQUEUE_FAILPOINTS="reap=exit:9@2", **environ)
    try:
        assert process.wait() == 9
        stats = queue.stats()
        assert (stats.lapsed, stats.counters["crashed"]) == (1, MOVE_LIMIT)
    finally:
        process.remove()
        queue.close()
