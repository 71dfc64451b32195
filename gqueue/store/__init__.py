"""Where queues are kept. `open_store` is the door; what a store does is the contract in `store.base`.

Importing this package loads neither redis nor a store.
"""

import threading
from typing import TYPE_CHECKING

from gqueue.errors import BadSetting

if TYPE_CHECKING:
    from gqueue.core.model import Rules
    from gqueue.store.base import Store
    from gqueue.store.memory import MemoryStore

_memory: "dict[tuple[str, str], MemoryStore]" = {}
_memory_lock = threading.Lock()


def open_store(url: str, name: str, rules: "Rules", *, retry_for_ms: int = 10_000) -> "Store":
    """Return a store of the queue *name* at *url*; it connects when it is first used.

    `memory:` (or `memory:ANYTHING`) is a queue of this process, one for each url and name; `embedded:` a private
    redis-server of this user; else a URL that redis-py knows (redis://, rediss://, unix://), or of sentinels that
    know where the server is: redis+sentinel://, rediss+sentinel://.

    Args:
        retry_for_ms: how long a call is tried again while Redis is away, before it raises StoreUnavailable.

    Raises:
        BadSetting: the URL cannot be read.
    """
    scheme = url.partition(":")[0]
    if scheme == "memory" and ":" in url:
        return _open_memory(url, name, rules)
    if scheme == "embedded" and ":" in url:
        from gqueue import embedded

        url = embedded.serve()
    elif scheme not in ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"):
        from gqueue.config import masked

        raise BadSetting(
            f"{masked(url)!r} is no URL of a queue's store: "
            "it begins with redis://, rediss://, unix://, redis+sentinel://, rediss+sentinel://, embedded: or memory:"
        )
    from gqueue.store.redis import RedisStore

    return RedisStore(url, name, rules, retry_for_ms=retry_for_ms)


def _open_memory(url: str, name: str, rules: "Rules") -> "Store":
    from gqueue.store.memory import MemoryStore

    with _memory_lock:
        first = _memory.get((url, name))
        if first is None:
            first = _memory[url, name] = MemoryStore(name, rules)
    view = first.clone()
    view.rules = rules
    return view
