"""How the text of a command line becomes arguments."""

import doctest

import pytest

from gqueue.cli import enqueue


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-1.5", -1.5),
        ("true", True),
        ("null", None),
        ('{"a": [1]}', {"a": [1]}),
        ("ten", "ten"),
        ("", ""),
        ('"10"', "10"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("[1,", "[1,"),
        ("https://example.org/?a=b", "https://example.org/?a=b"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_text_that_is_json_is_read_and_all_else_is_text(text: str, value: object) -> None:
    assert enqueue.read_arguments((text,)) == ([value], {})


def test_name_and_value_are_a_keyword_argument() -> None:
    assert enqueue.read_arguments(("1", "deep=true", "name=x=y")) == ([1], {"deep": True, "name": "x=y"})
    assert doctest.testmod(enqueue).failed == 0
