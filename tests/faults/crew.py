"""The processes of a run: started with a log in its folder, signalled, and gone with the process that runs the rig."""

import os
import re
import signal
import subprocess
from pathlib import Path

from tests.processes import ROOT
from tests.servers import die_with_the_tests


class Child:
    """A process that writes to *log*; started again, it goes on in the same file."""

    def __init__(self, log: Path, command: list[str], environ: dict[str, str]) -> None:
        self._log, self._command, self._environ = log, command, environ
        self._popen: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self.wanted = False

    @property
    def pid(self) -> int:
        """Return the pid of the process that runs, or ran last; 0: none did."""
        return self._popen.pid if self._popen is not None else 0

    def start(self, failpoints: str = "") -> None:
        """Start it; it must not be running."""
        if self.alive():
            raise RuntimeError(f"{self._log.stem} runs already, as {self.pid}")
        with self._log.open("ab") as log:
            self._popen = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=_clean(os.environ) | self._environ | ({"GQUEUE_FAILPOINTS": failpoints} if failpoints else {}),
                start_new_session=True,
                preexec_fn=die_with_the_tests,
            )
        self.wanted, self._stopped = True, False

    def alive(self) -> bool:
        """Return whether it runs."""
        return self._popen is not None and self._popen.poll() is None

    def log(self) -> str:
        """Return what it, and those before it, have written."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.wanted = False
        if self._popen is not None and self.alive():
            self._popen.kill()
            self._popen.wait(10)

    def stop(self) -> None:
        """SIGSTOP."""
        self._stopped = True
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT, if it was stopped."""
        if self._stopped:
            self._stopped = False
            self._signal(signal.SIGCONT)

    def term(self) -> None:
        """SIGTERM; from now on it may be gone."""
        self.wanted = False
        self._signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int | None:
        """Return the exit code, negative for a signal; None: it has not ended within *seconds*."""
        assert self._popen is not None
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """Kill it with all that it has started."""
        self.wanted = False
        if self._popen is not None:
            try:
                os.killpg(self._popen.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._popen.wait(10)

    def _signal(self, number: int) -> None:
        if self._popen is not None:
            self._popen.send_signal(number)


class Worker(Child):
    """A worker process; `wanted` says that it is to run, `failpoints` what it was started with."""

    def __init__(self, folder: Path, number: int, command: list[str], environ: dict[str, str]) -> None:
        super().__init__(folder / f"worker-{number}.log", command, environ)
        self.number = number
        self.failpoints = ""

    def start(self, failpoints: str = "") -> None:
        """Start it with GQUEUE_FAILPOINTS."""
        self.failpoints = failpoints
        super().start(failpoints)

    def is_up(self) -> bool:
        """Return whether the process that runs has registered."""
        return f" process {self.pid}, " in self.log()

    def struck(self) -> str:
        """Return the failpoint at which the process that ran last ended, "" if it was none."""
        found = re.findall(rf"^(failpoint \S+=(?:kill|exit)) pid={self.pid} ", self.log(), re.MULTILINE)
        return found[-1] if found else ""


def _clean(environ: "os._Environ[str]") -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith(("GQUEUE_", "FAULTS_", "REDIS_URL"))}
