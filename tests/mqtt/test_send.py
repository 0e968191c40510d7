"""Messages to the client, and what else waits for it."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt import constants, errors, events
from mfserver.mqtt.connection import Connection, Limits
from mfserver.mqtt.decode import decode
from mfserver.mqtt.encode import EncodedPublish, encode, encode_publish_parts
from mfserver.mqtt.packets import Connect, Disconnect, Properties, Publish
from tests.mqtt.conversation import VERSIONS, connected, split


def encoded(version: int, payload: bytes = b"", qos: int = 0, topic: str = "t") -> EncodedPublish:
    """A message."""
    return encode_publish_parts(version, topic, payload, qos)


class SendTests(SynchronousTestCase):
    """PUBLISH to the client."""

    def test_every_qos(self) -> None:
        """What comes out decodes to what was published, and DUP stands on what was sent before
        [MQTT-3.3.1-1] [MQTT-3.3.1-2] [MQTT-4.3.1-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2].
        """
        for version in VERSIONS:
            connection = connected(version)
            for qos in (0, 1, 2):
                for dup in (False, True):
                    packet_id = 258 + qos if qos else 0
                    publish = encode_publish_parts(version, "t", b"p", qos, retain=True)
                    self.assertTrue(connection.send_publish(publish, packet_id, dup))
                    (packet,) = split(connection.data_to_send(), version)
                    self.assertEqual(packet, Publish("t", b"p", qos, dup and qos > 0, True, packet_id))
            self.assertEqual(connection.data_to_send(), b"")

    def test_to_nobody_else(self) -> None:
        """What one client is sent, in whichever way, no other one gets: they have no place in common."""
        one, other = (connected(5, connect=Connect(5, "c", properties={0x22: 1})) for _ in range(2))
        for send in (
            lambda: one.send_publish(encoded(5, b"new alias")),
            lambda: one.send_publish(encoded(5, b"alias", 1), 1),
            lambda: one.send_publish(encoded(5, b"no alias", topic="u")),
            lambda: one.send_puback(1),
            lambda: one.send_suback(1, [0]),
        ):
            send()
            self.assertEqual(b"", connected(5).data_to_send() + other.data_to_send())
            self.assertNotEqual(b"", one.data_to_send())
            self.assertEqual(b"", one.data_to_send())

    def test_older_versions_get_no_properties(self) -> None:
        """A message of 5.0 goes out to 3.x without them."""
        section: Properties = {1: 1, 2: 9, 3: "c", 8: "r", 9: b"d", 0x26: [("k", "v")], 0x0B: [1]}
        for version in (3, 4):
            connection = connected(version)
            connection.send_publish(encode_publish_parts(version, "t", b"p", 1, properties=section), 1)
            self.assertEqual(connection.data_to_send(), b"\x32\6\0\1t\0\1p")

    def test_a_packet_identifier_belongs_to_qos_1_and_2(self) -> None:
        """An owner that mixes that up is told so by its own tests."""
        connection = connected()
        self.assertRaises(AssertionError, connection.send_publish, encoded(4), 1)
        self.assertRaises(AssertionError, connection.send_publish, encoded(4, qos=1))

    def test_a_message_larger_than_the_client_takes_is_dropped(self) -> None:
        """[MQTT-3.1.2-24] [MQTT-3.1.2-25]; the connection goes on, and it is counted."""
        connection = connected(connect=Connect(5, "c", properties={0x27: 30}))
        for qos in (0, 1, 2):
            publish = encoded(5, bytes(30 - 6 - (2 if qos else 0)), qos)
            self.assertEqual(publish.size, 30)
            self.assertTrue(connection.send_publish(publish, qos))
            self.assertFalse(connection.send_publish(encoded(5, bytes(25), qos), qos))
        self.assertEqual((connection.dropped, connection.closed), (3, False))
        self.assertEqual(len(connection.data_to_send()), 90)

    def test_the_send_quota(self) -> None:
        """Ours or the client's Receive Maximum, whichever is less; the owner learns it with CONNECT
        [MQTT-3.3.4-9] [MQTT-4.9.0-1].
        """
        for version, maximum, ours, expected in (
            (3, None, 20, 20), (4, None, 20, 20), (5, None, 20, 20), (5, 3, 20, 3), (5, 30, 20, 20),
        ):  # fmt: skip
            section: Properties | None = None if maximum is None else {0x21: maximum}
            connection = Connection(Limits(send_quota=ours), 0.0)
            self.assertEqual(connection.send_quota, 0)
            connection.receive_data(encode(Connect(version, "c", properties=section), 0), 0.0)
            self.assertEqual(connection.send_quota, expected)

    def test_when_messages_may_be_sent(self) -> None:
        """While the client is there and reads, and less than max_queued_bytes wait."""
        limits = Limits(max_queued_bytes=40)
        connection = Connection(limits, 0.0)
        self.assertFalse(connection.is_writable)
        connection.receive_data(encode(Connect(4, "c"), 0), 0.0)
        self.assertFalse(connection.is_writable)
        connection.send_connack()
        self.assertTrue(connection.is_writable)
        connection.send_publish(encoded(4, bytes(34)))
        self.assertTrue(connection.is_writable)
        connection.data_to_send()
        connection.send_publish(encoded(4, bytes(35)))
        self.assertFalse(connection.is_writable)
        connection.data_to_send()
        connection.send_publish(encoded(4, bytes(1000)))
        self.assertFalse(connection.is_writable)
        connection.data_to_send()
        self.assertTrue(connection.is_writable)
        connection.pause()
        self.assertFalse(connection.is_writable)
        connection.resume()
        self.assertTrue(connection.is_writable)
        connection.disconnect(0)
        self.assertFalse(connection.is_writable)

    def test_answers_leave_room_for_messages(self) -> None:
        """And messages for answers: neither is counted against the other, and nothing is counted twice."""
        connection = connected(4, Limits(max_queued_bytes=40))
        for _ in range(3):
            connection.send_publish(encoded(4, bytes(200_000)))
            for packet_id in range(1, 16_000):
                connection.send_puback(packet_id)
            self.assertEqual((connection.closed, connection.is_writable), (False, False))
            connection.data_to_send()
            self.assertTrue(connection.is_writable)

    def test_nothing_is_written_while_paused(self) -> None:
        """What waits keeps its order."""
        connection = connected()
        connection.pause()
        connection.send_publish(encoded(4, b"1"))
        connection.send_puback(7)
        self.assertEqual(connection.data_to_send(), b"")
        connection.resume()
        self.assertEqual(len(split(connection.data_to_send(), 4)), 2)

    def test_answers_to_a_client_that_does_not_read_are_bounded(self) -> None:
        """PINGRESPs and acknowledgements cannot be dropped, so the connection ends."""
        for version in VERSIONS:
            connection = connected(version)
            connection.pause()
            happened = connection.receive_data(b"\xc0\0" * 32_768, 1.0)
            while connection.is_behind:
                happened += connection.receive_data(b"", 1.0)
            self.assertEqual((happened, connection.closed), ([], False))
            (event,) = connection.receive_data(b"\xc0\0", 1.0)
            assert isinstance(event, events.ConnectionFailed)
            self.assertIsInstance(event.error, errors.QuotaExceeded)
            self.assertLess(len(connection.data_to_send()), 65_536 + 100)
        for send in (Connection.send_puback, Connection.send_pubrec, Connection.send_pubrel):
            connection = connected()
            connection.pause()
            for _ in range(20_000):
                send(connection, 1)
            self.assertTrue(connection.closed)
            self.assertEqual(len(connection.data_to_send()), 65_536)

    def test_an_answer_that_the_client_cannot_take(self) -> None:
        """It cannot be left out, so the connection ends and says why [MQTT-3.1.2-24]."""
        connection = connected(connect=Connect(5, "c", properties={0x27: 20}))
        connection.send_suback(1, [0] * 20)
        self.assertTrue(connection.closed)
        self.assertEqual(split(connection.data_to_send(), 5), [Disconnect(constants.PACKET_TOO_LARGE)])


class TopicAliasTests(SynchronousTestCase):
    """Topic aliases that we use."""

    def client(self, maximum: int | None, packet_size: int = 1000) -> Connection:
        """A client that takes so many."""
        section: Properties = {0x27: packet_size}
        if maximum is not None:
            section[0x22] = maximum
        return connected(connect=Connect(5, "c", properties=section))

    def sent(self, connection: Connection, publish: EncodedPublish, packet_id: int = 0) -> Publish:
        """The packet that a message goes out as."""
        self.assertTrue(connection.send_publish(publish, packet_id))
        (packet,) = split(connection.data_to_send(), 5)
        assert isinstance(packet, Publish)
        return packet

    def test_a_topic_is_said_once(self) -> None:
        """Then its alias stands for it, at every QoS, with all other properties as they were."""
        for properties in (None, {3: "c", 0x0B: [1, 2], 0x26: [("k", "v" * 200)]}):
            connection = self.client(2)
            for qos, topic, said, alias in (
                (1, "a/b", "a/b", 1), (0, "a/b", "", 1), (2, "c", "c", 2), (0, "c", "", 2), (1, "a/b", "", 1),
            ):  # fmt: skip
                section: Properties | None = dict(properties) if properties else None
                publish = encode_publish_parts(5, topic, b"p", qos, properties=section)
                packet = self.sent(connection, publish, qos)
                expected: Properties = {0x23: alias, **(section or {})}
                self.assertEqual(packet, Publish(said, b"p", qos, packet_id=qos, properties=expected))
            self.assertEqual(connection.held, 4)

    def test_they_count_as_they_are_sent(self) -> None:
        """A message without its topic takes so much less of max_queued_bytes."""
        topic = "t" * 50
        connection = connected(5, Limits(max_queued_bytes=100), Connect(5, "c", properties={0x22: 1}))
        connection.send_publish(encoded(5, topic=topic))  # 58 bytes, then 8 each
        for _ in range(5):
            connection.send_publish(encoded(5, topic=topic))
        self.assertTrue(connection.is_writable)
        connection.send_publish(encoded(5, topic=topic))
        self.assertFalse(connection.is_writable)
        self.assertEqual(len(connection.data_to_send()), 58 + 6 * 8)

    def test_dup_stands_on_them_too(self) -> None:
        """At QoS 1 and 2 [MQTT-3.3.1-1], and never at QoS 0 [MQTT-3.3.1-2]."""
        for qos in (0, 1, 2):
            connection = self.client(1)
            for _ in range(2):
                connection.send_publish(encoded(5, b"", qos), qos, True)
                (packet,) = split(connection.data_to_send(), 5)
                assert isinstance(packet, Publish)
                self.assertEqual(packet.dup, qos > 0)

    def test_no_more_than_the_client_takes(self) -> None:
        """None by default or at 0 [MQTT-3.1.2-27], at most its maximum [MQTT-3.1.2-26] [MQTT-3.3.2-11], and
        32; what has none goes out with its topic.
        """
        for maximum, number in ((None, 0), (0, 0), (1, 1), (31, 31), (40, 32), (65_535, 32)):
            connection = self.client(maximum)
            topics = [f"t{i}" for i in range(50)]
            for topic in topics:
                self.assertEqual(self.sent(connection, encoded(5, topic=topic)).topic, topic)
            again = [self.sent(connection, encoded(5, topic=topic)) for topic in topics]
            aliases = [(packet.properties or {}).get(0x23) for packet in again]
            self.assertEqual(aliases, [*range(1, number + 1)] + [None] * (50 - number))
            self.assertEqual([p.topic for p in again], [""] * number + topics[number:])
            self.assertEqual(connection.held, sum(len(topic) for topic in topics[:number]))

    def test_older_versions_have_none(self) -> None:
        """However often a topic is sent."""
        for version in (3, 4):
            connection = connected(version)
            for _ in range(2):
                connection.send_publish(encoded(version))
                self.assertEqual(connection.data_to_send(), b"\x30\3\0\1t")

    def test_the_maximum_packet_size_is_kept_to(self) -> None:
        """An alias is not set where it would not fit; where it makes a packet fit it is used; where the
        topic is shorter than its alias, the topic is [MQTT-3.1.2-24].
        """
        connection = self.client(5, 40)
        plain = encoded(5, bytes(40 - 5 - 4), topic="four")
        self.assertEqual(plain.size, 40)
        self.assertEqual(self.sent(connection, plain), Publish("four", bytes(31)))
        self.assertEqual(connection.held, 0)
        self.sent(connection, encoded(5, topic="a long topic"))
        long = encoded(5, bytes(30), topic="a long topic")
        self.assertEqual(long.size, 47)
        self.assertEqual(self.sent(connection, long), Publish("", bytes(30), properties={0x23: 1}))
        self.assertFalse(connection.send_publish(encoded(5, bytes(33), topic="a long topic")))
        self.sent(connection, encoded(5, topic="t"))
        short = encoded(5, bytes(34), topic="t")
        self.assertEqual(short.size, 40)
        self.assertEqual(self.sent(connection, short), Publish("t", bytes(34)))
        self.assertEqual(connection.dropped, 1)

    def test_they_end_with_the_connection(self) -> None:
        """Nothing of them is held any more [MQTT-3.3.2-7]."""
        connection = self.client(5)
        self.sent(connection, encoded(5))
        self.assertEqual(connection.held, 1)
        connection.disconnect(0)
        self.assertEqual(connection.held, 0)

    @settings(max_examples=50, deadline=None)
    @given(
        st.integers(0, 2),
        st.sampled_from((0, 100, 124, 125, 126, 127, 128, 16_370, 16_380)),
        st.sampled_from((0, 120, 121, 122, 123, 124, 125)),
        st.booleans(),
    )
    def test_what_goes_out_is_what_was_encoded(self, qos: int, size: int, rest: int, dup: bool) -> None:
        """Whatever the lengths at which a length takes a byte more, and for each client anew."""
        section: Properties | None = {3: "x" * rest} if rest else None
        publish = encode_publish_parts(5, "a/b", bytes(size), qos, properties=section)
        for alias, is_new, packet_id, repeated in (
            (7, True, 9, dup), (7, False, 10, dup), (65_535, False, 1, not dup), (1, True, 65_535, dup),
        ):  # fmt: skip
            head, message = publish.aliased(alias, is_new, packet_id, repeated)
            packet = decode(head + bytes(message), 5)
            topic = "a/b" if is_new else ""
            expected: Properties = {0x23: alias, **(section or {})}
            at_1 = qos > 0
            self.assertEqual(
                packet,
                Publish(topic, bytes(size), qos, repeated and at_1, False, packet_id * at_1, expected),
            )
