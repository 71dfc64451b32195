"""What a benchmark is: cells to be measured, how to measure one, and how what was measured is shown and judged.

A *cell* says what to measure, as plain values that a record of a run begins with; a *record* is what one run of one
cell gave. Both go into the JSON file of results as they are. Everything that is shown (tables, plot, targets, marks) is
made of the records alone, so that it can be drawn again from the file. A new benchmark needs its name in NAMES.
"""

import importlib
import importlib.util
import inspect
import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmarks.server import Server

NAMES = (
    "drain",
    "enqueue",
    "latency",
    "backpressure",
    "io",
    "pool_sizes",
    "memory",
    "depth",
    "idle",
    "start",
    "peers",
)
"""The benchmarks, in the order of the page. One that has no file yet is left out."""

Cell = Mapping[str, Any]
Record = Mapping[str, Any]


class BenchmarkError(Exception):
    """A run is worth nothing: a job was lost or ran twice, something was left behind, a process failed."""


@frozen
class Target:
    """What was aimed at, what was measured ("" if nothing was), and whether that is enough.

    Without a *target* it is a figure to be seen beside the others, see `beside`.
    """

    what: str
    target: str
    measured: str
    met: bool

    @property
    def verdict(self) -> str:
        """Return whether it is met: "yes", "no" or "not measured"; "" without a target."""
        if not self.target:
            return ""
        return ("yes" if self.met else "no") if self.measured else "not measured"


class Benchmark(ABC):
    """One benchmark; *title* is the heading of its section on the page."""

    title: str

    # What is measured.

    @abstractmethod
    def cells(self, short: bool) -> list[dict[str, Any]]:
        """Return what is measured in each round; *short*: less, in some 20 seconds a round, to see that all is well."""

    def rounds(self, cell: Cell, rounds: int) -> int:
        """Return how often *cell* is measured if *rounds* were asked for: fewer, if it takes very long."""
        return rounds

    def settings(self, cell: Cell) -> dict[str, str]:
        """Return what *cell* wants of redis-server beside the usual, which is no persistence."""
        return {}

    @abstractmethod
    def measure(self, cell: Cell, server: "Server") -> dict[str, Any]:
        """Measure *cell* once, on a fresh server of its own; return what is to be recorded beside it.

        Raises BenchmarkError if the figures would be worth nothing.
        """

    # How it is shown, all from the records.

    @abstractmethod
    def line(self, record: Record) -> str:
        """Return what is printed of a run."""

    @abstractmethod
    def tables(self, records: Sequence[Record]) -> str:
        """Return Markdown tables."""

    def plot(self, records: Sequence[Record], figure: "Figure") -> bool:
        """Draw on *figure*, which is empty; return whether there is a plot."""
        return False

    def targets(self, records: Sequence[Record]) -> list[Target]:
        """Return what was aimed at, of no records too: then it was not measured.

        What is smaller than the target is about is no reason to call it met: it counts as not measured.
        """
        return []

    def marks(self, records: Sequence[Record]) -> dict[str, float]:
        """Return by name what is compared with the baseline: ratios to a reference, see `mark`; more is better."""
        return {}


def load(name: str) -> tuple[Benchmark, str]:
    """Return the benchmark *name*, and the text of its section."""
    module = importlib.import_module(f"benchmarks.{name}")
    return module.BENCHMARK, inspect.cleandoc(module.__doc__ or "")


def command(name: str) -> None:
    """Measure one benchmark, as `python -m benchmarks NAME` does: what each file does when it is executed."""
    importlib.import_module("benchmarks.__main__").command(name)


def names() -> list[str]:
    """Return the benchmarks that are there, in the order of the page."""
    return [name for name in NAMES if importlib.util.find_spec(f"benchmarks.{name}")]


# What the parts that show have in common.


def select(records: Iterable[Record], **wanted: Any) -> list[Record]:
    """Return the records whose values are *wanted*."""
    return [record for record in records if all(record.get(name) == value for name, value in wanted.items())]


def values(records: Iterable[Record], name: str, per: str | None = None) -> list[float]:
    """Return the value *name* of each record, or its ratio to the value *per* of the same record."""
    return [record[name] / record[per] if per else record[name] for record in records]


def same_rounds(some: Iterable[Record], others: Iterable[Record]) -> list[tuple[Record, Record]]:
    """Return the pairs of a round: a round in which one of both failed, or was not made, has none."""
    found = {record["round"]: record for record in others}
    return [(record, found[record["round"]]) for record in some if record["round"] in found]


def group(records: Iterable[Record], *names: str) -> dict[tuple[Any, ...], list[Record]]:
    """Return the records by their values *names*, in the order in which these come first."""
    found: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        found.setdefault(tuple(record.get(name) for name in names), []).append(record)
    return found


def spread(measured: Sequence[float], digits: int = 0, unit: str = "") -> str:
    """Return `median [least - most]`; of a single value, that alone; "" of nothing."""
    if not measured:
        return ""
    middle, least, most = statistics.median(measured), min(measured), max(measured)
    between = f" [{least:,.{digits}f} - {most:,.{digits}f}]" if len(measured) > 1 else ""
    return f"{middle:,.{digits}f}{unit}{between}"


def mark(runs: Sequence[Record], name: str, records: Sequence[Record], per: str) -> float:
    """Return the median of *name* in *runs*, to the median of the reference *per* beside all *records*.

    A reference takes half a second and varies by 15%, more than what is measured beside it. The median of all that were
    taken in these minutes does not: of 3 rounds, such ratios varied by 4 to 9%, and those run by run by 8 to 20%.
    """
    return statistics.median(values(runs, name)) / statistics.median(values(records, per))


def percentile(measured: Sequence[float], percent: float) -> float:
    """Return the least value that *percent* of those measured do not pass (nearest rank)."""
    if not measured:
        raise ValueError("no values were measured")
    ordered = sorted(measured)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> str:
    """Return a Markdown table, to be read as it is: the first *text_columns* to the left, numbers to the right."""
    rows = list(rows)
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if column < text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * width if column < text_columns else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def whiskers(panel: Any, measured: Mapping[float, Sequence[float]], label: str) -> None:
    """Draw what was *measured* by x on a panel: a line through the medians, whiskers from the least to the most."""
    measured = {x: cell for x, cell in measured.items() if cell}
    if not measured:
        return
    middle = [statistics.median(cell) for cell in measured.values()]
    below = [m - min(cell) for m, cell in zip(middle, measured.values(), strict=True)]
    above = [max(cell) - m for m, cell in zip(middle, measured.values(), strict=True)]
    panel.errorbar(list(measured), middle, yerr=[below, above], marker="o", capsize=3, label=label)


def beside(what: str, measured: Sequence[float], unit: str = "", digits: int = 0) -> Target:
    """Return what is no target, but to be seen among them."""
    return Target(what, "", f"{spread(measured, digits)} {unit}".strip() if measured else "", met=False)


def at_least(what: str, bound: float, measured: Sequence[float], unit: str = "jobs/s", digits: int = 0) -> Target:
    """Return the target that the median of what was *measured* is *bound* or more."""
    met = bool(measured) and statistics.median(measured) >= bound
    return Target(what, f">= {bound:,.{digits}f} {unit}".strip(), spread(measured, digits), met)


def at_most(what: str, bound: float, measured: Sequence[float], unit: str = "", digits: int = 0) -> Target:
    """Return the target that the median of what was *measured* is *bound* or less."""
    met = bool(measured) and statistics.median(measured) <= bound
    return Target(what, f"<= {bound:,.{digits}f} {unit}".strip(), spread(measured, digits), met)
