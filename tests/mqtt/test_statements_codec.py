"""The normative statements of MQTT 5.0 and 3.1.1 about bytes: strings, flags, codes and topics."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt import constants
from mfserver.mqtt.connection import Connection, Limits
from mfserver.mqtt.data import encode_string, encode_variable
from mfserver.mqtt.decode import decode
from mfserver.mqtt.encode import encode, encode_publish_parts
from mfserver.mqtt.errors import MalformedPacket, MQTTError, ProtocolError
from mfserver.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
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
from tests.mqtt.cases import GOOD, connect_bytes, framed
from tests.mqtt.conversation import connected

VERSIONS = (4, 5)

_ILL_FORMED = (b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf4\x90\x80\x80", b"a\x80")


def field(data: bytes) -> bytes:
    """Bytes with their length."""
    return len(data).to_bytes(2, "big") + data


def with_string(version: int, data: bytes) -> list[bytes]:
    """Packets that have these bytes where a string belongs: every place that clients may fill."""
    none = b"\0" if version == 5 else b""
    found = [
        connect_bytes(version, 0x02, none + field(data)),
        connect_bytes(version, 0x06, none + field(b"c") + none + field(data) + field(b"")),
        connect_bytes(version, 0x82, none + field(b"c") + field(data)),
        framed(0x30, field(data) + none),
        framed(0x82, b"\0\1" + none + field(data) + b"\0"),
        framed(0xA2, b"\0\1" + none + field(data)),
    ]
    if version == 5:
        for identifier in (0x03, 0x08):
            section = bytes((identifier,)) + field(data)
            found.append(framed(0x30, field(b"t") + bytes((len(section),)) + section))
    return found


class StringTests(SynchronousTestCase):
    """1.5.3 of 3.1.1, 1.5.4 of 5.0: strings."""

    def assert_closes(self, version: int, data: bytes) -> None:
        """Bytes that end a connection as malformed."""
        self.assertRaises(MalformedPacket, decode, data, version)
        connection = Connection(Limits(), 0.0) if data[0] == 0x10 else connected(version)
        connection.receive_data(data, 1.0)
        self.assertTrue(connection.closed)

    def test_well_formed(self) -> None:
        """Ill-formed UTF-8 and surrogates close the connection, and are never sent: of 5.0 [MQTT-1.5.4-1],
        of 3.1.1 [MQTT-1.5.3-1]."""
        for version in VERSIONS:
            for text in _ILL_FORMED:
                for data in with_string(version, text):
                    self.assert_closes(version, data)
        for surrogate in ("\ud800", "\udfff"):
            self.assertRaises(MalformedPacket, encode_string, surrogate)

    def test_nul(self) -> None:
        """U+0000 likewise: of 5.0 [MQTT-1.5.4-2], of 3.1.1 [MQTT-1.5.3-2]."""
        for version in VERSIONS:
            for data in with_string(version, b"a\0b"):
                self.assert_closes(version, data)
        self.assertRaises(MalformedPacket, encode_string, "a\0b")

    def test_byte_order_mark(self) -> None:
        """U+FEFF is a character like any other: of 5.0 [MQTT-1.5.4-3], of 3.1.1 [MQTT-1.5.3-3]."""
        mark = b"\xef\xbb\xbfa\xef\xbb\xbf"
        for version in VERSIONS:
            for data in with_string(version, mark):
                packet = decode(data, version)
                self.assertIn("\\ufeffa\\ufeff", ascii(packet))
                self.assertEqual(data, encode(packet, version))

    def test_pairs(self) -> None:
        """Name and value of a user property are strings [MQTT-1.5.7-1]."""
        for text in (*_ILL_FORMED, b"a\0b"):
            for pair in (field(text) + field(b"v"), field(b"k") + field(text)):
                section = b"\x26" + pair
                self.assert_closes(5, framed(0x30, field(b"t") + bytes((len(section),)) + section))
        for wrong in (("\0", ""), ("", "\ud800")):
            self.assertRaises(MalformedPacket, encode, Publish("t", b"", properties={0x26: [wrong]}), 5)


class IntegerTests(SynchronousTestCase):
    """1.5.5: variable byte integers."""

    def test_shortest_form(self) -> None:
        """No other is sent, and 5.0 takes no other [MQTT-1.5.5-1]."""
        for value, size in (
            (0, 1),
            (127, 1),
            (128, 2),
            (16_383, 2),
            (16_384, 3),
            (2_097_151, 3),
            (2_097_152, 4),
        ):
            encoded = encode_variable(value)
            self.assertEqual(size, len(encoded))
            if size < 4:
                longer = encoded[:-1] + bytes((encoded[-1] | 0x80, 0))
                self.assertRaises(MalformedPacket, decode, b"\x30" + longer + bytes(value), 5)
                data = framed(0x30, field(b"t") + longer + bytes(value))
                self.assertRaises(MalformedPacket, decode, data, 5)


class FlagTests(SynchronousTestCase):
    """2.1.3 of 5.0, 2.2.2 of 3.1.1: the flags of the fixed header."""

    #: The flags of each type but PUBLISH.
    right = {
        packet_type: 2 if packet_type in (6, 8, 10) else 0 for packet_type in range(1, 16) if packet_type != 3
    }

    def test_reserved(self) -> None:
        """They have the values of the table, in what is sent too, and others close: of 5.0 [MQTT-2.1.3-1],
        of 3.1.1 [MQTT-2.2.2-1] [MQTT-2.2.2-2]."""
        for case in GOOD:
            if case.version in VERSIONS and case.data[0] >> 4 != 3:
                packet_type = case.data[0] >> 4
                self.assertEqual(
                    self.right[packet_type], encode(case.packet, case.version)[0] & 15, case.name
                )
                for flags in set(range(16)) - {self.right[packet_type]}:
                    data = bytes((packet_type << 4 | flags,)) + case.data[1:]
                    self.assertRaises(MalformedPacket, decode, data, case.version)
                    connection = connected(case.version)
                    connection.receive_data(data[:1] + b"\0", 1.0)
                    self.assertTrue(connection.closed)

    def test_pubrel(self) -> None:
        """0010 [MQTT-3.6.1-1]."""
        for version in VERSIONS:
            self.assertEqual(0x62, encode(Pubrel(1), version)[0])
            for flags in set(range(16)) - {2}:
                connection = connected(version)
                connection.receive_data(bytes((0x60 | flags, 2, 0, 1)), 1.0)
                self.assertTrue(connection.closed)


class ConnackTests(SynchronousTestCase):
    """3.1.4 and 3.2: what a connection says and hears around its CONNACK."""

    def asked(self, version: int) -> Connection:
        """A connection that has its CONNECT, and has not answered it."""
        connection = Connection(Limits(), 0.0)
        connection.receive_data(encode(Connect(version, "c"), version), 0.0)
        return connection

    def test_nothing_behind_a_refusal(self) -> None:
        """What comes then is not even looked at: of 5.0 [MQTT-3.1.4-6], of 3.1.1 [MQTT-3.1.4-5]."""
        for version in VERSIONS:
            connection = self.asked(version)
            connection.send_connack(constants.NOT_AUTHORIZED)
            said = connection.data_to_send()
            self.assertEqual([], connection.receive_data(encode(Publish("t", b""), version), 0.0))
            self.assertEqual((4 + (version == 5), b""), (len(said), connection.data_to_send()))

    def test_nothing_before_connack(self) -> None:
        """No message, and no answer: of 5.0 [MQTT-3.2.0-1], of 3.1.1 [MQTT-3.2.0-1]."""
        for version in VERSIONS:
            connection = self.asked(version)
            self.assertFalse(connection.send_publish(encode_publish_parts(version, "t", b"", 0)))
            connection.send_suback(1, [0])
            connection.send_pubrel(1)
            self.assertEqual(b"", connection.data_to_send())

    def test_one_connack(self) -> None:
        """A second one is not sent, whatever it would say [MQTT-3.2.0-2]."""
        for first in (0, constants.NOT_AUTHORIZED):
            connection = self.asked(5)
            connection.send_connack(first)
            self.assertEqual([0x20], [connection.data_to_send()[0]])
            for code in (0, constants.NOT_AUTHORIZED):
                connection.send_connack(code)
                self.assertEqual(b"", connection.data_to_send())


class PropertyTests(SynchronousTestCase):
    """2.2.2: properties."""

    def test_no_properties(self) -> None:
        """A property length of 0 says so, unless 5.0 lets it be left out [MQTT-2.2.2-1]."""
        for packet, data in (
            (Connack(), b"\x20\3\0\0\0"),
            (Publish("t", b"p"), b"\x30\5\0\1t\0p"),
            (Subscribe(1, [Subscription("t")]), b"\x82\7\0\1\0\0\1t\0"),
            (Suback(1, [0]), b"\x90\4\0\1\0\0"),
            (Unsubscribe(1, ["t"]), b"\xa2\6\0\1\0\0\1t"),
            (Unsuback(1, [0]), b"\xb0\4\0\1\0\0"),
            (Connect(5, "c", will=Will("w", b"")), b"\x10\x14\0\4MQTT\5\6\0\0\0\0\1c\0\0\1w\0\0"),
        ):
            self.assertEqual(data, encode(packet, 5))
        self.assertEqual(b"\0p", encode_publish_parts(5, "t", b"p", 1).tail)


class ReasonCodeTests(SynchronousTestCase):
    """2.4: every packet has its own table."""

    #: As the specification prints them (3.2.2.2 and so on).
    codes = {
        Connack: "00 80 81 82 83 84 85 86 87 88 89 8a 8c 90 95 97 99 9a 9b 9c 9d 9f",
        Puback: "00 10 80 83 87 90 91 97 99",
        Pubrec: "00 10 80 83 87 90 91 97 99",
        Pubrel: "00 92",
        Pubcomp: "00 92",
        Disconnect: "00 04 80 81 82 83 87 89 8b 8d 8e 8f 90 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0 a1 a2",
    }

    def assert_codes(self, kind: type[Packet]) -> None:
        """Those of the table are taken, and no others."""
        allowed = set(bytes.fromhex(self.codes[kind]))
        for code in range(256):
            packet = kind(1, code) if kind in (Puback, Pubrec, Pubrel, Pubcomp) else kind(code)  # type: ignore[call-arg]
            data = encode(packet, 5)
            if code in allowed:
                self.assertEqual(packet, decode(data, 5))
            else:
                self.assertRaises(ProtocolError, decode, data, 5)

    def test_connack(self) -> None:
        """Nor is any other sent: a refusal that CONNACK has no code for has no CONNACK [MQTT-3.2.2-8]."""
        self.assert_codes(Connack)
        allowed = set(bytes.fromhex(self.codes[Connack]))
        for code in range(1, 256):
            connection = Connection(Limits(), 0.0)
            connection.receive_data(encode(Connect(5, "c"), 5), 0.0)
            connection.send_connack(code)
            self.assertEqual(
                b"\x20\3\0" + bytes((code, 0)) if code in allowed else b"", connection.data_to_send()
            )
            self.assertTrue(connection.closed)

    def test_refused_client_identifier(self) -> None:
        """CONNACK 0x85, and closed [MQTT-3.1.3-8]."""
        connection = Connection(Limits(), 0.0)
        connection.receive_data(encode(Connect(5, "c"), 5), 0.0)
        connection.send_connack(constants.CLIENT_IDENTIFIER_NOT_VALID)
        self.assertEqual((b"\x20\3\0\x85\0", True), (connection.data_to_send(), connection.closed))

    def test_puback(self) -> None:
        """[MQTT-3.4.2-1]"""
        self.assert_codes(Puback)

    def test_pubrec(self) -> None:
        """[MQTT-3.5.2-1]"""
        self.assert_codes(Pubrec)

    def test_pubrel(self) -> None:
        """[MQTT-3.6.2-1]"""
        self.assert_codes(Pubrel)

    def test_pubcomp(self) -> None:
        """[MQTT-3.7.2-1]"""
        self.assert_codes(Pubcomp)

    def test_disconnect(self) -> None:
        """[MQTT-3.14.2-1]"""
        self.assert_codes(Disconnect)

    def test_auth(self) -> None:
        """None but three are AUTH's, and those that go on name their method."""
        for code in range(256):
            data = encode(Auth(code, {0x15: "m"}), 5)
            if code in (0, 0x18, 0x19):
                self.assertEqual(Auth(code, {0x15: "m"}), decode(data, 5))
            else:
                self.assertRaises(ProtocolError, decode, data, 5)


class TopicTests(SynchronousTestCase):
    """4.7: topic names and topic filters."""

    def assert_filter(self, topic_filter: bytes, is_right: bool) -> None:
        """A filter that is taken or refused, in SUBSCRIBE and UNSUBSCRIBE of both versions."""
        for version in VERSIONS:
            none = b"\0" if version == 5 else b""
            for data in (
                framed(0x82, b"\0\1" + none + field(topic_filter) + b"\0"),
                framed(0xA2, b"\0\1" + none + field(topic_filter)),
            ):
                if is_right:
                    self.assertEqual(data, encode(decode(data, version), version))
                else:
                    self.assertRaises(MQTTError, decode, data, version)

    def test_number_sign(self) -> None:
        """Alone, or behind a slash at the end: of 5.0 [MQTT-4.7.1-1], of 3.1.1 [MQTT-4.7.1-2]."""
        for right in (b"#", b"/#", b"a/#", b"a/b/#", b"+/#"):
            self.assert_filter(right, True)
        for wrong in (b"a#", b"#/a", b"a/#/b", b"a/b#", b"##", b"/#/", b"a/#b", b"#a"):
            self.assert_filter(wrong, False)

    def test_plus_sign(self) -> None:
        """A level of its own: of 5.0 [MQTT-4.7.1-2], of 3.1.1 [MQTT-4.7.1-3]."""
        for right in (b"+", b"+/+", b"a/+", b"+/a", b"a/+/b", b"/+", b"+/"):
            self.assert_filter(right, True)
        for wrong in (b"a+", b"+a", b"a/b+", b"a/+b/c", b"++", b"+#", b"a/+#"):
            self.assert_filter(wrong, False)

    def test_empty(self) -> None:
        """Neither a name nor a filter is [MQTT-4.7.3-1]."""
        self.assert_filter(b"", False)
        for version in VERSIONS:
            none = b"\0" if version == 5 else b""
            self.assertRaises(MQTTError, decode, framed(0x30, b"\0\0" + none), version)
            data = connect_bytes(version, 6, none + field(b"c") + none + b"\0\0" + b"\0\0")
            self.assertRaises(MQTTError, decode, data, version)

    def test_nul(self) -> None:
        """Neither has one [MQTT-4.7.3-2]."""
        for text in (b"\0", b"a/\0", b"\0/a", b"a\0b"):
            self.assert_filter(text, False)
            for version in VERSIONS:
                data = framed(0x30, field(text) + (b"\0" if version == 5 else b""))
                self.assertRaises(MQTTError, decode, data, version)

    def test_length(self) -> None:
        """65,535 bytes and no more, which is not characters [MQTT-4.7.3-3]."""
        for text in ("x" * 65_535, "\u00e9" * 32_767 + "x"):
            self.assert_filter(text.encode(), True)
            for version in VERSIONS:
                packet = Publish(text, b"")
                self.assertEqual(packet, decode(encode(packet, version), version))
                longer = text + "x"
                for refused in (
                    Publish(longer, b""),
                    Subscribe(1, [Subscription(longer)]),
                    Unsubscribe(1, [longer]),
                ):
                    self.assertRaises(MalformedPacket, encode, refused, version)
