"""A process of a benchmark's own that sends jobs: it gets ready, is told to go on, and gives back what it found.

The module that it runs calls `ready` once, and prints its result as JSON at the end; nothing else goes to stdout.
"""

import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any

from benchmarks.benchmark import BenchmarkError
from benchmarks.server import Server


class Child:
    """`python -m MODULE PLAN`, with *plan* as JSON; *patched*: by gevent. A context manager."""

    def __init__(self, module: str, plan: Any, server: Server, *, patched: bool = False) -> None:
        how = ["gevent.monkey", "--module", module] if patched else [module]
        self._process = subprocess.Popen(
            [sys.executable, "-m", *how, json.dumps(plan)],
            env={**os.environ, "GQUEUE_REDIS_URL": server.url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def await_ready(self) -> None:
        """Wait until it calls `ready`; raise BenchmarkError if it ends before that."""
        assert self._process.stdout
        if not self._process.stdout.readline():
            raise BenchmarkError(f"a process that was to send jobs ended with {self._process.wait()}")

    def tell(self, what: str) -> None:
        """Have it go on; *what*, a line, is what its `ready` returns."""
        assert self._process.stdin
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def result(self) -> Any:
        """Wait for its end; return what it found. Raises BenchmarkError if it failed."""
        out = self._process.communicate()[0]
        if self._process.returncode:
            raise BenchmarkError(f"a process that was to send jobs ended with {self._process.returncode}")
        return json.loads(out)


def ready() -> str:
    """Say that this process is ready; return what it is told."""
    print("ready", flush=True)
    return sys.stdin.readline().strip()
