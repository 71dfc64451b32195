"""Environments of other queues, made without installing anything."""

import sys
from pathlib import Path

import pytest

from benchmarks.queues import environments
from benchmarks.queues.environments import CannotInstall


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gqueue-peers"


def test_environment_is_made_once_for_what_is_wanted(cache: Path):
    made: list[Path] = []
    first = environments.made("some", ["a==1"], made.append)

    assert environments.made("some", ["a==1"], made.append) == first
    assert environments.made("some", ["a==2"], made.append) != first
    assert len(made) == 2
    assert {path.parent for path in made} == {cache}


def test_environment_that_could_not_be_made_is_tried_again(cache: Path):
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        environments.run([sys.executable, "-c", "raise SystemExit('no network')"])

    for _ in range(2):
        with pytest.raises(CannotInstall, match=r"python[\d.]*: no network$"):
            environments.made("some", ["a==1"], fail)
    made = environments.made("some", ["a==1"], lambda folder: None)

    assert not (made / "half").exists()


def test_installer_that_is_not_there_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    for make in (environments.node, environments.debian):
        with pytest.raises(CannotInstall, match=r"there is no|this is no"):
            make("some", ["some"])


def test_versions_are_read_from_what_was_asked_for_or_found(tmp_path: Path):
    wanted = ["saq[redis,hiredis]==0.26.4", "packaging", "bullmq@6.7.0"]
    assert environments.versions(tmp_path, wanted) == "saq 0.26.4, bullmq 6.7.0"
    (tmp_path / "versions").write_text("ruby-sidekiq==6.4.1+dfsg-1\nruby3.1==3.1.7")

    assert environments.versions(tmp_path, ["ruby-sidekiq"]) == "ruby-sidekiq 6.4.1+dfsg-1, ruby3.1 3.1.7"
    assert environments.versions(tmp_path, ["ruby-sidekiq"], ["ruby3.1"]) == "ruby3.1 3.1.7"
