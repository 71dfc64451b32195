"""`gqueue check`: what is right and wrong with the server, with a worker that starts here, and with an app's queues."""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from types import MappingProxyType
from typing import Any

import click
from attrs import asdict, evolve, frozen

from gqueue import config
from gqueue.cli import logs, probe, target
from gqueue.cli.acl import ROLES
from gqueue.core.check.process import ProcessFacts, judge_process
from gqueue.core.check.queues import QueueFacts, judge_queue
from gqueue.core.check.server import judge_server
from gqueue.core.check.verdict import Line, Verdict, bad, is_bad, ok
from gqueue.errors import BadSetting, GqueueError, StoreUnavailable

IMPORT_S = 60
"""How long the process may take that imports the app."""

STDERR = 2
"""Where what the app prints goes: the lines are on stdout."""


@frozen
class Asked:
    """A queue that is to be looked at; what an app says of it is None where it has none."""

    name: str
    url: str
    capacity: int | None = None
    lease_ms: int | None = None
    tasks: tuple[str, ...] | None = None
    signing: tuple[str, ...] | None = None


@click.command("check", short_help="Say what is right and wrong with Redis, this worker and its queues.")
@target.chosen
@click.option(
    "--role",
    "roles",
    type=click.Choice(ROLES),
    multiple=True,
    default=("worker",),
    show_default=True,
    help="Whose rights the user of Redis must have; repeatable.",
)
@click.option(
    "--keys/--no-keys", default=True, help="Look through the keys of the queues, as fsck does.  [default: do]"
)
@click.option("--json", "as_json", is_flag=True, help="One object a line, then one that sums up.")
def command(
    apps: tuple[str, ...],
    names: tuple[str, ...],
    url: str | None,
    roles: tuple[str, ...],
    keys: bool,
    as_json: bool,
) -> int:
    """Check the server, the worker's process as it would start here, and the queues of the app.

    Each line is ok, warn (may do harm), bad (breaks what gqueue promises, or work itself), or unknown (it may not be
    asked); below it, what to do. No job is run, and nothing is changed.

    Exit code 1: something is bad.
    """
    logs.set_up("error")
    lines: list[Line] = []
    for line in check(apps, names, url, roles, keys):
        lines.append(line)
        click.echo(json.dumps({**asdict(line), "verdict": line.verdict.value}) if as_json else shown(line))
    counts = Counter(line.verdict for line in lines)
    if as_json:
        click.echo(json.dumps({verdict.value: counts[verdict] for verdict in Verdict}))
    else:
        click.echo(", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict))
    return 1 if is_bad(lines) else 0


def shown(line: Line) -> str:
    """Return *line* for people to read."""
    advice = f"\n{'':10}-> {line.advice}" if line.advice else ""
    return f"{line.verdict.value:9} {line.topic}: {line.seen}{advice}"


def check(
    apps: Iterable[str], names: Iterable[str], url: str | None, roles: Iterable[str], keys: bool
) -> Iterator[Line]:
    """Yield what there is to say: of the process, of each server, of each queue on it."""
    facts, queues = process(apps)
    yield from judge_process(facts)
    if url is not None:
        queues = [evolve(queue, url=config.check_url(url)) for queue in queues]
    wanted = list(names)
    if wanted:
        known = {queue.name: queue for queue in queues}
        queues = [known.get(name) or Asked(name, config.redis_url(url)) for name in wanted]
    for where in dict.fromkeys(queue.url for queue in queues) or [config.redis_url(url)]:
        yield from _server(where, [queue for queue in queues if queue.url == where], list(roles), keys)


def process(apps: Iterable[str]) -> tuple[ProcessFacts, list[Asked]]:
    """Return what a process is that starts as a worker does, and the queues of *apps*."""
    given = list(apps)
    with tempfile.TemporaryFile("w+") as answer:
        command = [sys.executable, "-m", "gqueue.cli.probe", str(answer.fileno()), *given]
        try:
            ended = subprocess.run(
                command, pass_fds=[answer.fileno()], stdin=subprocess.DEVNULL, stdout=STDERR, timeout=IMPORT_S
            )
            why = f"the process that was to import it ended with {ended.returncode}, and told nothing"
        except subprocess.TimeoutExpired:
            why = f"its import was not done after {IMPORT_S} s"
        answer.seek(0)
        text = answer.read()
    found: dict[str, Any]
    if text:
        found = json.loads(text)
    else:
        found = {**probe.interpreter(), **dict.fromkeys(("threads_before", "unpatched", "warnings")), "queues": []}
        found["error"] = why
    queues = [
        Asked(**{**queue, "tasks": tuple(queue["tasks"]), "signing": tuple(queue["signing"])})
        for queue in found.pop("queues")
    ]
    return ProcessFacts(**found, apps=given), queues


def _server(url: str, queues: list[Asked], roles: list[str], keys: bool) -> Iterator[Line]:
    if url.startswith("memory:"):
        yield ok("server", "the memory of one process: there is nothing to ask")
        for queue in queues:
            yield from judge_queue(_facts(queue, refused="there are no keys"))
        return
    if url.startswith("embedded:"):
        from gqueue import embedded

        url = embedded.serve()
    from gqueue.store import check as asking

    local = asking.is_local(url)
    try:
        yield from judge_server(asking.ask(url))
    except (StoreUnavailable, BadSetting) as error:
        yield bad("server", str(error), getattr(error, "advice", "give another URL"))
        for queue in queues:
            yield from judge_queue(_facts(queue, refused="the server was not asked", local=local))
        return
    for queue in queues:
        try:
            missing = {role: asking.rights_missing(url, queue.name, role) for role in roles}
            meta = asking.settings_in_force(url, queue.name)
            flaws, refused = _audit(queue.name, url) if keys else (None, "its keys were not looked through")
        except StoreUnavailable as error:
            yield bad(f"queue {queue.name}", str(error), "check again")
        else:
            yield from judge_queue(_facts(queue, meta, missing, flaws, refused, local))


def _facts(
    queue: Asked,
    meta: Mapping[str, str] | None = None,
    missing: Mapping[str, list[str]] = MappingProxyType({}),
    flaws: Mapping[str, int] | None = None,
    refused: str = "",
    local: bool = True,
) -> QueueFacts:
    return QueueFacts(
        name=queue.name,
        tasks=queue.tasks,
        capacity=queue.capacity,
        lease_ms=queue.lease_ms,
        signing=queue.signing,
        meta=meta,
        missing=missing,
        flaws=flaws,
        refused=refused,
        local=local,
    )


def _audit(name: str, url: str) -> tuple[Mapping[str, int] | None, str]:
    from gqueue.queue import Queue
    from gqueue.store.audit import audit

    queue = Queue(name, url)
    try:
        with closing(queue.open_store()) as store:
            return Counter(finding.flaw.value for finding in audit(store)), ""
    except StoreUnavailable:
        raise
    except GqueueError as error:
        return None, f"its keys may not be looked through: {error}"
