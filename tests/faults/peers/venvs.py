"""An environment for each queue, made when it is first wanted, under the user's cache."""

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

from tests.faults.peers.systems import System

TASKS_NEED = ("msgspec>=0.19",)
"""What the history is written with."""


def programs(system: System) -> Path:
    """Return the folder of the programs of *system*'s environment; make it if it is not there. Needs the network then.

    Raises:
        subprocess.CalledProcessError: pip failed; what it said is on stderr.
    """
    if not system.installs:
        return Path(sys.executable).parent
    wanted = "\n".join((sys.version, *system.installs, *TASKS_NEED))
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gqueue-peers"
    folder = base / f"{system.app.removesuffix('_app')}-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    base.mkdir(parents=True, exist_ok=True)
    with (base / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "installed"
        if not done.exists():
            print(f"making an environment for {system.label} in {folder}", file=sys.stderr)
            venv.create(folder, with_pip=True, clear=True)
            command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *system.installs, *TASKS_NEED]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            done.write_text(wanted)
    return folder / "bin"
