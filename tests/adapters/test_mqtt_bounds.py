"""What one MQTT client may have under way, keep retained and be sent of it; and what it hears past that."""

from itertools import pairwise
from typing import Any

from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Disconnect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
)
from mfserver.routing.retained import Retained
from tests.adapters.fakes import Wire
from tests.adapters.mqtt_case import MQTTTestCase, disconnects, packets, publishes

TOPIC = "channels/c/messages"


class Case(MQTTTestCase):
    """Two clients of alice's, of which one is old, and one of bob's that hears all."""

    def setUp(self) -> None:
        super().setUp()
        self.new, self.old = self.connect("alice"), self.connect("alice", 4, "old")
        self.hearer = self.connect("bob")
        self.subscribe(self.hearer, f"{TOPIC}/#", qos=0)

    def say(self, wire: Wire, *said: Packet, version: int = 5) -> list[Packet]:
        """Send packets in one write. :return: what comes back until the turn ends."""
        wire.protocol.dataReceived(b"".join(encode(one, version) for one in said))
        self.house.end_turn()
        return packets(wire.take(), version)

    def heard(self) -> list[bytes]:
        """The payloads that bob heard."""
        return [payload for _, payload, _ in self.delivered(self.hearer)]


class PayloadFormatTests(Case):
    """A payload that says it is text is text, or nobody hears it (MQTT 5.0, 3.3.2.3.2)."""

    TEXT: dict[int, object] = {properties.PAYLOAD_FORMAT_INDICATOR: 1}

    def test_not_text(self) -> None:
        """PUBACK and PUBREC 0x99; at QoS 0 DISCONNECT 0x99."""
        bad = b"\xc0\x80"
        for qos, kind in ((1, Puback), (2, Pubrec)):
            (answer,) = self.say(self.new, Publish(TOPIC, bad, qos, packet_id=5, properties=dict(self.TEXT)))
            assert isinstance(answer, kind)
            self.assertEqual((5, 0x99), (answer.packet_id, answer.reason_code))
        self.assertFalse(self.new.disconnecting)
        (said,) = self.say(self.new, Publish(TOPIC, bad, properties=dict(self.TEXT)))
        assert isinstance(said, Disconnect)
        self.assertEqual((0x99, True), (said.reason_code, self.new.disconnecting))
        self.assertEqual([], self.heard())

    def test_refused_is_free(self) -> None:
        """The packet identifier of a refused QoS 2 PUBLISH is free: PUBREL does not know it."""
        self.say(self.new, Publish(TOPIC, b"\xff", 2, packet_id=5, properties=dict(self.TEXT)))
        self.assertEqual([Pubcomp(5, 0x92)], self.say(self.new, Pubrel(5, 0)))
        self.assertEqual([Pubrec(5, 0)], self.say(self.new, Publish(TOPIC, b"ok", 2, packet_id=5)))
        self.assertEqual([b"ok"], self.heard())

    def test_text(self) -> None:
        """Text is passed on, and so is anything that does not say that it is text."""
        self.say(self.new, Publish(TOPIC, "é".encode(), properties=dict(self.TEXT)))
        self.say(self.new, Publish(TOPIC, b"\xff", properties={properties.PAYLOAD_FORMAT_INDICATOR: 0}))
        self.say(self.old, Publish(TOPIC, b"\xfe"), version=4)
        self.assertEqual(["é".encode(), b"\xff", b"\xfe"], self.heard())


class UnderWayTests(Case):
    """Messages that a client has under way to us."""

    def test_receive_maximum(self) -> None:
        """More at QoS 2 than our Receive Maximum without PUBREL is 0x93; a repeated one counts once."""
        one, two, three = (Publish(TOPIC, b"%d" % n, 2, packet_id=n) for n in (1, 2, 3))
        again = Publish(TOPIC, b"1", 2, packet_id=1, dup=True)
        self.assertEqual([Pubrec(1, 0), Pubrec(2, 0), Pubrec(1, 0)], self.say(self.new, one, two, again))
        self.say(self.new, Pubrel(1, 0))
        self.assertEqual([Pubrec(3, 0)], self.say(self.new, three))
        self.assertEqual([0x93], [one.reason_code for one in self.say(self.new, one)])  # type: ignore[attr-defined]
        self.assertTrue(self.new.disconnecting)

    def test_unreleased(self) -> None:
        """MQTT 3 has none: past four times as many unreleased it is closed, with a line."""
        for version in (3, 4):
            self.house.reports.clear()
            wire = self.connect("alice", version, f"hoarder-{version}")
            for packet_id in range(1, 9):
                said = Publish(TOPIC, b"x", 2, packet_id=packet_id)
                self.assertEqual([Pubrec(packet_id, 0)], self.say(wire, said, version=version))
            again = Publish(TOPIC, b"x", 2, packet_id=8, dup=True)
            self.assertEqual([Pubrec(8, 0)], self.say(wire, again, version=version))
            self.heard()
            self.assertEqual([], self.say(wire, Publish(TOPIC, b"9", 2, packet_id=9), version=version))
            self.assertTrue(wire.disconnecting)
            self.assertEqual([], self.heard())
            self.assertEqual(["an MQTT client is closed"], [kind for kind, _ in self.house.reports])

    def test_released_in_time(self) -> None:
        """Who releases may go on for ever."""
        for packet_id in range(1, 50):
            self.say(self.old, Publish(TOPIC, b"x", 2, packet_id=packet_id), Pubrel(packet_id, 0), version=4)
        self.assertFalse(self.old.disconnecting)
        self.assertEqual(49, len(self.heard()))

    def test_on_all_connections(self) -> None:
        """What a session has from its older connections counts: 5.0 hears 0x93."""
        kept: dict[int, object] = {properties.SESSION_EXPIRY_INTERVAL: 60}
        for first in (1, 3, 5, 7):
            wire = self.connect("alice", client_id="kept", clean_start=False, properties=kept)
            for packet_id in (first, first + 1):
                self.say(wire, Publish(TOPIC, b"x", 2, packet_id=packet_id))
            wire.lose()
        wire = self.connect("alice", client_id="kept", clean_start=False, properties=kept)
        self.say(wire, Publish(TOPIC, b"x", 2, packet_id=9))
        self.assertTrue(wire.disconnecting)
        wire.lose()
        wire = self.connect("alice", client_id="kept", clean_start=False, properties=kept)
        self.say(wire, Pubrel(1, 0))
        self.assertEqual([Pubrec(9, 0)], self.say(wire, Publish(TOPIC, b"x", 2, packet_id=9)))


class RetainedTests(Case):
    """Retained messages have a bound, and none is lost in silence."""

    def setUp(self) -> None:
        super().setUp()
        small = Retained(2, 100_000, self.house.journal.retained, self.house.now)
        self.house.router.retained = self.house.sessions.retained = small
        for index in range(2):
            self.say(self.new, Publish(f"{TOPIC}/{index}", b"kept", 1, retain=True, packet_id=1))
        self.heard()

    def test_full(self) -> None:
        """Past it PUBACK and PUBREC are 0x97, and nobody hears it; what is there may still be replaced."""
        for qos, kind in ((1, Puback), (2, Pubrec)):
            (answer,) = self.say(self.new, Publish(f"{TOPIC}/x", b"x", qos, retain=True, packet_id=2))
            assert isinstance(answer, kind)
            self.assertEqual(0x97, answer.reason_code)
        self.assertEqual([], self.heard())
        replaced = self.say(self.new, Publish(f"{TOPIC}/0", b"new", 1, retain=True, packet_id=2))
        self.assertEqual([Puback(2, 0)], replaced)
        self.say(self.new, Publish(f"{TOPIC}/0", b"", 1, retain=True, packet_id=2))
        self.assertEqual(
            [Puback(2, 0)], self.say(self.new, Publish(f"{TOPIC}/x", b"x", 1, retain=True, packet_id=2))
        )

    def test_closed(self) -> None:
        """At QoS 0, and in MQTT 3, there is no answer to say it in: the connection is closed."""
        (said,) = self.say(self.new, Publish(f"{TOPIC}/x", b"x", retain=True))
        assert isinstance(said, Disconnect)
        self.assertEqual(0x97, said.reason_code)
        self.assertEqual(
            [], self.say(self.old, Publish(f"{TOPIC}/x", b"x", 1, retain=True, packet_id=1), version=4)
        )
        self.assertTrue(self.old.disconnecting)

    def test_every_subscription(self) -> None:
        """A SUBSCRIBE of many filters brings what is retained for each, behind its SUBACK."""
        filters = [Subscription(f"{TOPIC}/{name}", 1) for name in ("#", "+", "0", "1", "2")]
        alice = self.connect("alice", client_id="curious")
        suback, *rest = self.say(alice, Subscribe(1, filters))
        self.assertEqual(Suback(1, [1] * 5), suback)
        self.assertEqual(["0", "1", "0", "1", "0", "1"], [one.topic[-1] for one in publishes(rest)])
        self.assertTrue(all(one.retain for one in publishes(rest)))
        self.assertEqual("producing", alice.producerState)

    def test_a_few_a_turn(self) -> None:
        """Others have their turn in between, and what else the client sends is read meanwhile."""
        alice = self.connect("alice", client_id="curious")
        looks, turns = 0, [0]
        give_out, call_later = self.house.sessions.retained.give_out, self.house.clock.callLater

        def counting(node: object) -> object:
            nonlocal looks
            looks += 1
            return give_out(node)  # type: ignore[arg-type]

        def calling(*said: Any) -> Any:
            turns.append(looks)
            return call_later(*said)

        self.house.sessions.retained.give_out = counting  # type: ignore[method-assign,assignment]
        self.house.clock.callLater = calling  # type: ignore[method-assign,assignment]
        filters = [Subscription(f"{TOPIC}/{name}", 0) for name in "+" * 1000]
        alice.protocol.dataReceived(encode(Subscribe(1, filters), 5))
        self.assertEqual((0, "producing"), (looks, alice.producerState))
        self.house.end_turn()
        self.assertEqual((2000, "producing"), (looks, alice.producerState))
        self.assertLessEqual(max(b - a for a, b in pairwise(turns)), 500)

    def test_gone_meanwhile(self) -> None:
        """A right that is lost in between brings nothing more, and a client that goes looks for nothing."""
        self.house.mqtt.limits.receive_maximum = 1
        alice = self.connect("alice", client_id="curious")
        filters = [Subscription(f"{TOPIC}/{name}", 0) for name in range(2)]
        alice.protocol.dataReceived(encode(Subscribe(1, filters), 5))
        self.alice.channels.remove("c")
        self.house.end_turn()
        self.assertLessEqual(len(publishes(packets(alice.take()))), 1)
        self.alice.channels.add("c")
        alice.protocol.dataReceived(encode(Subscribe(1, filters), 5))
        alice.protocol.end("over")
        self.house.end_turn()
        self.assertEqual([0x87], disconnects(alice))


class AnswerTests(Case):
    """Answers that nobody reads are bounded too."""

    def test_said_before_good_bye(self) -> None:
        """What comes in one piece with a DISCONNECT has its answer no more, and that is nobody's mistake."""
        wire = self.connect("bob", client_id="kept", properties={properties.SESSION_EXPIRY_INTERVAL: 60})
        self.subscribe(wire, TOPIC, qos=2)
        (publish, *_) = publishes(self.say(wire, Publish(TOPIC, b"x", 2, packet_id=1)))
        before = len(self.house.sessions)
        farewell = Disconnect(0, {properties.SESSION_EXPIRY_INTERVAL: 0})
        said = (Pubrec(publish.packet_id, 0), Pubrec(77, 0), Pubrel(1, 0), Pubrel(77, 0), farewell)
        self.assertEqual([], self.say(wire, *said))
        self.assertEqual((before - 1, []), (len(self.house.sessions), self.house.reports))

    def test_too_long(self) -> None:
        """An answer that is longer than the client takes ends it: [MQTT-3.1.2-24]."""
        wire = self.connect("alice", client_id="small", properties={properties.MAXIMUM_PACKET_SIZE: 30})
        filters = [Subscription(f"{TOPIC}/{n}") for n in range(5)] * 6
        self.assertEqual([], publishes(self.say(wire, Subscribe(1, filters))))
        self.assertTrue(wire.disconnecting)
        self.assertEqual(["an MQTT client is closed"], [kind for kind, _ in self.house.reports])

    def test_too_long_after_a_commit(self) -> None:
        """The same when it had to wait."""
        said: dict[int, object] = {properties.MAXIMUM_PACKET_SIZE: 30, properties.SESSION_EXPIRY_INTERVAL: 60}
        wire = self.connect("alice", client_id="small", properties=said)
        filters = [Subscription(f"{TOPIC}/{n}") for n in range(5)] * 6
        self.house.store.hold = True
        self.say(wire, Subscribe(1, filters))
        self.assertFalse(wire.disconnecting)
        self.house.store.release()
        self.house.end_turn()
        self.assertTrue(wire.disconnecting)
        self.assertEqual(["an MQTT client is closed"], [kind for kind, _ in self.house.reports])

    def test_pings(self) -> None:
        """A client that asks and asks and does not read is closed, with a line in the log."""
        self.new.producer.pauseProducing()
        for _ in range(40):
            self.new.protocol.dataReceived(b"\xc0\x00" * 1000)
        self.assertTrue(self.new.disconnecting)
        self.assertEqual(["an MQTT connection failed"], [kind for kind, _ in self.house.reports])

    def test_acknowledgements(self) -> None:
        """So is one that lets its PUBRELs be answered."""
        self.new.producer.pauseProducing()
        for _ in range(14):
            self.new.protocol.dataReceived(encode(Pubrec(1, 0), 5) * 1000)
        self.house.end_turn()
        self.assertTrue(self.new.disconnecting)
        self.assertEqual(["an MQTT client is closed"], [kind for kind, _ in self.house.reports])
