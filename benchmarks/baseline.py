"""Whether gqueue has become slower: the marks of a run beside those of the baseline.

A mark is a ratio to a reference of the same run, so the baseline of one machine says something on another, if both are
measured with the same program. What fell short is measured twice more before it counts, and the median of the three
counts: a slow minute passes, a loss stays.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from benchmarks.benchmark import BenchmarkError, table

WATCHED = ("drain", "enqueue", "latency")
"""The benchmarks that the baseline is made of."""

MOST_LOSS = 0.25
"""Share of a mark that may be missing: what a noisy machine takes now and then."""


MORE_TRIES = 2
"""How often what fell short is measured again: neighbours of a virtual machine can be busy for minutes."""


@frozen
class Line:
    """One mark beside the baseline's; None where one has it not."""

    name: str
    before: float | None
    now: float | None

    @property
    def change(self) -> float | None:
        """Return by what share it is better, or (less than 0) worse."""
        return None if self.before is None or self.now is None else self.now / self.before - 1

    @property
    def verdict(self) -> str:
        """Return "ok", or what is wrong; a mark that the baseline has not got yet, before `--renew`, is neither."""
        if self.before is None:
            return "not in it"
        if self.change is None:
            return "NOT MEASURED"
        return "SLOWER" if self.change < -MOST_LOSS else "ok"

    @property
    def bad(self) -> bool:
        """Return whether the comparison fails."""
        return self.verdict not in ("ok", "not in it")


Marks = dict[str, dict[str, float]]
"""Benchmark -> name of a mark -> the mark."""


def middle(tries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return of each mark the median of the tries that have it."""
    names = dict.fromkeys(name for marks in tries for name in marks)
    return {name: statistics.median(marks[name] for marks in tries if name in marks) for name in names}


def cannot_compare(path: Path, measured_by: str) -> str:
    """Return why ratios to what is *measured_by* this cannot be compared with the baseline; "" if they can be."""
    theirs = _read(path)["about"].get("reference", measured_by)
    if theirs == measured_by:
        return ""
    return f"the reference of {path} was measured by {theirs}; here it would be {measured_by}"


def differences(path: Path, now: Mapping[str, object]) -> list[str]:
    """Return what the baseline was measured with, where that differs from *now*: the same kind as its "about"."""
    before = _read(path)["about"]
    return [
        f"{what} {before[what]}, here {now[what]}"
        for what in ("cpu", "system", "python", "redis-server")
        if what in before and before[what] != now[what]
    ]


def compare(before: Marks, now: Marks) -> list[Line]:
    """Return a line for each mark of the benchmarks that were measured now."""
    return [
        Line(f"{benchmark}: {name}", before.get(benchmark, {}).get(name), marks.get(name))
        for benchmark, marks in now.items()
        for name in {**before.get(benchmark, {}), **marks}
    ]


def shown(lines: Sequence[Line]) -> str:
    """Return what was compared, and what came of it."""
    rows = [
        [
            line.name,
            _number(line.before),
            _number(line.now),
            "" if line.change is None else f"{100 * line.change:+.0f}%",
            line.verdict,
        ]
        for line in lines
    ]
    return table(["ratio to the reference", "baseline", "now", "change", f"down to -{MOST_LOSS:.0%}"], rows)


def load(path: Path) -> Marks:
    """Return the marks of a baseline."""
    found: Marks = _read(path)["marks"]
    return found


def save(path: Path, about: Mapping[str, Any], marks: Marks) -> None:
    """Write the baseline."""
    rounded = {name: {mark: float(f"{value:.4g}") for mark, value in of.items()} for name, of in marks.items()}
    path.write_text(json.dumps({"about": about, "marks": rounded}, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        return {part: found[part] for part in ("about", "marks")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BenchmarkError(f"{path} is no baseline, which --renew would make: {error!r}") from error


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
