"""What one client sends is looked at in slices, and not at all while reading has stopped."""

import gc
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mfserver.adapters.mqtt import MQTTProtocol
from mfserver.adapters.mqtt_client import MQTTClient
from mfserver.adapters.mqtt_unread import NOTHING, Unread
from mfserver.interfaces import IBus
from mfserver.message import Message
from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import Connack, Connect, Disconnect, Puback, Publish, Will
from mfserver.records import ChannelId
from tests.adapters.durable import BrokenBus, DurableBus
from tests.adapters.fakes import Wire
from tests.adapters.mqtt_case import MQTTTestCase, disconnects_in, packets, pubacks
from tests.builds import pure_only

TOPIC = "channels/c/messages"


class UnreadTests(SynchronousTestCase):
    """Bytes in slices."""

    def test_slices(self) -> None:
        """Whatever comes, it is taken out in its order and in bounded pieces."""
        unread = Unread()
        whole = bytes(range(256)) * 200
        for start, end in ((0, 10), (10, 40_000), (40_000, 51_200)):
            unread.add(whole[start:end])
        self.assertEqual(51_200, unread.size)
        taken = [unread.take() for _ in range(3)]
        self.assertEqual(51_200 - sum(map(len, taken)), unread.size)
        unread.look_again()
        self.assertEqual(b"", unread.take())
        while unread.slices:
            taken.append(unread.take())
        self.assertLessEqual(max(map(len, taken)), 16_384)
        self.assertEqual(whole, b"".join(taken))
        self.assertIsNone(unread.slices)
        unread.add(whole)
        unread.clear()
        self.assertEqual((None, 0), (unread.slices, unread.size))

    def test_nothing(self) -> None:
        """What all share who have nothing unread stays empty: whoever adds to it gets one of their own."""
        for unread in (NOTHING.add(b"a"), NOTHING.look_again()):
            self.assertIsNot(NOTHING, unread)
            self.assertIs(unread, unread.add(b"b"))
            self.assertIs(unread, unread.look_again())
        self.assertIs(NOTHING, NOTHING.add(b""))
        NOTHING.clear()
        self.assertEqual((None, 0), (NOTHING.slices, NOTHING.size))

    def test_crumbs(self) -> None:
        """Many small pieces make few slices."""
        unread = Unread()
        for _ in range(20_000):
            unread.add(b"ab")
        assert unread.slices is not None
        self.assertEqual((3, 40_000), (len(unread.slices), unread.size))
        self.assertEqual(b"ab" * 8_192, unread.take())
        unread.look_again()
        unread.add(b"x")
        self.assertEqual([b"", b"ab" * 8_192, b"ab" * 3_616 + b"x"], list(unread.slices))

    def test_full(self) -> None:
        """Who is full takes more again only when there is room for some of it."""
        unread = Unread()
        is_full, seen = False, []
        for data in (bytes(65_536), b"x"):
            unread.add(data)
            is_full = unread.is_full(is_full)
            seen.append(is_full)
        self.assertEqual([False, True], seen)
        while is_full:
            unread.take()
            is_full = unread.is_full(is_full)
        self.assertLessEqual(unread.size, 32_768)
        self.assertGreater(unread.size, 10_000)


class Counting:
    """Stands before a core, and counts what it makes of one call.

    :ivar most: events of one call.
    """

    def __init__(self, core: Any) -> None:
        self._core = core
        self.most = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def receive_data(self, data: bytes, now: float) -> list[Any]:
        events: list[Any] = self._core.receive_data(data, now)
        self.most = max(self.most, len(events))
        return events


@implementer(IBus)
class CountingBus:
    """Counts messages, and brings them to nobody, or to whom the test says."""

    def __init__(self, deliver: Callable[[Message], None] = lambda _: None) -> None:
        self.count = 0
        self._deliver = deliver

    def publish(self, message: Message) -> None:
        self.count += 1
        self._deliver(message)


def _clients() -> list[MQTTClient]:
    return [one for one in gc.get_objects() if type(one) is MQTTClient]


def _broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError


class FloodTests(MQTTTestCase):
    """Very much in one piece, as a WebSocket can bring it."""

    def setUp(self) -> None:
        super().setUp()
        self.house.budget.maximum = 10_000_000
        self.house.mqtt.limits.max_packet = 2_000_000

    def test_tiny(self) -> None:
        """Of tiny packets a few thousand are heard at once, and in the end all of them."""
        alice = self.connect("alice")
        bus = self.house.router.bus = CountingBus()
        alice.receive(self.tiny())
        self.assertLess(bus.count, 9_000)  # now others have their turn
        self.house.end_turn()
        self.assertEqual(10_001, bus.count)

    @pure_only  # machine code takes nothing in place of the core
    def test_tiny_events(self) -> None:
        """Tiny packets never make more than a few hundred events at once."""
        alice = self.connect("alice")
        core = alice.protocol._connection = Counting(alice.protocol._connection)
        alice.receive(self.tiny())
        self.house.end_turn()
        self.assertEqual(256, core.most)

    def tiny(self) -> bytes:
        """Ten thousand packets of a few bytes each."""
        alias: dict[int, object] = {properties.TOPIC_ALIAS: 1}
        data = encode(Publish(TOPIC, b"1", properties=alias), 5)
        return data + encode(Publish("", b"2", properties=alias), 5) * 10_000

    def test_slow(self) -> None:
        """After two milliseconds it is the others' turn, and the rest comes later."""
        alice = self.connect("alice")
        heard = 0

        def deliver(_: Message) -> None:
            nonlocal heard
            heard += 1
            self.house.clock.rightNow += 0.000_01

        self.house.router.bus = CountingBus(deliver)
        alice.protocol.dataReceived(self.tiny())
        seen = [heard]
        while heard < 10_001:
            self.house.turn.end()
            seen.append(heard)
            self.assertLess(seen[-1] - seen[-2], 1_000)
        self.assertGreater(len(seen), 8)

    def test_too_fast(self) -> None:
        """Who sends more than is done in its turns is read no further until there is room."""
        alice = self.connect("alice")
        payloads: list[bytes] = []

        def deliver(message: Message) -> None:
            payloads.append(message.payload)
            self.house.clock.rightNow += 0.001

        self.house.router.bus = CountingBus(deliver)
        sent = 0
        while alice.producerState == "producing":
            sent += 1
            alice.protocol.dataReceived(encode(Publish(TOPIC, b"%d" % sent), 5) * 800)
            self.assertLess(sent, 50)
        self.assertLess(alice.protocol._unread.size, 65_536 + 30_000)
        alice.protocol.read(False)
        alice.protocol.read(True)
        self.assertEqual("paused", alice.producerState, "there is no room yet")
        turns = 1  # that was one
        while alice.producerState == "paused":
            self.house.turn.end()
            turns += 1
        self.assertLess(alice.protocol._unread.size, 40_000)
        self.assertGreater(turns, 5)
        self.house.end_turn()
        expected = [b"%d" % number for number in range(1, sent + 1) for _ in range(800)]
        self.assertEqual(expected, payloads)
        self.assertEqual(0, self.house.budget.used)

    def test_left_behind(self) -> None:
        """What a mistake of ours left unread is read when more comes."""
        alice = self.connect("alice")
        heard: list[bytes] = []
        self.house.router.bus = CountingBus(lambda message: heard.append(message.payload))
        alice.protocol._unread.add(encode(Publish(TOPIC, b"1"), 5))
        alice.protocol.dataReceived(encode(Publish(TOPIC, b"2"), 5))
        self.house.end_turn()
        self.assertEqual([b"1", b"2"], heard)

    def test_too_fast_and_held_up(self) -> None:
        """Reading goes on only when nothing speaks against it any more, whatever ends first."""
        alice = self.connect("alice", 4)
        bus = self.house.router.bus = DurableBus(lambda _: None)
        packet = encode(Publish(TOPIC, b"x" * 900, 1, packet_id=1), 4)
        for _ in range(3):
            alice.protocol.dataReceived(packet * 30)
        self.assertEqual("paused", alice.producerState)
        done = 0
        while done < len(bus.commits):
            bus.commits[done].callback(None)
            done += 1
        self.house.end_turn()
        self.assertEqual("producing", alice.producerState)
        self.assertEqual(90, len(bus.commits))

    def test_more_before_its_turn(self) -> None:
        """What comes while something is left of what came before stands behind that."""
        alice = self.connect("alice")
        heard: list[bytes] = []
        self.house.router.bus = CountingBus(lambda message: heard.append(message.payload))
        alice.protocol.dataReceived(encode(Publish(TOPIC, b"x"), 5) * 10_000)
        self.assertLess(len(heard), 9_000)
        alice.protocol.dataReceived(encode(Publish(TOPIC, b"last"), 5))
        self.assertNotIn(b"last", heard)
        self.house.end_turn()
        self.assertEqual((10_001, b"last"), (len(heard), heard[-1]))

    def test_more_from_within(self) -> None:
        """What comes while we write waits until that, and everything before it, is done."""
        alice = self.connect("alice")
        happened: list[bytes] = []
        self.house.router.bus = CountingBus(lambda message: happened.append(message.payload))
        more = [encode(Publish(TOPIC, b"%d" % number, 1, packet_id=number), 5) for number in range(2, 5)]

        def write(_: bytes) -> None:
            happened.append(b"write")
            if more:
                alice.protocol.dataReceived(more.pop(0))
            happened.append(b"written")

        alice.write = write  # type: ignore[method-assign]
        alice.protocol.dataReceived(encode(Publish(TOPIC, b"1", 1, packet_id=1), 5))
        self.assertEqual(b"1 write written 2 write written 3 write written 4 write written".split(), happened)

    def test_then_lost(self) -> None:
        """All of it is heard too when it is the last of its client, its DISCONNECT among it."""
        bob = self.connect("bob")
        self.subscribe(bob, f"{TOPIC}/will")
        for disconnect, wills in ((b"", 1), (encode(Disconnect(), 5), 0)):
            alice = self.connect("alice", will=Will(f"{TOPIC}/will", b"gone"))
            bus = self.house.router.bus = CountingBus(self.house.router.deliver)
            alice.receive(encode(Publish(TOPIC, b"x"), 5) * 10_000 + disconnect)
            alice.lose()
            self.assertLess(bus.count, 9_000)
            self.house.end_turn()
            self.assertEqual(10_000 + wills, bus.count)
            self.assertEqual(wills, len(self.delivered(bob)))
            self.assertEqual(["bob"], [str(thing) for thing, _ in self.house.gate.logged_in])
            self.assertEqual(1, len(self.house.mqtt.connections))

    def test_lost_and_held_up(self) -> None:
        """What is left of a client that we do not read on is lost with it."""
        alice = self.connect("alice", 4)
        bus = self.house.router.bus = DurableBus(lambda _: None)
        bus.free = 5_000
        alice.protocol.dataReceived(encode(Publish(TOPIC, b"x"), 4) * 10_000)
        self.assertEqual(0, len(bus.commits))
        alice.lose()
        self.house.end_turn()
        self.assertGreater(len(bus.commits), 0)
        self.assertEqual(set(), self.house.mqtt.connections)
        self.assertEqual([], self.house.gate.logged_in)
        for commit in bus.commits:
            commit.callback(None)
        self.assertEqual(0, self.house.budget.used)

    def test_ended_when_it_was_lost(self) -> None:
        """Its thing may lose its rights, or another connection take its place, when it is lost already."""
        for end in (
            lambda alice: alice.protocol.end("the thing was deleted"),
            lambda _: self.connect("alice"),
        ):
            alice = self.connect("alice")
            bus = self.house.router.bus = CountingBus()
            alice.protocol.dataReceived(encode(Publish(TOPIC, b"x"), 5) * 10_000)
            alice.lose()
            heard = bus.count
            end(alice)
            self.house.end_turn()
            self.assertEqual(heard, bus.count)
            self.assertNotIn(alice.protocol, self.house.mqtt.connections)
            self.assertEqual(0, self.house.budget.used)
            self.assertEqual(0, alice.protocol._unread.size)

    def test_our_mistake(self) -> None:
        """An error of ours ends the connection, also one that comes up in a later turn or when it is lost."""
        for is_lost in (False, True):
            alice = self.connect("alice")
            alice.protocol.dataReceived(encode(Publish(TOPIC, b"x"), 5) * 10_000)
            bus, self.house.router.bus = self.house.router.bus, BrokenBus(ZeroDivisionError())
            if is_lost:
                alice.lose()
            self.house.end_turn()
            self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
            self.assertTrue(alice.aborted)
            if not is_lost:
                alice.lose()
            self.house.router.bus = bus
            self.assertEqual([], self.house.gate.logged_in)
            self.assertEqual(set(), self.house.mqtt.connections)
            self.assertEqual(0, self.house.budget.used)

    def test_answers(self) -> None:
        """As many answers as there are to give to it do not count as answers that nobody reads."""
        alice = self.connect("alice", 4)
        data = b"".join(encode(Publish(TOPIC, b"x", 1, packet_id=1 + index), 4) for index in range(20_000))
        alice.protocol.dataReceived(data)
        self.house.end_turn()
        self.assertEqual(20_000, len(pubacks(packets(alice.take(), 4))))
        self.assertFalse(alice.disconnecting)

    def test_behind_connect(self) -> None:
        """What follows a CONNECT in the same piece waits, and comes behind it."""
        self.house.gate.held = []
        bob = self.house.mqtt_wire()
        data = encode(Connect(4, "a", user_name="alice", password=b"key-of-alice"), 4)
        data += encode(Publish(TOPIC, b"x" * 900, qos=1, packet_id=1), 4) * 100
        self.assertEqual(b"", bob.receive(data))
        self.assertGreater(self.house.budget.used, 80_000)
        self.assertEqual(b"", bob.receive(encode(Publish(TOPIC, b"x", 1, packet_id=2), 4)))
        self.house.gate.held.pop()()
        answer = packets(bob.take(), 4)
        self.assertIsInstance(answer[0], Connack)
        self.assertEqual([(1, 0)] * 100 + [(2, 0)], pubacks(answer))
        self.assertEqual(0, self.house.budget.used)


class HeldUpTests(MQTTTestCase):
    """A publisher that is held up, and how much of it is looked at."""

    def setUp(self) -> None:
        super().setUp()
        self.bus = DurableBus(self.house.router.deliver)
        self.house.router.bus = self.bus
        self.house.budget.maximum = 200_000
        self.alice = self.house.thing("alice", "c")
        self.wire = self.connect("alice", 4)
        self.packet = encode(Publish(TOPIC, b"x" * 950, qos=1, packet_id=1), 4)

    def test_rest_waits(self) -> None:
        """Of what comes at once only a slice is looked at; the rest follows when there is room, in order."""
        data = b"".join(encode(Publish(TOPIC, b"%d" % n, 1, packet_id=n), 4) for n in range(1, 2001))
        self.wire.receive(data)
        first = len(self.bus.commits)
        self.assertLess(first, 700)
        self.assertEqual("paused", self.wire.producerState)
        done = 0
        while done < len(self.bus.commits):
            self.bus.commits[done].callback(None)
            done += 1
        self.house.end_turn()
        self.assertEqual([(n, 0) for n in range(1, 2001)], pubacks(packets(self.wire.take(), 4)))
        self.assertEqual("producing", self.wire.producerState)
        self.assertEqual(0, self.house.budget.used)

    def test_what_still_comes(self) -> None:
        """A transport that goes on for a while after it was paused is heard later, and in order."""
        for index in range(5):
            self.wire.receive(encode(Publish(TOPIC, b"x", qos=1, packet_id=1 + index), 4))
        self.assertEqual(2, len(self.bus.commits))
        for index in range(5):
            self.bus.commits[index].callback(None)
        self.house.end_turn()
        self.assertEqual([Puback(n, 0) for n in range(1, 6)], packets(self.wire.take(), 4))

    def test_commits_at_once(self) -> None:
        """A bus that has committed when it answers costs no nested calls, however much there is."""

        class Prompt(DurableBus):
            def publish(self, message: Any) -> Any:
                answer = super().publish(message)
                assert answer is not None
                answer.callback(None)
                return answer

        self.house.router.bus = Prompt(self.house.router.deliver)
        self.wire.protocol.dataReceived(self.packet * 150)
        self.house.end_turn()
        self.assertEqual([(1, 0)] * 150, pubacks(packets(self.wire.take(), 4)))

    def test_bounded(self) -> None:
        """What waits counts as held for this client, of which all together have a bound."""
        self.wire.receive(self.packet * 30)
        self.assertEqual("paused", self.wire.producerState)
        self.assertGreater(self.house.budget.used, 10_000)
        for _ in range(10):
            self.wire.receive(self.packet * 30)
        self.assertTrue(self.wire.disconnecting)
        self.assertEqual(0, self.house.budget.used)
        self.assertEqual(1, len(self.house.reports))

    def test_lost(self) -> None:
        """A client that goes takes it with it."""
        self.wire.receive(self.packet * 30)
        self.wire.lose()
        self.assertEqual(0, self.house.budget.used)
        heard = len(self.bus.commits)
        for commit in self.bus.commits:
            commit.callback(None)
        self.assertEqual(heard, len(self.bus.commits))

    def test_ended(self) -> None:
        """So does one that is ended, at once."""
        self.wire.receive(self.packet * 30)
        self.wire.protocol.end("the thing was deleted")
        self.assertEqual(0, self.house.budget.used)
        self.assertEqual("producing", self.wire.producerState)

    def test_keep_alive(self) -> None:
        """No keep alive runs while we do not read; it begins again when we do."""
        self.wire.lose()
        wire = self.connect("alice", 4, keep_alive=10)
        wire.receive(self.packet * 2)
        self.house.clock.advance(100)
        self.assertFalse(wire.disconnecting)
        for commit in self.bus.commits:
            commit.callback(None)
        self.house.clock.advance(14.9)
        self.assertFalse(wire.disconnecting)
        self.house.clock.advance(1.2)
        self.assertTrue(wire.disconnecting)


class HeldTests(MQTTTestCase):
    """Topic aliases count as held, those that sending makes too."""

    def test_outgoing_aliases(self) -> None:
        """What they hold is counted when they are made, and given back."""
        alice = self.connect("alice")
        bob = self.connect("bob", properties={properties.TOPIC_ALIAS_MAXIMUM: 5})
        self.subscribe(bob, f"{TOPIC}/#")
        for index in range(6):
            self.publish(alice, f"{TOPIC}/{index}")
            self.publish(alice, f"{TOPIC}/{index}")
        self.assertEqual(5 * len(f"{TOPIC}/0"), self.house.budget.used)
        topics = [topic for topic, _, _ in self.delivered(bob)]
        self.assertEqual(5 * [""], topics[1:10:2])
        self.assertEqual(2 * [f"{TOPIC}/5"], topics[10:])
        bob.lose()
        self.assertEqual(0, self.house.budget.used)

    def test_too_much(self) -> None:
        """Who is sent topics that are too much for all is closed."""
        self.house.budget.maximum = 200
        self.house.thing("alice", "c").channels.add(ChannelId("d"))
        alice, bob = (
            self.connect("alice"),
            self.connect("bob", properties={properties.TOPIC_ALIAS_MAXIMUM: 5}),
        )
        self.subscribe(bob, f"{TOPIC}/#")
        for index in range(3):
            self.publish(alice, f"{TOPIC}/{index}{'x' * 60}")
        self.assertEqual([0x89], disconnects_in(packets(bob.take())))
        self.assertTrue(bob.disconnecting)
        self.assertEqual(0, self.house.budget.used)


class BrokenTests(MQTTTestCase):
    """A mistake of ours keeps no connection, and nobody in."""

    def test_session_that_cannot_be_closed(self) -> None:
        """The connection ends and its thing is logged out all the same."""

        wire, other = self.connect("alice"), self.connect("bob")
        self.house.sessions.close = _broken  # type: ignore[method-assign]
        self.assertRaises(ZeroDivisionError, wire.protocol.end, "over")
        self.assertTrue(wire.disconnecting)
        self.house.clock.advance(5.1)
        self.assertTrue(wire.aborted)
        wire.lose()
        told: list[None] = []
        other.protocol.released = lambda: told.append(None)
        self.assertRaises(ZeroDivisionError, other.lose)
        self.assertEqual(1, len(told))
        self.assertEqual([], self.house.gate.logged_in)
        self.assertEqual(set(), self.house.mqtt.connections)

    def test_nothing_is_left(self) -> None:
        """A connection that is over goes when it is let go: no circle waits for the garbage collector."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        before = _clients()  # of other tests in this process, held here: none of them goes meanwhile
        for publishes in (False, True):
            wire = self.connect("alice", 4)
            self.assertEqual(len(before) + 1, len(_clients()))
            if publishes:
                self.publish(wire, TOPIC)
            wire.lose()
            self.assertEqual(len(before), len(_clients()))

    def test_protocol_alone(self) -> None:
        """Another wire of the same adapter is another connection."""
        first, second = (Wire(MQTTProtocol(self.house.mqtt)) for _ in range(2))
        first.receive(b"\x10")
        second.receive(b"\x10\x0c")
        self.assertEqual(3, self.house.budget.used)
