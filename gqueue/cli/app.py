"""`--app MODULE:ATTR`: from a name on the command line to the user's queues.

Decides what is the user's mistake in naming (one line) and what is an error of the user's own code (their traceback,
then the line).
"""

import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from types import ModuleType, TracebackType

import click
from attrs import evolve

from gqueue import config
from gqueue.cli.main import AppRaised
from gqueue.queue import Queue


def load(apps: Iterable[str]) -> list[Queue]:
    """Return the queues that *apps* name, in order, each once; the current folder is on sys.path.

    Raises click.UsageError.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    queues: list[Queue] = []
    for app in apps:
        queues += [queue for queue in _load_one(app) if queue not in queues]
    names = [(queue.url, queue.name) for queue in queues]
    for url, name in names:
        if names.count((url, name)) > 1:
            raise click.UsageError(f"--app: there are two queues named {name!r} on one server; a worker can serve one")
    return queues


def override(
    queues: Iterable[Queue], *, url: str | None, capacity: int | None = None, lease: float | None = None
) -> None:
    """Have *queues* use these settings, where given, instead of their own; *lease* in seconds."""
    for queue in queues:
        queue.close()  # the app may have used it already, with the old settings
        settings = queue.settings
        if url is not None:
            settings = evolve(settings, url=config.check_url(url))
        if capacity is not None:
            settings = evolve(settings, capacity=capacity)
        if lease is not None:
            settings = evolve(settings, rules=evolve(settings.rules, lease_ms=config.to_ms("lease", lease)))
        queue.settings = settings


def _load_one(app: str) -> Sequence[Queue]:
    module_name, colon, attribute = app.partition(":")
    if not (colon and module_name and attribute):
        raise click.UsageError(f"--app {app}: expected MODULE:ATTR, as in examples.reports:queue{_instead(app)}")
    if "/" in module_name:
        raise click.UsageError(f"--app {app}: a module is named, not a file{_instead(app)}")
    module = _import(app, module_name)
    found: object = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise click.UsageError(f"--app {app}: {module_name} has no {attribute!r}{_hint(module)}")
        found = getattr(found, name)
    if isinstance(found, Queue):
        return [found]
    if isinstance(found, list | tuple) and found and all(isinstance(item, Queue) for item in found):
        return found
    raise click.UsageError(
        f"--app {app}: expected a Queue or a list of them, found {type(found).__name__}{_hint(module)}"
    )


def _import(app: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except BaseException as error:  # a module may call sys.exit, and that is no reason to end without a word
        if isinstance(error, KeyboardInterrupt):
            raise
        # No such module, or no such package around it: nobody's code ran, or none that matters.
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise click.UsageError(
                f"--app {app}: {error} (sys.path begins with {sys.path[0]!r}){_instead(app)}"
            ) from None
        if not isinstance(error, SyntaxError) and _user_frames(error) is None:
            raise click.UsageError(f"--app {app}: cannot import {name!r}: {error}") from None
        # A SyntaxError has no frames, and shows its line.
        trace = "".join(traceback.format_exception(error.with_traceback(_user_frames(error))))
        raise AppRaised(f"--app {app}: {name} raised {type(error).__name__} when it was imported", trace) from None


def _instead(app: str) -> str:
    """Return a hint at the module whose file was named instead, "" if there was none."""
    file, _, attribute = app.partition(":")
    if not (file.endswith(".py") or "/" in file):
        return ""
    module = os.path.relpath(file).removesuffix(".py").replace("/", ".")
    if not all(part.isidentifier() for part in module.split(".")):
        return ""
    return f"; did you mean {module}:{attribute or 'queue'}?"


def _user_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback from the first frame of the user's own code on, None if there is none."""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file != __file__ and not file.startswith("<frozen ") and file != importlib.__file__:
            return trace
        trace = trace.tb_next
    return None


def _hint(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, Queue)]
    return f"; it has {', '.join(names)}" if names else "; it has no Queue"
