"""What a log line looks like."""

import json
import logging

import pytest

from gqueue.cli import logs


def lines_of(form: str, capsys: pytest.CaptureFixture[str], process: int | None = None) -> list[str]:
    logs.set_up("info", form, process)
    logging.getLogger("gqueue.jobs").info("sum_first(%d) = %d", 10, 55, extra={"slot": 3, "odd": {1}})
    logging.getLogger("gqueue.jobs").debug("not shown")
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logging.getLogger("mine").exception("it failed")
    return capsys.readouterr().err.splitlines()


def test_text_is_short_and_has_the_time(capsys: pytest.CaptureFixture[str], root_logger: object) -> None:
    first, second, *trace = lines_of("text", capsys)
    assert first[12:] == " INFO jobs: sum_first(10) = 55"
    assert first[:12].replace(":", "").replace(".", "").isdecimal()
    assert second.endswith(" ERROR mine: it failed")
    assert trace[-1] == "ZeroDivisionError: division by zero"


def test_process_of_several_is_named(capsys: pytest.CaptureFixture[str], root_logger: object) -> None:
    assert " [1] INFO jobs: " in lines_of("text", capsys, 1)[0]
    assert json.loads(lines_of("json", capsys, 1)[0])["process"] == 1


def test_json_is_one_object_a_line_and_keeps_what_came_along(
    capsys: pytest.CaptureFixture[str], root_logger: object
) -> None:
    first, second = map(json.loads, lines_of("json", capsys))
    assert first["time"].endswith("Z")
    del first["time"]
    assert first == {
        "level": "info",
        "logger": "gqueue.jobs",
        "message": "sum_first(10) = 55",
        "slot": 3,
        "odd": "{1}",
    }
    assert second["traceback"].endswith("ZeroDivisionError: division by zero")
