"""Run the fault campaign: all scenarios, one, or a random soak.

Each run leaves a folder in --out, which the checker reads; a line a run tells how it went, and the exit code is 1 if
any failed. The Redis is the one on PATH, if there is one, unless GQUEUE_TEST_SERVER says otherwise.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.servers import on_path


@click.command(help=__doc__)
@click.option("--scenario", "numbers", type=int, multiple=True, help="Only these numbers; repeatable.")
@click.option("--seed", type=int, default=1, show_default=True, help="What chance chooses by.")
@click.option("--minutes", type=float, help="A random soak of so many minutes instead.")
@click.option("--short", is_flag=True, help="The short form, as in continuous integration.")
@click.option("--jobs", type=int, help="So many jobs in each run, instead of the scenario's own number.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the runs.  [default: a new one in /tmp]")
def main(
    numbers: tuple[int, ...], seed: int, minutes: float | None, short: bool, jobs: int | None, out: Path | None
) -> None:
    """Run what was asked for."""
    if on_path():
        os.environ.setdefault("GQUEUE_TEST_SERVER", "path")
    from tests.faults.scenarios.scenario import Scenario, load
    from tests.faults.soak import Soak

    out = out or Path(tempfile.mkdtemp(prefix="gqueue-faults-"))
    chosen: list[Scenario | Soak]
    if minutes is not None:
        chosen = [Soak(minutes)]
    else:
        known = load()
        unknown = set(numbers) - known.keys()
        if unknown:
            raise click.UsageError(f"no scenario {', '.join(map(str, sorted(unknown)))}; there are {list(known)}")
        chosen = []
        for scenario in (known[number] for number in numbers or known):
            if lacking := scenario.needs():
                click.echo(f"skipped {scenario.name}: {lacking}")
            else:
                chosen.append(scenario)
    failed = 0
    for scenario in chosen:
        runs = 1 if short else scenario.full.runs
        for each in range(seed, seed + runs):
            folder = out / f"{scenario.name}-{each}"
            began = time.monotonic()
            run = scenario.run(folder, seed=each, short=short, jobs=jobs)
            failed += not _judge(folder, f"{run.scenario} seed {each}, {time.monotonic() - began:.0f} s")
    click.echo(f"{out}: {'all passed' if not failed else f'{failed} failed'}")
    sys.exit(bool(failed))


def _judge(folder: Path, what: str) -> bool:
    from tests.faults.checker import check_folder

    verdict = check_folder(folder)
    faults = sum(verdict.faults.values())
    recovered = f", recovered within {verdict.recovery_ms[-1] / 1000:.2f} s" if verdict.recovery_ms else ""
    click.echo(
        f"{'ok    ' if verdict.ok else 'FAILED'} {what}: {verdict.attempted:,} jobs, {faults:,} faults, "
        f"lost {verdict.lost}, phantom {verdict.phantom}, duplicated {verdict.duplicated} "
        f"({verdict.overlapping} overlapping), "
        f"inversions {verdict.inversions}, results {verdict.results}{recovered}"
    )
    for finding in verdict.findings:
        click.echo(f"       {finding}")
    return bool(verdict.ok)


if __name__ == "__main__":
    main()
