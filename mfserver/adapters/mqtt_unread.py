"""What an MQTT client sent and nobody has looked at yet."""

from collections import deque
from typing import Final

__all__ = ["SLICE", "Unread"]

#: Bytes that are looked at at once: what they make happen stands in memory all together, and a packet of a
#: few bytes makes an event of a hundred.
SLICE: Final = 16_384
#: Bytes of one client that may wait for their turn before it is read no further, and after which it is again.
_MOST: Final = 65_536
_LEAST: Final = 32_768


class Unread:
    """Bytes in slices, in their order.

    :ivar slices: what there is, for a look at whether there is any.
    :ivar size: how many there are.
    """

    __slots__ = ("size", "slices")

    def __init__(self) -> None:
        self.slices: deque[bytes] | None = None  # while there is none: an empty one takes 760 bytes
        self.size = 0

    def add(self, data: bytes) -> None:
        """Put bytes behind the others."""
        self.size += len(data)
        slices = self._some()
        if slices and len(slices[-1]) + len(data) <= SLICE:
            slices[-1] += data
            return
        if len(data) <= SLICE:
            slices.append(data)
            return
        for start in range(0, len(data), SLICE):
            slices.append(data[start : start + SLICE])

    def look_again(self) -> None:
        """Put an empty slice before the others: there may be something left of those that were taken."""
        self._some().appendleft(b"")

    def take(self) -> bytes:
        """Take out the first slice."""
        slices = self._some()
        data = slices.popleft()
        self.size -= len(data)
        if not slices:
            self.slices = None
        return data

    def is_full(self, was: bool) -> bool:
        """Whether so much waits that nothing is to be added.

        :param was: whether it has been so; it takes less for going on.
        """
        return self.size > (_LEAST if was else _MOST)

    def clear(self) -> None:
        """Forget all of it."""
        self.slices = None
        self.size = 0

    def _some(self) -> deque[bytes]:
        if self.slices is None:
            self.slices = deque()
        return self.slices
