"""Tables, plot and page of the benchmarks, all drawn from the JSON files in results/: no figure is typed by hand."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
IDEAL = {"10 ms": 0.010, "100 ms": 0.100}
"""Kind of job -> seconds of I/O: a pool of N slots cannot run more than N / seconds."""

TEXT = """\
# Benchmarks

Drawn from the files in `results/` by `python -m benchmarks.pool_sizes --report`; do not edit.

Each figure is `median [least - most]` of the runs; "x PING" is the median ratio to the rate of PING of one client,
measured just before each run on the same server: round trips depend on where the machine puts both ends, so compare
ratios, not rates, between machines.

## One worker process, by the number of its slots

`python -m benchmarks.pool_sizes`: one producer fills the queue, then one worker process, started after it, runs the
jobs. Timed from the start of the first job to the end of the last, in the worker, after warm-up jobs. In every run each
job ran exactly once and nothing was left. "of ideal": the share of `slots / duration`, which no pool can pass.

{pool_about}

{pool}

![jobs a second by pool size](results/pool_sizes.png)

## One producer

`python -m benchmarks.enqueue`: one thread, no worker. `single` is a round trip a job, `bulk` is `enqueue_many`.

{enqueue_about}

{enqueue}
"""


def save(name: str, data: dict[str, Any]) -> None:
    """Write the runs of one benchmark to results/."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")


def load(name: str) -> dict[str, Any]:
    """Return what `save` wrote, without runs if there is nothing yet."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return {"about": {}, "runs": []}
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def write() -> None:
    """Draw plot and page from the files in results/."""
    if (data := load("pool_sizes"))["runs"]:
        plot(data)
    (HERE / "README.md").write_text(text())


def text() -> str:
    """Return the page."""
    pool, enqueue = load("pool_sizes"), load("enqueue")
    return TEXT.format(
        pool_about=_about(pool), pool=pool_table(pool), enqueue_about=_about(enqueue), enqueue=enqueue_table(enqueue)
    )


def pool_table(data: dict[str, Any]) -> str:
    """Return a row for each kind of job, with results and without, and each pool size."""
    rows = []
    for kind, results, slots in _cells(data["runs"]):
        runs = [run for run in data["runs"] if (run["kind"], run["results"], run["slots"]) == (kind, results, slots)]
        rates = [run["jobs_per_s"] for run in runs]
        share = f"{100 * statistics.median(rates) * IDEAL[kind] / slots:.1f}%" if kind in IDEAL else ""
        ratio = statistics.median(run["jobs_per_s"] / run["ping_per_s"] for run in runs)
        kept = "kept" if results else "off"
        rows.append([kind, kept, f"{slots:,}", f"{runs[0]['jobs']:,}", spread(rates), f"{ratio:.2f}", share])
    return table(["job", "results", "slots", "jobs a run", "jobs/s", "x PING", "of ideal"], rows)


def enqueue_table(data: dict[str, Any]) -> str:
    """Return a row for each way to enqueue."""
    rows = []
    for how in dict.fromkeys(run["how"] for run in data["runs"]):
        runs = [run for run in data["runs"] if run["how"] == how]
        ratio = statistics.median(run["jobs_per_s"] / run["ping_per_s"] for run in runs)
        rows.append([how, f"{runs[0]['jobs']:,}", spread([run["jobs_per_s"] for run in runs]), f"{ratio:.2f}"])
    return table(["enqueue", "jobs a run", "jobs/s", "x PING"], rows)


def plot(data: dict[str, Any], path: Path = RESULTS / "pool_sizes.png") -> None:
    """Draw jobs a second by pool size: a panel for each kind of job, whiskers from the least to the most."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kinds = list(dict.fromkeys(run["kind"] for run in data["runs"]))
    figure, panels = plt.subplots(1, len(kinds), figsize=(5 * len(kinds), 4.5), squeeze=False, constrained_layout=True)
    for panel, kind in zip(panels[0], kinds, strict=True):
        runs = [run for run in data["runs"] if run["kind"] == kind]
        sizes = sorted({run["slots"] for run in runs})
        for results, colour in ((False, "tab:blue"), (True, "tab:orange")):
            rates = [
                [run["jobs_per_s"] for run in runs if (run["slots"], run["results"]) == (size, results)]
                for size in sizes
            ]
            middle = [statistics.median(cell) for cell in rates]
            below = [m - min(cell) for m, cell in zip(middle, rates, strict=True)]
            above = [max(cell) - m for m, cell in zip(middle, rates, strict=True)]
            label = "results kept" if results else "results off"
            panel.errorbar(sizes, middle, yerr=[below, above], marker="o", capsize=3, color=colour, label=label)
        if kind in IDEAL:
            panel.plot(
                sizes, [size / IDEAL[kind] for size in sizes], "--", color="grey", label="ideal: slots / duration"
            )
        ping = statistics.median(run["ping_per_s"] for run in runs)
        panel.axhline(ping, linestyle=":", color="grey", label="PING, one client")
        panel.set(xscale="log", yscale="log", xlabel="slots", ylabel="jobs/s", title=f"{kind} jobs")
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend()
    figure.suptitle("One worker process: jobs a second by pool size (median, least to most)")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def spread(values: Sequence[float]) -> str:
    """Return `median [least - most]` of the runs."""
    return f"{statistics.median(values):,.0f} [{min(values):,.0f} - {max(values):,.0f}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, numbers to the right, aligned to be read as it is."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join([first, *others])} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def _about(data: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in data["about"].items() if value)


def _cells(runs: Sequence[dict[str, Any]]) -> list[tuple[str, bool, int]]:
    kinds = list(dict.fromkeys(run["kind"] for run in runs))
    found = {(run["kind"], run["results"], run["slots"]) for run in runs}
    return sorted(found, key=lambda cell: (kinds.index(cell[0]), cell[1], cell[2]))
