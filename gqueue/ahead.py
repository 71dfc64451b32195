"""Jobs of the caller's own, taken while the call before is under way."""

import time
from typing import Generic, TypeVar

from gqueue.core.producer import Chunks, worth_taking_ahead

T = TypeVar("T")


class Ahead(Generic[T]):
    """*runs* in order, of which the next may be taken before its turn; what that raises, it raises in its turn.

    Not so what is no Exception: an interrupt is one of the call, too.
    """

    def __init__(self, runs: Chunks[T]) -> None:
        self._runs = runs
        self._next: list[list[T]] = []
        self._error: Exception | None = None
        self._took_ms = 0.0

    def __iter__(self) -> "Ahead[T]":
        return self

    def __next__(self) -> list[T]:
        """Return the next."""
        if self._error is not None:
            raise self._error
        return self._next.pop() if self._next else self._take()

    def take(self) -> None:
        """Take the next, unless it was taken already or would take long, by what the one before it took."""
        if self._next or self._error is not None or not worth_taking_ahead(self._took_ms):
            return
        try:
            self._next.append(self._take())
        except Exception as error:  # noqa: BLE001 - StopIteration as well
            self._error = error

    def taken(self) -> int:
        """Return how many jobs were taken of which no run has come yet."""
        return sum(map(len, self._next)) + len(self._runs.beyond)

    def _take(self) -> list[T]:
        began = time.monotonic()
        run = next(self._runs)
        self._took_ms = (time.monotonic() - began) * 1000
        return run
