"""`gqueue fsck`: the keys of queues looked through for what does not fit together, while they work; and mended."""

import json
import sys
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import click

from gqueue import config
from gqueue.cli import options, target

if TYPE_CHECKING:
    from gqueue.core.audit import Finding
    from gqueue.queue import Queue

MOST_SHOWN = 20
"""Findings of one kind that people are shown; --json shows all."""


@click.command("fsck", short_help="Check, and repair, the keys of a queue.")
@click.argument("names", metavar="QUEUE...", nargs=-1)
@options.app
@options.redis
@click.option("--repair", is_flag=True, help="Mend what can be mended. No job that can be read is dropped.")
@click.option("--json", "as_json", is_flag=True, help="One object a line and finding, then one that sums up.")
def command(names: tuple[str, ...], apps: tuple[str, ...], url: str | None, repair: bool, as_json: bool) -> int:
    """Check that each job of a queue is in exactly one place, that every index has its record, and every count fits.

    The queue may be at work meanwhile: it is read in small steps, and what looks wrong is looked at twice.

    Exit code 1: something was found that was not mended, or nothing is known of the queue.
    """
    if not (names or apps):
        raise click.UsageError("which queue? Give its name, or --app MODULE:ATTR")
    code = 0
    for queue in target.queues(apps, names, url, named=True):
        code = max(code, _check(queue, repair, as_json))
    return code


def _check(queue: "Queue", repair: bool, as_json: bool) -> int:
    from gqueue.store.audit import Audit

    began, progress = time.monotonic(), Progress(queue.name)
    found: Counter[str] = Counter()
    left = 0
    with closing(queue.open_store()) as store:
        audit = Audit(store, repair=repair, tell=progress.tell)
        for finding in audit.findings():
            found[finding.flaw.value] += 1
            left += not finding.repaired
            progress.clear()
            if as_json:
                click.echo(json.dumps(as_data(queue.name, finding)))
            elif found[finding.flaw.value] <= MOST_SHOWN:
                click.echo(line(queue.name, finding, repair))
        progress.clear()
    if not audit.looked_at:
        click.echo(f"gqueue: nothing is known of a queue {queue.name!r} at {config.masked(queue.url)}", err=True)
        return 1
    seconds = time.monotonic() - began
    if as_json:
        summary = {"looked_at": audit.looked_at, "seconds": round(seconds, 3), "found": dict(found), "left": left}
        click.echo(json.dumps({"queue": queue.name, **summary, "complete": not audit.stopped}))
    else:
        click.echo("\n".join(summed_up(queue.name, found, left, repair, audit.stopped, audit.looked_at, seconds)))
    return 1 if left else 0


class Progress:
    """How far it is: on a terminal in one line that is written over, else a line every 10 s. On stderr."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self._last = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._width = 0

    def tell(self, what: str, done: int, total: int) -> None:
        """Show it if it is time to."""
        now = time.monotonic()
        if now - self._last < (0.2 if self._terminal else 10.0):
            return
        self._last = now
        text = f"{self.queue}: {config.name_shown(what)} {done:,} of about {total:,}"
        if self._terminal:
            self.clear()
            self._width = len(text)
            click.echo(text, err=True, nl=False)
        else:
            click.echo(text, err=True)

    def clear(self) -> None:
        """Take the line off the terminal, before another is written."""
        if self._width:
            click.echo("\r" + " " * self._width + "\r", err=True, nl=False)
            self._width = 0


def line(queue: str, finding: "Finding", repair: bool) -> str:
    """Return *finding* for people to read."""
    name = f" {config.shown(finding.name)}" if finding.name else ""
    if finding.repaired:
        after = f"; repaired: {finding.repair}"
    elif not finding.repair:
        after = ""
    else:
        after = f"; not repaired, look again: {finding.repair}" if repair else f"; --repair: {finding.repair}"
    key, seen = (text if len(text) <= 500 else text[:497] + "..." for text in (finding.key, finding.seen))
    return config.printable(f"{queue}: {finding.flaw.value.replace('_', ' ')}: {key}{name}: {seen}{after}")


def as_data(queue: str, finding: "Finding") -> dict[str, object]:
    """Return *finding* as one object."""
    return {
        "queue": queue,
        "flaw": finding.flaw.value,
        "key": finding.key,
        "name": finding.name,
        "job": finding.job,
        "worker": finding.worker,
        "seen": finding.seen,
        "repair": finding.repair,
        "repaired": finding.repaired,
    }


def summed_up(
    queue: str, found: Counter[str], left: int, repair: bool, stopped: bool, looked_at: int, seconds: float
) -> list[str]:
    """Return the last lines."""
    lines = []
    for flaw, count in found.items():
        if count > MOST_SHOWN:
            lines.append(f"{queue}: {flaw.replace('_', ' ')}: {count - MOST_SHOWN:,} more; --json shows all")
    if stopped:
        lines.append(f"{queue}: stopped there: no script can work with such a key. RENAME it, then look again")
    total = found.total()
    result = "clean" if not total else f"{total:,} {'finding' if total == 1 else 'findings'}"
    if total and repair:
        result += f", {total - left:,} repaired"
    lines.append(f"{queue}: {result}; {looked_at:,} elements in {seconds:.1f} s")
    return lines
