"""What a scenario is: a function that breaks a running `Rig`, with how large the run is and what it must hold to.

    @scenario(17, full=Setup(...), short=Setup(...), recovers=True, reached=("CLIENT KILL",))
    def client_kill(rig: Rig) -> None:
        \"\"\"What must hold; what is reported; the bound of recovery.\"\"\"

The number's name, title and bound stand in `names.py`. `run` is one run of it.
"""

import faulthandler
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from attrs import evolve, frozen

from tests.faults.history import Expect, Run
from tests.faults.rig import Rig, Setup
from tests.faults.scenarios.names import NAMES

MODULES = ("workers", "jobs", "server", "refusals", "network", "producers", "data", "sentinel")

SHORT = Setup(jobs=600, seconds=6.0, duration=0.1, lease=1.5, scale=0.5, drain=20.0, retry_for=2.0, grace=2.0)
"""The short form, for `evolve`: about 6 s of load and a drain."""

FULL = Setup()
"""The full form, for `evolve`: 10,000 jobs in a minute, two thirds of what 40 slots can do."""

BACKLOG_FULL = evolve(FULL, burst=0.5)
BACKLOG_SHORT = evolve(SHORT, burst=0.5, duration=0.6)
"""With half of the jobs there at once, for `evolve`: seconds of backlog, so that order shows."""

MARGIN_S = 1.0
"""What recovery may take beyond lease + lease/3: starting a process, and a busy machine."""

TARDY_S = 2.0
"""How long after its time a job may start where nothing keeps it: until somebody looks, and on a busy machine."""

LIMIT_S = 120.0
"""What a run may take beyond three times its load and its drain, before it is ended with all stacks."""

Act = Callable[[Rig], None]


def after_lease(setup: Setup) -> float:
    """Return how long after the fault a lost worker's jobs are taken back at the latest, in seconds."""
    return setup.lease * 4 / 3


@frozen
class Scenario:
    """One of the campaign. *recovers*: what was running when a worker was hit runs again within the promised time:
    `MARGIN_S` after *within*, in seconds of the run's setup.

    *needs* returns why it cannot be run here, "" if it can.
    """

    number: int
    act: Act
    full: Setup
    short: Setup
    expect: Expect
    recovers: bool
    within: Callable[[Setup], float]
    needs: Callable[[], str] = lambda: ""

    @property
    def name(self) -> str:
        """Return NN-slug."""
        return str(NAMES[self.number])

    @property
    def about(self) -> str:
        """Return the paragraph."""
        return self.act.__doc__ or ""

    def run(self, folder: Path, *, seed: int = 1, short: bool = False, jobs: int | None = None) -> Run:
        """Run it once in *folder*, which must not be there; *jobs*: so many instead, as fast."""
        setup = self.short if short else self.full
        if jobs is not None and setup.jobs:
            setup = evolve(setup, jobs=jobs, seconds=setup.seconds * jobs / setup.jobs)
        expect = self.expect
        if self.recovers:
            expect = msgspec.structs.replace(expect, recovery_s=round(self.within(setup) + MARGIN_S, 3))
            if expect.inversions is None:  # order is not what it shows, and behind a backlog recovery is late
                setup = evolve(setup, priorities=(0.0,))
        if (setup.raising or setup.retrying) and expect.missing is not None:  # else the total may be lost as well
            expect = msgspec.structs.replace(expect, reached=(*expect.reached, "stats: retried"))
        command = f"python -m tests.faults --scenario {self.number} --seed {seed}{' --short' if short else ''}"
        return run_once(folder, setup, self.act, self.name, expect, seed=seed, short=short, command=command)


def run_once(
    folder: Path, setup: Setup, act: Act, name: str, expect: Expect, *, seed: int, short: bool, command: str
) -> Run:
    """Start a rig, have *act* break it, drain it; a run that takes far too long ends the process with all stacks."""
    faulthandler.dump_traceback_later(3 * setup.seconds + setup.drain + LIMIT_S, exit=True)
    try:
        with Rig(folder, setup, seed=seed, short=short) as rig:
            act(rig)
            return rig.finish(name, expect, command)
    finally:
        faulthandler.cancel_dump_traceback_later()


ALL: dict[int, Scenario] = {}


def scenario(
    number: int,
    *,
    full: Setup = FULL,
    short: Setup = SHORT,
    recovers: bool = False,
    within: Callable[[Setup], float] = after_lease,
    needs: Callable[[], str] = lambda: "",
    **expect: Any,
) -> Callable[[Act], Act]:
    """Add a function to the campaign; *expect*: fields of `Expect`, of which `reached` must name something."""

    def add(act: Act) -> Act:
        if number in ALL or number not in NAMES:
            raise ValueError(f"scenario {number}: there are two, or it has no name")
        if not expect.get("reached") or not act.__doc__:
            raise ValueError(f"scenario {number}: it says nothing of what must be reached, or has no paragraph")
        ALL[number] = Scenario(number, act, full, short, Expect(**expect), recovers, within, needs)
        return act

    return add


def load() -> dict[int, Scenario]:
    """Return all scenarios, by number; a module that is not there fails, and so does a name without its scenario."""
    for module in MODULES:
        import_module(f"tests.faults.scenarios.{module}")
    if missing := NAMES.keys() - ALL.keys():
        raise LookupError(f"no scenario {', '.join(map(str, sorted(missing)))}, which names.py has")
    return dict(sorted(ALL.items()))
