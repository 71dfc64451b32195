"""`gqueue pause`: let no more jobs of a queue be claimed."""

import click

from gqueue.cli import target


@click.command("pause", short_help="Let no more jobs of a queue be claimed.")
@target.chosen
def command(apps: tuple[str, ...], names: tuple[str, ...], url: str | None) -> None:
    """Pause queues: running jobs go on, producers may enqueue until the queue is full, nothing new is claimed."""
    for queue in target.queues(apps, names, url, named=True):
        queue.pause()
        click.echo(f"{queue.name}: paused")
