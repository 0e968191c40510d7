"""Control packets from bytes (MQTT 3.1, 3.1.1 and 5.0).

Statement numbers are those of 5.0; where 3.1.1 numbers the same rule otherwise, it says so. MQTT 3.1
numbers nothing: where it calls bits unused, they are ignored.
"""

from collections.abc import Callable
from typing import Final

from mfserver.mqtt.constants import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5_0,
    PACKET_NAMES,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    REASON_CODES,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
)
from mfserver.mqtt.data import Reader
from mfserver.mqtt.decode_connect import decode_connect, decode_protocol
from mfserver.mqtt.errors import MalformedPacket, ProtocolError, QuotaExceeded
from mfserver.mqtt.packets import (
    Acknowledgement,
    Auth,
    Connack,
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
)
from mfserver.mqtt.properties import AUTHENTICATION_METHOD, TOPIC_ALIAS, decode_properties
from mfserver.mqtt.topics import check_topic_filter, check_topic_name, is_shared

__all__ = [
    "MAX_TOPIC_FILTERS",
    "INCOMPLETE",
    "check_first_byte",
    "check_remaining_length",
    "decode_remaining_length",
    "decode_body",
    "decode",
]

#: Topic filters in one SUBSCRIBE or UNSUBSCRIBE; more are refused. Each costs many times its bytes in memory.
MAX_TOPIC_FILTERS: Final = 4096

#: The remaining length that is not there yet.
INCOMPLETE: Final = -1

# Flags of the fixed header that have to be 0010 (2.1.3, table 2-2).
_FLAGS_0010: Final = (PUBREL, SUBSCRIBE, UNSUBSCRIBE)


def check_first_byte(first: int, version: int) -> None:
    """State that a packet of this version can begin so.

    MQTT 3.1 lets SUBSCRIBE, UNSUBSCRIBE and PUBREL be repeated with DUP.

    :param version: 0 before CONNECT was read.
    :raises MalformedPacket: a reserved type, or flags that its type cannot have.
    """
    packet_type = first >> 4
    flags = first & 0x0F
    if packet_type == PUBLISH:
        if flags & 0x06 == 0x06:
            raise MalformedPacket("QoS 3")  # [MQTT-3.3.1-4]
        if flags & 0x0E == 0x08 and version != MQTT_3_1:
            raise MalformedPacket("DUP at QoS 0")  # [MQTT-3.3.1-2]
        return
    if packet_type == 0 or (packet_type == AUTH and version in (MQTT_3_1, MQTT_3_1_1)):
        raise MalformedPacket("a reserved control packet type")
    expected = 0x02 if packet_type in _FLAGS_0010 else 0x00
    if version == MQTT_3_1 and expected:
        flags &= 0x07
    if flags != expected:
        # [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
        # and of 3.1.1 [MQTT-2.2.2-1] [MQTT-2.2.2-2]
        raise MalformedPacket(f"reserved flags of {PACKET_NAMES[packet_type]}")


def decode_remaining_length(data: bytes, pos: int) -> tuple[int, int]:
    """The remaining length that begins at ``pos``, and where the variable header begins.

    :return: ``(INCOMPLETE, 0)`` when its bytes are not all there.
    :raises MalformedPacket: it goes on after four bytes.
    """
    value = 0
    end = len(data)
    for shift in (0, 7, 14, 21):
        if pos >= end:
            return INCOMPLETE, 0
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
    raise MalformedPacket("a remaining length is longer than four bytes")


def check_remaining_length(data: bytes, pos: int, start: int, version: int) -> None:
    """State that a remaining length is of the shortest form.

    Only MQTT 5.0 demands that, and only CONNECT says that it is 5.0.

    :param pos: where the packet begins.
    :param start: where its variable header begins.
    :raises MalformedPacket: it is not.
    """
    if version == MQTT_5_0 and data[start - 1] == 0 and start - pos > 2:
        raise MalformedPacket("a remaining length is longer than needed")  # [MQTT-1.5.5-1]


def decode_body(first: int, data: bytes, pos: int, end: int, version: int) -> Packet:
    """Decode one control packet whose fixed header has been read and found right.

    :param first: the first byte of the packet.
    :param pos: where the variable header begins in ``data``.
    :param end: where the packet ends; ``data`` holds at least as much.
    :param version: 3, 4 or 5; of no matter for a CONNECT.
    :raises MQTTError: it breaks a rule.
    """
    reader = Reader(data, pos, end)
    packet = _DECODERS[first >> 4](reader, first, version)
    reader.finish()
    return packet


def decode(data: bytes, version: int = 0) -> Packet:
    """Decode the one control packet that these bytes are.

    :param version: 3, 4 or 5; of no matter for a CONNECT.
    :raises MQTTError: they are not exactly one, or it breaks a rule.
    """
    if not data:
        raise MalformedPacket("no control packet")
    first = data[0]
    if first >> 4 == CONNECT:
        version = 0
    check_first_byte(first, version)
    length, pos = decode_remaining_length(data, 1)
    if length == INCOMPLETE or pos + length != len(data):
        raise MalformedPacket("not exactly one control packet")
    check_remaining_length(data, 0, pos, version)
    packet = decode_body(first, data, pos, len(data), version)
    if first >> 4 == CONNECT:
        check_remaining_length(data, 0, pos, packet.version)  # type: ignore[attr-defined]
    return packet


def _publish(reader: Reader, first: int, version: int) -> Publish:
    """Decode a PUBLISH (3.3)."""
    topic = reader.string()  # [MQTT-3.3.2-1]
    qos = first >> 1 & 3
    packet_id = _packet_id(reader) if qos else 0  # [MQTT-2.2.1-2], of 3.1.1 [MQTT-2.3.1-5]
    properties: Properties | None = None
    if version == MQTT_5_0:
        properties = decode_properties(reader, PUBLISH)
        if not topic and (properties is None or TOPIC_ALIAS not in properties):
            raise ProtocolError("neither a topic name nor a topic alias")  # 3.3.2.1
    if topic or version != MQTT_5_0:
        check_topic_name(topic)
    return Publish(topic, reader.rest(), qos, first & 8 != 0, first & 1 != 0, packet_id, properties)


def _connect(reader: Reader, _first: int, _version: int) -> Packet:
    """CONNECT (3.1)."""
    return decode_connect(reader, decode_protocol(reader))


def _connack(reader: Reader, _first: int, version: int) -> Packet:
    """CONNACK (3.2)."""
    flags = reader.byte()
    if version == MQTT_3_1:
        flags = 0
    elif flags > 1:
        raise MalformedPacket("reserved connect acknowledge flags")  # [MQTT-3.2.2-1]
    code = reader.byte()
    properties: Properties | None = None
    if version == MQTT_5_0:
        _check_reason_code(code, CONNACK)  # [MQTT-3.2.2-8]
        properties = decode_properties(reader, CONNACK)
    elif code > 5:
        raise ProtocolError("a reserved return code")  # 3.1.1, 3.2.2.3
    if flags and code:
        raise ProtocolError("session present in a refusal")  # [MQTT-3.2.2-6], of 3.1.1 [MQTT-3.2.2-4]
    return Connack(code, flags == 1, properties)


_ACKNOWLEDGEMENTS: Final[dict[int, type[Acknowledgement]]] = {
    PUBACK: Puback,
    PUBREC: Pubrec,
    PUBREL: Pubrel,
    PUBCOMP: Pubcomp,
}


def _acknowledgement(reader: Reader, first: int, version: int) -> Packet:
    """PUBACK, PUBREC, PUBREL, PUBCOMP (3.4-3.7): 5.0 may leave out what says nothing."""
    packet_id = _packet_id(reader)
    packet_type = first >> 4
    code = 0
    properties: Properties | None = None
    if version == MQTT_5_0:
        code, properties = _reason(reader, packet_type)
    return _ACKNOWLEDGEMENTS[packet_type](packet_id, code, properties)


def _subscribe(reader: Reader, _first: int, version: int) -> Packet:
    """SUBSCRIBE (3.8)."""
    packet_id = _packet_id(reader)
    properties = decode_properties(reader, SUBSCRIBE) if version == MQTT_5_0 else None
    subscriptions: list[Subscription] = []
    while reader.pos < reader.end:
        topic_filter = _topic_filter(reader, version, len(subscriptions))  # [MQTT-3.8.3-1]
        subscriptions.append(_subscription(topic_filter, reader.byte(), version))
    if not subscriptions:
        raise ProtocolError("SUBSCRIBE without a topic filter")  # [MQTT-3.8.3-2], of 3.1.1 [MQTT-3.8.3-3]
    return Subscribe(packet_id, subscriptions, properties)


def _subscription(topic_filter: str, options: int, version: int) -> Subscription:
    """A topic filter with its subscription options (3.8.3.1)."""
    if version == MQTT_3_1:
        options &= 0x03
    if options & (0xC0 if version == MQTT_5_0 else 0xFC):
        raise MalformedPacket("reserved subscription options")  # [MQTT-3.8.3-5], of 3.1.1 [MQTT-3.8.3-4]
    if options & 0x03 == 0x03:
        raise ProtocolError("a subscription asks for QoS 3")  # 3.8.3.1, of 3.1.1 [MQTT-3.8.3-4]
    if options >> 4 == 3:
        raise ProtocolError("retain handling 3")  # 3.8.3.1
    no_local = options & 0x04 != 0
    if no_local and is_shared(topic_filter):
        raise ProtocolError("a shared subscription with no local")  # [MQTT-3.8.3-4]
    return Subscription(topic_filter, options & 0x03, no_local, options & 0x08 != 0, options >> 4)


def _suback(reader: Reader, _first: int, version: int) -> Packet:
    """SUBACK (3.9)."""
    packet_id = _packet_id(reader)
    properties = decode_properties(reader, SUBACK) if version == MQTT_5_0 else None
    codes = list(reader.rest())
    for code in codes:
        if version == MQTT_5_0:
            _check_reason_code(code, SUBACK)  # [MQTT-3.9.3-2]
        elif code > 2 and (code != 0x80 or version == MQTT_3_1):
            raise ProtocolError("a reserved return code in SUBACK")  # of 3.1.1 [MQTT-3.9.3-2]
    if not codes:
        raise ProtocolError("SUBACK without a reason code")  # [MQTT-3.8.4-6], of 3.1.1 [MQTT-3.8.4-5]
    return Suback(packet_id, codes, properties)


def _unsubscribe(reader: Reader, _first: int, version: int) -> Packet:
    """UNSUBSCRIBE (3.10)."""
    packet_id = _packet_id(reader)
    properties = decode_properties(reader, UNSUBSCRIBE) if version == MQTT_5_0 else None
    filters: list[str] = []
    while reader.pos < reader.end:
        filters.append(_topic_filter(reader, version, len(filters)))  # [MQTT-3.10.3-1]
    if not filters:
        raise ProtocolError("UNSUBSCRIBE without a topic filter")  # [MQTT-3.10.3-2]
    return Unsubscribe(packet_id, filters, properties)


def _unsuback(reader: Reader, _first: int, version: int) -> Packet:
    """UNSUBACK (3.11)."""
    packet_id = _packet_id(reader)
    if version != MQTT_5_0:
        return Unsuback(packet_id, [])
    properties = decode_properties(reader, UNSUBACK)
    codes = list(reader.rest())
    for code in codes:
        _check_reason_code(code, UNSUBACK)  # [MQTT-3.11.3-2]
    if not codes:
        raise ProtocolError("UNSUBACK without a reason code")  # 3.11.3
    return Unsuback(packet_id, codes, properties)


def _pingreq(_reader: Reader, _first: int, _version: int) -> Packet:
    """PINGREQ (3.12)."""
    return Pingreq()


def _pingresp(_reader: Reader, _first: int, _version: int) -> Packet:
    """PINGRESP (3.13)."""
    return Pingresp()


def _disconnect(reader: Reader, _first: int, version: int) -> Packet:
    """DISCONNECT (3.14)."""
    if version != MQTT_5_0:
        return Disconnect()
    code, properties = _reason(reader, DISCONNECT)  # [MQTT-3.14.2-1]
    return Disconnect(code, properties)


def _auth(reader: Reader, _first: int, _version: int) -> Packet:
    """AUTH (3.15)."""
    code, properties = _reason(reader, AUTH)  # [MQTT-3.15.2-1]
    if code and (properties is None or AUTHENTICATION_METHOD not in properties):
        raise ProtocolError("AUTH without an authentication method")  # 3.15.2.2.2
    return Auth(code, properties)


def _reason(reader: Reader, packet_type: int) -> tuple[int, Properties | None]:
    """A reason code and properties, each of which may be left out at the end of a packet of 5.0."""
    if reader.pos == reader.end:
        return 0, None
    code = reader.byte()
    # [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
    _check_reason_code(code, packet_type)
    if reader.pos == reader.end:
        return code, None
    return code, decode_properties(reader, packet_type)


def _check_reason_code(code: int, packet_type: int) -> None:
    """State that this packet may carry this reason code (2.4)."""
    if code not in REASON_CODES[packet_type]:
        raise ProtocolError(f"not a reason code of {PACKET_NAMES[packet_type]}")


def _packet_id(reader: Reader) -> int:
    """A packet identifier."""
    packet_id = reader.two_bytes()
    if not packet_id:
        # [MQTT-2.2.1-3] [MQTT-2.2.1-4], of 3.1.1 [MQTT-2.3.1-1]
        raise ProtocolError("packet identifier 0")
    return packet_id


def _topic_filter(reader: Reader, version: int, before: int) -> str:
    """A topic filter, after so many others in the same packet."""
    if before >= MAX_TOPIC_FILTERS:
        raise QuotaExceeded("too many topic filters in one packet")
    topic_filter = reader.string()
    check_topic_filter(topic_filter, version)
    return topic_filter


_DECODERS: Final[dict[int, Callable[[Reader, int, int], Packet]]] = {
    1: _connect,
    2: _connack,
    3: _publish,
    4: _acknowledgement,
    5: _acknowledgement,
    6: _acknowledgement,
    7: _acknowledgement,
    8: _subscribe,
    9: _suback,
    10: _unsubscribe,
    11: _unsuback,
    12: _pingreq,
    13: _pingresp,
    14: _disconnect,
    15: _auth,
}
