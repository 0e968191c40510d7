"""A share for everybody of what is slow: one address cannot fill the queue that all stand in."""

from collections.abc import Iterator
from contextlib import contextmanager

from mfserver.errors import SlowDown

__all__ = ["Turnstile"]


class Turnstile:
    """Counts who is inside.

    :param places: how many of one address may be inside at a time.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._inside: dict[str, int] = {}

    @contextmanager
    def passed(self, address: str) -> Iterator[None]:
        """Be inside for a while. :raises SlowDown: as many of this address are inside already."""
        inside = self._inside.get(address, 0)
        if inside >= self._places:
            raise SlowDown("too many requests at once from this address", 1.0)
        self._inside[address] = inside + 1
        try:
            yield
        finally:
            left = self._inside[address] - 1
            if left:
                self._inside[address] = left
            else:
                del self._inside[address]
