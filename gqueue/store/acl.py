"""Which rights in Redis each role needs: the keys and commands of its scripts, as their heads and code tell, no more.

Decides what a role may do (`ROLES`); that a script belongs to one is checked by a test. Redis checks a script's own
commands against its user, too, but not that the script is one of ours: who may run scripts may run any that stays
within these keys and commands. What that leaves open is in docs/security.md.
"""

from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from gqueue.store import scripts
from gqueue.store.keys import DONE, Keys, is_a_family

ALL = ("PING", "INFO", "SELECT", "CLIENT|SETNAME", "EVALSHA", "EVAL")
"""What every client sends. INFO tells the server's version; EVAL is for a server that has forgotten our scripts."""


@frozen
class Role:
    """A part that a user of Redis plays.

    Args:
        about: in a few words, for the command line.
        scripts: what it calls.
        commands: what it sends beside them, with the kind of key; "": none.
        listens: whether it hears of outcomes.
    """

    about: str
    scripts: tuple[str, ...]
    commands: tuple[tuple[str, str], ...] = ()
    listens: bool = False


_READS = ("stats", "workers", "letters", "inspect", "look")
_AUDIT = ("audit_keys", "audit_jobs", "audit_line", "audit_totals", "audit_workers")
_REPAIR = ("repair_key", "repair_job", "repair_line", "repair_totals", "repair_worker")
_OPERATES = ("pause", "resume", "set_capacity", "ask", "redrive", "delete_letters", "purge", "cancel", "set_priority")

ROLES: Mapping[str, Role] = {
    "producer": Role(
        "enqueues, waits for results, cancels",
        ("enqueue", "renew_tickets", "leave_line", "look", "await_done", "cancel", "set_priority"),
        (
            *(("BLPOP", "room:PRODUCER"), ("LPOP", "room:PRODUCER"), ("HGET", "progress"), ("SUBSCRIBE", "")),
            *(("PEXPIRE", "call:LANE"), ("WAIT", "")),  # for `durable`; servers before 7.2 know no WAITAOF to allow
        ),
        listens=True,
    ),
    "worker": Role(
        "runs jobs (tasks that enqueue, or wait for results, need producer as well)",
        ("register", "settle_and_claim", "held", "heartbeat", "fence", "reap", "leave", "report_progress", "stats"),
        (("BLPOP", "wake"),),
    ),
    "reader": Role(
        "sees numbers, workers, jobs and dead letters, and changes nothing", _READS, (("HGET", "progress"),)
    ),
    "operator": Role(
        "pauses, cancels, redrives, deletes, purges, checks and repairs",
        (*_READS, *_OPERATES, *_AUDIT, *_REPAIR),
        # The audit walks through the keys; SCAN and DBSIZE tell of all keys of the database.
        tuple((name, "") for name in ("SCAN", "DBSIZE", "HSCAN", "ZSCAN", "HLEN", "ZCARD", "HGET")),
    ),
}


def rules(queues: Sequence[str], roles: Iterable[str], *, selective: bool = True) -> list[str]:
    """Return the rules of ACL SETUSER for a user who plays *roles* in *queues*; what it was allowed before is undone.

    Passwords are left as they are.

    Args:
        selective: the server is Redis 7.0 or later, and knows keys that may be read but not written.
    """
    roles = list(roles)
    own = [ROLES[role] for role in roles]
    called = [scripts.load()[name] for role in own for name in role.scripts]
    beside = [command for role in own for command in role.commands]
    commands = frozenset[str]().union(*map(commands_of, roles))
    # What is in KEYS must be readable and writable: Redis cannot know what a script will do with it.
    full = {kind for script in called for kind in (*script.keys, *script.writes)}
    full |= {kind for name, kind in beside if name in ("BLPOP", "LPOP")}
    read = {kind for script in called for kind in script.reads}
    read |= {kind for _, kind in beside if kind}
    every = any(" " in kind for kind in full | read)  # of the audit, any key
    found = ["resetkeys", "resetchannels", "-@all"]
    for queue in queues:
        keys = Keys(queue)
        root = keys.prefix.decode()
        if every:
            found.append(f"~{root}*")
        else:
            found += [f"~{root}{_pattern(kind)}" for kind in sorted(full)]
            mark = "%R~" if selective else "~"
            found += [f"{mark}{root}{_pattern(kind)}" for kind in sorted(read - full)]
        if "PUBLISH" in commands or any(role.listens for role in own):
            found.append(f"&{root}{DONE}")
    return [*found, *(f"+{name.lower()}" for name in sorted(commands))]


def commands_of(role: str) -> frozenset[str]:
    """Return the commands of *role*: of every client, of its scripts and beside them."""
    own = ROLES[role]
    called = (scripts.load()[name].commands for name in own.scripts)
    return frozenset((*ALL, *(name for name, _ in own.commands))).union(*called)


def _pattern(kind: str) -> str:
    return f"{kind.partition(':')[0]}:*" if is_a_family(kind) else kind
