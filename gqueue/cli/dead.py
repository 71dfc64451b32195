"""`gqueue dead`: look at dead letters, put them back, forget them."""

import hashlib
import json
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gqueue.cli import options, target
from gqueue.config import name_shown, printable

if TYPE_CHECKING:
    from gqueue.letters import DeadLetter
    from gqueue.queue import Queue

_F = TypeVar("_F", bound=Callable[..., Any])

MOST = 20_000
"""More than any queue keeps by default."""


@click.group("dead", invoke_without_command=True, short_help="List, redrive or delete dead letters.")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Look at dead letters, put them back into the queue, or forget them."""
    if ctx.invoked_subcommand is None:
        raise click.UsageError("dead: list, redrive or delete? See gqueue dead --help")


def _ids(function: _F) -> _F:
    everything = click.option("--all", "everything", is_flag=True, help="All that are there.")
    return click.argument("job_ids", metavar="[JOB_ID]...", nargs=-1)(everything(function))


@command.command("list")
@target.chosen
@click.option("--limit", type=options.Count(1, MOST), default=20, show_default=True)
@click.option("--shed", is_flag=True, help="Those that were displaced from a full queue.")
@click.option("--traceback", is_flag=True, help="With the traceback of the last attempt.")
@click.option("--json", "as_json", is_flag=True, help="One object a line.")
def list_letters(
    apps: tuple[str, ...],
    names: tuple[str, ...],
    url: str | None,
    limit: int,
    shed: bool,
    traceback: bool,
    as_json: bool,
) -> None:
    """List dead letters, newest first."""
    for queue in target.queues(apps, names, url):
        for letter in queue.dead.list(limit, shed=shed):
            click.echo(json.dumps(_as_data(queue.name, letter)) if as_json else _line(queue.name, letter))
            if traceback and letter.traceback and not as_json:
                trace = printable(letter.traceback.rstrip(), keep="\n\t")
                click.echo("    " + trace.replace("\n", "\n    "))


@command.command("redrive")
@_ids
@target.chosen
@click.option("--force", is_flag=True, help="Even if the queue is full.")
def redrive(job_ids: tuple[str, ...], everything: bool, force: bool, **where: Any) -> int:
    """Put dead letters back into the queue, as many as there is room for; print the ids of those that went back.

    Exit code 1: some did not, for want of room or because they are no dead letters.
    """
    _check(job_ids, everything)
    queue = target.one_queue(**where)
    chosen = _chosen(job_ids, everything, queue)
    back = queue.dead.redrive(chosen, force=force)
    for job_id in back:
        click.echo(name_shown(job_id))
    return 0 if len(back) == len(set(chosen)) else 1


@command.command("delete")
@_ids
@target.chosen
def delete(job_ids: tuple[str, ...], everything: bool, **where: Any) -> int:
    """Forget dead letters; print how many. Exit code 1: some of those named were none."""
    _check(job_ids, everything)
    queue = target.one_queue(**where)
    chosen = _chosen(job_ids, everything, queue, sheds=(False, True))
    count = queue.dead.delete(chosen)
    click.echo(count)
    return 0 if count == len(set(chosen)) else 1


def _check(job_ids: tuple[str, ...], everything: bool) -> None:
    if bool(job_ids) == everything:
        raise click.UsageError("name the jobs by their ids, or give --all")


def _chosen(
    job_ids: tuple[str, ...], everything: bool, queue: "Queue", sheds: tuple[bool, ...] = (False,)
) -> list[str]:
    if not everything:
        return list(job_ids)
    return [letter.id for shed in sheds for letter in queue.dead.list(MOST, shed=shed)]


def _line(queue: str, letter: "DeadLetter") -> str:
    # Of large ones only what may fit is looked at.
    args = [repr(value)[:100] for value in letter.args[:50]]
    args += [f"{name}={value!r}"[:100] for name, value in islice(letter.kwargs.items(), 50)]
    if letter.task is None:  # of whose task nobody knows whether it is sensitive
        digest = hashlib.sha256(letter.record).hexdigest()[:12]
        call = f"an unreadable record ({len(letter.record):,} bytes, sha256 {digest})"
    else:
        call = f"{letter.task}({'<sensitive>' if letter.sensitive else ', '.join(args)})"
    shown = call if len(call) <= 100 else call[:97] + "..."
    error = " ".join(letter.error.split())
    job = f"{queue} {name_shown(letter.id)} {shown}"
    return printable(
        f"{letter.died_at:%Y-%m-%d %H:%M:%SZ} {job}: {letter.reason.replace('_', ' ')} "
        f"after {letter.attempts} {'attempt' if letter.attempts == 1 else 'attempts'}{': ' if error else ''}{error}"
    )


def _as_data(queue: str, letter: "DeadLetter") -> dict[str, object]:
    return {
        "queue": queue,
        "id": letter.id,
        "task": letter.task,
        "args": letter.args,
        "kwargs": letter.kwargs,
        "priority": letter.priority,
        "reason": letter.reason,
        "error": letter.error,
        "traceback": letter.traceback,
        "attempts": letter.attempts,
        "crashes": letter.crashes,
        "sensitive": letter.sensitive,
        "died_at": letter.died_at.isoformat(),
    }
