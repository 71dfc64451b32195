"""A proxy inside the test's own process: the test decides on each request, and sees all of them.

It is the wire of the fault campaign on a thread (`tests.faults.wire`), with a rule instead of chances. Requests are
counted in the order in which they come, over all connections; gqueue does not pipeline, so each is a whole command.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import hiredis

from tests.faults.wire import Faults, State, listen


class Proxy:
    """Listens on 127.0.0.1 and passes on to the server at the unix socket *upstream*.

    `rule` is asked for each request with its arguments and says what happens to it: "pass"; "lose reply" (sent on,
    answered, the reply dropped and the client's connection cut); "cut" (not sent on, and cut); "hold" (kept back, the
    client's connection cut; `let_go` sends it on: a request that reaches the server after its sender gave up).
    """

    def __init__(self, upstream: Path) -> None:
        self.rule: Callable[[list[bytes]], str] = lambda _: "pass"
        self.requests: list[list[bytes]] = []
        self._upstream = upstream
        self._state = State(rule=self._decide)
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(listen(0, str(upstream), self._state))
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def next(self, verdict: str, command: bytes = b"EVALSHA", count: int = 1) -> None:
        """Apply *verdict* to the next *count* requests of *command*, then pass all on."""
        left = [count]

        def rule(arguments: list[bytes]) -> str:
            if arguments[0].upper() != command or left[0] == 0:
                return "pass"
            left[0] -= 1
            return verdict

        self.rule = rule

    def delay(self, seconds: float) -> None:
        """Send each request on so many seconds late, from now on."""
        self._state.up = Faults(latency=seconds)

    def let_go(self) -> list[bytes]:
        """Send what was held back, in order, on a connection of its own; return the replies."""
        held, self._state.held = self._state.held, []
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.connect(str(self._upstream))
            return [_exchange(upstream, request) for request in held]

    def close(self) -> None:
        """Cut every connection, and end. Idempotent."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end)
            self._thread.join(10)
            self._loop.close()

    def __enter__(self) -> "Proxy":
        """Return the proxy."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.close()

    def _decide(self, arguments: list[bytes]) -> str:
        self.requests.append(arguments)
        return self.rule(arguments)

    def _end(self) -> None:
        self._server.close()
        for connection in list(self._state.connections):
            connection.cut()
        self._loop.call_soon(self._loop.call_soon, self._loop.stop)  # a transport closes in the next turn


def _exchange(sock: socket.socket, request: bytes) -> bytes:
    sock.sendall(request)
    reader, raw = hiredis.Reader(notEnoughData=NotImplemented), b""
    while True:
        data = sock.recv(65536)
        if not data:
            raise ConnectionResetError
        raw += data
        reader.feed(data)
        if reader.gets() is not NotImplemented:
            return raw
