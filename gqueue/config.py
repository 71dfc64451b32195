"""Settings: frozen values, built once at the edge and handed down; the only reader of the environment.

Decides defaults, ranges and where a setting comes from. What the command line offers is in `cli`, whose options click
reads from their GQUEUE_ variables; everything else that hangs on the environment is asked for here.
"""

import math
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from attrs import frozen

from gqueue.core.model import Rules
from gqueue.errors import BadSetting

DEFAULT_URL = "redis://localhost:6379/0"
DEFAULT_CAPACITY = 100_000
DEFAULT_LEASE_S = 30.0
DEFAULT_RESULT_TTL_S = 300.0
DEFAULT_TIMEOUT_S = 60.0
MAX_SECONDS = 10 * 365 * 86_400.0

Seconds = float | timedelta


def redis_url(url: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return where Redis is: *url*, else GQUEUE_REDIS_URL, else REDIS_URL, else localhost."""
    return url or environ.get("GQUEUE_REDIS_URL") or environ.get("REDIS_URL") or DEFAULT_URL


def url_is_given(url: str | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether anybody said where Redis is: only if not may the demo fall back to the embedded server."""
    return bool(url or environ.get("GQUEUE_REDIS_URL") or environ.get("REDIS_URL"))


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the embedded server keeps its data: gqueue in $XDG_STATE_HOME (if absolute), else ~/.local/state."""
    base = Path(environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.local/state").expanduser()) / "gqueue"


def to_ms(name: str, value: Seconds, *, least: float = 0.0, most: float = MAX_SECONDS) -> int:
    """Return seconds or a timedelta as whole milliseconds; raise BadSetting outside [least, most] seconds."""
    seconds: object = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise BadSetting(f"{name} must be seconds (a number) or a timedelta, not {value!r}")
    if not least <= seconds <= most:
        raise BadSetting(f"{name} must be from {least:g} to {most:g} seconds, not {seconds:g}")
    return math.ceil(seconds * 1000)


def to_count(name: str, value: object, *, least: int = 1, most: int = 2**31 - 1) -> int:
    """Return *value* if it is an int in [least, most]; raise BadSetting."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadSetting(f"{name} must be a whole number from {least:,} to {most:,}, not {value!r}")
    return value


@frozen
class QueueSettings:
    """What a Queue is made with; see `gqueue.Queue` for the meaning of each."""

    name: str
    url: str
    capacity: int
    rules: Rules
    max_payload_bytes: int = 1024 * 1024
    retry_for_ms: int = 10_000


@frozen
class WorkerOptions:
    """How a worker process runs.

    Args:
        slots: greenlets that run jobs, shared by all queues of the process; >= 1.
        grace_ms: how long a drain lets running jobs go on.
        burst: end when the queues are empty.
        weights: shares of the queues, in their order; None: strictly in the order given.
        stuck_after_ms: a hub that has not turned for so long beyond a job's limit ends the process (exit 4).
        log_jobs: one line a job at INFO; at DEBUG they come anyway.
    """

    slots: int = 50
    grace_ms: int = 30_000
    burst: bool = False
    weights: tuple[int, ...] | None = None
    stuck_after_ms: int = 30_000
    log_jobs: bool = False


def failpoints(environ: Mapping[str, str] = os.environ) -> Mapping[str, str]:
    """Return the failpoints that are switched on, name -> action, from GQUEUE_FAILPOINTS (`name=action,...`)."""
    pairs = (part.partition("=") for part in environ.get("GQUEUE_FAILPOINTS", "").split(",") if part)
    return {name.strip(): action.strip() for name, _, action in pairs}
