"""What the benchmarks share: a private redis-server, the reference beside a figure, and what was measured on.

Round trips to Redis depend on where the scheduler puts both ends, up to tenfold on one machine; so every figure has the
rate of PING beside it, measured just before, over the same kind of connection.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from gqueue.embedded import find_server

PINGS = 20_000


@contextmanager
def private_server() -> Iterator[str]:
    """Run a redis-server of our own on a free port of localhost, without persistence; yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="gqueue-bench-") as folder:
        settings = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen([find_server().path, *settings], stdout=subprocess.DEVNULL)
        try:
            _await_port(port, server)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait()


def ping_rate(url: str) -> float:
    """Return round trips a second of one client that sends PING and waits."""
    port = url.rpartition(":")[2].partition("/")[0]
    program = shutil.which("redis-benchmark")
    if not program:
        return _own_ping_rate(int(port))
    command = [program, "-p", port, "-c", "1", "-P", "1", "-n", str(PINGS), "-t", "ping_mbulk", "--csv"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(out.splitlines()[-1].split(",")[1].strip('"'))


def ping_by() -> str:
    """Return what `ping_rate` measures with."""
    return "redis-benchmark -c 1 -P 1" if shutil.which("redis-benchmark") else "a loop over a plain socket, in Python"


def machine() -> dict[str, object]:
    """Return what is measured on: machine, interpreter, server, and the versions that matter."""
    versions = {name: importlib.metadata.version(name) for name in ("gevent", "redis", "hiredis", "msgspec")}
    server = ".".join(map(str, find_server().version))
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()}, " + ", ".join(f"{name} {found}" for name, found in versions.items()),
        "redis-server": f"{server}, without persistence, on loopback",
    }


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def _commit() -> str:
    """Return the commit measured, with a + if the tree differs from it; empty outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    try:
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _own_ping_rate(port: int) -> float:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.perf_counter()
        for _ in range(PINGS):
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            connection.recv(64)
        return PINGS / (time.perf_counter() - start)


def _await_port(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
