"""CONNECT, and what it is answered."""

import gc

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt import constants, errors, events
from mfserver.mqtt.connection import Connection, Limits
from mfserver.mqtt.encode import encode, encode_publish_parts
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Packet,
    Properties,
    Publish,
    Will,
)
from tests.mqtt.cases import connect_bytes, framed
from tests.mqtt.conversation import VERSIONS, connected, split


class ConnectTests(SynchronousTestCase):
    """CONNECT and CONNACK."""

    def refused(
        self, connect: Connect | bytes, limits: Limits | None = None
    ) -> tuple[type[errors.MQTTError], bytes]:
        """The error and the answer to a CONNECT that the connection itself refuses."""
        connection = Connection(limits or Limits(), 0.0)
        data = connect if isinstance(connect, bytes) else encode(connect, 0)
        happened = connection.receive_data(data, 0.0)
        self.assertTrue(connection.closed)
        assert isinstance(happened[0], events.ConnectionFailed)
        self.assertEqual(happened[0].text, str(happened[0].error))
        self.assertIsNone(connection.will)
        return type(happened[0].error), connection.data_to_send()

    def test_the_first_packet_has_to_be_connect(self) -> None:
        """Anything else is closed without an answer [MQTT-3.1.0-1]."""
        for data in (b"\xc0", b"\x30\0", b"\0", b"GET / HTTP/1.1"):
            self.assertEqual(self.refused(data), (errors.ProtocolError, b""))

    def test_a_second_connect_is_a_protocol_error(self) -> None:
        """[MQTT-3.1.0-2]; 5.0 is told why."""
        for version in VERSIONS:
            connection = connected(version)
            connection.receive_data(encode(Connect(version, "d"), 0), 1.0)
            self.assertTrue(connection.closed)
            self.assertEqual(connection.client_id, "c")
            sent = connection.data_to_send()
            self.assertEqual(sent[:3:2], b"\xe0\x82" if version == 5 else b"")

    def test_nothing_behind_connect_is_looked_at_before_connack(self) -> None:
        """Who is not let in yet has nothing done; after CONNACK all of it is."""
        for version in VERSIONS:
            connection = Connection(Limits(), 0.0)
            publish = Publish("t", b"p", 1, packet_id=7)
            stream = encode(Connect(version, "c"), 0) + encode(publish, version)
            happened = connection.receive_data(stream[:-2], 0.0)
            self.assertEqual([type(event) for event in happened], [events.ConnectReceived])
            self.assertEqual(connection.receive_data(stream[-2:], 0.0), [])
            self.assertIsNone(connection.next_deadline())
            self.assertFalse(connection.send_publish(encode_publish_parts(version, "t", b"", 0)))
            connection.send_puback(7)
            connection.send_suback(7, [0])
            self.assertEqual(connection.data_to_send(), b"")  # [MQTT-3.2.0-1]
            connection.send_connack()
            (event,) = connection.receive_data(b"", 0.0)
            assert isinstance(event, events.PublishReceived)
            self.assertEqual(event.packet, publish)

    def test_what_is_held_before_connack_is_bounded(self) -> None:
        """64 KiB and one packet; more ends the connection."""
        limits = Limits(max_packet=1000)
        connection = Connection(limits, 0.0)
        connection.receive_data(encode(Connect(5, "c"), 0) + bytes(65_536), 0.0)
        self.assertEqual(connection.receive_data(bytes(1000), 0.0), [])
        (event,) = connection.receive_data(b"\0", 0.0)
        assert isinstance(event, events.ConnectionFailed)
        self.assertIsInstance(event.error, errors.QuotaExceeded)
        self.assertEqual(connection.data_to_send()[3], constants.QUOTA_EXCEEDED)
        connection.send_connack()
        self.assertEqual(connection.data_to_send(), b"")

    def test_connack_of_each_version(self) -> None:
        """3.x is told its return code; 5.0 our limits."""
        for version, session_present in ((3, False), (4, True)):
            connection = Connection(Limits(), 0.0)
            connection.receive_data(encode(Connect(version, "c"), 0), 0.0)
            connection.send_connack(session_present=True)
            self.assertEqual(connection.data_to_send(), bytes((0x20, 2, session_present, 0)))
            self.assertEqual((connection.version, connection.client_id), (version, "c"))
            connection.send_connack()
            self.assertEqual(connection.data_to_send(), b"")  # [MQTT-3.2.0-2]

    def test_connack_announces_our_limits(self) -> None:
        """And nothing that 5.0 assumes anyhow: every QoS, retained messages and all subscriptions are there.
        The session expiry interval is said where it is another [MQTT-3.2.2-16] [MQTT-3.2.2-18].
        """
        connection = Connection(Limits(max_packet=5000, topic_alias_maximum=0), 0.0)
        asked: Properties = {0x11: 60, 0x19: 1}
        connection.receive_data(encode(Connect(5, "", properties=asked), 0), 0.0)
        connection.send_connack(assigned_client_id="made", reason_string="welcome", session_expiry=0)
        said: Properties = {0x21: 1024, 0x27: 5000, 0x12: "made", 0x11: 0, 0x1F: "welcome"}
        self.assertEqual(split(connection.data_to_send(), 5), [Connack(0, False, said)])
        self.assertEqual(connection.client_id, "made")
        connection = Connection(Limits(receive_maximum=7, max_packet=5000), 0.0)
        connection.receive_data(encode(Connect(5, "c", properties={0x11: 60}), 0), 0.0)
        connection.send_connack(session_present=True)
        self.assertEqual(
            split(connection.data_to_send(), 5), [Connack(0, True, {0x21: 7, 0x27: 5000, 0x22: 32})]
        )

    def test_older_versions_are_told_nothing_of_5_0(self) -> None:
        """No property gets into their CONNACK, whatever the owner says."""
        for version in (3, 4):
            connection = Connection(Limits(max_keep_alive=5), 0.0)
            connection.receive_data(encode(Connect(version, "c"), 0), 0.0)
            connection.send_connack(
                assigned_client_id="d", reason_string="r", server_reference="s", session_expiry=5
            )
            self.assertEqual(connection.data_to_send(), b"\x20\2\0\0")

    def test_another_server(self) -> None:
        """A server reference goes with 0x9C and 0x9D (4.11), and with nothing else."""
        for code, said in ((0x9C, {0x1C: "b:1"}), (0x9D, {0x1C: "b:1"}), (0x88, None)):
            connection = Connection(Limits(), 0.0)
            connection.receive_data(encode(Connect(5, "c"), 0), 0.0)
            connection.send_connack(code, server_reference="b:1")
            self.assertEqual(
                split(connection.data_to_send(), 5), [Connack(code, False, dict(said or {}) or None)]
            )

    def test_refusals_of_the_owner(self) -> None:
        """A 3.x client gets the return code that fits, or is closed without one [MQTT-3.2.2-6]."""
        for code, return_code in (
            (0x84, 1),
            (0x85, 2),
            (0x89, 3),
            (0x86, 4),
            (0x87, 5),
            (0x80, None),
            (0x9C, None),
        ):
            for version in VERSIONS:
                connection = Connection(Limits(), 0.0)
                connection.receive_data(encode(Connect(version, "c", will=Will("w", b"")), 0), 0.0)
                connection.send_connack(code, session_present=True)
                self.assertTrue(connection.closed)
                self.assertIsNone(connection.will)
                expected = bytes((0x20, 3, 0, code, 0))
                if version != 5:
                    expected = b"" if return_code is None else bytes((0x20, 2, 0, return_code))
                self.assertEqual(connection.data_to_send(), expected)
                self.assertEqual(connection.receive_data(b"\xc0\0", 0.0), [])  # [MQTT-3.1.4-6]
                self.assertEqual(connection.data_to_send(), b"")

    def test_protocol_names_and_levels(self) -> None:
        """Another name gets no answer; another level the refusal of its family [MQTT-3.1.2-2]."""
        unsupported = errors.UnsupportedProtocolVersion
        self.assertEqual(self.refused(framed(0x10, b"\0\4HTTP\4\2\0\0")), (unsupported, b""))
        for name, level in ((b"\0\6MQIsdp", 4), (b"\0\4MQTT", 3), (b"\0\4MQTT", 0x84), (b"\0\4MQTT", 0)):
            data = framed(0x10, name + bytes((level,)))
            self.assertEqual(self.refused(data), (unsupported, b"\x20\2\0\1"))
        error, answer = self.refused(framed(0x10, b"\0\4MQTT\6"))
        self.assertIs(error, unsupported)
        self.assertEqual(answer[:4:3], b"\x20\x84")

    def test_a_malformed_connect(self) -> None:
        """3.x is closed without CONNACK, of 3.1.1 [MQTT-3.1.4-1]; 5.0 is told [MQTT-3.1.4-1]."""
        for version in VERSIONS:
            error, answer = self.refused(
                connect_bytes(version, 2, (b"\0" if version == 5 else b"") + b"\0\1\xff")
            )
            self.assertIs(error, errors.MalformedPacket)
            self.assertEqual(answer[3:4], b"\x81" if version == 5 else b"")

    def test_empty_client_identifiers(self) -> None:
        """Only where the session ends with the connection [MQTT-3.1.3-8]; 5.0 always may."""
        invalid = (errors.ClientIdentifierNotValid, b"\x20\2\0\2")
        self.assertEqual(self.refused(Connect(3, "", True)), invalid)
        self.assertEqual(self.refused(Connect(4, "", False)), invalid)
        for connect in (Connect(4, "", True), Connect(5, "", False)):
            self.assertEqual(connected(connect=connect).client_id, "assigned")

    def test_long_client_identifiers(self) -> None:
        """65,535 bytes are welcome in every version."""
        for version in VERSIONS:
            self.assertEqual(len(connected(connect=Connect(version, "x" * 65_535)).client_id), 65_535)

    def test_every_field_of_connect_at_full_length(self) -> None:
        """The bound of CONNECT leaves room for all that it can hold."""
        full = b"x" * 65_535
        connect = Connect(5, full.decode(), True, 0, full.decode(), full, Will(full.decode(), full))
        self.assertEqual(connected(connect=connect).will, connect.will)

    def test_a_connect_that_is_too_large_is_refused_at_its_header(self) -> None:
        """Nothing of it is kept; nobody known yet is answered."""
        connection = Connection(Limits(max_connect=100), 0.0)
        (event,) = connection.receive_data(b"\x10\x63", 0.0)
        assert isinstance(event, events.ConnectionFailed)
        self.assertIsInstance(event.error, errors.PacketTooLarge)
        connection = Connection(Limits(max_connect=100), 0.0)
        self.assertEqual(connection.receive_data(b"\x10\x62", 0.0), [])
        self.assertEqual(self.refused(b"\x10\xff\xff\xff\x7f"), (errors.PacketTooLarge, b""))

    def test_what_is_not_there_is_refused(self) -> None:
        """Authentication methods [MQTT-4.12.0-1], and wills with a payload that is too large."""
        limits = Limits(max_payload=10)
        for connect, code in (
            (Connect(5, "c", properties={0x15: "m"}), 0x8C),
            (Connect(5, "c", will=Will("w", bytes(11))), 0x95),
        ):
            error, answer = self.refused(connect, limits)
            self.assertEqual((error.reason_code, answer[3]), (code, code))
        for version in (3, 4):
            error, answer = self.refused(Connect(version, "c", will=Will("w", bytes(11))), limits)
            self.assertEqual((error, answer), (errors.PacketTooLarge, b""))

    def test_every_will_is_kept(self) -> None:
        """At every QoS, retained or not, with all its properties [MQTT-3.1.2-7]."""
        for version in VERSIONS:
            for qos in (0, 1, 2):
                section: Properties | None = (
                    {0x18: 5, 0x26: [("b", "1"), ("a", "2")]} if version == 5 else None
                )
                wanted = Connect(version, "c", will=Will("w", bytes(10), qos, True, section))
                connection = connected(limits=Limits(max_payload=10), connect=wanted)
                self.assertEqual(connection.will, wanted.will)

    def test_connect_has_to_come_in_time(self) -> None:
        """Bytes that trickle in do not move the deadline."""
        connection = Connection(Limits(connect_timeout=10.0), 5.0)
        connection.receive_data(b"\x10", 14.0)
        self.assertEqual(connection.next_deadline(), 15.0)
        self.assertEqual(connection.check_deadline(14.9), [])
        (event,) = connection.check_deadline(15.0)
        assert isinstance(event, events.ConnectionFailed)
        self.assertIsInstance(event.error, errors.ConnectTimeout)
        self.assertEqual((connection.closed, connection.data_to_send()), (True, b""))
        self.assertIsNone(connection.next_deadline())

    def test_the_password_is_not_kept(self) -> None:
        """Once CONNECT is answered, nothing that a connection holds leads to it."""
        for code in (0, 0x87):
            connection = Connection(Limits(), 0.0)
            connection.receive_data(encode(Connect(5, "c", user_name="u", password=b"secret"), 0), 0.0)
            connection.send_connack(code)
            held = gc.get_referents(connection)
            self.assertIn("c", held)
            self.assertEqual([value for value in held if isinstance(value, Packet)], [])

    def test_an_empty_identifier_needs_an_assigned_one(self) -> None:
        """An owner that forgets it is told so by its own tests."""
        connection = Connection(Limits(), 0.0)
        connection.receive_data(encode(Connect(4, ""), 0), 0.0)
        self.assertRaises(AssertionError, connection.send_connack)

    def test_a_client_that_takes_no_connack(self) -> None:
        """A Maximum Packet Size too small even for that is closed without a word [MQTT-3.1.2-24]."""
        for code in (0, 0x87):
            connection = Connection(Limits(), 0.0)
            connection.receive_data(
                encode(Connect(5, "c", will=Will("w", b""), properties={0x27: 4}), 0), 0.0
            )
            connection.send_connack(code)
            self.assertEqual((connection.closed, connection.data_to_send()), (True, b""))
            self.assertIsNone(connection.will)

    def test_a_reason_string_is_left_out_where_it_does_not_fit(self) -> None:
        """[MQTT-3.2.2-19]"""
        connection = Connection(Limits(), 0.0)
        connection.receive_data(encode(Connect(5, "c", properties={0x27: 5}), 0), 0.0)
        connection.send_connack(0x87, reason_string="far too long for five bytes")
        self.assertEqual(connection.data_to_send(), b"\x20\3\0\x87\0")
