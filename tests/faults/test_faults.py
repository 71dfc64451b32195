"""Every scenario of the campaign in its short form, two at a time: `pytest -m faults`, or `tox -e faults`.

That all of them are there is looked at in the ordinary suite.
"""

import errno
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.faults.scenarios import scenario
from tests.faults.scenarios.names import NAMES
from tests.faults.scenarios.scenario import load
from tests.processes import ROOT

AT_ONCE = 2
LONGEST_S = 200.0


@pytest.fixture(scope="session")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[int, "Future[subprocess.CompletedProcess[str]]"]]:
    """Run what was selected, in order; a test only waits for its own."""
    chosen = [item.callspec.params["number"] for item in request.session.items if item.get_closest_marker("faults")]
    folder = tmp_path_factory.mktemp("faults")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {number: pool.submit(_run, number, folder) for number in chosen}
        pool.shutdown(cancel_futures=True)


def _run(number: int, folder: Path) -> "subprocess.CompletedProcess[str]":
    # All that it starts dies with it, if it is ended here.
    command = [sys.executable, "-m", "tests.faults", "--short", "--scenario", str(number), "--out", str(folder)]
    run = partial(
        subprocess.run, command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST_S
    )
    try:
        return run()
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
        return run()  # the kernel of a virtual machine refused an exec so, once in hundreds: nothing had begun


def test_every_scenario_that_has_a_name_is_there():
    assert load().keys() == NAMES.keys()


def test_name_without_its_scenario_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(scenario.ALL, 20)

    with pytest.raises(LookupError, match="no scenario 20"):
        load()


def test_module_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scenario, "MODULES", (*scenario.MODULES, "forgotten"))

    with pytest.raises(ModuleNotFoundError, match="forgotten"):
        load()


@pytest.mark.faults
@pytest.mark.parametrize("number", [pytest.param(number, id=str(NAMES[number])) for number in load()])
def test_scenario(number: int, runs: dict[int, "Future[subprocess.CompletedProcess[str]]"]):
    ended = runs[number].result()

    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    if ended.stdout.startswith("skipped "):
        pytest.skip(ended.stdout.splitlines()[0])
    assert ended.stdout.startswith(f"ok     {NAMES[number]} seed ")
