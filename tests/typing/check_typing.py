"""mypy --strict sees what a user should see: good.py passes, bad.py fails on the marked lines and nowhere else.

Not named test_*: it needs mypy, and runs in the `types` environment of tox alone.
"""

import re
from collections import Counter
from pathlib import Path

from mypy import api

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def errors(name: str) -> tuple[Counter[tuple[int, str]], str]:
    """Return (line, kind) of each error that mypy finds in the file, and all that mypy said."""
    path = HERE / name
    out, err, _ = api.run(["--strict", "--config-file", str(ROOT / "setup.cfg"), "--no-pretty", str(path)])
    found = re.findall(rf"^.*{re.escape(name)}:(\d+): error: .*\[([a-z-]+)\]$", out, re.MULTILINE)
    assert len(found) == out.count(": error:"), out + err
    return Counter((int(line), kind) for line, kind in found), out + err


def test_proper_uses_pass():
    found, said = errors("good.py")
    assert not found, said
    assert "Success" in said


def test_misuses_fail_where_they_should():
    lines = (HERE / "bad.py").read_text().splitlines()
    marked = ((number, re.search(r"# E: ([a-z-]+)$", line)) for number, line in enumerate(lines, 1))
    expected = Counter((number, mark[1]) for number, mark in marked if mark)

    found, said = errors("bad.py")

    assert expected
    assert found == expected, said
