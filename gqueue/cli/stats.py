"""`gqueue stats`: queues in numbers, for people or, with --json, for programs."""

import json

import click
from attrs import asdict

from gqueue import config
from gqueue.cli import target
from gqueue.core.model import Stats


@click.command("stats", short_help="Show queues in numbers.")
@target.chosen
@click.option("--json", "as_json", is_flag=True, help="One object a line and queue.")
def command(apps: tuple[str, ...], names: tuple[str, ...], url: str | None, as_json: bool) -> int:
    """Show how many jobs wait, run and are dead, who is there, and what was done so far.

    Exit code 1: nothing is known of a queue that was given by --queue alone: nobody has used it yet, or its name is
    another.
    """
    code = 0
    for queue in target.queues(apps, names, url):
        stats = queue.stats()
        if names and not apps and unused(stats):
            click.echo(f"gqueue: nothing is known of a queue {queue.name!r} at {config.masked(queue.url)}", err=True)
            code = 1
            continue
        if as_json:
            click.echo(json.dumps({"queue": queue.name, "depth": stats.depth, **asdict(stats)}))
        else:
            click.echo("\n".join(lines(queue.name, stats)))
    return code


def unused(stats: Stats) -> bool:
    """Return whether *stats* are those of a queue that is not there: no jobs, workers or counts, and no settings."""
    return not any(asdict(stats).values())


def lines(name: str, stats: Stats) -> list[str]:
    """Return *stats* for people to read."""
    paused = ", PAUSED" if stats.paused else ""
    lapsed = f" ({stats.lapsed} lapsed)" if stats.lapsed else ""
    counted = (
        f"{config.name_shown(counter.replace('_', ' '))} {count:,}"
        for counter, count in sorted(stats.counters.items())
        if count
    )
    capacity = f"{stats.capacity:,}" if stats.capacity else "?"  # known from the first enqueue on
    ready, suspects, scheduled = stats.ready, stats.suspects, stats.scheduled
    return [
        f"{name}: {stats.depth:,} of {capacity} wait{paused}",
        f"  ready {ready:,}  suspect {suspects:,}  scheduled {scheduled:,}  running {stats.running:,}",
        f"  dead {stats.dead:,}  shed {stats.shed:,}",
        f"  workers {stats.workers:,}{lapsed}  producers in line {stats.waiters:,}",
        f"  so far: {', '.join(counted) or 'nothing'}",
    ]
