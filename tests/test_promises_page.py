"""The page of promises names a test or a scenario in each row, and every one of them exists."""

import ast
import re
from pathlib import Path

from tests.faults.scenarios.names import NAMES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "promises.md").read_text()
SCENARIO = re.compile(r"`(\d\d-[a-z-]+)`")
TEST = re.compile(r"`(tests/[a-z_/]+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """Return the cells of each row of the page's tables."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if set(line) - set("|- ")]


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
