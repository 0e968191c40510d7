"""What an MQTT client sent and nobody has looked at yet."""

from collections import deque
from typing import Final

__all__ = ["NOTHING", "SLICE", "Unread"]

#: Bytes that are looked at at once: what they make happen stands in memory all together, and a packet of a
#: few bytes makes an event of a hundred.
SLICE: Final = 16_384
#: Bytes of one client that may wait for their turn before it is read no further, and after which it is again.
_MOST: Final = 65_536
_LEAST: Final = 32_768


class Unread:
    """Bytes in slices, in their order.

    Whoever adds to it holds on to what is returned then: most never do, and share :data:`NOTHING`.

    :ivar slices: what there is, for a look at whether there is any.
    :ivar size: how many there are.
    """

    __slots__ = ("size", "slices")

    def __init__(self) -> None:
        self.slices: deque[bytes] | None = None  # while there is none: an empty one takes 760 bytes
        self.size = 0

    def add(self, data: bytes) -> "Unread":
        """Put bytes behind the others."""
        if not data:
            return self
        unread, slices = self._own()
        unread.size += len(data)
        if slices and len(slices[-1]) + len(data) <= SLICE:
            slices[-1] += data
        else:
            for start in range(0, len(data), SLICE):
                slices.append(data[start : start + SLICE])
        return unread

    def look_again(self) -> "Unread":
        """Put an empty slice before the others: there may be something left of those that were taken."""
        unread, slices = self._own()
        slices.appendleft(b"")
        return unread

    def take(self) -> bytes:
        """Take out the first slice; there is one."""
        slices = self.slices
        assert slices is not None
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

    def _own(self) -> "tuple[Unread, deque[bytes]]":
        unread = Unread() if self is NOTHING else self
        if unread.slices is None:
            unread.slices = deque()
        return unread, unread.slices


#: Of all who have nothing unread; nothing is ever put here.
NOTHING: Final = Unread()
