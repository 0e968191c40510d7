"""Whole control packets from a stream of bytes (MQTT 5.0 and 3.1.1, 2.1), however the network cuts it."""

from typing import Final

from mfserver.mqtt.constants import PACKET_NAMES
from mfserver.mqtt.decode import (
    INCOMPLETE,
    check_first_byte,
    check_remaining_length,
    decode_remaining_length,
)
from mfserver.mqtt.errors import PacketTooLarge, ProtocolError, QuotaExceeded

__all__ = ["NOTHING", "Rest", "find_packet"]


class Rest:
    """The bytes that are kept until they are a whole packet, or until there is time for them.

    Each is copied a bounded number of times. Whoever keeps some holds on to what is returned then: most
    connections never do, and share :data:`NOTHING`.
    """

    __slots__ = ("_kept", "_left", "_needed", "_pos")

    def __init__(self) -> None:
        self._kept = bytearray()
        self._needed = 0
        self._left = b""
        self._pos = 0

    def __len__(self) -> int:
        return len(self._kept) + len(self._left) - self._pos

    @property
    def is_left(self) -> bool:
        """Whether there was no time for all."""
        return bool(self._left)

    def with_data(self, data: bytes) -> tuple[bytes, int]:
        """What is to be looked at now that these bytes came: those that were kept and these.

        :return: nothing while that is less than was needed; and where to begin.
        """
        if self._left:
            left, pos = self._left, self._pos
            self._left, self._pos = b"", 0
            return (left[pos:] + data, 0) if data else (left, pos)
        if not self._kept:
            return data, 0
        self._kept += data
        if len(self._kept) < self._needed:
            return b"", 0
        data = bytes(self._kept)
        self._kept.clear()
        return data, 0

    def leave(self, data: bytes, pos: int) -> "Rest":
        """Leave what begins there for the next time; nothing else is kept."""
        rest = self._own()
        rest._left, rest._pos = data, pos
        return rest

    def keep(self, data: bytes, needed: int) -> "Rest":
        """Keep the beginning of a packet until there are so many bytes of it."""
        rest = self._own()
        rest._kept += data
        rest._needed = needed
        return rest

    def hold(self, data: bytes, maximum: int) -> "Rest":
        """Keep bytes that are not to be looked at yet.

        :raises QuotaExceeded: that is more than the maximum.
        """
        if len(self) + len(data) > maximum:
            raise QuotaExceeded("too much was sent before CONNACK")
        return self.keep(data, 0) if data else self

    def _own(self) -> "Rest":
        return Rest() if self is NOTHING else self

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
        self._left, self._pos = b"", 0


#: Of all who keep nothing; nothing is ever put here.
NOTHING: Final = Rest()


def find_packet(
    data: bytes, pos: int, version: int, allowed: frozenset[int], maximum: int
) -> tuple[int, int]:
    """Find where a control packet ends, and refuse it by its fixed header before what follows is kept.

    :param pos: where it begins; there is at least one byte of it.
    :param version: 0 before CONNECT was read.
    :param allowed: the control packet types that may come now.
    :param maximum: bytes of the whole packet.
    :return: where its variable header begins and where it ends; that is behind the end of the data while the
        fixed header is not all there.
    :raises MQTTError: it cannot be received.
    """
    first = data[pos]
    check_first_byte(first, version)
    if first >> 4 not in allowed:
        # [MQTT-3.1.0-1] [MQTT-3.1.0-2] [MQTT-4.12.0-7], of 3.1.1 [MQTT-3.1.0-1] [MQTT-3.1.0-2]
        raise ProtocolError(f"{PACKET_NAMES[first >> 4]} is not allowed here")
    length, start = decode_remaining_length(data, pos + 1)
    if length == INCOMPLETE:
        return start, len(data) + 1
    check_remaining_length(data, pos, start, version)
    stop = start + length
    if stop - pos > maximum:
        raise PacketTooLarge("a control packet is too large")  # [MQTT-3.2.2-15]
    return start, stop
