"""The examples run: worker and producer, as their README says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples import images, webcheck
from tests.cli.conftest import ROOT, Program, Start

EXAMPLES = ROOT / "examples"


def produce(name: str, url: str) -> str:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "GQUEUE_REDIS_URL": url}
    command = [sys.executable, str(EXAMPLES / f"{name}.py")]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=120).stdout


def worker(start: Start, name: str, url: str, *args: str) -> Program:
    return start("--app", f"examples.{name}:queue", "--redis", url, *args)


def end(program: Program) -> None:
    program.process.terminate()
    assert program.end()[0] == 0, program.said


@pytest.mark.blackbox
def test_reports_are_summed(start: Start, redis_url: str) -> None:
    program = worker(start, "reports", redis_url)
    assert produce("reports", redis_url).splitlines()[-1] == "sum_first(9) = 45"
    end(program)


@pytest.mark.blackbox
def test_pages_are_checked_at_the_same_time(start: Start, redis_url: str) -> None:
    program = worker(start, "webcheck", redis_url, "--workers", "50")
    lines = produce("webcheck", redis_url).splitlines()
    assert any("/missing: status 404" in line for line in lines)
    assert any("/hangs: timed_out" in line for line in lines)
    assert not any("/flaky" in line for line in lines)
    assert lines[-1].startswith("98 of 100 pages are good")
    end(program)


@pytest.mark.blackbox
def test_thumbnails_are_made_by_several_processes(start: Start, redis_url: str) -> None:
    program = worker(start, "images", redis_url, "--workers", "1", "--processes", "2", "--log-jobs")
    lines = produce("images", redis_url).splitlines()
    assert lines[-1].startswith("12 thumbnails took")
    assert sum(line.endswith("96 x 72") for line in lines) == 12
    assert {line.split()[1] for line in program.lines if " jobs: " in line} == {"[0]", "[1]"}
    end(program)


@pytest.mark.parametrize("channels", [3, 4])
def test_picture_survives_being_written_and_read(channels: int, tmp_path: Path) -> None:
    rows = [bytes((x * y + channels) & 255 for x in range(5 * channels)) for y in range(4)]
    (tmp_path / "a.png").write_bytes(images.Picture(5, channels, rows).as_png())
    found = images.Picture.read(tmp_path / "a.png")
    assert (found.width, found.height, found.channels, found.rows) == (5, 4, channels, rows)


def test_filters_are_undone_as_the_specification_says() -> None:
    # Filters 1 to 4 (left, above, mean, Paeth), one pixel of one byte each; computed by hand.
    data = bytes([1, 10, 5, 2, 1, 2, 3, 4, 4, 4, 1, 1])
    assert images.unfiltered(data, 2, 1) == [bytes([10, 15]), bytes([11, 17]), bytes([9, 17]), bytes([10, 18])]


def test_thumbnail_of_what_is_no_picture_is_rejected(tmp_path: Path) -> None:
    from gqueue import Reject

    (tmp_path / "a.png").write_bytes(b"GIF89a")
    with pytest.raises(Reject, match="not a PNG"):
        images.thumbnail(str(tmp_path / "a.png"), str(tmp_path / "b.png"))
    with pytest.raises(Reject):
        images.thumbnail(str(tmp_path / "absent.png"), str(tmp_path / "b.png"))


def test_check_refuses_what_is_no_web_address() -> None:
    from gqueue import Reject

    with pytest.raises(Reject, match="no web address"):
        webcheck.check("file:///etc/passwd")
