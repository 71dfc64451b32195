"""Connections to one server: where it is, one connection, and the few that are held open for calls.

redis-py opens them (TLS, passwords, databases) and nothing else of it is used: its pool costs half the speed of a
call, and its retries would send a script twice. Nothing here tries again; that is the client's part. A connection
that was left in the middle of a call is never used again, whatever the reason: the next reader would get the reply.
"""

import _socket
import os
import re
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, urlsplit

import redis
from hiredis import pack_command
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import RedisError

from gqueue.config import URL_FORM, masked, option_shown, unshowable
from gqueue.errors import BadSetting
from gqueue.store.parking import Parking
from gqueue.store.scripts import Script

MAX_LANES = 16
"""Connections for calls of one store: a call takes 60 us, so 16 carry all that one interpreter can send."""

_OURS = ("protocol", "decode_responses", "health_check_interval", "socket_timeout", "timeout", "max_connections")
_RETRIES = ("retry", "retry_on_timeout", "retry_on_error")


Argument = bytes | str | int | float

# Newer redis-py tells the server its version, and would look it up among the installed packages for each connection.
_DRIVER: dict[str, Any] = {}
if find_spec("redis.driver_info"):
    _DRIVER["driver_info"] = import_module("redis.driver_info").DriverInfo(lib_version=redis.__version__)

# What redis-py and hiredis say of their types is missing, or wrong.
_parse_url: Callable[[str], dict[str, Any]] = cast(Any, parse_url)
_pack: Callable[[tuple[bytes | str, ...]], bytes] = cast(Any, pack_command)


def pack(command: Sequence[Argument]) -> bytes:
    """Write a command as it is sent; a float as its repr, an id that is not UTF-8 as it was read (`replies.text`).

    hiredis gets no numbers: it has Python write them, which may run the handler of a signal, and if that raises the
    interpreter crashes.
    """
    texts = [part if part.__class__ is str or part.__class__ is bytes else str(part) for part in command]
    try:
        return _pack(tuple(texts))
    except UnicodeEncodeError:
        encoded = [part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part for part in texts]
        return _pack(tuple(encoded))


class Opening:
    """What all calls of a script with the same keys begin with, packed once: 20 of the 35 parts of an enqueue."""

    def __init__(self, script: Script, keys: Sequence[bytes]) -> None:
        self.script, self.keys = script, keys
        parts: tuple[Argument, ...] = (b"EVALSHA", script.sha, len(keys), *keys)
        self._count, self._packed = len(parts), _behind_count(pack(parts))

    def pack(self, arguments: Sequence[Argument]) -> bytes:
        """Write a call as it is sent."""
        return b"*%d\r\n%b%b" % (self._count + len(arguments), self._packed, _behind_count(pack(arguments)))

    def pack_with_text(self, arguments: Sequence[Argument]) -> bytes:
        """Write a call for a server that does not know the script."""
        return pack((b"EVAL", self.script.text, len(self.keys), *self.keys, *arguments))


def _behind_count(packed: bytes) -> bytes:
    return packed[packed.index(b"\n") + 1 :]


class LanesClosed(Exception):
    """The store was closed, or its process forked, while a connection was asked for."""


class NoneFree(TimeoutError):
    """All connections were busy for as long as was to be waited for one."""


class RedisConnection(Protocol):
    """What is used of redis-py's Connection, of every version from 5.0 on."""

    def connect(self) -> None:
        """Open it: TLS, user and password, database."""
        ...

    def disconnect(self) -> None:
        """Close it."""
        ...

    def send_packed_command(self, command: list[bytes], check_health: bool = True) -> None:
        """Send what `pack` made."""
        ...

    def read_response(self) -> Any:
        """Return the next reply; raise it, if it is an error."""
        ...

    def can_read(self, timeout: float) -> bool:
        """Return whether something came within *timeout* seconds."""
        ...


class Address:
    """Where a server is and how to talk to it; *shown* is its URL with the password masked."""

    def __init__(self, url: str, shown: str | None = None) -> None:
        """Read *url*; raise BadSetting if it is none, without showing what may be a part of a password.

        *shown* stands for the URL where people read it, if it is another.
        """
        self.shown = shown or masked(url)
        try:
            options = dict(_parse_url(url))
            parts = urlsplit(url)
        except ValueError:
            raise BadSetting(
                f"{self.shown} is no URL of a Redis server: expected {URL_FORM}; "
                "special characters of a password are written as %XX"
            ) from None
        if parts.scheme == "unix" and not parts.path:
            raise BadSetting(f"{self.shown}: the path of the unix socket is missing: expected {URL_FORM}")
        if parts.scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path):
            raise BadSetting(f"{self.shown}: the database must be a number: expected {URL_FORM}")
        if wrong := unshowable(self.shown):
            raise BadSetting(f"{self.shown}: {wrong}: expected {URL_FORM}; special characters are written as %XX")
        self._make: Callable[..., Any] = options.pop("connection_class", Connection)
        self._options = {name: value for name, value in options.items() if name not in (*_OURS, *_RETRIES)}
        try:
            self.connection(1.0)
        except (TypeError, ValueError, RedisError) as error:
            raise BadSetting(f"{self.shown}: redis-py does not take {_option_in(url, error)} of this URL") from None

    @property
    def place(self) -> str:
        """Return where the server is, whatever else the URL says: the database, who we are."""
        options = self._options
        return str(options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}")

    def moved_to(self, host: str, port: int, **options: Any) -> "Address":
        """Return the same kind of connection to another host, as to another node of a cluster; *options* of redis-py.

        An empty *host* is the same one.
        """
        other = object.__new__(Address)
        other.shown, other._make = f"{self.shown} (at {host}:{port})", self._make
        host = host or self._options.get("host", "localhost")
        other._options = {**self._options, "host": host, "port": port, **options}
        return other

    def link(self, reply_timeout: float) -> "Link":
        """Return a connection that is not open yet. *reply_timeout* in seconds: for each wait on the socket."""
        return Link(self.connection(reply_timeout))

    def connection(self, reply_timeout: float) -> RedisConnection:
        """Return a connection of redis-py's that is not open yet."""
        options = {"socket_connect_timeout": reply_timeout, **_DRIVER, **self._options, "socket_timeout": reply_timeout}
        connection = self._make(protocol=2, **options)
        connection.socket_timeout = reply_timeout  # redis-py 5.0.0 forgets it for unix sockets
        return cast(RedisConnection, connection)


def _option_in(url: str, error: Exception) -> str:
    """Return which option of *url* the *error* names, by its place: a name may be a part of a password, too."""
    names = [name for name, _ in parse_qsl(urlsplit(url).query, keep_blank_values=True)]
    found = [str(place) for place, name in enumerate(names, 1) if repr(name) in str(error)]
    return f"option {found[0]} (counted behind the ?)" if found else "an option"


def connect(connection: RedisConnection) -> None:
    """Open *connection*; the errors are those of redis-py, with a note on what TLS misses, or whether it meets none."""
    try:
        connection.connect()
    except (RedisError, OSError) as error:
        if asks := _asks_about_tls(connection, error):
            error.add_note(asks)
        raise


def _asks_about_tls(connection: RedisConnection, error: Exception) -> str:
    beneath, text = error.__context__, str(error)
    if isinstance(connection, SSLConnection):
        if unreadable := _unreadable(connection):
            return unreadable
        silent = isinstance(beneath, TimeoutError) and "handshake" in str(beneath)
        cut = isinstance(beneath, ConnectionResetError | ssl.SSLEOFError) and "connecting to" in text
        return "the TLS handshake failed: does this port speak TLS?" if silent or cut else ""
    if isinstance(connection, UnixDomainSocketConnection):
        return ""
    # The greeting was sent, and cut: so does a port that takes it for a bad handshake.
    cut = isinstance(beneath, ConnectionResetError) or "Connection closed by server" in text
    return "the connection was cut at its first command: does it want rediss://?" if cut else ""


def _unreadable(connection: RedisConnection) -> str:
    """Name the files of the URL that are not there, or not for us: OpenSSL does not say which it missed."""
    files = {"ssl_ca_certs": "ca_certs", "ssl_ca_path": "ca_path", "ssl_certfile": "certfile", "ssl_keyfile": "keyfile"}
    given = {option: getattr(connection, name, None) for option, name in files.items()}
    missing = [
        option_shown(f"{option}={path}") for option, path in given.items() if path and not os.access(path, os.R_OK)
    ]
    return f"{' and '.join(missing)} cannot be read" if missing else ""


class Link:
    """One connection, in the hands of one caller at a time.

    *fresh*: it was not opened yet; *stopped*: its holder is to drop it, and not to wait on; *owes*: beside the reply
    that its holder is after, that to another command.
    """

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._closing = threading.Lock()
        self.fresh, self.stopped, self.owes = True, False, False

    def open(self) -> None:
        """Connect; the errors are those of redis-py."""
        self.fresh = False
        connect(self._connection)

    @property
    def outdated(self) -> bool:
        """Return whether it is known by now that another server is the one to talk to."""
        return False

    def exchange(self, packed: bytes) -> Any:
        """Send one command and return the reply; the errors are those of redis-py."""
        self.send(packed)
        return self.receive()

    def send(self, packed: bytes) -> None:
        """Send one command. If this fails, the server has not got all of it, and does nothing."""
        self._connection.send_packed_command([packed], check_health=False)

    def receive(self) -> Any:
        """Return the reply to what was sent."""
        return self._connection.read_response()

    def listen(self, timeout: float) -> Any:
        """Return the next message of a subscription, None if none came for *timeout* seconds."""
        return self._connection.read_response() if self._connection.can_read(timeout) else None

    def close(self) -> None:
        """Close the connection. For its holder; others may `interrupt`."""
        with self._closing:
            self._connection.disconnect()

    def interrupt(self) -> None:
        """Make the holder's call fail, from any thread. The holder closes.

        The socket is shut down beneath Python's own object: gevent's refuses to be touched by another thread.
        """
        with self._closing:
            sock = getattr(self._connection, "_sock", None)
            if sock is None:
                return
            try:
                twin = _socket.socket(fileno=os.dup(sock.fileno()))
            except OSError:
                return
            try:
                twin.shutdown(_socket.SHUT_RDWR)
            except OSError:
                pass
            finally:
                twin.close()

    def forget(self, *, without_hub: bool = False) -> None:
        """Close nothing but the descriptor: a forked child's copy, of a connection that lives on; or *without_hub*.

        redis-py closes it through gevent's socket, and that through a loop which may be destroyed by now; and a socket
        that is closed later, when it is collected, must not close what else has got its number. gevent's os.close tells
        the loop of it, and makes a hub where there is none any more.
        """
        connection: Any = self._connection
        sock, connection._sock = getattr(connection, "_sock", None), None
        if sock is not None:
            descriptor = _socket.socket.detach(getattr(sock, "_sock", sock))  # gevent's holds the real one
            if descriptor >= 0:
                (_socket.close if without_hub else os.close)(descriptor)


class Lanes:
    """Connections for calls: at most *most*, made on demand, held; the last one given back is the first taken.

    Any number of threads or greenlets may ask; who finds all taken waits. What is alive is known by weak references: a
    connection that a KeyboardInterrupt tore from its holder between two lines must not count for ever.

    *given* changes with each connection that is given back.
    """

    def __init__(self, make: Callable[[], Link], most: int = MAX_LANES) -> None:
        self._make, self._most = make, most
        self._free: list[Link] = []
        self._alive: weakref.WeakSet[Link] = weakref.WeakSet()
        self._aside: weakref.WeakSet[Link] = weakref.WeakSet()
        self.given = 0
        self._closed = False
        self._full_until = 0.0
        self._making = threading.Lock()
        self._parking = Parking()

    def take(self, deadline: float) -> Link:
        """Return a connection for one call, perhaps a fresh one, which the caller opens.

        Raises NoneFree at *deadline* (time.monotonic()), LanesClosed.
        """
        while True:
            link = self._pop() or self._another()
            if link is not None:
                return link
            left = deadline - time.monotonic()
            if left <= 0:
                raise NoneFree(f"all {self._most} connections were busy")
            self._parking.wait(self._something_to_take, left)

    def give(self, link: Link) -> None:
        """Give back a connection whose call was answered in full."""
        self._free.append(link)
        self.given += 1
        self._parking.wake_one()
        if self._closed:
            self.drop_free()

    def drop(self, link: Link) -> None:
        """Close a connection that may be out of step, or dead."""
        try:
            link.close()
        finally:
            self._alive.discard(link)
            self._parking.wake_one()

    def run_aside(self, link: Link, work: Callable[[], None]) -> None:
        """Run *work* of the caller's own while *link* waits for its reply, unless as many as half do so already.

        It may ask for a connection, and wait for one until another caller gives one back: if all held theirs
        meanwhile, none would.
        """
        self._aside.add(link)  # before the look: of two who come together both may find too many, but never too few
        try:
            if len(self._aside) <= (len(self._alive) if self._must_do() else self._most) // 2:
                work()
        finally:
            self._aside.discard(link)

    def do_with_these(self, seconds: float) -> bool:
        """Make no more for so long, if there are any: the server takes no more; return whether there are."""
        self._full_until = time.monotonic() + seconds
        return len(self._alive) > 0

    def drop_free(self) -> None:
        """Close all that nobody uses: one of them was found dead, so the others probably are."""
        while (link := self._pop()) is not None:
            self.drop(link)

    def close(self, *, ours: bool = True) -> None:
        """Refuse later calls, make those under way fail, close what is free; if not *ours*, only interrupt."""
        with self._making:
            self._closed = True
        alive = self._known()
        self._parking.wake_all()
        if ours:
            self.drop_free()
        for link in alive:
            link.interrupt()

    def forget(self, *, without_hub: bool = False) -> None:
        """Close the descriptors: of a forked child's copies, or when the thread that they belong to has ended.

        Takes no lock, since a thread that is no more may have held it.
        """
        self._closed = True
        for link in self._known():
            link.forget(without_hub=without_hub)

    def __len__(self) -> int:
        """Return how many connections there are."""
        return len(self._alive)

    def _known(self) -> list[Link]:
        while True:
            try:
                return list(self._alive)
            except RuntimeError:  # another thread dropped one meanwhile
                continue

    def _pop(self) -> Link | None:
        try:
            return self._free.pop()
        except IndexError:
            return None

    def _another(self) -> Link | None:
        with self._making:
            if self._closed:
                raise LanesClosed
            if len(self._alive) >= self._most or self._must_do():
                return None
            link = self._make()
            self._alive.add(link)
            return link

    def _something_to_take(self) -> bool:
        return self._closed or bool(self._free) or (len(self._alive) < self._most and not self._must_do())

    def _must_do(self) -> bool:
        return len(self._alive) > 0 and time.monotonic() < self._full_until
