"""Control packets to bytes (MQTT 3.1, 3.1.1 and 5.0): the inverse of :mod:`.decode`."""

from collections.abc import Callable
from typing import Final, cast

from mfserver.mqtt.constants import (
    AUTH,
    CLEAN_START_FLAG,
    CONNACK,
    CONNECT,
    DISCONNECT,
    MQTT_3_1,
    MQTT_5_0,
    PASSWORD_FLAG,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    USER_NAME_FLAG,
    WILL_FLAG,
    WILL_RETAIN_FLAG,
)
from mfserver.mqtt.data import Reader, encode_binary, encode_integer, encode_string, encode_variable
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
    Unsuback,
    Unsubscribe,
)
from mfserver.mqtt.properties import TOPIC_ALIAS, WILL, encode_properties

__all__ = ["EncodedPublish", "encode_publish_parts", "encode"]


class EncodedPublish:
    """A PUBLISH that is encoded but for its packet identifier, so that all its receivers share the bytes.

    :ivar topic: its topic name.
    :ivar qos: at QoS 0 ``head`` is the whole packet and ``tail`` empty.
    :ivar head: what stands before the packet identifier.
    :ivar tail: what stands behind it.
    :ivar size: bytes of the whole packet.
    """

    __slots__ = ("_nameless", "head", "qos", "size", "tail", "topic")

    def __init__(self, topic: str, qos: int, head: bytes, tail: bytes) -> None:
        self.topic = topic
        self.qos = qos
        self.head = head
        self.tail = tail
        self.size = len(head) + len(tail) + (2 if qos else 0)
        # With a topic alias instead of the topic: the same for all who have that, but for two numbers.
        self._nameless: tuple[bytes, bytes, memoryview] | None = None

    def aliased(self, alias: int, is_new: bool, packet_id: int, dup: bool) -> tuple[bytes, memoryview]:
        """The same with a topic alias; of MQTT 5.0 only.

        :param is_new: whether the alias is set by this packet; else the topic name is left out.
        :param packet_id: of no matter at QoS 0, as is ``dup``.
        :return: the bytes that are this packet's, and those that it shares with all others.
        """
        parts = None if is_new else self._nameless
        if parts is None:
            parts = self._split(is_new)
            if not is_new:
                self._nameless = parts
        start, middle, message = parts
        if self.qos:
            if dup:
                start = bytes((start[0] | 8,)) + start[1:]
            start += packet_id.to_bytes(2, "big")
        return b"".join((start, middle, alias.to_bytes(2, "big"))), message

    def _split(self, is_named: bool) -> tuple[bytes, bytes, memoryview]:
        """What stands before the packet identifier, between that and a topic alias, and behind it."""
        fields = Reader(self.head, 1, len(self.head))
        fields.variable()
        topic = fields.binary()
        name = encode_binary(topic if is_named else b"")
        if self.qos:
            fields = Reader(self.tail, 0, len(self.tail))
        middle = encode_variable(fields.variable() + 3) + bytes((TOPIC_ALIAS,))
        message = memoryview(fields.data)[fields.pos :]
        length = len(name) + (2 if self.qos else 0) + len(middle) + 2 + len(message)
        return self.head[:1] + encode_variable(length) + name, middle, message


def encode_publish_parts(
    version: int,
    topic: str,
    payload: bytes,
    qos: int,
    retain: bool = False,
    properties: Properties | None = None,
) -> EncodedPublish:
    """Encode a PUBLISH once for everybody who speaks this version and gets it at this QoS (3.3).

    Its DUP flag is 0 [MQTT-3.3.1-3] [MQTT-4.3.1-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2].

    :param properties: left out in 3.x.
    :raises MalformedPacket: a field cannot be encoded, or all of it is too long.
    """
    name = encode_string(topic)
    section = encode_properties(properties, PUBLISH) if version == MQTT_5_0 else b""
    first = PUBLISH << 4 | qos << 1 | (1 if retain else 0)
    length = len(name) + (2 if qos else 0) + len(section) + len(payload)
    if length < 0x80:
        head = (first << 8 | length).to_bytes(2, "big")
    else:
        head = first.to_bytes(1, "big") + encode_variable(length)
    if qos == 0:
        return EncodedPublish(topic, 0, b"".join((head, name, section, payload)), b"")
    return EncodedPublish(topic, qos, head + name, section + payload)


def encode(packet: Packet, version: int) -> bytes:
    """Encode one control packet in its shortest form.

    It does not repeat what :mod:`.decode` asks of the meaning of a packet, only that its fields fit.

    :param version: 3, 4 or 5; a CONNECT says it itself.
    :raises MalformedPacket: a field cannot be encoded, or all of it is too long.
    """
    return _ENCODERS[type(packet)](packet, version)


def _framed(first: int, body: bytes) -> bytes:
    """A packet from its first byte and everything behind the remaining length."""
    return bytes((first,)) + encode_variable(len(body)) + body  # [MQTT-2.1.3-1], of 3.1.1 [MQTT-2.2.2-1]


def _connect(packet: Packet, _version: int) -> bytes:
    """CONNECT (3.1)."""
    connect = cast(Connect, packet)
    version = connect.version
    will = connect.will
    flags = CLEAN_START_FLAG if connect.clean_start else 0
    if will is not None:
        flags |= WILL_FLAG | will.qos << 3 | (WILL_RETAIN_FLAG if will.retain else 0)
    if connect.user_name is not None:
        flags |= USER_NAME_FLAG
    if connect.password is not None:
        flags |= PASSWORD_FLAG
    parts = [
        encode_string("MQIsdp" if version == MQTT_3_1 else "MQTT"),
        bytes((version, flags)),
        encode_integer(connect.keep_alive, 2),
    ]
    if version == MQTT_5_0:
        parts.append(encode_properties(connect.properties, CONNECT))
    parts.append(encode_string(connect.client_id))
    if will is not None:
        if version == MQTT_5_0:
            parts.append(encode_properties(will.properties, WILL))
        parts += (encode_string(will.topic), encode_binary(will.payload))
    if connect.user_name is not None:
        parts.append(encode_string(connect.user_name))
    if connect.password is not None:
        parts.append(encode_binary(connect.password))
    return _framed(CONNECT << 4, b"".join(parts))


def _connack(packet: Packet, version: int) -> bytes:
    """CONNACK (3.2)."""
    connack = cast(Connack, packet)
    body = bytes((1 if connack.session_present else 0, connack.reason_code))
    if version == MQTT_5_0:
        body += encode_properties(connack.properties, CONNACK)
    return _framed(CONNACK << 4, body)


def _publish(packet: Packet, version: int) -> bytes:
    """PUBLISH (3.3)."""
    publish = cast(Publish, packet)
    parts = encode_publish_parts(
        version, publish.topic, publish.payload, publish.qos, publish.retain, publish.properties
    )
    if not publish.qos:
        return parts.head
    first = parts.head[0] | (8 if publish.dup else 0)
    return b"".join((bytes((first,)), parts.head[1:], encode_integer(publish.packet_id, 2), parts.tail))


_ACKNOWLEDGEMENTS: Final[dict[type[Packet], int]] = {
    Puback: PUBACK,
    Pubrec: PUBREC,
    Pubrel: PUBREL,
    Pubcomp: PUBCOMP,
}


def _acknowledgement(packet: Packet, version: int) -> bytes:
    """PUBACK, PUBREC, PUBREL, PUBCOMP (3.4-3.7)."""
    acknowledgement = cast(Acknowledgement, packet)
    packet_type = _ACKNOWLEDGEMENTS[type(packet)]
    body = encode_integer(acknowledgement.packet_id, 2)
    if version == MQTT_5_0:
        body += _reason(acknowledgement.reason_code, acknowledgement.properties, packet_type)
    return _framed(packet_type << 4 | (2 if packet_type == PUBREL else 0), body)  # [MQTT-3.6.1-1]


def _subscribe(packet: Packet, version: int) -> bytes:
    """SUBSCRIBE (3.8)."""
    subscribe = cast(Subscribe, packet)
    parts = [encode_integer(subscribe.packet_id, 2)]
    if version == MQTT_5_0:
        parts.append(encode_properties(subscribe.properties, SUBSCRIBE))
    for subscription in subscribe.subscriptions:
        options = subscription.qos
        if version == MQTT_5_0:
            options |= 4 if subscription.no_local else 0
            options |= 8 if subscription.retain_as_published else 0
            options |= subscription.retain_handling << 4
        parts += (encode_string(subscription.topic_filter), bytes((options,)))
    return _framed(SUBSCRIBE << 4 | 2, b"".join(parts))  # [MQTT-3.8.1-1]


def _suback(packet: Packet, version: int) -> bytes:
    """SUBACK (3.9)."""
    suback = cast(Suback, packet)
    body = encode_integer(suback.packet_id, 2)
    if version == MQTT_5_0:
        body += encode_properties(suback.properties, SUBACK)
    return _framed(SUBACK << 4, body + bytes(suback.reason_codes))


def _unsubscribe(packet: Packet, version: int) -> bytes:
    """UNSUBSCRIBE (3.10)."""
    unsubscribe = cast(Unsubscribe, packet)
    parts = [encode_integer(unsubscribe.packet_id, 2)]
    if version == MQTT_5_0:
        parts.append(encode_properties(unsubscribe.properties, UNSUBSCRIBE))
    parts += [encode_string(topic_filter) for topic_filter in unsubscribe.topic_filters]
    return _framed(UNSUBSCRIBE << 4 | 2, b"".join(parts))  # [MQTT-3.10.1-1]


def _unsuback(packet: Packet, version: int) -> bytes:
    """UNSUBACK (3.11)."""
    unsuback = cast(Unsuback, packet)
    body = encode_integer(unsuback.packet_id, 2)
    if version == MQTT_5_0:
        body += encode_properties(unsuback.properties, UNSUBACK) + bytes(unsuback.reason_codes)
    return _framed(UNSUBACK << 4, body)


def _pingreq(_packet: Packet, _version: int) -> bytes:
    """PINGREQ (3.12)."""
    return _framed(PINGREQ << 4, b"")


def _pingresp(_packet: Packet, _version: int) -> bytes:
    """PINGRESP (3.13)."""
    return _framed(PINGRESP << 4, b"")


def _disconnect(packet: Packet, version: int) -> bytes:
    """DISCONNECT (3.14)."""
    disconnect = cast(Disconnect, packet)
    body = b""
    if version == MQTT_5_0:
        body = _reason(disconnect.reason_code, disconnect.properties, DISCONNECT)
    return _framed(DISCONNECT << 4, body)


def _auth(packet: Packet, _version: int) -> bytes:
    """AUTH (3.15)."""
    auth = cast(Auth, packet)
    return _framed(AUTH << 4, _reason(auth.reason_code, auth.properties, AUTH))  # [MQTT-3.15.1-1]


def _reason(code: int, properties: Properties | None, packet_type: int) -> bytes:
    """Reason code and properties, as far as they say anything."""
    if properties:
        return bytes((code,)) + encode_properties(properties, packet_type)
    return bytes((code,)) if code else b""


_ENCODERS: Final[dict[type[Packet], Callable[[Packet, int], bytes]]] = {
    Connect: _connect,
    Connack: _connack,
    Publish: _publish,
    Puback: _acknowledgement,
    Pubrec: _acknowledgement,
    Pubrel: _acknowledgement,
    Pubcomp: _acknowledgement,
    Subscribe: _subscribe,
    Suback: _suback,
    Unsubscribe: _unsubscribe,
    Unsuback: _unsuback,
    Pingreq: _pingreq,
    Pingresp: _pingresp,
    Disconnect: _disconnect,
    Auth: _auth,
}
