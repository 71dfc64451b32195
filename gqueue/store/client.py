"""Calls to one server: sent on a held connection, sent again until answered, or given up after a while.

Every operation of a store is numbered or safe to repeat, so a call whose reply was lost is simply the same bytes once
more. What blocks has connections of its own, one for each kind of wait. Works alike on threads and under gevent's
patching, which it never imports: there each native thread has connections of its own, since a socket belongs to the
hub of the thread that opened it.
"""

import logging
import os
import random
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as LinkBroken
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as NoReply

from gqueue.errors import CallRefused, StoreFull, StoreUnavailable
from gqueue.store import age, denied, patience
from gqueue.store import server as servers
from gqueue.store.connection import MAX_LANES, Address, Argument, Lanes, LanesClosed, Link, NoneFree, Opening, pack
from gqueue.store.links import WAIT_TIMEOUT_S, Links
from gqueue.store.outage import Fault, fault_of, forget_gates, moved_to, of_a_slot, why

log = logging.getLogger("gqueue.store")

T = TypeVar("T")
LONGEST_WAIT_S = WAIT_TIMEOUT_S / 2
"""One blocking command waits no longer, well below the time-out of its socket; a longer wait repeats it."""

BUSY_S = 1.0
"""A wait for a free connection lasts so long at least, before it is looked whether the server went away, or whether
nobody gives one back."""

CROWDED_S = 1.0
"""For so long no further connection is tried when the server takes no more and there are some already."""

LOOK_AGAIN_S = 60.0
"""An operator who has a server evict is told within a minute; INFO memory takes 50 us."""

MAX_REDIRECTS = 5
"""A cluster's node may name another that has just handed the queue on; more often than this, it is not settled."""


class Client:
    """Carries the calls of one queue to its server. Any number of threads or greenlets may use it at once.

    Args:
        queue: its name, for messages.
        probe: a command that writes nothing but is refused where writing is: asked while the server is away.
        retry_for: seconds for which a call is tried again.
        reply_timeout: seconds to wait for a connection or a reply before the server counts as away.
        speaks: whether to log outages and what the server's settings endanger.
    """

    def __init__(
        self,
        address: Address,
        queue: str,
        probe: tuple[bytes, ...],
        *,
        retry_for: float,
        reply_timeout: float,
        speaks: bool = True,
        server: servers.Server | None = None,
    ) -> None:
        self.address, self.queue = address, queue
        self._probe = probe
        self._retry_for, self._reply_timeout, self._speaks = retry_for, reply_timeout, speaks
        self.server = server
        self._crowded_since, self._crowded = 0.0, False
        self._asked_at, self._look_at = "" if server is None else address.place, time.monotonic() + LOOK_AGAIN_S
        self._links = Links(address, reply_timeout, speaks)
        _CLIENTS.add(self)

    def call(
        self,
        operation: str,
        parts: Sequence[Argument],
        opening: Opening | None = None,
        job_ids: tuple[str, ...] = (),
        receive: Callable[[Link], Any] | None = None,
        sent_on: Link | None = None,
        meanwhile: Callable[[], None] | None = None,
        first_sent: float | None = None,
    ) -> Any:
        """Return the reply to a command, sent again while the server is away.

        *parts* is the command; behind the *opening* of a script, its arguments. *job_ids* are those of an enqueue, for
        the error. *receive* reads the reply, and may say more on the same connection; if that fails, all of it is done
        again. A connection that owes one more reply then is left to it. *sent_on*: where the command was sent already.
        *meanwhile*: called when it is sent, before the reply is read, unless too many others' are (`Lanes.run_aside`).
        *first_sent*: when it was, if that was before (store.age).

        Raises:
            StoreUnavailable: no answer for `retry_for`, or no connection was given back for so long, or it is too old
                to be sent again, or the password is refused, or the store is closed; AllBusy: no connection was free
                until the patience of the caller was at its end.
            StoreFull: Redis is at its maxmemory.
            StoreTooOld: at the first connection.
            CallRefused: for any other reason.
        """
        packed = b""
        links = self._links
        began, since = time.monotonic(), age.now() if first_sent is None else first_sent
        deadline = began + self._retry_for
        sent, redirects = first_sent is not None, 0
        last: RedisError | None = None
        while True:
            link, opened, stale, sending = sent_on, sent_on is not None, sent_on is not None, False
            sent_on = None
            try:
                if links.gate.error is not None and link is None:
                    self._wait_for_server(links, deadline)
                lanes = links.lanes()
                if link is not None and link.outdated:
                    lanes.drop(link)
                    continue
                if link is None:
                    packed = packed or (pack(parts) if opening is None else opening.pack(parts))
                    link, deadline = self._take(links, lanes, deadline)
                    stale = not link.fresh
                    if stale and link.outdated:
                        lanes.drop(link)
                        continue
                    if not stale:
                        self._open(links, link)
                    opened = True
                    if sent and job_ids and age.too_old(since):  # what brings no jobs may be repeated at any time
                        raise self._too_old(operation, since, last, job_ids)
                    if sent and time.monotonic() >= max(deadline, began + BUSY_S):
                        raise self._gave_up(links, operation, last, job_ids, sent) from last
                    if not sent:
                        since = age.now()
                    sending = True
                    link.send(packed)
                    sending = False
                if meanwhile is not None:
                    asked = time.monotonic()
                    lanes.run_aside(link, partial(patience.until, None, meanwhile))
                    deadline += time.monotonic() - asked
                reply = link.receive() if receive is None else receive(link)
            except RedisError as error:
                last, fault = error, fault_of(error)
                if link is None:
                    pass
                elif opened and fault in (Fault.FULL, Fault.FATAL, Fault.NO_SCRIPT) and not link.owes:
                    lanes.give(link)
                else:
                    lanes.drop(link)
                if fault is Fault.NO_SCRIPT and opening is not None:
                    packed, opening = opening.pack_with_text(parts), None
                    continue
                sent = sent or (opened and not sending and type(error) in (LinkBroken, NoReply))
                redirects += fault is Fault.MOVED
                if not opened and fault in (Fault.AWAY, Fault.CROWDED) and lanes.do_with_these(CROWDED_S):
                    self._note_crowded(error)
                    if time.monotonic() >= max(deadline, began + BUSY_S):
                        raise self._gave_up(links, operation, error, job_ids, sent) from error
                else:
                    self._settle(links, operation, error, fault, opened and stale, redirects)
            except (TimeoutError, LanesClosed) as error:
                if link is not None:
                    link.close()
                raise self._gave_up(links, operation, error, job_ids, sent) from links.gate.error
            except BaseException:
                if link is not None:
                    lanes.drop(link)
                raise
            else:
                if not link.owes:
                    lanes.give(link)
                return reply
            if links.closed:
                raise self._gave_up(links, operation, None, job_ids, sent)

    def drop(self, link: Link) -> None:
        """Close a connection that `call` left to its *receive*."""
        try:
            self._links.lanes().drop(link)
        except LanesClosed:
            link.close()

    def look_again(self) -> str:
        """Once a minute, look whether the server's settings endanger jobs by now; return what is new, "" if nothing.

        For the heartbeat, which does not log and may be the only one that is not busy. What may not be asked, or is
        not answered, is left for the next time.
        """
        now = time.monotonic()
        if now < self._look_at:
            return ""
        self._look_at = now + LOOK_AGAIN_S
        try:
            settings = self.call("looking at the settings", (b"INFO", b"memory"))
        except (StoreUnavailable, CallRefused):
            return ""
        return servers.evicts_now(settings, self.address.shown, self.address.place)

    def wait(
        self, kind: str, commands: Callable[[float], Sequence[Sequence[Argument]]], timeout: float
    ) -> list[Any] | None:
        """Return the replies to commands of which the first blocks; None if all are, at the time-out.

        An outage only makes it last that long. *commands* makes them, for a number of seconds to block; they are sent
        together. Each *kind* has connections of its own.
        """

        def ask(link: Link, _fresh: bool, left: float) -> list[Any] | None:
            together = commands(left)
            link.send(b"".join(pack(command) for command in together))
            replies = [link.receive() for _ in together]
            return replies if any(reply is not None for reply in replies) else None

        return self._blocking(kind, ask, timeout)

    def listen(self, channel: bytes, timeout: float) -> list[bytes]:
        """Return the messages that came on *channel*, [] at the time-out. Listens from the first call on."""

        def hear(link: Link, fresh: bool, left: float) -> list[bytes] | None:
            if fresh:
                link.exchange(pack((b"SUBSCRIBE", channel)))
            heard = []
            message = link.listen(left)
            while message is not None:
                if message[0] == b"message":
                    heard.append(message[2])
                message = link.listen(0)
            return heard or None

        return self._blocking("done", hear, timeout) or []

    def stop_waiting(self, kind: str) -> None:
        """Close the connections for waits of *kind* (those of `listen` are "done"); those under way return at once.

        Under gevent's patching only those of the current thread.
        """
        self._links.stop_waiting(kind)

    def clone(self, *, reply_timeout: float, longest_pause: float) -> "Client":
        """Return a client of the same server that shares nothing with this one and does not log.

        *longest_pause* (s): while the server is away, it tries again as often.
        """
        clone = Client(
            self.address,
            self.queue,
            self._probe,
            retry_for=self._retry_for,
            reply_timeout=reply_timeout,
            speaks=False,
            server=self.server,
        )
        clone._links.gate.hurry(longest_pause)
        return clone

    def close(self) -> None:
        """Close all connections; calls and waits under way end at once. Idempotent."""
        self._links.close()

    def after_fork(self) -> None:
        """In a forked child: leave the parent its connections, and begin anew unless the parent had closed."""
        old = self._links
        self._links = Links(self.address, self._reply_timeout, self._speaks)
        self._links.closed = old.closed
        old.forget()

    def connections(self) -> int:
        """Return how many connections for calls are open."""
        return self._links.count()

    def _blocking(self, kind: str, talk: Callable[[Link, bool, float], T], timeout: float) -> T | None:
        links = self._links
        deadline = time.monotonic() + timeout
        redirects = 0
        while True:
            link, fresh, opened = None, True, False
            try:
                if links.gate.error is not None:
                    self._wait_for_server(links, deadline)
                link = links.take_waiting(kind)
                fresh = link.fresh
                if fresh:
                    self._open(links, link)
                opened = True
                if links.closed:
                    raise LanesClosed
                if link.stopped:
                    links.drop_waiting(link)
                    return None
                reply = talk(link, fresh, min(max(0.0, deadline - time.monotonic()), LONGEST_WAIT_S))
            except RedisError as error:
                if link is not None:
                    links.drop_waiting(link)
                    if link.stopped:
                        return None
                fault = fault_of(error)
                if links.closed:
                    pass
                elif not opened and fault in (Fault.AWAY, Fault.CROWDED) and links.count():
                    self._note_crowded(error)
                    time.sleep(min(max(0.0, deadline - time.monotonic()), random.uniform(0, CROWDED_S)))
                else:
                    redirects += fault is Fault.MOVED
                    self._settle(links, f"waiting ({kind})", error, fault, not fresh, redirects)
                reply = None
            except TimeoutError:
                return None
            except LanesClosed as error:
                if link is not None:
                    links.drop_waiting(link)
                raise self._gave_up(links, f"waiting ({kind})", error, (), False) from None
            except BaseException:
                if link is not None:
                    links.drop_waiting(link)
                raise
            else:
                links.give_waiting(kind, link)
            if reply is not None or links.closed or (link and link.stopped) or time.monotonic() >= deadline:
                return reply

    def _take(self, links: Links, lanes: Lanes, deadline: float) -> tuple[Link, float]:
        """Return a connection, and the deadline, put off by the wait for it: a server that answers others is not away.

        Raises NoneFree, also if nobody gave one back until the deadline; LanesClosed.
        """
        ends = patience.ends.get()
        while True:
            began, given = time.monotonic(), lanes.given
            answers = links.gate.error is None
            try:
                link = lanes.take(min(ends, max(deadline, began + BUSY_S)) if answers else deadline)
            except NoneFree:
                now = time.monotonic()
                if now >= ends or lanes.given == given or (now >= deadline and links.gate.error is not None):
                    raise
                link = None
            if answers and lanes.given != given:
                deadline += time.monotonic() - began
            if link is not None:
                return link, deadline

    def _open(self, links: Links, link: Link) -> None:
        link.open()
        self._crowded_since = 0.0
        if links.closed:
            raise LanesClosed
        place = self.address.place
        if self.server is None or self._asked_at != place:
            server = servers.ask(link)
            servers.check(server, self.address.shown)
            self.server, self._asked_at = server, place
            if self._speaks:
                servers.warn(server, self.address.shown, place)

    def _wait_for_server(self, links: Links, deadline: float) -> None:
        while (gate := links.gate).enter(deadline, links.is_closed):
            lanes, link, answers = None, None, False
            try:
                lanes = links.lanes()
                link = lanes.take(deadline)
                if link.fresh:
                    self._open(links, link)
                link.exchange(pack(self._probe))
            except RedisError as error:
                answers = fault_of(error) in (Fault.FULL, Fault.FATAL, Fault.MOVED)  # let the call itself tell
                if not answers:
                    gate.shut(error)
                if lanes is not None and link is not None:
                    lanes.drop(link)
            except BaseException:
                if lanes is not None and link is not None:
                    lanes.drop(link)
                raise
            else:
                answers = True
                lanes.give(link)
            finally:
                gate.tried(answers)

    def _settle(
        self, links: Links, operation: str, error: RedisError, fault: Fault, was_held: bool, redirects: int
    ) -> None:
        # Return if the call is to be sent again; the connection that failed is dropped or given back already.
        if fault is Fault.FULL:
            raise StoreFull(
                f"queue {self.queue!r}: Redis at {self.address.shown} is at its maxmemory and refused {operation}; "
                "nothing was written. Let the workers drain the queue, or raise maxmemory."
            ) from error
        if fault is Fault.UNTRUSTED:
            raise StoreUnavailable(
                f"Redis at {self.address.shown}: TLS fails: {error}; look at ssl_ca_certs, ssl_certfile and "
                "ssl_keyfile of the URL, and whether that port speaks TLS"
            ) from error
        if fault is Fault.REFUSED:
            raise StoreUnavailable(f"Redis at {self.address.shown} refuses us: {error}") from error
        if fault in (Fault.FATAL, Fault.NO_SCRIPT):
            lacks = denied.lacking(str(error), operation, self.queue)
            what = f"; the ACL of the user lacks {lacks}" if lacks else ""
            reason = f"{error}{what} (server: {self.server} at {self.address.shown})"
            raise CallRefused(self.queue, operation, reason) from error
        links.lanes().drop_free()
        self._asked_at = ""  # another server may be there by now, or the same with other settings
        if of_a_slot(error):
            links.part()
        if fault is Fault.MOVED and redirects <= MAX_REDIRECTS:
            links.address = self.address.moved_to(*moved_to(error))
        elif not (was_held and type(error) is LinkBroken):  # a held one may die alone: idle time-out, CLIENT KILL
            links.address = self.address
            links.gate.shut(error)

    def _note_crowded(self, error: RedisError) -> None:
        # No further connection could be opened, and there are some: if the server is away, these will tell. It may have
        # reached its maxclients, of which a broken pipe is all that is seen if it closes before we have greeted it.
        now = time.monotonic()
        self._crowded_since = self._crowded_since or now
        if self._speaks and not self._crowded and now - self._crowded_since > CROWDED_S / 2:
            self._crowded = True
            log.warning(
                "Redis at %s takes no more connections (%s): queue %s does with those it has. Look at maxclients",
                self.address.shown,
                error,
                self.queue,
            )

    def _gave_up(
        self, links: Links, operation: str, error: Exception | None, job_ids: tuple[str, ...], sent: bool
    ) -> StoreUnavailable:
        maybe = "; the call was sent, and may have been carried out" if sent else ""
        if isinstance(error, NoneFree) and links.gate.error is None:
            text = f"queue {self.queue!r}: {operation}: all {MAX_LANES} connections to {self.address.shown} were busy"
            if time.monotonic() >= patience.ends.get():
                return patience.AllBusy(text + maybe, job_ids, sent)
            text += f", and none was given back for as long as a call is tried again ({self._retry_for:g} s)"
            return StoreUnavailable(text + maybe, job_ids, sent)
        if links is not self._links:
            text = f"queue {self.queue!r}: {operation}: the process forked in the middle of the call{maybe}"
        elif links.closed:
            text = f"queue {self.queue!r}: {operation}: the store is closed{maybe}"
        else:
            cause = why(links.gate.error or error or TimeoutError("no reply"))
            text = (
                f"queue {self.queue!r}: {operation}: Redis at {self.address.shown} did not answer for "
                f"{self._retry_for:g} s{maybe}. Last error: {cause}"
            )
        return StoreUnavailable(text, job_ids, sent)

    def _too_old(
        self, operation: str, since: float, error: Exception | None, job_ids: tuple[str, ...]
    ) -> StoreUnavailable:
        cause = f". Last error: {why(error)}" if error else ""
        text = (
            f"queue {self.queue!r}: {operation}: the call was sent {age.now() - since:.0f} s ago, and may have been "
            f"carried out; by now Redis at {self.address.shown} might not know it again{cause}"
        )
        return StoreUnavailable(text, job_ids, True)


_CLIENTS: "weakref.WeakSet[Client]" = weakref.WeakSet()


def _forget_in_child() -> None:
    forget_gates()
    for client in list(_CLIENTS):
        try:
            client.after_fork()
        except Exception:  # noqa: BLE001 - the others must let go of theirs, and a log's lock may be held for ever here
            pass


os.register_at_fork(after_in_child=_forget_in_child)
