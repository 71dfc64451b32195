from collections.abc import Iterator

import pytest

from benchmarks import start
from benchmarks.server import Server

TOLD = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 |   zipimport
import time:        20 |         20 |     zope.interface
import time:       400 |        420 |   gevent.monkey
import time:         7 |          7 |       asyncio
import time:       900 |        907 |     redis
import time:        50 |         50 |     attr
import time:        60 |        110 |     attrs
import time:        30 |         30 |     logging
import time:       300 |       1447 |   gqueue.store
import time:        11 |         11 |     redis.exceptions
import time:         5 |         16 |   benchmarks.tasks
a worker says something
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def test_imports_are_those_of_the_package_on_whose_behalf_they_came():
    assert start.imports_ms(TOLD) == {
        "gqueue": 0.3,
        "the app": 0.005,
        "redis-py, with asyncio": 0.918,
        "attrs": 0.11,
        "gevent": 0.42,
        "standard library": 0.13,
    }


def test_target_is_for_the_median_of_one_process():
    runs = [
        {"processes": processes, "first_job_ms": times}
        for processes, times in ((1, [300.0, 310.0, 900.0]), (2, [700.0]), (1, [380.0]), (1, [390.0, 390.0, 420.0]))
    ]
    (target,) = start.BENCHMARK.targets(runs)

    assert (target.measured, target.met) == ("380 [310 - 390]", True)


@pytest.mark.blackbox
@pytest.mark.parametrize("processes", [1, 2])
def test_start_is_measured_to_the_first_statement_of_the_job(processes: int, server: Server):
    cell = {"processes": processes, "slots": 5, "starts": 2}
    record = {**cell, **start.BENCHMARK.measure(cell, server)}

    for interpreter, imports, first_job in zip(
        record["interpreter_ms"], record["imports_ms"], record["first_job_ms"], strict=True
    ):
        assert 0 < interpreter < first_job < 60_000
        assert 0 < imports < 60_000
    if processes == 1:
        assert {"gqueue", "gevent", "standard library"} <= record["imports_by"].keys()
    assert "first job after" in start.BENCHMARK.line(record)
    assert start.BENCHMARK.tables([record]).count("\n") >= 2
