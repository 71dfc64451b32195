import itertools
import time
from typing import Any

import pytest

from benchmarks import open_loop
from benchmarks.benchmark import BenchmarkError
from benchmarks.open_loop import Plan, Producer


class SlowAtFirst:
    """Stands for a task: its first enqueue takes *seconds*."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.numbers: list[int] = []

    def enqueue(self, number: int) -> Any:
        if number >= 0:
            self.numbers.append(number)
            seconds, self.seconds = self.seconds, 0.0
            time.sleep(seconds)
        return self

    def status(self) -> str:
        return "unknown"


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to be told that the producer is ready."""
    monkeypatch.setattr(open_loop, "ready", lambda: "go")


def producer(plan: Plan, task: SlowAtFirst) -> Producer:
    made = Producer(plan)
    made._task = task  # type: ignore[assignment]
    return made


def test_jobs_come_at_the_rate_asked_for_with_gaps_of_all_lengths():
    due = Plan(10_000, 1_000.0).due_ns()
    gaps = [after - before for before, after in itertools.pairwise(due)]

    assert due == Plan(10_000, 1_000.0).due_ns() != Plan(10_000, 1_000.0, seed=2).due_ns()
    assert due == sorted(due)
    assert due[-1] / 1e9 == pytest.approx(10, rel=0.05)
    assert sum(gap > 1e6 for gap in gaps) / len(gaps) == pytest.approx(0.37, abs=0.02)  # 1/e


def test_stall_counts_for_all_jobs_that_were_due_meanwhile(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(open_loop, "MOST_CALLERS", 1)
    task = SlowAtFirst(0.2)
    sent = producer(Plan(50, 1_000.0, first=7), task).run()
    late = [answered - due for answered, due in zip(sent.answered, sent.due, strict=True)]

    assert task.numbers == list(range(7, 57))
    assert all(gap >= 0 for gap in late)
    assert min(late[:20]) > 0.1 * 1e9  # though but the first call took long
    due = Plan(50, 1_000.0).due_ns()
    assert [at - sent.due[0] for at in sent.due] == [at - due[0] for at in due]


def test_other_callers_send_while_one_is_stalled():
    task = SlowAtFirst(0.5)
    sent = producer(Plan(50, 1_000.0), task).run()
    late = sorted(answered - due for answered, due in zip(sent.answered, sent.due, strict=True))

    assert late[-1] > 0.4 * 1e9
    assert late[25] < 0.2 * 1e9


def test_producer_without_a_worker_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(open_loop, "WARM_UP_S", 0.05)
    task = SlowAtFirst(0.0)
    task.status = lambda: "ready"  # type: ignore[method-assign]
    alone = producer(Plan(1, 1_000.0), task)
    with pytest.raises(BenchmarkError, match="was not run"):
        alone.run()
