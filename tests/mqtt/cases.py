"""The one table of control packets: bytes, what they mean, and what is wrong with them.

``GOOD`` decode to their packet, and where they are of the shortest form the packet encodes to them.
``BAD`` raise their error. Tests feed each whole, byte by byte and with bytes behind it.
"""

from mfserver.mqtt.errors import (
    MalformedPacket,
    MQTTError,
    ProtocolError,
    QuotaExceeded,
    TopicAliasInvalid,
    UnsupportedProtocolVersion,
)
from mfserver.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
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

__all__ = ["Good", "Bad", "GOOD", "BAD", "connect_bytes", "framed"]


class Good:
    """Bytes and the packet that they are.

    :ivar shortest: whether the packet encodes to exactly these bytes.
    """

    def __init__(self, name: str, version: int, data: bytes, packet: Packet, shortest: bool = True) -> None:
        self.name = name
        self.version = version
        self.data = data
        self.packet = packet
        self.shortest = shortest


class Bad:
    """Bytes and the error that they raise."""

    def __init__(self, name: str, version: int, data: bytes, error: type[MQTTError]) -> None:
        self.name = name
        self.version = version
        self.data = data
        self.error = error


def framed(first: int, body: bytes) -> bytes:
    """A packet with its remaining length, written independently of the encoder."""
    length = len(body)
    header = bytes((first,))
    while True:
        length, digit = divmod(length, 128)
        header += bytes((digit | (128 if length else 0),))
        if not length:
            return header + body


def connect_bytes(
    version: int, flags: int, rest: bytes, keep_alive: int = 10, level: int | None = None
) -> bytes:
    """A CONNECT: name, level, flags, keep alive, and what comes behind (the property length too)."""
    name = b"\0\6MQIsdp" if version == 3 else b"\0\4MQTT"
    body = name + bytes((version if level is None else level, flags)) + keep_alive.to_bytes(2, "big") + rest
    return framed(0x10, body)


_TOPIC = b"\0\3a/b"
_ALL = (3, 4, 5)
_ID = b"\0\x0a"


def _p(version: int, section: bytes = b"\0") -> bytes:
    """A property section, which only 5.0 has."""
    return section if version == 5 else b""


def _every_version(version: int) -> list[Good]:
    """The packets that every version has, without what only 5.0 can say."""
    p = _p(version)
    return [
        Good("CONNECT", version, connect_bytes(version, 2, p + b"\0\1x"), Connect(version, "x", True, 10)),
        Good(
            "CONNECT with everything",
            version,
            connect_bytes(version, 0xEC,
                p + b"\0\1x" + p + b"\0\1w" + b"\0\2\0\xff" + b"\0\1u" + b"\0\1\xfe"),
            Connect(version, "x", False, 10, "u", b"\xfe", Will("w", b"\0\xff", 1, True)),
        ),
        Good("CONNECT with no client identifier", version, connect_bytes(version, 2, p + b"\0\0"),
             Connect(version, "", True, 10)),
        Good("CONNECT with a long client identifier", version,
             connect_bytes(version, 2, p + b"\xff\xff" + b"x" * 65_535), Connect(version, "x" * 65_535,
                 True, 10)),
        Good("CONNECT with a user name alone", version, connect_bytes(version, 0x82, p + b"\0\1x\0\0"),
             Connect(version, "x", True, 10, "")),
        Good("CONNACK", version, framed(0x20, b"\0\0" + p), Connack()),
        Good("PUBLISH at QoS 0", version, framed(0x30, _TOPIC + p + b"pay"), Publish("a/b", b"pay")),
        Good("PUBLISH at QoS 1", version, framed(0x32, _TOPIC + _ID + p), Publish("a/b", b"", 1,
            packet_id=10)),
        Good("PUBLISH at QoS 2 with DUP and RETAIN", version, framed(0x3D, _TOPIC + _ID + p + b"\0"),
             Publish("a/b", b"\0", 2, True, True, 10)),
        Good("PUBLISH with a byte order mark", version, framed(0x30, b"\0\4\xef\xbb\xbfa" + p),
             Publish("\ufeffa", b"")),  # [MQTT-1.5.4-3]
        Good("PUBLISH of 128 bytes", version, framed(0x30, _TOPIC + p + b"x" * 130), Publish("a/b",
            b"x" * 130)),
        Good("PUBLISH of 20,000 bytes", version, framed(0x30, _TOPIC + p + b"x" * 20_000),
             Publish("a/b", b"x" * 20_000)),
        Good("PUBACK", version, framed(0x40, _ID), Puback(10)),
        Good("PUBREC", version, framed(0x50, _ID), Pubrec(10)),
        Good("PUBREL", version, framed(0x62, _ID), Pubrel(10)),
        Good("PUBCOMP", version, framed(0x70, b"\xff\xff"), Pubcomp(65_535)),
        Good("SUBSCRIBE", version, framed(0x82, _ID + p + b"\0\5a/+/#\1" + b"\0\1#\0" + b"\0\1+\2"),
             Subscribe(10, [Subscription("a/+/#", 1), Subscription("#"), Subscription("+", 2)])),
        Good("SUBACK", version, framed(0x90, _ID + p + b"\0\1\2"), Suback(10, [0, 1, 2])),
        Good("UNSUBSCRIBE", version, framed(0xA2, _ID + p + b"\0\1a\0\3+/+"), Unsubscribe(10, ["a", "+/+"])),
        Good("PINGREQ", version, b"\xc0\0", Pingreq()),
        Good("PINGRESP", version, b"\xd0\0", Pingresp()),
        Good("DISCONNECT", version, b"\xe0\0", Disconnect()),
    ]  # fmt: skip


_PUBLISH_PROPERTIES = (
    b"\x01\1" b"\x02\0\0\0\7" b"\x03\0\1c" b"\x08\0\1r" b"\x09\0\2\0\1" b"\x26\0\1k\0\1v" b"\x26\0\1k\0\1w"
    b"\x23\0\2" b"\x0b\x80\1" b"\x0b\1"
)  # fmt: skip

_ONLY_3_1 = [
    Good("CONNECT whose user name is missing", 3, connect_bytes(3, 0xC2, b"\0\1x"), Connect(3, "x", True,
        10), False),
    Good("CONNECT with unused bits set", 3, connect_bytes(3, 0x3B, b"\0\1x"), Connect(3, "x", True, 10),
        False),
    Good("CONNACK with its unused byte set", 3, b"\x20\2\7\5", Connack(5), False),
    Good("PUBLISH with DUP at QoS 0", 3, framed(0x38, _TOPIC), Publish("a/b", b"", dup=True), False),
    Good("SUBSCRIBE with DUP and unused bits", 3, framed(0x8A, _ID + b"\0\1a\xfd"),
         Subscribe(10, [Subscription("a", 1)]), False),
    Good("PUBREL with DUP", 3, framed(0x6A, _ID), Pubrel(10), False),
    Good("UNSUBACK", 3, framed(0xB0, _ID), Unsuback(10, [])),
]  # fmt: skip

_ONLY_3_1_1 = [
    Good("CONNACK with session present", 4, b"\x20\2\1\0", Connack(0, True)),
    Good("CONNACK that refuses", 4, b"\x20\2\0\5", Connack(5)),
    Good("SUBACK with a failure", 4, framed(0x90, _ID + b"\x80"), Suback(10, [0x80])),
    Good("UNSUBACK", 4, framed(0xB0, _ID), Unsuback(10, [])),
    Good("SUBSCRIBE to what 5.0 would call shared", 4, framed(0x82, _ID + b"\0\7$share/\0"),
         Subscribe(10, [Subscription("$share/")])),
    Good("PINGREQ with a long remaining length", 4, b"\xc0\x80\0", Pingreq(), False),
]  # fmt: skip

_ONLY_5_0 = [
    Good("CONNECT with a password alone", 5, connect_bytes(5, 0x42, b"\0\0\1x\0\1\xff"),
         Connect(5, "x", True, 10, None, b"\xff")),
    Good(
        "CONNECT with every property", 5,
        connect_bytes(5, 0x06, b"\x21\x11\xff\xff\xff\xff\x21\0\1\x27\0\0\0\1\x22\xff\xff\x19\1\x17\0"
                       b"\x26\0\0\0\0\x15\0\1m\x16\0\1d" + b"\0\1x" + b"\x05\x18\0\0\0\5" + b"\0\1w\0\0"),
        Connect(5, "x", True, 10, None, None, Will("w", b"", properties={0x18: 5}),
                {0x11: 0xFFFFFFFF, 0x21: 1, 0x27: 1, 0x22: 65_535, 0x19: 1, 0x17: 0, 0x26: [("", "")],
                 0x15: "m", 0x16: b"d"}),
    ),
    Good(
        "CONNACK with every property", 5,
        framed(0x20, b"\1\0" + b"\x38\x11\0\0\0\0\x21\0\1\x24\1\x25\0\x27\0\0\1\0\x12\0\1i\x22\0\0\x1f\0\1r"
               b"\x26\0\1k\0\1v\x28\1\x29\0\x2a\0\x13\0\7\x1a\0\1q\x1c\0\1s\x15\0\1m"),
        Connack(0, True, {0x11: 0, 0x21: 1, 0x24: 1, 0x25: 0, 0x27: 256, 0x12: "i", 0x22: 0, 0x1F: "r",
                          0x26: [("k", "v")], 0x28: 1, 0x29: 0, 0x2A: 0, 0x13: 7, 0x1A: "q", 0x1C: "s",
                          0x15: "m"}),
    ),
    Good(
        "PUBLISH with every property", 5,
        framed(0x30, _TOPIC + bytes((len(_PUBLISH_PROPERTIES),)) + _PUBLISH_PROPERTIES + b"p"),
        Publish("a/b", b"p", properties={1: 1, 2: 7, 3: "c", 8: "r", 9: b"\0\1", 0x26: [("k", "v"), ("k",
            "w")],
                                         0x23: 2, 0x0B: [128, 1]}),
    ),
    Good("PUBLISH with a topic alias alone", 5, framed(0x30, b"\0\0\3\x23\0\1"),
         Publish("", b"", properties={0x23: 1})),
    Good("PUBACK with a reason code", 5, framed(0x40, _ID + b"\x10"), Puback(10, 0x10)),
    Good("PUBACK with everything", 5, framed(0x40, _ID + b"\x80\4\x1f\0\1r"), Puback(10, 0x80, {0x1F: "r"})),
    Good("PUBACK with what could be left out", 5, framed(0x40, _ID + b"\0\0"), Puback(10), False),
    Good("PUBREL that finds nothing", 5, framed(0x62, _ID + b"\x92"), Pubrel(10, 0x92)),
    Good("SUBSCRIBE with every option", 5, framed(0x82,
        _ID + b"\2\x0b\1" + b"\0\1a\x2e" + b"\0\x0a$share/g/a\x10"),
         Subscribe(10, [Subscription("a", 2, True, True, 2), Subscription("$share/g/a", retain_handling=1)],
                   {0x0B: 1})),
    Good("SUBACK with failures", 5, framed(0x90, _ID + b"\0\x87\x9e"), Suback(10, [0x87, 0x9E])),
    Good("UNSUBACK", 5, framed(0xB0, _ID + b"\0\x11\0"), Unsuback(10, [0x11, 0])),
    Good("DISCONNECT with a reason code", 5, b"\xe0\1\4", Disconnect(4)),
    Good("DISCONNECT with everything", 5, b"\xe0\7\0\5\x11\0\0\0\1", Disconnect(0, {0x11: 1})),
    Good("AUTH", 5, b"\xf0\0", Auth()),
    Good("AUTH that goes on", 5, b"\xf0\6\x18\4\x15\0\1m", Auth(0x18, {0x15: "m"})),
]  # fmt: skip

GOOD: list[Good] = [case for version in _ALL for case in _every_version(version)]
GOOD += _ONLY_3_1 + _ONLY_3_1_1 + _ONLY_5_0


def _bad_connects(version: int) -> list[Bad]:
    """What no version allows in a CONNECT."""
    p = _p(version)
    m: type[MQTTError] = MalformedPacket
    good = b"\0\1x"
    return [
        Bad("CONNECT with flags", version, b"\x11" + connect_bytes(version, 2, p + good)[1:], m),
        Bad("CONNECT with nothing behind the level", version, framed(0x10, b"\0\4MQTT\4"), m),
        Bad("CONNECT that is empty", version, b"\x10\0", m),
        Bad("CONNECT with will QoS 3", version, connect_bytes(version, 0x1E, p + good + p + b"\0\1w\0\0"), m),
        Bad(
            "CONNECT with a wildcard in its will",
            version,
            connect_bytes(version, 6, p + good + p + b"\0\1#\0\0"),
            m,
        ),
        Bad(
            "CONNECT with an empty will topic",
            version,
            connect_bytes(version, 6, p + good + p + b"\0\0\0\0"),
            m,
        ),
        Bad(
            "CONNECT without its will payload", version, connect_bytes(version, 6, p + good + p + b"\0\1w"), m
        ),
        Bad("CONNECT with bytes behind it", version, connect_bytes(version, 2, p + good + b"\0"), m),
        Bad(
            "CONNECT whose client identifier is no UTF-8",
            version,
            connect_bytes(version, 2, p + b"\0\1\xff"),
            m,
        ),
        Bad(
            "CONNECT with a NUL in its user name",
            version,
            connect_bytes(version, 0x82, p + good + b"\0\1\0"),
            m,
        ),
        Bad(
            "CONNECT of another protocol",
            version,
            framed(0x10, b"\0\4HTTP\4\2\0\0"),
            UnsupportedProtocolVersion,
        ),
        Bad("CONNECT of MQIsdp 4", version, framed(0x10, b"\0\6MQIsdp\4\2\0\0"), UnsupportedProtocolVersion),
        Bad("CONNECT of MQTT 6", version, framed(0x10, b"\0\4MQTT\6\2\0\0"), UnsupportedProtocolVersion),
        Bad("CONNECT of MQTT 3", version, framed(0x10, b"\0\4MQTT\3\2\0\0"), UnsupportedProtocolVersion),
    ]


def _bad_everywhere(version: int) -> list[Bad]:
    """What no version allows."""
    p = _p(version)
    m: type[MQTTError] = MalformedPacket
    return [
        *_bad_connects(version),
        Bad("type 0 is reserved", version, b"\0\0", m),
        Bad("PUBLISH at QoS 3", version, framed(0x36, _TOPIC + _ID + p), m),  # [MQTT-3.3.1-4]
        Bad("PUBLISH with #", version, framed(0x30, b"\0\3a/#" + p), m),  # [MQTT-3.3.2-2]
        Bad("PUBLISH with +", version, framed(0x30, b"\0\1+" + p), m),  # [MQTT-3.3.2-2]
        Bad("PUBLISH with a NUL", version, framed(0x30, b"\0\3a\0b" + p), m),  # [MQTT-1.5.4-2]
        Bad("PUBLISH with a surrogate", version, framed(0x30, b"\0\3\xed\xa0\x80" + p), m),  # [MQTT-1.5.4-1]
        Bad(
            "PUBLISH with an overlong slash", version, framed(0x30, b"\0\2\xc0\xaf" + p), m
        ),  # [MQTT-1.5.4-1]
        Bad("PUBLISH to nothing", version, framed(0x30, b"\0\0" + p), ProtocolError if version == 5 else m),
        Bad("PUBLISH that is empty", version, b"\x30\0", m),
        Bad("PUBLISH whose topic reaches too far", version, framed(0x30, b"\0\5a/b"), m),
        Bad("PUBLISH without its identifier", version, framed(0x32, _TOPIC), m),
        Bad("PUBLISH with identifier 0", version, framed(0x32, _TOPIC + b"\0\0" + p), ProtocolError),
        Bad("PUBACK with flags", version, framed(0x41, _ID), m),
        Bad("PUBACK with identifier 0", version, framed(0x40, b"\0\0"), ProtocolError),
        Bad("PUBACK that is too short", version, framed(0x40, b"\0"), m),
        Bad("PUBREL without its flags", version, framed(0x60, _ID), m),  # [MQTT-3.6.1-1]
        Bad("SUBSCRIBE without its flags", version, framed(0x80, _ID + p + b"\0\1a\0"), m),  # [MQTT-3.8.1-1]
        Bad("SUBSCRIBE to nothing", version, framed(0x82, _ID + p), ProtocolError),  # [MQTT-3.8.3-2]
        Bad("SUBSCRIBE to an empty filter", version, framed(0x82, _ID + p + b"\0\0\0"), m),  # [MQTT-4.7.3-1]
        Bad("SUBSCRIBE without options", version, framed(0x82, _ID + p + b"\0\1a"), m),
        Bad("SUBSCRIBE at QoS 3", version, framed(0x82, _ID + p + b"\0\1a\3"), ProtocolError),
        Bad("SUBSCRIBE with identifier 0", version, framed(0x82, b"\0\0" + p + b"\0\1a\0"), ProtocolError),
        Bad("SUBSCRIBE to #/a", version, framed(0x82, _ID + p + b"\0\3#/a\0"), m),  # [MQTT-4.7.1-1]
        Bad("SUBSCRIBE to a#", version, framed(0x82, _ID + p + b"\0\2a#\0"), m),  # [MQTT-4.7.1-1]
        Bad("SUBSCRIBE to a+/b", version, framed(0x82, _ID + p + b"\0\4a+/b\0"), m),  # [MQTT-4.7.1-2]
        Bad("SUBSCRIBE to too much", version, framed(0x82, _ID + p + b"\0\1a\0" * 4097), QuotaExceeded),
        Bad("SUBACK without a code", version, framed(0x90, _ID + p), ProtocolError),
        Bad("SUBACK with a reserved code", version, framed(0x90, _ID + p + b"\3"), ProtocolError),
        Bad("UNSUBSCRIBE from nothing", version, framed(0xA2, _ID + p), ProtocolError),  # [MQTT-3.10.3-2]
        Bad("UNSUBSCRIBE without its flags", version, framed(0xA0, _ID + p + b"\0\1a"), m),  # [MQTT-3.10.1-1]
        Bad("UNSUBSCRIBE from a wrong filter", version, framed(0xA2, _ID + p + b"\0\2+a"), m),
        Bad("PINGREQ with a body", version, b"\xc0\1\0", m),
        Bad("PINGREQ with flags", version, b"\xc1\0", m),
        Bad("PINGRESP with a body", version, b"\xd0\1\0", m),
        Bad("DISCONNECT with flags", version, b"\xe2\0", m),  # [MQTT-3.14.1-1]
        Bad("a remaining length of five bytes", version, b"\xc0\x80\x80\x80\x80\0", m),
    ]


_ONLY_3_X = [
    Bad(
        "CONNECT with the reserved flag", 4, connect_bytes(4, 3, b"\0\1x"), MalformedPacket
    ),  # [MQTT-3.1.2-3]
    Bad(
        "CONNECT with will QoS alone", 4, connect_bytes(4, 0x0A, b"\0\1x"), MalformedPacket
    ),  # [MQTT-3.1.2-13]
    Bad("CONNECT with will retain alone", 4, connect_bytes(4, 0x22, b"\0\1x"), MalformedPacket),
    Bad("CONNECT with a password alone", 3, connect_bytes(3, 0x42, b"\0\1x\0\1p"), MalformedPacket),
    Bad("CONNECT with a password alone", 4, connect_bytes(4, 0x42, b"\0\1x\0\1p"), MalformedPacket),
    Bad("CONNECT whose user name is missing", 4, connect_bytes(4, 0x82, b"\0\1x"), MalformedPacket),
    Bad("CONNACK with a reserved code", 4, b"\x20\2\0\6", ProtocolError),
    Bad("CONNACK with reserved flags", 4, b"\x20\2\2\0", MalformedPacket),
    Bad("CONNACK that refuses a present session", 4, b"\x20\2\1\5", ProtocolError),
    Bad("PUBLISH with DUP at QoS 0", 4, framed(0x38, _TOPIC), MalformedPacket),  # [MQTT-3.3.1-2]
    Bad("PUBACK that is too long", 4, framed(0x40, _ID + b"\0"), MalformedPacket),
    Bad("SUBSCRIBE with DUP", 4, framed(0x8A, _ID + b"\0\1a\0"), MalformedPacket),
    Bad(
        "SUBSCRIBE with options of 5.0", 4, framed(0x82, _ID + b"\0\1a\4"), MalformedPacket
    ),  # [MQTT-3.8.3-4]
    Bad("SUBACK with a failure", 3, framed(0x90, _ID + b"\x80"), ProtocolError),
    Bad("SUBSCRIBE with other flags", 3, framed(0x84, _ID + b"\0\1a\0"), MalformedPacket),
    Bad("UNSUBACK with codes", 4, framed(0xB0, _ID + b"\0"), MalformedPacket),
    Bad("DISCONNECT with a body", 4, b"\xe0\1\0", MalformedPacket),
    Bad("AUTH", 3, b"\xf0\0", MalformedPacket),
    Bad("AUTH", 4, b"\xf0\0", MalformedPacket),
]


def _section(name: str, properties: bytes, error: type[MQTTError] = MalformedPacket) -> Bad:
    """A PUBLISH of 5.0 with these properties."""
    return Bad(name, 5, framed(0x30, _TOPIC + bytes((len(properties),)) + properties), error)


def _asked(name: str, properties: bytes, error: type[MQTTError] = MalformedPacket) -> Bad:
    """A CONNECT of 5.0 with these properties."""
    return Bad(name, 5, connect_bytes(5, 2, bytes((len(properties),)) + properties + b"\0\1x"), error)


_BAD_5_0 = [
    # [MQTT-3.1.2-3]
    Bad("CONNECT with the reserved flag", 5, connect_bytes(5, 3, b"\0\0\1x"), MalformedPacket),
    Bad("CONNECT without a property length", 5, connect_bytes(5, 2, b""), MalformedPacket),
    Bad("CONNECT with a long remaining length", 5,
        b"\x10\x8e\0" + connect_bytes(5, 2, b"\0\0\1x")[2:], MalformedPacket),  # [MQTT-1.5.5-1]
    Bad("PINGREQ with a long remaining length", 5, b"\xc0\x80\0", MalformedPacket),  # [MQTT-1.5.5-1]
    Bad("a property length that is too long", 5, framed(0x30, _TOPIC + b"\x80\0"), MalformedPacket),
    Bad("a property length of five bytes", 5, framed(0x30, _TOPIC + b"\x80\x80\x80\x80\1"), MalformedPacket),
    Bad("a property length past the packet", 5, framed(0x30, _TOPIC + b"\3\1\1"), MalformedPacket),
    Bad("a property past its section", 5, framed(0x30, _TOPIC + b"\2\x02\0\0\0\0"), MalformedPacket),
    _section("an unknown property", b"\x04\0"),
    _section("a property of another packet", b"\x21\0\1"),
    _section("a payload format indicator of 2", b"\x01\2", ProtocolError),
    _section("a property twice", b"\x01\1\x01\1", ProtocolError),
    _section("a response topic with a wildcard", b"\x08\0\1#"),  # [MQTT-3.3.2-14]
    _section("an empty response topic", b"\x08\0\0"),
    _section("a content type that is no UTF-8", b"\x03\0\1\xff"),
    _section("a user property with a NUL", b"\x26\0\1k\0\1\0"),  # [MQTT-1.5.7-1]
    _section("a user property without value", b"\x26\0\1k"),
    _section("topic alias 0", b"\x23\0\0", TopicAliasInvalid),  # [MQTT-3.3.2-8]
    _section("subscription identifier 0", b"\x0b\0", ProtocolError),
    _section("a subscription identifier that is too long", b"\x0b\x81\0"),  # [MQTT-1.5.5-1]
    Bad("too many user properties", 5,
        framed(0x30, _TOPIC + b"\x85\x28" + b"\x26\0\0\0\0" * 1025), QuotaExceeded),
    _asked("receive maximum 0", b"\x21\0\0", ProtocolError),
    _asked("maximum packet size 0", b"\x27\0\0\0\0", ProtocolError),
    _asked("request problem information 2", b"\x17\2", ProtocolError),
    _asked("authentication data alone", b"\x16\0\1d", ProtocolError),
    _asked("a will delay interval without a will", b"\x18\0\0\0\0"),
    Bad("PUBLISH with DUP at QoS 0", 5, framed(0x38, _TOPIC + b"\0"), MalformedPacket),  # [MQTT-3.3.1-2]
    Bad("PUBLISH to nothing with a property", 5, framed(0x30, b"\0\0\2\1\1"), ProtocolError),
    Bad("CONNACK with a reserved code", 5, b"\x20\3\0\1\0", ProtocolError),  # [MQTT-3.2.2-8]
    # [MQTT-3.4.2-1]
    Bad("PUBACK with a code of another packet", 5, framed(0x40, _ID + b"\x92"), ProtocolError),
    # [MQTT-3.6.2-1]
    Bad("PUBREL with a code of another packet", 5, framed(0x62, _ID + b"\x10"), ProtocolError),
    Bad("PUBACK with bytes behind it", 5, framed(0x40, _ID + b"\0\0\0"), MalformedPacket),
    Bad("SUBSCRIBE with reserved options", 5, framed(0x82, _ID + b"\0\0\1a\x40"), MalformedPacket),
    Bad("SUBSCRIBE with retain handling 3", 5, framed(0x82, _ID + b"\0\0\1a\x30"), ProtocolError),
    Bad("SUBSCRIBE shared with no local", 5,
        framed(0x82, _ID + b"\0\0\x0a$share/g/a\4"), ProtocolError),  # [MQTT-3.8.3-4]
    Bad("SUBSCRIBE shared by nobody", 5, framed(0x82, _ID + b"\0\0\x09$share//a\0"), MalformedPacket),
    Bad("SUBSCRIBE shared by a wildcard", 5, framed(0x82, _ID + b"\0\0\x0a$share/+/a\0"), MalformedPacket),
    Bad("SUBSCRIBE to nothing shared", 5, framed(0x82, _ID + b"\0\0\x08$share/g\0"), MalformedPacket),
    Bad("SUBSCRIBE with two identifiers", 5, framed(0x82, _ID + b"\4\x0b\1\x0b\1\0\1a\0"), ProtocolError),
    Bad("UNSUBACK without codes", 5, framed(0xB0, _ID + b"\0"), ProtocolError),
    Bad("UNSUBACK with a reserved code", 5, framed(0xB0, _ID + b"\0\1"), ProtocolError),
    Bad("DISCONNECT with a reserved code", 5, b"\xe0\1\1", ProtocolError),  # [MQTT-3.14.2-1]
    Bad("AUTH with a reserved code", 5, b"\xf0\1\1", ProtocolError),  # [MQTT-3.15.2-1]
    Bad("AUTH without a method", 5, b"\xf0\1\x18", ProtocolError),
    Bad("AUTH with flags", 5, b"\xf1\0", MalformedPacket),  # [MQTT-3.15.1-1]
]  # fmt: skip

BAD: list[Bad] = [case for version in _ALL for case in _bad_everywhere(version)] + _ONLY_3_X + _BAD_5_0
