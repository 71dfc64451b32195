"""An environment for each queue, made when it is first wanted, under the user's cache."""

import sys
from pathlib import Path

from benchmarks.queues import environments
from tests.faults.peers.systems import System

TASKS_NEED = ("msgspec>=0.19",)
"""What the history is written with."""


def programs(system: System) -> Path:
    """Return the folder of the programs of *system*'s environment; make it if it is not there. Needs the network then.

    Raises:
        CannotInstall: pip failed.
    """
    if not system.installs:
        return Path(sys.executable).parent
    return environments.python(system.app.removesuffix("_app"), (*system.installs, *TASKS_NEED))
