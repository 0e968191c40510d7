"""Who gets a message, and who not any more."""

from collections.abc import Set as AbstractSet

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mfserver import message
from mfserver.errors import Overloaded
from mfserver.interfaces import IBus, ISubscriber, IThing
from mfserver.message import Message
from mfserver.records import ChannelId, ThingId
from mfserver.routing.bus import LocalBus
from mfserver.routing.router import Options, Router
from mfserver.topic import parse, parse_filter, parse_path, parse_path_filter


@implementer(IThing)
class Thing:
    def __init__(self, *channels: str) -> None:
        self.id = ThingId("t")
        self.channels: AbstractSet[ChannelId] = {ChannelId(channel) for channel in channels}


@implementer(ISubscriber)
class Subscriber:
    """Keeps what it is given, and may fail at it."""

    def __init__(self, trouble: Exception | None = None) -> None:
        self.thing: IThing = Thing("c")
        self.trouble = trouble
        self.ready = True
        self.got: list[tuple[Message, int]] = []
        self.flags: list[tuple[bool, tuple[int, ...]]] = []

    def deliver(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.got.append((message, qos))
        self.flags.append((retain, identifiers))

    def is_ready(self) -> bool:
        return self.ready


def mqtt(topic: str, qos: int = 1, origin: object = None) -> Message:
    """A message as an MQTT client publishes it."""
    parsed = parse(topic)
    return Message(
        parsed.channel, parsed.levels, parsed.subtopic, "p", message.MQTT, b"", "", 0, qos, origin=origin
    )


def http(subtopic: str) -> Message:
    """A message as an HTTP client publishes it."""
    parsed = parse_path("c", subtopic)
    return Message(parsed.channel, parsed.levels, parsed.subtopic, "p", message.HTTP, b"", "", 0)


class RouterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.router = Router(max_subscriptions=3)
        self.one, self.two = Subscriber(), Subscriber()

    def subscribe_mqtt(self, topic_filter: str, subscriber: Subscriber, options: Options) -> bool:
        return self.router.subscribe(parse_filter(topic_filter), subscriber, options, exact=True)

    def subscribe_ws(self, subtopic: str, subscriber: Subscriber) -> bool:
        return self.router.subscribe(parse_path_filter("c", subtopic), subscriber, Options(1), exact=False)

    def test_interfaces(self) -> None:
        self.assertTrue(verifyObject(IBus, self.router.bus))
        self.assertTrue(verifyObject(ISubscriber, self.one))

    def test_a_message_comes_once_with_the_lower_qos(self) -> None:
        self.subscribe_mqtt("channels/c/messages/#", self.one, Options(1))
        self.subscribe_mqtt("channels/c/messages/a", self.one, Options(0))
        self.subscribe_mqtt("channels/c/messages/+", self.two, Options(2))
        for qos, expected in ((0, (0, 0)), (1, (1, 1)), (2, (1, 2))):
            published = mqtt("channels/c/messages/a", qos)
            self.assertIsNone(self.router.publish(published))
            self.assertEqual(self.one.got.pop(), (published, expected[0]))
            self.assertEqual(self.two.got.pop(), (published, expected[1]))
        self.assertEqual((self.one.got, self.two.got), ([], []))

    def test_mqtt_matches_exact_levels_and_the_rest_the_normal_form(self) -> None:
        for published, exact, normal in (
            (mqtt("channels/c/messages/a/b"), True, True),
            (mqtt("/channels/c/messages/a/b"), True, True),
            (mqtt("channels/c/messages/a.b"), False, True),
            (mqtt("channels/c/messages/a//b"), False, True),
            (mqtt("channels/c/messages/a/b/"), False, True),
            (http("a/b"), True, True),
            (http("a.b"), True, True),
            (http("a"), False, False),
            (mqtt("channels/c/messages"), False, False),
            (mqtt("channels/d/messages/a/b"), False, False),
        ):
            with self.subTest(topic=published.topic):
                self.setUp()
                self.subscribe_mqtt("channels/c/messages/a/b", self.one, Options(1))
                self.subscribe_ws("a/b", self.two)
                self.router.deliver(published)
                self.assertEqual((bool(self.one.got), bool(self.two.got)), (exact, normal))

    def test_a_channel_without_subtopic(self) -> None:
        self.subscribe_ws("", self.one)
        self.router.deliver(http(""))
        self.router.deliver(mqtt("channels/c/messages//"))
        self.assertEqual(len(self.one.got), 2)
        self.router.deliver(http("a"))
        self.assertEqual(len(self.one.got), 2)

    def test_in_both_forms_it_still_comes_once(self) -> None:
        self.subscribe_mqtt("channels/c/messages/#", self.one, Options(0))
        self.subscribe_ws("a", self.one)
        self.subscribe_mqtt("channels/c/messages/#", self.two, Options(2))
        self.subscribe_ws("a", self.two)
        published = mqtt("channels/c/messages/a", 2)
        self.router.deliver(published)
        self.assertEqual((self.one.got, self.two.got), ([(published, 1)], [(published, 2)]))

    def test_who_lost_the_channel_gets_nothing_more(self) -> None:
        """Asked at every delivery, of the thing as it is now."""
        self.subscribe_mqtt("channels/c/messages/#", self.one, Options(1))
        self.subscribe_ws(">", self.one)
        for channels, expected in (((), 0), (("d",), 0), (("c",), 1), ((), 1)):
            self.one.thing = Thing(*channels)
            self.router.deliver(http("a"))
            self.assertEqual(len(self.one.got), expected)

    def test_who_fails_does_not_stop_the_others(self) -> None:
        failing = [Subscriber(ZeroDivisionError()), Subscriber(ZeroDivisionError())]
        for subscriber in (failing[0], self.one, failing[1], self.two):
            self.subscribe_mqtt("channels/c/messages/#", subscriber, Options(1))
        self.router.publish(http("a"))
        self.assertEqual((len(self.one.got), len(self.two.got)), (1, 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_no_local(self) -> None:
        """What a session publishes does not come back to it, but from everybody else it comes."""
        self.subscribe_mqtt("channels/c/messages/#", self.one, Options(1, no_local=True))
        self.subscribe_mqtt("channels/c/messages/#", self.two, Options(1))
        for origin, expected in ((self.one, (0, 1)), (self.two, (1, 2)), (None, (2, 3))):
            self.router.deliver(mqtt("channels/c/messages/a", 1, origin))
            self.assertEqual((len(self.one.got), len(self.two.got)), expected)

    def test_the_end_of_subscriptions(self) -> None:
        self.assertTrue(self.subscribe_mqtt("channels/c/messages/a", self.one, Options()))
        self.assertTrue(self.subscribe_ws("a", self.one))
        self.subscribe_ws("a", self.two)
        self.assertFalse(self.router.unsubscribe(parse_filter("channels/c/messages/+"), self.one, exact=True))
        self.assertTrue(self.router.unsubscribe(parse_filter("channels/c/messages/a"), self.one, exact=True))
        self.router.deliver(http("a"))
        self.router.forget(self.one)
        self.router.deliver(http("a"))
        self.assertEqual((len(self.one.got), len(self.two.got)), (1, 2))
        self.assertTrue(self.router.unsubscribe(parse_path_filter("c", "a"), self.two, exact=False))
        self.router.deliver(http("a"))
        self.assertEqual(len(self.two.got), 2)

    def test_subscriptions_are_bounded(self) -> None:
        """Of both forms together; replacing one is always possible."""
        self.subscribe_ws("x", self.one)
        for level in "ab":
            self.subscribe_mqtt(f"channels/c/messages/{level}", self.one, Options())
        with self.assertRaises(Overloaded):
            self.subscribe_mqtt("channels/c/messages/c", self.one, Options())
        with self.assertRaises(Overloaded):
            self.subscribe_ws("c", self.one)
        self.assertFalse(self.subscribe_mqtt("channels/c/messages/b", self.one, Options(2)))
        self.subscribe_mqtt("channels/c/messages/c", self.two, Options())
        self.router.deliver(http("c"))
        self.assertEqual((len(self.one.got), len(self.two.got)), (0, 1))
        self.router.unsubscribe(parse_filter("channels/c/messages/a"), self.one, exact=True)
        self.assertTrue(self.subscribe_mqtt("channels/c/messages/c", self.one, Options()))

    def test_levels_are_bounded(self) -> None:
        """Each may cost a node: three filters may have 24 together, the channels counted, and leave none."""
        long = "channels/c/messages" + "/x" * 10
        self.subscribe_mqtt(long, self.one, Options())
        self.subscribe_ws("y" + "/y" * 10, self.one)
        for _ in range(2):
            with self.assertRaises(Overloaded):
                self.subscribe_mqtt("channels/c/messages/z", self.one, Options())
        self.subscribe_mqtt("channels/c/messages", self.one, Options())
        self.router.unsubscribe(parse_filter(long), self.one, exact=True)
        self.subscribe_mqtt("channels/c/messages" + "/z" * 10, self.one, Options())
        self.router.forget(self.one)
        self.assertEqual(self.router._levels, {})
        self.subscribe_mqtt(long, self.one, Options())
        self.router.unsubscribe(parse_filter(long), self.one, exact=True)
        self.assertEqual(self.router._levels, {})

    def test_long_levels_are_bounded(self) -> None:
        """One level may have 65,535 characters: three filters may not have as many each."""
        self.subscribe_mqtt("channels/c/messages/" + "x" * 2500, self.one, Options())
        for _ in range(2):
            with self.assertRaises(Overloaded):
                self.subscribe_mqtt("channels/c/messages/" + "y" * 65_000, self.one, Options())
        self.router.unsubscribe(parse_filter("channels/c/messages/" + "x" * 2500), self.one, exact=True)
        self.assertEqual(self.router._levels, {})

    def test_another_bus(self) -> None:
        """What it answers is what the publisher waits for."""
        committed: Deferred[None] = Deferred()
        sent: list[Message] = []

        @implementer(IBus)
        class Bus:
            def publish(self, message: Message) -> Deferred[None]:
                sent.append(message)
                return committed

        self.router.bus = Bus()
        self.subscribe_ws("a", self.one)
        published = http("a")
        self.assertIs(self.router.publish(published), committed)
        self.assertEqual((sent, self.one.got), ([published], []))

    def test_the_local_bus_delivers_at_once(self) -> None:
        delivered: list[Message] = []
        published = http("a")
        bus: IBus = LocalBus(delivered.append)
        self.assertIsNone(bus.publish(published))
        self.assertEqual(delivered, [published])
