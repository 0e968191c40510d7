"""Taking in N bytes costs O(N), whatever they are and however they are split.

Work is counted, not timed: the calls that the interpreter makes, and the bytes that are copied.
"""

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final, SupportsIndex

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt.connection import Connection, Limits
from mfserver.mqtt.decode import MAX_TOPIC_FILTERS
from mfserver.mqtt.framing import Rest
from mfserver.mqtt.properties import MAX_USER_PROPERTIES
from tests.builds import pure_only
from tests.collecting import not_collecting
from tests.mqtt.cases import framed
from tests.mqtt.conversation import connected

_LIMITS: Final = Limits(max_payload=2_000_000)
_ID: Final = b"\0\7"


class Work:
    """What was done.

    :ivar calls: of functions, in Python or in C.
    :ivar copied: bytes.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.copied = 0


class Received(bytes):
    """Bytes that note what is copied out of them."""

    work = Work()

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        found = super().__getitem__(key)
        if isinstance(found, bytes):
            Received.work.copied += len(found)
            return Received(found)
        return found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        Received.work.copied += len(self)
        return super().decode(encoding, errors)


class Kept(bytearray):
    """A buffer that notes what is copied into it and out of it."""

    def __iadd__(self, data: Any) -> "Kept":  # type: ignore[misc]
        Received.work.copied += len(data)
        super().__iadd__(data)
        return self

    def __bytes__(self) -> bytes:
        Received.work.copied += len(self)
        return Received(bytes(memoryview(self)))


def work_of(connection: Connection, pieces: Iterator[bytes]) -> Work:
    """Feed these pieces. :return: what that costs."""
    work = Received.work = Work()
    connection._rest = Rest()
    connection._rest._kept = Kept()
    chunks = [Received(piece) for piece in pieces]

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        if event.endswith("call"):  # call or c_call
            work.calls += 1

    before = sys.getprofile()
    with not_collecting():
        sys.setprofile(count)
        try:
            for chunk in chunks:
                connection.receive_data(chunk, 1.0)
                while connection.is_behind:
                    connection.receive_data(b"", 1.0)
                connection.data_to_send()
        finally:
            sys.setprofile(before)
    assert not connection.closed
    return work


def cut(data: bytes, size: int, first: int = 0) -> Iterator[bytes]:
    """Pieces of this size, perhaps after a first one of another."""
    if first:
        yield data[:first]
    for start in range(first, len(data), size):
        yield data[start : start + size]


def publish(length: int) -> bytes:
    """One PUBLISH with a long payload."""
    return framed(0x30, b"\0\1t\0" + bytes(length))


def properties(length: int) -> bytes:
    """One PUBLISH with so many bytes of user properties, at most as many as may be."""
    section = b"\x26\0\1k\0\1v" * min(length // 7, MAX_USER_PROPERTIES)
    return framed(0x30, b"\0\1t" + framed(0, section)[1:])


def long_properties(length: int) -> bytes:
    """One PUBLISH with long user properties."""
    one = b"\x26\0\1k" + (2_000).to_bytes(2, "big") + b"v" * 2_000
    return framed(0x30, b"\0\1t" + framed(0, one * (length // len(one)))[1:])


def subscriptions(length: int) -> bytes:
    """One SUBSCRIBE with many topic filters."""
    return framed(0x82, _ID + b"\0" + b"\0\3a/#\0" * min(length // 6, MAX_TOPIC_FILTERS))


def unsubscriptions(length: int) -> bytes:
    """One UNSUBSCRIBE with many topic filters."""
    return framed(0xA2, _ID + b"\0" + b"\0\3+/+" * min(length // 5, MAX_TOPIC_FILTERS))


def long_filters(length: int) -> bytes:
    """SUBSCRIBE with topic filters of the greatest length, all of them levels."""
    one = b"\xff\xfe" + b"+/" * 32_767 + b"\0"
    return framed(0x82, _ID + b"\0" + one * (length // len(one)))


def pings(length: int) -> bytes:
    """Many of the smallest packets."""
    return b"\xc0\0" * (length // 2)


def messages(length: int) -> bytes:
    """Many of the smallest messages."""
    return framed(0x30, b"\0\1t\0") * (length // 6)


def acknowledgements(length: int) -> bytes:
    """Many of the smallest acknowledgements."""
    return framed(0x40, _ID) * (length // 4)


def aliases(length: int) -> bytes:
    """A long topic with an alias, and many small packets that use it."""
    return framed(0x30, b"\3\xe8" + b"t" * 1_000 + b"\3\x23\0\1") + framed(0x30, b"\0\0\3\x23\0\1") * (
        length // 8
    )


_KINDS: Final[tuple[Callable[[int], bytes], ...]] = (
    publish, properties, long_properties, subscriptions, unsubscriptions, pings, aliases,
    messages, acknowledgements,
)  # fmt: skip


@pure_only
class LinearTests(SynchronousTestCase):
    """:meth:`~mfserver.mqtt.connection.Connection.receive_data`."""

    def work(self, pieces: Iterator[bytes]) -> Work:
        """What a connected client of 5.0 makes us do."""
        return work_of(connected(5, _LIMITS), pieces)

    def test_no_split_makes_much_more_work(self) -> None:
        """In halves, in small pieces, byte by byte, with the border of each packet in the wrong place: each
        byte is copied a few times."""
        for kind in _KINDS:
            data = kind(6_000)
            whole = self.work(iter([data]))
            self.assertLessEqual(whole.copied, 3 * len(data), kind.__name__)
            for size, first in ((len(data) // 2 + 1, 0), (1_000, 0), (64, 1), (7, 3), (1, 0)):
                split = self.work(cut(data, size, first))
                self.assertLessEqual(split.copied, 8 * len(data), (kind.__name__, size))
                pieces = len(data) // size + 2
                self.assertLessEqual(split.calls, 2 * whole.calls + 40 * pieces, (kind.__name__, size))

    def test_twice_the_bytes_are_twice_the_work(self) -> None:
        """A packet, or a stream of them, of double length costs about double, however it is split."""
        for kind in (*_KINDS, long_filters):
            for size in (1_000, 64):
                bound = MAX_USER_PROPERTIES * 7 if kind is properties else MAX_TOPIC_FILTERS * 5
                length = bound // 2 if kind in (properties, subscriptions, unsubscriptions) else 10_000
                if kind in (long_properties, long_filters):
                    length = 70_000
                once, twice = (self.work(cut(kind(many), size)) for many in (length, 2 * length))
                self.assertLessEqual(twice.calls, 2.3 * once.calls + 60, (kind.__name__, size))
                self.assertLessEqual(twice.copied, 2.3 * once.copied + 100, (kind.__name__, size))

    def test_a_packet_of_a_mebibyte(self) -> None:
        """It is copied a few times in pieces as a network makes them, and looked at once it is whole."""
        for data in (publish(1 << 20), long_properties(1 << 18)):
            for size in (1_400, 65_536):
                work = self.work(cut(data, size, first=1))
                self.assertGreaterEqual(work.copied, len(data))
                self.assertLessEqual(work.copied, 5 * len(data), size)
                self.assertLessEqual(work.calls, 20 * (len(data) // size) + 5_000, size)

    def test_what_waits_for_connack_is_linear_too(self) -> None:
        """A client that sends much before it is let in costs what it sends."""

        def work(length: int) -> Work:
            connection = Connection(_LIMITS, 0.0)
            connection.receive_data(b"\x10\x0e\0\4MQTT\5\2\0\0\0\0\1x", 0.0)
            waiting = work_of(connection, cut(pings(length), 100))
            connection.send_connack()
            after = work_of(connection, iter([b""]))
            waiting.calls += after.calls
            waiting.copied += after.copied
            return waiting

        once, twice = work(10_000), work(20_000)
        self.assertGreater(once.copied, 9_000)
        self.assertLessEqual(twice.calls, 2.1 * once.calls)
        self.assertLessEqual(twice.copied, 2.1 * once.copied)
