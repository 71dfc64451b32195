"""Where Redis is for a command, whether it answers and whether it lets us work, asked once before all else.

A URL that was given is never replaced by another here.
"""

import logging
import socket

from gqueue import config
from gqueue.errors import GqueueError, StoreUnavailable

LOOK_S = 5.0
"""How long the port may take to accept or refuse; on this machine it takes no time at all."""

_logger = logging.getLogger("gqueue.demo")
_worker_logger = logging.getLogger("gqueue.worker")


class Unreachable(GqueueError, ConnectionError):
    """Redis cannot be reached at the start, or does not let us do our part: exit code 3."""


def check(url: str) -> str:
    """Return what the server at *url* is and where, for the log; raise Unreachable, StoreTooOld, BadSetting."""
    from gqueue.store import reach

    try:
        return reach.check(url)
    except StoreUnavailable as error:
        raise Unreachable(str(error)) from error


def prove_rights(url: str, queue: str) -> None:
    """Raise Unreachable if the user of *url* lacks a right that a worker of *queue* needs; nothing is claimed then.

    A right that is taken away later stops the worker's calls, and loses nothing: so what cannot be tried now is left.
    """
    if url.startswith(("memory:", "embedded:")):
        return
    from gqueue.store import check

    try:
        lacks = check.rights_missing(url, queue, "worker")
    except StoreUnavailable:  # it is loading its data, say: the store waits
        return
    advice = f"`gqueue acl --queue {queue} --role worker` prints all that a worker needs"
    needed = [each for each in lacks if not each.lower().startswith(("+publish", "publish"))]
    if needed:
        raise Unreachable(
            f"queue {queue!r}: the Redis at {config.masked(url)} does not let this user work: {', '.join(needed)} "
            f"{'is' if len(needed) == 1 else 'are'} missing, and nothing was claimed; {advice}"
        )
    if lacks:
        _worker_logger.warning(
            "queue %s: %s is missing: who waits for a result hears of it up to 2 s late; %s", queue, lacks[0], advice
        )


def find_for_demo(url: str | None) -> str:
    """Return the URL for the demo, whose server is not asked yet.

    The embedded server is taken only if no URL was given, on the command line or in the environment, and nothing
    listens on localhost: what is there and answers with an error is an error.
    """
    if not config.url_is_given(url) and not listens("localhost", 6379):
        _logger.info("nothing listens on localhost:6379 and no URL was given: using a private redis-server (embedded:)")
        return "embedded:"
    return config.redis_url(url)


def listens(host: str, port: int) -> bool:
    """Return whether anything listens there. What does not answer at all counts as something."""
    try:
        socket.create_connection((host, port), LOOK_S).close()
    except TimeoutError:
        return True
    except OSError:
        return False
    return True
