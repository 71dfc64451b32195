"""What the worker is doing, written straight to stderr: for SIGUSR1, and for the end of a process that hangs.

Decides the form. No logging, no buffers, no locks: whoever asks cannot wait for the one that hangs.
"""

import os
import re
import time
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gevent.util import format_run_info

if TYPE_CHECKING:
    from gqueue.worker.slots import Slot


_ARGUMENTS = re.compile(r"(<\w*Greenlet\b[^:\n]*: [^(\n]*)\(.*\)(?:>|$)")
"""gevent shows a greenlet with the arguments of its function, which may be those of a sensitive task."""


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
            f"  slot {job.slot}: job {job.job_id} of {job.task_name}, queue {job.queue_name}, attempt {job.attempt}, "
            f"for {now - job.started:.1f} s, {job.deadline - now:.1f} s left{stuck}"
        )
        # gevent's own list leaves slots out: their parent, the hub, is hidden from it by gc.freeze. Who hogs the hub
        # has no frame here, but in the list of threads.
        if (frame := slot.greenlet.gr_frame) is not None:
            lines += [line.rstrip("\n") for line in traceback.format_stack(frame)]
    write("\n".join(lines) + "\n")
    stacks: Any = format_run_info  # its stub says that it returns nothing
    write("\n".join(_ARGUMENTS.sub(r"\1(...)>", line) for line in stacks()) + "\n")
