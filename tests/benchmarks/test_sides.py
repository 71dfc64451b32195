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
