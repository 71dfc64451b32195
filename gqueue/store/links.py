"""All connections of a store in one process: lanes for calls, and one for each kind of wait.

Under gevent's patching each native thread has connections of its own, since a socket belongs to the hub of the
thread that opened it, and only that thread may close it; another thread can but interrupt what goes on there. When it
ends, its hub is gone, and their descriptors are closed beneath it.
"""

import itertools
import threading
from collections import defaultdict

from gqueue.store import owners
from gqueue.store.connection import Address, Lanes, LanesClosed, Link
from gqueue.store.outage import Gate, gate_to

WAIT_TIMEOUT_S = 10.0
"""A blocking command that has had no reply for so long will have none."""


class Links:
    """All connections of a client in this process; a forked child gets another."""

    def __init__(self, address: Address, reply_timeout: float, speaks: bool) -> None:
        self.address, self._reply_timeout = address, reply_timeout
        self.gate, self._speaks = gate_to(address.shown, speaks=speaks), speaks
        self._parted = False
        self.lock = threading.Lock()
        self.closed = False
        self._owner = owners.telling()
        self._lanes: dict[int, Lanes] = {}
        self._idle: defaultdict[tuple[str, int], list[Link]] = defaultdict(list)
        self._waiting: dict[Link, tuple[str, int]] = {}
        owners.tell_of_ends(self)

    def lanes(self) -> Lanes:
        """Return the connections for calls that the current thread may use."""
        lanes = self._lanes.get(self._owner())
        if lanes is None:
            with self.lock:
                lanes = self._lanes.setdefault(self._owner(), Lanes(self._new_link))
                if self.closed:
                    raise LanesClosed
        return lanes

    def take_waiting(self, kind: str) -> Link:
        """Return a connection for one blocking wait."""
        if self.closed:
            raise LanesClosed
        place = (kind, self._owner())
        link = self._idle_one(place) or self.address.link(WAIT_TIMEOUT_S)
        self._waiting[link] = place
        return link

    def _idle_one(self, place: tuple[str, int]) -> Link | None:
        idle = self._idle[place]
        while True:
            try:
                link = idle.pop()
            except IndexError:
                return None
            if not link.outdated:  # one that only listens would not notice that another server took over
                return link
            link.close()

    def give_waiting(self, kind: str, link: Link) -> None:
        """Give a waiting connection back after a complete reply."""
        place = self._waiting.pop(link, (kind, self._owner()))
        self._idle[place].append(link)
        if self.closed or link.stopped:
            self._close_idle(None if self.closed else place)

    def drop_waiting(self, link: Link) -> None:
        """Close a waiting connection."""
        self._waiting.pop(link, None)
        link.close()

    def stop_waiting(self, kind: str) -> None:
        """Close the current thread's connections for waits of *kind*; those under way end at once."""
        place = (kind, self._owner())
        for link, its in list(self._waiting.items()):
            if its == place:
                link.stopped = True
                link.interrupt()
        self._close_idle(place)

    def close(self) -> None:
        """Close what is idle, interrupt what is not."""
        with self.lock:
            self.closed = True
        self.gate.wake()
        for owner, lanes in list(self._lanes.items()):
            lanes.close(ours=owner == self._owner())
        for link in list(self._waiting):
            link.interrupt()
        self._close_idle()

    def forget(self) -> None:
        """In a forked child: close the copies and touch no lock."""
        self.closed = True
        for lanes in self._lanes.values():
            lanes.forget()
        for link in (*self._waiting, *(link for idle in self._idle.values() for link in idle)):
            link.forget()

    def clear_out(self, owner: int) -> None:
        """Close the descriptors of an owner whose thread ends: by its end its hub, and what waited there, are gone."""
        lanes = self._lanes.pop(owner, None)
        if lanes is not None:
            lanes.forget(without_hub=True)
        idle = [self._idle.pop(place) for place in list(self._idle) if place[1] == owner]
        waiting = [link for link, place in list(self._waiting.items()) if place[1] == owner]
        for link in (*waiting, *itertools.chain(*idle)):
            self._waiting.pop(link, None)
            link.forget(without_hub=True)

    def part(self) -> None:
        """Have a gate of one's own from now on: what is wrong concerns a part of a cluster, not the other queues."""
        if not self._parted:
            shared, self._parted = self.gate, True
            self.gate = Gate(self.address.shown, speaks=self._speaks)
            self.gate.hurry(shared.longest_s)

    def is_closed(self) -> bool:
        """Return whether the store was closed."""
        return self.closed

    def count(self) -> int:
        """Return the number of connections for calls."""
        return sum(len(lanes) for lanes in list(self._lanes.values()))

    def _new_link(self) -> Link:
        return self.address.link(self._reply_timeout)

    def _close_idle(self, place: tuple[str, int] | None = None) -> None:
        for (kind, owner), idle in list(self._idle.items()):
            while idle and place in (None, (kind, owner)):
                try:
                    link = idle.pop()
                except IndexError:
                    break
                link.close() if owner == self._owner() else link.interrupt()
