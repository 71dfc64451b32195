"""The gevent shell around `core.dispatch`: greenlets, connections, signals.

Decides nothing that is worth a test without I/O: what to do next is `core.dispatch`, what an outcome means is
`core.retry`. `Worker` is loaded when it is first asked for: the supervisor lives here too, and must not load gevent.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gqueue.worker.process import Worker

__all__ = ["Worker"]


def __getattr__(name: str) -> Any:
    if name == "Worker":
        from gqueue.worker.process import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
