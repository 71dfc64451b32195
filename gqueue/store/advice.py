"""What to do about a server that did not let us in, by why it did not: for `gqueue check`."""

import re

from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError

from gqueue.store import denied
from gqueue.store.outage import Fault, UnknownService, fault_of, noted

_OF_THE_FILES = "cannot be read"
"""What `connection.connect` notes of a file that TLS needs."""

_BY_WORDS: tuple[tuple[str, str], ...] = (
    (_OF_THE_FILES, "look at that path in the URL, and whether this user may read the file"),
    ("speak TLS|rediss://", "look at the scheme and the port: redis:// is plain, rediss:// is TLS"),
    (
        "DB index|Invalid Database",
        "it has fewer databases: give a smaller number in the URL, or raise `databases`",
    ),
    ("SELECT is not allowed in cluster", "a cluster has database 0 alone: take the number out of the URL"),
    ("sentinel_password", "look at sentinel_username and sentinel_password in the URL"),
    ("NOAUTH|WRONGPASS|Authentication required|invalid username-password|invalid password|AUTH <password>", ""),
    ("Name or service not known|nodename|name resolution|getaddrinfo", "look at the name of the host, and at the DNS"),
    ("DENIED", "it is in protected mode: set a password (requirepass), or bind it to an address"),
)
_CREDENTIALS = "look at the user and the password in the URL; special characters are written as %XX"


def advice(error: Exception, queue: str = "") -> str:
    """Return what to do about *error*, of redis-py or the operating system, that came when the server was asked."""
    text = f"{error}{noted(error)}"
    if isinstance(error, UnknownService):
        return "look at the name of the service in the URL: SENTINEL MASTERS tells those that are watched"
    for words, what in _BY_WORDS:
        if re.search(words, text, re.IGNORECASE):
            return what or _CREDENTIALS
    if isinstance(error, AuthenticationError):
        return _CREDENTIALS
    if isinstance(error, NoPermissionError):
        lacks = denied.lacking(text, "", queue) or "what it asks for"
        return f"allow the user {lacks}: gqueue acl --queue NAME prints all that a role needs"
    if isinstance(error, BusyLoadingError):
        return "it is loading its data: check again in a while"
    fault = fault_of(error)
    if fault is Fault.UNTRUSTED:
        return "look at ssl_ca_certs, ssl_certfile, ssl_keyfile in the URL, and at names and dates of the certificates"
    if fault is Fault.CROWDED:
        return "raise its maxclients, or end some of its clients"
    return "start it, or give another URL"
