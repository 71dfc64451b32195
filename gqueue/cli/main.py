"""The command line as a whole: which commands there are, and what an error looks like.

Decides that a user's mistake is one line and an exit code, and that no command but `worker` costs the import of
gevent: a command's module is imported when it is called. Exit codes: 0 clean, 1 failure, 2 usage, 3 Redis not
usable at start, 4 hub stuck.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib import metadata

import click

from gqueue import errors
from gqueue.cli.reach import Unreachable

COMMANDS = {
    "worker": "Run jobs (the default command).",
    "enqueue": "Enqueue one job.",
    "stats": "Show queues in numbers.",
    "dead": "List, redrive or delete dead letters.",
    "check": "Say what is right and wrong with Redis, this worker and its queues.",
    "fsck": "Check, and repair, the keys of a queue.",
    "acl": "Print the rights that a Redis user needs.",
    "pause": "Let no more jobs of a queue be claimed.",
    "resume": "Undo pause.",
}

USAGE = (errors.BadName, errors.BadSetting, errors.BadPayload, errors.UnknownTask, errors.PayloadTooLarge)
"""Errors that are the fault of what was typed: exit 2."""


class AppRaised(click.UsageError):
    """The app's own code raised when it was imported; *trace* is shown before the line that says so."""

    def __init__(self, message: str, trace: str) -> None:
        super().__init__(message)
        self.trace = trace


class Commands(click.Group):
    """The commands, each in the module of its name; `worker` where none is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return it."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"gqueue.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of the help without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `worker` before arguments that name no command."""
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "--version")):
            args = ["worker", *args]
        return super().parse_args(ctx, args)


def _tell_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted:
        try:
            click.echo(f"gqueue {metadata.version('gqueue')}")
        except metadata.PackageNotFoundError:
            click.echo("gqueue, run from its source without being installed")
        ctx.exit()


@click.command(cls=Commands)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_tell_version, help="Show it.")
def program() -> None:
    """A priority task queue on Redis.

    Without a command, run a worker; without --app too, the demo: a worker and a producer, on the Redis at localhost,
    or on a private one. `gqueue worker --help` shows the options.
    """


def run(args: Sequence[str]) -> int:
    """Run the program with *args*; return the exit code."""
    try:
        result = program.main(list(args), prog_name="gqueue", standalone_mode=False, obj=tuple(args))
    except (click.ClickException, errors.GqueueError) as error:
        why = error.format_message() if isinstance(error, click.ClickException) else str(error)
        trace = error.trace if isinstance(error, AppRaised) else ""
        print(f"{trace}gqueue: {why}", file=sys.stderr)
        return exit_code(error)
    except (click.Abort, KeyboardInterrupt):
        return 130
    return result if isinstance(result, int) else 0


def exit_code(error: click.ClickException | errors.GqueueError) -> int:
    """Return the exit code of a command that *error* ended."""
    if isinstance(error, click.ClickException):
        return error.exit_code
    if isinstance(error, USAGE):
        return 2
    return 3 if isinstance(error, Unreachable) else 1
