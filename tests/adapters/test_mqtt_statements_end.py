"""The normative statements of MQTT 5.0 and 3.1.1 about limits, ends, AUTH and WebSocket, on the wire."""

from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
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
)
from tests.adapters.durable import DurableBus
from tests.adapters.frames import BINARY, TEXT, WSTestCase, close_code, frame, frames
from tests.adapters.mqtt_case import packets
from tests.adapters.statement_case import TOPIC, VERSIONS, Client, StatementTestCase, only, properties_of
from tests.mqtt.cases import framed


class PacketSizeTests(StatementTestCase):
    """3.1.2.11.4: the client's Maximum Packet Size."""

    def client(self, maximum: int, kept: int = 0) -> Client:
        """Alice's client, which takes no more than so many bytes."""
        return self.connect("alice", kept=kept, properties={properties.MAXIMUM_PACKET_SIZE: maximum})

    def test_messages(self) -> None:
        """Nothing longer is sent; it is as if it had been delivered: [MQTT-3.1.2-24] [MQTT-3.1.2-25]."""
        client, publisher = self.client(100, kept=100), self.connect("bob")
        client.subscribe(TOPIC)
        for qos in (0, 1, 2):
            for payload in (bytes(100), b"short"):
                publisher.publish(payload=payload, qos=qos)
                publisher.send(Pubrel(9)) if qos == 2 else None
        found = client.messages()
        self.assertEqual([b"short"] * 3, [one.payload for one in found])
        self.assertTrue(all(len(encode(one, 5)) <= 100 for one in found))
        client.lose()
        again = self.connect("alice", kept=100, clean_start=False)
        self.assertEqual({b"short"}, {one.payload for one in only(Publish, again.answer)})

    def test_answers(self) -> None:
        """An answer that is longer cannot be left out: the connection ends, and says why
        [MQTT-3.1.2-24]."""
        client = self.client(24)
        subscriptions = [Subscription("elsewhere") for _ in range(30)]
        self.assert_refused(client, client.send(Subscribe(1, subscriptions), Pingreq()), 0x95)

    def test_reason_strings(self) -> None:
        """They are left out where they do not fit, and sent where they do: of CONNACK [MQTT-3.2.2-19],
        PUBACK [MQTT-3.4.2-2], PUBREC [MQTT-3.5.2-2], DISCONNECT [MQTT-3.14.2-3]."""
        for maximum, said in ((24, False), (1000, True)):
            for first in self.explained(maximum):
                self.assertEqual(said, properties.REASON_STRING in properties_of(first), first)
                self.assertLessEqual(len(encode(first, 5)), maximum)

    def explained(self, maximum: int) -> list[Packet]:
        """Packets in which the server explains itself to a client that takes so many bytes."""
        stranger = Connect(
            5,
            "a",
            user_name="alice",
            password=b"guessed",
            properties={properties.MAXIMUM_PACKET_SIZE: maximum},
        )
        found: list[Packet] = [self.ask(stranger).connack]
        client = self.client(maximum)
        for qos in (1, 2):
            found += client.publish("channels/e/messages", qos=qos)
        client = self.client(maximum)
        found += client.publish("channels/e/messages")
        self.assertEqual([Connack, Puback, Pubrec, Disconnect], [type(one) for one in found])
        return found

    def test_bare_answers(self) -> None:
        """The other packets have no reason string, so that none can be too long: PUBREL [MQTT-3.6.2-2],
        PUBCOMP [MQTT-3.7.2-2], SUBACK [MQTT-3.9.2-1], UNSUBACK [MQTT-3.11.2-1]."""
        for maximum in (24, 1000):
            answers = self.bare(self.client(maximum))
            self.assertEqual([Pubrel, Pubcomp, Suback, Unsuback], [type(one) for one in answers])
            for one in answers:
                self.assertNotIn(properties.REASON_STRING, properties_of(one))
                self.assertLessEqual(len(encode(one, 5)), maximum)

    def test_no_user_properties(self) -> None:
        """The server has none of its own in any packet: CONNACK [MQTT-3.2.2-20], PUBACK [MQTT-3.4.2-3],
        PUBREC [MQTT-3.5.2-3], PUBREL [MQTT-3.6.2-3], PUBCOMP [MQTT-3.7.2-3], SUBACK [MQTT-3.9.2-2],
        UNSUBACK [MQTT-3.11.2-2], DISCONNECT [MQTT-3.14.2-4]."""
        for maximum in (24, 1000):
            client = self.client(maximum)
            for one in (client.connack, *self.bare(client), *self.explained(maximum)):
                self.assertNotIn(properties.USER_PROPERTY, properties_of(one))
                self.assertLessEqual(len(encode(one, 5)), maximum)

    def bare(self, client: Client) -> list[Packet]:
        """Answers to what refers to nothing that there is."""
        return client.send(
            Pubrec(77),
            Pubrel(77),
            Subscribe(1, [Subscription("elsewhere"), Subscription("channels/e/messages")]),
            Unsubscribe(1, ["elsewhere"]),
        )

    def test_problem_information(self) -> None:
        """Who asked for none has a reason string in no packet but CONNACK and DISCONNECT
        [MQTT-3.1.2-29]."""
        client = self.connect("alice", properties={properties.REQUEST_PROBLEM_INFORMATION: 0})
        answers = [
            *client.publish("channels/e/messages", qos=1),
            *client.publish("channels/e/messages", qos=2),
            *client.send(Pubrel(5)),
            *client.send(Pubrec(5)),
            *client.send(Subscribe(1, [Subscription("elsewhere")])),
        ]
        self.assertEqual(5, len(answers))
        self.assertEqual([{}] * 5, [properties_of(one) for one in answers])


class DisconnectTests(StatementTestCase):
    """3.14: DISCONNECT."""

    def test_flags(self) -> None:
        """[MQTT-3.14.1-1]"""
        for version in VERSIONS:
            for flags in range(1, 16):
                client = self.connect("alice", version)
                self.assert_refused(client, client.send(bytes((0xE0 | flags, 0))), 0x81)

    def test_no_session_expiry(self) -> None:
        """The server's has none [MQTT-3.14.2-2], and nothing but a reason."""
        for kept in (0, 100):
            client = self.connect("alice", kept=kept)
            client.wire.protocol.end("the thing was deleted")
            (said,) = only(Disconnect, client.heard())
            self.assertLessEqual(set(said.properties or {}), {properties.REASON_STRING})

    def test_nothing_behind_it(self) -> None:
        """Neither an answer nor a message [MQTT-3.14.4-1]; and the connection is closed
        [MQTT-3.14.4-2]."""
        client, publisher = self.connect("alice"), self.connect("bob")
        client.subscribe(TOPIC)
        client.wire.protocol.end("the thing was deleted")
        self.assertEqual([Disconnect], [type(one) for one in client.heard()])
        self.assertTrue(client.closed)
        publisher.publish()
        self.assertEqual([], client.send(Pingreq()))

    def test_nothing_after_the_client_s(self) -> None:
        """What a client says behind its own does not happen: of 3.1.1 [MQTT-3.14.4-1]
        [MQTT-3.14.4-2]."""
        listener = self.connect("bob")
        listener.subscribe(TOPIC)
        for version in VERSIONS:
            client = self.connect("alice", version)
            self.assertEqual([], client.send(Disconnect(), Publish(TOPIC, b"x"), Pingreq()))
            self.assertTrue(client.closed)
        self.assertEqual([], listener.messages())


class PingTests(StatementTestCase):
    """3.12."""

    def test_ping(self) -> None:
        """Every PINGREQ is answered [MQTT-3.12.4-1]."""
        for version in VERSIONS:
            client = self.connect("alice", version)
            self.assertEqual([Pingresp()] * 3, client.send(Pingreq(), Pingreq(), Pingreq()))


class AuthTests(StatementTestCase):
    """4.12: there is no enhanced authentication, and nothing of it is taken for granted."""

    method = {properties.AUTHENTICATION_METHOD: "SCRAM-SHA-256"}

    def test_method(self) -> None:
        """One that is not there is refused with 0x8C and closed: [MQTT-4.12.0-1] [MQTT-4.12.0-4]. So no AUTH
        is sent [MQTT-4.12.0-2] and no CONNACK with a method is a success [MQTT-4.12.0-5]."""
        for data in ({}, {properties.AUTHENTICATION_DATA: b"n,,n=alice"}):
            client = self.ask(self.who("alice", properties={**self.method, **data}))
            self.assertEqual([0x8C], [one.reason_code for one in only(Connack, client.answer)])
            self.assertEqual((1, True), (len(client.answer), client.closed))
            self.assertNotIn(properties.AUTHENTICATION_METHOD, properties_of(client.connack))

    def test_between_connect_and_connack(self) -> None:
        """Who asked for a method and goes on at once is heard no further [MQTT-3.1.2-30]."""
        listener = self.connect("bob")
        listener.subscribe(TOPIC)
        connect = self.who("alice", properties=dict(self.method))
        client = self.raw(5, encode(connect, 5) + encode(Publish(TOPIC, b"x"), 5))
        self.assertEqual(([Connack], True), ([type(one) for one in client.answer], client.closed))
        self.assertEqual([], listener.messages())

    def test_answer_to_nothing(self) -> None:
        """An AUTH that continues what never began is refused, whatever its code [MQTT-4.12.0-3]."""
        for code in (0x18, 0x19, 0):
            client = self.connect("alice")
            self.assert_refused(client, client.send(Auth(code, dict(self.method))), 0x82)

    def test_no_method(self) -> None:
        """Without one there is no AUTH from the server and none in its CONNACK [MQTT-4.12.0-6]."""
        client = self.connect("alice")
        self.assertEqual([Connack], [type(one) for one in client.answer])
        self.assertNotIn(properties.AUTHENTICATION_METHOD, properties_of(client.connack))

    def test_no_method_and_auth(self) -> None:
        """A client's AUTH is refused then, before CONNACK too [MQTT-4.12.0-7]."""
        client = self.connect("alice")
        self.assert_refused(client, client.send(b"\xf0\0"), 0x82)
        self.assertEqual([], self.raw(5, b"\xf0\0").answer)

    def test_none_is_sent(self) -> None:
        """No AUTH ever comes from the server, so that none has a reason string or user properties that could
        be too long: [MQTT-3.15.2-2] [MQTT-3.15.2-3]."""
        said = {**self.method, properties.REASON_STRING: "r", properties.USER_PROPERTY: [("k", "v")]}
        for code in (0, 0x18, 0x19):
            client = self.connect("alice")
            answer = client.send(Auth(code, dict(said)))
            self.assertEqual([Disconnect], [type(one) for one in answer])
        self.assertEqual([], only(Auth, self.ask(self.who("alice", properties=dict(self.method))).answer))

    def test_re_authentication(self) -> None:
        """There is none, for there is no method to keep: the connection is closed, after a DISCONNECT that
        says why: [MQTT-4.12.1-1] [MQTT-4.12.1-2]."""
        client = self.connect("alice")
        self.assert_refused(client, client.send(Auth(0x19, dict(self.method))), 0x82)

    def test_flags(self) -> None:
        """[MQTT-3.15.1-1]"""
        for flags in range(1, 16):
            client = self.connect("alice")
            self.assert_refused(client, client.send(bytes((0xF0 | flags, 0))), 0x81)

    def test_codes(self) -> None:
        """AUTH has three [MQTT-3.15.2-1]."""
        for code in set(range(256)) - {0, 0x18, 0x19}:
            client = self.connect("alice", client_id="x")
            self.assert_refused(client, client.send(framed(0xF0, bytes((code,)))), 0x82)


class ErrorTests(StatementTestCase):
    """4.13, and 4.8 of 3.1.1: what is done about errors."""

    def test_violations(self) -> None:
        """Each closes its connection, and 5.0 hears the code: [MQTT-4.13.1-1] [MQTT-4.13.2-1], of 3.1.1
        [MQTT-4.8.0-1]."""
        for version in VERSIONS:
            for data, code in ((b"\0\0", 0x81), (b"\xd0\0", 0x82), (b"\x20\2\0\0", 0x82), (b"\xc1\0", 0x81)):
                client, other = self.connect("alice", version), self.connect("bob")
                self.assert_refused(client, client.send(data), code)
                self.assertEqual([Pingresp()], other.send(Pingreq()))

    def test_transient_errors(self) -> None:
        """A packet that cannot be dealt with now closes its connection: of 3.1.1 [MQTT-4.8.0-2]."""
        for version in VERSIONS:
            client = self.connect("alice", version)
            bus = self.house.router.bus = DurableBus(lambda message: None)
            client.publish(qos=1)
            bus.commits[0].errback(OSError("the disk is broken"))
            answer = client.heard()
            self.assertEqual([], only(Puback, answer))
            self.assertTrue(client.closed)
            self.assertEqual(1, len(self.flushLoggedErrors(OSError)))


class WebSocketTests(WSTestCase):
    """6: MQTT over WebSocket."""

    offer = "Sec-WebSocket-Protocol: mqtt"

    def said(self) -> list[bytes]:
        """CONNECT and PINGREQ of each version."""
        return [
            encode(Connect(version, "a", user_name="alice", password=b"key-of-alice"), version) + b"\xc0\0"
            for version in VERSIONS
        ]

    def test_binary_frames(self) -> None:
        """All that is sent is binary; anything else that comes closes the connection [MQTT-6.0.0-1]."""
        for data in self.said():
            wire, status, _, _ = self.ask("/mqtt", self.offer)
            self.assertEqual(101, status)
            self.assertEqual({BINARY}, {one.opcode for one in frames(wire.receive(frame(BINARY, data)))})
            self.assertEqual(
                1003, close_code(wire.receive(frame(TEXT, b"\xc0\0".decode("latin-1").encode())))
            )

    def test_frames_and_packets(self) -> None:
        """Packets are found whether they share frames or are split over some [MQTT-6.0.0-2]."""
        for version, data in zip(VERSIONS, self.said(), strict=True):
            for cut in range(1, len(data)):
                wire, *_ = self.ask("/mqtt", self.offer)
                written = wire.receive(frame(BINARY, data[:cut])) + wire.receive(frame(BINARY, data[cut:]))
                carried = b"".join(one.payload for one in frames(written))
                self.assertEqual([Connack, Pingresp], [type(one) for one in packets(carried, version)])
                wire.lose()

    def test_subprotocol(self) -> None:
        """``mqtt`` is selected and returned; without it there is no MQTT: [MQTT-6.0.0-3]
        [MQTT-6.0.0-4]."""
        _, status, answered, _ = self.ask("/mqtt", "Sec-WebSocket-Protocol: chat, mqtt")
        self.assertEqual((101, "mqtt"), (status, answered["sec-websocket-protocol"]))
        _, status, _, _ = self.ask("/mqtt")
        self.assertEqual(400, status)
