"""What the worker is doing, written straight to stderr: for SIGUSR1, and for the end of a process that hangs.

Decides the form. No logging, no buffers, no locks: whoever asks cannot wait for the one that hangs.
"""

import os
import re
import time
import traceback
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from gevent.util import format_run_info

from gqueue.config import name_shown

if TYPE_CHECKING:
    from gqueue.worker.slots import Slot


_SHOWN = re.compile(r"(<\w*Greenlet\b[^:\n]*: )((?:\w+(?=\())?).*", re.DOTALL)
"""gevent shows a greenlet with its function and the arguments: both may hold what a sensitive task was given."""

_LOCALS = re.compile(r"[ :|]*(?:Greenlet|Spawn Tree) Locals:?")
_NODE = re.compile(r"[ :|]*\+--- <|---- Thread boundary")


def without_arguments(text: str) -> str:
    """Return how gevent shows a greenlet, with no more of what it runs than the name of a plain function."""
    return _SHOWN.sub(r"\1\2(...)>", text)


def _without_values(lines: Iterable[str]) -> Iterator[str]:
    """Yield gevent's list of greenlets without arguments and greenlet-local values, which come last of a greenlet."""
    among_locals = False
    for line in lines:
        among_locals = bool(_LOCALS.match(line)) or (among_locals and not _NODE.match(line))
        if not among_locals:
            yield without_arguments(line)


def write(text: str) -> None:
    """Write *text* to stderr, whatever is left of it."""
    data = text.encode("utf-8", "backslashreplace")
    while data:
        try:
            data = data[os.write(2, data) :]
        except OSError:
            return


def dump(slots: "Iterable[Slot]", about: str) -> None:
    """Write the running jobs with their stacks, then the stacks of all greenlets and threads."""
    now = time.monotonic()
    lines = [f"gqueue: {about}"]
    for slot in slots:
        if (job := slot.job or slot.lost) is None or slot.greenlet.dead:
            continue
        stuck = "; it is stuck, and the slot written off" if slot.lost else ""
        lines.append(
            f"  slot {job.slot}: job {name_shown(job.job_id)} of {job.task_name}, queue {job.queue_name}, "
            f"attempt {job.attempt}, for {now - job.started:.1f} s, {job.deadline - now:.1f} s left{stuck}"
        )
        # gevent's own list leaves slots out: their parent, the hub, is hidden from it by gc.freeze. Who hogs the hub
        # has no frame here, but in the list of threads.
        if (frame := slot.greenlet.gr_frame) is not None:
            lines += [line.rstrip("\n") for line in traceback.format_stack(frame)]
    write("\n".join(lines) + "\n")
    stacks: Any = format_run_info  # its stub says that it returns nothing
    write("\n".join(_without_values(stacks())) + "\n")
