"""Where the master is, asked of sentinels at each connection, and once a second while there are calls.

Decides which sentinel is asked first, whom to believe, and what is said when none helps; leaves trying again to the
client, as for any server that is away. A server that they name counts only if it says itself that it is the master: a
sentinel may not have heard of a failover yet. A master that was replaced by command answers for some 10 s more, and
what it acknowledges is lost when it is demoted: so it is not waited for that. redis-py's own sentinel support resolves
inside its pools, which are not used here, and tries again by itself.
"""

import time
from typing import Any

from redis import exceptions
from redis.exceptions import RedisError

from gqueue.config import is_of_sentinels, masked, read_sentinels
from gqueue.errors import BadSetting
from gqueue.store.connection import Address, Link, RedisConnection, connect, pack
from gqueue.store.outage import Fault, UnknownService, fault_of, noted

SENTINEL_S = 1.0
"""How long a sentinel may take to accept, and to answer: it does nothing else, and there are others."""

LOOK_EVERY_S = 1.0
"""So often, while there are calls, a sentinel is asked whether the master is still where it was."""

LOOK_S = 0.25
"""How long a call waits for that at most; a sentinel that takes longer is asked last from then on."""

Place = tuple[str, int]


def address_of(url: str) -> Address:
    """Return the address that *url* stands for: of a server, or of the sentinels that know it; raise BadSetting."""
    return SentinelAddress(url) if is_of_sentinels(url) else Address(url)


class SentinelAddress(Address):
    """A master, wherever it is now, as sentinels say; shared by all connections to it.

    *master* is where the last connection found it, None before the first. Threads replace both values whole: a
    heartbeat shares no lock with greenlets.
    """

    def __init__(self, url: str) -> None:
        """Read *url*; raise BadSetting if it is none."""
        try:
            said = read_sentinels(url)
        except ValueError as error:
            raise BadSetting(f"{masked(url)} is no URL of sentinels: {error}") from None
        super().__init__(said.server_url, masked(url))
        self.service = said.service
        own = {"username": said.username, "password": said.password, "db": 0}
        self.sentinels = [Sentinel(host, port, self.moved_to(host, port, **own)) for host, port in said.hosts]
        self.master: Place | None = None
        self._look_at = 0.0

    @property
    def place(self) -> str:
        """Return where the master is, or who knows."""
        return _text(self.master) if self.master else f"{self.service} of {', '.join(map(str, self.sentinels))}"

    def link(self, reply_timeout: float) -> Link:
        """Return a connection that looks for the master when it is opened."""
        return MasterLink(self, reply_timeout)

    def helped(self, sentinel: "Sentinel", master: Place) -> None:
        """Note who named the master; it is asked first the next time."""
        self.master = master
        if self.sentinels[0] is not sentinel:
            self.sentinels = [sentinel, *(other for other in self.sentinels if other is not sentinel)]
        self._look_at = time.monotonic() + LOOK_EVERY_S

    def look(self) -> None:
        """If it is time to, ask a sentinel where the master is now; one that does not say is no reason to stop."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        sentinel, *others = self.sentinels
        try:
            place = sentinel.ask(self.service, LOOK_S)
        except RedisError:
            self.sentinels = [*others, sentinel]
            return
        if place is not None:
            self.master = place


class Sentinel:
    """One sentinel, by its host and port."""

    def __init__(self, host: str, port: int, address: Address) -> None:
        self._place, self._address = (host, port), address

    def __str__(self) -> str:
        """Return host:port."""
        return _text(self._place)

    def ask(self, service: str, timeout: float) -> Place | None:
        """Return where the master of *service* is, None if it is not watched here; the errors are those of redis-py."""
        link = self._address.link(min(SENTINEL_S, timeout))
        try:
            link.open()
            reply = link.exchange(pack((b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service)))
        finally:
            link.close()
        if reply is None:
            return None
        try:
            host, port = reply
            return host.decode(), int(port)
        except (TypeError, ValueError, AttributeError):
            raise exceptions.InvalidResponse(f"it answers {reply!r}") from None


class MasterLink(Link):
    """A connection to the master: opening it asks the sentinels in turn until one that they name is the master."""

    def __init__(self, address: SentinelAddress, reply_timeout: float) -> None:
        super().__init__(address.connection(reply_timeout))
        self._address, self._reply_timeout = address, reply_timeout
        self._place: Place | None = None

    @property
    def outdated(self) -> bool:
        """Return whether the master was found elsewhere since; asks the sentinels for it now and then."""
        self._address.look()
        return self._address.master != self._place

    def open(self) -> None:
        """Find the master and connect to it.

        Raises what redis-py does, ConnectionError if no sentinel helps: it tells what each said.
        """
        self.fresh = False
        address, said, seen = self._address, [], {}
        faults: list[Fault | None] = []
        for sentinel in address.sentinels:
            try:
                place = sentinel.ask(address.service, self._reply_timeout)
            except RedisError as error:
                said.append(f"{sentinel}: {_short(error)}")
                faults.append(fault_of(error))
                continue
            if place is None:
                said.append(f"{sentinel} knows no {address.service!r}")
                faults.append(None)
                continue
            if place not in seen:
                try:
                    seen[place] = self._connect(place)
                except RedisError as error:
                    if fault_of(error) is not Fault.AWAY:
                        raise
                    seen[place] = f"where there is no master now: {_short(error)}"
            if not seen[place]:
                return address.helped(sentinel, place)
            said.append(f"{sentinel} names {_text(place)}, {seen[place]}")
            faults.append(Fault.AWAY)
        told = "; ".join(said)
        if all(fault is None for fault in faults):
            raise UnknownService(f"no sentinel watches a service {address.service!r}: check its name ({told})")
        if all(fault is Fault.REFUSED for fault in faults):
            raise exceptions.AuthenticationError(
                f"the sentinels want other credentials (sentinel_username, sentinel_password): {told}"
            )
        raise exceptions.ConnectionError(f"no master of {address.service!r} was found: {told}")

    def _connect(self, place: Place) -> str:
        """Connect; return "" if the master is there, else what is, closed again."""
        self.close()
        connection = self._address.moved_to(*place).connection(self._reply_timeout)
        self._connection, self._place = connection, place
        connect(connection)
        try:
            role = _role(connection)
        except BaseException:
            self.close()
            raise
        if role in ("", "master"):
            return ""
        self.close()
        return f"which says that it is a {role}"


def _role(connection: RedisConnection) -> str:
    """Return what a server says it is, "" if we may not ask: then a write will tell (READONLY)."""
    connection.send_packed_command([pack((b"ROLE",))], check_health=False)
    try:
        reply: Any = connection.read_response()
    except exceptions.NoPermissionError:
        return ""
    return bytes(reply[0]).decode("utf-8", "replace") if isinstance(reply, list) and reply else repr(reply)


def _text(place: Place) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _short(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__) + noted(error)
