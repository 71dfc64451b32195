"""A process that starts as a worker does and tells what it is, for `gqueue check`.

Started as `python -m gqueue.cli.probe FD APP...`, it patches before anything else is imported, imports the apps, writes
one object to the descriptor FD, and ends; it asks no server. What the app prints goes to stderr.
"""

import sys


def main(descriptor: int, apps: list[str]) -> None:
    """Patch, import *apps*, and write what was found to *descriptor*, as JSON."""
    threads_before = len(sys._current_frames()) - 1
    import warnings

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        from gevent import monkey

        monkey.patch_all()
        queues, error = _load(apps)
    texts = {str(each.message): None for each in said if issubclass(each.category, monkey.MonkeyPatchWarning)}
    _write(
        descriptor,
        {
            **interpreter(),
            "threads_before": threads_before,
            "unpatched": [name for name in PATCHED if not monkey.is_module_patched(name) or not _is_ours(name)],
            "warnings": list(texts),
            "error": error,
            "queues": queues,
        },
    )


PATCHED = ("socket", "ssl", "select", "threading", "time", "subprocess", "signal", "os", "queue")
"""What `patch_all` patches, by the name of the module."""

_MARKS = {"socket": "socket", "ssl": "SSLContext", "select": "select", "time": "sleep", "subprocess": "Popen"}
"""Module -> a name in it that is gevent's when it is patched."""


def _is_ours(name: str) -> bool:
    import importlib

    if name not in _MARKS:
        return True
    return str(getattr(importlib.import_module(name), _MARKS[name]).__module__).startswith("gevent")


def _load(apps: list[str]) -> tuple[list[dict[str, object]], str]:
    import os
    import traceback

    os.dup2(2, 1)  # an app that prints when it is imported
    import click

    from gqueue.cli import app
    from gqueue.cli.main import AppRaised
    from gqueue.errors import GqueueError

    try:
        queues = app.load(apps)
    except AppRaised as raised:
        print(raised.trace, end="", file=sys.stderr)
        return [], raised.format_message()
    except click.ClickException as refused:
        return [], refused.format_message()
    except GqueueError as refused:
        traceback.print_exc()
        return [], str(refused)
    return [
        {
            "name": queue.name,
            "url": queue.url,
            "capacity": queue.settings.capacity,
            "lease_ms": queue.settings.rules.lease_ms,
            "tasks": list(queue.tasks),
            "signing": list(queue.settings.signing_keys.keys),  # their ids
        }
        for queue in queues
    ], ""


def interpreter() -> dict[str, object]:
    """Return what is to be told of this interpreter and its libraries; nothing is patched for it."""
    import platform
    import sysconfig
    from importlib import metadata

    from gqueue.config import failpoints
    from gqueue.core.check.process import SHOWN
    from gqueue.errors import BadSetting
    from gqueue.store.check import parser

    versions = {}
    for name in SHOWN:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = ""
    try:
        asked = ", ".join(map(str, failpoints()))
    except BadSetting as refused:
        asked = str(refused)
    return {
        "python": platform.python_version(),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "versions": versions,
        "parser": parser(),
        "failpoints": asked,
    }


def _write(descriptor: int, found: dict[str, object]) -> None:
    import json
    import os

    with os.fdopen(descriptor, "w") as file:
        json.dump(found, file)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # whatever the app has started


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
