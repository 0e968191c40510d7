"""What a hostile client can make one session hold, or the server do in one turn."""

from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from mfserver.durable import NEVER
from mfserver.message import Message
from mfserver.mqtt.properties import USER_PROPERTY
from mfserver.routing.feeding import Feeding
from mfserver.routing.sessions import Bounds
from mfserver.store.bodies import encode_message
from mfserver.topic import parse_filter
from tests.routing.cases import mqtt
from tests.routing.house import House, Phone

KIB = 1024


class LongPropertiesTests(SynchronousTestCase):
    """The payload is not all that a message takes."""

    def setUp(self) -> None:
        self.house = House(Bounds(messages=1000, size=100 * KIB, memory=50 * KIB))

    def publish(self, qos: int) -> None:
        """Twenty messages of no payload, with ten thousand bytes of a user property each."""
        said: dict[int, object] = {USER_PROPERTY: [("name", "v" * 10_000)]}
        for _ in range(20):
            self.house.router.publish(mqtt("channels/c/messages/t", qos, None, b"", properties=said))

    def test_on_the_disk(self) -> None:
        """The bound on the bytes of a queue holds for properties as well."""
        phone, _ = self.house.open(expiry=NEVER, subscribe="#")
        self.house.close(phone)
        self.publish(1)
        self.assertEqual(9, phone.session.count)
        self.assertEqual(11, self.house.shared.dropped)

    def test_in_memory(self) -> None:
        """So does the bound on what waits in memory."""
        phone: Phone = self.house.open(expiry=0, subscribe="#")[0]
        phone.is_writable = False
        self.publish(0)
        self.assertEqual(4, len(phone.session.state.waiting))


class RetainedSizeTests(SynchronousTestCase):
    """The bound on retained messages is the same whatever was written of them meanwhile."""

    def test_size_returns_to_nothing(self) -> None:
        """Writing a topic to the disk makes its texts larger, which Python tells of; we do not."""
        house = House()
        for level in ("\u00fc" * 1000, "\U0001f600" * 1000):
            topic = f"channels/\u00fc/messages/{level}"
            house.router.publish(mqtt(topic, 1, None, b"x", retain=True))
            node = house.retained._channels["\u00fc"]
            encode_message(mqtt(topic))
            for each in (node, *node.children.values()):
                if each.message is not None:
                    encode_message(each.message)
            house.router.publish(mqtt(topic, 1, None, b"", retain=True))
            self.assertEqual((0, 0), (len(house.retained), house.retained.size))


class FeedingTests(SynchronousTestCase):
    """Very many retained messages are found a few at a time, and nothing is lost or held meanwhile."""

    def setUp(self) -> None:
        self.house = House()
        self.publish(*range(900))
        self.house.settle()

    def publish(self, *numbers: int, payload: bytes = b"old", qos: int = 1, retain: bool = True) -> None:
        for number in numbers:
            message = mqtt(f"channels/c/messages/r/{number}", qos, None, payload, retain=retain)
            self.house.router.publish(message)

    def feed(self, phone: Phone, qos: int) -> None:
        phone.session.feed(self.house.retained.find(parse_filter("channels/c/messages/#")), qos, ())

    def test_replaced_before_its_turn(self) -> None:
        """What is replaced while it waits comes once, as the new one; what is not, before what follows."""
        phone, _ = self.house.open(expiry=0, subscribe="#")
        phone.is_writable = False
        self.feed(phone, 0)
        self.house.clock.advance(0)
        phone.is_writable = True
        self.publish(700, payload=b"new", qos=0)
        self.publish(800, payload=b"later", qos=0, retain=False)
        self.assertEqual([b"new", b"old", b"later"], phone.payloads())
        phone.session.pump()
        self.house.clock.advance(0)
        self.assertEqual([b"old"] * 898, phone.payloads()[3:])

    def test_cleared_before_its_turn(self) -> None:
        """What is cleared, or goes with its channel, does not come."""
        phone, _ = self.house.open(expiry=0)
        phone.is_writable = False
        self.feed(phone, 0)
        self.publish(*range(300), payload=b"")
        phone.is_writable = True
        phone.session.pump()
        self.assertLessEqual(len(phone.sent), 250)
        self.house.retained.channels_gone(["c"])
        self.house.clock.advance(0)
        self.assertLessEqual(len(phone.sent), 250)

    def test_a_kept_session_needs_no_client(self) -> None:
        """What is at QoS 1 goes to the disk though the client goes in the middle of it, and comes later."""
        phone, _ = self.house.open(expiry=NEVER)
        self.feed(phone, 1)
        self.feed(phone, 0)
        self.house.close(phone)
        self.house.clock.advance(0)
        self.house.settle()
        self.assertEqual(900, phone.session.count)
        self.assertIsNone(phone.session._feeding)

    def test_the_client_goes_in_the_middle(self) -> None:
        """Whichever message it goes at, nothing is brought, or said to be brought, from then on."""
        for last in range(1, 260):
            self.assertEqual((last, []), self.brought_until(last))

    def brought_until(self, last: int) -> tuple[int, list[None]]:
        """How many are brought to a client that goes at this one, and whether that was called all."""
        given: list[Message] = []
        over: list[None] = []

        def give(message: Message, qos: int, identifiers: tuple[int, ...]) -> None:
            given.append(message)
            if len(given) == last:
                self.assertFalse(feeding.detach(False))

        feeding = Feeding(self.house.sessions.shared, lambda _: True, give, partial(over.append, None))
        found = partial(self.house.retained.find, parse_filter("channels/c/messages/#"))
        self.assertTrue(feeding.add(found(), 0, ()))
        self.house.clock.pump([0.0] * 3)
        self.assertFalse(feeding.add(found(), 0, ()))
        return len(given), over

    def test_the_disk_is_behind(self) -> None:
        """Nothing more is found for the disk while too much waits for it."""
        phone, _ = self.house.open(expiry=NEVER)
        self.house.journal._count = 1_000_000
        self.house.journal.channel_gone("d")
        self.feed(phone, 1)
        self.house.clock.advance(0)
        self.assertEqual(0, phone.session.count)
        self.house.settle()
        self.house.clock.pump([0.05] * 5)
        self.assertEqual(900, phone.session.count)

    def test_the_right_is_lost(self) -> None:
        """What the thing may not have any more when it is its turn does not come."""
        phone, _ = self.house.open(expiry=0)
        self.feed(phone, 0)
        phone.session.thing.channels.clear()  # type: ignore[attr-defined]
        self.house.clock.advance(0)
        self.assertEqual([], phone.sent)
