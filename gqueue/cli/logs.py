"""What a log line looks like: text for people, JSON for programs; one line each, on stderr."""

import json
import logging
import sys
import time
from typing import Any

from gqueue.config import printable

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Attributes that every record has; what else is there came with `extra`."""


class Text(logging.Formatter):
    """`10:15:30.123 INFO jobs: text`, in local time; *process* (of --processes) stands before it."""

    def __init__(self, process: int | None = None) -> None:
        which = "" if process is None else f"[{process}] "
        super().__init__(f"%(asctime)s.%(msecs)03d {which}%(levelname)s %(short)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows it."""
        record.short = record.name.removeprefix("gqueue.")
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line, which is one: what came from a job, or from Redis, cannot begin another, or colour it.

        The app's own lines are its own matter.
        """
        line = super().formatMessage(record)
        return printable(line) if record.name.partition(".")[0] == "gqueue" else line

    def formatException(self, ei: Any) -> str:
        """Return the traceback; a message in it may have more lines, but cannot tell the terminal anything."""
        return printable(super().formatException(ei), keep="\n\t")


class Json(logging.Formatter):
    """One object a line: time (UTC), level, logger, message; process, traceback and what came with `extra`, if any."""

    def __init__(self, process: int | None = None) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. What JSON does not know is written as its repr."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._process is not None:
            line["process"] = self._process
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD and name != "short"}
        return json.dumps(line | {name: value for name, value in extra.items() if name not in line}, default=repr)


def set_up(level: str = "info", form: str = "text", process: int | None = None) -> None:
    """Send every log record of *level* and above to stderr, in this *form* (text or json)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json(process) if form == "json" else Text(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
