"""Requests whose head a connection has sent before, to the byte: most devices send no other.

Such a head means what it meant the first time, so it is not taken apart again. What it lets its sender do is
asked anew each time. Nothing is learned from a head that was not answered by all of twisted.web first.
"""

import re
from collections.abc import Callable
from hmac import compare_digest
from typing import Final

from twisted.internet.defer import Deferred

__all__ = ["Again", "Begun", "Heads"]

#: What a handler makes of the body of a request whose head came before on its connection: True when it has
#: been served, a Deferred when that goes on, and False when nothing was done and the request has to be served
#: as any other.
Again = Callable[[bytes], "Deferred[None] | bool"]
#: What was begun with a body, and the status of its success.
Begun = tuple["Deferred[None]", int]

#: Heads that are remembered of one connection, and the bytes of one.
_MAX_HEADS: Final = 4
_MAX_SIZE: Final = 1024
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)\r\n", re.IGNORECASE)


class _Head:
    """One head, without the digits of its Content-Length.

    :ivar status: of a success.
    """

    __slots__ = ("_before", "_headers", "_line", "again", "status")

    def __init__(self, line: bytes, before: bytes, after: bytes, again: Again, status: int) -> None:
        self._line = line
        self._before = len(before)
        self._headers = before + after
        self.again = again
        self.status = status

    def length(self, line: bytes, headers: bytes) -> int | None:
        """The length of the body that comes with a request line and headers; None if they are others."""
        if line != self._line:
            return None
        end = self._before + len(headers) - len(self._headers)
        digits = headers[self._before : end]
        if not digits.isdigit():
            return None
        same = compare_digest(headers[: self._before] + headers[end:], self._headers)  # a key is among them
        return int(digits) if same else None


class Heads:
    """What one connection has sent before. Its use is to be told of each request that begins."""

    __slots__ = ("_candidate", "_heads")

    def __init__(self) -> None:
        self._heads: list[_Head] = []  # the one that was learned last is last
        self._candidate: tuple[bytes, bytes, bytes] | None = None

    def begin(self, data: bytes) -> "tuple[_Head, int, int] | None":
        """Look at what begins with a request's first byte.

        :return: the head that came before, and where in the data this request's body begins and ends; None
            where the head is another, or not all here.
        """
        end = data.find(_END) + len(_END)
        line_end = data.find(b"\r\n")
        self._candidate = None
        if end < len(_END) or end > _MAX_SIZE:
            return None
        line, headers = data[:line_end], data[line_end:end]
        for head in self._heads:
            length = head.length(line, headers)
            if length is not None:
                return head, end, end + length
        self._candidate = self._split(line, headers)
        return None

    def learn(self, again: Again, status: int) -> None:
        """Remember the head of the request that began last, if it can be."""
        if self._candidate is not None:
            line, before, after = self._candidate
            self._heads.append(_Head(line, before, after, again, status))
            del self._heads[:-_MAX_HEADS]

    def end(self) -> None:
        """The request that began last is answered."""
        self._candidate = None

    def forget(self, head: _Head) -> None:
        """It did not count any more."""
        self._heads.remove(head)

    @staticmethod
    def _split(line: bytes, headers: bytes) -> tuple[bytes, bytes, bytes] | None:
        """A head that can be remembered: of a body whose length it says once.

        A query may hold a key; and behind an empty line, which twisted.web passes over, the line is not the
        request's.
        """
        found = _LENGTH.search(headers)
        if found is None or headers.lower().count(b"content-length") != 1 or b"?" in line or not line:
            return None
        return line, headers[: found.start(1)], headers[found.end(1) :]
