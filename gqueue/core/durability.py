"""How safe a job must be before its enqueue is answered, and whether it is.

Decides what the words mean and when they are met; how to learn what replicas and disks have is the store's matter.
"""

import re

from attrs import field, frozen

from gqueue.errors import BadSetting

RULE = "'replicas:N', 'fsync' or 'fsync+replicas:N', N from 1 to 100"
_WORDS = re.compile(r"(?:(fsync)|(?:(fsync)\+)?replicas:([1-9][0-9]?|100))")


@frozen
class Durability:
    """What must have the job: *replicas* of them, in memory; with *fsync* the server's disk, and theirs.

    *timeout_ms*: how long to wait for it once the job is in.
    """

    fsync: bool
    replicas: int
    timeout_ms: int = field(default=1_000, kw_only=True)

    def __str__(self) -> str:
        """Return the words for it."""
        return words(self.fsync, self.replicas)

    def met_by(self, found: "Safety") -> bool:
        """Return whether *found* is enough."""
        return found.replicas >= self.replicas and (found.fsync or not self.fsync)


@frozen
class Safety:
    """What had the jobs of an enqueue when the wait for it was over; *fsync*: the server's disk, if it was asked for.

    Of *replicas*, those count that have it on disk if fsync was asked for, else in memory.
    """

    fsync: bool
    replicas: int

    def __str__(self) -> str:
        """Return the words for it, in the form of those asked for; `replicas:0` is nothing."""
        return words(self.fsync, self.replicas)


def words(fsync: bool, replicas: int) -> str:
    """Return the words for what has a job; `replicas:0` if nothing has."""
    return "+".join([*(["fsync"] if fsync else []), *([f"replicas:{replicas}"] if replicas or not fsync else [])])


def durability(text: object, timeout_ms: int) -> Durability | None:
    """Return what *text* asks for, None of `off`; raise BadSetting, which tells the rule."""
    if text == "off":
        return None
    found = _WORDS.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise BadSetting(f"durable must be {RULE}, or 'off', not {text!r:.100}")
    alone, with_replicas, replicas = found.groups()
    return Durability(bool(alone or with_replicas), int(replicas or 0), timeout_ms=timeout_ms)
