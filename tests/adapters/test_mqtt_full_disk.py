"""While the disk takes nothing: who can be told is told, who cannot waits, and nothing is lost."""

from mfserver.errors import Overloaded
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import Connack, Connect, Puback, Publish, Pubrec, Subscribe, Subscription
from tests.adapters.frames import WSTestCase
from tests.adapters.mqtt_case import packets, pubacks
from tests.adapters.test_mqtt_commits import KEPT, TOPIC, CommitTestCase


class FullDiskTests(CommitTestCase):
    """Bob's session is kept; the disk is full since the last message."""

    def setUp(self) -> None:
        super().setUp()
        self.publisher, self.listener = self.connect("alice"), self.connect("bob", properties=KEPT)
        self.subscribe(self.listener, TOPIC, qos=2)

    def fill(self) -> None:
        """The first commit fails: from then on it is known."""
        self.house.store.fail = Overloaded("no space left on device")
        self.assertEqual([], self.say(self.publisher, Publish(TOPIC, b"first", qos=1, packet_id=99)))
        self.assertTrue(self.house.journal.stalled)

    def make_room(self) -> None:
        """There is room again, and the journal has tried."""
        self.house.store.fail = None
        self.house.clock.advance(1.1)
        self.house.clock.advance(0.2)

    def test_5_0(self) -> None:
        """5.0 hears 0x97 at QoS 1 and 2, behind what waits, and goes on at QoS 0."""
        other = self.connect("alice", client_id="other")
        self.fill()
        self.heard(self.listener)
        answer = self.say(
            other, Publish(TOPIC, b"x", qos=1, packet_id=1), Publish(TOPIC, b"x", qos=2, packet_id=2)
        )
        self.assertEqual([Puback, Pubrec], [type(one) for one in answer])
        self.assertEqual([0x97, 0x97], [one.reason_code for one in answer])  # type: ignore[attr-defined]
        self.say(other, Publish(TOPIC, b"0"))
        self.assertEqual([(TOPIC, b"0", 0)], self.delivered(self.listener))
        self.assertEqual(("producing", False), (other.producerState, other.disconnecting))
        self.make_room()
        self.assertEqual([(99, 0)], pubacks(self.heard(self.publisher)))
        answer = self.say(other, Publish(TOPIC, b"x", qos=1, packet_id=1))
        self.assertEqual([(1, 0)], pubacks(answer))

    def test_3_1_1(self) -> None:
        """3.1.1 knows no refusal: it gets no acknowledgement and is not read on, until there is room."""
        old = self.connect("alice", 4, "old")
        self.fill()
        self.assertEqual([], self.say(old, Publish(TOPIC, b"second", 1, packet_id=1), version=4))
        self.assertEqual("paused", old.producerState)
        self.assertEqual([], self.say(old, Publish(TOPIC, b"third", 2, packet_id=2), version=4))
        self.house.clock.advance(30)
        self.assertEqual([], self.heard(old, 4))
        self.make_room()
        self.assertEqual([Puback(1, 0), Pubrec(2, 0)], self.heard(old, 4))
        self.assertEqual("producing", old.producerState)
        self.assertEqual(
            [b"first", b"second", b"third"], [payload for _, payload, _ in self.delivered(self.listener)]
        )

    def test_nothing_is_lost(self) -> None:
        """What was acknowledged afterwards is in the queue of who is away."""
        self.listener.lose()
        self.house.end_turn()
        self.fill()
        self.make_room()
        self.assertEqual([(99, 0)], pubacks(self.heard(self.publisher)))
        self.connect("bob", clean_start=False, properties=KEPT)
        self.assertEqual([b"first"], [one.payload for one in self.sent_at_once if isinstance(one, Publish)])

    def test_subscribe(self) -> None:
        """SUBACK of a session that is kept waits; that of any other does not."""
        self.fill()
        self.heard(self.listener)
        self.assertEqual([], self.say(self.listener, Subscribe(1, [Subscription(f"{TOPIC}/a")])))
        self.assertEqual("producing", self.listener.producerState)  # 5.0 can be told of what it sends next
        self.subscribe(self.connect("bob", client_id="other"), TOPIC)
        self.make_room()
        self.assertEqual(1, len(self.heard(self.listener)))

    def test_connect(self) -> None:
        """A session that is to be kept is refused until it can be; any other is let in."""
        self.fill()
        connect = Connect(5, "new", user_name="bob", password=b"key-of-bob", properties=KEPT)
        for version, code in ((5, 0x97), (4, 3)):
            refused = self.house.mqtt_wire()
            connect.version, connect.clean_start = version, False
            (connack,) = self.say(refused, connect, version=version)
            assert isinstance(connack, Connack)
            self.assertEqual(code, connack.reason_code)
            self.assertTrue(refused.disconnecting)
        self.connect("bob", client_id="not kept")
        self.make_room()
        self.connect("bob", client_id="new", clean_start=False, properties=KEPT)

    def test_client_that_waits_in_vain(self) -> None:
        """A client that goes while it waits leaves nothing: no session that nobody was told of."""
        self.house.store.hold = True
        waiting = self.house.mqtt_wire()
        connect = Connect(5, "new", user_name="bob", password=b"key-of-bob", properties=KEPT)
        self.say(waiting, connect)
        before = len(self.house.sessions)
        waiting.lose()
        self.house.store.hold = False
        self.house.store.release()
        self.house.clock.advance(1)
        self.assertEqual(before - 1, len(self.house.sessions))
        self.assertEqual(0, len([one for one in self.house.store.load().sessions if one.client_id == "new"]))
        self.assertEqual(["alice", "bob"], [str(thing) for thing, _ in self.house.gate.logged_in])


class HTTPTests(WSTestCase):
    """HTTP has a status for it."""

    def post(self) -> int:
        """The status of one message."""
        wire = self.house.web_wire()
        head = (
            f"POST /http/{TOPIC} HTTP/1.1\r\nHost: x\r\nAuthorization: key-of-alice\r\nContent-Length: 1\r\n"
        )
        wire.protocol.dataReceived(f"{head}\r\nx".encode())
        self.house.end_turn()
        status = int(wire.take().split()[1])
        wire.lose()
        return status

    def test_status(self) -> None:
        """503 while the disk is full, and 202 again when there is room."""
        self.assertEqual(202, self.post())
        bob = self.house.mqtt_wire()
        bob.protocol.dataReceived(
            encode(Connect(5, "b", user_name="bob", password=b"key-of-bob", properties=KEPT), 5)
        )
        self.house.end_turn()
        self.house.store.fail = Overloaded("no space left on device")
        bob.protocol.dataReceived(encode(Subscribe(1, [Subscription(TOPIC, 1)]), 5))
        self.house.end_turn()
        self.assertEqual(1, len(packets(bob.take())))
        self.assertEqual(503, self.post())
        self.house.store.fail = None
        self.house.clock.advance(1.1)
        self.assertEqual(202, self.post())
        self.house.end_turn()
        self.assertEqual(2, len(packets(bob.take())))
        bob.lose()
        self.house.clock.advance(0.2)
        self.house.sessions.stop()
