"""Which rights a user of Redis lacks for a role (`acl.ROLES`) in a queue, found by trying.

ACL DRYRUN would tell, but a user with few rights may not call it, and 6.2 has not got it. So each command is sent in a
form that a server refuses anyway, or that does nothing, to a key that is of nobody: rights are looked at before that.
"""

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence

from redis.exceptions import ResponseError

from gqueue.store import scripts
from gqueue.store.acl import ROLES, Role
from gqueue.store.connection import Address, Argument, Link, pack
from gqueue.store.keys import KINDS, Keys, is_a_family
from gqueue.store.scripts import Script

DENIED = re.compile("NOPERM|user executing the script|no permission", re.IGNORECASE)
"""What 6.2, 7 and Valkey say, to a client and inside a script."""

MAY_NOT_RUN = re.compile(r"run the '[\w|-]+' command|can't run this command", re.IGNORECASE)
"""What they say if it is for the command, at which they look before the keys."""

ABSENT = re.compile(r"unknown (?:\w+ )?command", re.IGNORECASE)
"""What they say of a command that they have not got, to a client and inside a script."""

READING: Mapping[str, tuple[str, ...]] = {
    "EXISTS": (),
    "GET": (),
    "HEXISTS": ("",),
    "HGET": ("",),
    "HGETALL": (),
    "HKEYS": (),
    "HLEN": (),
    "HMGET": ("",),
    "HSCAN": ("0",),
    "HSTRLEN": ("",),
    "LLEN": (),
    "PTTL": (),
    "STRLEN": (),
    "TYPE": (),
    "ZCARD": (),
    "ZCOUNT": ("0", "0"),
    "ZMSCORE": ("",),
    "ZRANGE": ("0", "0"),
    "ZRANGEBYSCORE": ("0", "0"),
    "ZRANK": ("",),
    "ZREVRANGE": ("0", "0"),
    "ZSCAN": ("0",),
    "ZSCORE": ("",),
}
"""Command -> what stands behind the key."""

WRITING: Mapping[str, tuple[str, ...]] = {
    "HDEL": ("",),
    "HINCRBY": ("f", "no number"),
    "HSET": ("f", "v", "odd"),
    "HSETNX": ("f", "v"),
    "PERSIST": (),
    "PEXPIRE": ("no number",),
    "RPUSH": ("x",),
    "SET": ("v", "PX", "0"),
    "UNLINK": (),
    "ZADD": ("no number", "m"),
    "ZREM": ("",),
    "ZREMRANGEBYRANK": ("0", "0"),
    "ZREMRANGEBYSCORE": ("0", "0"),
}
"""Command -> what stands behind a key that is not there, so that nothing is written."""

ON_A_HASH = frozenset({"HSETNX", "RPUSH"})
"""Those that have no such form: they meet a hash with the field f, which their script makes and removes."""

KEYLESS: Mapping[str, tuple[str, ...]] = {"DBSIZE": (), "SCAN": ("0",), "TIME": (), "WAIT": ("0", "1")}
"""Command without a key -> its arguments."""

OUTSIDE: Mapping[str, tuple[str, ...]] = {"BLPOP": ("-1",), "LPOP": ("-1",), "HGET": ("",), "PEXPIRE": ("no number",)}
"""What a role sends by itself with a key of its own kind: a time-out and a count that cannot be take no hint away."""

_BY_TYPE = {"string": ("GET", "SET", "UNLINK"), "list": ("PEXPIRE",), "hash": ("HGET", "HDEL")}
"""Type of a key that scripts derive -> what tells whether it is open: reading first."""

_TRY = b"return redis.call(unpack(ARGV))"
_TRY_ON_A_HASH = b"""
redis.call('HSET', KEYS[1], 'f', 'v')
local answer = redis.pcall(unpack(ARGV))
redis.call('HDEL', KEYS[1], 'f')
return answer
"""

_TRY_ON_CLOSED = b"""
local answer = redis.pcall(unpack(ARGV))
redis.pcall('UNLINK', ARGV[2])
return answer
"""


def missing(address: Address, reply_timeout: float, queue: str, role: str) -> list[str]:
    """Return what the user of *address* lacks for *role* in *queue*, as rules of ACL SETUSER.

    A command that the server itself has not got, since it was renamed or disabled, is its bare name: `EVALSHA`.
    Nothing is written that is there afterwards, and no other's key is changed. *reply_timeout* in seconds.

    Raises:
        RedisError, OSError: for any reason but rights.
    """
    link = address.link(reply_timeout)
    try:
        link.open()
        return _Trial(link, Keys(queue)).of(ROLES[role])
    finally:
        link.close()


class _Trial:
    """One trial of one role; *_open* is a key that the user may use, *_free*: it is of nobody, and may be written."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link, self._keys = link, keys
        self._nobody = f"check-{secrets.token_hex(8)}"
        self._open, self._free = b"", False
        self._absent: list[str] = []

    def of(self, role: Role) -> list[str]:
        called = [scripts.load()[name] for name in role.scripts]
        no_scripts = [name for name in ("EVAL", "EVALSHA") if self._is_denied(name, b"return 1", 0)]
        if no_scripts or self._absent:  # then nothing else can be tried
            return [*self._absent, *(f"+{name.lower()}" for name in no_scripts)]
        closed = self._find_open_key(called)
        used = frozenset[str]().union(*(script.commands for script in called))
        denied = self._commands(used)
        allowed = used.difference(denied, self._absent) if self._open else frozenset[str]()
        closed += [kind for kind in self._derived(called, allowed) if kind not in closed]
        rest, more = self._outside(role, closed, allowed)
        closed += more
        lacks = [*self._absent, *(f"~{self._pattern(kind)}" for kind in closed)]
        for name in [*denied, *(name for name in rest if name not in denied)]:
            channel = f" &{self._keys.done.decode()}" if name in ("PUBLISH", "SUBSCRIBE") else ""
            lacks.append(f"+{name.lower()}{channel}")
        return lacks

    def _find_open_key(self, called: Sequence[Script]) -> list[str]:
        """Return the kinds of declared keys that are closed; "": all keys of the queue are needed, and one is."""
        kinds = sorted({kind for script in called for kind in script.keys}, key=is_a_family)
        closed = []
        for kind in kinds:
            if self._is_denied(b"EVAL", b"return 1", 1, self._key(kind)):
                closed.append(kind)
            else:  # the last is taken: a family, if there is one
                self._open, self._free = self._key(kind), is_a_family(kind)
        if any(" " in kind for script in called for kind in script.derived):  # any key
            if self._is_denied(b"EVAL", b"return 1", 1, self._key("")):
                closed.append("")
            else:
                self._open, self._free = self._key(""), True
        elif not self._free and not self._is_denied(b"EVAL", b"return 1", 1, self._key("")):
            self._open, self._free = self._key(""), True
        return closed

    def _commands(self, used: Iterable[str]) -> list[str]:
        denied: list[str] = []
        for name in sorted(used, key=lambda name: (name in ON_A_HASH, name)):
            on_a_key = name not in KEYLESS and name != "PUBLISH"
            if on_a_key and (not self._open or (name in WRITING and not self._free)):
                # Of nobody, and closed: refused for the key, unless it is for the command.
                form = self._form(name, self._key(""))
                if self._is_denied(b"EVAL", _TRY_ON_CLOSED, 0, *form, why=MAY_NOT_RUN):
                    denied.append(name)
                continue
            if name in ON_A_HASH and {"HSET", "HDEL"} & {*denied, *self._absent}:
                continue
            code = _TRY_ON_A_HASH if name in ON_A_HASH else _TRY
            declared = (1, self._open) if self._open else (0,)
            if self._is_denied(b"EVAL", code, *declared, *self._form(name)):
                denied.append(name)
        return denied

    def _derived(self, called: Iterable[Script], allowed: frozenset[str]) -> list[str]:
        """Return the kinds of derived keys that are closed for a command which is allowed elsewhere.

        As in a script they are not declared, and so only what the command itself does to the key counts.
        """
        closed = []
        for kind in sorted({kind for script in called for kind in script.derived if kind in KINDS}):
            does = frozenset[str]().union(*(script.commands for script in called if kind in script.derived))
            writes = any(kind in script.writes for script in called)
            tried = [
                name for name in _BY_TYPE[KINDS[kind]] if name in does & allowed and (writes or name not in WRITING)
            ]
            if any(self._is_denied(b"EVAL", _TRY, 1, self._open, *self._form(name, self._key(kind))) for name in tried):
                closed.append(kind)
        return closed

    def _outside(self, role: Role, closed: Sequence[str], allowed: frozenset[str]) -> tuple[list[str], list[str]]:
        """Return the commands that are denied, and the kinds of keys that are closed for one which is *allowed*."""
        denied: list[str] = []
        more: list[str] = []
        for name, kind in role.commands:
            if name == "SUBSCRIBE":
                continue
            if kind:
                form: tuple[Argument, ...] = (self._key(kind), *OUTSIDE[name])
            elif name in KEYLESS:
                form = KEYLESS[name]
            else:
                form = (self._open or self._key(""), *READING[name])
            closed_key = kind in closed if kind else name not in KEYLESS and not self._open
            if closed_key:
                denied += [name] if self._is_denied(name, *form, why=MAY_NOT_RUN) else []
            elif self._is_denied(name, *form):
                if kind and name in allowed:
                    more.append(kind)
                else:
                    denied.append(name)
        if role.listens and self._is_denied(b"SUBSCRIBE", self._keys.done):  # the last: nothing else may follow
            denied.append("SUBSCRIBE")
        return denied, more

    def _form(self, name: str, key: bytes = b"") -> tuple[Argument, ...]:
        if name == "PUBLISH":
            return name, self._keys.done, self._nobody
        if name in KEYLESS:
            return name, *KEYLESS[name]
        return name, key or self._open, *(WRITING[name] if name in WRITING else READING[name])

    def _key(self, kind: str) -> bytes:
        if not kind:
            return self._keys.prefix + self._nobody.encode()
        return self._keys(kind, self._nobody if is_a_family(kind) else "")

    def _pattern(self, kind: str) -> str:
        prefix = self._keys.prefix.decode()
        if not kind:
            return f"{prefix}*"
        return prefix + (f"{kind.partition(':')[0]}:*" if is_a_family(kind) else kind)

    def _is_denied(self, *command: Argument, why: re.Pattern[str] = DENIED) -> bool:
        """Return whether the user may not, for this reason; note a command that is not there, in a script too."""
        try:
            self._link.exchange(pack(command))
        except ResponseError as error:
            if ABSENT.search(str(error)):
                sent = command[3 + int(command[2])] if "called from" in str(error) else command[0]
                name = sent.decode() if isinstance(sent, bytes) else str(sent)
                self._absent += [] if name in self._absent else [name]
            return bool(why.search(str(error)))
        return False
