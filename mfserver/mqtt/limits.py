"""How much one client may ask for, and how more is refused."""

from typing import cast

from mfserver.mqtt import properties
from mfserver.mqtt.errors import (
    BadAuthenticationMethod,
    PacketTooLarge,
    ProtocolError,
    TopicAliasInvalid,
)
from mfserver.mqtt.packets import Connect, Properties, Publish

__all__ = ["Limits"]

# A string or binary data of full length with its own length.
_FIELD = 2 + 65_535


class Limits:
    """The bounds of a connection; read-only, and one object serves all connections of a listener.

    :ivar max_payload: bytes of the payload of a PUBLISH or a will.
    :ivar max_packet: bytes of a whole control packet, announced as Maximum Packet Size. By default a
        PUBLISH of ``max_payload`` fits with topic name, response topic, correlation data and content type
        at full length, and as much again in other properties.
    :ivar max_connect: bytes of a whole CONNECT. By default client identifier, will topic, will payload,
        user name and password fit at full length, and as much again in properties. It is what somebody
        unknown can make us keep until ``connect_timeout``.
    :ivar connect_timeout: seconds until CONNECT has to be there.
    :ivar receive_maximum: PUBLISHes of QoS 1 and 2 of the client that may be under way. MQTT 3.x knows no
        such bound: there, stop reading while so many wait for our PUBACK or PUBREC.
    :ivar send_quota: PUBLISHes of QoS 1 and 2 that may be under way to the client, 1 to 65,535; less if its
        Receive Maximum is.
    :ivar max_queued_bytes: from so many bytes of messages that wait for the transport on, no more are to be
        sent: see ``Connection.is_writable``.
    :ivar topic_alias_maximum: the highest topic alias a client may use; 0 for none. Each may hold a topic
        name of 65,535 bytes, which counts in ``Connection.held``.
    :ivar max_keep_alive: seconds of the longest keep alive, 1 to 65,535, which a 5.0 client is told where it
        asks for more or for none; 0: every client has the one it asks for.
    """

    __slots__ = (
        "connect_timeout",
        "max_connect",
        "max_keep_alive",
        "max_packet",
        "max_payload",
        "max_queued_bytes",
        "receive_maximum",
        "send_quota",
        "topic_alias_maximum",
    )

    def __init__(
        self,
        *,
        max_payload: int = 1_048_576,
        max_packet: int | None = None,
        max_connect: int = 6 * _FIELD,
        connect_timeout: float = 10.0,
        receive_maximum: int = 1024,
        send_quota: int = 1024,
        max_queued_bytes: int = 1_048_576,
        topic_alias_maximum: int = 32,
        max_keep_alive: int = 0,
    ) -> None:
        self.max_payload = max_payload
        self.max_packet = max_payload + 5 * _FIELD if max_packet is None else max_packet
        self.max_connect = max_connect
        self.connect_timeout = connect_timeout
        self.receive_maximum = receive_maximum
        self.send_quota = send_quota
        self.max_queued_bytes = max_queued_bytes
        self.topic_alias_maximum = topic_alias_maximum
        self.max_keep_alive = max_keep_alive

    def announce(self, keep_alive: int) -> Properties:
        """What CONNACK tells a 5.0 client (3.2.2.3); left out is what it assumes anyhow.

        That is also that every QoS, retained messages and all kinds of subscriptions are available, so that
        nothing is refused for want of them [MQTT-3.2.2-9] [MQTT-3.2.2-10] [MQTT-3.2.2-11] [MQTT-3.2.2-12]
        [MQTT-3.2.2-13] [MQTT-3.2.2-14], of 3.1.1 [MQTT-3.8.3-2].

        There is no response information for anybody [MQTT-3.1.2-28].

        :param keep_alive: what its CONNECT asks for.
        """
        said: Properties = {
            properties.RECEIVE_MAXIMUM: self.receive_maximum,
            properties.MAXIMUM_PACKET_SIZE: self.max_packet,
        }
        if self.topic_alias_maximum:
            said[properties.TOPIC_ALIAS_MAXIMUM] = self.topic_alias_maximum  # [MQTT-3.2.2-18]
        if self.max_keep_alive and not 0 < keep_alive <= self.max_keep_alive:
            said[properties.SERVER_KEEP_ALIVE] = self.max_keep_alive
        return said

    def check_connect(self, connect: Connect) -> None:
        """:raises MQTTError: this CONNECT asks for what we have not got."""
        if connect.properties is not None and properties.AUTHENTICATION_METHOD in connect.properties:
            # [MQTT-4.12.0-1], so that neither side ever sends AUTH: [MQTT-3.1.2-30] [MQTT-3.15.2-2]
            # [MQTT-3.15.2-3] [MQTT-4.12.0-2] [MQTT-4.12.0-3] [MQTT-4.12.0-4] [MQTT-4.12.0-5]
            # [MQTT-4.12.1-1] [MQTT-4.12.1-2]
            raise BadAuthenticationMethod("no authentication method is supported")
        if connect.will is not None and len(connect.will.payload) > self.max_payload:
            raise PacketTooLarge("a will payload is too large")

    def check_publish(self, publish: Publish) -> None:
        """:raises MQTTError: this PUBLISH is too large, or says what only a server says."""
        if len(publish.payload) > self.max_payload:
            raise PacketTooLarge("a payload is too large")
        said = publish.properties
        if said is None:
            return
        if properties.SUBSCRIPTION_IDENTIFIER in said:
            raise ProtocolError("a subscription identifier from a client")  # [MQTT-3.3.4-6]
        if cast(int, said.get(properties.TOPIC_ALIAS, 0)) > self.topic_alias_maximum:
            # [MQTT-3.3.2-9] [MQTT-3.2.2-17]; all others are taken [MQTT-3.3.2-12]
            raise TopicAliasInvalid("a topic alias above the maximum")
