"""What a server is: its version, and whether its settings could lose jobs.

Asked by INFO, which is allowed where CONFIG is not, at the first connection of a store and after each outage; whether
it evicts once a minute too. What may not be asked is not known, and no reason to refuse. What was warned of is kept by
place and without a lock: the heartbeat, which may share none, looks as well; at worst something is said twice.
"""

import logging
import re
from typing import Any

from attrs import frozen
from redis.exceptions import ResponseError

from gqueue.errors import StoreTooOld
from gqueue.store.connection import Argument, Link, pack

log = logging.getLogger("gqueue.store")

OLDEST_REDIS = (6, 2)
"""ZMSCORE, and blocking pops with fractions of a second that the scripts and waits use."""


EVICTS = (
    "%s at %s has maxmemory-policy %s: an evicting policy may drop %s when memory is short! "
    "Set maxmemory-policy to noeviction"
)

EVICTED = {
    "allkeys-": "jobs",
    "volatile-": "results, and what tells that a call was carried out: an enqueue that is sent again may be doubled",
}
"""What a policy whose name begins so may drop: any key, or only keys that have a TTL."""

_policies: dict[str, str | None] = {}
_unsaved: dict[str, bool] = {}


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
    def evicts(self) -> str:
        """Return what a full server may drop, for people; "" if nothing, or it would not say."""
        policy = self.maxmemory_policy or ""
        return next((dropped for begins, dropped in EVICTED.items() if policy.startswith(begins)), "")


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
    """Log what of the server's settings could lose jobs; once a process, *place* and change, for all its queues."""
    if _is_new(place, server.maxmemory_policy) and server.evicts:
        log.warning(EVICTS, server, shown, server.maxmemory_policy, server.evicts)
    unsaved = server.persistent is False
    if unsaved and not _unsaved.get(place):
        log.info("%s at %s does not save to disk: jobs are lost if it restarts (see appendonly, save)", server, shown)

    _unsaved[place] = unsaved


def evicts_now(memory: Any, shown: str, place: str) -> str:
    """Return the warning that is due after INFO memory said *memory*, "" if the policy is a good one, or known."""
    text = memory.decode("utf-8", "replace") if isinstance(memory, bytes) else ""
    found = re.search(r"^maxmemory_policy:(\S+)", text, re.MULTILINE)
    if found is None or not _is_new(place, found[1]):
        return ""
    server = Server("Redis", "", found[1], None)
    return EVICTS % (server, shown, found[1], server.evicts) if server.evicts else ""


def _is_new(place: str, policy: str | None) -> bool:
    before, _policies[place] = _policies.get(place), policy
    return before != policy


def _text(link: Link, *command: Argument) -> str:
    answer = _answer(link, *command)
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else ""


def _answer(link: Link, *command: Argument) -> Any:
    try:
        return link.exchange(pack(command))
    except ResponseError:
        return None
