"""What an accepted client may say besides messages, what it is answered, and how it ends."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.mqtt import constants, errors, events
from mfserver.mqtt.connection import Connection, Limits
from mfserver.mqtt.encode import encode, encode_publish_parts
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Properties,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from tests.mqtt.conversation import VERSIONS, connected, split


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

    def test_every_kind_of_subscription_is_handed_on(self) -> None:
        """Shared ones and subscription identifiers too; what they mean in 3.x is for the owner."""
        for version in VERSIONS:
            section: Properties | None = {0x0B: 1} if version == 5 else None
            packet = Subscribe(1, [Subscription("a"), Subscription("$share/g/a", 2)], section)
            (event,) = connected(version).receive_data(encode(packet, version), 1.0)
            assert isinstance(event, events.SubscribeReceived)
            self.assertEqual(event.packet, packet)

    def test_a_suback_that_the_client_cannot_take(self) -> None:
        """It cannot be left out, so the connection ends and says why [MQTT-3.1.2-24]."""
        connection = connected(connect=Connect(5, "c", properties={0x27: 30}))
        connection.send_suback(1, [0] * 30)
        self.assertTrue(connection.closed)
        self.assertEqual(split(connection.data_to_send(), 5), [Disconnect(constants.PACKET_TOO_LARGE)])


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

    def test_the_session_expiry_interval_of_disconnect(self) -> None:
        """It may be changed, but not from 0 to more: that is a protocol error (5.0, 3.14.2.2.2)."""
        asked: tuple[int | None, ...] = (None, 0, 1, 0xFFFFFFFF)
        for in_connect in asked:
            for in_disconnect in asked:
                first: Properties | None = None if in_connect is None else {0x11: in_connect}
                second: Properties | None = None if in_disconnect is None else {0x11: in_disconnect}
                connection = connected(connect=Connect(5, "c", will=self.will, properties=first))
                (event,) = connection.receive_data(encode(Disconnect(0, second), 5), 1.0)
                self.assertTrue(connection.closed)
                if in_disconnect and not in_connect:
                    assert isinstance(event, events.ConnectionFailed)
                    self.assertIsInstance(event.error, errors.ProtocolError)
                    self.assertEqual(connection.data_to_send()[2], constants.PROTOCOL_ERROR)
                    self.assertEqual(connection.will, self.will)
                else:
                    assert isinstance(event, events.DisconnectReceived)
                    self.assertEqual(event.session_expiry, in_disconnect)
                    self.assertEqual(event.properties, second)
                    self.assertEqual((connection.will, connection.data_to_send()), (None, b""))

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

    def test_server_keep_alive(self) -> None:
        """5.0 is told the longest keep alive where it asks for more or for none, and held to it; else to its
        own [MQTT-3.2.2-22]. 3.x cannot be told.
        """
        for version in VERSIONS:
            for asked, granted in ((0, 60), (61, 60), (60, 60), (7, 7)):
                connection = Connection(Limits(max_keep_alive=60), 0.0)
                connection.receive_data(encode(Connect(version, "c", keep_alive=asked), 0), 0.0)
                connection.send_connack()
                (connack,) = split(connection.data_to_send(), version)
                assert isinstance(connack, Connack)
                said = (connack.properties or {}).get(0x13)
                seconds = granted if version == 5 else asked
                self.assertEqual(said, granted if version == 5 and asked != granted else None)
                self.assertEqual(connection.next_deadline(), seconds * 1.5 or None)

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

    def test_another_server(self) -> None:
        """5.0 is told where to go (4.11), with the two reason codes that say so and before CONNACK too; 3.x
        is closed.
        """
        for version in VERSIONS:
            for accepted in (False, True):
                for code, is_said in ((0x9C, True), (0x9D, True), (0x8B, False), (0x97, False)):
                    connection = Connection(Limits(), 0.0)
                    connection.receive_data(encode(Connect(version, "c"), 0), 0.0)
                    if accepted:
                        connection.send_connack()
                        connection.data_to_send()
                    connection.disconnect(code, server_reference="b.example:1883")
                    self.assertTrue(connection.closed)
                    said: Properties | None = {0x1C: "b.example:1883"} if is_said else None
                    expected: list[Packet] = []
                    if version == 5 and accepted:
                        expected = [Disconnect(code, said)]
                    elif version == 5 and code != 0x8B:  # which CONNACK cannot say
                        expected = [Connack(code, False, said)]
                    elif not accepted and code == 0x97:
                        expected = [Connack(3)]
                    self.assertEqual(split(connection.data_to_send(), version), expected)

    def test_ping(self) -> None:
        """A PINGREQ is answered inside [MQTT-3.12.4-1]."""
        connection = connected(5)
        self.assertEqual(connection.receive_data(encode(Pingreq(), 5) * 2, 1.0), [])
        self.assertEqual(connection.data_to_send(), b"\xd0\0" * 2)
