"""Properties (MQTT 5.0, 2.2.2): what they are called, where each is allowed and what it may hold."""

from typing import Final, cast

from mfserver.mqtt.constants import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
)
from mfserver.mqtt.data import Reader, encode_binary, encode_integer, encode_string, encode_variable
from mfserver.mqtt.errors import MalformedPacket, ProtocolError, QuotaExceeded, TopicAliasInvalid
from mfserver.mqtt.packets import Properties
from mfserver.mqtt.topics import check_topic_name

__all__ = [
    "WILL",
    "MAX_USER_PROPERTIES",
    "decode_properties",
    "encode_properties",
    "is_payload_well_formed",
    "message_properties",
]

PAYLOAD_FORMAT_INDICATOR: Final = 0x01
MESSAGE_EXPIRY_INTERVAL: Final = 0x02
CONTENT_TYPE: Final = 0x03
RESPONSE_TOPIC: Final = 0x08
CORRELATION_DATA: Final = 0x09
SUBSCRIPTION_IDENTIFIER: Final = 0x0B
SESSION_EXPIRY_INTERVAL: Final = 0x11
ASSIGNED_CLIENT_IDENTIFIER: Final = 0x12
SERVER_KEEP_ALIVE: Final = 0x13
AUTHENTICATION_METHOD: Final = 0x15
AUTHENTICATION_DATA: Final = 0x16
REQUEST_PROBLEM_INFORMATION: Final = 0x17
WILL_DELAY_INTERVAL: Final = 0x18
REQUEST_RESPONSE_INFORMATION: Final = 0x19
RESPONSE_INFORMATION: Final = 0x1A
SERVER_REFERENCE: Final = 0x1C
REASON_STRING: Final = 0x1F
RECEIVE_MAXIMUM: Final = 0x21
TOPIC_ALIAS_MAXIMUM: Final = 0x22
TOPIC_ALIAS: Final = 0x23
MAXIMUM_QOS: Final = 0x24
RETAIN_AVAILABLE: Final = 0x25
USER_PROPERTY: Final = 0x26
MAXIMUM_PACKET_SIZE: Final = 0x27
WILDCARD_SUBSCRIPTION_AVAILABLE: Final = 0x28
SUBSCRIPTION_IDENTIFIERS_AVAILABLE: Final = 0x29
SHARED_SUBSCRIPTION_AVAILABLE: Final = 0x2A

#: The will properties of a CONNECT are a section of their own (3.1.3.2): it takes the reserved packet type.
WILL: Final = 0

#: User properties and subscription identifiers in one packet; more are refused. Each costs many times
#: its bytes in memory.
MAX_USER_PROPERTIES: Final = 1024

_BYTE: Final = 1
_TWO_BYTES: Final = 2
_FOUR_BYTES: Final = 4
_VARIABLE: Final = 5
_BINARY: Final = 6
_STRING: Final = 7
_PAIR: Final = 8

_MESSAGE: Final = (PUBLISH, WILL)
_AUTHENTICATION: Final = (CONNECT, CONNACK, AUTH)
_EVERYWHERE: Final = (WILL, CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK,
                      UNSUBSCRIBE, UNSUBACK, DISCONNECT, AUTH)  # fmt: skip
_ANSWERS: Final = (CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH)

#: Table 2-4: each property's type and the packets that may carry it.
_TABLE: Final[dict[int, tuple[int, tuple[int, ...]]]] = {
    PAYLOAD_FORMAT_INDICATOR: (_BYTE, _MESSAGE),
    MESSAGE_EXPIRY_INTERVAL: (_FOUR_BYTES, _MESSAGE),
    CONTENT_TYPE: (_STRING, _MESSAGE),  # [MQTT-3.3.2-19]
    RESPONSE_TOPIC: (_STRING, _MESSAGE),  # [MQTT-3.3.2-13]
    CORRELATION_DATA: (_BINARY, _MESSAGE),
    SUBSCRIPTION_IDENTIFIER: (_VARIABLE, (PUBLISH, SUBSCRIBE)),
    SESSION_EXPIRY_INTERVAL: (_FOUR_BYTES, (CONNECT, CONNACK, DISCONNECT)),
    ASSIGNED_CLIENT_IDENTIFIER: (_STRING, (CONNACK,)),
    SERVER_KEEP_ALIVE: (_TWO_BYTES, (CONNACK,)),
    AUTHENTICATION_METHOD: (_STRING, _AUTHENTICATION),
    AUTHENTICATION_DATA: (_BINARY, _AUTHENTICATION),
    REQUEST_PROBLEM_INFORMATION: (_BYTE, (CONNECT,)),
    WILL_DELAY_INTERVAL: (_FOUR_BYTES, (WILL,)),
    REQUEST_RESPONSE_INFORMATION: (_BYTE, (CONNECT,)),
    RESPONSE_INFORMATION: (_STRING, (CONNACK,)),
    SERVER_REFERENCE: (_STRING, (CONNACK, DISCONNECT)),
    REASON_STRING: (_STRING, _ANSWERS),
    RECEIVE_MAXIMUM: (_TWO_BYTES, (CONNECT, CONNACK)),
    TOPIC_ALIAS_MAXIMUM: (_TWO_BYTES, (CONNECT, CONNACK)),
    TOPIC_ALIAS: (_TWO_BYTES, (PUBLISH,)),
    MAXIMUM_QOS: (_BYTE, (CONNACK,)),
    RETAIN_AVAILABLE: (_BYTE, (CONNACK,)),
    USER_PROPERTY: (_PAIR, _EVERYWHERE),
    MAXIMUM_PACKET_SIZE: (_FOUR_BYTES, (CONNECT, CONNACK)),
    WILDCARD_SUBSCRIPTION_AVAILABLE: (_BYTE, (CONNACK,)),
    SUBSCRIPTION_IDENTIFIERS_AVAILABLE: (_BYTE, (CONNACK,)),
    SHARED_SUBSCRIPTION_AVAILABLE: (_BYTE, (CONNACK,)),
}

_NON_ZERO: Final = frozenset((SUBSCRIPTION_IDENTIFIER, RECEIVE_MAXIMUM, MAXIMUM_PACKET_SIZE))

#: The properties that travel with a message from its publisher to its subscribers (3.3.2.3).
_TRAVELLING: Final = (
    PAYLOAD_FORMAT_INDICATOR,
    MESSAGE_EXPIRY_INTERVAL,
    CONTENT_TYPE,
    RESPONSE_TOPIC,
    CORRELATION_DATA,
    USER_PROPERTY,
)


def decode_properties(reader: Reader, packet_type: int) -> Properties | None:
    """Read a property length and the properties it counts.

    :param packet_type: whose they are, or :data:`WILL`.
    :return: None when there are none.
    :raises MQTTError: they break a rule.
    """
    length = reader.variable()
    if not length:
        return None
    packet_end = reader.end
    reader.end = reader.pos + length
    if reader.end > packet_end:
        raise MalformedPacket("the properties reach past the end of their packet")
    properties: Properties = {}
    repeated = 0
    while reader.pos < reader.end:
        identifier = reader.variable()
        kind, packets = _TABLE.get(identifier, (0, ()))
        if packet_type not in packets:  # 2.2.2.2
            raise MalformedPacket("a property is unknown or not allowed in this packet")
        value = _decode_value(reader, identifier, kind)
        if kind == _PAIR or (kind == _VARIABLE and packet_type == PUBLISH):
            repeated += 1
            if repeated > MAX_USER_PROPERTIES:
                raise QuotaExceeded("too many user properties")
            cast("list[object]", properties.setdefault(identifier, [])).append(value)
        elif identifier in properties:
            raise ProtocolError("a property stands twice in a packet")
        else:
            properties[identifier] = value
    reader.end = packet_end
    if AUTHENTICATION_DATA in properties and AUTHENTICATION_METHOD not in properties:  # 3.1.2.11.10
        raise ProtocolError("authentication data without an authentication method")
    return properties


def _decode_value(reader: Reader, identifier: int, kind: int) -> object:
    """The value of one property."""
    if kind == _PAIR:
        return reader.string(), reader.string()  # [MQTT-1.5.7-1]
    if kind == _STRING:
        text = reader.string()
        if identifier == RESPONSE_TOPIC:
            check_topic_name(text)  # [MQTT-3.3.2-14]
        return text
    if kind == _BINARY:
        return reader.binary()
    if kind == _BYTE:
        value = reader.byte()
        if value > 1:
            raise ProtocolError("a property holds neither 0 nor 1")  # all eight of this type are so
        return value
    if kind == _TWO_BYTES:
        value = reader.two_bytes()
    elif kind == _FOUR_BYTES:
        value = reader.four_bytes()
    else:
        value = reader.variable()
    if not value and identifier in _NON_ZERO:
        raise ProtocolError("a property is 0 that cannot be")
    if not value and identifier == TOPIC_ALIAS:
        raise TopicAliasInvalid("topic alias 0")  # [MQTT-3.3.2-8]
    return value


def encode_properties(properties: Properties | None, packet_type: int) -> bytes:
    """The property length and the properties, in the order of the dictionary.

    :raises MalformedPacket: a value does not fit its type, or the property its packet.
    """
    if not properties:
        return b"\0"  # [MQTT-2.2.2-1]
    parts: list[bytes] = []
    for identifier, value in properties.items():
        kind, packets = _TABLE.get(identifier, (0, ()))
        if packet_type not in packets:
            raise MalformedPacket("a property is unknown or not allowed in this packet")
        values = value if isinstance(value, list) else (value,)
        for item in values:
            parts.append(bytes((identifier,)))
            parts.append(_encode_value(item, kind))
    encoded = b"".join(parts)
    return encode_variable(len(encoded)) + encoded


def _encode_value(value: object, kind: int) -> bytes:
    """The bytes of one value."""
    if kind == _PAIR:
        name, text = cast("tuple[str, str]", value)
        return encode_string(name) + encode_string(text)
    if kind == _STRING:
        return encode_string(cast(str, value))
    if kind == _BINARY:
        return encode_binary(cast(bytes, value))
    if kind == _VARIABLE:
        return encode_variable(cast(int, value))
    return encode_integer(cast(int, value), kind)


def message_properties(properties: Properties | None) -> Properties | None:
    """Those properties of a PUBLISH or a will that travel on to its subscribers, unchanged.

    [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20], of a will
    [MQTT-3.1.3-10]
    """
    if not properties:
        return None
    return {
        identifier: properties[identifier] for identifier in _TRAVELLING if identifier in properties
    } or None


def is_payload_well_formed(properties: Properties | None, payload: bytes) -> bool:
    """Whether a payload is what its payload format indicator says: UTF-8 (3.3.2.3.2, of a will 3.1.3.2.3)."""
    if properties is None or properties.get(PAYLOAD_FORMAT_INDICATOR) != 1:
        return True
    try:
        payload.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
