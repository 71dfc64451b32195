"""Put other queues, and gqueue in the same form, through those faults of the campaign that can be done to any queue.

Each run leaves a folder in --out; `python -m tests.faults.report OUT` judges them, stores the results and makes the
table in docs/faults.md. Most of the time is waiting for timeouts. Queues are installed from the package index when
they are first wanted, each into an environment of its own under the user's cache.
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from tests.faults.checker import check_folder
from tests.faults.history import Expect
from tests.faults.peers.acts import ACTS, Act
from tests.faults.peers.run import Trial
from tests.faults.peers.systems import SYSTEMS, TIMEOUT_S, System
from tests.faults.peers.venvs import programs
from tests.processes import ROOT
from tests.servers import on_path

COMMAND = "python -m tests.faults.peers"
OURS = "gqueue"
ANY = 10**9


@click.command(help=__doc__)
@click.option("--peer", "names", type=click.Choice(list(SYSTEMS)), multiple=True, help="Only these; repeatable.")
@click.option(
    "--scenario", "numbers", type=click.Choice([str(number) for number in ACTS]), multiple=True, help="Likewise."
)
@click.option("--seed", type=int, default=1, show_default=True, help="What chance chooses by.")
@click.option("--short", is_flag=True, help="200 jobs in 8 s, to see that all works; no figures.")
@click.option("--at-once", type=click.IntRange(1), default=3, show_default=True, help="Runs at a time.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the runs.  [default: a new one in /tmp]")
def main(
    names: tuple[str, ...], numbers: tuple[str, ...], seed: int, short: bool, at_once: int, out: Path | None
) -> None:
    """Run what was asked for."""
    if on_path():
        os.environ.setdefault("GQUEUE_TEST_SERVER", "path")
    out = out or Path(tempfile.mkdtemp(prefix="gqueue-peers-"))
    systems = [SYSTEMS[name] for name in names or SYSTEMS]
    acts = [ACTS[int(number)] for number in numbers or ACTS]
    for system in systems:
        programs(system)
    if len(systems) == len(acts) == 1:
        one(out / f"{acts[0].name}-{systems[0].name}", systems[0], acts[0], seed, short)
        return
    # The verbs of a run belong to the main thread of a process: each run is one.
    commands = [
        [
            *(sys.executable, "-m", "tests.faults.peers", "--peer", system.name, "--scenario", str(act.number)),
            *("--seed", str(seed), "--out", str(out), *(["--short"] if short else [])),
        ]
        for system in systems
        for act in acts
    ]
    with ThreadPoolExecutor(at_once) as pool:
        failed = sum(map(bool, pool.map(lambda command: subprocess.run(command, cwd=ROOT).returncode, commands)))
    click.echo(f"{out}: {len(commands)} runs" + (f", {failed} of them broke off" if failed else ""))
    sys.exit(bool(failed))


def one(folder: Path, system: System, act: Act, seed: int, short: bool) -> None:
    """Run one, and tell what it came to. What is lost is a figure, not a failure, but for gqueue."""
    # What a killed worker held cannot be seen from outside, so no reason is asked for what is done twice.
    expect = Expect(
        lost=None,
        overlapping=None,
        unexplained=None,
        early=None,
        dead=dict.fromkeys(("failed", "dead letter"), ANY),
        reached=(act.reached,),
    )
    if system.name == OURS:
        expect = Expect(
            recovery_s=round(TIMEOUT_S * 4 / 3 + 1, 1) if act.recovers else None,
            overlapping=None,
            unexplained=None,
            reached=(act.reached,),
        )
    with Trial(folder, system, programs(system), act.short if short else act.full, seed) as trial:
        act.act(trial)
        run = trial.finish(act.name, expect, short=short, command=COMMAND)
    verdict = check_folder(folder)
    times = [time for share in (0.5, 1) if (time := verdict.recovery_s(share)) is not None]
    click.echo(
        f"{act.name} {system.name}, {run.seconds:.0f} s: {verdict.acknowledged} acknowledged, "
        f"{verdict.indeterminate} indeterminate, lost {verdict.lost}, duplicated {verdict.duplicated}, "
        f"overlapping {verdict.overlapping}, dead {sum(verdict.dead.values())}, unfinished {verdict.unfinished}, "
        f"recovered {len(verdict.recovery_ms)} in {' to '.join(f'{time:.1f}' for time in times)} s"
    )
    for finding in verdict.findings:
        click.echo(f"       {finding}")


if __name__ == "__main__":
    main()
