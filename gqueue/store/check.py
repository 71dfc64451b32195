"""What a server tells of itself, for `gqueue check`: asked once, over a connection of its own.

Decides nothing: `core.check` judges. What is refused, renamed or missing is left out, and so not known.
"""

import ipaddress
import re
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import AuthenticationError, MovedError, NoPermissionError, RedisError, ResponseError

from gqueue.config import masked
from gqueue.core.check.server import SETTINGS, SentinelSeen, ServerFacts
from gqueue.errors import StoreUnavailable
from gqueue.store import acl, rights
from gqueue.store.advice import advice
from gqueue.store.connection import Address, Argument, Link, pack
from gqueue.store.keys import Keys
from gqueue.store.outage import moved_to, why
from gqueue.store.sentinel import SentinelAddress, address_of, place_text

REPLY_S = 5.0
"""How long the connection and each reply may take."""

ROUND_TRIPS = 200
"""So many of each kind are measured: the p99 is then the third of the slowest."""

MEASURE_S = 3.0
"""No kind is measured for longer."""

_PACKAGE = b"return type(rawget(_G, 'package'))"
_NOTHING = b"return 1"
_FLAGGED = b"#!lua flags=no-writes\nreturn 1"


class NotReached(StoreUnavailable):
    """The server was not reached, or does not let us in; *advice* says what to do."""

    def __init__(self, said: str, advice: str) -> None:
        self.advice = advice
        super().__init__(said)


def ask(url: str) -> ServerFacts:
    """Return what the server at *url* tells, and what was measured.

    Raises:
        NotReached: no connection, or PING is answered by an error.
        BadSetting: the URL cannot be read.
    """
    address = _address(url)
    link = address.link(REPLY_S)
    try:
        link.open()
        link.exchange(pack((b"PING",)))
        return _facts(url, address, link)
    except (RedisError, OSError) as error:
        raise _unavailable(url, error) from error
    finally:
        link.close()


def settings_in_force(url: str, queue: str) -> Mapping[str, str] | None:
    """Return what stands in the queue's `meta`; None: it may not be read. Raises StoreUnavailable, BadSetting."""
    try:
        return _meta(_address(url), queue)[1]
    except (RedisError, OSError) as error:
        raise _unavailable(url, error) from error


def rights_missing(url: str, queue: str, role: str) -> list[str]:
    """Return what our user lacks for *role* in *queue*: see `rights.missing`. Raises StoreUnavailable, BadSetting."""
    try:
        return rights.missing(_meta(_address(url), queue)[0], REPLY_S, queue, role)
    except (RedisError, OSError) as error:
        raise _unavailable(url, error) from error


def _address(url: str) -> Address:
    return address_of(url)


def _meta(address: Address, queue: str) -> tuple[Address, Mapping[str, str] | None]:
    """Return where the queue is, which in a cluster is another node perhaps, and its settings."""
    for _ in range(2):
        link = address.link(REPLY_S)
        try:
            link.open()
            return address, _pairs(link.exchange(pack((b"HGETALL", Keys(queue)("meta")))))
        except MovedError as error:
            address = address.moved_to(*moved_to(error))
        except ResponseError:
            break
        finally:
            link.close()
    return address, None


def _unavailable(url: str, error: Exception) -> NotReached:
    answered = isinstance(error, AuthenticationError | ResponseError)
    what = "answers, but does not let us in" if answered else "is not reachable"
    return NotReached(f"Redis at {masked(url)} {what}: {why(error)}", advice(error))


def parser() -> str:
    """Return what reads the replies: `hiredis`, or the name of redis-py's own."""
    from redis.connection import DefaultParser

    name = DefaultParser.__name__
    return "hiredis" if "Hiredis" in name else name


def _facts(url: str, address: Address, link: Link) -> ServerFacts:
    info = dict(re.findall(r"^(\w+):(.*?)\r?$", _text(_answer(link, b"INFO")), re.MULTILINE))
    config: dict[str, str] = {}
    for name in SETTINGS:  # one by one: 6.2 takes one name only
        config.update(_pairs(_answer(link, b"CONFIG", b"GET", name) or []))
    valkey = info.get("valkey_version")
    who = _answer(link, b"ACL", b"WHOAMI")
    drift, error = _drift(link)
    package = _answer(link, b"EVAL", _PACKAGE, 0)
    return ServerFacts(
        sentinels=_sentinels(address),
        absent=_absent(link),
        unverified=_unverified(address),
        shown=address.shown,
        software="Valkey" if valkey else "Redis",
        version=valkey or info.get("redis_version", ""),
        local=is_local(url),
        tls=urlsplit(url).scheme.startswith("rediss"),
        user=None if who is None else _text(who),
        password_needed=_needs_password(url),
        info=info,
        config=config,
        pings_ms=_measured(lambda: link.exchange(pack((b"PING",)))),
        scripts_ms=_measured(lambda: link.exchange(pack((b"EVAL", _NOTHING, 0)))),
        drift_ms=drift,
        drift_error_ms=error,
        package=None if package is None else package != b"nil",
        flags=None if package is None else _answer(link, b"EVAL", _FLAGGED, 0) == 1,
    )


def _unverified(address: Address) -> str:
    connection = address.connection(REPLY_S)  # as redis-py reads the URL: its defaults are not those of all versions
    if getattr(connection, "cert_reqs", None) == ssl.CERT_NONE:  # optional is as required, for a client
        return "the certificate"
    return "" if getattr(connection, "check_hostname", True) else "the host"


def _absent(link: Link) -> list[str]:
    used = (acl.commands_of(role) for role in ("worker", "producer"))
    names = sorted({command.partition("|")[0] for command in frozenset[str]().union(*used)})
    told = _answer(link, b"COMMAND", b"INFO", *names)
    if not isinstance(told, list) or len(told) != len(names):  # it may not be asked: then a trial of the rights tells
        return []
    return [name for name, known in zip(names, told, strict=True) if not known]


def _sentinels(address: Address) -> list[SentinelSeen]:
    if not isinstance(address, SentinelAddress):
        return []
    seen = []
    for sentinel in address.sentinels:
        try:
            named = sentinel.ask(address.service, REPLY_S)
            seen.append(SentinelSeen(str(sentinel), place_text(named.place) if named else ""))
        except (RedisError, OSError) as error:
            seen.append(SentinelSeen(str(sentinel), error=why(error)))
    return seen


def is_local(url: str) -> bool:
    """Return whether *url* stays on this machine: a unix socket, localhost, or a loopback address."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return True
    host = parts.hostname or "localhost"
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_user(url: str) -> str:
    """Return *url* without user and password."""
    place, question, query = re.sub(r"^([\w+.-]+://)[^/?#]*@", r"\1", url).partition("?")
    kept = "&".join(each for each in query.split("&") if not re.match("(username|password)=", each))
    return place + question * bool(kept) + kept


def _needs_password(url: str) -> bool | None:
    link = _address(without_user(url)).link(REPLY_S)
    try:
        link.open()
        link.exchange(pack((b"PING",)))
    except (AuthenticationError, NoPermissionError):
        return True
    except (RedisError, OSError) as error:
        return True if re.search("NOAUTH|DENIED", str(error)) else None  # protected mode refuses others than localhost
    finally:
        link.close()
    return False


def _drift(link: Link) -> tuple[float | None, float]:
    """Return how far the server's clock is ahead, and how far off that may be: of the quickest of some answers."""
    best: tuple[float, float] | None = None
    for _ in range(5):
        before, began = time.time(), time.perf_counter()
        answer = _answer(link, b"TIME")
        took_ms = (time.perf_counter() - began) * 1000
        if not isinstance(answer, list):
            return None, 0.0
        ahead_ms = (int(answer[0]) + int(answer[1]) / 1e6 - before) * 1000 - took_ms / 2
        if best is None or took_ms / 2 < best[1]:
            best = ahead_ms, took_ms / 2
    assert best is not None
    return best


def _measured(call: Callable[[], object]) -> list[float]:
    times: list[float] = []
    ends = time.monotonic() + MEASURE_S
    while len(times) < ROUND_TRIPS and time.monotonic() < ends:
        began = time.perf_counter()
        try:
            call()
        except ResponseError:
            return []
        times.append((time.perf_counter() - began) * 1000)
    return times


def _answer(link: Link, *command: Argument) -> Any:
    try:
        return link.exchange(pack(command))
    except ResponseError:
        return None


def _pairs(flat: list[bytes]) -> dict[str, str]:
    texts = [_text(each) for each in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _text(answer: Any) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else ""
