"""Messages of the client: what it may send when, and what that means."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt import errors, events
from mfserver.mqtt.connection import Connection, Limits
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Connect,
    Disconnect,
    Packet,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)
from mfserver.mqtt.properties import is_payload_well_formed
from tests.mqtt.conversation import VERSIONS, connected, split


class ReceivingTestCase(SynchronousTestCase):
    """Feeds packets to a connection."""

    def receive(self, connection: Connection, *packets: Packet) -> list[events.Event]:
        """The events of these packets; the connection lives on."""
        data = b"".join(encode(packet, connection.version) for packet in packets)
        happened = connection.receive_data(data, 1.0)
        self.assertFalse(connection.closed)
        return happened

    def failed(self, connection: Connection, packet: Packet | bytes) -> type:
        """The error that ends the connection; 5.0 is told it, 3.x is not."""
        data = packet if isinstance(packet, bytes) else encode(packet, connection.version)
        event = connection.receive_data(data, 1.0)[-1]
        assert isinstance(event, events.ConnectionFailed)
        self.assertTrue(connection.closed)
        sent = connection.data_to_send()
        if connection.version == 5:
            (answer,) = split(sent, 5)
            self.assertEqual(answer, Disconnect(event.error.reason_code, {0x1F: event.text}))
        else:
            self.assertEqual(sent, b"")
        return type(event.error)


class PublishTests(ReceivingTestCase):
    """PUBLISH at every QoS."""

    def test_messages_come_out_as_they_went_in(self) -> None:
        """In order, with what they carry, repeated or not [MQTT-4.3.2-5]."""
        for version in VERSIONS:
            connection = connected(version)
            said = [
                Publish("a/b", b"1", retain=True),
                Publish("a", b"2", 1, packet_id=9),
                Publish("a", b"", 1, True, packet_id=9),
                Publish("a", b"3", 2, packet_id=10),
                Publish("a", b"3", 2, True, packet_id=10),
            ]
            happened = self.receive(connection, *said)
            self.assertEqual(
                [event.packet for event in happened if isinstance(event, events.PublishReceived)], said
            )
            self.assertEqual(connection.data_to_send(), b"")

    def test_what_is_too_large_ends_the_connection(self) -> None:
        """Payloads and packets past the bound, the latter at their header [MQTT-3.2.2-15]."""
        for version in VERSIONS:
            limits = Limits(max_payload=10)
            self.receive(connected(version, limits), Publish("t", bytes(10)))
            error = self.failed(connected(version, limits), Publish("t", bytes(11)))
            self.assertIs(error, errors.PacketTooLarge)
            small = Limits(max_packet=200)
            self.assertIs(self.failed(connected(version, small), b"\x30\xc6\1"), errors.PacketTooLarge)
            self.assertEqual(connected(version, small).receive_data(b"\x30\xc5\1", 1.0), [])
            error = self.failed(connected(version), b"\x30\x80\x80\x80\x7f")
            self.assertIs(error, errors.PacketTooLarge)

    def test_subscription_identifiers_come_from_servers(self) -> None:
        """[MQTT-3.3.4-6]"""
        packet = Publish("t", b"", properties={0x0B: [1]})
        self.assertIs(self.failed(connected(5), packet), errors.ProtocolError)

    def test_what_only_a_server_says(self) -> None:
        """And AUTH, where no authentication method was agreed on [MQTT-4.12.0-7]."""
        for version in VERSIONS:
            for first in (0x20, 0x90, 0xB0, 0xD0):
                self.assertIs(self.failed(connected(version), bytes((first,))), errors.ProtocolError)
        self.assertIs(self.failed(connected(5), b"\xf0"), errors.ProtocolError)

    def test_the_payload_format_indicator(self) -> None:
        """1 promises UTF-8, in which U+0000 is nothing special; anything else promises nothing."""
        ones: Properties = {1: 1}
        table: list[tuple[Properties | None, bytes, bool]] = [
            (ones, "€\0".encode(), True),
            (ones, b"", True),
            (ones, b"\xff", False),
            (ones, b"\xed\xa0\x80", False),
            ({1: 0}, b"\xff", True),
            ({3: "c"}, b"\xff", True),
            (None, b"\xff", True),
        ]
        for section, payload, expected in table:
            self.assertEqual(is_payload_well_formed(section, payload), expected, (section, payload))


class HandshakeTests(ReceivingTestCase):
    """PUBACK, PUBREC, PUBREL and PUBCOMP, both ways."""

    def test_what_the_client_answers_is_handed_on(self) -> None:
        """With its packet identifier and reason code, whether anything has that identifier or not."""
        for version in VERSIONS:
            refused = 0x97 if version == 5 else 0
            unknown = 0x92 if version == 5 else 0
            happened = self.receive(
                connected(version), Puback(1), Pubrec(2), Pubrel(3), Pubcomp(4),
                Puback(5, refused), Pubrec(6, refused), Pubrel(7, unknown), Pubcomp(8, unknown),
            )  # fmt: skip
            expected = [
                (events.PublishAcknowledged, 1, 0),
                (events.PublishStored, 2, 0),
                (events.PublishReleased, 3, None),
                (events.PublishCompleted, 4, 0),
                (events.PublishAcknowledged, 5, refused),
                (events.PublishStored, 6, refused),
                (events.PublishReleased, 7, None),
                (events.PublishCompleted, 8, unknown),
            ]
            said = [
                (type(event), getattr(event, "packet_id", None), getattr(event, "reason_code", None))
                for event in happened
            ]
            self.assertEqual(said, expected)

    def test_what_we_answer(self) -> None:
        """5.0 gets reason codes and strings; 3.x neither, and never a property.

        [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-4.3.3-4] [MQTT-4.3.3-11]
        """
        for version in VERSIONS:
            connection = connected(version)
            connection.send_puback(1)
            connection.send_puback(2, 0x87, "why")
            connection.send_pubrec(3)
            connection.send_pubrec(4, 0x97, "why")
            connection.send_pubrel(5)
            connection.send_pubrel(6, 0x92)
            connection.send_pubcomp(7)
            connection.send_pubcomp(8, 0x92)
            why: Properties = {0x1F: "why"}
            expected: list[Packet] = [
                Puback(1), Puback(2), Pubrec(3), Pubrec(4), Pubrel(5), Pubrel(6), Pubcomp(7), Pubcomp(8)
            ]  # fmt: skip
            sent = connection.data_to_send()
            if version == 5:
                expected = [
                    Puback(1), Puback(2, 0x87, why), Pubrec(3), Pubrec(4, 0x97, why),
                    Pubrel(5), Pubrel(6, 0x92), Pubcomp(7), Pubcomp(8, 0x92),
                ]  # fmt: skip
            else:
                self.assertEqual(len(sent), 8 * 4)
            self.assertEqual(split(sent, version), expected)

    def test_no_reason_string_for_who_wants_none(self) -> None:
        """Request Problem Information 0: only CONNACK and DISCONNECT explain themselves [MQTT-3.1.2-29]."""
        connection = Connection(Limits(), 0.0)
        connection.receive_data(encode(Connect(5, "c", properties={0x17: 0}), 0), 0.0)
        connection.send_connack(reason_string="welcome")
        self.assertIn(b"welcome", connection.data_to_send())
        connection.send_puback(1, 0x87, "because")
        connection.send_pubrec(2, 0x87, "because")
        connection.disconnect(0x87, "because")
        self.assertEqual(
            split(connection.data_to_send(), 5),
            [Puback(1, 0x87), Pubrec(2, 0x87), Disconnect(0x87, {0x1F: "because"})],
        )

    def test_a_reason_string_that_does_not_fit_is_left_out(self) -> None:
        """[MQTT-3.4.2-2] [MQTT-3.5.2-2] [MQTT-3.14.2-3]: 30 bytes is what this client takes."""
        for length, fits in ((30 - 5 - 4, True), (30 - 5 - 3, False)):
            connection = connected(connect=Connect(5, "c", properties={0x27: 30}))
            text = "x" * length
            connection.send_puback(1, 0x87, text)
            connection.send_pubrec(1, 0x87, text)
            connection.disconnect(0x87, text + "xx")
            said: Properties | None = {0x1F: text} if fits else None
            last: Properties | None = {0x1F: text + "xx"} if fits else None
            self.assertEqual(
                split(connection.data_to_send(), 5),
                [Puback(1, 0x87, said), Pubrec(1, 0x87, said), Disconnect(0x87, last)],
            )


class ReceiveMaximumTests(ReceivingTestCase):
    """How much of QoS 1 and 2 may be under way to us."""

    LIMITS = Limits(receive_maximum=2)

    def test_what_makes_room(self) -> None:
        """PUBACK, a PUBREC that refuses, and PUBCOMP do; a PUBREC and PUBREL do not [MQTT-3.3.4-7]."""
        first, second = Publish("t", b"", 1, packet_id=1), Publish("t", b"", 2, packet_id=2)
        third = Publish("t", b"", 1, packet_id=3)
        for name, makes_room in (
            ("nothing", False), ("puback", True), ("pubrec", False), ("refusal", True),
            ("pubrel", False), ("pubcomp", True),
        ):  # fmt: skip
            connection = connected(5, self.LIMITS)
            self.receive(connection, first, second, Publish("t", b""))
            if name == "puback":
                connection.send_puback(1)
            elif name == "refusal":
                connection.send_pubrec(2, 0x80)
            elif name != "nothing":
                connection.send_pubrec(2)
            if name in ("pubrel", "pubcomp"):
                self.receive(connection, Pubrel(2))
            if name == "pubcomp":
                connection.send_pubcomp(2)
            connection.data_to_send()
            if makes_room:
                self.receive(connection, third)
            else:
                self.assertIs(self.failed(connection, third), errors.ReceiveMaximumExceeded, name)

    def test_a_repeated_publish_of_qos_2_counts_once(self) -> None:
        """It is one message however often it is sent; QoS 1 counts each time, as each gets a PUBACK."""
        repeated = Publish("t", b"", 2, True, packet_id=2)
        connection = connected(5, self.LIMITS)
        self.receive(connection, *[repeated] * 5, Publish("t", b"", 2, packet_id=3))
        error = self.failed(connection, Publish("t", b"", 2, packet_id=4))
        self.assertIs(error, errors.ReceiveMaximumExceeded)
        connection = connected(5, self.LIMITS)
        once = Publish("t", b"", 1, packet_id=2)
        self.receive(connection, once, once)
        self.assertIs(self.failed(connection, once), errors.ReceiveMaximumExceeded)

    def test_acknowledging_nothing_makes_no_room(self) -> None:
        """Neither more PUBACKs than there were PUBLISHes nor PUBCOMPs of other identifiers."""
        connection = connected(5, self.LIMITS)
        connection.send_puback(1)
        connection.send_pubcomp(9)
        self.receive(connection, Publish("t", b"", 1, packet_id=1), Publish("t", b"", 2, packet_id=2))
        connection.data_to_send()
        error = self.failed(connection, Publish("t", b"", 1, packet_id=3))
        self.assertIs(error, errors.ReceiveMaximumExceeded)

    def test_older_versions_do_not_know_it(self) -> None:
        """There the owner stops reading instead."""
        for version in (3, 4):
            connection = connected(version, self.LIMITS)
            packets = [Publish("t", b"", 1 + i % 2, packet_id=i) for i in range(1, 100)]
            self.assertEqual(len(self.receive(connection, *packets)), 99)


class TopicAliasTests(ReceivingTestCase):
    """Topic aliases of the client."""

    def test_they_stand_for_their_topics(self) -> None:
        """Until they are set anew; the owner sees none of them. 1 to our maximum are taken
        [MQTT-3.3.2-12].
        """
        connection = connected(5, Limits(topic_alias_maximum=2))
        topics = []
        for topic, section in (
            ("a", {0x23: 2}), ("", {0x23: 2, 3: "c"}), ("b", {0x23: 2}), ("", {0x23: 2}), ("c", {3: "c"}),
            ("d", {0x23: 1}), ("", {0x23: 2}),
        ):  # fmt: skip
            (event,) = self.receive(connection, Publish(topic, b"", properties=dict(section)))
            assert isinstance(event, events.PublishReceived)
            topics.append((event.packet.topic, event.packet.properties))
        self.assertEqual(
            topics,
            [
                ("a", None),
                ("a", {3: "c"}),
                ("b", None),
                ("b", None),
                ("c", {3: "c"}),
                ("d", None),
                ("b", None),
            ],
        )

    def test_wrong_ones_end_the_connection(self) -> None:
        """Above the maximum [MQTT-3.3.2-9] [MQTT-3.2.2-17], any where there is none [MQTT-3.2.2-18], 0
        [MQTT-3.3.2-8], and one that was never set.
        """
        for maximum, topic, alias, error in (
            (32, "t", 33, errors.TopicAliasInvalid),
            (0, "t", 1, errors.TopicAliasInvalid),
            (32, "t", 0, errors.TopicAliasInvalid),
            (32, "", 1, errors.ProtocolError),
        ):
            connection = connected(5, Limits(topic_alias_maximum=maximum))
            packet = Publish(topic, b"", properties={0x23: alias})
            self.assertIs(self.failed(connection, packet), error, (maximum, topic, alias))

    def test_they_count_as_held(self) -> None:
        """As many bytes as their topics have, and none any more when the connection is over
        [MQTT-3.3.2-7].
        """
        connection = connected(5)
        for topic, alias, held in (("€", 1, 3), ("four", 2, 7), ("é", 1, 6), ("", 1, 6), ("x", 0, 6)):
            section: Properties | None = {0x23: alias} if alias else None
            self.receive(connection, Publish(topic, b"", properties=section))
            self.assertEqual(connection.held, held)
        connection.receive_data(b"\x30\x10part", 1.0)
        self.assertEqual(connection.held, 6 + 6)
        connection.receive_eof()
        self.assertEqual(connection.held, 0)

    def test_another_connection_knows_none(self) -> None:
        """A topic alias ends with the connection that set it [MQTT-3.3.2-7]."""
        self.receive(connected(5), Publish("a", b"", properties={0x23: 1}))
        self.assertIs(self.failed(connected(5), Publish("", b"", properties={0x23: 1})), errors.ProtocolError)
