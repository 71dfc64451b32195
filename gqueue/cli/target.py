"""Which queues an operator's command is about: those of --app, those named by --queue, or the demo's."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gqueue.cli import options

if TYPE_CHECKING:
    from gqueue.queue import Queue

DEMO = "demo"
"""The demo's queue, which may be in its private server, whoever asks for it by name."""

_F = TypeVar("_F", bound=Callable[..., Any])


def chosen(function: _F) -> _F:
    """Add --app, --queue and --redis."""
    name = click.option("--queue", "names", metavar="NAME", multiple=True, help="A queue by its name; repeatable.")
    return options.app(name(options.redis(function)))


def queues(apps: Sequence[str], names: Sequence[str], url: str | None, *, named: bool = False) -> "list[Queue]":
    """Return the queues, none of them used yet; their servers answer.

    With --app and --queue, those of the app that have one of the names. *named*: one of them must be given, since the
    command changes something; else the demo's is taken.

    Raises Unreachable, click.UsageError.
    """
    from gqueue.cli import app, logs, reach
    from gqueue.queue import Queue

    if named and not (apps or names):
        raise click.UsageError("which queue? Give --app MODULE:ATTR or --queue NAME (the demo's is --queue demo)")
    logs.set_up("warning")
    if apps:
        found = app.load(apps)
        app.override(found, url=url)
        unknown = [name for name in names if name not in {queue.name for queue in found}]
        if unknown:
            raise click.UsageError(f"--queue {unknown[0]}: the app has {', '.join(queue.name for queue in found)}")
        found = [queue for queue in found if not names or queue.name in names]
    elif names:
        found = [Queue(name, _url_of(name, url)) for name in names]
    else:
        found = [Queue(DEMO, reach.find_for_demo(url))]
    for where in {queue.url for queue in found}:
        reach.check(where)
    return found


def one_queue(apps: Sequence[str], names: Sequence[str], url: str | None) -> "Queue":
    """Return the only queue that is meant; raise click.UsageError if there are several, or none is named."""
    found = queues(apps, names, url, named=True)
    if len(found) > 1:
        raise click.UsageError(f"which one? Add --queue: {', '.join(queue.name for queue in found)}")
    return found[0]


def _url_of(name: str, url: str | None) -> str | None:
    from gqueue.cli import reach

    return reach.find_for_demo(url) if name == DEMO else url
