"""Where the master is, asked of sentinels at each connection, and once a second while there are calls.

Decides which sentinel is asked first, whom to believe, and what is said when none helps; leaves trying again to the
client, as for any server that is away. A server that they name counts only if it says itself that it is the master: a
sentinel may not have heard of a failover yet. A master that was replaced by command answers for some 10 s more, and
what it acknowledges is lost when it is demoted: so it is not waited for that. Of two sentinels that differ the one of
the higher config-epoch is ahead: Sentinel raises it in the moment in which it begins to name the promoted one.
redis-py's own sentinel support resolves inside its pools, which are not used here, and tries again by itself.
"""

import time
from typing import Any

from attrs import evolve, frozen
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
"""How long a call waits for that at most; of a sentinel that takes longer nothing follows, another is asked next."""

Place = tuple[str, int]


@frozen
class Named:
    """What a sentinel says: where the master is, and since which config-epoch, None if it may not be asked that."""

    place: Place
    epoch: int | None


@frozen
class Known:
    """The master that we are on, its config-epoch, None if no sentinel told it, and the sentinels that named it."""

    place: Place
    epoch: int | None
    by: "frozenset[Sentinel]"

    def is_ahead_of(self, named: Named) -> bool:
        """Return whether a sentinel is behind, or its epochs began anew: which of the two cannot be seen."""
        return named.epoch is not None and self.epoch is not None and named.epoch < self.epoch

    def is_left_for(self, named: Named, sentinel: "Sentinel") -> bool:
        """Return whether a master that works is to be left, since *sentinel* has *named* another.

        It was here and is there now; or it knows of a later failover. One that is late knows neither.
        """
        later = named.epoch is not None and self.epoch is not None and named.epoch > self.epoch
        return named.place != self.place and (later or sentinel in self.by)

    def told(self, named: Named, sentinel: "Sentinel") -> "Known":
        """Return what is known when *sentinel*, which is believed, has *named* a master."""
        if named.place != self.place or self.is_ahead_of(named):
            return Known(named.place, named.epoch, frozenset([sentinel]))
        return evolve(self, epoch=self.epoch if named.epoch is None else named.epoch, by=self.by | {sentinel})


def address_of(url: str) -> Address:
    """Return the address that *url* stands for: of a server, or of the sentinels that know it; raise BadSetting."""
    return SentinelAddress(url) if is_of_sentinels(url) else Address(url)


class SentinelAddress(Address):
    """A master, wherever it is now, as sentinels say; shared by all connections to it.

    *known* is what the last connection, or look, found; None before the first. Threads replace the values whole: a
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
        self.known: Known | None = None
        self._to_look_at = self.sentinels
        self._look_at = 0.0

    @property
    def master(self) -> Place | None:
        """Return where the master is, None before the first connection."""
        return self.known.place if self.known else None

    @property
    def place(self) -> str:
        """Return where the master is, or who knows."""
        return place_text(self.master) if self.master else f"{self.service} of {', '.join(map(str, self.sentinels))}"

    def link(self, reply_timeout: float) -> Link:
        """Return a connection that looks for the master when it is opened."""
        return MasterLink(self, reply_timeout)

    def is_behind(self, named: Named) -> bool:
        """Return whether a sentinel that says so is to be believed only if no other helps."""
        return self.known is not None and self.known.is_ahead_of(named)

    def helped(self, sentinel: "Sentinel", named: Named) -> None:
        """Note who named the master; it is asked first the next time."""
        known = self.known
        self.known = known.told(named, sentinel) if known else Known(named.place, named.epoch, frozenset([sentinel]))
        if self.sentinels[0] is not sentinel:
            self.sentinels = [sentinel, *(other for other in self.sentinels if other is not sentinel)]
        self._to_look_at = self.sentinels
        self._look_at = time.monotonic() + LOOK_EVERY_S

    def look(self) -> None:
        """If it is time to, ask a sentinel where the master is now; one that does not say is no reason to stop."""
        now, known = time.monotonic(), self.known
        if now < self._look_at or known is None:
            return
        self._look_at = now + LOOK_EVERY_S
        sentinel, *others = self._to_look_at
        try:
            named = sentinel.ask(self.service, LOOK_S)
        except RedisError:
            named = None
        if self.known is not known:  # found anew meanwhile: what was asked before may be older
            return
        if named is not None and known.is_left_for(named, sentinel):
            self.helped(sentinel, named)
        elif named is not None and named.place == known.place and not known.is_ahead_of(named):
            self.known = known.told(named, sentinel)
        else:
            self._to_look_at = [*others, sentinel]


class Sentinel:
    """One sentinel, by its host and port."""

    def __init__(self, host: str, port: int, address: Address) -> None:
        self._place, self._address = (host, port), address

    def __str__(self) -> str:
        """Return host:port."""
        return place_text(self._place)

    def ask(self, service: str, timeout: float) -> Named | None:
        """Return what it says of *service*, None if it is not watched here; the errors are those of redis-py."""
        link = self._address.link(min(SENTINEL_S, timeout))
        try:
            link.open()
            # One round trip, in one go: no failover comes between the two.
            link.send(
                pack((b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service)) + pack((b"SENTINEL", b"MASTER", service))
            )
            reply = link.receive()
            if reply is None:
                return None
            epoch = _epoch(link)
        finally:
            link.close()
        try:
            host, port = reply
            return Named((host.decode(), int(port)), epoch)
        except (TypeError, ValueError, AttributeError):
            raise exceptions.InvalidResponse(f"it answers {reply!r}") from None


def _epoch(link: Link) -> int | None:
    """Read the config-epoch of a master, None if the sentinel does not tell: an ACL may forbid SENTINEL MASTER."""
    try:
        fields = link.receive()
        return int(fields[fields.index(b"config-epoch") + 1])
    except (exceptions.ResponseError, ValueError, TypeError, IndexError, AttributeError):
        return None


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
        address, said = self._address, []
        faults: list[Fault | None] = []
        seen: dict[Place, str] = {}
        behind: list[tuple[Sentinel, Named]] = []
        for sentinel in address.sentinels:
            try:
                named = sentinel.ask(address.service, self._reply_timeout)
            except RedisError as error:
                said.append(f"{sentinel}: {_short(error)}")
                faults.append(fault_of(error))
                continue
            if named is None:
                said.append(f"{sentinel} knows no {address.service!r}")
                faults.append(None)
            elif address.is_behind(named):
                behind.append((sentinel, named))
            elif self._is_master(named.place, seen):
                return address.helped(sentinel, named)
            else:
                said.append(f"{sentinel} names {place_text(named.place)}, {seen[named.place]}")
                faults.append(Fault.AWAY)
        for sentinel, named in sorted(behind, key=lambda one: -(one[1].epoch or 0)):
            if self._is_master(named.place, seen):
                return address.helped(sentinel, named)
            said.append(f"{sentinel} names {place_text(named.place)}, {seen[named.place]}")
            faults.append(Fault.AWAY)
        told = "; ".join(said)
        if all(fault is None for fault in faults):
            raise UnknownService(f"no sentinel watches a service {address.service!r}: check its name ({told})")
        if all(fault is Fault.REFUSED for fault in faults):
            raise exceptions.AuthenticationError(
                f"the sentinels want other credentials (sentinel_username, sentinel_password): {told}"
            )
        raise exceptions.ConnectionError(f"no master of {address.service!r} was found: {told}")

    def _is_master(self, place: Place, seen: dict[Place, str]) -> bool:
        """Connect, and return whether the master is there; what is else, or was found before, stands in *seen*."""
        if place not in seen:
            try:
                seen[place] = self._connect(place)
            except RedisError as error:
                if fault_of(error) is not Fault.AWAY:
                    raise
                seen[place] = f"where there is no master now: {_short(error)}"
        return not seen[place]

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


def place_text(place: Place) -> str:
    """Return host:port."""
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _short(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__) + noted(error)
