"""What an MQTT client sent and nobody has looked at yet."""

from collections import deque
from typing import Final

__all__ = ["Unread"]

#: Bytes that are looked at at once: what they make happen stands in memory all together, and a packet of a
#: few bytes makes an event of a hundred.
_SLICE: Final = 16_384


class Unread:
    """Bytes in slices, in their order.

    :ivar size: how many there are.
    """

    __slots__ = ("_slices", "size")

    def __init__(self) -> None:
        self._slices: deque[bytes] = deque()
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._slices)

    def add(self, data: bytes) -> None:
        """Put bytes behind the others."""
        self.size += len(data)
        if len(data) <= _SLICE:
            self._slices.append(data)
            return
        for start in range(0, len(data), _SLICE):
            self._slices.append(data[start : start + _SLICE])

    def look_again(self) -> None:
        """Put an empty slice before the others: there may be something left of those that were taken."""
        self._slices.appendleft(b"")

    def take(self) -> bytes:
        """Take out the first slice."""
        data = self._slices.popleft()
        self.size -= len(data)
        return data

    def clear(self) -> None:
        """Forget all of it."""
        self._slices.clear()
        self.size = 0
