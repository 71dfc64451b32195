import os
from collections.abc import Iterator

import pytest

import gqueue
from benchmarks import sides
from benchmarks.benchmark import BenchmarkError
from benchmarks.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def test_turn_that_is_disturbed_does_not_change_what_is_recorded():
    turns = [{"jobs_per_s": 100, "p99": 9.0}, {"jobs_per_s": 3, "p99": 700.0}, {"jobs_per_s": 101, "p99": 8.0}]

    assert sides.medians(turns) == {"jobs_per_s": 100, "p99": 9.0}


def test_lost_job_is_an_error(server: Server):
    queue = gqueue.Queue("bench", url=server.url)
    task = queue.task(name="no_op")(lambda number: number)
    queue.enqueue_many(task.job(number) for number in range(5))
    sides.check(queue, put_in=5)
    server.client.zpopmin("gq:{bench}:ready")
    try:
        with pytest.raises(BenchmarkError, match="of 5 jobs 0 ran and 4 wait"):
            sides.check(queue, put_in=5)
    finally:
        queue.close()


def test_tables_are_at_rest_after_as_many_looks_as_jobs(server: Server):
    queue = gqueue.Queue("bench", url=server.url)
    task = queue.task(name="no_op")(lambda number: number)
    queue.enqueue_many(task.job(number) for number in range(2_000))
    before = server.usage()
    sides.rest(server, 2_000)
    queue.close()

    assert (server.usage() - before).calls.items() >= {("hexists", 2_000), ("zscore", 2_000)}


def test_calls_of_both_sides_alternate_in_pieces():
    made: list[str] = []

    def calls(side: str, count: int) -> Iterator[float]:
        for number in range(count):
            made.append(side)
            yield number

    assert sides.alternate([calls("a", 5), calls("b", 5)], 2) == [[0, 1, 2, 3, 4]] * 2
    assert "".join(made) == "aabbaabbab"


@pytest.fixture
def queue(server: Server) -> Iterator[gqueue.Queue]:
    made = gqueue.Queue("bench", url=server.url)
    task = made.task(name="no_op", priority=-3)(lambda number: number)
    made.enqueue_many(task.job(number) for number in range(5))
    yield made
    made.close()


def test_claims_by_hand_give_one_new_job_each(queue: gqueue.Queue):
    assert len(list(sides.claim_by_hand(queue, 3, priority=-3))) == 3
    assert len(list(sides.claim_by_hand(queue, 2, priority=-3, limit=10))) == 1
    sides.check(queue, put_in=5)


def test_claim_that_gives_no_job_is_an_error(queue: gqueue.Queue):
    queue.pause()

    with pytest.raises(BenchmarkError, match=r"a claim of 1 of priority -3 gave \[\]"):
        list(sides.claim_by_hand(queue, 1, priority=-3))


def test_claim_of_a_job_of_another_priority_is_an_error(queue: gqueue.Queue):
    with pytest.raises(BenchmarkError, match=r"a claim of 1 of priority 0 gave .* of {-3"):
        list(sides.claim_by_hand(queue, 1, priority=0))


def test_what_is_drained_waits_before_the_other_jobs_come(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sides, "OVERRUN", 100)
    side = sides.Side(server, 10_000, turns=2, stretch=1_000, calls=100)
    side.fill()
    first = server.client.zrange("gq:{bench}:ready", "-inf", "(0", byscore=True)
    later = server.client.zrange("gq:{bench}:ready", "0", "inf", byscore=True)

    assert (len(first), len(later)) == (2 * (100 + sides.WARM_UP + 100 + 1_000), 10_000 - len(first))
    assert max(first) < min(later)  # members begin with the sequence


def test_worker_that_ran_into_the_next_stretch_is_an_error(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sides, "OVERRUN", 100)
    side = sides.Side(server, 10_000, turns=2, stretch=1_000, calls=100)
    side.fill()
    server.client.zpopmin("gq:{bench}:ready", 101)

    with pytest.raises(BenchmarkError, match="101 jobs too many"):
        side.begin()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_both_ends_of_single_calls_are_on_cores_of_their_own_meanwhile(server: Server):
    before = os.sched_getaffinity(0), os.sched_getaffinity(server.pid)
    with sides.apart([server.pid]):
        here, there = os.sched_getaffinity(0), os.sched_getaffinity(server.pid)

    assert (len(here), len(there), here & there) == (1, 1, set())
    assert (os.sched_getaffinity(0), os.sched_getaffinity(server.pid)) == before
