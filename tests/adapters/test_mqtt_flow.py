"""An MQTT client and what waits for it: a turn's one write, back-pressure, and the commit."""

from mfserver.mqtt import constants as mqtt
from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Puback,
    Publish,
    Will,
)
from mfserver.records import ChannelId
from mfserver.turn import Turn
from tests.adapters.durable import DurableBus
from tests.adapters.mqtt_case import MQTTTestCase, disconnects, disconnects_in, packets, pubacks

TOPIC = "channels/c/messages"


class TurnTests(MQTTTestCase):
    """One write per connection and reactor turn."""

    def test_one_write(self) -> None:
        """Many deliveries of one turn are one write each; nothing is written before the turn ends."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, f"{TOPIC}/#")
        writes: list[bytes] = []
        bob.write = writes.append  # type: ignore[method-assign]
        data = b"".join(encode(Publish(TOPIC, bytes([index])), 5) for index in range(50))
        alice.receive(data)
        self.assertEqual([], writes)
        self.house.end_turn()
        (write,) = writes
        self.assertEqual(50, len(packets(write)))

    def test_one_call(self) -> None:
        """The reactor is asked once a turn, and one connection that fails keeps no other back."""

        class Broken:
            def flush(self) -> None:
                raise ZeroDivisionError

        class Counted:
            count = 0

            def flush(self) -> None:
                self.count += 1

        turn, counted = Turn(self.house.clock), Counted()
        for flushable in (Broken(), counted, counted):
            turn.add(flushable)
        self.assertEqual(1, len(self.house.clock.getDelayedCalls()))
        self.house.end_turn()
        self.assertEqual(1, counted.count)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.house.end_turn()
        self.assertEqual(1, counted.count)

    def test_clock_set_back(self) -> None:
        """A clock that is set back in the middle of a turn holds nothing up."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, f"{TOPIC}/#")
        alice.receive(encode(Publish(TOPIC, b"1"), 5))
        self.house.clock.rightNow -= 3600.0
        alice.receive(encode(Publish(TOPIC, b"2"), 5))
        self.house.end_turn()
        self.assertEqual([b"1", b"2"], [payload for _, payload, _ in self.delivered(bob)])


class BackPressureTests(MQTTTestCase):
    """A client that does not read is bounded."""

    def setUp(self) -> None:
        super().setUp()
        self.publisher, self.slow = self.connect("alice"), self.connect("bob")
        self.subscribe(self.slow, f"{TOPIC}/#")

    def test_waits(self) -> None:
        """Nothing is written while the transport takes nothing; then all of it, in its order."""
        self.slow.producer.pauseProducing()
        for index in range(3):
            self.publish(self.publisher, TOPIC, bytes([index]))
        self.assertEqual(b"", self.slow.take())
        self.slow.producer.resumeProducing()
        self.house.end_turn()
        self.assertEqual([b"\0", b"\1", b"\2"], [payload for _, payload, _ in self.delivered(self.slow)])

    def test_a_channel_is_lost_meanwhile(self) -> None:
        """What waits for a client that does not read is not delivered any more; other channels' is."""
        self.bob.channels.add(ChannelId("d"))
        self.subscribe(self.slow, "channels/d/messages")
        self.slow.producer.pauseProducing()
        for topic in (TOPIC, f"{TOPIC}/a", "channels/d/messages"):
            for qos in (0, 1):
                self.publish(self.publisher, topic, qos=qos)
        self._lose_channel()
        self.slow.producer.resumeProducing()
        self.house.end_turn()
        self.assertEqual(
            [("channels/d/messages", 0), ("channels/d/messages", 1)],
            [(topic, qos) for topic, _, qos in self.delivered(self.slow)],
        )

    def test_a_channel_is_lost_behind_the_send_quota(self) -> None:
        """A client that acknowledges late gets nothing more of a channel that it lost in between."""
        slow = self.connect("bob", client_id="quota", properties={properties.RECEIVE_MAXIMUM: 1})
        self.subscribe(slow, TOPIC)
        for index in range(3):
            self.publish(self.publisher, TOPIC, bytes([index]), qos=1)
        (sent,) = packets(slow.take())
        assert isinstance(sent, Publish)
        self._lose_channel()
        self.assertEqual(b"", slow.receive(encode(Puback(sent.packet_id), 5)))

    def test_the_thing_is_deleted_meanwhile(self) -> None:
        """The last that a client hears is why it is closed, not what waited for it."""
        self.slow.producer.pauseProducing()
        self.publish(self.publisher, TOPIC)
        for _, connection in self.house.gate.logged_in:
            assert connection is not None
            connection.end("the thing was deleted")
        self.assertEqual([mqtt.NOT_AUTHORIZED], disconnects(self.slow))

    def _lose_channel(self) -> None:
        """Bob is disconnected from channel c."""
        self.bob.channels.remove(ChannelId("c"))
        for thing, connection in self.house.gate.logged_in:
            if thing == "bob":
                assert connection is not None
                connection.channel_lost(ChannelId("c"))

    def test_qos_0_is_dropped(self) -> None:
        """Past the bound the oldest at QoS 0 are dropped and counted, and the client stays."""
        self.slow.producer.pauseProducing()
        for index in range(5):
            self.publish(self.publisher, TOPIC, bytes([index]) * 900)
        self.slow.producer.resumeProducing()
        self.house.end_turn()
        self.assertEqual([b"\3" * 900, b"\4" * 900], [payload for _, payload, _ in self.delivered(self.slow)])
        self.assertFalse(self.slow.disconnecting)
        self.assertEqual(3, self.house.sessions.shared.dropped)

    def test_qos_0_goes_before_qos_1(self) -> None:
        """What is dropped is QoS 0, also where a QoS 1 message is older."""
        self.slow.producer.pauseProducing()
        for qos, payload in ((1, b"1"), (0, b"2"), (1, b"3")):
            self.publish(self.publisher, TOPIC, payload * 900, qos=qos)
        self.slow.producer.resumeProducing()
        self.house.end_turn()
        self.assertEqual(
            [(b"1" * 900, 1), (b"3" * 900, 1)],
            [(payload, qos) for _, payload, qos in self.delivered(self.slow)],
        )

    def test_qos_1_ends_it(self) -> None:
        """Past the bound QoS 1 ends the client with 0x97, and the log is told once."""
        self.slow.producer.pauseProducing()
        for _ in range(6):
            self.publish(self.publisher, TOPIC, b"x" * 900, qos=1)
        self.assertTrue(self.slow.disconnecting)
        self.assertEqual([0x97], disconnects_in(packets(self.slow.take())))
        ((kind, detail),) = self.house.reports
        self.assertEqual(("an MQTT client is closed", "192.0.2.7"), (kind, detail.partition(":")[0]))


class DurableTests(MQTTTestCase):
    """With a bus that commits, an acknowledgement waits for the commit."""

    def setUp(self) -> None:
        super().setUp()
        self.bus = DurableBus(self.house.router.deliver)
        self.house.router.bus = self.bus

    def test_puback(self) -> None:
        """Live delivery does not wait; the PUBACK does, and is written within the turn of the commit."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, TOPIC)
        self.assertEqual([], self.publish(alice, TOPIC, qos=1))
        self.assertEqual(1, len(self.delivered(bob)))
        self.bus.commits[0].callback(None)
        self.house.end_turn()
        self.assertEqual([(9, 0)], pubacks(packets(alice.take())))

    def test_qos_0(self) -> None:
        """QoS 0 has no answer, but counts as what is to be committed."""
        alice = self.connect("alice", 4)
        self.publish(alice, TOPIC, version=4)
        self.publish(alice, TOPIC, version=4)
        self.assertEqual("paused", alice.producerState)
        self.bus.commits[0].callback(None)
        self.house.end_turn()
        self.assertEqual(b"", alice.take())
        self.assertEqual("producing", alice.producerState)

    def test_reading_stops(self) -> None:
        """At receive_maximum messages under way reading stops, and goes on below it."""
        alice = self.connect("alice", 4)
        data = b"".join(encode(Publish(TOPIC, b"x", qos=1, packet_id=index), 4) for index in (1, 2, 3))
        alice.receive(data)
        self.assertEqual("paused", alice.producerState)
        self.bus.commits[0].callback(None)
        self.assertEqual("paused", alice.producerState)
        self.bus.commits[1].callback(None)
        self.assertEqual("producing", alice.producerState)
        self.bus.commits[2].callback(None)
        self.house.end_turn()
        self.assertEqual([(1, 0), (2, 0), (3, 0)], pubacks(packets(alice.take(), 4)))

    def test_reading_stops_behind_connect(self) -> None:
        """What came behind the CONNECT counts too."""
        self.house.gate.held = []
        wire = self.house.mqtt_wire()
        data = encode(Connect(4, "a", user_name="alice", password=b"key-of-alice"), 4)
        data += encode(Publish(TOPIC, b"x"), 4) * 2
        wire.receive(data)
        self.house.gate.held.pop()()
        self.assertEqual([Connack], [type(one) for one in packets(wire.take(), 4)])
        self.assertEqual(2, len(self.bus.commits))
        self.assertEqual("paused", wire.producerState)
        self.bus.commits[0].callback(None)
        self.assertEqual("producing", wire.producerState)

    def test_failure(self) -> None:
        """A message that could not be kept gets no PUBACK: the client is closed and sends it again."""
        for version, expected in ((5, [0x80]), (4, [])):
            alice = self.connect("alice", version)
            self.publish(alice, TOPIC, qos=1, version=version)
            self.bus.commits.pop().errback(OSError("disk full"))
            answer = packets(alice.take(), version)
            self.assertEqual(([], expected), (pubacks(answer), disconnects_in(answer)))
            self.assertTrue(alice.disconnecting)
            self.assertEqual(1, len(self.flushLoggedErrors(OSError)))

    def test_commit_after_the_end(self) -> None:
        """A commit or its failure finds a connection that is over, and says nothing to it, nor to the log."""
        alice = self.connect("alice")
        self.publish(alice, TOPIC, qos=1)
        self.publish(alice, TOPIC)
        alice.lose()
        self.bus.commits[0].callback(None)
        self.bus.commits[1].errback(OSError())
        self.house.end_turn()
        self.assertEqual(b"", alice.take())

    def test_will(self) -> None:
        """A will that cannot be kept is one line in the log."""
        for outcome in (None, OSError()):
            self.connect("alice", will=Will(TOPIC, b"w")).lose()
            commit = self.bus.commits.pop()
            commit.callback(None) if outcome is None else commit.errback(outcome)
            self.assertEqual(0 if outcome is None else 1, len(self.flushLoggedErrors(OSError)))
