"""Valid control packets by a seeded :class:`random.Random`: some ten thousand times as fast as hypothesis.

They cover what an encoder takes, and their sizes lean to the borders: empty, one, and where a length needs
one byte more.
"""

from collections.abc import Callable
from random import Random
from typing import Final

from mfserver.mqtt import constants
from mfserver.mqtt.constants import REASON_CODES
from mfserver.mqtt.packets import (
    Acknowledgement,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from mfserver.mqtt.properties import WILL

__all__ = [
    "KINDS",
    "TOPICS",
    "any_packet",
    "binary",
    "connect",
    "filters",
    "integer",
    "section",
    "text",
    "will",
]

#: Topic names: few, so that conversations meet in them; with levels that are empty, and far from ASCII.
TOPICS: Final = ("a", "a/b", "/", "a//b", "$SYS/x", "é/€", "\ufeffa", "\U0001f600", "t" * 200, "a/" * 120)
_FILTERS: Final = (*TOPICS, "#", "+", "a/#", "+/+", "+/b/#", "/+", "a/" * 100 + "#", "+/" * 60 + "+")
_LETTERS: Final = "ab/$ \u00e9\u20ac\ufeff\U0001f600\x7f\x01"
_LENGTHS: Final = (0, 0, 1, 1, 2, 3, 5, 8, 20, 126, 127, 128, 300)
_LONG: Final = (16_382, 16_384, 65_535)
_INTEGERS: Final = (0, 1, 2, 5, 126, 127, 128, 255, 256)

#: How the values of each property are made, and in which packets it may stand.
_BYTE, _TWO, _FOUR, _VARIABLE, _BINARY, _TEXT, _TOPIC, _PAIRS, _NUMBERS = range(9)
_MESSAGE: Final = {1: _BYTE, 2: _FOUR, 3: _TEXT, 8: _TOPIC, 9: _BINARY}
_PROPERTIES: Final[dict[int, dict[int, int]]] = {
    WILL: {**_MESSAGE, 0x18: _FOUR},
    constants.CONNECT: {
        0x11: _FOUR, 0x15: _TEXT, 0x16: _BINARY, 0x17: _BYTE, 0x19: _BYTE, 0x21: _TWO, 0x22: _TWO,
        0x27: _FOUR,
    },
    constants.CONNACK: {
        0x11: _FOUR, 0x12: _TEXT, 0x13: _TWO, 0x15: _TEXT, 0x16: _BINARY, 0x1A: _TEXT, 0x1C: _TEXT,
        0x1F: _TEXT, 0x21: _TWO, 0x22: _TWO, 0x24: _BYTE, 0x25: _BYTE, 0x27: _FOUR,
        0x28: _BYTE, 0x29: _BYTE, 0x2A: _BYTE,
    },
    constants.PUBLISH: {**_MESSAGE, 0x23: _TWO, 0x0B: _NUMBERS},
    constants.SUBSCRIBE: {0x0B: _VARIABLE},
    constants.UNSUBSCRIBE: {},
    constants.DISCONNECT: {0x11: _FOUR, 0x1C: _TEXT, 0x1F: _TEXT},
    constants.AUTH: {0x15: _TEXT, 0x16: _BINARY, 0x1F: _TEXT},
}  # fmt: skip
_NOT_0: Final = (0x0B, 0x21, 0x23, 0x27)


def text(random: Random, long: bool = False) -> str:
    """A string that MQTT can carry; with ``long`` now and then up to 65,535 bytes."""
    length = _length(random, long)
    if length > 300:
        return random.choice("a\u00e9") * (length // 2)
    return "".join(random.choices(_LETTERS, k=length))


def binary(random: Random, long: bool = False) -> bytes:
    """Binary data."""
    return random.randbytes(_length(random, long))


def integer(random: Random, bits: int, least: int = 0) -> int:
    """An integer of at most so many bits, often at a border."""
    most = (1 << bits) - 1
    value = random.choice((*_INTEGERS, most, most - 1, random.getrandbits(bits)))
    return max(least, min(value, most))


def filters(random: Random, version: int) -> list[str]:
    """One topic filter or more, of 5.0 shared ones too."""
    found = random.choices(_FILTERS, k=random.choice((1, 1, 1, 2, 3, 40)))
    if version == constants.MQTT_5_0 and random.random() < 0.3:
        found[0] = f"$share/g/{found[0]}"
    return found


def section(random: Random, version: int, packet_type: int) -> Properties | None:
    """Properties that this packet may carry, in any order; None in 3.x, and at times in 5.0."""
    if version != constants.MQTT_5_0 or random.random() < 0.4:
        return None
    kinds = {**_PROPERTIES.get(packet_type, {0x1F: _TEXT}), 0x26: _PAIRS}
    chosen = random.sample(list(kinds), k=min(len(kinds), random.choice((1, 1, 2, 99))))
    properties: Properties = {key: _value(random, key, kinds[key]) for key in chosen}
    if 0x16 in properties:
        properties.setdefault(0x15, "method")
    return properties


def will(random: Random, version: int, topic: str) -> Will:
    """A will message to this topic."""
    payload = binary(random)
    return Will(topic, payload, random.randrange(3), random.random() < 0.5, section(random, version, WILL))


def connect(random: Random, version: int) -> Connect:
    """Any CONNECT."""
    user_name = text(random) if random.random() < 0.5 else None
    password = binary(random) if random.random() < 0.5 else None
    if version != constants.MQTT_5_0 and user_name is None:
        password = None
    properties = section(random, version, constants.CONNECT)
    return Connect(
        version,
        text(random, long=True),
        random.random() < 0.5,
        integer(random, 16),
        user_name,
        password,
        will(random, version, random.choice(TOPICS)) if random.random() < 0.5 else None,
        properties,
    )


def any_packet(random: Random, version: int) -> Packet:
    """Any packet that this version has, whoever may send it; more of those with more to be wrong."""
    kinds = [*KINDS, Connect, Publish, Publish, Subscribe]
    if version != constants.MQTT_5_0:
        kinds.remove(Auth)
    return KINDS[random.choice(kinds)](random, version)


def _connack(random: Random, version: int) -> Packet:
    codes = sorted(REASON_CODES[constants.CONNACK]) if version == constants.MQTT_5_0 else range(6)
    code = random.choice((0, *codes))
    present = not code and version != constants.MQTT_3_1 and random.random() < 0.5
    return Connack(code, present, section(random, version, constants.CONNACK))


def _publish(random: Random, version: int) -> Packet:
    qos = random.randrange(3)
    packet_id = integer(random, 16, 1) if qos else 0
    properties = section(random, version, constants.PUBLISH)
    topic = random.choice(TOPICS)
    if properties and 0x23 in properties and random.random() < 0.5:
        topic = ""
    dup, retain = qos > 0 and random.random() < 0.3, random.random() < 0.3
    return Publish(topic, binary(random, long=True), qos, dup, retain, packet_id, properties)


def _acknowledgement(kind: type[Acknowledgement], packet_type: int) -> "Callable[[Random, int], Packet]":
    def build(random: Random, version: int) -> Packet:
        code = 0
        if version == constants.MQTT_5_0:
            code = random.choice((0, *sorted(REASON_CODES[packet_type])))
        return kind(integer(random, 16, 1), code, section(random, version, packet_type))

    return build


def _subscribe(random: Random, version: int) -> Packet:
    subscriptions = []
    for topic_filter in filters(random, version):
        subscription = Subscription(topic_filter, random.randrange(3))
        if version == constants.MQTT_5_0:
            subscription.no_local = not topic_filter.startswith("$share/") and random.random() < 0.3
            subscription.retain_as_published = random.random() < 0.3
            subscription.retain_handling = random.randrange(3)
        subscriptions.append(subscription)
    return Subscribe(integer(random, 16, 1), subscriptions, section(random, version, constants.SUBSCRIBE))


def _suback(random: Random, version: int) -> Packet:
    codes = {3: [0, 1, 2], 4: [0, 1, 2, 0x80], 5: sorted(REASON_CODES[constants.SUBACK])}[version]
    granted = random.choices(codes, k=random.choice((1, 1, 3, 130)))
    return Suback(integer(random, 16, 1), granted, section(random, version, constants.SUBACK))


def _unsubscribe(random: Random, version: int) -> Packet:
    properties = section(random, version, constants.UNSUBSCRIBE)
    return Unsubscribe(integer(random, 16, 1), filters(random, version), properties)


def _unsuback(random: Random, version: int) -> Packet:
    codes: list[int] = []
    if version == constants.MQTT_5_0:
        codes = random.choices(sorted(REASON_CODES[constants.UNSUBACK]), k=random.choice((1, 1, 3, 130)))
    return Unsuback(integer(random, 16, 1), codes, section(random, version, constants.UNSUBACK))


def _disconnect(random: Random, version: int) -> Packet:
    if version != constants.MQTT_5_0:
        return Disconnect()
    code = random.choice((0, *sorted(REASON_CODES[constants.DISCONNECT])))
    return Disconnect(code, section(random, version, constants.DISCONNECT))


def _auth(random: Random, version: int) -> Packet:
    properties = section(random, version, constants.AUTH) or {}
    properties.setdefault(0x15, "method")
    return Auth(random.choice(sorted(REASON_CODES[constants.AUTH])), properties)


#: What makes each kind of packet.
KINDS: Final[dict[type[Packet], Callable[[Random, int], Packet]]] = {
    Connect: connect,
    Connack: _connack,
    Publish: _publish,
    Puback: _acknowledgement(Puback, constants.PUBACK),
    Pubrec: _acknowledgement(Pubrec, constants.PUBREC),
    Pubrel: _acknowledgement(Pubrel, constants.PUBREL),
    Pubcomp: _acknowledgement(Pubcomp, constants.PUBCOMP),
    Subscribe: _subscribe,
    Suback: _suback,
    Unsubscribe: _unsubscribe,
    Unsuback: _unsuback,
    Pingreq: lambda _random, _version: Pingreq(),
    Pingresp: lambda _random, _version: Pingresp(),
    Disconnect: _disconnect,
    Auth: _auth,
}


def _length(random: Random, long: bool) -> int:
    return random.choice(_LONG) if long and random.random() < 0.02 else random.choice(_LENGTHS)


def _value(random: Random, key: int, kind: int) -> object:
    if kind == _TEXT:
        return text(random)
    if kind == _TOPIC:
        return random.choice(TOPICS)
    if kind == _BINARY:
        return binary(random)
    if kind == _PAIRS:
        return [(text(random), text(random)) for _ in range(random.choice((1, 1, 2, 30)))]
    if kind == _NUMBERS:
        return [integer(random, 28, 1) for _ in range(random.choice((1, 1, 3)))]
    bits = {_BYTE: 1, _TWO: 16, _FOUR: 32, _VARIABLE: 28}[kind]
    return integer(random, bits, 1 if key in _NOT_0 else 0)
