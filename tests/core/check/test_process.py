"""What is said of a worker's process."""

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from gqueue.core.check.process import LEAST, PYTHONS, ProcessFacts, judge_process

SOUND = ProcessFacts(
    python="3.12.1",
    free_threaded=False,
    gil=True,
    versions={**LEAST, "greenlet": "3.5.6", "hiredis": "3.5.0"},
    parser="hiredis",
    threads_before=0,
    unpatched=[],
    warnings=[],
    error="",
    apps=["mail:queue"],
)


def said(**changed: Any) -> list[str]:
    return [f"{line.verdict.value} {line.topic}: {line.seen}" for line in judge_process(evolve(SOUND, **changed))]


def test_sound_process_has_these_lines():
    assert said() == [
        "ok python: 3.12.1",
        "ok libraries: attrs 22.2.0, click 8.1.0, gevent 25.9.1, msgspec 0.19.0, redis 5.0.2, greenlet 3.5.6, "
        "hiredis 3.5.0",
        "ok patching: gevent patches the standard library before anything else is imported",
        "ok app: mail:queue can be imported",
    ]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"python": "3.14.0"}, "warn python: 3.14.0: gqueue is tested on 3.11 to 3.13"),
        ({"free_threaded": True}, "warn python: a free-threaded build, on which gqueue is not tested"),
        ({"free_threaded": True, "gil": False}, "bad python: a free-threaded build that runs without a GIL: gevent "),
        ({"versions": {**LEAST, "gevent": "24.2.1"}}, "bad libraries: gevent 24.2.1 is older than 25.9.1"),
        ({"versions": {**LEAST, "redis": ""}}, "bad libraries: redis is not installed, or hides its version"),
        ({"parser": "_RESP2Parser"}, "warn libraries: replies are read by _RESP2Parser: much slower than by hiredis"),
        ({"threads_before": 2}, "warn patching: 2 native threads were there before the patching, and are not coop"),
        ({"warnings": ["Monkey-patching ssl"]}, "warn patching: gevent says: Monkey-patching ssl"),
        ({"unpatched": ["socket"]}, "bad patching: not patched after the import of the app: socket: they block all"),
        ({"unpatched": None}, "unknown patching: the process that was to tell told nothing"),
        (
            {"failpoints": "settle=kill"},
            "bad failpoints: a worker would go wrong on purpose, as GQUEUE_FAILPOINTS asks: s",
        ),
        ({"error": "it raised"}, "bad app: it raised"),
        ({"apps": []}, "unknown app: none was given"),
    ],
)
def test_one_thing_that_is_wrong_is_remarked(changed: dict[str, Any], line: str):
    assert [each for each in said(**changed) if each.startswith(line)]


def test_oldest_libraries_are_those_of_setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(Path(__file__).parents[3] / "setup.cfg")
    required = re.findall(r"^([a-z]+)(?:\[\w+\])?>=(\S+)$", parser["options"]["install_requires"], re.MULTILINE)

    assert dict(required) == LEAST


def test_pythons_are_those_of_setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(Path(__file__).parents[3] / "setup.cfg")
    tested = re.findall(r"Python :: (3\.\d+)", parser["metadata"]["classifiers"])

    assert (tested[0], tested[-1]) == tuple(f"{major}.{minor}" for major, minor in PYTHONS)
