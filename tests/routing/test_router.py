"""Who gets a message, and who not any more."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mfserver.durable import SessionKey
from mfserver.errors import Invalid, Overloaded
from mfserver.interfaces import IBus, ISubscriber
from mfserver.message import Message
from mfserver.routing.bus import LocalBus
from mfserver.routing.journal import Journal
from mfserver.routing.retained import Retained
from mfserver.routing.router import Options, Router
from mfserver.topic import TopicFilter, parse_filter, parse_path_filter
from tests.routing.cases import Subscriber, Thing, http, mqtt
from tests.store.memory_sessions import MemorySessions


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

    def test_retain_and_identifiers(self) -> None:
        """RETAIN is passed on where it is asked for and was set; identifiers always, of overlaps all."""
        self.subscribe_mqtt("channels/c/messages/a", self.one, Options(1, identifiers=(7,)))
        self.subscribe_mqtt("channels/c/messages/a", self.two, Options(1, False, True, (8,)))
        self.subscribe_mqtt("channels/c/messages/#", self.two, Options(1, identifiers=(9,)))
        for retain in (True, False):
            self.router.deliver(mqtt("channels/c/messages/a", retain=retain))
            self.assertEqual(self.one.flags.pop(), (False, (7,)))
            flag, identifiers = self.two.flags.pop()
            self.assertEqual((flag, sorted(identifiers)), (retain, [8, 9]))

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

    def test_shared_subscriptions_are_bounded(self) -> None:
        """They count as others do, a group for two levels more, and its name for its length."""
        for share in "ab":
            self.subscribe_mqtt(f"$share/{share}/channels/c/messages/x", self.one, Options())
        self.assertEqual(self.router._levels, {self.one: 8})
        self.subscribe_mqtt("channels/c/messages/x", self.one, Options())
        with self.assertRaises(Overloaded):
            self.subscribe_mqtt("$share/c/channels/c/messages/x", self.one, Options())
        self.assertFalse(self.subscribe_mqtt("$share/b/channels/c/messages/x", self.one, Options(2)))
        self.subscribe_mqtt(f"$share/{'n' * 512}/channels/c/messages", self.two, Options())
        self.assertEqual(self.router._levels, {self.one: 10, self.two: 5})
        with self.assertRaises(Overloaded):
            self.subscribe_mqtt(f"$share/{'n' * 60_000}/channels/c/messages", self.two, Options())
        for share in "ab":
            topic_filter = parse_filter(f"$share/{share}/channels/c/messages/x")
            self.assertTrue(self.router.unsubscribe(topic_filter, self.one, exact=True))
            self.assertFalse(self.router.unsubscribe(topic_filter, self.one, exact=True))
        self.assertEqual(self.router._levels, {self.one: 2, self.two: 5})

    def test_only_mqtt_shares(self) -> None:
        with self.assertRaises(Invalid):
            self.router.subscribe(TopicFilter("c", (), "g"), self.one, Options(), exact=False)
        self.assertFalse(self.router.unsubscribe(TopicFilter("c", (), "g"), self.one, exact=False))
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


class SharedTests(SynchronousTestCase):
    """One member of a group gets each message (MQTT 5.0, 4.8.2)."""

    TOPIC = "channels/c/messages/a"
    FILTER = f"$share/g/{TOPIC}"

    def setUp(self) -> None:
        self.router = Router(max_subscriptions=3)
        self.members = [Subscriber() for _ in range(3)]
        for member in self.members:
            self.subscribe(self.FILTER, member, Options(2))

    def subscribe(self, topic_filter: str, subscriber: Subscriber, options: Options) -> None:
        self.router.subscribe(parse_filter(topic_filter), subscriber, options, exact=True)

    def publish(self, count: int, topic: str = TOPIC) -> list[list[int]]:
        """Publish numbered messages. :return: which of them each member got."""
        for number in range(count):
            self.router.publish(mqtt(topic, payload=b"%d" % number))
        return self.taken()

    def taken(self) -> list[list[int]]:
        """The numbers of the messages that each member got since it was last asked."""
        taken = [[int(message.payload) for message, _ in member.got] for member in self.members]
        for member in self.members:
            member.got.clear()
        return taken

    def test_in_turn(self) -> None:
        """Each gets its part, in the order of the publisher."""
        self.assertEqual(self.publish(7), [[0, 3, 6], [1, 4], [2, 5]])
        self.assertEqual(self.publish(2), [[], [0], [1]])

    def test_never_an_unready_one_while_another_is_ready(self) -> None:
        self.members[0].ready = False
        self.assertEqual(self.publish(4), [[], [0, 2], [1, 3]])
        self.members[2].ready = False
        self.assertEqual(self.publish(3), [[], [0, 1, 2], []])
        self.members[0].ready = self.members[2].ready = True
        self.assertEqual(sorted(map(len, self.publish(6))), [2, 2, 2])

    def test_nobody_is_ready(self) -> None:
        """Then their own queues take the messages, in turn too."""
        for member in self.members:
            member.ready = False
        self.assertEqual(self.publish(7), [[0, 3, 6], [1, 4], [2, 5]])
        self.members[1].thing = Thing()
        self.assertEqual(sorted(map(len, self.publish(6))), [0, 3, 3])

    def test_who_may_not_is_passed_over(self) -> None:
        """Nobody's message is lost on who lost the channel, and nobody gets it when nobody may."""
        self.members[1].thing = Thing("d")
        self.assertEqual(list(map(len, self.publish(4))), [2, 0, 2])
        self.assertEqual(self.members[1].asked, 0)
        self.members[0].ready = self.members[2].ready = False
        self.assertEqual(sorted(map(len, self.publish(4))), [0, 2, 2])
        for member in self.members:
            member.thing = Thing()
        self.assertEqual(self.publish(1), [[], [], []])

    def test_who_fails_is_passed_over(self) -> None:
        """The others go on, and the log tells."""
        self.members[0].ready = ZeroDivisionError()
        self.assertEqual(list(map(len, self.publish(4))), [0, 2, 2])
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))
        for member in self.members:
            member.ready = ZeroDivisionError()
        self.assertEqual(self.publish(1), [[], [], []])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    def test_what_failed_is_offered_to_nobody_else(self) -> None:
        """Once handed over it is the member's alone [MQTT-4.8.2-6]."""
        self.members[0].trouble = ZeroDivisionError()
        self.assertEqual(self.publish(3), [[], [1], [2]])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_the_members_options(self) -> None:
        """The QoS that it was granted [MQTT-4.8.2-3], its identifier and its flag."""
        self.subscribe(self.FILTER, self.members[1], Options(1, False, True, (7,)))
        self.subscribe(self.FILTER, self.members[2], Options(0))
        for _ in self.members:
            self.router.publish(mqtt(self.TOPIC, 2, retain=True))
        self.assertEqual([member.got[0][1] for member in self.members], [2, 1, 0])
        self.assertEqual(
            [member.flags for member in self.members], [[(False, ())], [(True, (7,))], [(False, ())]]
        )

    def test_besides_other_subscriptions(self) -> None:
        """Who subscribed shared and unshared gets both; other groups and other filters have their own."""
        first = self.members[0]
        self.subscribe(self.TOPIC, first, Options(1))
        self.subscribe("$share/h/channels/c/messages/+", first, Options(1))
        self.assertEqual(self.publish(1), [[0, 0, 0], [], []])
        self.assertEqual(self.publish(1), [[0, 0], [0], []])
        self.assertEqual(self.publish(1, "channels/c/messages/b"), [[0], [], []])

    def test_own_messages(self) -> None:
        """There is no No Local in a group: a member may get what it published."""
        self.router.publish(mqtt(self.TOPIC, 1, self.members[0], b"0"))
        self.assertEqual(self.taken(), [[0], [], []])

    def test_the_end(self) -> None:
        """Who left gets nothing, and the others take their turns."""
        self.publish(1)
        self.assertTrue(self.router.unsubscribe(parse_filter(self.FILTER), self.members[1], exact=True))
        self.assertFalse(self.router.unsubscribe(parse_filter(self.TOPIC), self.members[0], exact=True))
        self.assertEqual(self.publish(3), [[1], [], [0, 2]])
        self.router.forget(self.members[0])
        self.router.forget(self.members[2])
        self.assertEqual(self.publish(1), [[], [], []])

    def test_cost(self) -> None:
        """One look for each message where all are ready; at most one at each member where none is."""
        members = [Subscriber() for _ in range(200)]
        self.router = Router(max_subscriptions=1)
        for member in members:
            self.subscribe(self.FILTER, member, Options(1))
        for _ in range(1000):
            self.router.publish(mqtt(self.TOPIC, payload=b"0"))
        self.assertEqual(sum(member.asked for member in members), 1000)
        for member in members[:-1]:
            member.ready = False
        for _ in range(10):
            self.router.publish(mqtt(self.TOPIC, payload=b"0"))
        self.assertLessEqual(sum(member.asked for member in members), 3000)
        self.assertEqual(len(members[-1].got), 5 + 10)


class DurableTests(SynchronousTestCase):
    """What a publisher waits for."""

    TOPIC = "channels/c/messages/a"

    def setUp(self) -> None:
        self.clock = Clock()
        self.journal = Journal(MemorySessions(), self.clock)
        self.recorded: list[tuple[str, tuple[str, ...], bytes | None]] = []
        self.retained = Retained(1, 10_000, self.record, lambda: 0)
        self.router = Router(3, self.journal, self.retained)

    def record(self, channel: str, levels: tuple[str, ...], message: Message | None) -> None:
        self.recorded.append((channel, levels, None if message is None else message.payload))
        self.journal.retained(channel, levels, message)

    def change(self) -> None:
        """Record what somebody has to wait for."""
        self.journal.received(SessionKey(1), 1, True)

    def assertWaitsForCommit(self, published: "Deferred[None] | None") -> None:
        assert published is not None
        self.assertNoResult(published)
        self.clock.advance(1)
        self.assertIsNone(self.successResultOf(published))

    def test_nothing_to_wait_for(self) -> None:
        """What leaves nothing behind is acknowledged at once, be others' changes still under way."""
        self.change()
        self.assertIsNone(self.router.publish(mqtt(self.TOPIC)))

    def test_a_change(self) -> None:
        """A retained message is waited for, but at QoS 0."""
        self.assertIsNone(self.router.publish(mqtt(self.TOPIC, 0, payload=b"x", retain=True)))
        self.assertWaitsForCommit(self.router.publish(mqtt(self.TOPIC, 1, payload=b"y", retain=True)))

    def test_a_subscribers_change(self) -> None:
        """What a delivery puts into a queue is waited for as well."""
        change = self.change

        class Session(Subscriber):
            def deliver(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
                change()

        self.router.subscribe(parse_filter(self.TOPIC), Session(), Options(1), exact=True)
        self.assertWaitsForCommit(self.router.publish(mqtt(self.TOPIC)))

    def test_congested(self) -> None:
        """Then everybody waits."""
        self.change()
        self.journal.congested = True
        self.assertWaitsForCommit(self.router.publish(mqtt(self.TOPIC)))

    def test_retained_first(self) -> None:
        """Who subscribes in the middle of a delivery finds it, and RETAIN 0 keeps nothing."""
        retained, seen = self.retained, list[int]()

        class Curious(Subscriber):
            def deliver(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
                seen.append(len(retained))

        self.router.subscribe(parse_filter(self.TOPIC), Curious(), Options(1), exact=True)
        self.router.publish(mqtt(self.TOPIC, payload=b"x"))
        self.router.publish(mqtt(self.TOPIC, payload=b"x", retain=True))
        self.router.publish(mqtt(self.TOPIC, payload=b"y"))
        self.router.publish(mqtt(self.TOPIC, retain=True))
        self.assertEqual(seen, [0, 1, 1, 0])
        self.assertEqual(self.recorded, [("c", ("a",), b"x"), ("c", ("a",), None)])

    def test_check(self) -> None:
        """Publishers ask whether there is room."""
        self.router.publish(mqtt(self.TOPIC, payload=b"x", retain=True))
        with self.assertRaises(Overloaded):
            self.router.check(mqtt("channels/c/messages/b", payload=b"x", retain=True))
        Router(3).check(mqtt("channels/c/messages/b", payload=b"x", retain=True))

    def test_full_disk(self) -> None:
        """While nothing can be committed there is none for what would be acknowledged."""
        self.journal.stalled = True
        for qos in (1, 2):
            with self.assertRaises(Overloaded):
                self.router.check(mqtt(self.TOPIC, qos=qos))
        self.router.check(mqtt(self.TOPIC, qos=0))
        Router(3).check(mqtt(self.TOPIC, qos=1))
        self.journal.stalled = False
        self.router.check(mqtt(self.TOPIC, qos=1))
