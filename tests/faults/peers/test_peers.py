"""The parts of the comparison that need no other queue: keys, processes, histories, and gqueue's own run."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.faults.crew import Child
from tests.faults.history import Recorder, events
from tests.faults.peers.acts import ACTS
from tests.faults.peers.run import gather, kill_tree, session
from tests.faults.peers.systems import SYSTEMS, keys_in
from tests.faults.scenarios.names import NAMES
from tests.processes import ROOT
from tests.servers import Server

CELERY = b'{"body": "W1sicDItMTciXV0=", "headers": {"id": "8a22", "argsrepr": "(\'p2-17\', 0.2, False)"}}'
KEYS = {
    "rq": [("RPUSH", "rq:queue:default", "p2-17"), ("ZADD", "rq:wip:default", "9", "p0-1:5f1a9c")],
    "celery": [
        ("LPUSH", "celery", CELERY),
        ("HSET", "unacked", "tag", b"[" + CELERY.replace(b"p2-17", b"p0-1") + b"]"),
    ],
    "dramatiq": [
        ("HSET", "dramatiq:default.msgs", "a", '{"args": ["p2-17", 0.2]}', "b", '{"args": ["p0-1", 0.2]}'),
    ],
    "huey": [
        ("LPUSH", "huey.redis.faults", b"\x80\x04\x8c\x05p2-17\x94"),
        ("ZADD", "huey.schedule.faults", 1, b"\x05p0-1"),
    ],
    "gqueue": [("HSET", "gq:{faults}:jobs", "a", b'1 {"args":["p2-17"]}', "b", b'1 {"args":["p0-1"]}')],
}
"""What each queue keeps of a job that waits and of one that runs, or was not acknowledged, shortened."""


@pytest.mark.parametrize("name", KEYS)
def test_jobs_that_a_queue_holds_are_found_in_its_keys(name: str) -> None:
    with Server() as server, server.client() as client:
        assert list(SYSTEMS[name].held(client)) == []
        for command in KEYS[name]:
            client.execute_command(*command)

        assert keys_in(SYSTEMS[name].held(client)) == {"p2-17", "p0-1"}


def test_every_queue_names_its_versions_its_promise_and_where_that_stands() -> None:
    for system in SYSTEMS.values():
        assert (ROOT / "tests" / "faults" / "peers" / "apps" / f"{system.app}.py").exists()
        assert all("==" in each for each in system.installs if each != "packaging")
        assert system.settings
        assert system.promise
        assert re.match(r"https://|promises\.md$", system.source)


def test_scenarios_of_the_comparison_are_those_of_the_campaign() -> None:
    assert list(ACTS) == [1, 2, 4, 5, 10, 15, 20]
    assert {act.name for act in ACTS.values()} <= set(map(str, NAMES.values()))


def test_worker_is_all_that_its_command_has_started(tmp_path: Path) -> None:
    # A group of its own within the session, as RQ gives to what it forks; and an orphan, whose parent has ended.
    inner = "import os, time; os.fork(); os.setpgid(0, 0); os.fork(); print('up', flush=True); time.sleep(60)"
    child = Child(tmp_path / "log", ["sh", "-c", f'{sys.executable} -c "{inner}" & wait'], {})
    child.start()
    try:
        wait_until(lambda: child.log().count("up") == 4)

        killed = kill_tree(child)

        assert len(killed) == 5
        wait_until(lambda: not session(child.pid))
    finally:
        child.end()


def test_histories_of_many_processes_become_one_file_in_the_order_of_time(tmp_path: Path) -> None:
    for number in range(3):  # each of its own, as after a fork
        code = (
            f"from tests.faults.history import Recorder; Recorder({str(tmp_path)!r}, 'worker').start('p0-{number}', 1)"
        )
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    Recorder(tmp_path, "rig").fault("kill -9 worker", 1)
    cut = next((tmp_path / "history").glob("worker-*"))
    cut.write_bytes(cut.read_bytes() + b'{"t":12,"pid":')

    gather(tmp_path)

    assert [event.job for event in events(tmp_path)] == ["p0-0", "p0-1", "p0-2", ""]
    assert len(list((tmp_path / "history").iterdir())) == 2


@pytest.mark.blackbox
@pytest.mark.slow
def test_gqueue_is_run_in_the_form_of_the_comparison(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.peers", "--peer", "gqueue", "--scenario", "1", "--short"]
    began = time.monotonic()

    ended = subprocess.run(
        [*command, "--out", str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )

    assert ended.returncode == 0, ended.stderr
    assert re.search(r"200 acknowledged, 0 indeterminate, lost 0, .*, unfinished 0, recovered [1-9]", ended.stdout)
    assert "\n  " not in ended.stdout, ended.stdout
    assert time.monotonic() - began < 150
