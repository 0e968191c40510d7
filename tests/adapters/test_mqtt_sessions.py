"""Sessions of MQTT clients, in memory: what is still there when a client comes back, and who has it."""

from typing import Any

from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import Connack, Connect, Disconnect, Publish, Will
from mfserver.records import Change, ChannelId, ThingId
from tests.adapters.fakes import Wire
from tests.adapters.mqtt_case import MQTTTestCase, disconnects, packets, publishes

TOPIC = "channels/c/messages"


def expiry(seconds: int) -> dict[int, object]:
    """The property that asks for a session of this length."""
    return {properties.SESSION_EXPIRY_INTERVAL: seconds}


class SessionTests(MQTTTestCase):
    """What is kept, and for how long."""

    def setUp(self) -> None:
        super().setUp()
        self.publisher = self.connect("alice")

    def leave(self, wire: Wire, version: int = 5, *, says: dict[int, object] | None = None) -> None:
        """A client says good-bye and goes."""
        wire.receive(encode(Disconnect(0, says), version))
        wire.lose()

    def come_back(self, version: int = 5, **options: Any) -> list[bytes]:
        """Bob resumes. :return: the payloads that waited for him."""
        options.setdefault("clean_start", False)
        self.wire = self.connect("bob", version, **options)
        waited = [one.payload for one in publishes(self.sent_at_once)]
        self.house.end_turn()
        return waited + [one.payload for one in publishes(packets(self.wire.take(), version))]

    def test_resumed(self) -> None:
        """Subscriptions and what came at QoS 1 and 2 meanwhile are there; QoS 0 is not."""
        for version in (3, 4, 5):
            with self.subTest(version=version):
                options: dict[str, Any] = {"properties": expiry(60)} if version == 5 else {}
                wire = self.connect("bob", version, clean_start=False, **options)
                self.assertFalse(self.connack.session_present)
                self.subscribe(wire, TOPIC, version=version, qos=2)
                self.leave(wire, version)
                for qos in (0, 1, 2):
                    self.publish(self.publisher, TOPIC, b"%d" % qos, qos=qos)
                    self.house.end_turn()
                self.publisher.receive(encode(Disconnect(), 5))
                self.publisher.lose()
                self.publisher = self.connect("alice")
                self.assertEqual([b"1", b"2"], self.come_back(version, **options))
                self.assertEqual(version != 3, self.connack.session_present)
                self.publish(self.publisher, TOPIC, b"live")
                self.assertEqual([b"live"], [payload for _, payload, _ in self.delivered(self.wire, version)])
                self.wire.lose()
                self.connect("bob", version, clean_start=True).lose()

    def test_clean_start(self) -> None:
        """A clean start finds nothing, and leaves nothing of the old one."""
        for version in (4, 5):
            options: dict[str, Any] = {"properties": expiry(60)} if version == 5 else {}
            wire = self.connect("bob", version, clean_start=False, **options)
            self.subscribe(wire, TOPIC, version=version)
            wire.lose()
            self.publish(self.publisher, TOPIC, qos=1)
            self.assertEqual([], self.come_back(version, clean_start=True, **options))
            self.assertFalse(self.connack.session_present)
            self.publish(self.publisher, TOPIC)
            self.assertEqual([], self.delivered(self.wire, version))
            self.wire.lose()

    def test_expires(self) -> None:
        """It is there until its expiry has passed since the end of its connection."""
        for seconds, is_there in ((59, True), (61, False)):
            wire = self.connect("bob", properties=expiry(60))
            self.house.clock.advance(1000)
            self.subscribe(wire, TOPIC)
            wire.lose()
            self.house.clock.advance(seconds)
            self.come_back()
            self.assertEqual(is_there, self.connack.session_present)
            self.leave(self.wire)

    def test_expiry_of_disconnect(self) -> None:
        """DISCONNECT may change it: to nothing, which ends it at once, and to more."""
        wire = self.connect("bob", properties=expiry(60))
        self.leave(wire, says=expiry(0))
        self.assertEqual(1, len(self.house.sessions))
        wire = self.connect("bob", properties=expiry(60))
        self.leave(wire, says=expiry(600))
        self.house.clock.advance(599)
        self.come_back(properties=expiry(60))
        self.assertTrue(self.connack.session_present)

    def test_no_longer_than_allowed(self) -> None:
        """What is asked for past the bound is shortened, and CONNACK says so; DISCONNECT changes nothing."""
        self.house.mqtt.longest_expiry = 100
        for asked, said in ((101, 100), (100, None), (0xFFFFFFFF, 100), (0, None)):
            self.connect("bob", properties=expiry(asked)).lose()
            self.assertEqual(
                said, (self.connack.properties or {}).get(properties.SESSION_EXPIRY_INTERVAL), asked
            )
        self.leave(self.connect("bob", properties=expiry(50)), says=expiry(0xFFFFFFFF))
        self.house.clock.advance(101)
        self.come_back()
        self.assertFalse(self.connack.session_present)

    def test_none_allowed(self) -> None:
        """Where sessions end with their connections, 5.0 is told and 3.1.1 finds none."""
        self.house.mqtt.longest_expiry = 0
        self.connect("bob", properties=expiry(60)).lose()
        self.assertEqual(0, (self.connack.properties or {})[properties.SESSION_EXPIRY_INTERVAL])
        self.connect("bob", 4, clean_start=False).lose()
        self.connect("bob", 4, clean_start=False).lose()
        self.assertFalse(self.connack.session_present)
        self.assertEqual(0, self.house.store.commits)

    def test_too_many(self) -> None:
        """One session more than a thing may have is refused with 0x97, and its connection is nobody's."""
        self.house.sessions._max_kept = 2
        for index in range(2):
            self.connect("bob", client_id=f"bob-{index}", properties=expiry(60)).lose()
        wire = self.house.mqtt_wire()
        connect = Connect(5, "bob-2", user_name="bob", password=b"key-of-bob", properties=expiry(60))
        (answer,) = packets(wire.receive(encode(connect, 5)))
        assert isinstance(answer, Connack)
        self.assertEqual(0x97, answer.reason_code)
        wire.lose()
        self.assertEqual(["alice"], [str(thing) for thing, _ in self.house.gate.logged_in])
        self.connect("bob", client_id="bob-1", clean_start=False, properties=expiry(60))
        self.assertTrue(self.connack.session_present)

    def test_does_not_read(self) -> None:
        """A client that does not read keeps its session: all of QoS 1 is there when it does."""
        self.house.sessions.shared.bounds.messages = 1000
        slow = self.connect("bob", properties=expiry(60))
        self.subscribe(slow, TOPIC)
        slow.producer.pauseProducing()
        for index in range(20):
            self.publish(self.publisher, TOPIC, bytes([index]) * 900, qos=1)
        self.assertFalse(slow.disconnecting)
        slow.producer.resumeProducing()
        self.house.clock.advance(0.2)
        self.assertEqual(
            [bytes([index]) * 900 for index in range(20)], [payload for _, payload, _ in self.delivered(slow)]
        )


class TakeoverTests(MQTTTestCase):
    """Two connections of one client."""

    def setUp(self) -> None:
        super().setUp()
        self.listener = self.connect("bob")
        self.subscribe(self.listener, f"{TOPIC}/#")

    def heard(self) -> list[bytes]:
        """The payloads that bob heard."""
        self.house.end_turn()
        return [payload for _, payload, _ in self.delivered(self.listener)]

    def test_will(self) -> None:
        """The older one's will is published, whatever begins: the session goes on, or a new one begins."""
        for clean_start in (False, True):
            will = Will(f"{TOPIC}/will", b"gone")
            older = self.connect("alice", will=will, properties=expiry(60))
            newer = self.connect("alice", clean_start=clean_start, properties=expiry(60))
            self.assertEqual(not clean_start, self.connack.session_present)
            self.assertEqual([0x8E], disconnects(older))
            self.assertEqual([b"gone"], self.heard())
            older.lose()
            self.assertEqual([], self.heard())
            newer.receive(encode(Disconnect(0, expiry(0)), 5))
            newer.lose()

    def test_delayed_will(self) -> None:
        """A will with a delay is not, where the session goes on; where it ends, it is."""
        for clean_start, expected in ((False, []), (True, [b"gone"])):
            will = Will(f"{TOPIC}/will", b"gone", properties={properties.WILL_DELAY_INTERVAL: 30})
            older = self.connect("alice", will=will, properties=expiry(60))
            newer = self.connect("alice", clean_start=clean_start, properties=expiry(60))
            older.lose()
            self.house.clock.advance(50)
            self.assertEqual(expected, self.heard())
            newer.receive(encode(Disconnect(0, expiry(0)), 5))
            newer.lose()

    def test_old_versions(self) -> None:
        """3.1.1 is closed without a word, and its session goes on with its subscriptions."""
        older = self.connect("alice", 4, clean_start=False)
        self.subscribe(older, TOPIC, version=4)
        newer = self.connect("alice", 4, clean_start=False)
        self.assertTrue(self.connack.session_present)
        self.assertEqual(b"", older.take())
        self.assertTrue(older.disconnecting)
        self.publish(self.listener, TOPIC)
        self.assertEqual(1, len(self.delivered(newer, 4)))

    def test_both_being_decided(self) -> None:
        """Two at once: the later has it, the earlier is closed, and the session is there once."""
        self.house.store.hold = True
        wires = []
        for _ in range(2):
            wire = self.house.mqtt_wire()
            connect = Connect(5, "a", user_name="alice", password=b"key-of-alice", properties=expiry(60))
            wire.receive(encode(connect, 5))
            self.house.end_turn()
            wires.append(wire)
        for _ in range(3):
            self.house.store.release()
            self.house.end_turn()
        first, second = wires
        self.assertEqual((b"", True), (first.take(), first.disconnecting))
        (connack,) = packets(second.take())
        assert isinstance(connack, Connack)
        self.assertEqual(0, connack.reason_code)
        first.lose()
        self.assertEqual(2, len(self.house.sessions))
        self.assertEqual(["alice", "bob"], sorted(str(thing) for thing, _ in self.house.gate.logged_in))


class DecisionTests(MQTTTestCase):
    """What happens while a CONNECT is being decided, between its authentication and its CONNACK."""

    def setUp(self) -> None:
        super().setUp()
        self.listener = self.connect("bob")
        self.subscribe(self.listener, f"{TOPIC}/#")
        self.house.store.hold = True
        self.wire = self.house.mqtt_wire()
        connect = Connect(5, "a", user_name="alice", password=b"key-of-alice", properties=expiry(60))
        connect.will = Will(f"{TOPIC}/will", b"gone")
        self.wire.receive(encode(connect, 5))
        self.house.end_turn()
        self.assertEqual(b"", self.wire.take())
        self.assertEqual(2, len(self.house.gate.logged_in))

    def check_nothing_left(self) -> None:
        """No session, no login, no will."""
        for _ in range(3):
            self.house.clock.advance(0.2)
            self.house.store.release()
        self.house.end_turn()
        self.assertEqual(1, len(self.house.sessions))
        self.assertEqual([], self.house.store.load().sessions)
        self.assertEqual(["bob"], [str(thing) for thing, _ in self.house.gate.logged_in])
        self.assertEqual([], self.delivered(self.listener))
        self.assertEqual(b"", self.wire.take())

    def test_lost(self) -> None:
        """The connection is lost: nothing of it is left, and its will was never one."""
        self.wire.lose()
        self.check_nothing_left()

    def test_deleted(self) -> None:
        """Its thing is deleted: CONNACK 0x87."""
        self.wire.protocol.end("the thing was deleted")
        self.house.sessions.changed(
            Change(things=(ThingId("alice"),), channels=(), connected=False, deleted=True)
        )
        (connack,) = packets(self.wire.take())
        assert isinstance(connack, Connack)
        self.assertEqual(0x87, connack.reason_code)
        self.wire.lose()
        self.check_nothing_left()

    def test_server_ends(self) -> None:
        """The server ends: CONNACK says so."""
        self.house.mqtt.going_away()
        self.assertTrue(self.wire.disconnecting)
        self.wire.take()
        self.wire.lose()
        self.listener.take()
        self.listener.lose()
        for _ in range(3):
            self.house.clock.advance(0.2)
            self.house.store.release()
        self.assertEqual(0, len(self.house.sessions))

    def test_channel_lost(self) -> None:
        """It loses a channel: its CONNECT is accepted, and its will is silent."""
        self.alice.channels.discard("c")
        self.wire.protocol.channel_lost(ChannelId("c"))
        self.house.store.release()
        self.house.end_turn()
        (connack,) = packets(self.wire.take())
        assert isinstance(connack, Connack)
        self.assertEqual(0, connack.reason_code)
        self.wire.lose()
        self.house.end_turn()
        self.assertEqual([], self.delivered(self.listener))


class WillTests(MQTTTestCase):
    """When a will is published, and when it is not."""

    def setUp(self) -> None:
        super().setUp()
        self.listener = self.connect("bob")
        self.subscribe(self.listener, f"{TOPIC}/#")

    def heard(self) -> list[bytes]:
        """The payloads that bob heard."""
        self.house.end_turn()
        return [payload for _, payload, _ in self.delivered(self.listener)]

    def test_delay(self) -> None:
        """After its delay, or when the session ends, whichever is first."""
        for delay, length, silent, then in ((30, 60, 29, 2), (60, 30, 29, 2), (30, 0, 0, 0)):
            will = Will(f"{TOPIC}/will", b"gone", properties={properties.WILL_DELAY_INTERVAL: delay})
            self.connect("alice", will=will, properties=expiry(length)).lose()
            if silent:
                self.house.clock.advance(silent)
                self.assertEqual([], self.heard())
            self.house.clock.advance(then)
            self.assertEqual([b"gone"], self.heard())

    def test_good_bye(self) -> None:
        """DISCONNECT 0x00 takes it back, DISCONNECT 0x04 publishes it; also where the session goes on."""
        for code, expected in ((0, []), (4, [b"gone"])):
            alice = self.connect("alice", will=Will(f"{TOPIC}/will", b"gone"), properties=expiry(60))
            alice.receive(encode(Disconnect(code), 5))
            alice.lose()
            self.assertEqual(expected, self.heard())

    def test_keep_alive(self) -> None:
        """A client that falls silent leaves it, once."""
        alice = self.connect("alice", will=Will(f"{TOPIC}/will", b"gone"), keep_alive=10)
        self.house.clock.advance(15.1)
        self.assertEqual([b"gone"], self.heard())
        alice.lose()
        self.assertEqual([], self.heard())

    def test_payload_format(self) -> None:
        """A will that is not the text that it says it is is refused at CONNECT: 0x99."""
        text: dict[int, object] = {properties.PAYLOAD_FORMAT_INDICATOR: 1}
        for payload, code in ((b"\xff", 0x99), ("é".encode(), 0)):
            wire = self.house.mqtt_wire()
            connect = Connect(5, "a", user_name="alice", password=b"key-of-alice")
            connect.will = Will(TOPIC, payload, properties=text)
            (connack,) = packets(wire.receive(encode(connect, 5)))
            assert isinstance(connack, Connack)
            self.assertEqual(code, connack.reason_code)
            wire.lose()

    def test_many_slow_listeners(self) -> None:
        """Wills of clients that do not read, each the one too many for the next, end them one by one."""
        things = [
            self.connect("alice", client_id=f"slow-{n}", will=Will(TOPIC, b"w" * 900, 1)) for n in range(150)
        ]
        for wire in things:
            self.subscribe(wire, f"{TOPIC}/#")
            wire.producer.pauseProducing()
        self.listener.lose()
        publisher = self.connect("bob")
        for _ in range(3):
            self.publish(publisher, TOPIC, b"x" * 900, qos=1)
        self.house.end_turn()
        self.assertTrue(all(wire.disconnecting for wire in things))
        self.assertEqual({0x97}, {code for wire in things for code in disconnects(wire)})
        self.assertEqual(1, len(self.house.sessions))


class SmallClientTests(MQTTTestCase):
    """A client that takes no packet as long as our CONNACK."""

    def test_connack(self) -> None:
        """It is closed without a word, and nothing of it is left."""
        said: dict[int, object] = {properties.MAXIMUM_PACKET_SIZE: 5}
        wire = self.house.mqtt_wire()
        connect = Connect(5, "a", user_name="alice", password=b"key-of-alice", properties=said)
        connect.will = Will(TOPIC, b"gone")
        self.assertEqual(b"", wire.receive(encode(connect, 5)))
        self.assertTrue(wire.disconnecting)
        wire.lose()
        self.assertEqual((0, []), (len(self.house.sessions), self.house.gate.logged_in))


class OtherServerTests(MQTTTestCase):
    """Where another server is configured, 5.0 is told of it."""

    def test_going_away(self) -> None:
        """At the end: DISCONNECT 0x9C with its address; 3.1.1 is closed."""
        self.house.mqtt.server_reference = "other.example.org:8883"
        new, old = self.connect("alice"), self.connect("bob", 4)
        self.house.mqtt.going_away()
        (said,) = packets(new.take())
        self.assertEqual(
            Disconnect(0x9C, {properties.SERVER_REFERENCE: "other.example.org:8883"}), _bare(said)
        )
        self.assertEqual((b"", True), (old.take(), old.disconnecting))

    def test_full(self) -> None:
        """When there are too many connections: CONNACK 0x9C; 3.1.1 is told that there is no server."""
        self.house.mqtt.server_reference = "other.example.org:8883"
        self.house.over_limit = True
        for version in (5, 4):
            wire = self.house.mqtt_wire()
            connect = Connect(version, "a", user_name="alice", password=b"key-of-alice")
            answer = packets(wire.receive(encode(connect, version)), version)
            self.assertTrue(wire.disconnecting)
            (connack,) = answer
            assert isinstance(connack, Connack)
            self.assertEqual(0x9C if version == 5 else 3, connack.reason_code)
            if version == 5:
                said = (connack.properties or {})[properties.SERVER_REFERENCE]
                self.assertEqual("other.example.org:8883", said)

    def test_other_ends(self) -> None:
        """It is not told to whom it would not help."""
        self.house.mqtt.server_reference = "other.example.org:8883"
        wire = self.connect("alice")
        wire.protocol.end("the thing was deleted")
        (said,) = packets(wire.take())
        self.assertEqual(Disconnect(0x87), _bare(said))

    def test_not_kept(self) -> None:
        """Publishing goes on for everybody else."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, TOPIC)
        self.publish(alice, TOPIC)
        self.assertEqual([Publish], [type(one) for one in packets(bob.take())])


def _bare(packet: object) -> Disconnect:
    """A DISCONNECT without its reason string."""
    assert isinstance(packet, Disconnect)
    said = {key: value for key, value in (packet.properties or {}).items() if key != properties.REASON_STRING}
    return Disconnect(packet.reason_code, said or None)


class UntoldTests(MQTTTestCase):
    """Sessions that no CONNACK told of."""

    def test_a_session_of_which_no_connack_told_is_not_present(self) -> None:
        """The connection that began it was lost before its CONNACK.

        A client that believes it keeps what it knows of an older session, and takes a new QoS 2 message with
        a packet identifier of then for one that it has.
        """
        house = self.house
        house.store.hold = True
        connect = Connect(5, "x", False, user_name="alice", password=b"key-of-alice", properties={0x11: 300})
        first, second = house.mqtt_wire(), house.mqtt_wire()
        first.receive(encode(connect, 5))
        house.clock.advance(1)
        first.lose()
        second.receive(encode(connect, 5))
        house.store.hold = False
        house.store.release()
        house.clock.advance(1)
        (answer,) = packets(second.take())
        assert isinstance(answer, Connack)
        self.assertFalse(answer.session_present)
