import subprocess
from pathlib import Path

import pytest

from benchmarks import machine


@pytest.mark.parametrize(
    ("path", "differs"),
    [
        ("gqueue/task.py", True),
        ("benchmarks/drain.py", True),
        ("benchmarks/README.md", False),
        ("benchmarks/results/drain.json", False),
        ("benchmarks/limits.toml", False),
    ],
)
def test_commit_has_a_plus_if_what_is_measured_differs(
    path: str, differs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    changed = tmp_path / path
    changed.parent.mkdir(parents=True)
    changed.write_text("before")
    (tmp_path / "benchmarks").mkdir(exist_ok=True)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "All"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "benchmarks/machine.py"))
    clean, tree = machine._commit(), machine._tree()
    changed.write_text("after")

    assert clean
    assert "+" not in clean
    assert machine._commit() == clean + "+" * differs

    subprocess.run([*git, "commit", "-qam", "Another"], check=True)
    assert machine._commit() not in (clean, "")
    assert (machine._tree() == tree) == (not path.startswith("gqueue/"))
