"""What a client may say when, and what it is answered."""

import gc
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt import constants, errors, events
from mfserver.mqtt.connection import Connection, Limits
from mfserver.mqtt.decode import decode
from mfserver.mqtt.encode import encode, encode_publish_parts
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from tests.mqtt.cases import BAD, GOOD, connect_bytes, framed
from tests.mqtt.strategies import packets

VERSIONS = (3, 4, 5)


def split(data: bytes, version: int) -> list[Packet]:
    """The packets that a server sent."""
    found = []
    while data:
        length = 2 + data[1] if data[1] < 128 else 3 + (data[1] & 127) + 128 * data[2]
        found.append(decode(data[:length], version))
        data = data[length:]
    return found


def connected(version: int = 4, limits: Limits | None = None, connect: Connect | None = None) -> Connection:
    """A connection whose CONNECT was accepted at time 0; its CONNACK is taken."""
    connection = Connection(limits or Limits(), 0.0)
    connection.receive_data(encode(connect or Connect(version, "c"), 0), 0.0)
    connection.send_connack(assigned_client_id=None if connection.client_id else "assigned")
    assert not connection.closed
    connection.data_to_send()
    return connection


class Outcome:
    """What came of feeding bytes to a connection."""

    def __init__(self, connection: Connection, happened: list[events.Event]) -> None:
        self.events = [
            (type(event), str(getattr(event, "packet", getattr(event, "text", "")))) for event in happened
        ]
        self.sent = connection.data_to_send()
        self.closed = connection.closed

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))


def feed(connection: Connection, chunks: list[bytes]) -> Outcome:
    """Feed chunk after chunk, accepting every CONNECT."""
    happened: list[events.Event] = []
    for chunk in chunks:
        new = connection.receive_data(chunk, 1.0)
        happened += new
        if new and isinstance(new[-1], events.ConnectReceived):
            connection.send_connack(assigned_client_id="assigned")
            happened += connection.receive_data(b"", 1.0)
    return Outcome(connection, happened)


class SplitTests(SynchronousTestCase):
    """How bytes are split never matters."""

    def fresh(self, data: bytes, version: int) -> Connection:
        """A connection in the state in which these bytes can come."""
        if data[0] >> 4 == constants.CONNECT:
            return Connection(Limits(), 0.0)
        return connected(version)

    def check(self, name: str, version: int, data: bytes) -> Outcome:
        """Whole, byte by byte, and with a PINGREQ behind it."""
        whole = feed(self.fresh(data, version), [data])
        pieces = [data[i : i + 1] for i in range(len(data))]
        if len(data) < 1000:
            self.assertEqual(feed(self.fresh(data, version), pieces), whole, (name, version))
        self.assertEqual(feed(self.fresh(data, version), [data[:1], data[1:]]), whole, (name, version))
        trailing = feed(self.fresh(data, version), [data + b"\xc0\0"])
        if whole.closed:
            self.assertEqual(trailing, whole, (name, version))
        else:
            self.assertEqual(trailing.events, whole.events, (name, version))
            self.assertEqual(trailing.sent, whole.sent + b"\xd0\0", (name, version))
        return whole

    def test_good_cases(self) -> None:
        """What is right is understood the same in any pieces."""
        for case in GOOD:
            self.check(case.name, case.version, case.data)

    def test_bad_cases(self) -> None:
        """What is wrong ends the connection the same in any pieces, and what follows it is ignored."""
        for case in BAD:
            whole = self.check(case.name, case.version, case.data)
            self.assertTrue(whole.closed, (case.name, case.version))
            self.assertIs(whole.events[-1][0], events.ConnectionFailed, (case.name, case.version))
            if case.version != 5 and case.data[0] >> 4 != constants.CONNECT:
                self.assertEqual(whole.sent, b"", (case.name, case.version))

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_a_conversation_in_any_pieces(self, data: st.DataObject) -> None:
        """CONNECT and whatever follows it mean the same however the network cuts them."""
        version = data.draw(st.sampled_from(VERSIONS))
        said = data.draw(st.lists(packets(version), max_size=4))
        stream = encode(Connect(version, "c"), 0) + b"".join(encode(packet, version) for packet in said)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
        borders = [0, *cuts, len(stream)]
        pieces = [stream[a:b] for a, b in pairwise(borders)]
        whole = feed(Connection(Limits(), 0.0), [stream])
        self.assertEqual(feed(Connection(Limits(), 0.0), pieces), whole)

    def test_each_byte_is_copied_a_bounded_number_of_times(self) -> None:
        """A packet that comes byte by byte costs as much as its length, not the square of it."""

        class Counted(bytearray):
            """A buffer that knows how many bytes were copied out of it."""

            copied = 0

            def __bytes__(self) -> bytes:
                Counted.copied += len(self)
                return bytes(memoryview(self))

        connection = connected()
        connection._buffer = Counted()
        data = framed(0x30, b"\0\1t" + bytes(300_000))
        happened: list[events.Event] = []
        for i in range(len(data)):
            happened += connection.receive_data(data[i : i + 1], 1.0)
        self.assertEqual(len(happened), 1)
        self.assertGreaterEqual(Counted.copied, len(data))
        self.assertLess(Counted.copied, len(data) + 20)


class AnyBytesTests(SynchronousTestCase):
    """Nothing that a client sends makes a connection raise."""

    @settings(max_examples=150, deadline=None)
    @given(
        st.sampled_from((0, 3, 4, 5)), st.booleans(), st.lists(st.binary(min_size=1, max_size=40), max_size=4)
    )
    def test_any_bytes_in_any_state(self, version: int, waiting: bool, chunks: list[bytes]) -> None:
        """Before CONNECT, before CONNACK and after it: events or an end, never an exception."""
        connection = connected(version) if version else Connection(Limits(), 0.0)
        if waiting:
            connection = Connection(Limits(max_packet=16), 0.0)
            connection.receive_data(encode(Connect(version or 5, "c"), 0), 0.0)
        outcome = feed(connection, chunks)
        failed = any(kind is events.ConnectionFailed for kind, _ in outcome.events)
        said_goodbye = any(kind is events.DisconnectReceived for kind, _ in outcome.events)
        self.assertEqual(connection.closed, failed or said_goodbye)

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(VERSIONS), st.integers(1, 15), st.data())
    def test_any_body_of_any_type(self, version: int, packet_type: int, data: st.DataObject) -> None:
        """Right fixed headers with anything behind them."""
        flags = (
            2 if packet_type in (6, 8, 10) else data.draw(st.sampled_from((0, 2))) if packet_type == 3 else 0
        )
        connection = connected(version)
        happened = connection.receive_data(
            framed(packet_type << 4 | flags, data.draw(st.binary(max_size=50))), 1.0
        )
        self.assertLessEqual(len(happened), 1)


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

    def test_connack_announces_what_is_not_there(self) -> None:
        """What 5.0 would assume otherwise is said, and nothing else [MQTT-3.2.2-9]."""
        connection = Connection(Limits(max_packet=5000), 0.0)
        connection.receive_data(encode(Connect(5, "", properties={0x11: 60}), 0), 0.0)
        connection.send_connack(assigned_client_id="made", reason_string="welcome")
        said = {
            0x21: 1024,
            0x27: 5000,
            0x24: 1,
            0x25: 0,
            0x2A: 0,
            0x29: 0,
            0x11: 0,
            0x12: "made",
            0x1F: "welcome",
        }
        self.assertEqual(split(connection.data_to_send(), 5), [Connack(0, False, dict(said))])
        self.assertEqual(connection.client_id, "made")
        limits = Limits(
            max_packet=5000, maximum_qos=2, retain_available=True, shared_subscriptions=True,
            subscription_identifiers=True, topic_alias_maximum=7, session_expiry=True,
        )  # fmt: skip
        connection = Connection(limits, 0.0)
        connection.receive_data(encode(Connect(5, "c", properties={0x11: 60}), 0), 0.0)
        connection.send_connack(session_present=True)
        self.assertEqual(
            split(connection.data_to_send(), 5), [Connack(0, True, {0x21: 1024, 0x27: 5000, 0x22: 7})]
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
        """Authentication methods, and wills that we cannot keep [MQTT-3.2.2-12] [MQTT-3.2.2-13]."""
        limits = Limits(max_payload=10)
        for connect, code in (
            (Connect(5, "c", properties={0x15: "m"}), 0x8C),
            (Connect(5, "c", will=Will("w", b"", 2)), 0x9B),
            (Connect(5, "c", will=Will("w", b"", 0, True)), 0x9A),
            (Connect(5, "c", will=Will("w", bytes(11))), 0x95),
        ):
            error, answer = self.refused(connect, limits)
            self.assertEqual((error.reason_code, answer[3]), (code, code))
            if code != 0x8C:
                connect.version = 4
                self.assertEqual(self.refused(connect, limits), (error, b""))
        wanted = Connect(4, "c", will=Will("w", b"", 2, True))
        self.assertEqual(connected(4, Limits(maximum_qos=2, retain_available=True), wanted).will, wanted.will)

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


class PublishTests(SynchronousTestCase):
    """PUBLISH and PUBACK of the client."""

    def failed(self, connection: Connection, packet: Packet | bytes) -> type:
        """The error that ends the connection."""
        data = packet if isinstance(packet, bytes) else encode(packet, connection.version)
        event = connection.receive_data(data, 1.0)[-1]
        assert isinstance(event, events.ConnectionFailed)
        self.assertTrue(connection.closed)
        sent = connection.data_to_send()
        if connection.version == 5:
            (packet,) = split(sent, 5)
            assert isinstance(packet, Disconnect)
            self.assertEqual(packet.reason_code, event.error.reason_code)
            self.assertEqual(packet.properties, {0x1F: event.text})
        else:
            self.assertEqual(sent, b"")
        return type(event.error)

    def test_messages_come_out_as_they_went_in(self) -> None:
        """QoS 0 and 1, in order, with what they carry."""
        for version in VERSIONS:
            connection = connected(version)
            said = [
                Publish("a/b", b"1"),
                Publish("a", b"2", 1, packet_id=9),
                Publish("a", b"", 1, True, packet_id=9),
            ]
            happened = connection.receive_data(b"".join(encode(packet, version) for packet in said), 1.0)
            self.assertEqual(
                [event.packet for event in happened if isinstance(event, events.PublishReceived)], said
            )
            self.assertEqual(connection.unacknowledged, 2)
            connection.send_puback(9)
            connection.send_puback(9, 0x10, "nobody listens")
            connection.send_puback(9)
            self.assertEqual(connection.unacknowledged, 0)
            answers = split(connection.data_to_send(), version)
            second = Puback(9, 0x10, {0x1F: "nobody listens"}) if version == 5 else Puback(9)
            self.assertEqual(answers, [Puback(9), second, Puback(9)])

    def test_no_reason_string_for_who_wants_none(self) -> None:
        """Request Problem Information 0 [MQTT-3.1.2-29]."""
        connection = connected(connect=Connect(5, "c", properties={0x17: 0}))
        connection.send_puback(1, 0x87, "because")
        self.assertEqual(split(connection.data_to_send(), 5), [Puback(1, 0x87)])

    def test_what_is_not_there_ends_the_connection(self) -> None:
        """QoS 2, RETAIN, payloads and packets past the bound [MQTT-3.2.2-11] [MQTT-3.2.2-14]."""
        limits = Limits(max_payload=10)
        for packet, error in (
            (Publish("t", b"", 2, packet_id=1), errors.QoSNotSupported),
            (Publish("t", b"", retain=True), errors.RetainNotSupported),
            (Publish("t", bytes(11)), errors.PacketTooLarge),
        ):
            for version in VERSIONS:
                self.assertIs(self.failed(connected(version, limits), packet), error)
        for version in VERSIONS:
            small = Limits(max_packet=200)
            self.assertIs(self.failed(connected(version, small), b"\x30\xc6\1"), errors.PacketTooLarge)
            self.assertEqual(connected(version, small).receive_data(b"\x30\xc5\1", 1.0), [])
            # 300 MB are refused before a byte of them comes.
            self.assertIs(
                self.failed(connected(version), b"\x30\x80\x80\x80\x10"[:4] + b"\x7f"), errors.PacketTooLarge
            )

    def test_limits_that_are_raised(self) -> None:
        """What is refused follows from the limits."""
        limits = Limits(maximum_qos=2, retain_available=True)
        publish = Publish("t", b"", 2, retain=True, packet_id=1)
        (event,) = connected(5, limits).receive_data(encode(publish, 5), 1.0)
        assert isinstance(event, events.PublishReceived)
        self.assertEqual(event.packet, publish)

    def test_receive_maximum(self) -> None:
        """5.0 keeps to it [MQTT-3.3.4-7]; 3.x does not know it."""
        limits = Limits(receive_maximum=2)
        for version in VERSIONS:
            connection = connected(version, limits)
            for packet_id in (1, 2):
                connection.receive_data(encode(Publish("t", b"", 1, packet_id=packet_id), version), 1.0)
            connection.receive_data(encode(Publish("t", b""), version), 1.0)
            connection.send_puback(1)
            connection.receive_data(encode(Publish("t", b"", 1, packet_id=3), version), 1.0)
            connection.data_to_send()
            self.assertFalse(connection.closed)
            third = Publish("t", b"", 1, packet_id=4)
            if version == 5:
                self.assertIs(self.failed(connection, third), errors.ReceiveMaximumExceeded)
            else:
                self.assertEqual(len(connection.receive_data(encode(third, version), 1.0)), 1)
                self.assertEqual(connection.unacknowledged, 3)

    def test_topic_aliases(self) -> None:
        """Refused above the maximum [MQTT-3.3.2-9]; below, they stand for their topic."""
        self.assertIs(
            self.failed(connected(5), Publish("t", b"", properties={0x23: 1})), errors.TopicAliasInvalid
        )
        limits = Limits(topic_alias_maximum=2)
        connection = connected(5, limits)
        topics = []
        for topic, section in (
            ("a", {0x23: 2}), ("", {0x23: 2, 3: "c"}), ("b", {0x23: 2}), ("", {0x23: 2}), ("c", {3: "c"}),
        ):  # fmt: skip
            (event,) = connection.receive_data(encode(Publish(topic, b"", properties=dict(section)), 5), 1.0)
            assert isinstance(event, events.PublishReceived)
            topics.append((event.packet.topic, event.packet.properties))
        self.assertEqual(topics, [("a", None), ("a", {3: "c"}), ("b", None), ("b", None), ("c", {3: "c"})])
        self.assertIs(self.failed(connection, Publish("", b"", properties={0x23: 1})), errors.ProtocolError)
        self.assertIs(
            self.failed(connected(5, limits), Publish("t", b"", properties={0x23: 3})),
            errors.TopicAliasInvalid,
        )

    def test_subscription_identifiers_come_from_servers(self) -> None:
        """[MQTT-3.3.4-6]"""
        packet = Publish("t", b"", properties={0x0B: [1]})
        self.assertIs(self.failed(connected(5), packet), errors.ProtocolError)

    def test_what_only_a_server_says(self) -> None:
        """And the packets of QoS 2 and AUTH, for which nothing can be under way."""
        for version in VERSIONS:
            for first in (0x20, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0):
                self.assertIs(self.failed(connected(version), bytes((first,))), errors.ProtocolError)
        self.assertIs(self.failed(connected(5), b"\xf0"), errors.ProtocolError)  # [MQTT-4.12.0-7]


class SubscribeTests(SynchronousTestCase):
    """SUBSCRIBE, UNSUBSCRIBE and their answers."""

    def test_they_are_handed_on(self) -> None:
        """With everything they say."""
        for version in VERSIONS:
            connection = connected(version)
            subscribe = Subscribe(1, [Subscription("a/#", 2), Subscription("+", 0)])
            unsubscribe = Unsubscribe(2, ["a/#"])
            happened = connection.receive_data(encode(subscribe, version) + encode(unsubscribe, version), 1.0)
            first, second = happened
            assert isinstance(first, events.SubscribeReceived)
            assert isinstance(second, events.UnsubscribeReceived)
            self.assertEqual((first.packet, second.packet), (subscribe, unsubscribe))

    def test_suback_says_what_its_version_can(self) -> None:
        """3.1.1 has one failure [MQTT-3.9.3-2], 3.1 none."""
        for version, codes in ((3, [1, 0, 0]), (4, [1, 0x80, 0x80]), (5, [1, 0x87, 0x80])):
            connection = connected(version)
            connection.send_suback(7, (1, 0x87, 0x80))
            self.assertEqual(split(connection.data_to_send(), version), [Suback(7, codes)])
            connection.send_unsuback(8, (0x11, 0))
            self.assertEqual(
                split(connection.data_to_send(), version), [Unsuback(8, [0x11, 0] if version == 5 else [])]
            )

    def test_what_is_not_there(self) -> None:
        """Shared subscriptions and subscription identifiers, until the limits say otherwise."""
        shared = Subscribe(1, [Subscription("a"), Subscription("$share/g/a")])
        identified = Subscribe(1, [Subscription("a")], {0x0B: 1})
        for packet, error in (
            (shared, errors.SharedSubscriptionsNotSupported),
            (identified, errors.SubscriptionIdentifiersNotSupported),
        ):
            connection = connected(5)
            (event,) = connection.receive_data(encode(packet, 5), 1.0)
            assert isinstance(event, events.ConnectionFailed)
            self.assertIs(type(event.error), error)
            limits = Limits(shared_subscriptions=True, subscription_identifiers=True)
            (event,) = connected(5, limits).receive_data(encode(packet, 5), 1.0)
            self.assertIsInstance(event, events.SubscribeReceived)
        (event,) = connected(4).receive_data(encode(shared, 4), 1.0)
        self.assertIsInstance(event, events.SubscribeReceived)

    def test_a_suback_that_the_client_cannot_take(self) -> None:
        """It cannot be left out, so the connection ends and says why [MQTT-3.1.2-24]."""
        connection = connected(connect=Connect(5, "c", properties={0x27: 30}))
        connection.send_suback(1, [0] * 30)
        self.assertTrue(connection.closed)
        self.assertEqual(split(connection.data_to_send(), 5), [Disconnect(constants.PACKET_TOO_LARGE)])


class SendTests(SynchronousTestCase):
    """Messages to the client."""

    def test_qos_0_and_qos_1(self) -> None:
        """What comes out decodes to what was published."""
        for version in VERSIONS:
            connection = connected(version)
            for qos in (0, 1, 1):
                self.assertTrue(connection.send_publish(encode_publish_parts(version, "t", b"p", qos)))
            self.assertEqual(
                split(connection.data_to_send(), version),
                [Publish("t", b"p"), Publish("t", b"p", 1, packet_id=1), Publish("t", b"p", 1, packet_id=2)],
            )
            self.assertEqual(connection.data_to_send(), b"")

    def test_the_client_s_receive_maximum(self) -> None:
        """No more in flight than it takes; the rest follows its acknowledgements, in order [MQTT-3.3.4-9]."""
        for version, limits in ((5, Limits()), (4, Limits(send_quota=2))):
            section: dict[int, object] | None = {0x21: 2} if version == 5 else None
            connection = connected(version, limits, Connect(version, "c", properties=section))
            for payload in (b"1", b"2", b"3", b"4"):
                self.assertTrue(connection.send_publish(encode_publish_parts(version, "t", payload, 1)))
            self.assertTrue(connection.send_publish(encode_publish_parts(version, "t", b"0", 0)))
            sent = split(connection.data_to_send(), version)
            self.assertEqual([p.payload for p in sent if isinstance(p, Publish)], [b"1", b"2", b"0"])
            (event,) = connection.receive_data(encode(Puback(2), version), 1.0)
            assert isinstance(event, events.PublishAcknowledged)
            self.assertEqual((event.packet_id, event.reason_code), (2, 0))
            self.assertEqual(split(connection.data_to_send(), version), [Publish("t", b"3", 1, packet_id=3)])
            # [MQTT-4.4.0-2]: a refusal frees the identifier as well; an unknown one is passed over.
            refused = encode(Puback(1, 0x87 if version == 5 else 0), version)
            self.assertEqual(len(connection.receive_data(refused + refused, 1.0)), 1)
            self.assertEqual(split(connection.data_to_send(), version), [Publish("t", b"4", 1, packet_id=4)])

    def test_an_acknowledgement_when_nothing_waits(self) -> None:
        """It frees its identifier and sends nothing [MQTT-4.3.2-3]."""
        connection = connected(4, Limits(send_quota=1))
        publish = encode_publish_parts(4, "t", b"", 1)
        for packet_id in (1, 2):
            self.assertTrue(connection.send_publish(publish))
            self.assertEqual(split(connection.data_to_send(), 4), [Publish("t", b"", 1, packet_id=packet_id)])
            self.assertEqual(len(connection.receive_data(encode(Puback(packet_id), 4), 1.0)), 1)
            self.assertEqual(connection.data_to_send(), b"")

    def test_a_message_larger_than_the_client_takes_is_dropped(self) -> None:
        """[MQTT-3.1.2-24] [MQTT-3.1.2-25]"""
        connection = connected(connect=Connect(5, "c", properties={0x27: 30}))
        for qos in (0, 1):
            publish = encode_publish_parts(5, "t", bytes(30 - 6 - (2 if qos else 0)), qos)
            self.assertEqual(publish.size, 30)
            self.assertTrue(connection.send_publish(publish))
            self.assertFalse(connection.send_publish(encode_publish_parts(5, "t", bytes(25), qos)))
        self.assertEqual((connection.dropped, connection.closed), (2, False))
        self.assertEqual(len(connection.data_to_send()), 60)

    def test_qos_0_past_the_bound_is_dropped_and_counted(self) -> None:
        """A client that does not read costs no more than max_queued_bytes."""
        connection = connected(4, Limits(max_queued_bytes=100))
        connection.pause()
        publish = encode_publish_parts(4, "t", bytes(35), 0)
        self.assertEqual([connection.send_publish(publish) for _ in range(4)], [True, True, False, False])
        self.assertEqual((connection.dropped, connection.data_to_send()), (2, b""))
        connection.resume()
        self.assertEqual(connection.data_to_send(), publish.head * 2)
        self.assertTrue(connection.send_publish(publish))

    def test_one_message_may_wait_alone_however_long(self) -> None:
        """Else a message longer than the bound could never be sent."""
        connection = connected(4, Limits(max_queued_bytes=100))
        self.assertTrue(connection.send_publish(encode_publish_parts(4, "t", bytes(1000), 0)))
        self.assertFalse(connection.send_publish(encode_publish_parts(4, "t", b"", 0)))

    def test_qos_1_past_the_bound_ends_the_connection(self) -> None:
        """It was promised, so it is not dropped silently: what waits for the send quota counts too."""
        for version in VERSIONS:
            connection = connected(version, Limits(max_queued_bytes=100, send_quota=1))
            publish = encode_publish_parts(version, "t", bytes(40), 1)
            self.assertTrue(connection.send_publish(publish))
            connection.data_to_send()
            self.assertEqual([connection.send_publish(publish) for _ in range(4)], [True, True, False, False])
            self.assertTrue(connection.closed)
            self.assertEqual(connection.dropped, 1)
            sent = split(connection.data_to_send(), version)
            text = "too much waits for this client"
            self.assertEqual(sent, [Disconnect(0x97, {0x1F: text})] if version == 5 else [])

    def test_answers_to_a_client_that_does_not_read_are_bounded(self) -> None:
        """PINGRESPs and acknowledgements cannot be dropped, so the connection ends."""
        for version in VERSIONS:
            connection = connected(version, Limits(max_queued_bytes=100))
            connection.pause()
            happened = connection.receive_data(b"\xc0\0" * 32_818, 1.0)
            self.assertEqual((happened, connection.closed), ([], False))
            (event,) = connection.receive_data(b"\xc0\0", 1.0)
            assert isinstance(event, events.ConnectionFailed)
            self.assertIsInstance(event.error, errors.QuotaExceeded)
            self.assertLess(len(connection.data_to_send()), 65_636 + 100)
        connection = connected(4, Limits(max_queued_bytes=100))
        connection.pause()
        for _ in range(20_000):
            connection.send_puback(1)
        self.assertTrue(connection.closed)
        self.assertEqual(len(connection.data_to_send()), 65_636)


class EndTests(SynchronousTestCase):
    """How a connection ends, and what becomes of the will."""

    will = Will("w", b"last words")

    def test_disconnect_takes_the_will_back(self) -> None:
        """[MQTT-3.14.4-3]; what follows it is ignored."""
        for version in VERSIONS:
            connection = connected(connect=Connect(version, "c", will=self.will))
            self.assertEqual(connection.will, self.will)
            (event,) = connection.receive_data(b"\xe0\0" + encode(Publish("t", b""), version), 1.0)
            assert isinstance(event, events.DisconnectReceived)
            self.assertEqual((event.reason_code, event.properties), (0, None))
            self.assertIsNone(connection.will)
            self.assertEqual((connection.closed, connection.data_to_send()), (True, b""))
            self.assertEqual(connection.receive_eof(), [])

    def test_disconnect_with_will_leaves_it(self) -> None:
        """5.0: reason code 0x04 and every error."""
        for code in (4, 0x80):
            connection = connected(connect=Connect(5, "c", will=self.will))
            connection.receive_data(encode(Disconnect(code), 5), 1.0)
            self.assertEqual((connection.closed, connection.will), (True, self.will))

    def test_a_session_cannot_be_prolonged_by_disconnect(self) -> None:
        """A session expiry interval where CONNECT had none is a protocol error (5.0, 3.14.2.2.2)."""
        longer = encode(Disconnect(0, {0x11: 60}), 5)
        (event,) = connected(5).receive_data(longer, 1.0)
        self.assertIsInstance(event, events.ConnectionFailed)
        connection = connected(connect=Connect(5, "c", properties={0x11: 1}))
        (event,) = connection.receive_data(longer, 1.0)
        assert isinstance(event, events.DisconnectReceived)
        self.assertEqual(event.properties, {0x11: 60})

    def test_a_lost_transport_leaves_the_will(self) -> None:
        """It is a failure, in every state."""
        connection = connected(connect=Connect(4, "c", will=self.will))
        connection.send_puback(1)
        (event,) = connection.receive_eof()
        assert isinstance(event, events.ConnectionFailed)
        self.assertIsInstance(event.error, errors.ConnectionLost)
        self.assertEqual((connection.will, connection.data_to_send()), (self.will, b""))
        self.assertEqual(len(Connection(Limits(), 0.0).receive_eof()), 1)

    def test_keep_alive(self) -> None:
        """One and a half times the keep alive without a word [MQTT-3.1.2-22]; the will stays."""
        for version in VERSIONS:
            connection = connected(connect=Connect(version, "c", keep_alive=10, will=self.will))
            self.assertEqual(connection.next_deadline(), 15.0)
            connection.receive_data(b"\xc0\0", 7.0)
            self.assertEqual(connection.data_to_send(), b"\xd0\0")  # [MQTT-3.12.4-1]
            self.assertEqual(connection.check_deadline(21.9), [])
            (event,) = connection.check_deadline(22.0)
            assert isinstance(event, events.ConnectionFailed)
            self.assertIsInstance(event.error, errors.KeepAliveTimeout)
            self.assertEqual((connection.closed, connection.will), (True, self.will))
            self.assertEqual(connection.data_to_send()[:3:2], b"\xe0\x8d" if version == 5 else b"")
            self.assertEqual(connection.check_deadline(99.0), [])
        self.assertIsNone(connected(4).next_deadline())

    def test_the_owner_ends_it(self) -> None:
        """5.0 is told why [MQTT-3.14.2-1]; then nothing is sent any more [MQTT-3.14.4-1]."""
        for version in VERSIONS:
            connection = connected(connect=Connect(version, "c", will=self.will))
            connection.pause()
            connection.disconnect(0x8E, "taken over")
            sent = split(connection.data_to_send(), version)
            self.assertEqual(sent, [Disconnect(0x8E, {0x1F: "taken over"})] if version == 5 else [])
            self.assertEqual(connection.will, self.will)
            connection.disconnect(0x8E)
            connection.send_puback(1)
            connection.send_unsuback(1, [0])
            self.assertFalse(connection.send_publish(encode_publish_parts(version, "t", b"", 0)))
            self.assertEqual(connection.data_to_send(), b"")

    def test_the_owner_ends_it_before_connack(self) -> None:
        """No DISCONNECT then [MQTT-3.14.0-1]: the reason goes into CONNACK where that can say it."""
        for version, code, answer in (
            (5, 0x89, b"\x20\3\0\x89\0"), (5, 0x8B, b""), (4, 0x89, b"\x20\2\0\3"), (4, 0x8B, b""),
        ):  # fmt: skip
            connection = Connection(Limits(), 0.0)
            connection.receive_data(encode(Connect(version, "c"), 0), 0.0)
            connection.disconnect(code)
            self.assertEqual((connection.closed, connection.data_to_send()), (True, answer))
        connection = Connection(Limits(), 0.0)
        connection.disconnect(0x8B)
        self.assertEqual((connection.closed, connection.data_to_send()), (True, b""))

    def test_ping(self) -> None:
        """A PINGREQ is answered inside [MQTT-3.12.4-1]."""
        connection = connected(5)
        self.assertEqual(connection.receive_data(encode(Pingreq(), 5) * 2, 1.0), [])
        self.assertEqual(connection.data_to_send(), b"\xd0\0" * 2)
