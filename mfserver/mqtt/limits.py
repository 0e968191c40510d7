"""How much one client may ask for, and what the server has not got."""

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
