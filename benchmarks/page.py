"""Files of results, and the page and plots that are drawn from them: no figure is typed by hand.

Why a target is not met is told in limits.toml.
"""

import itertools
import json
import re
import tempfile
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import benchmark, reference
from benchmarks.benchmark import Benchmark, BenchmarkError, Record, Target, table

HERE = Path(__file__).parent
LIMITS = HERE / "limits.toml"

HEAD = """\
# Benchmarks

Drawn from the files in `results/` by `python -m benchmarks --report`; do not edit. All of it is measured anew by
`python -m benchmarks`, one part by its name behind that; each is one file of this folder, which tells all of how.

Every run has a private redis-server and real worker processes. The runs of a benchmark go round its cells, so that a
slow minute of the machine hits all cells alike. A figure with brackets is `median [least - most]` of the runs, one
without is their median, unless it says what else it is. A "+" behind a commit: the tree differed from it.

In every run was checked, and a run in which it was not so counts as failed:

- drain: each job ran exactly once; nothing was left but counters and, where they are kept, the results of all jobs.
- pool_sizes, io, start: each job ran exactly once, and nothing was left but counters and results.
- peers: each job ran exactly once, and no job was left.
- backpressure: each job that was sent ran exactly once, and no more than the capacity were seen to wait.
- idle: each job that was sent ran exactly once.
- latency: the same; of the others behind which urgent jobs wait, those that wait at the end are counted and purged.
- enqueue: the queue holds each job once. No job runs.
- depth: each job whose drain is timed ran exactly once. What waits is counted, and does not run.
- memory: as many jobs were claimed, and succeeded, as enqueued, and nothing was left but counters; each of the
  many jobs ran exactly once.

The reference was measured just before each run on the same server: PING of one client that waits for each reply, ZADD
and ZPOPMIN in batches of 64 from two. It varies more than what is measured beside it, so "x PING" is the median ratio
to the median PING of the same round; the range of all is above the tables. Round trips depend on where the machine puts
both ends: between machines, compare ratios, not rates.
"""


def prepare(folder: Path) -> None:
    """Make *folder*, to which results are written; raise BenchmarkError, before hours are measured, if that fails."""
    try:
        (folder / "results").mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder / "results").close()
    except OSError as error:
        raise BenchmarkError(f"results cannot be written to {folder}: {error}; --out names another folder") from error


def save(folder: Path, name: str, data: dict[str, Any]) -> None:
    """Write the runs of one benchmark below *folder*, which `prepare` made."""
    path = folder / "results" / f"{name}.json"
    part = path.with_suffix(".part")  # whoever is interrupted meanwhile leaves the file as it was
    part.write_text(json.dumps(data, indent=1) + "\n")
    part.replace(path)


def load(folder: Path, name: str) -> dict[str, Any] | None:
    """Return what `save` wrote, None if there is nothing yet."""
    path = folder / "results" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def write(folder: Path = HERE) -> None:
    """Draw plots and page below *folder* from the files in its results/."""
    for name in benchmark.names():
        if (data := load(folder, name)) and data["runs"]:
            draw(benchmark.load(name)[0], reference.of_rounds(data["runs"]), folder / "results" / f"{name}.png")
    (folder / "README.md").write_text(text(folder))


def text(folder: Path = HERE) -> str:
    """Return the page."""
    sections, targets, abouts, took = [], [], {}, {}
    for name in benchmark.names():
        one, data = benchmark.load(name)[0], load(folder, name)
        records = reference.of_rounds(data["runs"]) if data else []
        where = f"[{one.title}](#{anchor(one.title)})" if data else one.title
        targets += [(where, target) for target in one.targets(records)]
        if data:
            abouts[name] = data["about"]
            took[one.title] = data.get("took_s")
            plot = f"{name}.png" if data["runs"] and (folder / "results" / f"{name}.png").exists() else None
            sections.append(section(name, data, plot))
    return "\n".join(filter(None, [HEAD, contents(took), doubts(abouts), all_targets(targets), *sections]))


def contents(took: Mapping[str, int | None]) -> str:
    """Return a list of the sections, by title, with how many seconds each took, where that is known; and the sum."""
    known = [seconds for seconds in took.values() if seconds]
    lines = [f"- [{title}](#{anchor(title)}){_minutes(seconds)}" for title, seconds in took.items()]
    total = [f"\nTo measure this took {_minutes(sum(known))[2:]}."] if known and len(known) == len(took) else []
    return "\n".join(["- [Targets](#targets)", *lines, *total]) + "\n"


def _minutes(seconds: int | None) -> str:
    return f", {max(1, round(seconds / 60)):,} min" if seconds else ""


def doubts(abouts: Mapping[str, Mapping[str, str]]) -> str:
    """Return what to think of a page of such commits, by benchmark; "" if it is one, which is in the history."""
    told = []
    commits: dict[str, list[str]] = {}
    for name, about in abouts.items():
        commits.setdefault(about.get("commit", "").removesuffix("+"), []).append(name)
    changed = [name for name, about in abouts.items() if about.get("commit", "").endswith("+")]
    trees = {about.get("gqueue/", "") for about in abouts.values()}
    by = "; ".join(f"{', '.join(names)} of {commit}" for commit, names in commits.items())
    if len(commits) > 1 and len(trees) == 1 and trees != {""} and not changed:
        told.append(f"Of commits with the same gqueue/, {trees.pop()}: {by}. Only how it is measured was changed.")
    elif len(commits) > 1:
        told.append(f"**Not of one commit**: {by}. Do not compare a section with another.")
    if changed:
        told.append(f"**Of no commit** (+: the tree differed from it): {', '.join(changed)}.")
    return "".join(f"{line}\n\n" for line in told).removesuffix("\n")


def all_targets(targets: Sequence[tuple[str, Target]]) -> str:
    """Return the table of all targets, each with where it is shown, and how many are met."""
    targets = [(where, one) for where, one in targets if one.target]
    count = Counter(one.verdict for _, one in targets)
    told = f"Of {len(targets)} targets {count['yes']} are met, {count['no']} are not"
    told += f", {count['not measured']} were not measured." if count["not measured"] else "."
    told += " Why one is not met stands beside it in its section."
    rows = [[where, one.what, one.target, one.measured, one.verdict] for where, one in targets]
    head = ["benchmark", "what", "target", "measured", "met"]
    return "\n\n".join(["## Targets", told, table(head, rows, text_columns=len(head))]) + "\n"


def anchor(title: str) -> str:
    """Return what GitHub makes of a heading, to point to it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def section(name: str, data: dict[str, Any], plot: str | None) -> str:
    """Return the part of the page that shows one benchmark; *plot* is the file of its plot in results/."""
    one, about = benchmark.load(name)
    records = reference.of_rounds(data["runs"])
    targets = targets_table(one.targets(records), limits().get(name, {}))
    told = {**data["about"], "reference, beside each run": reference.spreads(data["runs"])}
    parts = [
        f"## {one.title}",
        f"`python -m benchmarks {name}`. {about}",
        "\n".join(f"- {what}: {value}" for what, value in told.items() if value),
        failures(data),
        *([targets, one.tables(records), unequal(records, data["about"].get("runs", 0))] if records else []),
        f"![{one.title}](results/{plot})" if plot else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def unequal(records: Sequence[Record], rounds: int) -> str:
    """Return which cells were measured more or less often than *rounds*; "" if none."""
    counts = Counter(json.dumps(cell_of(record)) for record in records if "round" in record)
    by = [f"- {_in_words(json.loads(cell))}: {count}" for cell, count in counts.items() if count != rounds]
    return "\n".join([f"Runs of a cell, where not {rounds}:", "", *by]) if by else ""


def cell_of(record: Record) -> dict[str, Any]:
    """Return the cell that was measured: what a record has before its round."""
    return dict(itertools.takewhile(lambda item: item[0] != "round", record.items()))


def failures(data: dict[str, Any]) -> str:
    """Return which runs failed, and how many were not made at all; "" if none."""
    failed, planned = data.get("failed", []), data.get("planned", 0)
    lines = [f"**Failed: {len(failed)} of {planned} runs.**"] if failed else []
    lines += [f"- {_in_words(one)}: {one['error']}" for one in failed]
    if missing := max(0, planned - len(failed) - len(data["runs"])):
        lines.append(f"**Interrupted: {missing} of {planned} runs were not made.**")
    return "\n".join(lines)


def _in_words(cell: Record) -> str:
    return ", ".join(f"{name} {value}" for name, value in cell.items() if name != "error")


def targets_table(targets: Sequence[Target], why_not: Mapping[str, str]) -> str:
    """Return what was aimed at, whether it is met, and why not, by target; "" if nothing was aimed at."""
    if not targets:
        return ""
    rows = [[one.what, one.target, one.measured, one.verdict] for one in targets]
    missed = [one.what for one in targets if one.verdict == "no"]
    reasons = [f'Why not "{what}": {why_not.get(what, "not told yet.").strip()}' for what in missed]
    return "\n\n".join([table(["what", "target", "measured", "met"], rows, text_columns=4), *reasons])


def limits() -> dict[str, dict[str, str]]:
    """Return by benchmark and target the text that tells why it cannot be met, as written by hand."""
    return tomllib.loads(LIMITS.read_text())


def draw(one: Benchmark, records: Sequence[Record], path: Path) -> None:
    """Draw the plot of a benchmark, if it has one."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(constrained_layout=True)
    if one.plot(records, figure):
        figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
