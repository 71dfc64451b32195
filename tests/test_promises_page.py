"""The page of promises names tests that exist, and says what its scenarios hold to and what they measured.

A scenario may stand in several rows, each of a part of it: what it does not bound at 0 one of them must tell of.
"""

import ast
import re
from pathlib import Path

import pytest

from tests.faults.report import OURS, STORED, Result, stored
from tests.faults.scenarios.names import NAMES
from tests.faults.scenarios.scenario import after_lease, load

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "promises.md").read_text()
SCENARIO = re.compile(r"`(\d\d-[a-z-]+)`")
TEST = re.compile(r"`(tests/[a-z_/]+\.py)::(test_\w+)`")
NO = re.compile(r"no($|[;:,] )")
LOST, DOUBLED, RECOVERED = 1, 2, 3
AS_ABOVE, BOUND, NOTHING = "as above", "the bound", "nothing to recover"
SCENARIOS = load()


def rows() -> list[list[str]]:
    """Return the cells of each row of the page's tables."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if set(line) - set("|- ")]


def said(number: int, column: int) -> list[str]:
    """Return what the rows of a scenario say in *column*, with what they take from the row above."""
    cells, above = [], ""
    for row in rows():
        above = row[column].replace(AS_ABOVE, above)
        if str(NAMES[number]) in SCENARIO.findall(row[4]):
            cells.append(above)
    return cells


def results(number: int) -> list[Result]:
    """Return what is stored of the runs of a scenario."""
    some = [result for result in stored(STORED / OURS) if result.run.scenario == str(NAMES[number])]
    return [result for result in some if not result.run.compared]


def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_row_says_all_and_names_a_test() -> None:
    for row in rows():
        assert len(row) == 5, row
        assert all(row), row
        assert row[0] == "event" or SCENARIO.search(row[4]) or TEST.search(row[4]), row


def test_every_test_and_scenario_that_is_named_exists() -> None:
    named = TEST.findall(PAGE)
    missing = [f"{path}::{name}" for path, name in named if name not in names_in(path)]
    missing += sorted(set(SCENARIO.findall(PAGE)) - {str(name) for name in NAMES.values()})

    assert missing == []
    assert len(re.findall("::test_", PAGE)) == len(named)


def test_every_scenario_stands_behind_a_promise() -> None:
    assert {str(name) for name in NAMES.values()} == set(SCENARIO.findall(PAGE))


@pytest.mark.parametrize("number", SCENARIOS)
def test_rows_of_a_scenario_say_what_it_holds_to(number: int) -> None:
    scenario = SCENARIOS[number]

    assert all(map(NO.match, said(number, LOST))) == (scenario.expect.lost == 0), said(number, LOST)
    assert all(map(NO.match, said(number, DOUBLED))) == (scenario.expect.duplicated == 0), said(number, DOUBLED)
    bounded = scenario.recovers and scenario.within is after_lease
    assert any(cell.startswith(BOUND) for cell in said(number, RECOVERED)) == bounded, said(number, RECOVERED)


@pytest.mark.parametrize("number", SCENARIOS)
def test_rows_of_a_scenario_say_what_it_measured(number: int) -> None:
    verdicts = [result.verdict for result in results(number)]
    lost, doubled, recovered = (said(number, column) for column in (LOST, DOUBLED, RECOVERED))

    if all(map(NO.match, lost)):
        assert [verdict.lost for verdict in verdicts if verdict.lost] == []
    if all(map(NO.match, doubled)):
        assert [verdict.duplicated for verdict in verdicts if verdict.duplicated] == []
    if all(cell.startswith(NOTHING) for cell in recovered):
        assert [verdict.recovery_ms for verdict in verdicts if verdict.recovery_ms] == []
    if any(cell.startswith(BOUND) for cell in recovered):
        now = set(SCENARIOS[number].expect.reached)  # a run of the scenario as it was before may not have come to it
        verdicts = [result.verdict for result in results(number) if now <= set(result.run.expect.reached)]
        assert not verdicts or any(verdict.recovery_ms for verdict in verdicts), "the bound was not measured"
