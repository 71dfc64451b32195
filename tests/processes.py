"""Worker processes of a test: `python -m gqueue` started, watched, killed, and gone at the end."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


class Process:
    """A subprocess of gqueue, its output in a file."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self._log = tempfile.NamedTemporaryFile(prefix="gqueue-test-", suffix=".log", delete=False)  # noqa: SIM115
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "gqueue", *arguments],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
            start_new_session=True,
        )
        self.pid = self._popen.pid

    def output(self) -> str:
        """Return what it has written so far."""
        return Path(self._log.name).read_text()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it by SIGKILL, with its children, and wait until it is gone."""
        if self._popen.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._popen.wait(10)

    def alive(self) -> bool:
        """Return whether it still runs."""
        return self._popen.poll() is None

    def wait(self, seconds: float = 30.0) -> int:
        """Wait until it ends by itself; return its exit code. Fails with its output."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end within {seconds:g} s; its output:\n{self.output()}") from None

    def wait_for(self, text: str, seconds: float = 15.0) -> str:
        """Wait until *text* is in its output; return the output."""
        deadline = time.monotonic() + seconds
        while text not in self.output():
            if time.monotonic() > deadline or not self.alive():
                raise AssertionError(f"{text!r} did not come; its output:\n{self.output()}")
            time.sleep(0.01)
        return self.output()

    def remove(self) -> None:
        """Kill it, and remove its output."""
        self.kill()
        self._log.close()
        Path(self._log.name).unlink(missing_ok=True)
