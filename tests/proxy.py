"""A TCP proxy between a client and a server that loses, delays and holds back what a network would.

It counts requests (a complete command of one client) in the order in which they come, over all connections. Plain
threads, so that it works beside a client under gevent in another process, and beside threads in this one.
"""

import socket
import threading
from collections.abc import Callable

import hiredis


class Proxy:
    """Listens on 127.0.0.1 and passes on to *target*, a connect function or a port of 127.0.0.1.

    `rule`, if set, is asked for each request with its arguments and says what happens to it:
    "pass"; "lose reply" (sent on, answered, the reply dropped and the client's connection cut); "cut" (not sent on, and
    cut); "hold" (kept back, the client's connection cut; `let_go` sends it on: a request that reaches the server after
    its sender gave up).
    """

    def __init__(self, target: Callable[[], socket.socket]) -> None:
        self.rule: Callable[[list[bytes]], str] = lambda _: "pass"
        self.requests: list[list[bytes]] = []
        self.delay = 0.0
        self._target = target
        self._held: list[bytes] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def next(self, verdict: str, command: bytes = b"EVALSHA", count: int = 1) -> None:
        """Apply *verdict* to the next *count* requests of *command*, then pass all on."""
        left = [count]

        def rule(arguments: list[bytes]) -> str:
            if arguments[0].upper() != command or left[0] == 0:
                return "pass"
            left[0] -= 1
            return verdict

        self.rule = rule

    def let_go(self) -> list[object]:
        """Send what was held back, in order, on a connection of its own; return the replies."""
        replies = []
        with self._lock:
            held, self._held = self._held, []
        with self._target() as upstream:
            for request in held:
                upstream.sendall(request)
                replies.append(_read_reply(upstream))
        return replies

    @property
    def held(self) -> int:
        """Return how many requests are held back."""
        return len(self._held)

    def cut_all(self) -> None:
        """Cut every connection now."""
        for sock in list(self._open):
            _shut(sock)

    def close(self) -> None:
        """End."""
        self._closed.set()
        _shut(self._listener)
        self._listener.close()
        self.cut_all()

    def __enter__(self) -> "Proxy":
        """Return the proxy."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # One request at a time: gqueue does not pipeline. A subscription's messages are passed on by a second thread.
        self._open.add(client)
        upstream = None
        try:
            upstream = self._target()
            self._open.add(upstream)
            self._talk(client, upstream)
        except OSError:
            pass
        finally:
            for sock in (client, upstream):
                if sock is not None:
                    self._open.discard(sock)
                    _shut(sock)
                    sock.close()

    def _talk(self, client: socket.socket, upstream: socket.socket) -> None:
        reader = hiredis.Reader(notEnoughData=NotImplemented)
        raw = b""
        while data := client.recv(65536):
            raw += data
            reader.feed(data)
            request = reader.gets()
            if request is NotImplemented:
                continue
            with self._lock:
                self.requests.append(request)
                verdict = self.rule(request)
                if verdict == "hold":
                    self._held.append(raw)
            if self._closed.wait(self.delay) or verdict in ("hold", "cut"):
                return
            upstream.sendall(raw)
            raw = b""
            if request[0].upper() == b"SUBSCRIBE":
                threading.Thread(target=_pour, args=(upstream, client), daemon=True).start()
                continue
            reply = _read_reply(upstream)
            if verdict == "lose reply":
                return
            client.sendall(reply)


def to_unix(path: object) -> Callable[[], socket.socket]:
    """Return what connects to a unix socket."""

    def connect() -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        return sock

    return connect


def _read_reply(sock: socket.socket) -> bytes:
    reader, raw = hiredis.Reader(notEnoughData=NotImplemented), b""
    while True:
        data = sock.recv(65536)
        if not data:
            raise ConnectionResetError
        raw += data
        reader.feed(data)
        if reader.gets() is not NotImplemented:
            return raw


def _pour(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    _shut(sink)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
