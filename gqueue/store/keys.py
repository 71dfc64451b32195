"""The names of a queue's keys: one table, which the heads of the Lua scripts refer to.

All keys of a queue carry the hash tag of its name, so that they live on one node of a Redis Cluster. A new kind of
key begins here, with its type: what counts, checks or removes a queue walks this table.
"""

from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    "ready": "zset",
    "suspects": "zset",
    "scheduled": "zset",
    "jobs": "hash",
    "running:WORKER": "hash",
    "workers": "zset",
    "lapsed": "zset",
    "calls": "hash",
    "call:LANE": "string",
    "attempts": "hash",
    "crashes": "hash",
    "cancels": "hash",
    "asked": "hash",
    "leases": "hash",
    "progress": "hash",
    "dead": "zset",
    "dead:jobs": "hash",
    "shed": "zset",
    "result:ID": "string",
    "awaited": "zset",
    "waiters": "zset",
    "tickets": "zset",
    "wake": "list",
    "room:PRODUCER": "list",
    "meta": "hash",
    "stats": "hash",
}
"""Kind of key -> Redis type. A part in capitals stands for an id; the other kinds are one key a queue."""

EXPIRING = frozenset({"call:LANE", "result:ID", "room:PRODUCER"})
"""Keys that have a time to live; no other has: an evicting Redis must not be able to drop a job."""

DERIVED = frozenset({"room:PRODUCER", "result:ID"})
"""What a script may derive from a declared key of the same queue; every other key must be in its KEYS."""

DONE = "done"
"""The pub/sub channel on which awaited jobs are published once they are done."""


class Keys:
    """The keys of one queue, as bytes."""

    def __init__(self, queue: str) -> None:
        self.prefix = f"gq:{{{queue}}}:".encode()
        self.done = self.prefix + DONE.encode()
        self._fixed = {kind: self.prefix + kind.encode() for kind in KINDS if not is_a_family(kind)}

    def __call__(self, kind: str, owner: str | None = None) -> bytes:
        """Return the key of *kind*; *owner* is the id that stands for the capitals of a family.

        Only of what expires it may be "": the outcome of a job without an id, which damage makes, is a key.
        """
        fixed = self._fixed.get(kind)
        if fixed is not None:
            return fixed
        if kind not in KINDS or owner is None or not (owner or kind in EXPIRING):
            raise KeyError(f"{kind} (owner {owner!r}) names no key of a queue")
        return self.prefix + f"{kind.partition(':')[0]}:{owner}".encode("utf-8", "surrogateescape")

    def kind_of(self, key: bytes) -> tuple[str, str]:
        """Return (kind, owner) of a key of this queue; raise KeyError for any other key."""
        if not key.startswith(self.prefix):
            raise KeyError(f"{key!r} is no key of this queue")
        rest = key[len(self.prefix) :].decode("utf-8", "surrogateescape")
        if rest in KINDS and not is_a_family(rest):
            return rest, ""
        head, colon, owner = rest.partition(":")
        for kind in KINDS:
            if is_a_family(kind) and kind.partition(":")[0] == head and colon and (owner or kind in EXPIRING):
                return kind, owner
        raise KeyError(f"{key!r} is of no kind that a queue has")


def is_a_family(kind: str) -> bool:
    """Return whether *kind* is many keys, one for each id."""
    return kind.partition(":")[2].isupper()
