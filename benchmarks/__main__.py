"""The command: `python -m benchmarks [NAME...]`."""

import compileall
import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

import benchmarks
import gqueue
from benchmarks import baseline, benchmark, page, reference
from benchmarks.benchmark import Benchmark, BenchmarkError, Cell
from benchmarks.ending import leaving_nothing
from benchmarks.machine import machine
from benchmarks.server import Server
from gqueue.errors import GqueueError

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--runs", "rounds", type=click.IntRange(1), help="Of each cell; 5, in the short form 1, for a baseline 4."
)
@click.option("--short", is_flag=True, help="Measure less; write nothing without --out.")
@click.option("--where", multiple=True, metavar="NAME=VALUE", help="These cells alone; write nothing without --out.")
@click.option("--out", type=FOLDER, help="Write results and page below this folder.")
@click.option("--report", is_flag=True, help="Measure nothing: draw page and plots from the results.")
@click.option(
    "--compare", type=FILE, help="Measure what is watched, in the short form; fail if it is slower than this."
)
@click.option("--renew", type=FILE, help="Measure what is watched, in the short form, and make it this baseline.")
def main(
    names: tuple[str, ...],
    rounds: int | None,
    short: bool,
    where: tuple[str, ...],
    out: Path | None,
    report: bool,
    compare: Path | None,
    renew: Path | None,
) -> None:
    """Measure all benchmarks, or those named; write every run to results/, and draw the page README.md and plots.

    A run that is worth nothing, as when a job was lost, is recorded as failed; the others go on, and it ends with 1.
    """
    known = benchmark.names()
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"there is no benchmark {', '.join(unknown)}, but {', '.join(known)}")
    if where and (report or compare or renew):
        raise click.UsageError("--where goes with measuring some cells, not with --report, --compare or --renew")
    if report and (names or rounds or short or compare or renew):
        raise click.UsageError("--report measures nothing: it goes with --out alone")
    for name in names or known if where else ():
        _check_where(name, short, where)
    folder = out or (None if short or where or compare or renew else page.HERE)
    if (report or folder) and not importlib.util.find_spec("matplotlib"):
        raise click.UsageError("the plots need matplotlib: pip install 'gqueue[bench]'; or measure with --short alone")
    try:
        if report:
            page.write(folder or page.HERE)
        elif compare or renew:
            watched = names or [name for name in baseline.WATCHED if name in known]
            _watch(watched, rounds or (4 if renew else 1), compare, renew)
        else:
            if folder:
                page.prepare(folder)
            _measure(names or known, rounds or (1 if short else 5), short, where, folder)
    except (BenchmarkError, GqueueError) as error:
        raise click.ClickException(str(error)) from error


def _measure(names: Sequence[str], rounds: int, short: bool, where: tuple[str, ...], folder: Path | None) -> None:
    failed = []
    for name in names:

        def save(data: dict[str, Any], name: str = name) -> None:
            if folder:
                page.save(folder, name, data)

        data = run(name, rounds, short, where, save)
        print(page.section(name, data, plot=None), flush=True)
        if data["failed"]:
            failed.append(f"{name}: {len(data['failed'])} of {data['planned']} runs failed")
    if folder:
        page.write(folder)
    if failed:
        raise BenchmarkError("; ".join(failed))


def _watch(names: Sequence[str], rounds: int, compare: Path | None, renew: Path | None) -> None:
    if compare and not renew and (why := baseline.cannot_compare(compare, reference.measured_by())):
        print(f"NOT COMPARED: {why}")
        return
    marks = {name: marks_of(name, rounds) for name in names}
    lines = []
    if compare:
        before = baseline.load(compare)
        for name in [] if renew else names:
            if any(line.bad for line in baseline.compare(before, {name: marks[name]})):
                print(f"# {name} {baseline.MORE_TRIES} times more, for it fell short", flush=True)
                more = [marks_of(name, rounds) for _ in range(baseline.MORE_TRIES)]
                marks[name] = baseline.middle([marks[name], *more])
        lines = baseline.compare(before, marks)
        print(baseline.shown(lines))
        if other := baseline.differences(compare, machine()):
            print(f"{compare} was measured with something else, which a ratio may show: {'; '.join(other)}")
        if new := [line.name for line in lines if line.before is None]:
            print(f"not in {compare}, and so not compared, until it is made anew with --renew: {'; '.join(new)}")
    if renew:
        baseline.save(renew, {**machine(), "runs": rounds}, marks)
    elif bad := [line.name for line in lines if line.bad]:
        raise BenchmarkError(f"slower than {compare}, or not measured: {'; '.join(bad)}")


def marks_of(name: str, rounds: int) -> dict[str, float]:
    """Measure one benchmark in its short form; return its marks. Raises BenchmarkError if a run failed."""
    data = run(name, rounds, short=True)
    if data["failed"]:
        raise BenchmarkError(f"{name}: {len(data['failed'])} of {data['planned']} runs failed")
    return benchmark.load(name)[0].marks(data["runs"])


def run(
    name: str,
    rounds: int,
    short: bool,
    where: tuple[str, ...] = (),
    save: Callable[[dict[str, Any]], None] = lambda data: None,
) -> dict[str, Any]:
    """Measure one benchmark, print each run; return what goes into its file of results.

    *save* is called with that after each run, so that what was measured outlasts all that comes later. A run that fails
    is recorded, and the others go on.
    """
    one, _ = benchmark.load(name)
    about = {**machine(), "runs": rounds}
    print("\n".join([f"# {name}", *(f"{what}: {value}" for what, value in about.items())]), flush=True)
    cells = [cell for cell in one.cells(short) if _is_wanted(cell, where)]
    # Rounds outermost: a slow minute of the machine hits all cells alike, and not one of them in every run.
    plan = [(number, cell) for number in range(rounds) for cell in cells if number < one.rounds(cell, rounds)]
    start = time.monotonic()
    data: dict[str, Any] = {"about": about, "planned": len(plan), "runs": [], "failed": []}
    for number, cell in plan:
        try:
            record = run_once(one, cell, number)
        except Exception as error:  # noqa: BLE001 - of any kind: hours of other runs are not to be lost for it
            traceback.print_exc()
            data["failed"].append({**cell, "error": str(error) or repr(error)})
            print(f"{number + 1}: FAILED: {error}; measured was {dict(cell)}", flush=True)
        else:
            data["runs"].append(record)
            print(f"{number + 1}: {one.line(record)}", flush=True)
        data["took_s"] = round(time.monotonic() - start)
        save(data)
    return data


def run_once(one: Benchmark, cell: Cell, number: int = 0) -> dict[str, Any]:
    """Measure one cell once, in the round *number*, with the reference before it; raise BenchmarkError."""
    settings = one.settings(cell)
    with Server(settings) as server:
        measured = reference.measure(server)
        record = {**cell, "round": number, **({"redis": settings} if settings else {}), **measured}
        return {**record, **one.measure(cell, server)}


def _check_where(name: str, short: bool, where: tuple[str, ...]) -> None:
    """Raise UsageError, telling what there is, if *where* matches no cell of the benchmark."""
    cells = benchmark.load(name)[0].cells(short)
    if any(_is_wanted(cell, where) for cell in cells):
        return
    there = {key: dict.fromkeys(str(cell[key]) for cell in cells if key in cell) for cell in cells for key in cell}
    told = "; ".join(f"{key}={', '.join(values)}" for key, values in there.items())
    raise click.UsageError(f"no cell of {name} has {' and '.join(where)}; there are {told}")


def _is_wanted(cell: Cell, where: tuple[str, ...]) -> bool:
    return all(str(cell.get(name)) == value for name, _, value in (part.partition("=") for part in where))


def command(*names: str) -> None:
    """Be the process of the command, for the benchmarks *names* if there are any; it ends here.

    Settings of gqueue's in the environment would reach what is measured, and stand nowhere. The bytecode is there, as
    after an installation: an environment may keep Python from writing it, and each process that is started would
    compile.
    """
    for package in (gqueue, benchmarks):
        compileall.compile_dir(Path(package.__file__).parent, quiet=2)
    for variable in [name for name in os.environ if name.startswith("GQUEUE_")]:
        print(f"{variable} is left out: what is measured has the settings of its benchmark alone", file=sys.stderr)
        del os.environ[variable]
    with leaving_nothing():
        main([*names, *sys.argv[1:]])


if __name__ == "__main__":
    command()
