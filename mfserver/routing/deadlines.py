"""Many points in time, one timer."""

from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush
from typing import Any, Final, Generic, TypeVar

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

__all__ = ["Deadlines"]

K = TypeVar("K", bound=Hashable)

#: Seconds that the timer sleeps at most: the wall clock may be set forward meanwhile.
_LONGEST: Final = 60.0
_SECOND: Final = 1_000_000_000
#: How many are called in one turn of the reactor: everybody waits for it.
_MANY: Final = 500
#: Seconds that these may take together, but for the last: what ends with one of them may be much.
_ENOUGH: Final = 0.01


class Deadlines(Generic[K]):
    """Calls back for each key when its point in time has come.

    :param due: called with the key. What it raises is logged.
    :param now: the wall clock, in nanoseconds since 1970.
    :param clock: an ``IReactorTime``.
    """

    _log = Logger()

    def __init__(self, due: Callable[[K], None], now: Callable[[], int], clock: Any) -> None:
        self._due = due
        self._now = now
        self._clock = clock
        self._numbers: dict[K, int] = {}
        # Seconds and numbers: no two keys need an order of their own. Those that no key has are over.
        self._heap: list[tuple[int, int, K]] = []
        self._last = 0
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: K) -> bool:
        return key in self._numbers

    def set(self, key: K, seconds: int) -> None:
        """Let this be the key's point in time, in seconds since 1970."""
        self._last += 1
        self._numbers[key] = self._last
        heappush(self._heap, (seconds, self._last, key))
        self._clean()
        if self._call is None or self._heap[0][1] == self._last:  # else the timer is set for an earlier one
            self._wait()

    def drop(self, key: K) -> None:
        """There is nothing to call for this key; there may not have been."""
        if self._numbers.pop(key, None) is not None:
            self._clean()

    def stop(self) -> None:
        """Call nobody any more."""
        self._numbers.clear()
        self._heap.clear()
        self._wait()

    def _clean(self) -> None:
        """Forget what is over, once that is most of it."""
        if len(self._heap) > 2 * len(self._numbers) + 64:
            self._heap = [entry for entry in self._heap if self._numbers.get(entry[2]) == entry[1]]
            heapify(self._heap)

    def _wait(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        if self._heap:
            seconds = (self._heap[0][0] * _SECOND - self._now()) / _SECOND  # exact: a float is early or late
            self._call = self._clock.callLater(min(max(seconds, 0.0), _LONGEST), self._look)

    def _look(self) -> None:
        self._call = None
        now, enough = self._now(), self._clock.seconds() + _ENOUGH
        for _ in range(_MANY):
            if not self._heap or self._heap[0][0] * _SECOND > now or self._clock.seconds() > enough:
                break
            _, number, key = heappop(self._heap)
            if self._numbers.get(key) != number:
                continue  # it was changed or dropped
            del self._numbers[key]
            try:
                self._due(key)
            except Exception:
                self._log.failure("what was due could not be done")
        self._wait()
