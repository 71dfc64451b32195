"""Scenes: what happens in a worker process, played in an interpreter of its own, since pytest's is not patched.

A scene is a function of a test module. `play(scene)` runs it in a child that gevent has patched, and returns what it
told. In the child, `perform` runs a worker on the main greenlet and a script beside it.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from gqueue.queue import Queue
    from gqueue.worker.process import Worker

ROOT = Path(__file__).parents[2]


@frozen
class Played:
    """What came of a scene: exit code, what it told, and what it logged or wrote to stderr."""

    code: int
    facts: dict[str, Any]
    log: str

    def __getitem__(self, name: str) -> Any:
        """Return a fact; of a scene that ended early, fail with all that it wrote."""
        assert name in self.facts, f"no {name!r} among {self.facts}; exit code {self.code}\n{self.log}"
        return self.facts[name]


def play(scene: Callable[..., Any], *arguments: str, timeout: float = 60.0) -> Played:
    """Run *scene* in a patched interpreter."""
    process = start(scene, *arguments)
    out, err = process.communicate(timeout=timeout)
    return played(process.returncode, out, err)


def start(scene: Callable[..., Any], *arguments: str) -> "subprocess.Popen[str]":
    """Start *scene* in a patched interpreter, and leave it running."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.worker.stage", scene.__module__, scene.__name__, *arguments],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )


def played(code: int, out: str, err: str) -> Played:
    """Return what a scene that ended told."""
    facts: dict[str, Any] = {}
    for line in out.splitlines():
        facts.update(json.loads(line))
    return Played(code, facts, err)


# In the child.


def tell(**facts: Any) -> None:
    """Tell the test, at once: the process may be about to die."""
    print(json.dumps(facts), flush=True)


def perform(
    queues: "Queue | Sequence[Queue]", script: Callable[["Worker"], object] = lambda _: None, **options: Any
) -> int:
    """Run a worker, and beside it *script*, after which the worker drains; return the exit code.

    Options are those of WorkerOptions; by default 4 slots and a grace of 5 s.
    """
    import gevent

    from gqueue.config import WorkerOptions
    from gqueue.worker import Worker

    if not isinstance(queues, Sequence):
        queues = [queues]
    worker = Worker(queues, WorkerOptions(**({"slots": 4, "grace_ms": 5_000} | options)))

    def act() -> None:
        try:
            script(worker)
        finally:
            worker.drain()

    gevent.spawn(act)
    return worker.run()


def workers_store(queue: "Queue") -> Any:
    """Return the store that a worker of *queue* will have, to be tampered with; the producer's is another."""
    assert queue.store  # the producer's, opened before
    store = queue.open_store()
    queue.open_store = lambda: store  # type: ignore[method-assign]
    return store


def until(condition: Callable[[], object], seconds: float = 10.0) -> Any:
    """Poll *condition* until it is true; return what it gave."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"it did not become true within {seconds:g} s"
        time.sleep(0.005)
    return value


def dead(queue: "Queue") -> dict[str, tuple[str, str]]:
    """Return the dead letters by job id: reason and error."""
    from gqueue.store.codec import decode_report

    letters = queue.store.letters(limit=1_000)
    return {letter.job_id: (letter.reason.value, decode_report(letter.report).error) for letter in letters}


def _main(module: str, name: str, *arguments: str) -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    facts = getattr(importlib.import_module(module), name)(*arguments)
    if facts:
        tell(**facts)


if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()
    # This module a second time, under the name by which the scenes import it.
    importlib.import_module("tests.worker.stage")._main(*sys.argv[1:])
