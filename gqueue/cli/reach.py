"""Where Redis is for a command, and whether it answers, asked once before anything else is done with it.

A URL that was given is never replaced by another here.
"""

import logging
import socket

from gqueue import config
from gqueue.errors import GqueueError, StoreUnavailable

LOOK_S = 5.0
"""How long the port may take to accept or refuse; on this machine it takes no time at all."""

_logger = logging.getLogger("gqueue.demo")


class Unreachable(GqueueError, ConnectionError):
    """Redis cannot be reached at the start: exit code 3."""


def check(url: str) -> str:
    """Return what the server at *url* is and where, for the log; raise Unreachable, StoreTooOld, BadSetting."""
    from gqueue.store import reach

    try:
        return reach.check(url)
    except StoreUnavailable as error:
        raise Unreachable(str(error)) from error


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
