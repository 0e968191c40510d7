"""What an accepted MQTT client does, in memory: publish, subscribe and be delivered to."""

from zope.interface import implementer
from zope.interface.verify import verifyObject

from mfserver import message
from mfserver.interfaces import ISubscriber
from mfserver.message import Message
from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Pingreq,
    Pingresp,
    Publish,
    Unsuback,
    Unsubscribe,
    Will,
)
from mfserver.routing.tree import Options
from mfserver.topic import parse_filter
from tests.adapters.fakes import House, Wire
from tests.adapters.mqtt_case import MQTTTestCase, disconnects_in, packets, pubacks, publishes

TOPIC = "channels/c/messages"
#: Every property that travels with a message.
TRAVELLING: dict[int, object] = {
    properties.PAYLOAD_FORMAT_INDICATOR: 1,
    properties.MESSAGE_EXPIRY_INTERVAL: 60,
    properties.CONTENT_TYPE: "text/plain",
    properties.RESPONSE_TOPIC: "channels/c/messages/answers",
    properties.CORRELATION_DATA: b"\0\1",
    properties.USER_PROPERTY: [("a", "1"), ("a", "2")],
}


@implementer(ISubscriber)
class Recorded:
    """A subscriber of everything on channel c, which is no MQTT client."""

    def __init__(self, house: House) -> None:
        self.thing = house.gate.things["key-of-bob"]
        self.messages: list[Message] = []
        house.router.subscribe(parse_filter(f"{TOPIC}/#"), self, Options(qos=1), exact=False)

    def deliver(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
        self.messages.append(message)

    def is_ready(self) -> bool:
        return True


class PublishTests(MQTTTestCase):
    """Who listens on a channel hears what is published there, and nobody else may publish."""

    def test_between_versions(self) -> None:
        """QoS 1 is acknowledged to the publisher and arrives at QoS 1, whatever the versions."""
        for publisher in (3, 4, 5):
            for subscriber in (3, 4, 5):
                alice, bob = self.connect("alice", publisher), self.connect("bob", subscriber)
                self.assertEqual([1], self.subscribe(bob, f"{TOPIC}/#", version=subscriber))
                answer = self.publish(alice, f"{TOPIC}/a", b"hello", qos=1, version=publisher)
                self.assertEqual([(9, 0)], pubacks(answer))
                self.assertEqual([(f"{TOPIC}/a", b"hello", 1)], self.delivered(bob, subscriber))
                alice.lose()
                bob.lose()

    def test_lower_qos(self) -> None:
        """A message comes with the lower of its own and the subscription's QoS; QoS 0 is not answered."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, f"{TOPIC}/zero", qos=0)
        self.subscribe(bob, f"{TOPIC}/one", qos=1)
        self.publish(alice, f"{TOPIC}/zero", qos=1)
        self.assertEqual([], self.publish(alice, f"{TOPIC}/one", qos=0))
        self.assertEqual([0, 0], [qos for _, _, qos in self.delivered(bob)])

    def test_exact_levels(self) -> None:
        """Between MQTT clients a topic keeps its dots and empty levels, and a leading slash is none."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, f"{TOPIC}/#")
        for topic in (f"{TOPIC}/a.b//c", f"/{TOPIC}/x"):
            self.publish(alice, topic)
        self.assertEqual([f"{TOPIC}/a.b//c", f"{TOPIC}/x"], [topic for topic, _, _ in self.delivered(bob)])

    def test_refused(self) -> None:
        """A foreign channel and what is no channel's topic: PUBACK 0x87 at QoS 1, else closed."""
        for topic in ("channels/e/messages", "elsewhere", f"{TOPIC}es", "$SYS/x"):
            for version, qos, expected in ((5, 1, None), (5, 0, [0x87]), (4, 1, []), (4, 0, []), (3, 1, [])):
                with self.subTest(topic=topic, version=version, qos=qos):
                    wire = self.connect("alice", version)
                    answer = self.publish(wire, topic, qos=qos, version=version)
                    if expected is None:
                        self.assertEqual([(9, 0x87)], pubacks(answer))
                        self.assertFalse(wire.disconnecting)
                    else:
                        self.assertEqual(expected, disconnects_in(answer))
                        self.assertEqual(len(expected), len(answer))
                        self.assertTrue(wire.disconnecting)

    def test_nothing_after_a_refusal(self) -> None:
        """What came behind the PUBLISH that ended the connection never happens."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, f"{TOPIC}/#")
        data = encode(Publish("channels/e/messages", b"x"), 5) + encode(Publish(TOPIC, b"y"), 5)
        self.assertEqual([0x87], disconnects_in(packets(alice.receive(data))))
        self.house.end_turn()
        self.assertEqual([], self.delivered(bob))

    def test_right_lost(self) -> None:
        """The right is asked for at each PUBLISH."""
        alice = self.connect("alice")
        self.assertEqual([(9, 0)], pubacks(self.publish(alice, TOPIC, qos=1)))
        self.alice.channels.remove("c")
        self.assertEqual([(9, 0x87)], pubacks(self.publish(alice, TOPIC, qos=1)))

    def test_message(self) -> None:
        """What the router is handed says who, where, when and how."""
        heard = Recorded(self.house)
        alice = self.connect("alice")
        self.publish(alice, f"/{TOPIC}/a//b", b"\0\xff", qos=1)
        (one,) = heard.messages
        self.assertEqual(("c", ("a", "", "b"), "a.b"), (one.channel, one.levels, one.subtopic))
        self.assertEqual(("alice", message.MQTT, b"\0\xff"), (one.publisher, one.protocol, one.payload))
        self.assertEqual((1_600_000_000_000_000_000, 1, ""), (one.created, one.qos, one.content_type))
        self.assertTrue(verifyObject(ISubscriber, one.origin))

    def test_ping(self) -> None:
        wire = self.connect("alice")
        self.assertEqual([Pingresp()], packets(wire.receive(encode(Pingreq(), 5))))


class ContentTests(MQTTTestCase):
    """Properties and content types travel where there is a place for them."""

    def setUp(self) -> None:
        super().setUp()
        self.five, self.four = self.connect("bob"), self.connect("bob", 4, "bob-4")
        self.publisher = self.connect("alice")
        for wire, version in ((self.five, 5), (self.four, 4)):
            self.subscribe(wire, f"{TOPIC}/#", version=version)

    def content_types(self) -> list[object]:
        """The content types that 5.0 heard."""
        found = packets(self.five.take())
        return [
            (one.properties or {}).get(properties.CONTENT_TYPE) for one in found if isinstance(one, Publish)
        ]

    def test_all(self) -> None:
        """5.0 hears what 5.0 said; to 3.1.1 it is the same topic and payload, and nothing else."""
        for qos in (0, 1):
            self.publish(self.publisher, TOPIC, b"x", qos=qos, properties=TRAVELLING)
            (five,) = packets(self.five.take())
            assert isinstance(five, Publish)
            self.assertEqual(TRAVELLING, five.properties)
            bare = Publish(TOPIC, b"x", qos=qos, packet_id=1 if qos else 0)
            self.assertEqual(encode(bare, 4), self.four.take())

    def test_from_elsewhere(self) -> None:
        """A content type that HTTP or a WebSocket named is 5.0's property."""
        for content_type, kept in (("application/senml+json", "application/senml+json"), ("", None)):
            self.house.router.publish(Message("c", (), "", "alice", message.HTTP, b"x", content_type, 0))
            self.house.end_turn()
            self.assertEqual([kept], self.content_types())

    def test_old_topics(self) -> None:
        """Mainflux's ending /ct/ names one; 5.0's property wins over it."""
        self.publish(self.publisher, f"{TOPIC}/a/ct/application_senml-json")
        self.publish(self.publisher, f"{TOPIC}/ct/text_x", properties={properties.CONTENT_TYPE: "text/y"})
        self.publish(
            self.publisher, f"{TOPIC}/ct/text_x", properties={properties.USER_PROPERTY: [("a", "b")]}
        )
        self.assertEqual([f"{TOPIC}/a", TOPIC, TOPIC], [topic for topic, *_ in self.delivered(self.four, 4)])
        self.assertEqual(["application/senml+json", "text/y", "text/x"], self.content_types())

    def test_will(self) -> None:
        """The will's properties travel likewise, but for its delay."""
        will = Will(TOPIC, b"w", properties={**TRAVELLING, properties.WILL_DELAY_INTERVAL: 5})
        self.connect("alice", client_id="second", will=will).lose()
        self.house.end_turn()
        (five,) = packets(self.five.take())
        assert isinstance(five, Publish)
        self.assertEqual(TRAVELLING, five.properties)

    def test_encoded_once(self) -> None:
        """A packet is encoded once for each (version 5 or not, QoS), however many subscribers there are."""
        wires: list[tuple[Wire, int]] = []
        for index in range(3):
            for version in (3, 4, 5):
                wire = self.connect("bob", version, f"bob-{index}-{version}")
                self.subscribe(wire, f"{TOPIC}/#", version=version, qos=index % 2)
                wires.append((wire, version))
        recorded = Recorded(self.house)
        self.publish(self.publisher, TOPIC, b"x" * 500, qos=1)
        (sent,) = recorded.messages
        encoded = dict(sent.encoded or {})
        self.house.router.deliver(sent)
        self.house.end_turn()
        self.assertEqual([2] * 9, [len(packets(wire.take(), version)) for wire, version in wires])
        self.assertEqual(4, len(encoded))
        self.assertEqual([True] * 4, [encoded[key] is again for key, again in (sent.encoded or {}).items()])


class SubscribeTests(MQTTTestCase):
    """Each subscription of a SUBSCRIBE is answered for itself."""

    def test_reason_codes(self) -> None:
        """The whole list in its order; 3.1.1 knows one failure, 3.1 none."""
        filters = (TOPIC, "elsewhere", "channels/+/messages", "channels/e/messages", f"{TOPIC}/+/#")
        for version, codes in (
            (5, [1, 0x8F, 0x8F, 0x87, 1]),
            (4, [1, 0x80, 0x80, 0x80, 1]),
            (3, [1, 0, 0, 0, 1]),
        ):
            wire = self.connect("alice", version)
            self.assertEqual(codes, self.subscribe(wire, *filters, version=version))

    def test_granted(self) -> None:
        """Every QoS, as it was asked for."""
        for qos in (0, 1, 2):
            self.assertEqual([qos], self.subscribe(self.connect("alice"), TOPIC, qos=qos))

    def test_too_many(self) -> None:
        """Past its bound a subscriber hears 0x97, and keeps what it has."""
        alice, bob = self.connect("alice"), self.connect("bob")
        filters = [f"{TOPIC}/{index}" for index in range(6)]
        self.assertEqual([1, 1, 1, 1, 1, 0x97], self.subscribe(bob, *filters))
        self.publish(alice, f"{TOPIC}/4")
        self.publish(alice, f"{TOPIC}/5")
        self.assertEqual([f"{TOPIC}/4"], [topic for topic, *_ in self.delivered(bob)])

    def test_wildcards(self) -> None:
        """``+`` is one level, ``#`` the rest and the level above it."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, f"{TOPIC}/+/x")
        self.subscribe(bob, f"{TOPIC}/b/#")
        for topic in ("a/x", "a/a/x", "b", "b/c/d", "x", ""):
            self.publish(alice, f"{TOPIC}/{topic}".rstrip("/"))
        self.assertEqual(
            [f"{TOPIC}/a/x", f"{TOPIC}/b", f"{TOPIC}/b/c/d"], [topic for topic, *_ in self.delivered(bob)]
        )

    def test_no_local(self) -> None:
        """5.0's No Local keeps back what the client published itself, and that alone."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(alice, TOPIC, no_local=True)
        self.assertEqual([], publishes(self.publish(alice, TOPIC)))
        self.publish(bob, TOPIC)
        self.assertEqual(1, len(self.delivered(alice)))

    def test_own(self) -> None:
        """Without it a client hears itself."""
        alice = self.connect("alice")
        self.subscribe(alice, TOPIC)
        self.assertEqual([Publish(TOPIC, b"me")], self.publish(alice, TOPIC, b"me"))

    def test_once(self) -> None:
        """Overlapping subscriptions bring a message once, at the highest QoS."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, f"{TOPIC}/#", qos=0)
        self.subscribe(bob, f"{TOPIC}/a", qos=1)
        self.publish(alice, f"{TOPIC}/a", qos=1)
        self.assertEqual([(f"{TOPIC}/a", b"x", 1)], self.delivered(bob))

    def test_unsubscribe(self) -> None:
        """0 for a subscription that was there, 0x11 for others; 3.x hears no codes."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, TOPIC, f"{TOPIC}/a")
        unsubscribe = Unsubscribe(8, [TOPIC, TOPIC, f"{TOPIC}/b", "elsewhere", "channels/+/messages"])
        (answer,) = packets(bob.receive(encode(unsubscribe, 5)))
        self.assertEqual(Unsuback(8, [0, 0x11, 0x11, 0x11, 0x11]), answer)
        self.publish(alice, TOPIC)
        self.publish(alice, f"{TOPIC}/a")
        self.assertEqual([f"{TOPIC}/a"], [topic for topic, *_ in self.delivered(bob)])
        old = self.connect("bob", 4)
        self.assertEqual([Unsuback(8, [])], packets(old.receive(encode(unsubscribe, 4)), 4))

    def test_forgotten(self) -> None:
        """A connection that is lost leaves no subscription."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, TOPIC)
        bob.lose()
        self.publish(alice, TOPIC)
        self.assertEqual(b"", bob.take())
