"""The normative statements of MQTT 5.0 and 3.1.1 about the delivery of messages (2.2.1, 4.3-4.6, 4.9)."""

from mfserver.mqtt import properties
from mfserver.mqtt.packets import (
    Acknowledgement,
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
from tests.adapters.statement_case import TOPIC, VERSIONS, Client, StatementTestCase, only
from tests.mqtt.cases import framed


class DeliveryTestCase(StatementTestCase):
    """Bob publishes, and alice listens over and over with a session that is kept."""

    def setUp(self) -> None:
        super().setUp()
        self.publisher = self.connect("bob")

    def listener(self, version: int, **said: int) -> Client:
        """Alice's client with a new session, listening."""
        client = self.begin("alice", version, "k", **said)
        client.subscribe(TOPIC)
        return client

    def again(self, client: Client) -> list[Packet]:
        """Lose the connection. :return: what the next one of the same session hears behind its CONNACK."""
        client.lose()
        self.client = self.resume("alice", client.version, "k")
        return self.client.answer[1:]

    def tell(self, payload: bytes, qos: int) -> None:
        """Publish this, from beginning to end."""
        self.publisher.publish(payload=payload, qos=qos)
        if qos == 2:
            self.publisher.send(Pubrel(9))

    def payloads(self, said: list[Packet]) -> list[bytes]:
        """Of the messages among them."""
        return [one.payload for one in only(Publish, said)]


class IdentifierTests(DeliveryTestCase):
    """2.2.1: packet identifiers."""

    def test_zero(self) -> None:
        """No packet that has an identifier has this one: of 5.0 [MQTT-2.2.1-3], of 3.1.1 [MQTT-2.3.1-1]."""
        topic = len(TOPIC).to_bytes(2, "big") + TOPIC.encode()
        for version in VERSIONS:
            section = b"\0" if version == 5 else b""
            for first, body in (
                (0x82, b"\0\0" + section + topic + b"\0"),
                (0xA2, b"\0\0" + section + topic),
                (0x32, topic + b"\0\0" + section),
                (0x34, topic + b"\0\0" + section),
            ):
                client = self.connect("alice", version)
                self.assert_refused(client, client.send(framed(first, body)), 0x82)

    def test_free(self) -> None:
        """What is sent has an identifier that is in no use: of 5.0 [MQTT-2.2.1-4] [MQTT-4.3.2-1]
        [MQTT-4.3.3-1], of 3.1.1 [MQTT-2.3.1-4]."""
        for version in VERSIONS:
            client = self.listener(version)
            used: set[int] = set()
            for turn in range(30):
                self.tell(b"x", 1 + turn % 2)
                (message,) = client.messages()
                self.assertNotIn(message.packet_id, used | {0})
                used.add(message.packet_id)
                if turn % 3 == 0:
                    client.send(*self.acknowledged(message))
                    used.discard(message.packet_id)

    def acknowledged(self, message: Publish) -> list[Packet]:
        """What a client says to a message, all at once."""
        packet_id = message.packet_id
        return [Puback(packet_id)] if message.qos == 1 else [Pubrec(packet_id), Pubcomp(packet_id)]

    def test_none_at_qos_0(self) -> None:
        """Neither received nor sent: of 5.0 [MQTT-2.2.1-2], of 3.1.1 [MQTT-2.3.1-5]."""
        topic = len(TOPIC).to_bytes(2, "big") + TOPIC.encode()
        for version in VERSIONS:
            section = b"\0" if version == 5 else b""
            data = framed(0x30, topic + section + b"\0\1")
            client = self.listener(version)
            client.wire.protocol.dataReceived(data)
            self.house.end_turn()
            self.assertEqual(data, client.wire.take())

    def test_acknowledgements_repeat_it(self) -> None:
        """In both directions: of 5.0 [MQTT-2.2.1-5], of 3.1.1 [MQTT-2.3.1-6]."""
        for version in VERSIONS:
            client = self.listener(version)
            for packet_id in (1, 777, 65_535):
                said = [Publish(f"{TOPIC}/x", b"", qos, packet_id=packet_id) for qos in (1, 2)]
                first, second, third = client.send(*said, Pubrel(packet_id))
                self.assertEqual([Puback, Pubrec, Pubcomp], [type(one) for one in (first, second, third)])
                ids = {one.packet_id for one in only(Acknowledgement, [first, second, third])}
                self.assertEqual({packet_id}, ids)
            self.tell(b"x", 2)
            (message,) = client.messages()
            self.assertEqual([Pubrel(message.packet_id)], client.send(Pubrec(message.packet_id)))

    def test_answers_repeat_it(self) -> None:
        """SUBACK and UNSUBACK: of 5.0 [MQTT-2.2.1-6], of 3.1.1 [MQTT-2.3.1-7]."""
        for version in VERSIONS:
            client = self.connect("alice", version)
            for packet_id in (1, 777, 65_535):
                answers = client.send(
                    Subscribe(packet_id, [Subscription(TOPIC)]), Unsubscribe(packet_id, [TOPIC])
                )
                self.assertEqual([packet_id], [one.packet_id for one in only(Suback, answers)])
                self.assertEqual([packet_id], [one.packet_id for one in only(Unsuback, answers)])


class QoS0Tests(DeliveryTestCase):
    """4.3.1."""

    def test_sent(self) -> None:
        """QoS 0, DUP 0, once [MQTT-4.3.1-1]."""
        for version in VERSIONS:
            client = self.listener(version)
            self.tell(b"x", 0)
            self.assertEqual([(0, False)], [(one.qos, one.dup) for one in client.messages()])
            self.assertEqual([], self.again(client))


class QoS1Tests(DeliveryTestCase):
    """4.3.2."""

    def test_first_time(self) -> None:
        """With its identifier, QoS 1 and DUP 0: of 5.0 [MQTT-4.3.2-2]."""
        client = self.listener(5)
        self.tell(b"x", 1)
        (message,) = client.messages()
        self.assertEqual((1, False), (message.qos, message.dup))
        self.assertGreater(message.packet_id, 0)

    def test_until_puback(self) -> None:
        """It is unacknowledged until then and sent again, and after it not: of 5.0 [MQTT-4.3.2-3], of 3.1.1
        [MQTT-4.3.2-1]."""
        for version in VERSIONS:
            client = self.listener(version)
            self.tell(b"x", 1)
            (message,) = client.messages()
            self.assertEqual((1, False), (message.qos, message.dup))
            for _ in range(3):
                (repeated,) = only(Publish, self.again(client))
                self.assertEqual((message.packet_id, True), (repeated.packet_id, repeated.dup))
                client = self.client
            client.send(Puback(message.packet_id))
            self.assertEqual([], self.again(client))

    def test_received(self) -> None:
        """It is taken, then acknowledged [MQTT-4.3.2-4]."""
        client = self.listener(5)
        self.assertEqual([0], [one.reason_code for one in only(Puback, self.publisher.publish(qos=1))])
        self.assertEqual([b"x"], self.payloads(client.heard()))

    def test_received_again(self) -> None:
        """After its PUBACK the same identifier is a new message, whatever DUP says: of 5.0 [MQTT-4.3.2-5],
        of 3.1.1 [MQTT-4.3.2-2]."""
        for version in VERSIONS:
            client = self.listener(5)
            publisher = self.connect("bob", version)
            for dup in (False, True, True):
                answer = publisher.publish(payload=b"x", qos=1, packet_id=5, dup=dup)
                self.assertEqual([5], [one.packet_id for one in only(Puback, answer)])
            self.assertEqual([b"x"] * 3, self.payloads(client.heard()))
            publisher.lose()


class QoS2SenderTests(DeliveryTestCase):
    """4.3.3, a message on its way to a client."""

    def test_first_time(self) -> None:
        """With its identifier, QoS 2 and DUP 0: of 5.0 [MQTT-4.3.3-2]."""
        client = self.listener(5)
        self.tell(b"x", 2)
        (message,) = client.messages()
        self.assertEqual((2, False), (message.qos, message.dup))
        self.assertGreater(message.packet_id, 0)

    def test_until_pubrec(self) -> None:
        """Until then it is sent again [MQTT-4.3.3-3]."""
        client = self.listener(5)
        self.tell(b"x", 2)
        (message,) = client.messages()
        (repeated,) = only(Publish, self.again(client))
        self.assertEqual((message.packet_id, True), (repeated.packet_id, repeated.dup))

    def test_pubrel(self) -> None:
        """A PUBREC below 0x80 is answered with PUBREL [MQTT-4.3.3-4]."""
        for code in (0, 0x10):
            client = self.listener(5)
            self.tell(b"x", 2)
            (message,) = client.messages()
            self.assertEqual([Pubrel(message.packet_id)], client.send(Pubrec(message.packet_id, code)))

    def test_until_pubcomp(self) -> None:
        """Until then PUBREL is sent again, after it not [MQTT-4.3.3-5]."""
        client, packet_id = self.released(5)
        for _ in range(2):
            self.assertEqual([Pubrel(packet_id)], self.again(client))
            client = self.client
        client.send(Pubcomp(packet_id))
        self.assertEqual([], self.again(client))

    def test_no_publish_after_pubrel(self) -> None:
        """Never again [MQTT-4.3.3-6]."""
        client, packet_id = self.released(5)
        self.assertEqual([], only(Publish, client.send(Pubrec(packet_id))))
        self.assertEqual([], only(Publish, self.again(client)))

    def released(self, version: int) -> tuple[Client, int]:
        """A client that was sent a message and its PUBREL, and the packet identifier."""
        client = self.listener(version)
        self.tell(b"x", 2)
        (message,) = client.messages()
        client.send(Pubrec(message.packet_id))
        return client, message.packet_id

    def test_no_expiry_after_publish(self) -> None:
        """What was sent is sent again, and released, however late [MQTT-4.3.3-7]."""
        client = self.listener(5)
        expiring = {properties.MESSAGE_EXPIRY_INTERVAL: 10}
        self.publisher.send(Publish(TOPIC, b"x", 2, packet_id=9, properties=dict(expiring)), Pubrel(9))
        (message,) = client.messages()
        self.house.clock.advance(20.0)
        client.lose()
        self.house.clock.advance(20.0)
        again = self.resume("alice", 5, "k")
        (repeated,) = only(Publish, again.answer)
        self.assertEqual((message.packet_id, True), (repeated.packet_id, repeated.dup))
        self.assertEqual([Pubrel(message.packet_id)], again.send(Pubrec(message.packet_id)))

    def test_all_of_it_in_3_1_1(self) -> None:
        """PUBLISH until PUBREC, PUBREL until PUBCOMP, no PUBLISH after it: of 3.1.1 [MQTT-4.3.3-1]."""
        client = self.listener(4)
        self.tell(b"x", 2)
        (message,) = client.messages()
        self.assertEqual((2, False), (message.qos, message.dup))
        (repeated,) = only(Publish, self.again(client))
        self.assertEqual((message.packet_id, True), (repeated.packet_id, repeated.dup))
        client = self.client
        self.assertEqual([Pubrel(message.packet_id)], client.send(Pubrec(message.packet_id)))
        self.assertEqual([Pubrel(message.packet_id)], self.again(client))
        client = self.client
        client.send(Pubcomp(message.packet_id))
        self.assertEqual([], self.again(client))


class QoS2ReceiverTests(DeliveryTestCase):
    """4.3.3, a message that a client publishes."""

    def setUp(self) -> None:
        super().setUp()
        self.heard = self.listener(5)

    def test_received(self) -> None:
        """It is taken, then PUBREC [MQTT-4.3.3-8]."""
        self.assertEqual([9], [one.packet_id for one in only(Pubrec, self.publisher.publish(qos=2))])
        self.publisher.send(Pubrel(9))
        self.assertEqual([b"x"], self.payloads(self.heard.heard()))

    def test_refused(self) -> None:
        """After a PUBREC of 0x80 and above the identifier is free for a new message [MQTT-4.3.3-9]."""
        for packet_id in range(9, 19):  # nor do they count as unacknowledged
            (answer,) = only(
                Pubrec, self.publisher.publish("channels/e/messages", qos=2, packet_id=packet_id)
            )
            self.assertGreaterEqual(answer.reason_code, 0x80)
        (answer,) = only(Pubrec, self.publisher.publish(payload=b"new", qos=2))
        self.assertLess(answer.reason_code, 0x80)
        self.publisher.send(Pubrel(9))
        self.assertEqual([b"new"], self.payloads(self.heard.heard()))

    def test_repeated(self) -> None:
        """Before PUBREL it is acknowledged again and delivered once, over connections too
        [MQTT-4.3.3-10]."""
        publisher = self.connect("bob", 5, "p", 100)
        for dup in (False, True, True):
            self.assertEqual(1, len(only(Pubrec, publisher.publish(qos=2, dup=dup))))
        publisher.lose()
        publisher = self.resume("bob", 5, "p")
        self.assertEqual(1, len(only(Pubrec, publisher.publish(qos=2, dup=True))))
        publisher.send(Pubrel(9))
        self.assertEqual([b"x"], self.payloads(self.heard.heard()))

    def test_released(self) -> None:
        """PUBREL draws PUBCOMP, once more as well [MQTT-4.3.3-11]."""
        self.publisher.publish(qos=2)
        (first,) = only(Pubcomp, self.publisher.send(Pubrel(9)))
        (second,) = only(Pubcomp, self.publisher.send(Pubrel(9)))
        self.assertEqual([(9, 0), (9, 0x92)], [(one.packet_id, one.reason_code) for one in (first, second)])

    def test_after_pubcomp(self) -> None:
        """The identifier is a new message's [MQTT-4.3.3-12]."""
        for payload in (b"1", b"2"):
            self.publisher.publish(payload=payload, qos=2)
            self.publisher.send(Pubrel(9))
        self.assertEqual([b"1", b"2"], self.payloads(self.heard.heard()))

    def test_expired(self) -> None:
        """A message that expired meanwhile is acknowledged as any other [MQTT-4.3.3-13]."""
        expiring: dict[int, object] = {properties.MESSAGE_EXPIRY_INTERVAL: 1}
        self.assertEqual(1, len(only(Pubrec, self.publisher.publish(qos=2, properties=dict(expiring)))))
        self.house.clock.advance(20.0)
        again = self.publisher.publish(qos=2, dup=True, properties=dict(expiring))
        self.assertEqual(1, len(only(Pubrec, again)))
        self.assertEqual([0], [one.reason_code for one in only(Pubcomp, self.publisher.send(Pubrel(9)))])

    def test_all_of_it_in_3_1_1(self) -> None:
        """PUBREC, no second delivery, PUBCOMP, then the identifier is free: of 3.1.1 [MQTT-4.3.3-2]."""
        publisher = self.connect("bob", 4, "p")
        for payload in (b"1", b"2"):
            for dup in (False, True):
                self.assertEqual([Pubrec(9)], publisher.publish(payload=payload, qos=2, dup=dup))
            self.assertEqual([Pubcomp(9)], publisher.send(Pubrel(9)))
        self.assertEqual([b"1", b"2"], self.payloads(self.heard.heard()))


class ResumptionTests(DeliveryTestCase):
    """4.4 and 4.5: what is sent again, and to whom anything is sent."""

    def begun(self, version: int) -> tuple[Client, list[Packet]]:
        """A client with three deliveries under way, and what it is to hear again."""
        client = self.listener(version)
        for payload, qos in ((b"1", 1), (b"2", 2), (b"3", 2)):
            self.tell(payload, qos)
        one, two, three = client.messages()
        client.send(Pubrec(three.packet_id))
        for message in (one, two):
            message.dup = True
        return client, [one, two, Pubrel(three.packet_id)]

    def test_sent_again(self) -> None:
        """PUBLISH and PUBREL that were not acknowledged, with their identifiers [MQTT-4.4.0-1]."""
        for version in VERSIONS:
            client, expected = self.begun(version)
            self.assertEqual(expected, self.again(client))

    def test_never_otherwise(self) -> None:
        """Nothing is sent again on the same connection, however long [MQTT-4.4.0-1]."""
        for version in VERSIONS:
            client, _ = self.begun(version)
            self.house.clock.advance(10_000.0)
            self.assertEqual([Pingresp()], client.send(Pingreq()))

    def test_refused(self) -> None:
        """PUBACK and PUBREC of 0x80 and above end it [MQTT-4.4.0-2]."""
        for code in (0x80, 0x99):
            client = self.listener(5)
            self.tell(b"1", 1)
            self.tell(b"2", 2)
            one, two = client.messages()
            self.assertEqual([], client.send(Puback(one.packet_id, code), Pubrec(two.packet_id, code)))
            self.assertEqual([], self.again(client))

    def test_everybody(self) -> None:
        """A message that was accepted reaches every session that matches, away or not [MQTT-4.5.0-1]."""
        for version in VERSIONS:
            away = self.listener(version)
            away.lose()
            here = [self.connect("alice", other, f"here-{other}") for other in VERSIONS]
            for client in here:
                client.subscribe(f"{TOPIC}/#")
            self.tell(b"all", 1)
            for client in here:
                self.assertEqual([b"all"], self.payloads(client.heard()))
            back = self.resume("alice", version, "k")
            self.assertEqual([b"all"], self.payloads(back.answer))


class OrderTests(DeliveryTestCase):
    """4.6: what one publisher says on a topic arrives in its order."""

    def test_to_a_subscriber(self) -> None:
        """At each QoS, live, waiting and sent again: of 5.0 [MQTT-4.6.0-5] [MQTT-4.6.0-6], of 3.1.1
        [MQTT-4.6.0-5] [MQTT-4.6.0-6]."""
        for version in VERSIONS:
            for qos in (0, 1, 2):
                client = self.listener(version)
                for number in range(20):
                    self.tell(bytes([number]), qos)
                self.assertEqual([bytes([number]) for number in range(20)], self.payloads(client.heard()))
                if qos:
                    client.lose()
                    for number in range(20, 40):
                        self.tell(bytes([number]), qos)
                    back = self.resume("alice", version, "k")
                    self.assertEqual(
                        [bytes([number]) for number in range(40)], self.payloads(back.answer + back.heard())
                    )

    def test_acknowledged_in_another_order(self) -> None:
        """A client's acknowledgements belong in the order of what they answer; one that keeps another is
        served all the same: [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4]."""
        for version in VERSIONS:
            client = self.listener(version)
            for payload, qos in ((b"1", 1), (b"2", 1), (b"3", 2), (b"4", 2)):
                self.tell(payload, qos)
            one, two, three, four = (message.packet_id for message in client.messages())
            self.assertEqual([], client.send(Puback(two), Puback(one)))
            self.assertEqual([Pubrel(four), Pubrel(three)], client.send(Pubrec(four), Pubrec(three)))
            self.assertEqual([], client.send(Pubcomp(three), Pubcomp(four)))
            self.tell(b"5", 1)
            self.assertEqual([b"5"], self.payloads(client.heard()))
            client.lose()

    def test_in_one_write(self) -> None:
        """However the publisher's packets come, they are answered in their order too."""
        for version in VERSIONS:
            client = self.listener(5)
            publisher = self.connect("bob", version)
            said = [Publish(TOPIC, b"1", 1, packet_id=3), Publish(TOPIC, b"2", 1, packet_id=1)]
            self.assertEqual([3, 1], [one.packet_id for one in only(Puback, publisher.send(*said))])
            self.assertEqual([b"1", b"2"], self.payloads(client.heard()))
            publisher.lose()


class FlowTests(DeliveryTestCase):
    """4.9: the send quota."""

    def quota(self, maximum: int) -> Client:
        """A client with this Receive Maximum, for which five messages come."""
        client = self.listener(5, RECEIVE_MAXIMUM=maximum)
        for number in range(5):
            self.tell(bytes([number]), 1)
        return client

    def test_begins(self) -> None:
        """Above zero and not above the Receive Maximum [MQTT-4.9.0-1]."""
        for maximum in (1, 3, 65_535):
            self.assertEqual(min(5, maximum), len(self.quota(maximum).messages()))

    def test_used_up(self) -> None:
        """Then nothing at QoS 1 or 2 is sent, until something is acknowledged [MQTT-4.9.0-2]."""
        client = self.quota(2)
        first, second = client.messages()
        self.house.clock.advance(1000.0)
        self.assertEqual([], client.heard())
        for message, expected in ((first, b"\2"), (second, b"\3")):
            self.assertEqual([expected], self.payloads(client.send(Puback(message.packet_id))))

    def test_a_client_that_acknowledges_nothing(self) -> None:
        """Though it must, in each version: it gets what the quota allows and no more [MQTT-4.5.0-2]."""
        self.house.mqtt.limits.send_quota = 3
        for version in VERSIONS:
            client = self.listener(version)
            for qos in (1, 2, 1, 2, 1, 2):
                self.tell(b"x", qos)
            self.assertEqual(3, len(client.messages()))
            self.assertEqual([Pingresp()], client.send(Pingreq()))
            client.lose()

    def test_other_packets(self) -> None:
        """They are answered, and QoS 0 is sent [MQTT-4.9.0-3]."""
        client = self.quota(1)
        client.heard()
        self.assertEqual([Pingresp()], client.send(Pingreq()))
        answer = client.send(Publish(f"{TOPIC}/x", b"", 1, packet_id=1))
        self.assertEqual([1], [one.packet_id for one in only(Puback, answer)])
        self.assertEqual([Suback(1, [0])], client.send(Subscribe(1, [Subscription(f"{TOPIC}/y")])))
