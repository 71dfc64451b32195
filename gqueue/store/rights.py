"""Which rights a user of Redis lacks for a part in a queue, found by trying.

ACL DRYRUN would tell, but a user with few rights may not call it, and 6.2 has not got it. So each command is sent in a
form that a server refuses anyway, or that does nothing, to a key that is of nobody: rights are looked at before that.
"""

import re
import secrets
from collections.abc import Iterable
from functools import cache

from redis.exceptions import ResponseError

from gqueue.store import scripts
from gqueue.store.connection import Address, Argument, Link, pack
from gqueue.store.keys import Keys, is_a_family
from gqueue.store.scripts import Script

DENIED = re.compile("NOPERM|user executing the script|no permission", re.IGNORECASE)
"""What 6.2, 7 and Valkey say, to a client and inside a script."""

ROLES = {
    "producer": ("enqueue", "renew_tickets", "leave_line", "look", "await_done", "cancel", "set_priority"),
    "worker": (
        "register",
        "settle_and_claim",
        "held",
        "heartbeat",
        "fence",
        "reap",
        "leave",
        "report_progress",
        "stats",
    ),
}
"""Role -> the scripts that it calls."""

_BESIDE: dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "producer": (("BLPOP", "room:PRODUCER", ("-1",)), ("LPOP", "room:PRODUCER", ("-1",)), ("HGET", "progress", ("",))),
    "worker": (("BLPOP", "wake", ("-1",)), ("LPOP", "wake", ("-1",))),
}
"""Role -> commands that it sends outside of scripts, with the kind of key, in a form that does nothing."""

LISTENING = frozenset({"producer"})
"""Roles that hear of outcomes."""

HARMLESS: dict[str, tuple[str, ...]] = {
    "EXISTS": (),
    "GET": (),
    "HDEL": ("",),
    "HEXISTS": ("",),
    "HGET": ("",),
    "HGETALL": (),
    "HINCRBY": ("f", "no number"),
    "HKEYS": (),
    "HLEN": (),
    "HMGET": ("",),
    "HSET": ("f", "v", "odd"),
    "HSETNX": ("f", "v"),
    "HSTRLEN": ("",),
    "LLEN": (),
    "PERSIST": (),
    "PEXPIRE": ("no number",),
    "PTTL": (),
    "RPUSH": ("x",),
    "SET": ("v", "PX", "0"),
    "TYPE": (),
    "UNLINK": (),
    "ZADD": ("no number", "m"),
    "ZCARD": (),
    "ZCOUNT": ("0", "0"),
    "ZRANGE": ("0", "0"),
    "ZRANGEBYSCORE": ("0", "0"),
    "ZRANK": ("",),
    "ZREM": ("",),
    "ZREMRANGEBYRANK": ("0", "0"),
    "ZREMRANGEBYSCORE": ("0", "0"),
    "ZREVRANGE": ("0", "0"),
    "ZSCORE": ("",),
}
"""Command -> what stands behind a key that is not there, so that nothing is written."""

ON_A_HASH = frozenset({"HSETNX", "RPUSH"})
"""Those that have no such form: they meet a hash with the field f, which their script makes and removes."""

_COMMAND = re.compile(r"redis\.p?call\('([A-Z]+)'")
_TRY = b"return redis.call(unpack(ARGV))"
_TRY_ON_A_HASH = b"""
redis.call('HSET', KEYS[1], 'f', 'v')
local answer = redis.pcall(unpack(ARGV))
redis.call('HDEL', KEYS[1], 'f')
return answer
"""
_DERIVED = {"result:": ("result:ID", ("GET", "SET", "UNLINK")), "room:": ("room:PRODUCER", ("PEXPIRE",))}
"""What the code of a script says where it derives a key, the key's kind, and what may be done to it."""

_load = cache(scripts.load)


def missing(address: Address, reply_timeout: float, queue: str, role: str) -> list[str]:
    """Return what the user of *address* lacks for *role* in *queue*, as rules of ACL SETUSER.

    Nothing is written that is there afterwards, and no other's key is changed. *reply_timeout* in seconds.

    Raises:
        RedisError, OSError: for any reason but rights.
    """
    link = address.link(reply_timeout)
    try:
        link.open()
        return _Trial(link, Keys(queue)).of(role)
    finally:
        link.close()


def commands_of(script: Script) -> frozenset[str]:
    """Return the commands that *script* may call."""
    return frozenset(_COMMAND.findall(script.text.decode()))


class _Trial:
    def __init__(self, link: Link, keys: Keys) -> None:
        self._link, self._keys = link, keys
        self._nobody = f"check-{secrets.token_hex(8)}"

    def of(self, role: str) -> list[str]:
        called = [_load()[name] for name in ROLES[role]]
        no_eval = [name for name in ("EVAL", "EVALSHA") if self._is_denied(name, b"return 1", 0)]
        if no_eval:  # the rest cannot be tried
            return [f"+{name.lower()}" for name in no_eval]
        kinds = sorted({kind for script in called for kind in script.keys})
        closed = [kind for kind in kinds if self._is_denied(b"EVAL", b"return 1", 1, self._key(kind))]
        lacks = [f"~{self._pattern(kind)}" for kind in closed]
        mine = next((kind for kind in kinds if is_a_family(kind) and kind not in closed), None)
        if mine is not None:
            names = frozenset[str]().union(*(commands_of(script) for script in called))
            lacks += self._commands(self._key(mine), names)
            lacks += self._derived(called, self._key(mine), set(lacks))
        for name, kind, rest in _BESIDE[role]:
            if kind not in closed and self._is_denied(name, self._key(kind), *rest):
                lacks += [f"+{name.lower()}"] * (f"+{name.lower()}" not in lacks)
        if role in LISTENING and self._is_denied(b"SUBSCRIBE", self._keys.done):
            lacks.append(f"+subscribe &{self._keys.done.decode()}")
        return lacks

    def _commands(self, key: bytes, names: frozenset[str]) -> list[str]:
        denied = [name for name in sorted(names - ON_A_HASH) if self._is_denied(b"EVAL", _TRY, *self._form(name, key))]
        if not {"HSET", "HDEL"} & set(denied):
            denied += [
                name
                for name in sorted(names & ON_A_HASH)
                if self._is_denied(b"EVAL", _TRY_ON_A_HASH, *self._form(name, key))
            ]
        lacks = [f"+{name.lower()}" for name in denied]
        if "PUBLISH" in denied:
            lacks[denied.index("PUBLISH")] += f" &{self._keys.done.decode()}"
        return lacks

    def _derived(self, called: Iterable[Script], open_key: bytes, lacks: set[str]) -> list[str]:
        """Return the patterns of derived keys that are closed for a command which is allowed elsewhere.

        As in a script they are not declared, and so only what the command itself does to the key counts.
        """
        found = []
        for sign, (kind, names) in _DERIVED.items():
            does = frozenset[str]().union(
                *(commands_of(script) for script in called if f"'{sign}'".encode() in script.text)
            )
            key = self._key(kind)
            tried: list[tuple[Argument, ...]] = [
                (name, key, *HARMLESS[name]) for name in names if name in does and f"+{name.lower()}" not in lacks
            ]
            if any(self._is_denied(b"EVAL", _TRY, 1, open_key, *command) for command in tried):
                found.append(f"~{self._pattern(kind)}")
        return found

    def _form(self, name: str, key: bytes) -> tuple[Argument, ...]:
        if name == "TIME":
            return 0, name
        if name == "PUBLISH":
            return 0, name, self._keys.done, self._nobody
        return 1, key, name, key, *HARMLESS[name]

    def _key(self, kind: str) -> bytes:
        return self._keys(kind, self._nobody if is_a_family(kind) else "")

    def _pattern(self, kind: str) -> str:
        return self._keys.prefix.decode() + (f"{kind.partition(':')[0]}:*" if is_a_family(kind) else kind)

    def _is_denied(self, *command: Argument) -> bool:
        try:
            self._link.exchange(pack(command))
        except ResponseError as error:
            return bool(DENIED.search(str(error)))
        return False
