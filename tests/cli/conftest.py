"""The command line in this process and as a subprocess: fixtures."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.servers import Server

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no variable of the machine's own decide."""
    for name in [name for name in os.environ if name.startswith("GQUEUE_") or name == "REDIS_URL"]:
        if not name.startswith("GQUEUE_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """Have the root logger as it was, afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = handlers, level


class Program:
    """`python -m gqueue` with *args*, its output as it comes."""

    def __init__(self, args: tuple[str, ...], folder: Path, environ: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gqueue", *args],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    @property
    def said(self) -> str:
        """Return what it wrote to stderr so far: the log."""
        return "\n".join(self.lines)

    def await_line(self, text: str, seconds: float = 20.0) -> str:
        """Wait for a line of the log that holds *text*; return it."""
        self.await_lines(text, 1, seconds)
        return next(line for line in self.lines if text in line)

    def await_lines(self, text: str, count: int, seconds: float = 20.0) -> None:
        """Wait until so many lines of the log hold *text*; fail at once if the program ends first."""
        if not wait_until(lambda: self.count(text) >= count or self.process.poll() is not None, seconds):
            return
        if self.count(text) < count:
            self._reader.join(5)
        assert self.count(text) >= count, f"it ended ({self.process.poll()}) without {count} x {text!r}:\n{self.said}"

    def count(self, text: str) -> int:
        """Return how many lines of the log hold *text*."""
        return sum(text in line for line in list(self.lines))

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float = 20.0) -> tuple[int, str]:
        """Wait for its end; return exit code and standard output."""
        self.process.wait(seconds)
        self._reader.join(5)
        assert self.process.stdout
        return self.process.returncode, self.process.stdout.read()

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self.process.kill()
        self.process.wait(20)
        self._reader.join(5)
        for file in (self.process.stdout, self.process.stderr):
            if file:
                file.close()


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts `python -m gqueue ARGS` in the test's folder; keywords are its environment."""
    programs: list[Program] = []

    def start_one(*args: str, **environ: str) -> Program:
        programs.append(Program(args, tmp_path, environ))
        return programs[-1]

    yield start_one
    for program in programs:
        program.kill()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """Return a server of the test's own, with an AOF: one that may be stopped, filled and killed."""
    with Server(appendonly=True, tcp=True) as running:
        yield running


@pytest.fixture
def state_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a state directory of the test's own, for the embedded server; what is left of it is killed."""
    with tempfile.TemporaryDirectory(prefix="gqs", dir="/tmp") as folder:
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        yield Path(folder)
        try:
            os.kill(int((Path(folder) / "gqueue" / "redis.pid").read_text()), signal.SIGKILL)
        except (OSError, ValueError):
            pass
