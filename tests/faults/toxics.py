"""Faults of the network, switched while it runs: how a test steers the proxy of `tests.faults.wire`.

A black hole holds what comes and passes it on when it ends, as a network whose packets are sent again: requests whose
sender gave up long ago then reach the server.

    up    from the client to the server        down    from the server to the client
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from tests.processes import ROOT
from tests.servers import die_with_the_tests, free_port

Way = Literal["up", "down", "both"]


class Toxics:
    """A running proxy on `port` of 127.0.0.1, in front of the server at *upstream*.

    Each verb returns when it is in force. `clear` ends all faults but those that have happened.

    Args:
        upstream: the path of a unix socket, or a port of 127.0.0.1; it need not answer yet.
    """

    def __init__(self, upstream: Path | int, seed: int = 0) -> None:
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="gqx", dir="/tmp")
        control = Path(self._folder.name) / "c"
        command = [sys.executable, "-m", "tests.faults.wire", str(self.port), str(upstream), str(control), str(seed)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_the_tests
        )
        self._control = _connect(control, self.process)
        self._replies = self._control.makefile("rb")

    @property
    def url(self) -> str:
        """Return the URL of the proxy."""
        return f"redis://127.0.0.1:{self.port}"

    def latency(self, seconds: float, jitter: float = 0.0, way: Way = "down") -> None:
        """Delay all that comes by *seconds* +- *jitter*; order is kept."""
        self._tell("latency", seconds=seconds, jitter=jitter, way=way)

    def bandwidth(self, bytes_a_second: float, way: Way = "down") -> None:
        """Let each connection carry no more than so much."""
        self._tell("bandwidth", rate=bytes_a_second, way=way)

    def slicer(self, size: int, pause: float = 0.0, way: Way = "down") -> None:
        """Pass on slices of 1 to *size* bytes, with *pause* seconds after each."""
        self._tell("slicer", size=size, pause=pause, way=way)

    def blackhole(self, way: Way = "both") -> None:
        """Hold all that comes until `clear`; connections stand, and new ones are taken and held as well."""
        self._tell("blackhole", way=way)

    def lose_replies(self, share: float, commands: Iterable[str] = ()) -> None:
        """Of this share of requests drop the reply, once it is there, and cut the connection.

        *commands*: only of these: names of Redis commands, or of gqueue's scripts.
        """
        self._tell("lose_replies", share=share, commands=list(commands))

    def cut_after(self, n: int, commands: Iterable[str] = ()) -> None:
        """Cut the connection of the n-th request from now on (1 is the next), sent on whole, before its reply."""
        self._tell("cut_after", n=n, commands=list(commands))

    def cut_inside_reply(self, share: float, commands: Iterable[str] = (), least: int = 32) -> None:
        """Of this share of requests pass half of a bulk reply on, if it has *least* bytes, and cut the connection.

        Others, as what a connection begins with has, are left whole: a client that is cut there each time backs off.
        """
        self._tell("cut_inside_reply", share=share, commands=list(commands), least=least)

    def reset_all(self) -> int:
        """Reset (RST) every connection now; return how many there were."""
        return int(self._tell("reset_all"))

    def clear(self) -> None:
        """Let all pass from now on, what was held first."""
        self._tell("clear")

    def counts(self) -> Counter[str]:
        """Return what was seen so far.

        "requests", "request NAME" and "reply NAME: STATUS" (NAME is a command's or a script's, STATUS the first word
        of a status, an error or of a script's reply); "connections", and a name for each fault that struck: "replies
        lost", "cuts after a request", "cuts inside a reply" (each as "cut inside NAME" too), "resets", "slices",
        "bytes held up", "bytes passed up", and both of down; "stale settlements refused", in calls that were answered
        with lease_lost or stale_call.
        """
        return Counter(self._tell("counts"))

    def close(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._replies.close()
        self._control.close()
        self._folder.cleanup()

    def __enter__(self) -> "Toxics":
        """Return the running proxy."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.close()

    def _tell(self, verb: str, **arguments: Any) -> Any:
        self._control.sendall(json.dumps([verb, arguments]).encode() + b"\n")
        answer = self._replies.readline()
        if not answer:
            raise RuntimeError(f"the proxy ended with {self.process.poll()}")
        return json.loads(answer)


def _connect(control: Path, process: "subprocess.Popen[bytes]") -> socket.socket:
    until = time.monotonic() + 20
    while True:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(30)
        try:
            sock.connect(str(control))
            return sock
        except OSError:
            sock.close()
            if time.monotonic() > until or process.poll() is not None:
                raise
            time.sleep(0.01)
