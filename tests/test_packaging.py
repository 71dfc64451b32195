"""What setup.cfg, tox.ini, the README and .ci/run say of each other stays true."""

import configparser
import re
import tomllib
from pathlib import Path

from gqueue.store.keys import KINDS

ROOT = Path(__file__).parent.parent
RUN = "python3 -m venv .venv && .venv/bin/pip install -q '.[embedded]' && .venv/bin/python -m gqueue --workers 50"
TEST = "python3 -m venv .venv && .venv/bin/pip install -q tox && .venv/bin/tox"


def ini(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string((ROOT / name).read_text())
    return parser


def requirements(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_readme_shows_both_commands_and_continuous_integration_runs_the_second():
    blocks = re.findall(r"^```sh\n(.*?)\n```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    ci = (ROOT / ".ci/run").read_text().splitlines()

    assert RUN in blocks
    assert TEST in blocks
    assert ci[-1] == TEST


def test_oldest_dependencies_are_tested_as_they_are_stated():
    stated = requirements(ini("setup.cfg")["options"]["install_requires"])
    tested = requirements(ini("tox.ini")["testenv:lowest"]["deps"])

    assert sorted(tested) == sorted(line.replace(">=", "==") for line in stated)


def test_every_dependency_says_why_it_is_there():
    text = (ROOT / "setup.cfg").read_text()
    setup = ini("setup.cfg")
    lists = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]

    for requirement in (line for each in lists for line in requirements(each)):
        assert re.search(rf"^    # .+\n    {re.escape(requirement)}$", text, re.MULTILINE), requirement


def test_pyproject_holds_the_build_system_and_ruff_alone():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert pyproject.keys() == {"build-system", "tool"}
    assert pyproject["tool"].keys() == {"ruff"}


def test_wheel_takes_along_what_is_not_python():
    data = {name: value.split() for name, value in ini("setup.cfg")["options.package_data"].items()}
    others = [path for path in (ROOT / "gqueue").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]

    listed = {
        found
        for package, globs in data.items()
        for glob in globs
        for found in ROOT.glob(f"{package.replace('.', '/')}/{glob}")
    }

    assert set(others) == listed
    assert others


def test_no_environment_runs_on_an_interpreter_that_is_not_supported():
    """Else tox would be content where none of the supported ones is there: all skipped is a failure, one run is not."""
    tox = ini("tox.ini")
    newest = {"python3.11", "python3.12", "python3.13"}

    for name in (name for name in tox.sections() if name.startswith("testenv:")):
        stated = tox[name]["base_python"].replace("{[newest]base_python}", tox["newest"]["base_python"])
        assert set(re.split(r",\s*", stated)) == newest, name


def test_architecture_names_every_key_with_its_type():
    text = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| (`.+`) \| ((?:zset|hash|string|list)[a-z, ]*) \|", text, re.MULTILINE)

    told = {}
    for names, types in rows:
        kinds, shared = re.findall(r"`([^`]+)`", names), types.split(", ")
        told |= dict(zip(kinds, shared if len(shared) > 1 else shared * len(kinds), strict=True))

    assert told == KINDS
