"""The queue as a value: every operation is a function (state, ...) -> (state, reply).

This is the specification. MemoryStore runs it; the Lua scripts repeat it, one file an operation, and a model test
drives both with the same calls and compares every reply and the whole content after every step. A change here and in
the script is one commit. A refused call raises, and so changes nothing.
"""

from gqueue.core.scheduling.enqueue import enqueue, leave_line, renew_tickets
from gqueue.core.scheduling.handles import (
    await_done,
    cancel,
    delete_letters,
    look,
    purge,
    redrive,
    set_priority,
    stats,
)
from gqueue.core.scheduling.leases import ask, fence, heartbeat, leave, reap, register, report_progress, touch
from gqueue.core.scheduling.settle import held, settle_and_claim
from gqueue.core.scheduling.state import COUNTERS, QueueState, hinted

__all__ = [
    "COUNTERS",
    "QueueState",
    "ask",
    "await_done",
    "cancel",
    "delete_letters",
    "enqueue",
    "fence",
    "heartbeat",
    "held",
    "hinted",
    "leave",
    "leave_line",
    "look",
    "purge",
    "reap",
    "redrive",
    "register",
    "renew_tickets",
    "report_progress",
    "set_priority",
    "settle_and_claim",
    "stats",
    "touch",
]
