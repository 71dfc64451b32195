"""What is right and wrong with a queue, and with the rights of who uses it."""

from collections.abc import Mapping, Sequence

from attrs import frozen

from gqueue.core.check.verdict import Line, bad, ok, unknown, warn

UNSIGNED = "records are not signed: who may write to Redis may have any task run"


@frozen
class QueueFacts:
    """One queue, as the app has it and as the server has it. None: not known.

    Args:
        tasks: names that the app registered, None if the queue was given by its name alone.
        signing: ids of the keys that records are signed with; the keys are not known here.
        capacity, lease_ms: the app's.
        meta: the settings in force, as they stand on the server.
        missing: role -> commands, keys and channels that its rights lack, as rules of ACL SETUSER (`+zadd`), and bare
            names of commands (`EVALSHA`) that the server has not got.
        flaws: what an audit found, by kind, *refused*: why there was none.
        local: its server is on this machine.
    """

    name: str
    tasks: Sequence[str] | None
    signing: Sequence[str] | None
    capacity: int | None
    lease_ms: int | None
    meta: Mapping[str, str] | None
    missing: Mapping[str, Sequence[str]]
    flaws: Mapping[str, int] | None
    refused: str = ""
    local: bool = True


def judge_queue(facts: QueueFacts) -> list[Line]:
    """Return what there is to say about a queue."""
    topic = f"queue {facts.name}"
    return [*_rights(topic, facts), *_tasks(topic, facts), *_settings(topic, facts), *_keys(topic, facts)]


def _rights(topic: str, facts: QueueFacts) -> list[Line]:
    lines = []
    for role, missing in facts.missing.items():
        lacks = [each for each in missing if each[0] in "+~&%"]
        absent = [each for each in missing if each not in lacks]
        if absent:
            seen = f"the server has no {', '.join(absent)}, which a {role} needs: renamed or disabled"
            lines.append(bad(topic, seen, "take it out of rename-command in the server's file, and start that anew"))
        if lacks:
            seen = f"the rights of a {role} are not there: {', '.join(lacks)}"
            if {"+eval", "+evalsha"} & set(lacks):
                seen += " (without which no other can be tried)"
            lines.append(bad(topic, seen, f"gqueue acl --queue {facts.name} --role {role} prints all of them"))
        if not missing:
            lines.append(ok(topic, f"the rights of a {role} are there"))
    return lines


def _tasks(topic: str, facts: QueueFacts) -> list[Line]:
    lines = []
    if facts.tasks is not None and not facts.tasks:
        advice = "import the modules of its tasks where the queue is made, or in the module of --app"
        lines.append(warn(topic, "the app has no task for it: its jobs would die as unknown_task", advice))
    elif facts.tasks:
        some = ", ".join(sorted(facts.tasks)[:10])
        more = f", and {len(facts.tasks) - 10} more" if len(facts.tasks) > 10 else ""
        lines.append(ok(topic, f"{len(facts.tasks)} {'task' if len(facts.tasks) == 1 else 'tasks'}: {some}{more}"))
    if facts.signing is not None:
        if facts.signing:
            lines.append(ok(topic, f"records are signed, by key {facts.signing[0]} of {len(facts.signing)}"))
        elif facts.local:
            lines.append(ok(topic, UNSIGNED))
        else:
            lines.append(warn(topic, UNSIGNED, "set GQUEUE_SIGNING_KEYS, for all producers first: docs/security.md"))
    return lines


def _settings(topic: str, facts: QueueFacts) -> list[Line]:
    meta = facts.meta
    if meta is None:
        return [unknown(topic, "what is in force may not be read")]
    lines = []
    if meta.get("paused", "0") == "1":
        lines.append(warn(topic, "it is paused: no job is claimed", f"gqueue resume --queue {facts.name}"))
    operators, last = meta.get("capacity_set"), meta.get("capacity")
    if operators:
        own = f"; the app's {facts.capacity:,} is overruled" if facts.capacity else ""
        lines.append(ok(topic, f"capacity {_shown(operators)}, set by an operator{own}"))
    elif last and facts.capacity and last != str(facts.capacity):
        seen = f"capacity {_shown(last)} came with the last enqueue, but the app has {facts.capacity:,}"
        lines.append(warn(topic, seen, "give all producers the same, or set_capacity"))
    elif last:
        lines.append(ok(topic, f"capacity {_shown(last)}"))
    lease = meta.get("lease")
    if lease and facts.lease_ms and lease.isdecimal() and int(lease) != facts.lease_ms:
        seen = f"the lease in force is {int(lease) / 1000:g} s, the longest of its workers; the app has "
        seen += f"{facts.lease_ms / 1000:g} s"
        lines.append(warn(topic, seen, "give all workers the same: the longest counts for all"))
    elif lease:
        lines.append(ok(topic, f"lease {_seconds(lease)}"))
    return lines or [ok(topic, "nobody has used it yet")]


def _keys(topic: str, facts: QueueFacts) -> list[Line]:
    if facts.flaws is None:
        return [unknown(topic, facts.refused or "its keys were not looked through")]
    total = sum(facts.flaws.values())
    if not total:
        return [ok(topic, "its keys fit together")]
    kinds = ", ".join(f"{flaw.replace('_', ' ')} {count:,}" for flaw, count in sorted(facts.flaws.items()))
    seen = f"{total:,} {'finding' if total == 1 else 'findings'} in its keys: {kinds}"
    return [bad(topic, seen, f"gqueue fsck {facts.name}, then with --repair")]


def _shown(number: str) -> str:
    return f"{int(number):,}" if number.isdecimal() else number


def _seconds(ms: str) -> str:
    return f"{int(ms) / 1000:g} s" if ms.isdecimal() else f"{ms} ms"
