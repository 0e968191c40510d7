"""What an answer promises is committed first; answers keep their order, whether they wait or not."""

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mfserver.adapters.mqtt_answers import Answers
from mfserver.errors import Overloaded
from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Packet,
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
from tests.adapters.fakes import Wire
from tests.adapters.mqtt_case import MQTTTestCase, disconnects_in, packets

TOPIC = "channels/c/messages"
KEPT: dict[int, object] = {properties.SESSION_EXPIRY_INTERVAL: 60}


class CommitTestCase(MQTTTestCase):
    """A store whose commits wait until the test lets them happen."""

    def hold(self) -> None:
        """From now on nothing is committed by itself."""
        self.house.store.hold = True

    def commit(self) -> None:
        """What waits is committed, and the turn ends."""
        self.house.end_turn()
        self.house.store.release()
        self.house.end_turn()

    def say(self, wire: Wire, *said: Packet, version: int = 5) -> list[Packet]:
        """Send packets in one write. :return: what comes back until the turn ends."""
        wire.protocol.dataReceived(b"".join(encode(one, version) for one in said))
        return self.heard(wire, version)

    def heard(self, wire: Wire, version: int = 5) -> list[Packet]:
        """What has come until the turn ends."""
        self.house.end_turn()
        return packets(wire.take(), version)


class PublisherTests(CommitTestCase):
    """What is answered to a publisher."""

    def test_puback(self) -> None:
        """PUBACK comes when the message is in the queue of the subscriber that it waits for."""
        alice, bob = self.connect("alice"), self.connect("bob", properties=KEPT)
        self.subscribe(bob, TOPIC)
        bob.lose()
        self.hold()
        self.assertEqual([], self.say(alice, Publish(TOPIC, b"x", qos=1, packet_id=1)))
        self.commit()
        self.assertEqual([Puback(1, 0)], self.heard(alice))

    def test_qos_2(self) -> None:
        """PUBREC and PUBCOMP come after their commits, and a repeated PUBLISH is not published again."""
        for version in (3, 4, 5):
            with self.subTest(version=version):
                self.house.store.hold = False
                bob = self.connect("bob")
                self.subscribe(bob, TOPIC, qos=0)
                if version == 5:
                    alice = self.connect("alice", properties=KEPT)
                else:
                    alice = self.connect("alice", version, clean_start=False)
                self.hold()
                publish = Publish(TOPIC, b"x", qos=2, packet_id=1)
                self.assertEqual([], self.say(alice, publish, version=version))
                self.assertEqual(
                    [], self.say(alice, Publish(TOPIC, b"x", 2, packet_id=1, dup=True), version=version)
                )
                self.commit()
                self.assertEqual([Pubrec(1, 0)] * 2, self.heard(alice, version))
                self.assertEqual([], self.say(alice, Pubrel(1, 0), version=version))
                self.commit()
                self.assertEqual([Pubcomp(1, 0)], self.heard(alice, version))
                self.assertEqual(1, len(self.delivered(bob)))
                self.house.store.hold = False

    def test_released_twice(self) -> None:
        """PUBREL of what is not there is told so in 5.0, behind the PUBCOMP that waits."""
        alice = self.connect("alice", properties=KEPT)
        self.say(alice, Publish(TOPIC, b"x", qos=2, packet_id=1))
        self.hold()
        self.assertEqual([], self.say(alice, Pubrel(1, 0), Pubrel(1, 0)))
        self.commit()
        self.assertEqual([Pubcomp(1, 0), Pubcomp(1, 0x92)], self.heard(alice))

    def test_released_again(self) -> None:
        """A client that resumes and says PUBREL again is told that all is well: nothing failed (2.4)."""
        self.connect("alice", properties=KEPT).lose()
        alice = self.connect("alice", clean_start=False, properties=KEPT)
        self.assertEqual([Pubcomp(1, 0)], self.say(alice, Pubrel(1, 0)))

    def test_order(self) -> None:
        """Answers that wait for nothing wait for those before them, refusals too [MQTT-4.6.0-2]."""
        alice, bob = self.connect("alice"), self.connect("bob", properties=KEPT)
        self.house.mqtt.limits.receive_maximum = 10
        self.subscribe(bob, f"{TOPIC}/kept")
        self.hold()
        answer = self.say(
            alice,
            Publish(f"{TOPIC}/other", b"x", qos=1, packet_id=1),
            Publish(f"{TOPIC}/kept", b"x", qos=1, packet_id=2),
            Publish(f"{TOPIC}/other", b"x", qos=1, packet_id=3),
            Publish("channels/e/messages", b"x", qos=1, packet_id=4),
            Subscribe(5, [Subscription(TOPIC)]),
            Publish(f"{TOPIC}/other", b"x", qos=2, packet_id=6),
            Unsubscribe(7, [TOPIC]),
        )
        self.assertEqual([Puback(1, 0)], answer)
        self.commit()
        kinds = [(type(one), one.packet_id) for one in self.heard(alice)]  # type: ignore[attr-defined]
        self.assertEqual(
            [(Puback, 2), (Puback, 3), (Puback, 4), (Suback, 5), (Pubrec, 6), (Unsuback, 7)], kinds
        )

    def test_session_with_its_connection(self) -> None:
        """A session that ends with its connection touches no disk, whatever it does."""
        alice, bob = self.connect("alice"), self.connect("bob", 4)
        self.subscribe(alice, f"{TOPIC}/#", qos=2)
        self.subscribe(bob, f"{TOPIC}/#", version=4, qos=2)
        for qos in (0, 1, 2):
            self.say(alice, Publish(TOPIC, b"x", qos=qos, packet_id=9 if qos else 0))
        self.say(alice, Pubrel(9, 0))
        alice.lose()
        bob.lose()
        self.house.end_turn()
        self.assertEqual(0, self.house.store.commits)

    def test_failure(self) -> None:
        """What cannot be stored gets no acknowledgement, and its client is closed with 0x80."""
        for qos in (1, 2):
            alice, bob = self.connect("alice", properties=KEPT), self.connect("bob", properties=KEPT)
            self.subscribe(bob, TOPIC, qos=qos)
            bob.lose()
            self.house.end_turn()
            self.house.store.fail = OSError("the disk is broken")
            answer = self.say(alice, Publish(TOPIC, b"x", qos=qos, packet_id=1))
            self.assertEqual([0x80], disconnects_in(answer))
            self.assertEqual(1, len(answer))
            self.house.store.fail = None
            alice.lose()
            self.house.end_turn()
            self.assertEqual(1, len(self.flushLoggedErrors(Overloaded)))
            self.assertEqual(1, len(self.flushLoggedErrors(OSError)))


class SubscriberTests(CommitTestCase):
    """What is answered, and sent, to a subscriber."""

    def test_connack(self) -> None:
        """CONNACK of a session that is kept comes when it is."""
        self.hold()
        for version, options in ((5, {"properties": KEPT}), (4, {"clean_start": False})):
            wire = self.house.mqtt_wire()
            connect = Connect(version, "a", user_name="alice", password=b"key-of-alice", **options)
            self.assertEqual([], self.say(wire, connect, version=version))
            self.commit()
            (answer,) = self.heard(wire, version)
            assert isinstance(answer, Connack)
            self.assertEqual((0, version == 4), (answer.reason_code, answer.session_present))

    def test_connack_at_once(self) -> None:
        """That of any other needs no disk."""
        self.hold()
        self.connect("alice")
        self.connect("alice", 4)
        self.assertEqual([], self.house.store.waiting)

    def test_suback_and_unsuback(self) -> None:
        """They come when the subscription is kept, or is not any more."""
        bob = self.connect("bob", properties=KEPT)
        self.hold()
        self.assertEqual([], self.say(bob, Subscribe(1, [Subscription(TOPIC, 1)])))
        self.commit()
        self.assertEqual([Suback(1, [1])], self.heard(bob))
        self.assertEqual([], self.say(bob, Unsubscribe(2, [TOPIC])))
        self.commit()
        self.assertEqual([Unsuback(2, [0])], self.heard(bob))

    def test_nothing_to_commit(self) -> None:
        """A SUBSCRIBE that is refused and an UNSUBSCRIBE of nothing promise nothing."""
        bob = self.connect("bob", properties=KEPT)
        self.hold()
        answer = self.say(bob, Subscribe(1, [Subscription("elsewhere")]), Unsubscribe(2, [TOPIC]))
        self.assertEqual([Suback(1, [0x8F]), Unsuback(2, [0x11])], answer)

    def test_qos_1(self) -> None:
        """Live delivery does not wait at QoS 1."""
        alice, bob = self.connect("alice"), self.connect("bob", properties=KEPT)
        self.subscribe(bob, TOPIC)
        self.hold()
        self.say(alice, Publish(TOPIC, b"x", qos=1, packet_id=1))
        (publish,) = self.heard(bob)
        self.assertIsInstance(publish, Publish)

    def test_qos_2(self) -> None:
        """At QoS 2 PUBLISH waits for its packet identifier's commit, PUBREL for that of PUBREC."""
        alice, bob = self.connect("alice"), self.connect("bob", properties=KEPT)
        self.subscribe(bob, TOPIC, qos=2)
        self.hold()
        self.say(alice, Publish(TOPIC, b"x", qos=2, packet_id=1))
        self.assertEqual([], self.heard(bob))
        self.commit()
        (publish,) = self.heard(bob)
        assert isinstance(publish, Publish)
        self.assertEqual([], self.say(bob, Pubrec(publish.packet_id, 0)))
        self.commit()
        self.assertEqual([Pubrel(publish.packet_id, 0)], self.heard(bob))
        self.say(bob, Pubcomp(publish.packet_id, 0))
        bob.lose()
        self.commit()
        self.house.store.hold = False
        self.connect("bob", clean_start=False, properties=KEPT)
        self.assertEqual([], self.sent_at_once)

    def test_qos_2_unknown(self) -> None:
        """PUBREC for what was never sent is answered with 0x92."""
        bob = self.connect("bob")
        self.assertEqual([Pubrel(7, 0x92)], self.say(bob, Pubrec(7, 0)))


class HoldUpTests(CommitTestCase):
    """Whoever is faster than the disk is not read, whatever it sends."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.house.thing("alice", "c")
        self.wire = self.connect("alice", properties=KEPT)
        self.hold()

    def check_held_up(self) -> None:
        """Reading has stopped, and goes on after the commit."""
        self.assertEqual("paused", self.wire.producerState)
        self.commit()
        self.assertEqual("producing", self.wire.producerState)

    def test_subscribe(self) -> None:
        """SUBSCRIBE and UNSUBSCRIBE."""
        self.say(self.wire, Subscribe(1, [Subscription(TOPIC)]), Unsubscribe(2, [TOPIC]))
        self.check_held_up()
        self.assertEqual([Suback(1, [0]), Unsuback(2, [0])], self.heard(self.wire))

    def test_pubrel(self) -> None:
        """PUBREL of anything, behind an answer that waits."""
        self.say(self.wire, Subscribe(1, [Subscription(TOPIC)]), Pubrel(2, 0))
        self.check_held_up()
        self.assertEqual([Suback(1, [0]), Pubcomp(2, 0x92)], self.heard(self.wire))

    def test_refused(self) -> None:
        """A PUBLISH that is refused."""
        self.say(
            self.wire,
            Subscribe(1, [Subscription(TOPIC)]),
            Publish("channels/e/messages", b"x", qos=1, packet_id=2),
        )
        self.check_held_up()
        self.assertEqual([Suback(1, [0]), Puback(2, 0x87)], [_bare(one) for one in self.heard(self.wire)])

    def test_qos_0_while_congested(self) -> None:
        """QoS 0 waits for nothing, but while very much waits for the disk it is not read either."""
        other = self.connect("bob")
        self.say(other, Publish(TOPIC, b"x"))
        self.assertEqual("producing", other.producerState)
        for packet_id in range(1, 20_003):
            self.house.journal.received(self.wire.protocol._client.session.key, packet_id, True)
        self.say(other, Publish(TOPIC, b"x"))
        self.assertEqual("paused", other.producerState)
        self.commit()
        self.commit()
        self.assertEqual("producing", other.producerState)


class Line:
    """A link and a disk that have nothing to do.

    :ivar sent: a 0 for each time that it was to be written.
    """

    congested = stalled = False

    def __init__(self, sent: list[int]) -> None:
        self.sent = sent

    def write_soon(self) -> None:
        self.sent.append(0)

    def flush(self) -> None:
        raise AssertionError("that is the turn's")

    def read(self, go_on: bool) -> None:
        raise AssertionError("there is nothing to hold up")

    def close(self, reason_code: int, reason: str) -> None:
        raise AssertionError(reason)

    fail = close


class AnswersTests(SynchronousTestCase):
    """The queue of answers by itself."""

    def setUp(self) -> None:
        self.sent: list[int] = []
        self.failures: list[Failure] = []
        line = Line(self.sent)
        self.answers = Answers(line, line, 10, self.failures.append, can_refuse=True)

    def add(self, number: int, committed: "Deferred[None] | None") -> None:
        """Answer with a number."""
        self.answers.add(committed, lambda: self.sent.append(number))

    def test_any_order_of_commits(self) -> None:
        """Commits may come in any order: the answers do not."""
        commits: list[Deferred[None]] = [Deferred() for _ in range(3)]
        for number, commit in enumerate(commits, 1):
            self.add(number, commit)
        self.add(4, None)
        commits[2].callback(None)
        commits[0].callback(None)
        self.assertEqual(([1, 0], 3), (self.sent, len(self.answers)))
        commits[1].callback(None)
        self.assertEqual(([1, 0, 2, 3, 4, 0], 0), (self.sent, len(self.answers)))

    def test_failure(self) -> None:
        """After the first failure nothing is answered, and nothing else is told."""
        commits: list[Deferred[None]] = [Deferred() for _ in range(3)]
        for number, commit in enumerate(commits, 1):
            self.add(number, commit)
        commits[1].errback(OSError())
        commits[0].callback(None)
        commits[2].errback(OSError())
        self.assertEqual(([], 1), (self.sent, len(self.failures)))

    def test_over(self) -> None:
        """What is added when it is over is not answered, and its failure is nobody's."""
        self.answers.stop()
        self.add(1, None)
        late: Deferred[None] = Deferred()
        self.add(2, late)
        late.errback(OSError())
        self.add(3, succeed(None))
        self.assertEqual(([], [], 0), (self.sent, self.failures, len(self.answers)))

    def test_added_within_an_answer(self) -> None:
        """What the last answer of those that wait adds is not forgotten, whatever else it lets go."""
        first: Deferred[None] = Deferred()
        second: Deferred[None] = Deferred()
        third: Deferred[None] = Deferred()

        def send() -> None:
            self.add(2, second)
            second.callback(None)
            self.add(3, third)

        self.answers.add(first, send)
        self.assertFalse(self.answers.is_free)
        first.callback(None)
        self.assertFalse(self.answers.is_free)
        self.assertEqual(1, len(self.answers))
        third.callback(None)
        self.assertTrue(self.answers.is_free)
        self.assertEqual([2, 3], [number for number in self.sent if number])

    def test_ends_within_an_answer(self) -> None:
        """An answer that ends the connection is the last."""
        commit: Deferred[None] = Deferred()
        self.answers.add(commit, self.answers.stop)
        self.add(1, None)
        commit.callback(None)
        self.assertEqual([0], self.sent)


def _bare(packet: Packet) -> Packet:
    """A packet without its reason string."""
    packet.properties = None  # type: ignore[attr-defined]
    return packet
