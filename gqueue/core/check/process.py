"""What is right and wrong with a worker's process, before it runs a job.

Facts come from a process that was started as a worker is, patched itself, imported the app, and went no further.
"""

from collections.abc import Mapping, Sequence

from attrs import frozen

from gqueue.core.check.verdict import Line, bad, ok, unknown, warn
from gqueue.core.check.vulnerabilities import parse

PYTHONS = ((3, 11), (3, 13))
"""The oldest and the newest that the tests run on."""

LEAST: Mapping[str, str] = {
    "attrs": "22.2.0",
    "click": "8.1.0",
    "gevent": "25.9.1",
    "msgspec": "0.19.0",
    "redis": "5.0.2",
}
"""The oldest that the tests run on; setup.cfg, where each has its reason, says the same."""

SHOWN = (*LEAST, "greenlet", "hiredis")
"""Libraries whose versions are told."""


@frozen
class ProcessFacts:
    """A process that was started as a worker is.

    Args:
        python: its version; *free_threaded*: it was built to run without a GIL; *gil*: there is one.
        versions: library -> version, "" if it is not installed.
        parser: what reads Redis's replies: `hiredis`, or the name of another.
        threads_before: native threads that were there before gevent patched. None, as of the next two: not known.
        unpatched: modules that are not patched now, after the app was imported.
        warnings: what gevent said about the patching.
        error: why the app could not be imported, "" if it could, or none was given.
        apps: what was to be imported.
        failpoints: what GQUEUE_FAILPOINTS asks for here, in words; "": nothing.
    """

    python: str
    free_threaded: bool
    gil: bool
    versions: Mapping[str, str]
    parser: str
    threads_before: int | None
    unpatched: Sequence[str] | None
    warnings: Sequence[str] | None
    error: str
    apps: Sequence[str]
    failpoints: str = ""


def judge_process(facts: ProcessFacts) -> list[Line]:
    """Return what there is to say about a worker's process."""
    return [*_python(facts), *_libraries(facts), *_patching(facts), *_failpoints(facts), *_app(facts)]


def _python(facts: ProcessFacts) -> list[Line]:
    lines, numbers = [], parse(facts.python)
    oldest, newest = (".".join(map(str, version)) for version in PYTHONS)
    if numbers is None or not PYTHONS[0] <= numbers[:2] <= PYTHONS[1]:
        seen = f"{facts.python}: gqueue is tested on {oldest} to {newest}"
        lines.append(warn("python", seen, f"use Python {newest}"))
    else:
        lines.append(ok("python", facts.python))
    if not facts.gil:
        seen = "a free-threaded build that runs without a GIL: gevent does not work so"
        lines.append(bad("python", seen, "use the usual build, or set PYTHON_GIL=1"))
    elif facts.free_threaded:
        lines.append(warn("python", "a free-threaded build, on which gqueue is not tested", "use the usual build"))
    return lines


def _libraries(facts: ProcessFacts) -> list[Line]:
    lines = []
    for name, version in facts.versions.items():
        least = LEAST.get(name)
        if not version and (least or name == "greenlet"):
            lines.append(bad("libraries", f"{name} is not installed, or hides its version", f"pip install {name}"))
        elif least and _is_older(version, least):
            seen = f"{name} {version} is older than {least}"
            lines.append(bad("libraries", seen, f"pip install '{name}>={least}'"))
    if facts.parser != "hiredis":
        seen = f"replies are read by {facts.parser}: much slower than by hiredis"
        lines.append(warn("libraries", seen, "pip install 'redis[hiredis]'"))
    found = ", ".join(f"{name} {version}" for name, version in facts.versions.items() if version)
    return lines or [ok("libraries", found)]


def _is_older(version: str, least: str) -> bool:
    numbers, needed = parse(version), parse(least)
    return numbers is not None and needed is not None and numbers < needed


def _patching(facts: ProcessFacts) -> list[Line]:
    if facts.unpatched is None or facts.warnings is None:
        return [unknown("patching", "the process that was to tell told nothing")]
    lines = []
    if facts.threads_before:
        seen = f"{facts.threads_before} native threads were there before the patching, and are not cooperative"
        advice = "see what starts them with the interpreter: sitecustomize, a .pth file, a tracer around the command"
        lines.append(warn("patching", seen, advice))
    lines += [
        warn("patching", f"gevent says: {text}", "leave the patching to gqueue, which comes first")
        for text in facts.warnings
    ]
    if facts.unpatched:
        seen = f"not patched after the import of the app: {', '.join(facts.unpatched)}: they block all slots"
        lines.append(bad("patching", seen, "see which of the app's modules undoes gevent's patching"))
    return lines or [ok("patching", "gevent patches the standard library before anything else is imported")]


def _failpoints(facts: ProcessFacts) -> list[Line]:
    if not facts.failpoints:
        return []
    seen = f"a worker would go wrong on purpose, as GQUEUE_FAILPOINTS asks: {facts.failpoints}"
    return [bad("failpoints", seen, "unset GQUEUE_FAILPOINTS, which is for tests alone")]


def _app(facts: ProcessFacts) -> list[Line]:
    if facts.error:
        return [bad("app", facts.error, "a worker would end with this: mend the import")]
    if not facts.apps:
        return [unknown("app", "none was given", "give --app MODULE:ATTR to have it looked at")]
    return [ok("app", f"{', '.join(facts.apps)} can be imported")]
