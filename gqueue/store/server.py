"""What a server is: its version, and whether its settings could lose jobs.

Asked once a store, by INFO, which is allowed where CONFIG is not; what may not be asked is not known, and no reason
to refuse.
"""

import logging
import re
import threading
from typing import Any

from attrs import frozen
from redis.exceptions import ResponseError

from gqueue.errors import StoreTooOld
from gqueue.store.connection import Argument, Link, pack

log = logging.getLogger("gqueue.store")

OLDEST_REDIS = (6, 2)
"""ZMSCORE, and blocking pops with fractions of a second that the scripts and waits use."""


_warned_of: set[str] = set()
_lock = threading.Lock()


@frozen
class Server:
    """A server as it describes itself. None: it would not say."""

    software: str
    version: str
    maxmemory_policy: str | None
    persistent: bool | None

    def __str__(self) -> str:
        """Return name and version, as in `Redis 7.0.15`."""
        return f"{self.software} {self.version}".strip()

    @property
    def evicts_jobs(self) -> bool:
        """Return whether a full server may drop keys that have no TTL."""
        return self.maxmemory_policy is not None and self.maxmemory_policy.startswith("allkeys-")


def ask(link: Link) -> Server:
    """Ask the server at the other end of *link* what it is; what it refuses to tell stays unknown."""
    fields = dict(re.findall(r"^(\w+):(.*?)\r?$", _text(link, b"INFO"), re.MULTILINE))
    persistent: bool | None = None
    if fields.get("aof_enabled") == "1":
        persistent = True
    elif (save := _answer(link, b"CONFIG", b"GET", b"save")) is not None and "aof_enabled" in fields:
        persistent = len(save) == 2 and bool(save[1])
    valkey = fields.get("valkey_version")
    return Server(
        software="Valkey" if valkey else "Redis",
        version=valkey or fields.get("redis_version", ""),
        maxmemory_policy=fields.get("maxmemory_policy"),
        persistent=persistent,
    )


def check(server: Server, shown: str) -> None:
    """Raise StoreTooOld if the scripts would not run on *server*, which is at the URL *shown*."""
    numbers = re.match(r"(\d+)\.(\d+)", server.version)
    if server.software == "Redis" and numbers and (int(numbers[1]), int(numbers[2])) < OLDEST_REDIS:
        needed = ".".join(map(str, OLDEST_REDIS))
        raise StoreTooOld(
            f"the server at {shown} is {server}; gqueue needs Redis {needed} or later, or any Valkey. "
            "Upgrade it, or give the URL of another."
        )


def warn(server: Server, shown: str, place: str) -> None:
    """Log what of the server's settings could lose jobs; once a process and *place*, however many queues are there."""
    with _lock:
        if place in _warned_of:
            return
        _warned_of.add(place)
    if server.evicts_jobs:
        log.warning(
            "%s at %s has maxmemory-policy %s: an evicting policy may drop jobs when memory is short! "
            "Set maxmemory-policy to noeviction",
            server,
            shown,
            server.maxmemory_policy,
        )
    if server.persistent is False:
        log.info("%s at %s does not save to disk: jobs are lost if it restarts (see appendonly, save)", server, shown)


def _text(link: Link, *command: Argument) -> str:
    answer = _answer(link, *command)
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else ""


def _answer(link: Link, *command: Argument) -> Any:
    try:
        return link.exchange(pack(command))
    except ResponseError:
        return None
