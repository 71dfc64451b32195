"""`python -m gqueue --app` as a subprocess: signals in each phase, kill -9, and what bad input gets."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Program, Start
from tests.conftest import wait_until
from tests.servers import Server

pytestmark = pytest.mark.blackbox

APP = """
import os, sys, time
import gevent, gqueue

queue = gqueue.Queue("work", lease=1.5, max_payload_bytes=2_000, retry_for=20)
other = gqueue.Queue("other", lease=1.5)
once = {"max_attempts": 1}

@queue.task(**once)
def add(a: int, b: int = 0) -> int:
    return a + b

@queue.task(**once)
def rest(seconds: float, file: str = "") -> str:
    if file:
        with open(file, "a") as opened:
            opened.write(f"began {os.getpid()}\\n")
    time.sleep(seconds)
    if file:
        with open(file, "a") as opened:
            opened.write("ended\\n")
    return "rested"

@queue.task(**once)
def fails(): raise RuntimeError("it cannot be done")

@queue.task(timeout=0.3, **once)
def hangs_waiting(): time.sleep(60)

@queue.task(timeout=0.3, **once)
def hangs_computing():
    while True: pass

@queue.task(**once)
def exits(): sys.exit(5)

@queue.task(timeout=0.3, **once)
def swallows():
    for _ in range(3):
        try: time.sleep(5)
        except BaseException: pass

@queue.task(**once)
def own_timeout():
    with gevent.Timeout(0.05): time.sleep(5)

@queue.task(**once)
def bad_result(): return {1, 2}

@queue.task(timeout=0.3, **once)
def wedges():
    import ctypes
    lock, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    for _ in range(2):  # no signal ends the second wait
        library.pthread_mutex_lock(lock)

@other.task(**once)
def elsewhere(n: int) -> int:
    return -n

queues = [queue, other]
"""


@pytest.fixture(autouse=True)
def app(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(APP)


class Client:
    """What the tests do with the queue: through the command line, as a user would."""

    def __init__(self, start: Start, url: str) -> None:
        self._start, self.url = start, url

    def worker(self, *args: str, app: str = "work:queue", **environ: str) -> Program:
        return self._start("--app", app, "--redis", self.url, *args, **environ)

    def ready_worker(self, *args: str, **environ: str) -> Program:
        program = self.worker(*args, **environ)
        wait_until(lambda: self.stats()["workers"] > 0, 20)
        return program

    def command(self, *args: str) -> tuple[int, str, str]:
        program = self._start(*args, "--app", "work:queues", "--redis", self.url)
        code, printed = program.end(40)
        return code, printed, program.said

    def enqueue(self, *args: str) -> str:
        code, printed, said = self.command("enqueue", *args)
        assert code == 0, said
        return printed.split()[0]

    def stats(self, queue: str = "work") -> dict[str, int]:
        # Not by the command line: this is polled.
        from gqueue.queue import Queue

        which = Queue(queue, self.url)
        try:
            stats = which.stats()
        finally:
            which.close()
        return {name: getattr(stats, name) for name in ("ready", "scheduled", "running", "dead", "workers", "lapsed")}

    def dead(self) -> dict[str, dict[str, object]]:
        code, printed, said = self.command("dead", "list", "--json")
        assert code == 0, said
        return {str(letter["task"]): letter for letter in map(json.loads, printed.splitlines())}


@pytest.fixture
def client(start: Start, own_server: Server) -> Client:
    return Client(start, own_server.url)


def began(file: Path) -> int:
    return file.read_text().count("began") if file.exists() else 0


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_it_starts_ends_it_cleanly(start: Start, tmp_path: Path, number: int, own_server: Server) -> None:
    (tmp_path / "slow.py").write_text("import sys, time\nprint('importing', file=sys.stderr)\ntime.sleep(30)")
    program = start("--app", "slow:queue", "--redis", own_server.url)
    program.await_line("importing")
    program.send(number)
    assert program.end()[0] == 0, program.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_it_is_idle_ends_it_cleanly(client: Client, number: int) -> None:
    program = client.ready_worker()
    program.send(number)
    assert program.end()[0] == 0, program.said
    assert client.stats()["workers"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_a_job_runs_lets_it_finish_and_starts_no_other(
    client: Client, number: int, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    job = client.enqueue("rest", "1.5", str(file))
    second = client.enqueue("add", "1")
    program = client.worker("--workers", "1")
    wait_until(lambda: began(file))
    program.send(number)
    assert program.end()[0] == 0, program.said
    assert "ended" in file.read_text()
    assert client.stats() == {"ready": 1, "scheduled": 0, "running": 0, "dead": 0, "workers": 0, "lapsed": 0}
    assert job != second


def test_job_that_outlasts_the_grace_is_given_back(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "file"
    client.enqueue("rest", "30", str(file))
    program = client.worker("--grace", "0.3")
    wait_until(lambda: began(file))
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0, program.said
    assert (client.stats()["ready"], client.stats()["dead"]) == (1, 0)


def test_second_signal_gives_back_at_once(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "file"
    client.enqueue("rest", "30", str(file))
    program = client.worker("--grace", "25")
    wait_until(lambda: began(file))
    program.send(signal.SIGTERM)
    time.sleep(0.2)  # two of one signal, sent together, may arrive as one
    program.send(signal.SIGTERM)
    assert program.end(10)[0] == 0, program.said
    assert client.stats()["ready"] == 1


def test_quiet_worker_claims_nothing_more_and_stays(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "file"
    job = client.enqueue("rest", "1", str(file))
    program = client.worker("--workers", "2")
    wait_until(lambda: began(file))
    program.send(signal.SIGTSTP)
    program.await_line("quiet")
    client.enqueue("add", "1")
    wait_until(lambda: "ended" in file.read_text())
    wait_until(lambda: client.stats()["running"] == 0)
    assert client.stats()["ready"] == 1
    assert program.process.poll() is None
    assert job
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0, program.said


def test_usr1_shows_stacks_and_running_jobs_and_changes_nothing(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "file"
    job = client.enqueue("rest", "2", str(file))
    program = client.worker()
    wait_until(lambda: began(file))
    program.send(signal.SIGUSR1)
    program.await_line("in rest")
    program.await_line(job)
    wait_until(lambda: "ended" in file.read_text())
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0


# Death and outage.


def test_jobs_of_a_worker_that_is_killed_run_elsewhere(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "file"
    workers = [client.worker("--workers", "1") for _ in range(2)]
    wait_until(lambda: client.stats()["workers"] == 2, 20)
    job = client.enqueue("rest", "2", str(file))
    wait_until(lambda: began(file))
    pid = int(file.read_text().split()[1])
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: began(file) == 2, 1.5 * 4 / 3 + 1 + 1)  # the bound, and a second for a busy machine
    wait_until(lambda: "ended" in file.read_text(), 20)
    assert began(file) == 2
    wait_until(lambda: client.stats()["running"] == 0)
    assert client.command("enqueue", "rest", "0", "--job-id", job)[0] == 0  # it is done: the id is free
    (other,) = (worker for worker in workers if worker.process.pid != pid)
    other.send(signal.SIGTERM)
    assert other.end()[0] == 0, other.said


def test_jobs_of_workers_that_are_all_gone_run_soon_in_the_first_that_comes(client: Client, tmp_path: Path) -> None:
    lease = 6.0
    files = [tmp_path / name for name in ("one", "other")]
    workers = [client.worker("--workers", "1", "--lease", str(lease)) for _ in files]
    wait_until(lambda: client.stats()["workers"] == 2, 20)
    for file in files:
        client.enqueue("rest", "30", str(file))
    wait_until(lambda: all(map(began, files)))
    for worker in workers:
        worker.kill()
    gone_at = time.monotonic()
    wait_until(lambda: time.monotonic() - gone_at > lease + 0.5, 20)  # all leases are over, and nobody takes note of it
    assert client.stats()["running"] == 2

    client.worker("--workers", "2", "--lease", str(lease))
    wait_until(lambda: client.stats()["workers"] == 3, 20)
    came_at = time.monotonic()
    wait_until(lambda: [began(file) for file in files] == [2, 2], 20)

    assert time.monotonic() - came_at < lease * 2 / 3 + 1  # as promised: that has a second for a busy machine in it


def test_children_of_a_supervisor_are_restarted_and_their_jobs_run_again(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "file"
    program = client.worker("--processes", "2", "--workers", "1")
    wait_until(lambda: client.stats()["workers"] == 2, 20)
    client.enqueue("rest", "2", str(file))
    wait_until(lambda: began(file))
    os.kill(int(file.read_text().split()[1]), signal.SIGKILL)
    program.await_line("it is started again")
    wait_until(lambda: "ended" in file.read_text(), 20)
    wait_until(lambda: client.stats()["workers"] == 2, 20)
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0, program.said
    assert client.stats()["workers"] == 0


def test_supervisor_gives_up_with_the_code_of_children_that_cannot_start(start: Start, own_server: Server) -> None:
    program = start("--app", "absent:queue", "--processes", "2", "--redis", own_server.url)
    assert program.end()[0] == 2
    assert "No module named 'absent'" in program.said
    unreachable = start("--processes", "2", "--redis", "redis://127.0.0.1:1")
    assert unreachable.end()[0] == 3
    assert "is not reachable" in unreachable.said


def test_outage_of_redis_costs_no_job(client: Client, own_server: Server, tmp_path: Path) -> None:
    file = tmp_path / "file"
    program = client.ready_worker()
    waiting = client._start("enqueue", "rest", "1", str(file), "--wait", "--app", "work:queue", "--redis", client.url)
    wait_until(lambda: began(file))
    own_server.kill()
    wait_until(lambda: "ended" in file.read_text())
    own_server.start()
    code, printed = waiting.end(30)
    assert (code, printed.split()[1]) == (0, '"rested"'), waiting.said
    assert program.count("is away") == waiting.count("is away") == 1
    assert began(file) == 1
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0, program.said


PRODUCER = """
import sys
from work import add
jobs = [add.options(priority=n % 3).enqueue(n, b=int(sys.argv[1])) for n in range(100)]
print(sum(job.result(timeout=60) for job in jobs))
"""


def test_two_workers_serve_three_producers(client: Client, tmp_path: Path) -> None:
    workers = [client.worker("--workers", "5"), client.worker("--workers", "5")]
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "GQUEUE_REDIS_URL": client.url}
    producers = [
        subprocess.Popen([sys.executable, "-c", PRODUCER, str(1000 * n)], env=environ, stdout=subprocess.PIPE)
        for n in range(3)
    ]
    sums = [int(producer.communicate(timeout=60)[0]) for producer in producers]
    assert sums == [4950 + 100 * 1000 * n for n in range(3)]
    for worker in workers:
        worker.send(signal.SIGTERM)
        assert worker.end()[0] == 0, worker.said


def test_several_queues_are_served_by_one_worker_and_burst_ends_when_all_are_empty(client: Client) -> None:
    client.enqueue("add", "1")
    client.enqueue("elsewhere", "2")
    for more in ([], ["--weights", "2,1"]):
        program = client.worker("--burst", "--log-jobs", *more, app="work:queues")
        assert program.end()[0] == 0, program.said
        assert client.stats()["ready"] == client.stats("other")["ready"] == 0
    assert client.stats()["dead"] == client.stats("other")["dead"] == 0


def test_environment_stands_for_options(client: Client) -> None:
    client.enqueue("add", "1")
    environ = {"GQUEUE_APP": "work:queue", "GQUEUE_REDIS_URL": client.url, "GQUEUE_BURST": "1", "GQUEUE_WORKERS": "7"}
    program = client._start(**environ)
    assert program.end()[0] == 0, program.said
    assert "7 slots" in program.said
    assert client.stats()["ready"] == 0


# What bad input gets.


def test_each_way_to_fail_is_a_dead_letter_with_its_reason_and_the_worker_goes_on(client: Client) -> None:
    program = client.ready_worker()
    for task in ("fails", "hangs_waiting", "hangs_computing", "exits", "own_timeout", "bad_result"):
        client.enqueue(task)
    client.enqueue("add", "1", "2", "3")
    assert client.command("enqueue", "add", "1", "b=2", "--wait")[1].split()[1] == "3"
    wait_until(lambda: client.stats()["dead"] == 7)
    reasons = {task: letter["reason"] for task, letter in client.dead().items()}
    assert reasons == {
        "fails": "failed",
        "hangs_waiting": "timed_out",
        "hangs_computing": "timed_out",
        "exits": "failed",
        "own_timeout": "failed",
        "bad_result": "bad_result",
        "add": "bad_record",  # one argument too many
    }
    assert "it cannot be done" in str(client.dead()["fails"]["error"])
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0, program.said


def test_job_that_swallows_its_time_out_is_given_up_and_reported(client: Client) -> None:
    program = client.ready_worker()
    client.enqueue("swallows")
    wait_until(lambda: client.stats()["dead"] == 1, 20)
    assert client.dead()["swallows"]["reason"] == "stuck"
    assert "1 of 50 are gone" in program.said
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0, program.said


def test_job_that_blocks_the_whole_process_ends_it_with_4(client: Client) -> None:
    client.enqueue("wedges")
    program = client.worker("--stuck-after", "0.5")
    assert program.end()[0] == 4, program.said
    assert "in wedges" in program.said


def test_corrupt_record_is_a_dead_letter_and_the_worker_goes_on(client: Client, own_server: Server) -> None:
    job = client.enqueue("add", "1")
    key = "gq:{work}:jobs"
    entry = own_server.client().hget(key, job)
    assert entry is not None
    prefix = entry[: entry.index(b"{")]
    own_server.client().hset(key, job, prefix + b'{"task": ["torn')
    later = client.enqueue("add", "2")
    program = client.worker("--burst", "--log-jobs")
    assert program.end()[0] == 0, program.said
    assert [letter["reason"] for letter in client.dead().values()] == ["bad_record"]
    assert later in program.said


def test_task_that_the_worker_does_not_know_is_tried_again_later(client: Client, tmp_path: Path) -> None:
    (tmp_path / "newer.py").write_text(
        "import gqueue\nqueue = gqueue.Queue('work', lease=1.5)\n@queue.task\ndef new(): ...\n"
        "@queue.task(max_attempts=1)\ndef brand_new(): ...\n"
    )
    for task in ("new", "brand_new"):
        assert client._start("enqueue", task, "--app", "newer:queue", "--redis", client.url).end()[0] == 0
    program = client.worker()
    wait_until(lambda: client.stats()["scheduled"] == 2, 20)
    assert client.stats()["dead"] == 0
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0, program.said


def test_payload_that_is_too_large_is_refused_before_anything_is_sent(client: Client) -> None:
    code, _, said = client.command("enqueue", "add", "x" * 3_000)
    assert code == 2
    assert "the limit is 2,000 (max_payload_bytes)" in said
    assert client.stats()["ready"] == 0


def test_full_redis_refuses_an_enqueue_and_is_drained_by_the_worker(client: Client, own_server: Server) -> None:
    client.enqueue("add", "1")
    own_server.client().config_set("maxmemory", "1")
    code, _, said = client.command("enqueue", "add", "2")
    assert code == 1
    assert "maxmemory" in said
    program = client.worker("--burst")
    assert program.end(30)[0] == 0, program.said
    assert client.stats()["ready"] == 0


def test_server_whose_settings_may_lose_jobs_is_warned_of(start: Start) -> None:
    with Server() as server:
        server.client().config_set("maxmemory-policy", "allkeys-lru")
        program = start("--app", "work:queue", "--redis", server.url, "--burst")
        assert program.end()[0] == 0, program.said
        assert "WARNING" in next(line for line in program.lines if "allkeys-lru" in line)
        assert any("does not save to disk" in line for line in program.lines)


def test_paused_queue_is_left_alone_until_it_is_resumed(client: Client) -> None:
    program = client.ready_worker("--log-jobs")
    assert client.command("pause", "--queue", "work")[:2] == (0, "work: paused\n")
    job = client.enqueue("add", "1")
    assert "PAUSED" in client.command("stats", "--queue", "work")[1]
    assert client.stats()["ready"] == 1
    assert client.command("resume", "--queue", "work")[:2] == (0, "work: resumed\n")
    program.await_line(job)
    program.send(signal.SIGTERM)
    assert program.end()[0] == 0


def test_dead_letters_are_listed_redriven_and_deleted(client: Client) -> None:
    job = client.enqueue("fails")
    assert client.worker("--burst").end()[0] == 0
    code, printed, _ = client.command("dead", "list", "--traceback")
    assert code == 0
    assert f"work {job} fails(): failed after 1 attempt: " in printed
    assert 'raise RuntimeError("it cannot be done")' in printed
    code, printed, _ = client.command("dead", "redrive", "--queue", "work", job)
    assert (code, printed) == (0, f"{job}\n")
    assert client.command("dead", "redrive", "--queue", "work", job)[:2] == (1, "")
    assert client.worker("--burst").end()[0] == 0
    assert client.command("dead", "delete", "--queue", "work", "--all")[:2] == (0, "1\n")
    assert client.command("dead", "list")[:2] == (0, "")
