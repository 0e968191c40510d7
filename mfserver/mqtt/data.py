"""Data representation (MQTT 5.0 and 3.1.1, 1.5): integers, strings and binary data on the wire."""

from typing import Final

from mfserver.mqtt.constants import VARIABLE_MAXIMUM
from mfserver.mqtt.errors import MalformedPacket

__all__ = [
    "Reader",
    "decode_text",
    "encode_variable",
    "encode_integer",
    "encode_binary",
    "encode_string",
]

_TRUNCATED: Final = "a field reaches past the end of its packet"


class Reader:
    """Reads the fields of one control packet, one after the other.

    :ivar data: the bytes it reads from; nothing before ``pos`` or from ``end`` on is looked at.
    :ivar pos: where the next field begins.
    :ivar end: where the fields end.
    """

    __slots__ = ("data", "end", "pos")

    def __init__(self, data: bytes, pos: int, end: int) -> None:
        self.data = data
        self.pos = pos
        self.end = end

    def byte(self) -> int:
        """One byte."""
        pos = self.pos
        if pos >= self.end:
            raise MalformedPacket(_TRUNCATED)
        self.pos = pos + 1
        return self.data[pos]

    def two_bytes(self) -> int:
        """A two byte integer."""
        pos = self.pos
        if pos + 2 > self.end:
            raise MalformedPacket(_TRUNCATED)
        self.pos = pos + 2
        return self.data[pos] << 8 | self.data[pos + 1]

    def four_bytes(self) -> int:
        """A four byte integer."""
        return self.two_bytes() << 16 | self.two_bytes()

    def variable(self) -> int:
        """A variable byte integer, in its shortest form."""
        value = 0
        for shift in (0, 7, 14, 21):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    raise MalformedPacket("a variable byte integer is longer than needed")  # [MQTT-1.5.5-1]
                return value
        raise MalformedPacket("a variable byte integer is longer than four bytes")

    def binary(self) -> bytes:
        """Binary data: at most 65,535 bytes."""
        start = self.pos + 2
        stop = start + self.two_bytes()
        if stop > self.end:
            raise MalformedPacket(_TRUNCATED)
        self.pos = stop
        return self.data[start:stop]

    def string(self) -> str:
        """A UTF-8 encoded string."""
        return decode_text(self.binary())

    def rest(self) -> bytes:
        """Everything that is left."""
        pos = self.pos
        self.pos = self.end
        return self.data[pos : self.end]

    def finish(self) -> None:
        """State that nothing is left.

        :raises MalformedPacket: something is.
        """
        if self.pos != self.end:
            raise MalformedPacket("the packet is longer than its fields")


def decode_text(data: bytes) -> str:
    """The text of a UTF-8 encoded string.

    A U+FEFF stays where it is. [MQTT-1.5.3-3] [MQTT-1.5.4-3]

    :raises MalformedPacket: it is not well-formed, or holds U+0000.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        # Python's codec refuses surrogates and overlong forms. [MQTT-1.5.3-1] [MQTT-1.5.4-1]
        raise MalformedPacket("a string is not well-formed UTF-8") from error
    if "\0" in text:
        raise MalformedPacket("a string holds U+0000")  # [MQTT-1.5.3-2] [MQTT-1.5.4-2] [MQTT-4.7.3-2]
    return text


def encode_variable(value: int) -> bytes:
    """A variable byte integer in its shortest form [MQTT-1.5.5-1].

    :raises MalformedPacket: it is above 268,435,455 or negative.
    """
    if not 0 <= value <= VARIABLE_MAXIMUM:
        raise MalformedPacket("a variable byte integer is out of range")
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_integer(value: int, size: int) -> bytes:
    """A big-endian integer of this many bytes. :raises MalformedPacket: it does not fit."""
    if value < 0 or value >> 8 * size:
        raise MalformedPacket("an integer is out of range")
    return value.to_bytes(size, "big")


def encode_binary(value: bytes) -> bytes:
    """Binary data. :raises MalformedPacket: it has more than 65,535 bytes."""
    if len(value) > 0xFFFF:
        raise MalformedPacket("a field is longer than 65,535 bytes")  # [MQTT-4.7.3-3]
    return len(value).to_bytes(2, "big") + value


def encode_string(value: str) -> bytes:
    """A UTF-8 encoded string.

    :raises MalformedPacket: it is longer than 65,535 bytes, or holds a surrogate or U+0000.
    """
    if "\0" in value:
        raise MalformedPacket("a string holds U+0000")  # [MQTT-1.5.3-2] [MQTT-1.5.4-2] [MQTT-4.7.3-2]
    try:
        return encode_binary(value.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise MalformedPacket("a string holds a surrogate") from error  # [MQTT-1.5.3-1] [MQTT-1.5.4-1]
