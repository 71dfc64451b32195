"""Results of runs: stored as JSON in docs/faults, and shown as the tables of docs/faults.md between its markers.

    python -m tests.faults.report            make the page anew from what is stored
    python -m tests.faults.report DIR...     judge the runs in these folders, store the results, make the page anew

A scenario of a system is one file, docs/faults/SYSTEM/SCENARIO.json, a list of results, one a line; storing runs of it
replaces the file. Runs of the comparison, gqueue's own among them, are in docs/faults/peers. The page is a function of
the files, and a test holds the two together.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from attrs import frozen

from tests.faults.checker import STALE, Verdict, check_folder, quantile_s
from tests.faults.history import Run, read_run
from tests.faults.scenarios.names import COMPARED, NAMES

ROOT = Path(__file__).parents[2]
Key = TypeVar("Key")
STORED = ROOT / "docs" / "faults"
PAGE = ROOT / "docs" / "faults.md"
SOAK = "soak"
OURS = "gqueue"


@frozen
class Result:
    """A run and what the checker says of it."""

    run: Run
    verdict: Verdict


def judged(folder: Path) -> Result:
    """Judge the run in *folder*."""
    return Result(read_run(folder), check_folder(folder))


def runs_below(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield the folders of runs at or below *folders*, in order."""
    for folder in folders:
        yield from sorted(found.parent for found in folder.rglob("run.json"))


def store(results: Iterable[Result], into: Path = STORED) -> None:
    """Write *results*, a file for each scenario of each system; what was there of these is replaced."""
    files: dict[Path, list[Result]] = {}
    for result in results:
        folder = into / "peers" / _slug(result.run.system) if result.run.compared else into / result.run.system
        files.setdefault(folder / f"{result.run.scenario}.json", []).append(result)
    for path, some in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"[\n" + b",\n".join(map(msgspec.json.encode, some)) + b"\n]\n")


def stored(folder: Path = STORED) -> list[Result]:
    """Read all results that are stored, by system, then scenario."""
    files = sorted(folder.rglob("*.json"))
    return [result for file in files for result in msgspec.json.decode(file.read_bytes(), type=list[Result])]


def remade(page: str, results: Iterable[Result]) -> str:
    """Return *page* with what is between its markers made from *results*."""
    results = list(results)
    ours = [result for result in results if result.run.system == OURS and not result.run.compared]
    page = between(page, "campaign", campaign([result for result in ours if result.run.scenario != SOAK]))
    page = between(page, "soak", soak([result for result in ours if result.run.scenario == SOAK]))
    return between(page, "peers", peers(results))


def between(page: str, marker: str, text: str) -> str:
    """Return *page* with *text* between the comments `MARKER: ...` and `end of MARKER`."""
    before, begin, rest = page.partition(f"<!-- {marker}:")
    head, comment, rest = rest.partition("-->\n")
    _, end, after = rest.partition(f"<!-- end of {marker} -->")
    if not (begin and comment and end):
        raise ValueError(f"the page has no part between `<!-- {marker}: ... -->` and `<!-- end of {marker} -->`")
    return f"{before}{begin}{head}{comment}\n{text}\n\n{end}{after}"


def _slug(system: str) -> str:
    """Return a system's name as that of a folder."""
    return re.sub(r"[^a-z0-9.]+", "-", system.lower()).strip("-")


def _total(some: list[Result], count: Callable[[Verdict], int]) -> str:
    return f"{sum(count(result.verdict) for result in some):,}"


def _jobs(some: list[Result]) -> str:
    """Say how many jobs were acknowledged, and of how many that were attempted, if that is not the same."""
    acknowledged = _total(some, lambda verdict: verdict.acknowledged)
    attempted = _total(some, lambda verdict: verdict.attempted)
    return acknowledged if acknowledged == attempted else f"{acknowledged} of {attempted}"


def _reached(some: list[Result]) -> str:
    """Say what had to be reached, and how often it was."""
    names = dict.fromkeys(name for result in some for name in result.run.expect.reached)
    return ", ".join(f"{name} {sum(result.verdict.reached.get(name, 0) for result in some):,}" for name in names)


def _recovery(some: list[Result]) -> str:
    times = tuple(sorted(time for result in some for time in result.verdict.recovery_ms))
    figures = [quantile_s(times, share) for share in (0.5, 0.99, 1)]
    return " / ".join(f"{figure:.1f}" for figure in figures if figure is not None)


def _bound(some: list[Result]) -> str:
    """Say within what jobs had to be recovered; - if that is not bounded, and that none was if so it is."""
    bounds = sorted({f"{bound:.1f}" for result in some if (bound := result.run.expect.recovery_s) is not None})
    if any(result.verdict.recovery_ms for result in some):
        return ", ".join(bounds) or "-"
    return "not measured" if bounds else "nothing to recover"


def _inversions(some: list[Result]) -> str:
    """Say how many jobs overtook a better one, and of how many that may; the number alone where that is not bounded."""
    bounds = [result.run.expect.inversions for result in some]
    total = _total(some, lambda verdict: verdict.inversions)
    return total if None in bounds else f"{total} of {max(bound or 0 for bound in bounds):,}"


def _results(some: list[Result]) -> str:
    """Say how many results were kept, and how many of them were missing or wrong."""
    missing = sum(result.verdict.missing_results for result in some)
    wrong = sum(result.verdict.wrong_results for result in some)
    kept = _total(some, lambda verdict: verdict.results)
    return kept + (f", missing {missing:,}" if missing else "") + (f", wrong {wrong:,}" if wrong else "")


def _stale(some: list[Result]) -> str:
    """Say how many settlements came too late; "-" if nobody counted: the proxy does, and sentinels lead past it."""
    counted = any(name in result.run.reached for result in some for name in (STALE, "connections"))
    return _total(some, lambda verdict: verdict.stale_refused) if counted else "-"


def _verdict(some: list[Result]) -> str:
    failed = sum(not result.verdict.ok for result in some)
    form = " (short form)" if any(result.run.short for result in some) else ""
    return f"**fails** in {failed} of {len(some)}{form}" if failed else f"holds{form}"


Column = tuple[str, Callable[[list[Result]], str]]

_FIGURES: list[Column] = [
    ("runs", lambda some: str(len(some))),
    ("jobs", _jobs),
    ("faults", lambda some: _total(some, lambda verdict: sum(verdict.faults.values()))),
    ("reached", _reached),
    ("lost", lambda some: _total(some, lambda verdict: verdict.lost)),
    ("phantom", lambda some: _total(some, lambda verdict: verdict.phantom)),
    ("duplicated", lambda some: _total(some, lambda verdict: verdict.duplicated)),
    ("overlapping", lambda some: _total(some, lambda verdict: verdict.overlapping)),
    ("stale refused", _stale),
    ("inversions", _inversions),
    ("results", _results),
    ("dead", lambda some: _total(some, lambda verdict: sum(verdict.dead.values()))),
    ("recovered", lambda some: _total(some, lambda verdict: len(verdict.recovery_ms))),
    ("p50 / p99 / max, s", _recovery),
    ("bound, s", _bound),
    ("verdict", _verdict),
]


_OURS = ("reached", "stale refused", "inversions", "results", "bound, s", "verdict")
"""What is not asked of other queues."""
_COMPARED: list[Column] = [
    *(column for column in _FIGURES if column[0] not in _OURS),
    ("unfinished", lambda some: _total(some, lambda verdict: verdict.unfinished)),
    ("unknown", lambda some: _total(some, lambda verdict: verdict.indeterminate)),
]


_COUNTS: list[Column] = [
    ("rig", lambda some: some[0].run.settings),
    ("attempted", lambda some: _total(some, lambda verdict: verdict.attempted)),
    ("refused", lambda some: _total(some, lambda verdict: verdict.refused)),
    ("unknown", lambda some: _total(some, lambda verdict: verdict.indeterminate)),
    ("started", lambda some: _total(some, lambda verdict: verdict.started)),
    ("succeeded", lambda some: _total(some, lambda verdict: verdict.succeeded)),
    ("early", lambda some: _total(some, lambda verdict: verdict.early)),
    ("deepest", lambda some: f"{max(result.verdict.max_depth for result in some):,}"),
]


def campaign(results: list[Result]) -> str:
    """Return the tables of all scenarios, those that were not run among them, and what was found."""
    runs = _grouped(results, lambda result: result.run.scenario)
    rows, counts = [], []
    for name in NAMES.values():
        some = runs.get(str(name), [])
        cells = [figure(some) for _, figure in _FIGURES] if some else ["0", *[""] * (len(_FIGURES) - 2), "not run"]
        rows.append([str(name.number), name.title, *cells])
        counts.append([str(name.number), name.bound, *(figure(some) if some else "" for _, figure in _COUNTS)])
    return "\n".join(
        [
            *_circumstances(results),
            table(["", "fault", *(head for head, _ in _FIGURES)], rows),
            "",
            table(["", "what must hold", *(head for head, _ in _COUNTS)], counts),
            *_findings(results),
        ]
    )


def soak(results: list[Result]) -> str:
    """Return the table of the random mixes of faults."""
    columns: list[Column] = [
        ("seed", lambda some: str(some[0].run.seed)),
        ("minutes", lambda some: f"{some[0].run.seconds / 60:.0f}"),
        *_FIGURES[1:],
    ]
    rows = [[figure([result]) for _, figure in columns] for result in results]
    if not rows:
        return "No soak was run."
    injected = Counter[str]()
    for result in results:
        injected.update(result.verdict.faults)
    mix = "Injected: " + ", ".join(f"{what} {count:,}" for what, count in sorted(injected.items())) + "."
    return "\n".join(
        [*_circumstances(results), table([head for head, _ in columns], rows), "", mix, *_findings(results)]
    )


def peers(results: list[Result]) -> str:
    """Return the tables of the comparison: what became of the jobs, fault by fault, and what each queue promises."""
    compared = [result for result in results if result.run.compared]
    if not compared:
        return "No other queue was run."
    groups = _grouped(
        sorted(compared, key=lambda result: (result.run.scenario, result.run.system != OURS, result.run.system)),
        lambda result: (result.run.scenario, result.run.system),
    )
    titles = {str(name): f"{name.number} {COMPARED.get(name.number, name.title)}" for name in NAMES.values()}
    rows = []
    for (scenario, system), some in groups.items():
        form = " (short form)" if any(result.run.short for result in some) else ""
        rows.append([titles[scenario] + form, system, *(figure(some) for _, figure in _COMPARED)])
    queues = {result.run.system: result.run for result in compared}
    about = [
        [system, run.settings, run.promise, f"{run.drain_s:.0f}"]
        for system, run in sorted(queues.items(), key=lambda queue: (queue[0] != OURS, queue[0]))
    ]
    return "\n".join(
        [
            *_circumstances(compared),
            table(["fault", "queue", *(head for head, _ in _COMPARED)], rows),
            "",
            table(["queue", "settings, where they are not its defaults", "promises", "unfinished after, s"], about),
        ]
    )


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _grouped(results: Iterable[Result], key: Callable[[Result], Key]) -> dict[Key, list[Result]]:
    groups: dict[Key, list[Result]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return groups


def _circumstances(results: list[Result]) -> Iterator[str]:
    """Yield what the figures were taken with: a line, and an empty one."""
    if not results:
        return
    runs = [result.run for result in results]

    def all_of(read: Callable[[Run], str]) -> str:
        return ", ".join(dict.fromkeys(value for run in runs if (value := read(run))))

    commits = all_of(lambda run: run.gqueue_commit)
    days = sorted({run.started[:10] for run in runs})
    yield (
        f"gqueue at {commits}; Python {all_of(lambda run: run.python)}; redis-server {all_of(lambda run: run.redis)}; "
        f"{all_of(lambda run: run.machine)}; {' to '.join(dict.fromkeys((days[0], days[-1])))}; "
        f"{sum(run.seconds for run in runs) / 3600:.1f} hours of runs. "
        f"`{all_of(lambda run: re.sub(' --(scenario|seed) [0-9]+', '', run.command))}`"
    )
    yield ""


def _findings(results: list[Result]) -> Iterator[str]:
    """Yield the findings of the runs that failed."""
    failed = [result for result in results if not result.verdict.ok]
    if failed:
        yield ""
    for result in failed:
        yield f"- {result.run.scenario}, seed {result.run.seed}:"
        yield from (f"  - {finding}" for finding in result.verdict.findings)


def main(folders: list[Path]) -> int:
    """Judge and store the runs in *folders*, if any, and make the page anew; 1 if one of them has a finding."""
    new = [judged(folder) for folder in runs_below(folders)]
    if folders and not new:
        print(f"no run.json in or below {', '.join(map(str, folders))}", file=sys.stderr)
        return 1
    store(new)
    PAGE.write_text(remade(PAGE.read_text(), stored()))
    for result in new:
        print(f"{result.run.system} {result.run.scenario} seed {result.run.seed}: {_verdict([result])}")
        print("".join(f"  {finding}\n" for finding in result.verdict.findings), end="")
    return int(not all(result.verdict.ok for result in new))


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
