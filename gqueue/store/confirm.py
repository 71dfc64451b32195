"""Whether replicas and disks have what a call wrote: asked on the connection that carried it, by WAIT or WAITAOF.

Both wait for the writes of their own connection. A call that is sent again on another connection is answered as before
and writes nothing, so each wait follows a write of its own: the record of the call lives for as long again. Decides
what the server's answers mean; what is enough is `core.durability`.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve
from redis import exceptions

from gqueue.core.durability import Durability, Safety
from gqueue.core.model import LANE_MS, Admission
from gqueue.errors import DurabilityUnsupported
from gqueue.store import denied, replies
from gqueue.store.connection import Argument, Link, pack
from gqueue.store.outage import Fault, fault_of
from gqueue.store.server import Server

_OF_PRODUCERS = ("+pexpire", "+wait")
"""What `gqueue acl` prints for a producer; WAITAOF is not there, since servers before 7.2 do not know it."""


def checking(queue: str, key: bytes, wanted: Durability, server: Callable[[], Server | None]) -> Callable[[Link], None]:
    """Return what reads the reply to a PING, and then raises DurabilityUnsupported if the server would not wait.

    So that nothing is enqueued which cannot be confirmed. *key* is any that `receiving` will touch.
    """

    def receive(link: Link) -> None:
        link.receive()
        for answer in _ask(link, (b"PEXPIRE", key, LANE_MS), _wait(wanted, 0, 1)):
            if isinstance(answer, exceptions.ResponseError):
                if _passes(answer):
                    raise answer
                raise DurabilityUnsupported(queue, str(wanted), _why(answer, queue, server()))

    return receive


def receiving(
    queue: str, key: bytes, wanted: Durability, job_ids: Sequence[str], slice_ms: int
) -> Callable[[Link], Admission | None]:
    """Return what reads the reply to an enqueue, and then waits on the same connection until *wanted* is met.

    It returns None of a stale call, and leaves `safety` None if no job was accepted.

    Args:
        key: the record of the call.
        slice_ms: one WAIT lasts no longer, well below the time-out of the socket.
    """

    def receive(link: Link) -> Admission | None:
        reply = link.receive()
        admission = replies.admission(reply[1]) if reply[0] == b"ok" else None
        if admission is None or not admission.accepted:
            return admission
        until = time.monotonic() + wanted.timeout_ms / 1000
        found = Safety(False, 0)
        first: tuple[tuple[Argument, ...], ...] = ((b"PEXPIRE", key, LANE_MS),)
        while True:
            left_ms = max(1, int((until - time.monotonic()) * 1000))
            answers = _ask(link, *first, _wait(wanted, wanted.replicas, min(left_ms, slice_ms)))
            for answer in answers:
                if isinstance(answer, exceptions.ResponseError):
                    if _passes(answer):  # as if the reply had been lost: the call was carried out
                        raise exceptions.TimeoutError(f"no answer whether {wanted} has it: {answer}")
                    ids = tuple(job_ids[: admission.accepted])
                    raise DurabilityUnsupported(queue, str(wanted), _why(answer, queue, None), ids)
            if first and answers[0] == 0:  # the record of the call is gone, and what else
                return evolve(admission, safety=found)
            found, first = _safety(answers[-1]), ()
            if wanted.met_by(found) or time.monotonic() >= until:
                return evolve(admission, safety=found)

    return receive


def _wait(wanted: Durability, replicas: int, timeout_ms: int) -> tuple[Argument, ...]:
    if wanted.fsync:
        return (b"WAITAOF", 1, replicas, timeout_ms)
    return (b"WAIT", replicas, timeout_ms)


def _safety(answer: Any) -> Safety:
    if isinstance(answer, list):
        return Safety(answer[0] >= 1, int(answer[1]))
    return Safety(False, int(answer))


def _ask(link: Link, *commands: tuple[Argument, ...]) -> list[Any]:
    """Send *commands* one by one; return the replies, errors among them."""
    answers: list[Any] = []
    for command in commands:
        try:
            answers.append(link.exchange(pack(command)))
        except exceptions.ResponseError as error:
            answers.append(error)
    return answers


def _passes(error: exceptions.ResponseError) -> bool:
    """Return whether the whole call is worth sending again; of a server that was demoted since, too."""
    return "replica instances" in str(error) or fault_of(error) in (Fault.AWAY, Fault.MOVED)


def _why(error: exceptions.ResponseError, queue: str, server: Server | None) -> str:
    text = " ".join(str(error).split())
    if "unknown command" in text:
        return f"the server{f' is {server} and' if server else ''} has no WAITAOF, which came with Redis 7.2 and Valkey"
    if "appendonly" in text:
        return "the server writes no append-only file: set appendonly to yes"
    lacks = denied.lacking(text, "enqueue", queue)
    if not lacks:
        return text
    advice = f", see `gqueue acl --queue {queue} --role producer`" if lacks in _OF_PRODUCERS else ""
    return f"{text}; the ACL of the user lacks {lacks}{advice}"
