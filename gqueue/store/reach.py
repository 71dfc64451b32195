"""Whether a server answers, asked once: for the start of a program, which is to end at once if it does not.

Decides what counts as not reachable: no connection, or an error for a PING. An outage later on is the store's matter,
which tries again.
"""

from redis.exceptions import BusyLoadingError, RedisError

from gqueue.errors import StoreUnavailable
from gqueue.store import server as servers
from gqueue.store.connection import pack
from gqueue.store.outage import noted
from gqueue.store.sentinel import address_of

CONNECT_S = 5.0
"""How long the connection and each reply may take: two lost SYNs, which are sent again after 1 and 3 seconds."""


def check(url: str) -> str:
    """Return what the server at *url* is and where, the password masked: `Redis 7.0.15 at redis://localhost/0`.

    `embedded:` starts the private server.

    Raises:
        StoreUnavailable: with the URL and the error.
        StoreTooOld, BadSetting.
    """
    if url.startswith("memory:"):
        return "the memory of this process"
    if url.startswith("embedded:"):
        from gqueue import embedded

        url = embedded.serve()
    address = address_of(url)
    link = address.link(CONNECT_S)
    try:
        link.open()
        link.exchange(pack((b"PING",)))
        server = servers.ask(link)
    except BusyLoadingError:
        return f"a server that is loading its data at {address.shown}"  # it will answer: the store waits
    except (RedisError, OSError) as error:
        why = (" ".join(str(error).split()) or type(error).__name__) + noted(error)
        raise StoreUnavailable(f"Redis at {address.shown} is not reachable: {why}") from error
    finally:
        link.close()
    servers.check(server, address.shown)
    return f"{server} at {address.shown}"
