"""Files of results, and the page and plots that are drawn from them alone: no figure is typed by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import benchmark
from benchmarks.benchmark import Benchmark, Record, Target, table

HERE = Path(__file__).parent

HEAD = """\
# Benchmarks

Drawn from the files in `results/` by `python -m benchmarks --report`; do not edit. All of it is measured anew by
`python -m benchmarks`, one part by its name behind that; each is one file of this folder, which tells all of how.

Every run has a private redis-server and real worker processes. The runs of a benchmark go round its cells, so that a
slow minute of the machine hits all cells alike. Each figure is `median [least - most]` of the runs. In every run that
measures a rate each job ran exactly once, and nothing was left but counters; else there would be no page.

The reference was measured just before each run on the same server: PING of one client that waits for each reply, ZADD
and ZPOPMIN in batches of 64 from two. "x PING" is the median ratio to it. Round trips depend on where the machine puts
both ends: between machines, compare ratios, not rates.
"""


def save(folder: Path, name: str, data: dict[str, Any]) -> None:
    """Write the runs of one benchmark below *folder*."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
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
            draw(benchmark.load(name)[0], data["runs"], folder / "results" / f"{name}.png")
    (folder / "README.md").write_text(text(folder))


def text(folder: Path = HERE) -> str:
    """Return the page."""
    sections, met = [], []
    for name in benchmark.names():
        if data := load(folder, name):
            met += [target.met for target in benchmark.load(name)[0].targets(data["runs"])]
            plot = f"{name}.png" if data["runs"] and (folder / "results" / f"{name}.png").exists() else None
            sections.append(section(name, data, plot))
    return "\n".join([HEAD, f"Of {len(met)} targets {sum(met)} are met.\n", *sections])


def section(name: str, data: dict[str, Any], plot: str | None) -> str:
    """Return the part of the page that shows one benchmark; *plot* is the file of its plot in results/."""
    one, about = benchmark.load(name)
    parts = [
        f"## {one.title}",
        f"`python -m benchmarks {name}`. {about}",
        "\n".join(f"- {what}: {value}" for what, value in data["about"].items() if value),
        failures(data),
        *([targets_table(one.targets(data["runs"])), one.tables(data["runs"])] if data["runs"] else []),
        f"![{one.title}](results/{plot})" if plot else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


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


def targets_table(targets: Sequence[Target]) -> str:
    """Return what was aimed at, and whether it is met; "" if nothing was."""
    if not targets:
        return ""
    rows = [[one.what, one.target, one.measured or "not measured", "yes" if one.met else "no"] for one in targets]
    return table(["what", "target", "measured", "met"], rows, text_columns=4)


def draw(one: Benchmark, records: Sequence[Record], path: Path) -> None:
    """Draw the plot of a benchmark, if it has one."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(constrained_layout=True)
    if one.plot(records, figure):
        figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
