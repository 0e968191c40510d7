"""The control packets of MQTT 3.1, 3.1.1 and 5.0 (chapter 3).

Plain classes with slots: they are made for every packet. Where a packet has ``properties``, it is a
dictionary from the property's identifier (see :mod:`.properties`) to its value, or None when it carries
none, as always in 3.1 and 3.1.1.
"""

from typing import ClassVar, TypeAlias

__all__ = [
    "Properties",
    "Packet",
    "Will",
    "Connect",
    "Connack",
    "Publish",
    "Acknowledgement",
    "Puback",
    "Pubrec",
    "Pubrel",
    "Pubcomp",
    "Subscription",
    "Subscribe",
    "Suback",
    "Unsubscribe",
    "Unsuback",
    "Pingreq",
    "Pingresp",
    "Disconnect",
    "Auth",
]

#: An integer, string or bytes by its identifier; user properties are a list of pairs of strings and the
#: subscription identifiers of a PUBLISH a list of integers.
Properties: TypeAlias = dict[int, object]


class Packet:
    """The base of all packets and their parts: they compare by value and print without secrets.

    :cvar fields: the attributes, in the order of the constructor.
    :cvar hidden: those of which :func:`repr` shows only whether they are there.
    """

    __slots__ = ()
    fields: ClassVar[tuple[str, ...]] = ()
    hidden: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(
            getattr(self, name) == getattr(other, name) for name in self.fields
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = []
        for name in self.fields:
            value = getattr(self, name)
            values.append(f"{name}={'***' if name in self.hidden and value is not None else repr(value)}")
        return f"{type(self).__name__}({', '.join(values)})"


class Will(Packet):
    """A will message (3.1.2.5, 3.1.3.2-3.1.3.4)."""

    __slots__ = ("payload", "properties", "qos", "retain", "topic")
    fields = ("topic", "payload", "qos", "retain", "properties")
    hidden = ("payload",)

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties


class Connect(Packet):
    """Connection request (3.1).

    :ivar version: 3, 4 or 5.
    :ivar client_id: 0 to 65,535 bytes of UTF-8.
    :ivar clean_start: 3.x calls it clean session.
    :ivar keep_alive: seconds; 0 for none.
    :ivar user_name: None when there is none; so the password.
    """

    __slots__ = (
        "clean_start",
        "client_id",
        "keep_alive",
        "password",
        "properties",
        "user_name",
        "version",
        "will",
    )
    fields = (
        "version",
        "client_id",
        "clean_start",
        "keep_alive",
        "user_name",
        "password",
        "will",
        "properties",
    )
    hidden = ("password",)

    def __init__(
        self,
        version: int,
        client_id: str,
        clean_start: bool = True,
        keep_alive: int = 0,
        user_name: str | None = None,
        password: bytes | None = None,
        will: Will | None = None,
        properties: Properties | None = None,
    ) -> None:
        self.version = version
        self.client_id = client_id
        self.clean_start = clean_start
        self.keep_alive = keep_alive
        self.user_name = user_name
        self.password = password
        self.will = will
        self.properties = properties


class Connack(Packet):
    """Connect acknowledgement (3.2).

    :ivar reason_code: as on the wire: in 3.x a return code of 0 to 5.
    """

    __slots__ = ("properties", "reason_code", "session_present")
    fields = ("reason_code", "session_present", "properties")

    def __init__(
        self, reason_code: int = 0, session_present: bool = False, properties: Properties | None = None
    ) -> None:
        self.reason_code = reason_code
        self.session_present = session_present
        self.properties = properties


class Publish(Packet):
    """Publish message (3.3).

    :ivar packet_id: 1 to 65,535; 0 at QoS 0, which has none.
    """

    __slots__ = ("dup", "packet_id", "payload", "properties", "qos", "retain", "topic")
    fields = ("topic", "payload", "qos", "dup", "retain", "packet_id", "properties")
    hidden = ("payload",)

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        dup: bool = False,
        retain: bool = False,
        packet_id: int = 0,
        properties: Properties | None = None,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.dup = dup
        self.retain = retain
        self.packet_id = packet_id
        self.properties = properties


class Acknowledgement(Packet):
    """What PUBACK, PUBREC, PUBREL and PUBCOMP have in common (3.4-3.7)."""

    __slots__ = ("packet_id", "properties", "reason_code")
    fields = ("packet_id", "reason_code", "properties")

    def __init__(self, packet_id: int, reason_code: int = 0, properties: Properties | None = None) -> None:
        self.packet_id = packet_id
        self.reason_code = reason_code
        self.properties = properties


class Puback(Acknowledgement):
    """Publish acknowledgement, QoS 1 (3.4)."""

    __slots__ = ()


class Pubrec(Acknowledgement):
    """Publish received, QoS 2 (3.5)."""

    __slots__ = ()


class Pubrel(Acknowledgement):
    """Publish release, QoS 2 (3.6)."""

    __slots__ = ()


class Pubcomp(Acknowledgement):
    """Publish complete, QoS 2 (3.7)."""

    __slots__ = ()


class Subscription(Packet):
    """One topic filter of a SUBSCRIBE with its subscription options (3.8.3)."""

    __slots__ = ("no_local", "qos", "retain_as_published", "retain_handling", "topic_filter")
    fields = ("topic_filter", "qos", "no_local", "retain_as_published", "retain_handling")

    def __init__(
        self,
        topic_filter: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> None:
        self.topic_filter = topic_filter
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.retain_handling = retain_handling


class Subscribe(Packet):
    """Subscribe request (3.8)."""

    __slots__ = ("packet_id", "properties", "subscriptions")
    fields = ("packet_id", "subscriptions", "properties")

    def __init__(
        self, packet_id: int, subscriptions: list[Subscription], properties: Properties | None = None
    ) -> None:
        self.packet_id = packet_id
        self.subscriptions = subscriptions
        self.properties = properties


class Suback(Packet):
    """Subscribe acknowledgement (3.9); the reason codes are as on the wire."""

    __slots__ = ("packet_id", "properties", "reason_codes")
    fields = ("packet_id", "reason_codes", "properties")

    def __init__(self, packet_id: int, reason_codes: list[int], properties: Properties | None = None) -> None:
        self.packet_id = packet_id
        self.reason_codes = reason_codes
        self.properties = properties


class Unsubscribe(Packet):
    """Unsubscribe request (3.10)."""

    __slots__ = ("packet_id", "properties", "topic_filters")
    fields = ("packet_id", "topic_filters", "properties")

    def __init__(
        self, packet_id: int, topic_filters: list[str], properties: Properties | None = None
    ) -> None:
        self.packet_id = packet_id
        self.topic_filters = topic_filters
        self.properties = properties


class Unsuback(Packet):
    """Unsubscribe acknowledgement (3.11); in 3.x it has no reason codes."""

    __slots__ = ("packet_id", "properties", "reason_codes")
    fields = ("packet_id", "reason_codes", "properties")

    def __init__(self, packet_id: int, reason_codes: list[int], properties: Properties | None = None) -> None:
        self.packet_id = packet_id
        self.reason_codes = reason_codes
        self.properties = properties


class Pingreq(Packet):
    """PING request (3.12)."""

    __slots__ = ()


class Pingresp(Packet):
    """PING response (3.13)."""

    __slots__ = ()


class Disconnect(Packet):
    """Disconnect notification (3.14)."""

    __slots__ = ("properties", "reason_code")
    fields = ("reason_code", "properties")

    def __init__(self, reason_code: int = 0, properties: Properties | None = None) -> None:
        self.reason_code = reason_code
        self.properties = properties


class Auth(Packet):
    """Authentication exchange (5.0, 3.15)."""

    __slots__ = ("properties", "reason_code")
    fields = ("reason_code", "properties")

    def __init__(self, reason_code: int = 0, properties: Properties | None = None) -> None:
        self.reason_code = reason_code
        self.properties = properties
