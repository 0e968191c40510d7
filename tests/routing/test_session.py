"""One client's session: what it is sent, when, and what waits where."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mfserver.durable import NEVER, RELEASED
from mfserver.errors import Overloaded
from mfserver.records import ChannelId
from mfserver.routing.sessions import Bounds
from mfserver.topic import parse_filter
from tests.routing.house import OVERHEAD, House, Memory, Phone

KIB = 1024


class SessionCase(SynchronousTestCase):
    """A house with small bounds, and a client whose session outlives its connections."""

    bounds = Bounds(messages=200, size=200 * KIB, memory=10 * KIB)
    expiry = NEVER

    def setUp(self) -> None:
        self.house = House(self.bounds)
        self.memory = Memory()
        self.phone = self.connect(subscribe="#")
        self.house.settle()

    def connect(self, receive_maximum: int = 65_535, subscribe: str | None = None) -> Phone:
        phone = Phone(self.memory, receive_maximum)
        return self.house.open(phone, expiry=self.expiry, subscribe=subscribe)[0]

    def publish(self, *payloads: bytes, qos: int = 1, **rest: Any) -> None:
        for payload in payloads:
            self.house.publish(payload, qos, **rest)

    def numbers(self, count: int, size: int = 1) -> list[bytes]:
        return [b"%d" % number + bytes(size) for number in range(count)]

    def check_count(self) -> None:
        """The session counts what the store holds."""
        self.house.settle()
        session = self.phone.session
        self.assertEqual(self.house.store.queue(session), (session.count, session.size))


class KeptTests(SessionCase):
    """A session that is kept."""

    def test_live(self) -> None:
        """QoS 0 and 1 leave at once, QoS 2 when its packet identifier is on the disk."""
        self.house.store.hold = True
        self.publish(b"0", qos=0)
        self.publish(b"1", qos=1)
        self.publish(b"2", qos=2)
        self.assertEqual([b"0", b"1"], self.phone.payloads())
        self.house.settle()
        self.assertEqual([b"0", b"1", b"2"], self.phone.payloads())
        self.phone.acknowledge_all()
        self.house.settle()
        self.phone.acknowledge_all()
        self.check_count()
        self.assertEqual(0, self.phone.session.count)
        self.assertTrue(self.phone.session.is_ready())

    def test_release_is_committed_first(self) -> None:
        """PUBREL leaves when the release is on the disk; a repeated PUBREC neither hurries nor repeats it."""
        self.publish(b"2", qos=2)
        self.house.settle()
        self.house.store.hold = True
        (packet_id,) = self.phone.packet_ids()
        for _ in range(50):
            self.phone.session.pubrec(packet_id, 0)
        self.house.clock.advance(0)
        self.assertEqual(1, len(self.phone.sent))
        self.house.settle()
        self.assertEqual(("PUBREL", packet_id, 0), self.phone.sent[-1])
        self.assertEqual(2, len(self.phone.sent))
        commits = self.house.store.commits
        self.phone.session.pubrec(packet_id, 0)  # once it is on the disk it is said again
        self.house.settle()
        self.assertEqual((3, commits), (len(self.phone.sent), self.house.store.commits))

    def test_gone_before_the_commit(self) -> None:
        """What waits for a commit is not sent on a connection that is over; the next one gets it."""
        self.publish(b"2", qos=2)
        self.house.settle()
        self.house.store.hold = True
        self.publish(b"later", qos=2)
        self.phone.acknowledge("pubrec")
        self.house.close(self.phone)
        phone = self.connect()
        self.house.settle()
        self.assertEqual((1, 2), (len(self.phone.sent), len(phone.sent)))
        self.assertEqual([b"2", b"later"], self.memory.got[2])

    def test_answered_early(self) -> None:
        """What the client answers before it was sent is not sent, and its number is not used twice."""
        for code in (0x80, 0):
            self.house.store.hold = True
            self.publish(b"2", qos=2)
            (packet_id,) = self.phone.session.state.in_flight
            self.phone.session.pubrec(packet_id, code)
            self.house.settle()
            self.assertEqual([], self.phone.payloads())
        self.assertEqual([("PUBREL", packet_id, 0)], self.phone.sent)

    def test_unknown(self) -> None:
        """What is not in flight cannot be acknowledged; an unknown PUBREC is answered (3.6.2.1)."""
        self.publish(b"1")
        for call in (self.phone.session.puback, self.phone.session.pubcomp):
            call(99)
        self.phone.session.pubcomp(self.phone.packet_ids()[0])
        self.phone.session.pubrec(99, 0)
        self.assertEqual(("PUBREL", 99, 0x92), self.phone.sent[-1])
        self.assertEqual(1, self.phone.session.count)

    def test_refused(self) -> None:
        """PUBREC with an error ends a delivery."""
        self.publish(b"2", qos=2)
        self.house.settle()
        self.phone.session.pubrec(self.phone.packet_ids()[0], 0x97)
        self.check_count()
        self.assertEqual(0, self.phone.session.count)

    def test_away(self) -> None:
        """What comes meanwhile waits on the disk, and memory holds nothing; QoS 0 is not kept."""
        self.house.close(self.phone)
        session = self.phone.session
        self.publish(*self.numbers(150))
        self.publish(b"q", qos=0)
        self.assertEqual((150, 0, False), (session.count, len(session.state.waiting), session.is_ready()))
        session.pubrec(1, 0)  # nobody is there any more
        phone = self.connect(receive_maximum=7)
        self.house.settle()
        self.assertEqual(7, len(phone.sent))
        while phone.acknowledge_all():
            self.house.settle()
        self.assertEqual(self.numbers(150), phone.payloads())
        self.check_count()
        self.assertEqual(0, session.count)

    def test_smaller_receive_maximum(self) -> None:
        """More was in flight than the next connection takes: it is sent again in order, as it is taken."""
        self.publish(*self.numbers(120), qos=2)
        self.house.settle()
        for _ in range(40):
            self.phone.acknowledge("pubrec")
        self.house.settle()
        self.house.close(self.phone)
        phone = self.connect(receive_maximum=2)
        self.publish(b"new", qos=2)
        while phone.acknowledge_all():
            self.house.settle()
        self.assertEqual([*self.numbers(120), b"new"], self.memory.got[2])
        self.assertEqual([*self.numbers(120)[40:], b"new"], phone.payloads())

    def test_acknowledged_before_sent_again(self) -> None:
        """A client may acknowledge on its next connection before it is sent again: it is not, then."""
        for qos in (1, 2):
            self.publish(b"%d" % qos, qos=qos)
            self.house.settle()
        self.publish(b"3", qos=1)
        self.house.settle()
        first, second, third = self.phone.packet_ids()
        self.house.close(self.phone)
        phone = Phone(self.memory)
        phone.is_writable = False
        self.house.open(phone)
        self.house.settle()
        phone.session.puback(first)
        phone.session.pubrec(second, 0)
        self.house.settle()
        phone.is_writable = True
        phone.session.pump()
        self.assertEqual([third], phone.packet_ids())
        self.assertEqual(1, phone.sent.count(("PUBREL", second, 0)))

    def test_too_long(self) -> None:
        """What the client can never take is over [MQTT-3.1.2-25]."""
        self.phone.longest = 5
        for qos in (0, 1, 2):
            self.publish(b"123456", qos=qos)
        self.publish(b"12345")
        self.house.settle()
        self.assertEqual([b"12345"], self.phone.payloads())
        self.assertEqual(1, self.phone.session.count)

    def test_too_long_now(self) -> None:
        """A QoS 2 message that the client may have, and cannot be sent again, is released: its packet
        identifier would hide another message else."""
        self.publish(b"123456", qos=2)
        self.house.settle()
        self.house.close(self.phone)
        phone = Phone(self.memory)
        phone.longest = 5
        self.house.open(phone)
        self.house.settle()
        self.assertEqual([("PUBREL", self.phone.packet_ids()[0], 0)], phone.sent)
        phone.acknowledge_all()
        self.assertEqual(0, phone.session.count)

    def test_expired(self) -> None:
        """What expired while it waited is not sent; what was sent is, again [MQTT-3.3.2-5] [MQTT-4.3.3-7]."""
        expires = self.house.now() + 10**9
        self.publish(b"sent", expires=expires)
        self.house.close(self.phone)
        self.publish(b"waits", expires=expires)
        self.publish(b"live")
        self.house.settle()
        self.house.clock.advance(2)
        self.phone = self.connect()
        self.house.settle()
        self.assertEqual([b"sent", b"live"], self.phone.payloads())
        self.check_count()

    def test_right_lost(self) -> None:
        """Nothing of a channel is sent that the thing may not use any more, wherever it waited."""
        self.phone.receive_maximum = self.phone.session.state.send_quota = 1
        self.publish(b"1", b"2")
        self.publish(b"3", qos=2)
        self.phone.session.thing.channels.clear()  # type: ignore[attr-defined]
        self.phone.session.channel_lost(ChannelId("d"))
        self.assertEqual(3, self.phone.session.count)  # another channel
        self.phone.session.channel_lost(ChannelId("c"))
        self.check_count()
        self.assertEqual(1, self.phone.session.count)
        self.house.close(self.phone)
        self.phone = self.connect()
        self.house.settle()
        self.assertEqual(([], 0), (self.phone.sent, self.phone.session.count))

    def test_body_is_not_held(self) -> None:
        """A client that acknowledges nothing does not keep the messages in memory that it was sent."""
        self.publish(*self.numbers(50), qos=1)
        self.publish(*self.numbers(50), qos=2)
        self.house.settle()
        held = {type(delivery.message) for delivery in self.phone.session.state.in_flight.values()}
        self.assertEqual({int}, held)

    def test_received(self) -> None:
        """The identifiers of QoS 2 messages of the client are known to the next process."""
        self.phone.session.received(5)
        self.phone.session.received(6)
        self.house.settle()
        self.assertTrue(self.phone.session.released(5))
        self.assertFalse(self.phone.session.released(5))
        self.house.settle()
        self.house.crash()
        phone, _ = self.house.open()
        self.assertEqual({6}, phone.session.state.received)

    def test_after_its_end(self) -> None:
        """Nothing is recorded of a session that is over."""
        session = self.phone.session
        self.house.close(self.phone, 0)
        session.received(5)
        session.released(5)
        session.deliver(self.house.message(b"1"), 1, False, ())
        session.feed(self.house.retained.find(parse_filter("channels/c/messages/#")), 1, ())
        session.channel_lost(ChannelId("c"))
        self.house.settle()
        self.assertTrue(self.house.store.is_empty())

    def test_broken_store(self) -> None:
        """A client whose delivery cannot be stored for another reason than lack of room is let go."""
        self.publish(b"2", qos=2)
        self.house.store.fail = ValueError("a mistake of ours")
        self.house.clock.advance(1)
        self.assertEqual((["too slow"], []), (self.phone.ended, self.phone.sent))
        self.assertTrue(self.flushLoggedErrors())


class PagingTests(SessionCase):
    """What is on the disk comes into memory as the client takes it."""

    def waits(self, phone: Phone) -> int:
        return phone.session.state.waiting_bytes

    def test_longer_than_memory(self) -> None:
        """One message may be longer than all that waits in memory, and leaves at once all the same."""
        self.publish(bytes(20 * KIB), bytes(30 * KIB))
        self.assertEqual(2, len(self.phone.sent))
        self.phone.is_writable = False
        self.publish(bytes(20 * KIB), bytes(20 * KIB))
        self.house.settle()
        self.assertEqual(20 * KIB + OVERHEAD, self.waits(self.phone))
        self.phone.is_writable = True
        self.phone.session.pump()
        self.house.settle()
        self.assertEqual(4, len(self.phone.sent))

    def test_client_that_does_not_read(self) -> None:
        """Memory is bounded, whatever its session is asked to do; the rest is on the disk."""
        self.phone.is_writable = False
        self.publish(*self.numbers(100, KIB))
        for _ in range(20):
            self.phone.session.pump()
            self.house.settle()
        self.assertLessEqual(self.waits(self.phone), 11 * KIB)
        self.house.close(self.phone)
        phone = Phone(self.memory)
        phone.is_writable = False
        self.house.open(phone)
        for _ in range(20):
            phone.session.pump()
            self.house.settle()
        self.assertLessEqual(self.waits(phone), 11 * KIB)
        phone.is_writable = True
        phone.session.pump()
        self.house.settle()
        self.assertEqual(self.numbers(100, KIB), phone.payloads())

    def test_in_flight_is_paged(self) -> None:
        """What is to be sent again comes into memory page by page, too."""
        self.publish(*self.numbers(100, KIB))
        self.house.close(self.phone)
        phone = Phone(self.memory)
        phone.is_writable = False
        self.house.open(phone)
        self.house.settle()
        held = phone.session.state.in_flight.values()
        self.assertLessEqual(sum(it.size for it in held if not isinstance(it.message, int)), 11 * KIB)
        phone.is_writable = True
        phone.session.pump()
        self.house.settle()
        self.assertEqual(self.numbers(100, KIB), phone.payloads())
        self.assertTrue(all(packet[3] for packet in phone.sent))

    def test_catches_up(self) -> None:
        """Once it has read all, what comes leaves at once again, though more came during each read."""
        self.house.close(self.phone)
        self.publish(*self.numbers(30))
        self.house.settle()
        self.house.store.hold_reads = True
        phone = self.connect()
        self.house.clock.advance(0)
        for number in range(5):
            self.publish(b"during %d" % number)
        self.house.settle()
        self.house.store.hold = True
        self.publish(b"live")
        self.assertEqual(b"live", phone.payloads()[-1])
        self.assertEqual((36, 1), (len(phone.sent), self.house.store.reads))

    def test_answered_while_reading(self) -> None:
        """A PUBREC is unknown only once everything that is in flight is known: it may be of that (4.4)."""
        self.publish(b"2", qos=2)
        self.house.settle()
        (packet_id,) = self.phone.packet_ids()
        self.house.close(self.phone)
        self.house.settle()
        self.house.store.hold_reads = True
        phone = self.connect()
        self.house.clock.advance(0)
        phone.session.pubrec(packet_id, 0)
        self.assertEqual([], phone.sent)
        self.house.store.hold_reads = False
        self.house.store.answer()
        self.house.settle()
        self.assertEqual([packet_id], phone.packet_ids())
        phone.session.pubrec(packet_id, 0)
        self.house.settle()
        self.assertEqual(("PUBREL", packet_id, 0), phone.sent[-1])

    def test_read_and_remembered(self) -> None:
        """What came while a page waited for its commit is in the page, and is sent once."""
        self.house.close(self.phone)
        phone = Phone(self.memory)
        thing = self.house.rights.thing(self.phone.session.thing.id)
        opened = Deferred.fromCoroutine(self.house.sessions.open(thing, "phone", False, NEVER, phone, None))
        self.house.settle()
        phone.session, _ = self.successResultOf(opened)
        self.publish(b"first")
        phone.session.attach(phone, 10)
        self.publish(b"second")
        self.house.settle()
        self.assertEqual([b"first", b"second"], phone.payloads())
        self.assertEqual(1, self.house.store.reads)

    def test_too_much_during_a_read(self) -> None:
        """What is too much to be remembered during a read is read later."""
        self.house.close(self.phone)
        self.publish(b"first")
        self.house.settle()
        self.house.store.hold_reads = True
        self.phone = self.connect()
        self.publish(*self.numbers(20, KIB))
        self.house.settle()
        self.assertEqual([b"first", *self.numbers(20, KIB)], self.phone.payloads())
        self.check_count()

    def test_page_and_what_came_meanwhile(self) -> None:
        """What was remembered during a read is not held with a page that fills memory already."""
        self.house.close(self.phone)
        self.publish(*self.numbers(7, KIB))
        self.house.settle()
        self.house.store.hold_reads = True
        self.phone = Phone(self.memory)
        self.phone.is_writable = False
        self.house.open(self.phone)
        self.publish(*[b"n" * KIB] * 3)
        self.house.settle()
        self.assertLessEqual(self.waits(self.phone), 10 * KIB)
        self.phone.is_writable = True
        self.phone.session.pump()
        self.house.settle()
        self.assertEqual([*self.numbers(7, KIB), *[b"n" * KIB] * 3], self.phone.payloads())

    def test_takeover_while_reading(self) -> None:
        """A page that was read for an older connection is nobody's; so is one that failed."""
        for fails in (False, True):
            self.house.close(self.phone)
            self.publish(b"first", qos=2)
            self.house.settle()
            self.house.store.fail_reads = Overloaded("busy") if fails else None
            self.house.store.hold_reads = True
            self.connect()
            self.house.store.fail_reads = None
            self.phone = self.connect()
            self.house.clock.advance(1)
            self.house.settle()
            self.assertEqual([b"first"], self.phone.payloads())
            while self.phone.acknowledge_all():
                self.house.settle()
        self.assertEqual([b"first"] * 2, self.memory.got[2])
        self.check_count()

    def test_taken_over_before_reading(self) -> None:
        """So is one that was to be read after a commit."""
        self.house.close(self.phone)
        self.publish(b"first")
        self.house.settle()
        first = self.connect()
        self.house.store.hold = True
        assert first.session._reading is not None
        first.session._reading._loaded = 0  # as it is before the first page
        self.publish(b"second")
        self.house.close(first)
        self.house.settle()
        self.assertEqual(1, self.house.store.reads)

    def test_read_fails(self) -> None:
        """A queue that cannot be read is asked for again each second."""
        self.house.close(self.phone)
        self.publish(b"first")
        self.house.settle()
        self.house.store.fail_reads = Overloaded("busy")
        self.phone = self.connect()
        self.house.clock.pump([0.5] * 6)
        self.assertEqual((4, 4), (self.house.store.reads, len(self.house.reports)))
        self.house.store.fail_reads = None
        self.house.clock.advance(1)
        self.assertEqual([b"first"], self.phone.payloads())

    def test_disk_full(self) -> None:
        """While nothing can be stored QoS 1 goes on for those who are here, and QoS 2 after that."""
        self.house.stall()
        self.publish(b"1")
        self.publish(b"2", qos=2)
        self.house.clock.pump([1] * 5)
        self.assertEqual([b"1"], self.phone.payloads())
        self.house.store.fail = None
        self.house.clock.pump([1, 1])
        self.assertEqual([b"1", b"2"], self.phone.payloads())

    def test_page_in_flight_beyond_first(self) -> None:
        """No packet identifier is given out before all that are in flight are known."""
        self.publish(*self.numbers(130), qos=2)
        self.house.settle()
        self.house.crash()
        self.phone = self.connect()
        self.publish(*[b"new"] * 5, qos=2)
        self.house.settle()
        self.assertEqual(135, len(set(self.phone.packet_ids())))
        kept = self.successResultOf(self.house.store.queued(self.phone.session.key, 0, 1000, 1 << 30))
        self.assertEqual(self.phone.packet_ids(), [it.packet_id for it in kept])
        self.assertNotIn(RELEASED, [it.state for it in kept])


class BoundTests(SessionCase):
    """The queue is full."""

    bounds = Bounds(messages=10, size=10 * KIB, memory=10 * KIB, queue_qos0=True)

    def setUp(self) -> None:
        super().setUp()
        self.house.close(self.phone)

    def drain(self) -> list[bytes]:
        self.phone = self.connect()
        self.house.settle()
        while self.phone.acknowledge_all():
            self.house.settle()
        self.check_count()
        self.assertEqual(0, self.phone.session.count)
        return self.phone.payloads()

    def test_messages(self) -> None:
        """The newest are dropped past the bound, counted, and said once until it is empty again."""
        for _ in range(2):
            self.publish(*self.numbers(15))
            self.assertEqual(self.numbers(10), self.drain())
            self.house.close(self.phone)
        self.assertEqual((10, 2), (self.house.shared.dropped, len(self.house.reports)))

    def test_bytes(self) -> None:
        """Bytes are bounded; one message may wait alone, however long."""
        self.publish(bytes(50 * KIB), b"no")
        self.assertEqual([bytes(50 * KIB)], self.drain())

    def test_qos0_first(self) -> None:
        """The oldest at QoS 0 are dropped first."""
        self.publish(b"a", b"b", b"c", qos=0)
        self.publish(*self.numbers(9))
        self.assertEqual([b"c", *self.numbers(9)], self.drain())
        self.assertEqual(2, self.house.shared.dropped)

    def test_qos0_after_a_crash(self) -> None:
        """So they are when another process has read what is there."""
        self.publish(b"a", b"b", b"c", qos=0)
        self.house.settle()
        self.house.crash()
        self.publish(*self.numbers(9))
        self.assertEqual([b"c", *self.numbers(9)], self.drain())

    def test_qos0_dropped_while_it_is_read(self) -> None:
        """One that is dropped while it is read, or waits in memory, is not sent, and counted once."""
        for hold_reads in (True, False):
            self.publish(b"a", b"b", qos=0)
            self.publish(*self.numbers(8))
            self.house.settle()
            self.house.store.hold_reads = hold_reads
            self.phone = Phone(self.memory)
            self.phone.is_writable = False
            self.house.open(self.phone)
            self.publish(b"new")
            self.house.settle()
            self.check_count()
            self.phone.is_writable = True
            self.phone.session.pump()
            while self.phone.acknowledge_all():
                self.house.settle()
            self.assertEqual([b"b", *self.numbers(8), b"new"], self.phone.payloads())
            self.check_count()
            self.assertEqual(0, self.phone.session.count)
            self.house.close(self.phone)

    def test_qos0_order(self) -> None:
        """What comes while older ones at QoS 0 are on the disk stays behind them [MQTT-4.6.0-6]."""
        self.publish(b"a", b"b", qos=0)
        self.house.settle()
        self.house.store.hold_reads = True
        self.phone = self.connect()
        self.publish(b"c", qos=0)
        self.house.settle()
        self.publish(b"d", qos=0)
        self.assertEqual([b"a", b"b", b"c", b"d"], self.phone.payloads())
        self.check_count()

    def test_qos0_that_waited_in_memory(self) -> None:
        """What waits at QoS 0 for a client that goes is kept for it, once."""
        self.phone = self.connect()
        self.phone.is_writable = False
        self.publish(b"a", b"b", qos=0)
        self.house.close(self.phone)
        self.house.close(self.connect(receive_maximum=1))
        self.assertEqual([b"a", b"b"], self.memory.got[0])
        self.check_count()

    def test_memory_at_qos0(self) -> None:
        """Memory is full: the oldest at QoS 0 are dropped there, and from the disk if they are there."""
        self.publish(*[b"%d" % number + bytes(2 * KIB) for number in range(4)], qos=0)
        self.house.settle()
        self.phone = Phone(self.memory)
        self.phone.is_writable = False
        self.house.open(self.phone)
        self.house.settle()
        self.publish(*[b"n%d" % number + bytes(2 * KIB) for number in range(2)], qos=0)
        self.check_count()
        self.phone.is_writable = True
        self.phone.session.pump()
        self.check_count()
        self.assertEqual([b"2", b"3", b"n0", b"n1"], [it.rstrip(b"\0") for it in self.phone.payloads()])
        self.assertEqual((0, 2), (self.phone.session.count, self.house.shared.dropped))


class PassingTests(SessionCase):
    """A session that ends with its connection."""

    expiry = 0

    def test_no_disk(self) -> None:
        """It touches no disk."""
        self.publish(b"0", qos=0)
        self.publish(b"1", qos=1)
        self.publish(b"2", qos=2)
        self.phone.session.received(5)
        self.assertTrue(self.phone.session.released(5))
        self.assertEqual(3, len(self.phone.sent))
        self.phone.acknowledge_all()
        self.assertEqual(([b"0"], [b"1"], [b"2"]), tuple(self.memory.got.values()))
        self.assertEqual({}, self.phone.session.state.in_flight)
        self.house.close(self.phone)
        self.house.settle()
        self.assertEqual((0, {}), (self.house.store.commits, self.house.rights.held))

    def test_waits(self) -> None:
        """What it cannot be sent yet waits in memory, in order."""
        self.phone.receive_maximum = self.phone.session.state.send_quota = 2
        self.publish(*self.numbers(6))
        self.assertEqual(2, len(self.phone.sent))
        self.assertFalse(self.phone.session.is_ready())
        self.phone.acknowledge_all()
        self.assertEqual(self.numbers(6), self.phone.payloads())

    def test_too_slow(self) -> None:
        """At QoS 0 the oldest are dropped, then the new ones; at QoS 1 the client is let go."""
        self.phone.is_writable = False
        self.publish(*self.numbers(15, KIB), qos=0)
        self.assertEqual((7, 8), (len(self.phone.session.state.waiting), self.house.shared.dropped))
        self.publish(*self.numbers(7, KIB), qos=1)
        self.assertEqual((7, 15), (len(self.phone.session.state.waiting), self.house.shared.dropped))
        self.publish(b"0" + bytes(KIB), qos=0)
        self.assertEqual((16, []), (self.house.shared.dropped, self.phone.ended))
        self.publish(b"1" + bytes(KIB), qos=1)
        self.assertEqual((["too slow"], 0), (self.phone.ended, len(self.house.sessions)))


class FeedTests(SessionCase):
    """The retained messages of a new subscription."""

    def retained(self, count: int, qos: int = 1) -> None:
        for number in range(count):
            self.publish(b"%d" % number, qos=qos, topic=f"r/{number}", retain=True)

    def feed(self, phone: Phone, qos: int) -> None:
        found = self.house.retained.find(parse_filter("channels/c/messages/r/#"))
        phone.session.feed(found, qos, (7,))
        self.house.clock.advance(0)

    def test_kept(self) -> None:
        """At QoS 1 and 2 they are on the disk with everything else, with RETAIN."""
        other, _ = self.house.open(name="other")
        self.retained(5)
        self.feed(other, 1)
        self.assertEqual(5, other.session.count)
        self.assertEqual([True] * 5, [packet[5] for packet in other.sent])

    def test_qos0(self) -> None:
        """At QoS 0 they wait in memory until the client reads, and live ones pass them but on their topic."""
        other, _ = self.house.open(name="other", subscribe="#")
        self.retained(5)
        other.sent.clear()
        other.is_writable = False
        self.feed(other, 0)
        self.publish(b"new 3", qos=0, topic="r/3")
        self.publish(b"new", qos=0, topic="s")
        other.is_writable = True
        other.session.pump()
        self.assertEqual([b"3", b"new 3", b"new", b"0", b"1", b"2", b"4"], other.payloads())
        self.house.settle()
        self.assertEqual(0, other.session.count - 5)

    def test_acknowledged(self) -> None:
        """At QoS 1, where nothing is kept, they come as the client acknowledges them."""
        other, _ = self.house.open(Phone(receive_maximum=2), name="other", expiry=0)
        self.retained(9)
        self.feed(other, 1)
        self.assertEqual(2, len(other.sent))
        other.acknowledge_all()
        self.assertEqual(9, len(other.sent))

    def test_right_lost(self) -> None:
        """What the thing lost the right to while it waited does not come."""
        other, _ = self.house.open(name="other", expiry=0, thing="bob")
        self.retained(3)
        other.is_writable = False
        self.feed(other, 0)
        other.session.thing.channels.clear()  # type: ignore[attr-defined]
        other.is_writable = True
        other.session.pump()
        self.assertEqual([], other.sent)

    def test_bound(self) -> None:
        """However many there are, none is held for a client that does not read, until the end."""
        other, _ = self.house.open(name="other", expiry=0)
        self.retained(100)
        other.is_writable = False
        for _ in range(30):
            self.feed(other, 0)
        self.assertEqual((0, []), (len(other.session.state.waiting), other.ended))
        self.house.close(other)
        other.is_writable = True
        self.house.clock.advance(1)
        self.assertEqual([], other.sent)

    def test_nobody(self) -> None:
        """Nothing waits for a client that has gone meanwhile."""
        self.retained(3)
        self.house.close(self.phone)
        self.feed(self.phone, 0)
        phone = self.connect()
        self.house.settle()
        self.assertEqual([1] * 3, [packet[2] for packet in phone.sent])
