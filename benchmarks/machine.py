"""What is measured on: machine, versions, commit."""

import importlib.metadata
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import reference
from benchmarks.server import PLAIN
from gqueue.embedded import find_server


def machine() -> dict[str, object]:
    """Return what stands over the figures."""
    versions = {name: importlib.metadata.version(name) for name in ("gevent", "redis", "hiredis", "msgspec")}
    settings = " ".join(f'{name} "{value}"' for name, value in PLAIN.items())
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "gqueue/": _tree(),
        "cpu": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()}, " + ", ".join(f"{name} {found}" for name, found in versions.items()),
        "redis-server": f"{'.'.join(map(str, find_server().version))}, {settings}, on loopback",
        "reference": reference.measured_by(),
    }


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()


UNMEASURED = ("results", "README.md", "limits.toml", "baseline.json")
"""What is in this folder, but changes no figure: one benchmark writes there before the next begins."""


def _commit() -> str:
    """Return the commit measured, with a + if what is measured differs from it; empty outside a checkout."""
    if not (found := _git("describe", "--always")):
        return ""
    clean = _git("diff", "--quiet", "HEAD", "--", ":/", *(f":(exclude){name}" for name in UNMEASURED)) is not None
    return found + "+" * (not clean)


def _tree() -> str:
    """Return git's name of what is in gqueue/, equal in all commits that do not change it; empty as `_commit`."""
    found = _git("rev-parse", "--short", "HEAD:gqueue")
    return f"tree {found}" if found else ""


def _git(*command: str) -> str | None:
    """Return what git says, None if it fails."""
    try:
        ended = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *command], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return ended.stdout.strip()
