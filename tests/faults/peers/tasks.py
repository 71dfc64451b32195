"""What the jobs of the comparison do, the same under every queue.

Imported in the environment of each: it needs msgspec, and nothing else of gqueue's. An attempt's number is of this
process alone: not every queue tells how often it has delivered a job.
"""

import os
import signal
import time
from itertools import count
from pathlib import Path

from tests.faults.history import Recorder

FOLDER = Path(os.environ.get("FAULTS_FOLDER", "/nonexistent/FAULTS_FOLDER"))

recorder = Recorder(FOLDER, "worker")
_attempts = count(1)


def work(job: str, seconds: float, dies: bool) -> None:
    """Take a while, have the effect; *dies*: then, the first time, take the process along."""
    attempt = next(_attempts)
    with recorder.running(job, attempt):
        time.sleep(seconds)
        recorder.effect(job, attempt)
        if dies and _first(job):
            recorder.fault("kill -9 itself", os.getpid(), job)
            os.kill(os.getpid(), signal.SIGKILL)


def burn(job: str, seconds: float) -> None:
    """Keep the interpreter busy in Python; never yield."""
    attempt = next(_attempts)
    with recorder.running(job, attempt):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass
        recorder.effect(job, attempt)


def _first(job: str) -> bool:
    """Return whether nobody has asked this of *job* before, in any process of the run."""
    folder = FOLDER / "died"
    folder.mkdir(exist_ok=True)
    try:
        (folder / job).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
