"""Options that several commands share, and the types that click has not."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from gqueue import config
from gqueue.errors import BadSetting

_F = TypeVar("_F", bound=Callable[..., Any])


class Seconds(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number of seconds, at least *least*; the command gets it as a float."""

    name = "seconds"

    def __init__(self, least: float = 0.0) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the float; refuse text, NaN and what is out of range."""
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        try:
            config.to_ms("it", seconds, least=self.least)
        except BadSetting as error:
            self.fail(str(error), param, ctx)
        return seconds


class Count(click.IntRange):
    """A whole number in a range; click's own name for it, "integer range", is no thing to be."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the int; refuse what is none, and what is out of range."""
        try:
            int(value)
        except ValueError:
            self.fail(f"{value!r} is no whole number", param, ctx)
        return super().convert(value, param, ctx)


class Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A size in bytes, or with K, M or G for the powers of 1,024, as in 512M; the command gets an int."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the int; refuse what is no size of at least 1 MiB."""
        found = re.fullmatch(r"([0-9]{1,15})([KMG]?)(?:i?B)?", str(value).strip(), re.IGNORECASE)
        if found is None:
            self.fail(f"{value!r} is no size, as in 512M or 2G", param, ctx)
        size: int = int(found[1]) * 1024 ** " KMG".index(found[2].upper() or " ")
        if size < 2**20:
            self.fail(f"{value!r} is less than a mebibyte, 1M", param, ctx)
        return size


class Weights(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Shares of the queues, as in 3,1; the command gets a tuple of ints >= 1."""

    name = "n,n,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the tuple; refuse what is no list of whole numbers from 1 to 1,000."""
        if isinstance(value, tuple):
            return value
        try:
            weights = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            weights = ()
        if not weights or not all(1 <= weight <= 1000 for weight in weights):
            self.fail(f"{value!r} is no list of whole numbers from 1 to 1,000, as in 3,1", param, ctx)
        return weights


def option(name: str, variable: str, **settings: Any) -> Callable[[_F], _F]:
    """Make an option that has an environment variable; the help shows it, and the default."""
    return click.option(name, envvar=variable, show_envvar=True, show_default=True, **settings)


def app(function: _F) -> _F:
    """Add --app."""
    return click.option(
        "--app",
        "apps",
        metavar="MODULE:ATTR",
        multiple=True,
        envvar="GQUEUE_APP",
        show_envvar=True,
        help="A Queue, or a list of them; repeatable. The current folder is on sys.path.",
    )(function)


def redis(function: _F) -> _F:
    """Add --redis. GQUEUE_REDIS_URL is read where the URL is made: a queue's own URL stands before it."""
    return click.option(
        "--redis",
        "url",
        metavar="URL",
        help="redis://, rediss://, unix://, redis+sentinel://HOST,HOST,.../SERVICE or embedded:  "
        "[env var: GQUEUE_REDIS_URL, else REDIS_URL; default: redis://localhost:6379/0]",
    )(function)


def log(function: _F) -> _F:
    """Add --log-level and --log-format."""
    levels = click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)
    forms = click.Choice(["text", "json"], case_sensitive=False)
    function = option("--log-format", "GQUEUE_LOG_FORMAT", type=forms, default="text")(function)
    return option("--log-level", "GQUEUE_LOG_LEVEL", type=levels, default="info")(function)
