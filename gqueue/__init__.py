"""gqueue: a priority task queue on Redis, bounded, at least once; its workers run jobs on gevent greenlets.

The public names, and nothing else. They are loaded when they are first used (PEP 562), so that `import gqueue` is cheap
and loads neither gevent nor redis: a program may still have gevent patch the standard library afterwards.
"""

TYPE_CHECKING = False  # type checkers take the name for true; importing `typing` for it would cost most of the time
if TYPE_CHECKING:
    from gqueue.core.model import Backoff, State, Stats, WhenFull
    from gqueue.errors import (
        BadName,
        BadPayload,
        BadSetting,
        CallRefused,
        DuplicateTask,
        DurabilityUnconfirmed,
        DurabilityUnsupported,
        GqueueError,
        IllegalMove,
        JobCancelled,
        JobFailed,
        JobTimeout,
        LeaseLost,
        NotATask,
        NotLapsed,
        PayloadTooLarge,
        QueueFull,
        Reject,
        ResultTimeout,
        Retry,
        StaleCall,
        StoreFull,
        StoreTooOld,
        StoreUnavailable,
        UnknownJob,
        UnknownTask,
        WouldDeadlock,
    )
    from gqueue.job import CurrentJob, JobHandle, current_job
    from gqueue.letters import DeadLetter
    from gqueue.queue import Queue
    from gqueue.task import PreparedJob, Task
    from gqueue.worker.spawn import spawn

    __version__: str

__all__ = [
    "Backoff",
    "BadName",
    "BadPayload",
    "BadSetting",
    "CallRefused",
    "CurrentJob",
    "DeadLetter",
    "DuplicateTask",
    "DurabilityUnconfirmed",
    "DurabilityUnsupported",
    "GqueueError",
    "IllegalMove",
    "JobCancelled",
    "JobFailed",
    "JobHandle",
    "JobTimeout",
    "LeaseLost",
    "NotATask",
    "NotLapsed",
    "PayloadTooLarge",
    "PreparedJob",
    "Queue",
    "QueueFull",
    "Reject",
    "ResultTimeout",
    "Retry",
    "StaleCall",
    "State",
    "Stats",
    "StoreFull",
    "StoreTooOld",
    "StoreUnavailable",
    "Task",
    "UnknownJob",
    "UnknownTask",
    "WhenFull",
    "WouldDeadlock",
    "current_job",
    "spawn",
]

if not TYPE_CHECKING:  # a type checker must find out which names there are not
    _ELSEWHERE = {
        "gqueue.core.model": ("Backoff", "State", "Stats", "WhenFull"),
        "gqueue.job": ("CurrentJob", "JobHandle", "current_job"),
        "gqueue.letters": ("DeadLetter",),
        "gqueue.queue": ("Queue",),
        "gqueue.task": ("PreparedJob", "Task"),
        "gqueue.worker.spawn": ("spawn",),
    }
    _HOME = {name: module for module, names in _ELSEWHERE.items() for name in names}

    def __getattr__(name):
        if name == "__version__":
            from importlib.metadata import version

            value = version("gqueue")
        elif name in __all__:
            from importlib import import_module

            value = getattr(import_module(_HOME.get(name, "gqueue.errors")), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
