"""What an accepted client may say when, and what it is answered."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt import constants, errors, events
from mfserver.mqtt.connection import Connection, Limits
from mfserver.mqtt.encode import encode, encode_publish_parts
from mfserver.mqtt.packets import (
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
from tests.mqtt.conversation import VERSIONS, connected, split


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

    def test_an_acknowledgement_while_the_transport_takes_no_more(self) -> None:
        """What it makes room for waits on, and may still be dropped when the client lost the right to it."""
        for lost, expected in ((False, [b"2"]), (True, [])):
            connection = connected(limits=Limits(send_quota=1))
            for payload in (b"1", b"2"):
                connection.send_publish(encode_publish_parts(4, "a", payload, 1))
            connection.data_to_send()
            connection.pause()
            connection.receive_data(encode(Puback(1), 4), 1.0)
            if lost:
                connection.discard(lambda topic: topic == "a")
            connection.resume()
            sent = split(connection.data_to_send(), 4)
            self.assertEqual(expected, [packet.payload for packet in sent if isinstance(packet, Publish)])

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
