"""`gqueue resume`: undo pause."""

import click

from gqueue.cli import target


@click.command("resume", short_help="Undo pause.")
@target.chosen
def command(apps: tuple[str, ...], names: tuple[str, ...], url: str | None) -> None:
    """Let paused queues go on."""
    for queue in target.queues(apps, names, url, named=True):
        queue.resume()
        click.echo(f"{queue.name}: resumed")
