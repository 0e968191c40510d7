"""The normative statements of MQTT 5.0 and 3.1.1 about sessions and wills (3.1, 3.14, 4.1), on the wire."""

from itertools import product

from mfserver.mqtt import properties
from mfserver.mqtt.packets import Disconnect, Publish, Will
from tests.adapters.statement_case import TOPIC, VERSIONS, Client, StatementTestCase

_DAY = 86_400.0


class SessionTests(StatementTestCase):
    """A session begins, is resumed, and ends."""

    def leave(self, version: int, client_id: str = "s", kept: int = 100) -> None:
        """A session of alice's that is kept, with a subscription."""
        client = self.connect("alice", version, client_id, kept)
        client.subscribe(TOPIC, qos=1)
        client.lose()

    def heard_by(self, client: Client, payload: bytes) -> list[bytes]:
        """What arrives at a client when this is published."""
        self.connect("bob").publish(payload=payload, qos=1)
        return [one.payload for one in (*client.answer, *client.heard()) if isinstance(one, Publish)]

    def test_clean_start(self) -> None:
        """An earlier session is thrown away, queue and subscriptions: of 5.0 [MQTT-3.1.2-4] [MQTT-3.1.4-4]
        [MQTT-3.2.2-2], of 3.1.1 [MQTT-3.1.4-3] [MQTT-3.2.2-1]."""
        for version in VERSIONS:
            self.leave(version)
            self.connect("bob").publish(payload=b"old", qos=1)
            client = self.connect("alice", version, "s")
            self.assertFalse(client.connack.session_present)
            self.assertEqual([], self.heard_by(client, b"new"))
            client.lose()
            again = self.connect("alice", version, "s", kept=100, clean_start=False)
            self.assertFalse(again.connack.session_present)
            self.assertEqual([], self.heard_by(again, b"newer"))
            again.lose()
            self.connect("alice", version, "s").lose()

    def test_clean_session_lasts_one_connection(self) -> None:
        """Nothing is left of it: of 3.1.1 [MQTT-3.1.2-6]."""
        client = self.connect("alice", 4, "s")
        client.subscribe(TOPIC, qos=1)
        self.assertEqual([b"now"], self.heard_by(client, b"now"))
        client.lose()
        self.connect("bob").publish(payload=b"meanwhile", qos=1)
        again = self.connect("alice", 4, "s", kept=1)
        self.assertFalse(again.connack.session_present)
        self.assertEqual([], self.heard_by(again, b"later"))

    def test_resume(self) -> None:
        """Its subscriptions and what waits are there: of 5.0 [MQTT-3.1.2-5] [MQTT-3.2.2-3], of 3.1.1
        [MQTT-3.1.2-4] [MQTT-3.2.2-2]."""
        for version in VERSIONS:
            self.leave(version)
            client = self.connect_again(version)
            self.assertTrue(client.connack.session_present)
            self.assertEqual([b"live"], self.heard_by(client, b"live"))
            client.lose()
            self.connect("alice", version, "s").lose()

    def test_begin(self) -> None:
        """Where none is kept, one is created: of 5.0 [MQTT-3.1.2-6], of 3.1.1 [MQTT-3.2.2-3]."""
        for version in VERSIONS:
            client = self.connect_again(version)
            self.assertFalse(client.connack.session_present)
            client.lose()
            self.assertTrue(self.connect_again(version).connack.session_present)
            self.connect("alice", version, "s").lose()

    def test_messages_while_away(self) -> None:
        """QoS 1 and 2 wait for a client that is away: of 3.1.1 [MQTT-3.1.2-5]."""
        client = self.connect("alice", 4, "s", 1)
        client.subscribe(TOPIC)
        client.lose()
        publisher = self.connect("bob")
        for packet_id, qos in ((1, 1), (2, 2)):
            publisher.publish(payload=bytes([qos]), qos=qos, packet_id=packet_id)
        client = self.connect_again(4)
        self.assertEqual(
            [(b"\1", 1), (b"\2", 2)],
            [(one.payload, one.qos) for one in client.answer if isinstance(one, Publish)],
        )

    def test_expiry_above_zero(self) -> None:
        """The session outlives its connection, however that ended [MQTT-3.1.2-23]."""
        for good_bye in (False, True):
            client = self.connect("alice", 5, "s", 100)
            if good_bye:
                client.send(Disconnect())
            client.lose()
            self.assertTrue(self.connect_again(5).connack.session_present)
        self.connect("alice", 5, "none").lose()
        none = self.connect("alice", 5, "none", 100, clean_start=False)
        self.assertFalse(none.connack.session_present)

    def test_whose_it_is(self) -> None:
        """A session is found by its client identifier alone, not by who else its thing is [MQTT-3.1.3-2]."""
        for version in VERSIONS:
            self.leave(version)
            for client_id, present in (("S", False), ("s2", False), ("s", True)):
                client = self.connect("alice", version, client_id, 100)
                self.assertEqual(present, client.connack.session_present)
                client.lose()
                if not present:
                    self.connect("alice", version, client_id).lose()

    def test_retained_messages_are_not_of_the_session(self) -> None:
        """They are there when it has ended: of 3.1.1 [MQTT-3.1.2-7]."""
        client = self.connect("alice", 4, "s")
        client.publish(payload=b"kept", qos=1, retain=True)
        client.lose()
        rest = self.connect("alice", 4, "s").subscribe(TOPIC)
        self.assertEqual([b"kept"], [one.payload for one in rest if isinstance(one, Publish)])

    def test_state_while_connected(self) -> None:
        """An open connection has its session, however long: of 5.0 [MQTT-4.1.0-1], of 3.1.1
        [MQTT-4.1.0-2]."""
        for version in VERSIONS:
            client = self.connect("alice", version)
            client.subscribe(TOPIC, qos=1)
            self.house.clock.advance(400 * _DAY)
            self.assertEqual([b"still"], self.heard_by(client, b"still"))

    def test_state_as_long_as_the_session_lasts(self) -> None:
        """3.1.1 knows no end of a session but a clean one: of 3.1.1 [MQTT-4.1.0-1]."""
        self.leave(4)
        self.house.clock.advance(400 * _DAY)
        self.assertTrue(self.connect_again(4).connack.session_present)

    def test_expiry(self) -> None:
        """A session ends when its interval has passed without a connection [MQTT-4.1.0-2]."""
        self.leave(5, kept=100)
        self.house.clock.advance(98.0)
        client = self.connect_again(5)
        self.assertTrue(client.connack.session_present)
        self.house.clock.advance(200.0)  # it counts from the end of the connection
        client.lose()
        self.house.clock.advance(102.0)
        self.assertFalse(self.connect_again(5).connack.session_present)

    def test_expiry_of_zero(self) -> None:
        """An interval of 0 has passed at once, also where DISCONNECT makes it so [MQTT-4.1.0-2]."""
        before = len(self.house.sessions)
        self.leave(5, kept=0)
        self.assertEqual(before, len(self.house.sessions))
        client = self.connect("alice", 5, "s", 100)
        self.assertFalse(client.connack.session_present)
        client.subscribe(TOPIC)
        client.send(Disconnect(0, {properties.SESSION_EXPIRY_INTERVAL: 0}))
        client.lose()
        self.assertEqual(before, len(self.house.sessions))
        self.assertFalse(self.connect_again(5).connack.session_present)

    def connect_again(self, version: int) -> Client:
        """Alice's client asks for its session."""
        return self.connect("alice", version, "s", 100, clean_start=False)


class WillTests(StatementTestCase):
    """A will comes when its client is lost, and only then."""

    def setUp(self) -> None:
        super().setUp()
        self.listener = self.connect("bob")
        self.listener.subscribe(f"{TOPIC}/#", retain_as_published=True)

    def heard(self) -> list[bytes]:
        """The wills that bob heard."""
        return [one.payload for one in self.listener.messages()]

    def willing(self, version: int = 5, delay: int = 0, kept: int = 0, **fields: object) -> Client:
        """Alice's client, with a will."""
        said: dict[int, object] | None = {properties.WILL_DELAY_INTERVAL: delay} if delay else None
        will = Will(TOPIC, b"gone", properties=said)
        for name, value in fields.items():
            setattr(will, name, value)
        return self.connect("alice", version, "w", kept, will=will)

    def test_published(self) -> None:
        """Once, when the connection is lost, or ended by either side without a good-bye: [MQTT-3.1.2-8],
        of 3.1.1 [MQTT-3.1.2-8]."""
        for version, kept in product(VERSIONS, (0, 100)):
            for how in ("lost", "malformed", "ended"):
                client = self.willing(version, kept=kept)
                self.assertEqual([], self.heard())
                if how == "malformed":
                    client.send(b"\0\0")
                elif how == "ended":
                    client.wire.protocol.close(0x98, "the operator")
                client.lose()
                self.assertEqual([b"gone"], self.heard(), how)
                self.connect("alice", version, "w").lose()

    def test_taken_over(self) -> None:
        """Another connection of its client ends one that has not said good-bye: [MQTT-3.1.2-8], of 3.1.1
        [MQTT-3.1.2-8]. Only a delay of 5.0 that has not passed by then takes it back [MQTT-3.1.3-9]."""
        for version, kept, clean_start in product(VERSIONS, (0, 100), (False, True)):
            self.willing(version, kept=kept)
            self.connect("alice", version, "w", kept, clean_start=clean_start).send(Disconnect())
            self.assertEqual([b"gone"], self.heard())
            self.connect("alice", version, "w").lose()
        for clean_start in (False, True):
            self.willing(delay=10, kept=100)
            self.connect("alice", 5, "w", 100, clean_start=clean_start)
            self.house.clock.advance(1000.0)
            self.assertEqual([b"gone"] if clean_start else [], self.heard())

    def test_good_bye(self) -> None:
        """DISCONNECT takes it back, with all of it [MQTT-3.14.4-3]."""
        for version, kept in product(VERSIONS, (0, 100)):
            client = self.willing(version, kept=kept)
            client.send(Disconnect())
            client.lose()
            self.house.clock.advance(1000.0)
            self.connect("alice", version, "w").lose()
            self.assertEqual([], self.heard())

    def test_good_bye_with_will(self) -> None:
        """After DISCONNECT 0x04 it comes, and no second time: of 5.0 [MQTT-3.1.2-10]."""
        client = self.willing()
        client.send(Disconnect(4))
        client.lose()
        self.assertEqual([b"gone"], self.heard())
        self.assert_forgotten(5)

    def test_forgotten(self) -> None:
        """Once it was published: of 3.1.1 [MQTT-3.1.2-10]; and with a session that is kept."""
        for version in VERSIONS:
            client = self.willing(version, kept=100)
            client.lose()
            self.assertEqual([b"gone"], self.heard())
            self.assert_forgotten(version)

    def assert_forgotten(self, version: int) -> None:
        """No later connection of this client leaves a will."""
        for _ in range(2):
            self.connect("alice", version, "w", 100, clean_start=False).lose()
            self.house.clock.advance(1000.0)
        self.assertEqual([], self.heard())

    def test_no_will(self) -> None:
        """Who left none has none: of 3.1.1 [MQTT-3.1.2-12]."""
        for version, kept in product(VERSIONS, (0, 100)):
            self.connect("alice", version, "none", kept).lose()
            self.connect("alice", version, "none").lose()
            self.assertEqual([], self.heard())

    def test_delay(self) -> None:
        """It is kept with the session until its delay has passed [MQTT-3.1.2-7]."""
        client = self.willing(delay=10, kept=100)
        client.lose()
        self.house.clock.advance(8.9)
        self.assertEqual([], self.heard())
        self.house.clock.advance(3.0)
        self.assertEqual([b"gone"], self.heard())

    def test_session_ends_before_the_delay(self) -> None:
        """Then it is published with the end of the session [MQTT-3.1.2-8]."""
        self.willing(delay=100, kept=10).lose()
        self.house.clock.advance(12.0)
        self.assertEqual([b"gone"], self.heard())
        self.willing(delay=100, kept=50).lose()
        self.connect("alice", 5, "w")
        self.assertEqual([b"gone"], self.heard())

    def test_back_within_the_delay(self) -> None:
        """Then nobody hears of it [MQTT-3.1.3-9]."""
        self.willing(delay=10, kept=100).lose()
        self.house.clock.advance(5.0)
        client = self.connect("alice", 5, "w", 100, clean_start=False)
        self.assertTrue(client.connack.session_present)
        self.house.clock.advance(50.0)
        client.lose()  # with no will of its own
        self.house.clock.advance(1000.0)
        self.assertEqual([], self.heard())

    def test_not_retained(self) -> None:
        """A Will Retain of 0: of 5.0 [MQTT-3.1.2-14], of 3.1.1 [MQTT-3.1.2-16]."""
        for version in VERSIONS:
            self.willing(version).lose()
            self.assertEqual([False], [one.retain for one in self.listener.messages()])
            self.assertEqual([], self.connect("bob", client_id="new").subscribe(TOPIC))

    def test_retained(self) -> None:
        """A Will Retain of 1: of 5.0 [MQTT-3.1.2-15], of 3.1.1 [MQTT-3.1.2-17]."""
        for version in VERSIONS:
            self.willing(version, retain=True).lose()
            self.assertEqual([True], [one.retain for one in self.listener.messages()])
            (found,) = self.connect("bob", client_id="new").subscribe(TOPIC)
            assert isinstance(found, Publish)
            self.assertEqual((b"gone", True), (found.payload, found.retain))
            self.connect("bob", client_id="new").publish(payload=b"", retain=True)
            self.listener.heard()

    def test_user_properties(self) -> None:
        """They keep their order [MQTT-3.1.3-10]."""
        pairs = [("b", "1"), ("a", "2"), ("b", "0"), ("", "")]
        self.willing(properties={properties.USER_PROPERTY: pairs}).lose()
        (found,) = self.listener.messages()
        self.assertEqual({properties.USER_PROPERTY: pairs}, found.properties)
