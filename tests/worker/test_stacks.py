"""What a dump tells of running jobs."""

from types import SimpleNamespace
from typing import Any

import pytest

from gqueue.worker import stacks


def test_id_of_a_job_cannot_begin_a_line_of_a_dump_or_fill_it(capfd: pytest.CaptureFixture[str]) -> None:
    job: Any = SimpleNamespace(job_id="\x1b[2J\n  slot 9: forged" * 200, task_name="add", queue_name="q", slot=0)
    job.attempt, job.started, job.deadline = 1, 0.0, 0.0
    slot: Any = SimpleNamespace(job=job, lost=None, greenlet=SimpleNamespace(dead=False, gr_frame=None))

    stacks.dump([slot], "all stacks")

    first, told = capfd.readouterr().err.splitlines()[:2]
    assert first == "gqueue: all stacks"
    assert told.startswith(r"  slot 0: job \x1b[2J\n  slot 9: forged")
    assert told.isprintable()
    assert " of add, queue q, attempt 1, for " in told
    assert len(told) < 300
