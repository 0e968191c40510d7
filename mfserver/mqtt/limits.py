"""How much one client may ask for, what the server has not got, and how that is refused."""

from typing import cast

from mfserver.mqtt import properties
from mfserver.mqtt.constants import MQTT_5_0
from mfserver.mqtt.errors import (
    BadAuthenticationMethod,
    PacketTooLarge,
    ProtocolError,
    QoSNotSupported,
    RetainNotSupported,
    SharedSubscriptionsNotSupported,
    SubscriptionIdentifiersNotSupported,
    TopicAliasInvalid,
)
from mfserver.mqtt.packets import Connect, Properties, Publish, Subscribe
from mfserver.mqtt.topics import is_shared

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
    :ivar receive_maximum: QoS 1 PUBLISHes of the client that may wait for our PUBACK. MQTT 3.x knows no
        such bound: there, stop reading when ``Connection.unacknowledged`` gets there.
    :ivar send_quota: QoS 1 PUBLISHes that may wait for the client's PUBACK; less if its Receive Maximum is.
    :ivar max_queued_bytes: bytes that may wait for the client, be it for the transport or for the send
        quota. One packet may always wait alone, however long.
    :ivar maximum_qos: of PUBLISH and will.
    :ivar retain_available: whether PUBLISH and will may set RETAIN.
    :ivar shared_subscriptions: whether there are any.
    :ivar subscription_identifiers: whether there are any.
    :ivar topic_alias_maximum: the highest topic alias a client may use; 0 for none.
    :ivar session_expiry: False: every session ends with its connection, and CONNACK says so.
    """

    __slots__ = (
        "connect_timeout",
        "max_connect",
        "max_packet",
        "max_payload",
        "max_queued_bytes",
        "maximum_qos",
        "receive_maximum",
        "retain_available",
        "send_quota",
        "session_expiry",
        "shared_subscriptions",
        "subscription_identifiers",
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
        maximum_qos: int = 1,
        retain_available: bool = False,
        shared_subscriptions: bool = False,
        subscription_identifiers: bool = False,
        topic_alias_maximum: int = 0,
        session_expiry: bool = False,
    ) -> None:
        self.max_payload = max_payload
        self.max_packet = max_payload + 5 * _FIELD if max_packet is None else max_packet
        self.max_connect = max_connect
        self.connect_timeout = connect_timeout
        self.receive_maximum = receive_maximum
        self.send_quota = send_quota
        self.max_queued_bytes = max_queued_bytes
        self.maximum_qos = maximum_qos
        self.retain_available = retain_available
        self.shared_subscriptions = shared_subscriptions
        self.subscription_identifiers = subscription_identifiers
        self.topic_alias_maximum = topic_alias_maximum
        self.session_expiry = session_expiry

    def announce(self, asked: Properties) -> Properties:
        """What CONNACK tells a 5.0 client (3.2.2.3); left out is what it assumes anyhow.

        :param asked: the properties of its CONNECT.
        """
        said: Properties = {
            properties.RECEIVE_MAXIMUM: self.receive_maximum,
            properties.MAXIMUM_PACKET_SIZE: self.max_packet,
        }
        if self.maximum_qos < 2:
            said[properties.MAXIMUM_QOS] = self.maximum_qos  # [MQTT-3.2.2-9]
        if not self.retain_available:
            said[properties.RETAIN_AVAILABLE] = 0
        if not self.shared_subscriptions:
            said[properties.SHARED_SUBSCRIPTION_AVAILABLE] = 0
        if not self.subscription_identifiers:
            said[properties.SUBSCRIPTION_IDENTIFIERS_AVAILABLE] = 0
        if self.topic_alias_maximum:
            said[properties.TOPIC_ALIAS_MAXIMUM] = self.topic_alias_maximum  # [MQTT-3.2.2-18]
        if asked.get(properties.SESSION_EXPIRY_INTERVAL) and not self.session_expiry:
            said[properties.SESSION_EXPIRY_INTERVAL] = 0
        return said

    def check_connect(self, connect: Connect) -> None:
        """:raises MQTTError: this CONNECT asks for what we have not got."""
        if connect.properties is not None and properties.AUTHENTICATION_METHOD in connect.properties:
            raise BadAuthenticationMethod("no authentication method is supported")  # [MQTT-4.12.0-1]
        will = connect.will
        if will is None:
            return
        if will.qos > self.maximum_qos:
            raise QoSNotSupported("a will at a QoS above the maximum")  # [MQTT-3.2.2-12]
        if will.retain and not self.retain_available:
            raise RetainNotSupported("a retained will")  # [MQTT-3.2.2-13]
        if len(will.payload) > self.max_payload:
            raise PacketTooLarge("a will payload is too large")

    def check_publish(self, publish: Publish) -> None:
        """:raises MQTTError: this PUBLISH asks for what we have not got, or says what only a server says."""
        if publish.qos > self.maximum_qos:
            raise QoSNotSupported("a QoS above the maximum")  # [MQTT-3.2.2-11]
        if publish.retain and not self.retain_available:
            raise RetainNotSupported("retained messages are not available")  # [MQTT-3.2.2-14]
        if len(publish.payload) > self.max_payload:
            raise PacketTooLarge("a payload is too large")
        said = publish.properties
        if said is None:
            return
        if properties.SUBSCRIPTION_IDENTIFIER in said:
            raise ProtocolError("a subscription identifier from a client")  # [MQTT-3.3.4-6]
        if cast(int, said.get(properties.TOPIC_ALIAS, 0)) > self.topic_alias_maximum:
            raise TopicAliasInvalid("a topic alias above the maximum")  # [MQTT-3.3.2-9] [MQTT-3.2.2-17]

    def check_subscribe(self, subscribe: Subscribe, version: int) -> None:
        """:raises MQTTError: this SUBSCRIBE asks for what CONNACK said that we have not got."""
        if version != MQTT_5_0:
            return
        said = subscribe.properties
        if said and properties.SUBSCRIPTION_IDENTIFIER in said and not self.subscription_identifiers:
            raise SubscriptionIdentifiersNotSupported("subscription identifiers are not available")
        if not self.shared_subscriptions and any(
            is_shared(subscription.topic_filter) for subscription in subscribe.subscriptions
        ):
            raise SharedSubscriptionsNotSupported("shared subscriptions are not available")
