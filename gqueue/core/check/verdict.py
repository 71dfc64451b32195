"""What a line of a check is.

Decides that what could not be asked is unknown and never bad: a user with few rights sees less, and that is right.
"""

from collections.abc import Iterable
from enum import Enum

from attrs import frozen


class Verdict(Enum):
    """How well it is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"


@frozen
class Line:
    """One thing that was looked at.

    Args:
        topic: what, in a word or two; one topic may have several lines.
        verdict: how well it is.
        seen: what was found. Never a password.
        advice: what to do about it; "" if nothing need be done.
    """

    topic: str
    verdict: Verdict
    seen: str
    advice: str = ""


def is_bad(lines: Iterable[Line]) -> bool:
    """Return whether anything is bad: a warning is none, nor is what is not known."""
    return any(line.verdict is Verdict.BAD for line in lines)


def ok(topic: str, seen: str) -> Line:
    """Return a line about what is right."""
    return Line(topic, Verdict.OK, seen)


def warn(topic: str, seen: str, advice: str) -> Line:
    """Return a line about what may do harm."""
    return Line(topic, Verdict.WARN, seen, advice)


def bad(topic: str, seen: str, advice: str) -> Line:
    """Return a line about what breaks a promise, or work itself."""
    return Line(topic, Verdict.BAD, seen, advice)


def unknown(topic: str, seen: str, advice: str = "") -> Line:
    """Return a line about what could not be asked."""
    return Line(topic, Verdict.UNKNOWN, seen, advice)
