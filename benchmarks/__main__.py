"""The command: `python -m benchmarks [NAME...]`."""

import sys
from pathlib import Path
from typing import Any

import click

from benchmarks import benchmark, page, reference
from benchmarks.benchmark import Benchmark, BenchmarkError, Cell
from benchmarks.machine import machine
from benchmarks.server import Server


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--runs", "rounds", type=click.IntRange(1), help="Of each cell; 5, in the short form 1.")
@click.option("--short", is_flag=True, help="Measure less; write nothing without --out.")
@click.option("--where", multiple=True, metavar="NAME=VALUE", help="These cells alone; write nothing without --out.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Write results and page below this folder."
)
@click.option("--report", is_flag=True, help="Measure nothing: draw page and plots from the results.")
def main(
    names: tuple[str, ...], rounds: int | None, short: bool, where: tuple[str, ...], out: Path | None, report: bool
) -> None:
    """Measure all benchmarks, or those named; write every run to results/, and draw the page README.md and plots.

    It ends with 1 if a run is worth nothing, as when a job was lost.
    """
    known = benchmark.names()
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"there is no benchmark {', '.join(unknown)}, but {', '.join(known)}")
    folder = out or (None if short or where else page.HERE)
    if not report:
        for name in names or known:
            try:
                data = run(name, rounds or (1 if short else 5), short, where)
            except BenchmarkError as error:
                raise click.ClickException(f"{name}: {error}") from error
            print(page.section(name, data, plot=None), flush=True)
            if folder:
                page.save(folder, name, data)
    if report or folder:
        page.write(folder or page.HERE)


def run(name: str, rounds: int, short: bool, where: tuple[str, ...] = ()) -> dict[str, Any]:
    """Measure one benchmark, print each run; return what goes into its file of results."""
    one, _ = benchmark.load(name)
    about = {**machine(), "runs": rounds}
    print("\n".join([f"# {name}", *(f"{what}: {value}" for what, value in about.items())]), flush=True)
    cells = [cell for cell in one.cells(short) if _is_wanted(cell, where)]
    done = []
    # Rounds outermost: a slow minute of the machine hits all cells alike, and not one of them in every run.
    for number in range(rounds):
        for cell in cells:
            if number < one.rounds(cell, rounds):
                record = run_once(one, cell)
                done.append(record)
                print(f"{number + 1}: {one.line(record)}", flush=True)
    return {"about": about, "runs": done}


def run_once(one: Benchmark, cell: Cell) -> dict[str, Any]:
    """Measure one cell once, with the reference before it; raise BenchmarkError."""
    settings = one.settings(cell)
    with Server(settings) as server:
        measured = reference.measure(server)
        record = {**cell, **({"redis": settings} if settings else {}), **measured}
        try:
            return {**record, **one.measure(cell, server)}
        except BenchmarkError as error:
            error.add_note(f"measured was {dict(cell)}")
            raise


def _is_wanted(cell: Cell, where: tuple[str, ...]) -> bool:
    return all(str(cell.get(name)) == value for name, _, value in (part.partition("=") for part in where))


if __name__ == "__main__":
    sys.exit(main())
