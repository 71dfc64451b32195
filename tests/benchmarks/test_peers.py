"""The comparison with other queues: what needs none of them, and gqueue's own part in it."""

import asyncio
import itertools
import re
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from benchmarks.benchmark import BenchmarkError, Record
from benchmarks.peers import BACKLOG, BENCHMARK, IDLE, LIVE
from benchmarks.queues import trial
from benchmarks.queues.jobs import WIDTH
from benchmarks.queues.produce import chunks, paced, paced_async
from benchmarks.queues.systems import APPS, SYSTEMS, System
from benchmarks.queues.trial import Tally, Trial
from benchmarks.server import Server

GQUEUE = SYSTEMS["gqueue"]
HERE = Path(sys.executable).parent

PRODUCER = """
import json, os, sys, redis
client = redis.Redis.from_url(os.environ["PEERS_URL"])
_, kind, warm_up, single, bulk = sys.argv[1:]
numbers = [-1] * int(warm_up) + list(range(int(single) + int(bulk)))
client.rpush("jobs", *numbers)
print(json.dumps({"single_s": 1.0, "single_cpu_s": 1.0, "bulk_s": 1.0}))
"""
WORKER = """
import os, time, redis
from benchmarks.queues import jobs
client = redis.Redis.from_url(os.environ["PEERS_URL"])
while found := client.lpop("jobs"):
    RUN
time.sleep(60)
"""
"""A queue of the tests' own: RUN is what its worker does with the number `found`."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def own_queue(run: str) -> System:
    return evolve(
        GQUEUE,
        label="the tests' own",
        producer=lambda folder: [sys.executable, "-c", PRODUCER],
        worker=lambda folder, slots: [sys.executable, "-c", WORKER.replace("RUN", run)],
        waiting=lambda client: client.llen("jobs"),
    )


# A run.


def test_run_of_a_queue_in_which_each_job_ran_once_tells_rate_and_cost(server: Server):
    measured = trial.backlog(own_queue("jobs.no_op(int(found))"), HERE, server, 60, 40)

    assert measured["jobs"] == 100
    assert measured["single_per_s"] == 60
    assert measured["bulk_per_s"] == 40
    assert measured["jobs_per_s"] == pytest.approx(100 / measured["seconds"], rel=0.05)
    assert 1 <= measured["redis_commands"] < 1.5


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("[jobs.no_op(int(found)) for _ in range(1 + (found == b'7'))]", "0 jobs did not run, 1 ran more than once"),
        ("raise SystemExit(f'of {found}')", "the worker ended with 1: of b'-1'"),
        (
            "jobs.no_op(int(found)); int(found) == 99 and client.rpush('jobs', 'more') and time.sleep(60)",
            "1 jobs are in Redis instead of 0",
        ),
    ],
    ids=["twice", "broken", "left"],
)
def test_run_in_which_something_went_wrong_is_an_error(
    run: str, said: str, server: Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trial, "FORGOTTEN_S", 0.5)
    with pytest.raises(BenchmarkError, match=said):
        trial.backlog(own_queue(run), HERE, server, 60, 40)


@pytest.mark.slow
def test_run_in_which_a_job_is_lost_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trial, "START_S", 4.0)
    with pytest.raises(BenchmarkError, match="1 of 100 jobs never ran"):
        trial.backlog(own_queue("found == b'7' or jobs.no_op(int(found))"), HERE, server, 60, 40)


def test_producer_that_enqueues_less_than_asked_is_an_error(server: Server):
    system = evolve(own_queue(""), producer=lambda folder: [sys.executable, "-c", "print('{}')"])
    with pytest.raises(BenchmarkError, match="0 jobs are in Redis instead of 110"):
        trial.backlog(system, HERE, server, 60, 40)


def test_producer_that_fails_is_an_error(server: Server):
    system = evolve(own_queue(""), producer=lambda folder: [sys.executable, "-c", "raise SystemExit('no way')"])
    with pytest.raises(BenchmarkError, match="the producer failed: no way"):
        trial.backlog(system, HERE, server, 60, 40)


@pytest.mark.blackbox
def test_gqueue_is_measured_with_a_backlog(server: Server):
    measured = trial.backlog(GQUEUE, HERE, server, 200, 1_800)

    assert measured["jobs"] == 2_000
    assert measured["bytes_a_job"] > 50
    assert GQUEUE.waiting(server.client) == 0


@pytest.mark.blackbox
def test_gqueue_is_measured_live(server: Server):
    measured = trial.live(evolve(GQUEUE, io_slots=5), HERE, server, 2, 10)

    assert measured["jobs"] == 10
    assert 0 < measured["of_ideal"] <= 1
    assert 10 < measured["pss_mb"] <= measured["rss_mb"] < 500
    assert 0 < measured["p50_ms"] <= measured["p99_ms"] <= measured["p100_ms"]
    assert 0 <= measured["called_p50_ms"] < measured["p50_ms"]


@pytest.mark.blackbox
def test_heartbeats_and_no_commands_of_scripts_count_while_gqueue_is_idle(server: Server):
    measured = trial.idle(evolve(GQUEUE, io_slots=5), HERE, server, 11.0)

    assert set(measured["by_name"]) == {"BLPOP", "EVALSHA"}
    assert 0 < measured["commands_per_s"] < 5


# Its parts.


def tally(folder: Path, *jobs: tuple[float, float, float]) -> Tally:
    made = Tally(folder, len(jobs))
    made.path.write_bytes(array("d", [value for job in jobs for value in job]).tobytes())
    return made


def test_tally_is_empty_until_jobs_write(tmp_path: Path):
    made = Tally(tmp_path, 3)

    assert not made.all_ran(0, 3)
    assert made.wrong() == "3 jobs did not run, 0 ran more than once"
    assert made.path.stat().st_size == 3 * 8 * WIDTH


def test_tally_tells_of_jobs_that_ran_twice_or_not_at_all(tmp_path: Path):
    assert tally(tmp_path, (1, 5, 6), (2, 7, 8), (0, 0, 0)).wrong() == "1 jobs did not run, 1 ran more than once"
    assert tally(tmp_path, (1, 5, 6), (1, 7, 8)).wrong() == ""


def test_time_of_a_run_is_from_the_first_start_to_the_last_end(tmp_path: Path):
    made = tally(tmp_path, (1, 100, 900), (1, 30, 32.5), (1, 20, 40), (1, 25, 35))

    assert made.seconds(1, 3) == 20
    assert list(made.starts(1, 2)) == [30, 20]
    assert made.all_ran(0, 4)


def test_jobs_are_enqueued_in_pieces_of_a_thousand():
    pieces = chunks(500, 2_200)

    assert [len(piece) for piece in pieces] == [1_000, 1_000, 200]
    assert [number for piece in pieces for number in piece] == list(range(500, 2_700))


class Stalling:
    """Stands for an app: its first call takes 0.2 s."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def enqueue(self, kind: str, number: int) -> None:
        self.numbers.append(number)
        if len(self.numbers) == 1:
            time.sleep(0.2)


class StallingAsync(Stalling):
    """The same for asyncio."""

    async def enqueue(self, kind: str, number: int) -> None:  # type: ignore[override]
        super().enqueue(kind, number)


@pytest.mark.parametrize("app", [Stalling(), StallingAsync()], ids=["threads", "asyncio"])
def test_stall_of_a_producer_counts_for_all_jobs_that_were_due_meanwhile(
    app: Stalling, server: Server, monkeypatch: pytest.MonkeyPatch
):
    def produce(self: Trial, what: str, first: int, plan: str) -> dict[str, Any]:
        if isinstance(app, StallingAsync):
            return asyncio.run(paced_async(app, first, plan))
        return paced(app, first, plan)

    monkeypatch.setattr(Trial, "produce", produce)
    with Trial(GQUEUE, HERE, server, 1, 1) as run:
        sent = run.produce_paced(7, 50, 500.0)
    late = [called - due for due, called in zip(sent.due, sent.called, strict=True)]
    gaps = [after - before for before, after in itertools.pairwise(sent.due)]

    assert app.numbers == list(range(7, 57))
    assert all(by >= 0 for by in late)
    assert min(late[1:20]) > 0.05  # though but the first call took long
    assert min(gaps) < 0.001 < 0.004 < max(gaps)


KEYS: dict[str, list[tuple[str, ...]]] = {
    "gqueue": [("HSET", "gq:{bench}:jobs", "a", "1", "b", "1"), ("HSET", "gq:{bench}:dead:jobs", "c", "1")],
    "rq": [("RPUSH", "rq:queue:bench", "a"), ("ZADD", "rq:wip:bench", "9", "b"), ("ZADD", "rq:failed:bench", "9", "c")],
    "celery-gevent": [("LPUSH", "celery", "a"), ("HSET", "unacked", "b", "1", "c", "1")],
    "dramatiq": [("HSET", "dramatiq:default.msgs", "a", "1"), ("HSET", "dramatiq:default.XQ.msgs", "b", "1", "c", "1")],
    "huey": [("LPUSH", "huey.redis.bench", "a", "b"), ("ZADD", "huey.schedule.bench", "1", "c")],
    "taskiq-list": [("LPUSH", "bench", "a", "b", "c")],
    "arq": [("ZADD", "arq:queue", "1", "a", "2", "b", "3", "c")],
    "saq": [("ZADD", "saq:bench:incomplete", "1", "a", "2", "b"), ("LPUSH", "saq:bench:active", "c")],
    "streaq": [("XADD", "streaq:bench:queues:normal", "*", "a", "1")] * 3,
    "bullmq": [
        ("LPUSH", "bull:bench:wait", "a"),
        ("LPUSH", "bull:bench:active", "b"),
        ("ZADD", "bull:bench:failed", "1", "c"),
    ],
    "sidekiq": [("LPUSH", "queue:bench", "a"), ("ZADD", "retry", "1", "b"), ("ZADD", "dead", "1", "c")],
}
"""Keys of three jobs in Redis, as each queue names them."""


@pytest.mark.parametrize("name", KEYS)
def test_jobs_that_a_queue_holds_are_counted_by_its_keys(name: str, server: Server):
    assert SYSTEMS[name].waiting(server.client) == 0
    for command in KEYS[name]:
        server.client.execute_command(*command)

    assert SYSTEMS[name].waiting(server.client) == 3


def test_jobs_of_a_stream_are_counted_until_they_are_acknowledged(server: Server):
    client, waiting = server.client, SYSTEMS["taskiq-stream"].waiting
    client.xgroup_create("bench", "taskiq", mkstream=True)
    for _ in range(3):
        client.xadd("bench", {"data": "1"})
    if not client.xinfo_groups("bench")[0].get("lag"):
        pytest.skip("this server does not tell how far a group is behind")
    assert waiting(client) == 3
    ((_, taken),) = client.xreadgroup("taskiq", "me", {"bench": ">"}, count=2)
    assert waiting(client) == 3
    client.xack("bench", "taskiq", taken[0][0])
    assert waiting(client) == 2


def test_every_queue_names_its_versions_settings_and_guarantee():
    assert len({system.label for system in SYSTEMS.values()}) == len(SYSTEMS)
    for name, system in SYSTEMS.items():
        assert list(APPS.glob(f"{name.partition('-')[0]}_app.*")), name
        if system.language != "Ruby":  # Debian has one version of each
            assert sum("==" in each or "@" in each for each in system.installs) >= len(system.installs) - 1
        assert system.settings
        assert system.guarantee
        assert re.match(r"https://|\.\./docs/promises\.md$", system.source)


# The page.


def drained(peer: str, *rates: float) -> list[Record]:
    cell = {"peer": peer, "part": BACKLOG, "versions": "1.0", "slots": 100, "jobs": 1_000, "ping_per_s": 10_000}
    costs = {"redis_cpu_us": 1.0, "redis_commands": 2.0, "bytes_a_job": 100}
    costs |= {"single_per_s": 5_000, "bulk_per_s": 9_000}
    return [{**cell, **costs, "round": number, "jobs_per_s": rate} for number, rate in enumerate(rates)]


def lived(peer: str, *latencies: float) -> list[Record]:
    cell = {"peer": peer, "part": LIVE, "versions": "1.0", "slots": 100, "jobs": 1_000, "jobs_per_s": 1_900}
    costs = {"of_ideal": 0.95, "timed": 1_000, "rss_mb": 40.0, "pss_mb": 30.0}
    late = {"p99_ms": 9.0, "p100_ms": 10.0, "called_p99_ms": 0.1}
    return [{**cell, **costs, **late, "p50_ms": latency} for latency in latencies]


def idled(peer: str, **by_name: float) -> Record:
    return {"peer": peer, "part": IDLE, "versions": "1.0", "commands_per_s": sum(by_name.values()), "by_name": by_name}


def gone(peer: str) -> list[Record]:
    return [{"peer": peer, "part": part, "missing": "npm: no network"} for part in (BACKLOG, LIVE, IDLE)]


def test_targets_compare_runs_of_the_same_round_with_the_best_queue():
    records = drained("gqueue", 100, 50, 80) + drained("huey", 5, 5, 5) + drained("dramatiq", 10, 4, 8)
    other, bullmq = BENCHMARK.targets([*records, *drained("sidekiq", 1_000)])

    assert other.what.endswith("(Dramatiq, gevent)")
    assert other.measured == "10.0 x [10.0 - 12.5]"
    assert other.met
    assert (bullmq.measured, bullmq.met) == ("", False)


def test_round_in_which_one_of_both_failed_compares_with_no_other():
    slow, *others = drained("gqueue", 40, 80, 80)
    target = BENCHMARK.targets([*others, *drained("dramatiq", 5, 10, 10, 10)])[0]

    assert (target.measured, target.met) == ("8.0 x [8.0 - 8.0]", False)
    assert BENCHMARK.targets([slow, *drained("dramatiq", 5, 10)])[0].measured == "8.0 x"


@pytest.mark.parametrize(("rate", "met"), [(21.0, True), (20.9, False)])
def test_target_beside_bullmq(rate: float, met: bool):
    assert BENCHMARK.targets(drained("gqueue", rate) + drained("bullmq", 6.0))[1].met is met


def test_queue_that_could_not_be_had_is_told_with_the_reason():
    records = [*drained("gqueue", 80_000), *lived("gqueue", 0.3), *gone("bullmq")]
    text = BENCHMARK.tables(records)

    assert "| BullMQ       | npm: no network |" in text
    assert text.count("BullMQ") == 1
    assert "BullMQ" in BENCHMARK.line(records[-1])


def test_commands_of_idle_workers_are_shown_by_name():
    records = [idled("gqueue", BLPOP=0.5, EVALSHA=0.6), idled("sidekiq", BRPOP=46.25)]
    text = BENCHMARK.tables(records)

    assert re.search(r"^\| gqueue +\| +1\.10 \| BLPOP 0\.50, EVALSHA 0\.60 \|$", text, re.MULTILINE)
    assert "46.25" in BENCHMARK.line(records[1])


def test_tables_show_median_and_range_and_no_producer_twice():
    records = [*drained("rq", 110, 100, 120), *drained("rq-simple", 300), *lived("rq", 7.0, 6.0, 8.0)]
    text = BENCHMARK.tables(records)

    assert "| 3 x 1,000 | 110 [100 - 120] |   0.01 |          |" in text
    assert "| 1 x 1,000 |             300 |   0.03 |    5,000 |" in text
    assert "7.00 [6.00 - 8.00]" in text


def test_plot_is_drawn_of_what_was_measured():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure: Any = pyplot.figure()
    records = [*drained("gqueue", 80_000, 90_000), *lived("gqueue", 0.3), *gone("bullmq")]

    assert BENCHMARK.plot(records, figure)
    assert len(figure.axes) == 2
    assert not BENCHMARK.plot(gone("bullmq"), figure)
    pyplot.close(figure)


@pytest.mark.parametrize("records", [drained("gqueue", 80_000), lived("gqueue", 0.3)])
def test_plot_has_one_panel_if_only_one_part_was_measured(records: list[Record], tmp_path: Path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    figure: Any = pyplot.figure()

    assert BENCHMARK.plot(records, figure)
    assert len(figure.axes) == 1
    figure.savefig(tmp_path / "plot.png")
    pyplot.close(figure)


def test_memory_is_compared_at_the_same_slots_where_a_worker_can_have_them():
    others = {name: system.io_slots for name, system in SYSTEMS.items() if system.io_slots != 100}

    assert others == {"rq": 1, "rq-simple": 1, "celery-prefork": 2}  # one job in a process


def test_all_are_measured_as_often_and_those_that_idle_once():
    cells = BENCHMARK.cells(short=False)

    assert all(BENCHMARK.rounds(cell, 5) == (1 if cell["part"] == IDLE else 5) for cell in cells)
    parts = [cell["part"] for cell in cells]
    assert [parts.count(part) for part in (BACKLOG, LIVE, IDLE)] == [len(SYSTEMS), len(SYSTEMS), len(SYSTEMS) - 1]


def test_queues_of_the_targets_are_measured_next_to_one_another():
    backlog = [cell["peer"] for cell in BENCHMARK.cells(short=False) if cell["part"] == BACKLOG]

    assert backlog[:3] == ["gqueue", "dramatiq", "bullmq"]
    assert len(set(backlog)) == len(backlog)
