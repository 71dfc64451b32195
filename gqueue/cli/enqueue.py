"""`gqueue enqueue`: one job, from the command line.

Decides how text becomes arguments: each is JSON if it can be read as such, else a str; NAME=VALUE is a keyword.
"""

import json
from typing import TYPE_CHECKING, Any

import click

from gqueue.cli import logs, options
from gqueue.errors import JobCancelled, JobFailed, UnknownJob, UnknownTask

if TYPE_CHECKING:
    from gqueue.job import JobHandle
    from gqueue.queue import Queue


class Enqueue(click.Command):
    """The command; an argument that click takes for an option gets a word on how to write it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse *args*; raise click.NoSuchOption."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.possibilities:
                raise
            why = f"{error.option_name} is no option; put -- before arguments that begin with a dash, as in TASK -- -5"
            raise click.NoSuchOption(error.option_name, why, ctx=ctx) from None


@click.command("enqueue", cls=Enqueue, short_help="Enqueue one job.")
@click.argument("task")
@click.argument("arguments", nargs=-1)
@options.app
@options.redis
@click.option("--priority", type=float, help="Lower runs first.  [default: the task's own]")
@click.option("--delay", type=options.Seconds(), help="Seconds before it may run.")
@click.option("--job-id", help="An id of your own: enqueued twice, it is there once.")
@click.option(
    "--when-full",
    type=click.Choice(["wait", "reject", "shed"]),
    help="Wait for room, be refused, or displace the least urgent job.  [default: wait]",
)
@click.option("--wait-timeout", type=options.Seconds(), help="Seconds to wait for room.  [default: the queue's]")
@click.option(
    "--wait",
    is_flag=True,
    help="Wait for the result and print it as JSON, that of a sensitive task not; exit 1 if there is none.",
)
@options.log
def command(
    task: str, arguments: tuple[str, ...], apps: tuple[str, ...], url: str | None, wait: bool, **chosen: Any
) -> int:
    """Enqueue TASK with ARGUMENTS and print the job's id.

    An argument is read as JSON if it is JSON, else taken as text; NAME=VALUE is a keyword argument. Put -- before
    the first that begins with a minus sign: gqueue enqueue sum_first --priority -1 -- -5
    """
    logs.set_up(chosen.pop("log_level"), chosen.pop("log_format"))
    queue = _queue(task, apps, url)
    args, kwargs = read_arguments(arguments)
    given = {name: value for name, value in chosen.items() if value is not None}
    try:
        job = queue.tasks[task].options(**given).enqueue(*args, **kwargs)
        click.echo(job.id)
        return _show_result(job, queue.tasks[task].sensitive) if wait else 0
    finally:
        queue.close()


def _show_result(job: "JobHandle[Any]", sensitive: bool) -> int:
    try:
        value = job.result()
    except (JobFailed, JobCancelled, UnknownJob) as error:
        click.echo(f"gqueue: {error}", err=True)
        return 1
    if sensitive:
        how = f"in Python, queue.fetch_job({job.id!r}).result() has it"
        click.echo(f"gqueue: it succeeded; the result is withheld, since the task is sensitive: {how}", err=True)
    else:
        click.echo(json.dumps(value, ensure_ascii=False))
    return 0


def read_arguments(texts: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and keyword arguments in *texts*.

    >>> read_arguments(("10", "ten", "[1, 2]", "deep=true", '"10"'))
    ([10, 'ten', [1, 2], '10'], {'deep': True})
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name.isidentifier():
            kwargs[name] = _read(value)
        else:
            args.append(_read(text))
    return args, kwargs


def _read(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity are no JSON: text, then


def _queue(task: str, apps: tuple[str, ...], url: str | None) -> "Queue":
    """Return the queue that has *task*, whose server answers; raise UnknownTask, Unreachable."""
    from gqueue.cli import app, reach

    if not apps:
        return _demo_queue(task, url)
    queues = app.load(apps)
    found = [queue for queue in queues if task in queue.tasks]
    if not found:
        raise _unknown(task, queues)
    if len(found) > 1:
        raise click.UsageError(f"task {task!r} is in several queues: {', '.join(queue.name for queue in found)}")
    app.override(found, url=url)
    reach.check(found[0].url)
    return found[0]


def _demo_queue(task: str, url: str | None) -> "Queue":
    from gqueue import demo
    from gqueue.cli import reach

    if task not in (queue := demo.make_queue("memory:")).tasks:
        raise _unknown(task, [queue])
    queue = demo.make_queue(reach.find_for_demo(url))
    reach.check(queue.url)
    # The capacity in force is what the last enqueue brought: leave it as the demo's producer has set it.
    return demo.make_queue(queue.url, capacity=queue.stats().capacity or demo.CAPACITY)


def _unknown(task: str, queues: "list[Queue]") -> UnknownTask:
    known = sorted({name for queue in queues for name in queue.tasks})
    return UnknownTask(f"no task {task!r}; there are: {', '.join(known) or 'none'}")
