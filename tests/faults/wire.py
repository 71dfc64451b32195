"""The proxy's process: a TCP proxy between clients and a Redis server that delays, holds, slices, drops and cuts.

asyncio, in a process of its own, so that it carries tens of thousands of small requests a second over many connections;
`tests.proxy` runs the same on a thread, where a test decides on each request. Bytes are never rewritten. Requests and
replies are parsed beside the stream, to count them and to strike between the two: a connection's next reply belongs to
its oldest request.
"""

import asyncio
import hashlib
import json
import os
import random
import re
import signal
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import hiredis
from attrs import define, evolve, field

from gqueue.store.scripts import load

LEAST_PAUSE_S = 0.02
"""A bounded connection carries as much at a time as may pass in so long: a loop cannot wait for microseconds."""

MOST_WAITING = 256 * 1024
"""Bytes that wait for one side before the other is not read any more."""


@define
class Faults:
    """What happens to the bytes that go one way; read anew for each piece of them."""

    latency: float = 0.0
    jitter: float = 0.0
    rate: float = 0.0
    slice: int = 0
    pause: float = 0.0
    hole: bool = False

    @property
    def any(self) -> bool:
        """Return whether anything happens at all."""
        return bool(self.latency or self.jitter or self.rate or self.slice or self.hole)


@define
class Strikes:
    """What happens to requests; *commands*: to these only, empty: to all."""

    lose: float = 0.0
    lose_of: frozenset[str] = frozenset()
    inside: float = 0.0
    inside_of: frozenset[str] = frozenset()
    least: int = 32
    cut_in: int = 0
    cut_of: frozenset[str] = frozenset()

    @property
    def any(self) -> bool:
        """Return whether anything is to be struck."""
        return bool(self.lose or self.inside or self.cut_in)


@define
class State:
    """All that connections share."""

    up: Faults = field(factory=Faults)
    down: Faults = field(factory=Faults)
    strikes: Strikes = field(factory=Strikes)
    counts: Counter[str] = field(factory=Counter)
    connections: "set[Connection]" = field(factory=set)
    rule: Callable[[list[bytes]], str] | None = None
    """Asked for each request, if set: "pass", "lose reply", "cut" (not sent on, and cut), "hold" (kept, and cut)."""
    held: list[bytes] = field(factory=list)
    scripts: dict[bytes, str] = field(factory=lambda: {script.sha: script.name for script in load().values()})


class Pipe:
    """One way of a connection: what came from one side, on its way to the other."""

    def __init__(self, faults: Callable[[], Faults], counts: Counter[str], way: str) -> None:
        self._faults, self._counts = faults, counts
        self._held, self._passed = f"bytes held {way}", f"bytes passed {way}"
        self._waiting: deque[tuple[float, memoryview]] = deque()
        self._size = 0
        self._last = self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ending = self.ended = False
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def feed(self, data: bytes) -> None:
        """Take what came."""
        faults = self._faults()
        if not self._waiting and not faults.any and self.sink is not None:
            self._pass_on(data)
            return
        late = faults.latency + random.uniform(-faults.jitter, faults.jitter)
        self._last = max(self._last, self._loop.time() + late)
        self._waiting.append((self._last, memoryview(data)))
        self._size += len(data)
        if faults.hole:
            self._counts[self._held] += len(data)
        if self._size > MOST_WAITING and self.source is not None:
            self.source.pause_reading()
        if self._timer is None:
            self.go_on()

    def end(self) -> None:
        """Note that the source will send no more: the sink is closed once it has all."""
        self._ending = True
        if self._timer is None:
            self.go_on()

    def go_on(self) -> None:
        """Pass on what is due; called again when the faults change, and when there is a sink."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and self.sink is not None:
            faults = self._faults()
            if faults.hole:
                return
            due, piece = self._waiting.popleft()
            left = max(due, self._free_at) - self._loop.time()
            if left > 0 and faults.any:
                self._waiting.appendleft((due, piece))
                self._timer = self._loop.call_later(left, self._ring)
                return
            most = random.randint(1, faults.slice) if faults.slice else len(piece)
            if faults.rate:
                most = min(most, max(1, int(faults.rate * LEAST_PAUSE_S)))
            if len(piece) > most:
                self._waiting.appendleft((due, piece[most:]))
                piece = piece[:most]
                self._counts["slices"] += bool(faults.slice)
            self._size -= len(piece)
            self._pass_on(piece)
            pause = faults.pause if faults.slice else 0.0
            self._free_at = self._loop.time() + pause + (len(piece) / faults.rate if faults.rate else 0.0)
        if self.source is not None and self._size <= MOST_WAITING:
            self.source.resume_reading()
        if self._ending and not self._waiting and self.sink is not None:
            self.ended = True
            self.sink.close()

    def forget(self) -> None:
        """Let go of all: the connection is cut."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _pass_on(self, data: bytes | memoryview) -> None:
        if self.sink is not None and not self.sink.is_closing():
            self._counts[self._passed] += len(data)
            self.sink.write(data)

    def _ring(self) -> None:
        self._timer = None
        self.go_on()


class Side(asyncio.Protocol):
    """One end of a connection."""

    def __init__(self, came: Callable[[bytes], None], ended: Callable[[], None], opened: Callable[[Any], None]) -> None:
        self._came = came
        self._ended, self._opened = ended, opened
        self.other: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be connected."""
        self._opened(transport)

    def data_received(self, data: bytes) -> None:
        """Hand over what came."""
        self._came(data)

    def connection_lost(self, _: Exception | None) -> None:
        """Be at the end, whoever's it is."""
        self._ended()

    def pause_writing(self) -> None:
        """Read no more from the other side: this one takes nothing."""
        if self.other is not None and not self.other.is_closing():
            self.other.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        if self.other is not None and not self.other.is_closing():
            self.other.resume_reading()


class Connection:
    """A client's connection and its way to the server."""

    def __init__(self, state: State, upstream: str) -> None:
        self._state, self._upstream = state, upstream
        self._up = Pipe(lambda: state.up, state.counts, "up")
        self._down = Pipe(lambda: state.down, state.counts, "down")
        self._requests, self._replies = _reader(), _reader()
        self._asked: deque[tuple[str, str, int]] = deque()
        self._part = b""
        self._over = False
        self.client = Side(self._request_came, self._client_ended, self._client_opened)
        self._server = Side(self._reply_came, self._server_ended, self._server_opened)
        self._task: asyncio.Task[None] | None = None

    def cut(self, *, reset: bool = False) -> None:
        """End both sides, without what is still on its way; *reset*: as a RST."""
        self._over = True
        self._state.connections.discard(self)
        for pipe in (self._up, self._down):
            pipe.forget()
            if pipe.sink is None:
                continue
            if reset:
                sock = pipe.sink.get_extra_info("socket")
                if sock is not None and sock.family == socket.AF_INET:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                pipe.sink.abort()
            else:
                pipe.sink.close()  # what was written goes out first

    def go_on(self) -> None:
        """Look at the faults again."""
        for pipe in (self._up, self._down):
            pipe.go_on()
        self._look_whether_over()

    def _look_whether_over(self) -> None:
        # A side that is gone is no end: what it sent may be held, and reaches the other when the hole is over.
        if self._up.ended and self._down.ended:
            self._state.connections.discard(self)

    # The client's side.

    def _client_opened(self, transport: asyncio.Transport) -> None:
        _no_delay(transport)
        self._state.connections.add(self)
        self._state.counts["connections"] += 1
        self._up.source = self._down.sink = self._server.other = transport
        self._task = asyncio.get_running_loop().create_task(self._reach_server(transport))

    async def _reach_server(self, client: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._upstream.isdecimal():
                await loop.create_connection(lambda: self._server, "127.0.0.1", int(self._upstream))
            else:
                await loop.create_unix_connection(lambda: self._server, self._upstream)
        except OSError:
            self._state.counts["not connected"] += 1
            self.cut(reset=True)
            client.close()

    def _client_ended(self) -> None:
        self._up.end()
        self._look_whether_over()

    def _request_came(self, data: bytes) -> None:
        if self._over:
            return
        requests = _parsed(self._requests, data)
        if self._state.rule is not None:
            data, self._part = self._part + data, b""
            if not requests:  # nothing of one that is to be kept or cut may get through
                self._part = data
                return
        verdicts = {self._ask(request) for request in requests}
        if "hold" in verdicts:
            self._state.held.append(data)
        if verdicts & {"hold", "cut"}:
            self.cut()
            return
        self._up.feed(data)
        if "cut after" in verdicts:
            self.cut()

    def _ask(self, request: Any) -> str:
        """Count a request; return what happens to it: "pass", "cut after" it was sent on, or what the rule says."""
        state, strikes = self._state, self._state.strikes
        if not isinstance(request, list) or not request:
            return "pass"
        name = request[0].decode("ascii", "replace").upper()
        if name == "EVALSHA":
            name = state.scripts.get(request[1], name)
        elif name == "EVAL":
            name = state.scripts.get(_sha(request[1]), name)
        counts = state.counts
        counts["requests"] += 1
        counts[f"request {name}"] += 1
        outcomes = _outcomes(request) if name == "settle_and_claim" else 0
        fate = ""
        if state.rule is not None:
            verdict = state.rule(request)
            if verdict in ("hold", "cut"):
                return verdict
            fate = "lose" if verdict == "lose reply" else ""
        elif strikes.any:
            if strikes.cut_in and _meant(name, strikes.cut_of):
                strikes.cut_in -= 1
                if strikes.cut_in == 0:
                    counts["cuts after a request"] += 1
                    return "cut after"
            if strikes.lose and _meant(name, strikes.lose_of) and random.random() < strikes.lose:
                fate = "lose"
            elif strikes.inside and _meant(name, strikes.inside_of) and random.random() < strikes.inside:
                fate = "inside"
        self._asked.append((name, fate, outcomes))
        return "pass"

    # The server's side.

    def _server_opened(self, transport: asyncio.Transport) -> None:
        _no_delay(transport)
        self._down.source = self._up.sink = self.client.other = transport
        if self._over:
            transport.abort()
        else:
            self._up.go_on()

    def _server_ended(self) -> None:
        self._down.end()
        self._look_whether_over()

    def _reply_came(self, data: bytes) -> None:
        if self._over:
            return
        counts = self._state.counts
        fate = self._asked[0][1] if self._asked else ""
        if fate == "inside" and data[:1] in b"$*" and len(data) >= self._state.strikes.least:
            counts["cuts inside a reply"] += 1
            counts[f"cut inside {self._asked[0][0]}"] += 1
            self._down.feed(data[: len(data) // 2])
            self._down.go_on()
            self.cut()
            return
        if fate == "lose":  # its first byte is there, so the request was carried out
            counts["replies lost"] += 1
            counts[f"reply lost {self._asked[0][0]}"] += 1
            self.cut()
            return
        for reply in _parsed(self._replies, data):
            if self._asked:
                name, _, outcomes = self._asked.popleft()
                status = _status(reply)
                counts[f"reply {name}: {status}"] += 1
                if status in ("lease_lost", "stale_call"):
                    counts["stale settlements refused"] += outcomes
        self._down.feed(data)


def _meant(name: str, commands: frozenset[str]) -> bool:
    return not commands or name in commands


_SETTLE = load()["settle_and_claim"]
_DONE, _FIELDS = _SETTLE.arguments.index("done"), 7
"""Where the number of ids stands among the arguments, and how many arguments each other outcome has: see its head."""


def _outcomes(request: list[bytes]) -> int:
    """Return how many jobs a call of settle_and_claim settles."""
    arguments = request[3 + len(_SETTLE.keys) :]
    done = int(arguments[_DONE])
    return done + (len(arguments) - _DONE - 1 - done) // _FIELDS


def _status(reply: Any) -> str:
    if isinstance(reply, list) and reply:
        reply = reply[0]
    if isinstance(reply, hiredis.ReplyError):
        text = str(reply)
        wrapped = re.search(r"@user_script: ?\d+: -([A-Z]{3,}) ", text)  # Redis 6.2, of an error inside a script
        if "max number of clients" in text:
            return "MAXCLIENTS"
        return wrapped[1] if wrapped else text.split(" ", 1)[0]
    return reply[:24].decode("ascii", "replace") if isinstance(reply, bytes) and reply[:24].isascii() else "other"


def _sha(text: bytes) -> bytes:
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


_NONE = object()


def _reader() -> Any:
    return hiredis.Reader(notEnoughData=_NONE)


def _parsed(reader: Any, data: bytes) -> list[Any]:
    reader.feed(data)
    found = []
    while (one := reader.gets()) is not _NONE:
        found.append(one)
    return found


def _no_delay(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Control(asyncio.Protocol):
    """Carries out what `Toxics` says, a line of JSON each: [verb, arguments]."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._rest = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each whole line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            verb, arguments = json.loads(line)
            answer = getattr(self, f"_{verb}")(**arguments)
            self._transport.write(json.dumps(answer).encode() + b"\n")

    def _set(self, way: str, **faults: Any) -> None:
        state = self._state
        for each in ("up", "down") if way == "both" else (way,):
            setattr(state, each, evolve(getattr(state, each), **faults))
        self._look_again()

    def _look_again(self) -> None:
        for connection in list(self._state.connections):
            connection.go_on()

    def _latency(self, way: str, seconds: float, jitter: float) -> None:
        self._set(way, latency=seconds, jitter=jitter)

    def _bandwidth(self, way: str, rate: float) -> None:
        self._set(way, rate=rate)

    def _slicer(self, way: str, size: int, pause: float) -> None:
        self._set(way, slice=size, pause=pause)

    def _blackhole(self, way: str) -> None:
        self._set(way, hole=True)

    def _lose_replies(self, share: float, commands: list[str]) -> None:
        self._state.strikes.lose, self._state.strikes.lose_of = share, frozenset(commands)

    def _cut_after(self, n: int, commands: list[str]) -> None:
        self._state.strikes.cut_in, self._state.strikes.cut_of = n, frozenset(commands)

    def _cut_inside_reply(self, share: float, commands: list[str], least: int) -> None:
        strikes = self._state.strikes
        strikes.inside, strikes.inside_of, strikes.least = share, frozenset(commands), least

    def _reset_all(self) -> int:
        connections = list(self._state.connections)
        for connection in connections:
            connection.cut(reset=True)
        self._state.counts["resets"] += len(connections)
        return len(connections)

    def _clear(self) -> None:
        self._state.up, self._state.down, self._state.strikes = Faults(), Faults(), Strikes()
        self._look_again()

    def _counts(self) -> dict[str, int]:
        return self._state.counts


async def listen(port: int, upstream: str, state: State) -> asyncio.Server:
    """Pass on what comes to *port* of 127.0.0.1 (0: a free one) to *upstream*, a port there or a unix socket's path."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(state, upstream).client, "127.0.0.1", port, backlog=1024)


async def _serve(port: int, upstream: str, control: str) -> None:
    loop, state = asyncio.get_running_loop(), State()
    await listen(port, upstream, state)
    await loop.create_unix_server(lambda: Control(state), control)
    await asyncio.Event().wait()


def main(port: str, upstream: str, control: str, seed: str) -> None:
    """Run the proxy until it is killed."""
    random.seed(int(seed))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_serve(int(port), upstream, control))


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)
