"""What the benchmarks measure with, on a real server and real workers, with few jobs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import gqueue
from benchmarks import drain, enqueue, one_producer, process, reference, worker
from benchmarks.benchmark import BenchmarkError
from benchmarks.server import EVERY_SECOND, Server
from gqueue.store.keys import Keys


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def setting(server: Server, name: str) -> str:
    return server.client.config_get(name)[name]


def test_server_is_private_and_without_persistence(server: Server):
    assert [setting(server, name) for name in ("save", "appendonly", "bind")] == ["", "no", "127.0.0.1"]


def test_server_has_an_append_only_file_if_wanted():
    with Server(EVERY_SECOND) as server:
        assert [setting(server, name) for name in ("appendonly", "appendfsync")] == ["yes", "everysec"]


def test_usage_is_what_lies_between(server: Server):
    server.client.set("a", "1")
    before = server.usage()
    for _ in range(3):
        server.client.eval("return redis.call('GET', 'a')", 0)
    used = server.usage() - before

    assert used.calls["get"] == used.calls["eval"] == used.scripts == 3
    assert "set" not in used.calls
    assert 0 < used.cpu_s < 1


def test_waiting_job_is_something_left_and_counters_are_not(server: Server):
    queue = gqueue.Queue("bench", url=server.url)

    @queue.task
    def no_op() -> None: ...

    job = no_op.enqueue()
    assert b"gq:{bench}:jobs" in server.keys_left()
    job.cancel()
    queue.close()

    assert server.keys_left() == []
    assert server.client.exists("gq:{bench}:stats")


@pytest.mark.parametrize("own", [False, True], ids=["redis-benchmark", "python"])
def test_reference_is_measured_and_leaves_nothing(own: bool, server: Server, monkeypatch: pytest.MonkeyPatch):
    if own:
        monkeypatch.setattr(shutil, "which", lambda _: None)
    elif not shutil.which("redis-benchmark"):
        pytest.skip("there is no redis-benchmark")
    monkeypatch.setattr(reference, "PINGS", 500)
    monkeypatch.setattr(reference, "PIPELINED", 64 * 20)
    measured = reference.measure(server)

    assert measured.keys() == {"ping_per_s", "zadd_per_s", "zpopmin_per_s"}
    assert min(measured.values()) > 100
    assert server.client.dbsize() == 0
    assert server.usage().calls["zpopmin"] >= 64 * 20


def test_memory_and_processor_time_are_those_of_the_process():
    child = subprocess.Popen(
        [sys.executable, "-c", "held = bytearray(50_000_000); sum(range(3_000_000)); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout
        child.stdout.readline()
        memory = process.memory(child.pid)

        assert 50_000_000 < memory.pss_bytes <= memory.rss_bytes < 150_000_000
        assert 0.01 <= process.cpu_s(child.pid) < 60
        assert {os.getpid(), child.pid} <= set(process.tree(os.getpid()))
    finally:
        child.kill()
        child.communicate()


@pytest.mark.blackbox
@pytest.mark.parametrize("processes", [1, 2])
def test_drain_tells_rate_and_cost(processes: int, server: Server):
    measured = worker.drain(
        server,
        "no-op",
        2_000,
        slots=5,
        processes=processes,
        results=True,
        warm_up=50,
        payload=100,
        environ=drain.SIGNED,
    )

    assert measured["jobs"] == 2_000
    assert server.results_kept() == 2_000 + 50 * processes
    assert measured["jobs_per_s"] == pytest.approx(2_000 / measured["seconds"], rel=0.01)
    assert measured["redis_cpu_us"] > 0
    assert 0 < measured["jobs_a_call"] <= 5


@pytest.mark.blackbox
@pytest.mark.parametrize(
    ("numbers", "said"), [([0, 1, 1, 3], "1 jobs did not run, 1 ran more"), ([0, 1, 3], "1 jobs did")]
)
def test_drain_in_which_a_job_is_lost_or_runs_twice_is_an_error(
    numbers: list[int], said: str, server: Server, monkeypatch: pytest.MonkeyPatch
):
    def produce(server: Server, environ: object, **what: Any) -> None:
        queue = gqueue.Queue("bench", url=server.url)
        task = queue.task(name="no_op.False", result_ttl=0)(lambda number: number)
        queue.enqueue_many(task.job(number) for number in numbers)
        queue.close()

    monkeypatch.setattr(worker, "produce", produce)
    with pytest.raises(BenchmarkError, match=said):
        worker.drain(server, "no-op", 4, slots=2, warm_up=0)


@pytest.mark.blackbox
@pytest.mark.parametrize(("wanted", "said"), [(False, "4 jobs were kept.* off"), (True, "0 jobs were kept.* on")])
def test_drain_that_keeps_other_results_than_it_is_to_is_an_error(
    wanted: bool, said: str, server: Server, monkeypatch: pytest.MonkeyPatch
):
    produce = worker.produce

    def contrary(server: Server, environ: Mapping[str, str], *, results: bool, **what: Any) -> None:
        produce(server, environ, results=not results, **what)

    monkeypatch.setattr(worker, "produce", contrary)
    with pytest.raises(BenchmarkError, match=said):
        worker.drain(server, "no-op", 4, slots=2, results=wanted, warm_up=0)


@pytest.mark.blackbox
@pytest.mark.parametrize("way", enqueue.WAYS)
def test_enqueue_tells_rate_and_cost(way: str, server: Server):
    measured = enqueue.BENCHMARK.measure({"way": way, "jobs": one_producer.TURN}, server)

    assert measured["seconds"] == pytest.approx(one_producer.TURN / measured["jobs_per_s"], abs=0.0001)
    assert measured["cpu_us"] > 0
    assert (measured.keys() >= enqueue.REFERENCES.keys()) == (way == "one by one")


@pytest.mark.parametrize("numbers", [[0, 1, 3], [0, 1, 1, 2], [0, 1, 2, 2, 3]])
def test_queue_that_does_not_hold_each_job_once_is_seen(numbers: list[int], server: Server):
    queue = gqueue.Queue("bench", url=server.url)
    task = queue.task(name="no_op")(lambda number: number)
    queue.enqueue_many(task.job(number) for number in [*range(4), -1])
    assert enqueue.wrong(server, 4) == ""

    queue.purge()
    queue.enqueue_many(task.job(number) for number in numbers)
    queue.close()

    assert enqueue.wrong(server, 4)


def test_job_that_is_held_but_no_longer_in_the_line_is_seen(server: Server):
    queue = gqueue.Queue("bench", url=server.url)
    task = queue.task(name="no_op")(lambda number: number)
    queue.enqueue_many(task.job(number) for number in range(50))
    queue.close()
    dropped = server.client.zpopmin(Keys("bench")("ready"), 25)

    assert enqueue.wrong(server, 50) == "of 50 jobs 25 have no place in the line, or a place has no job"

    server.client.zadd(Keys("bench")("ready"), {b"f" * 26: 0, **dict(dropped)})
    assert enqueue.wrong(server, 50) == "of 50 jobs 1 have no place in the line, or a place has no job"
