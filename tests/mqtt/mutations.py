"""What a liar, a broken client or a bad line makes of a valid control packet.

Half of them keep the remaining length true, so that the fields behind it are what a decoder stumbles over.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from mfserver.mqtt import constants
from mfserver.mqtt.decode import INCOMPLETE, MAX_TOPIC_FILTERS, decode_remaining_length
from mfserver.mqtt.errors import MQTTError
from mfserver.mqtt.properties import MAX_USER_PROPERTIES
from tests.mqtt.cases import framed

__all__ = ["MUTATIONS", "mutate"]

_BYTES: Final = (0x00, 0x01, 0x02, 0x04, 0x2B, 0x23, 0x7F, 0x80, 0x81, 0xFE, 0xFF)
_LENGTHS: Final = (0, 1, 2, 127, 128, 300, 16_383, 16_384, 65_535, 2_097_152, 268_435_455)
#: Surrogates, overlong forms, what is beyond U+10FFFF, ends too early, begins too late, or is U+0000.
_NOT_UTF_8: Final = (
    b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xc0\xaf", b"\xc0\x80", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf",
    b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xc3", b"\xe2\x82", b"\x80", b"\xff", b"\xfe", b"\0",
)  # fmt: skip
#: One of each property, right in itself, and some that are not.
_PROPERTIES: Final = (
    b"\x01\1", b"\x01\2", b"\x02\0\0\0\7", b"\x03\0\1c", b"\x08\0\1r", b"\x08\0\1#", b"\x09\0\1d", b"\x0b\1",
    b"\x0b\0", b"\x0b\xff\xff\xff\x7f", b"\x11\0\0\0\1", b"\x12\0\1i", b"\x13\0\1", b"\x15\0\1m",
    b"\x16\0\1d", b"\x17\0", b"\x18\0\0\0\1", b"\x19\1", b"\x1a\0\1r", b"\x1c\0\1s", b"\x1f\0\1r",
    b"\x21\0\0", b"\x21\0\1", b"\x22\0\2", b"\x23\0\0", b"\x23\0\1", b"\x23\xff\xff", b"\x24\1", b"\x25\1",
    b"\x26\0\1k\0\1v", b"\x26\0\1k\0\3\xed\xa0\x80", b"\x26\0\0\xff\xff", b"\x27\0\0\0\0",
    b"\x27\0\0\0\x20", b"\x28\1", b"\x29\1", b"\x2a\1",
    b"\0\0", b"\x2b\0", b"\x7f\0", b"\x80\1\0", b"\xff\xff\xff\xff",
)  # fmt: skip


def mutate(random: Random, packet: bytes, other: bytes, version: int) -> bytes:
    """One to four mutations of a whole packet.

    :param other: another one, to splice in.
    """
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        packet = random.choice(MUTATIONS)(random, packet, other, version)
    return packet


def _body_of(packet: bytes) -> tuple[int, bytes] | None:
    """First byte and everything behind the remaining length, where a packet still is one."""
    try:
        length, start = decode_remaining_length(packet, 1) if packet else (INCOMPLETE, 0)
    except MQTTError:
        return None
    return None if length == INCOMPLETE else (packet[0], packet[start:])


def _framed_again(random: Random, packet: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Change what is behind the fixed header, and nearly always the remaining length with it."""
    parts = _body_of(packet)
    if parts is None or random.random() < 0.1:
        return change(packet)
    return framed(parts[0], change(parts[1]))


def _flip(random: Random, packet: bytes, _other: bytes, _version: int) -> bytes:
    """Some bits are others."""
    changed = bytearray(packet)
    for _ in range(random.choice((1, 1, 2, 8))):
        if changed:
            changed[_place(random, changed)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _set(random: Random, packet: bytes, _other: bytes, _version: int) -> bytes:
    """A byte is one that means something."""
    changed = bytearray(packet)
    if changed:
        changed[_place(random, changed)] = random.choice(_BYTES)
    return bytes(changed)


def _cut(random: Random, packet: bytes, _other: bytes, _version: int) -> bytes:
    """Bytes are missing: at the end, or from the middle."""

    def change(body: bytes) -> bytes:
        start = random.randint(0, len(body))
        return body[:start] + (body[start + random.choice((1, 2, 5)) :] if random.random() < 0.5 else b"")

    return _framed_again(random, packet, change)


def _splice(random: Random, packet: bytes, other: bytes, _version: int) -> bytes:
    """It begins as one packet and goes on as another."""

    def change(body: bytes) -> bytes:
        return body[: random.randint(0, len(body))] + other[random.randint(0, len(other)) :]

    return _framed_again(random, packet, change)


def _repeat(random: Random, packet: bytes, _other: bytes, _version: int) -> bytes:
    """A part stands there several times, at times so often that a bound of ours is met."""
    times = random.choice((2, 2, 3, 50, 2000))

    def change(body: bytes) -> bytes:
        start = random.randint(0, len(body))
        stop = min(len(body), start + random.choice((1, 2, 4, 8, 40)))
        return body[:start] + body[start:stop] * times + body[stop:]

    return _framed_again(random, packet, change)


def _twice(_random: Random, packet: bytes, _other: bytes, _version: int) -> bytes:
    """The packet comes again."""
    return packet * 2


def _first_byte(random: Random, packet: bytes, _other: bytes, _version: int) -> bytes:
    """It is of another type, or has other flags."""
    return bytes((random.getrandbits(8),)) + packet[1:]


def _remaining_length(random: Random, packet: bytes, _other: bytes, _version: int) -> bytes:
    """The remaining length lies, or is longer than it has to be."""
    parts = _body_of(packet)
    if parts is None:
        return packet
    first, body = parts
    length = random.choice((len(body) + 1, max(0, len(body) - 1), *_LENGTHS, len(body)))
    digits = [length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21 & 127]
    if random.random() < 0.2:
        digits[3] |= 128
    elif random.random() < 0.7:
        while len(digits) > 1 and digits[-1] == 0:
            digits.pop()
            digits[-1] &= 127
    return bytes((first, *digits)) + body


def _field_length(random: Random, packet: bytes, _other: bytes, _version: int) -> bytes:
    """Two bytes in the middle, often a length, say something else."""

    def change(body: bytes) -> bytes:
        if len(body) < 2:
            return body
        at = random.choice((0, random.randrange(len(body) - 1)))
        said = int.from_bytes(body[at : at + 2], "big")
        value = random.choice((0, 1, said + 1, said - 1, len(body) - at - 2, 0xFFFF)) & 0xFFFF
        return body[:at] + value.to_bytes(2, "big") + body[at + 2 :]

    return _framed_again(random, packet, change)


def _property(random: Random, packet: bytes, _other: bytes, version: int) -> bytes:
    """Properties that do not belong there, or not twice, or not so; with lengths that are true."""
    parts = _body_of(packet)
    if parts is None or version != constants.MQTT_5_0:
        return packet
    first, body = parts
    at = _section_at(first, body)
    added = b"".join(random.choices(_PROPERTIES, k=random.choice((1, 1, 2, 3))))
    kept = b""
    rest = body[at:]
    if rest and rest[0] < 128 and len(rest) > rest[0]:
        kept, rest = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
    said = framed(0, random.choice((added, kept + added, added + kept)))[1:]
    if random.random() < 0.2:
        said = bytes((said[0] ^ 1,)) + said[1:]
    return framed(first, body[:at].ljust(at, b"\0") + said + rest)


def _text(random: Random, packet: bytes, _other: bytes, _version: int) -> bytes:
    """Bytes that are not UTF-8 stand where text may be; half the time in a string of their own."""

    def change(body: bytes) -> bytes:
        bad = random.choice(_NOT_UTF_8)
        at = random.randint(0, len(body))
        if random.random() < 0.5:
            bad = len(bad).to_bytes(2, "big") + bad
            at = random.choice((0, at))
        return body[:at] + bad + body[at + random.choice((0, len(bad))) :]

    return _framed_again(random, packet, change)


def _bound(random: Random, packet: bytes, _other: bytes, version: int) -> bytes:
    """As many properties or topic filters as we take, or one more; or a topic alias where there is none."""
    parts = _body_of(packet)
    if parts is None:
        return packet
    first, body = parts
    more = random.randrange(2)
    if first >> 4 in (constants.SUBSCRIBE, constants.UNSUBSCRIBE) and random.random() < 0.3:
        one = b"\0\1a\0" if first >> 4 == constants.SUBSCRIBE else b"\0\1a"
        section = b"\0" if version == constants.MQTT_5_0 else b""
        return framed(first, body[:2] + section + one * (MAX_TOPIC_FILTERS + more))
    at = _section_at(first, body)
    many = b"\x26\0\0\0\0" * (MAX_USER_PROPERTIES + more)
    said = many if random.random() < 0.2 else random.choice((b"\x23\0\0", b"\x23\xff\xff"))
    return framed(first, body[:at].ljust(at, b"\0") + framed(0, said)[1:])


def _noise(random: Random, packet: bytes, _other: bytes, _version: int) -> bytes:
    """Any bytes in its place, behind its own fixed header or without one."""
    noise = random.randbytes(random.choice((0, 1, 2, 5, 40)))
    return framed(packet[0], noise) if packet and random.random() < 0.7 else noise


#: Each takes the source of chance, a packet, another packet and the version, and gives bytes.
MUTATIONS: Final[tuple[Callable[[Random, bytes, bytes, int], bytes], ...]] = (
    _flip, _set, _cut, _splice, _repeat, _twice, _first_byte, _remaining_length, _field_length, _property,
    _property, _text, _bound, _noise,
)  # fmt: skip


def _place(random: Random, data: bytearray) -> int:
    """Where to change a byte: half the time among the first, where lengths and flags are."""
    return random.randrange(len(data) if random.random() < 0.5 else min(len(data), 16))


def _section_at(first: int, body: bytes) -> int:
    """Where the property length of a packet of 5.0 stands in its body."""
    packet_type = first >> 4
    if packet_type == constants.PUBLISH:
        return 2 + int.from_bytes(body[:2], "big") + (2 if first & 0x06 else 0)
    if packet_type == constants.CONNECT:
        return 10
    if packet_type in (constants.SUBSCRIBE, constants.SUBACK, constants.UNSUBSCRIBE, constants.UNSUBACK):
        return 2
    if packet_type == constants.CONNACK:
        return 2
    return 1 if packet_type in (constants.DISCONNECT, constants.AUTH) else 3
