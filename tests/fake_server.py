"""A server that answers what a test says: for versions, errors and moments that a real one cannot be brought to."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import hiredis

OK, NIL = b"+OK\r\n", b"$-1\r\n"


def bulk(text: str) -> bytes:
    """Return *text* as a reply."""
    return f"${len(text.encode())}\r\n{text}\r\n".encode()


class FakeServer:
    """Listens on 127.0.0.1; *answer* makes the raw reply to the arguments of a command."""

    def __init__(self, answer: Callable[[list[bytes]], bytes]) -> None:
        self.answer = answer
        self.requests: list[list[bytes]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "FakeServer":
        """Return the server."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        reader = hiredis.Reader(notEnoughData=NotImplemented)
        with client, suppress(ConnectionError):  # who asked may have left before the answer
            while data := client.recv(65536):
                reader.feed(data)
                while (request := reader.gets()) is not NotImplemented:
                    self.requests.append(request)
                    client.sendall(self.answer(request))
