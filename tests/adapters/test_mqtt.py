"""An MQTT client's network connection, in memory: how it begins, what ends it, and what is left of it."""

from functools import partial
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import ILoggingContext, IProtocol, IPushProducer
from zope.interface.verify import verifyObject

from mfserver.adapters.mqtt import MQTTFactory, MQTTProtocol
from mfserver.errors import Conflict, Invalid, NotAuthorized, Overloaded, SlowDown, Unauthenticated
from mfserver.interfaces import ICounted, ILiveConnection
from mfserver.mqtt import properties
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Will,
)
from mfserver.records import ChannelId
from tests.adapters.fakes import Wire
from tests.adapters.mqtt_case import MQTTTestCase, disconnects, packets
from tests.cred.fakes import CarefulPeer

WILL = Will("channels/c/messages/will", b"gone", 1)
VERSIONS = (3, 4, 5)


class ConnectTests(MQTTTestCase):
    """CONNECT asks who it is, and everything else waits for the answer."""

    def test_claims(self) -> None:
        """User name, password and address are claimed; a thing id and a key are wanted."""
        self.connect("alice")
        (claims,) = self.house.gate.claims
        self.assertEqual(("192.0.2.7", ("key-of-alice",), "alice"), _said(claims))
        self.assertTrue(claims.needs_key and claims.needs_thing_id)
        self.assertFalse(claims.by_browser)

    def test_claims_without(self) -> None:
        """No user name and no password claim nothing, and an empty password is a key that no thing has."""
        for version, password, keys in (
            (5, None, ()),
            (4, None, ()),
            (5, b"", ("",)),
            (5, b"\xff", ("\ufffd",)),
        ):
            connect = Connect(version, "x", password=password)
            answer = self.ask(connect)
            self.assertEqual([(0x86 if version == 5 else 4, False)], [_code(one) for one in answer])
            self.assertEqual(keys, self.house.gate.claims[-1].keys)

    def test_address_of_a_unix_socket(self) -> None:
        """A transport without a host is an address of its own."""
        protocol = MQTTProtocol(self.house.mqtt)
        wire = Wire.__new__(Wire)
        super(Wire, wire).__init__(peerAddress=UNIXAddress("/run/x"))
        protocol.makeConnection(wire)
        protocol.dataReceived(encode(Connect(5, "x"), 5))
        self.assertEqual("", self.house.gate.claims[0].address)

    def test_certificate(self) -> None:
        """The certificate of the connection below counts, where the transport is not the one with TLS."""
        peer = CarefulPeer("key-of-alice")
        wire = Wire(MQTTProtocol(self.house.mqtt, peer))
        wire.receive(encode(self.who("alice"), 5))
        self.connect("alice")
        self.assertEqual([peer, None], self.house.gate.peers)

    def test_interfaces(self) -> None:
        """The authenticator can end it, the transport can pause it, and the listener can count it."""
        protocol = MQTTProtocol(self.house.mqtt)
        for interface in (IProtocol, ILoggingContext, IPushProducer, ILiveConnection, ICounted):
            self.assertTrue(verifyObject(interface, protocol))
        self.assertEqual("MQTTProtocol", protocol.logPrefix())

    def test_counted(self) -> None:
        """It tells its end once, whatever ended it, and not before the connection is lost."""
        told: list[None] = []
        wires = [self.connect("alice"), self.house.mqtt_wire(), self.connect("bob")]
        for wire in wires:
            wire.protocol.released = partial(told.append, None)
        wires[2].protocol.end("over")
        self.house.clock.advance(5.1)
        self.assertEqual([], told)
        for count, wire in enumerate(wires, 1):
            wire.lose()
            wire.protocol.end("over")
            self.assertEqual(count, len(told))

    def test_factory(self) -> None:
        """Each accepted connection has a protocol of its own."""
        factory = MQTTFactory(self.house.mqtt)
        first, second = factory.buildProtocol(None), factory.buildProtocol(None)
        self.assertIsInstance(first, MQTTProtocol)
        self.assertIsNot(first, second)
        self.assertEqual(("mqtt", False), (factory.logPrefix(), factory.noisy))

    def test_any_split(self) -> None:
        """How a CONNECT and what follows it is split does not matter."""
        data = encode(self.who("alice"), 5) + encode(_subscribe("channels/c/messages"), 5)
        for cut in range(1, len(data)):
            wire = self.house.mqtt_wire()
            answer = wire.receive(data[:cut]) + wire.receive(data[cut:])
            self.assertEqual([Connack, Suback], [type(one) for one in packets(answer)])

    def test_pipelined(self) -> None:
        """What follows CONNECT is held, unread, until it is accepted; nobody hears it before."""
        for version in VERSIONS:
            with self.subTest(version=version):
                bob = self.connect("bob")
                self.subscribe(bob, "channels/c/messages/#")
                self.house.gate.held = []
                wire = self.house.mqtt_wire()
                data = encode(self.who("alice", version), version)
                data += encode(_subscribe("channels/c/messages/#"), version)
                data += encode(Publish("channels/c/messages/a", b"early"), version)
                self.assertEqual(b"", wire.receive(data))
                self.house.end_turn()
                self.assertEqual("paused", wire.producerState)
                self.assertEqual([], self.delivered(bob))
                self.house.gate.held.pop()()
                self.house.end_turn()
                kinds = [type(one) for one in packets(wire.take(), version)]
                self.assertEqual([Connack, Suback, Publish], kinds)
                self.assertEqual("producing", wire.producerState)
                self.assertEqual([("channels/c/messages/a", b"early", 0)], self.delivered(bob))
                self.house.gate.held = None

    def test_refused_with_more_behind(self) -> None:
        """What follows a CONNECT that is refused never happens."""
        bob = self.connect("bob")
        self.subscribe(bob, "channels/c/messages/#")
        data = encode(Connect(5, "x", user_name="alice", password=b"wrong"), 5)
        data += encode(Publish("channels/c/messages/a", b"stolen"), 5)
        wire = self.house.mqtt_wire()
        (answer,) = packets(wire.receive(data))
        self.house.end_turn()
        self.assertEqual((0x86, False), _code(answer))
        self.assertEqual([], self.delivered(bob))
        self.assertTrue(wire.disconnecting)

    def test_lost_during_authentication(self) -> None:
        """Who was let in when it had gone is logged out again, and nothing of it is left."""
        self.house.gate.held = []
        wire = self.house.mqtt_wire()
        wire.receive(encode(self.who("alice", will=WILL), 5))
        wire.lose()
        self.house.gate.held.pop()()
        self.assertEqual([], self.house.gate.logged_in)
        self.assertEqual(0, len(self.house.sessions))
        self.assertEqual(set(), self.house.mqtt.connections)
        self.assertEqual(b"", wire.take())
        self.assertEqual([], self.house.clock.getDelayedCalls())

    def test_refused_after_it_was_lost(self) -> None:
        """A refusal of somebody who had gone is told to nobody."""
        self.house.gate.held = []
        wire = self.house.mqtt_wire()
        wire.receive(encode(Connect(5, "x"), 5))
        wire.lose()
        self.house.gate.held.pop()()
        self.assertEqual(b"", wire.take())
        self.assertEqual([], self.house.reports)

    def test_ended_during_authentication(self) -> None:
        """A thing that is deleted while it is let in is refused: 5.0 in CONNACK, 3.1.1 likewise."""
        for version, code in ((5, 0x87), (4, 5)):
            self.house.gate.held = []
            wire = self.house.mqtt_wire()
            wire.receive(encode(self.who("alice", version), version))
            wire.protocol.end("the thing was deleted")
            (answer,) = packets(wire.take(), version)
            self.assertEqual((code, False), _code(answer))
            self.house.gate.held.pop()()
            self.assertEqual([], self.house.gate.logged_in)
            self.assertEqual(b"", wire.take())

    def test_each_error(self) -> None:
        """What the authenticator raises becomes 5.0's reason code and 3.x's return code, and one report."""
        for error, reason_code, return_code in (
            (Unauthenticated("unknown"), 0x86, 4),
            (NotAuthorized("another's"), 0x87, 5),
            (SlowDown("later", 1.0), 0x9F, 3),
            (Overloaded("full"), 0x97, 3),
            (Invalid("wrong"), 0x90, None),
            (Conflict("an error without a code of its own"), 0x80, None),
        ):
            self.house.gate.error = error
            for version in VERSIONS:
                with self.subTest(error=error, version=version):
                    self.house.reports.clear()
                    wire = self.house.mqtt_wire()
                    answer = packets(wire.receive(encode(self.who("alice", version), version)), version)
                    if version == 5:
                        (connack,) = answer
                        assert isinstance(connack, Connack) and connack.properties is not None
                        self.assertEqual(reason_code, connack.reason_code)
                        self.assertEqual(str(error), connack.properties[properties.REASON_STRING])
                    else:
                        expected = [] if return_code is None else [(return_code, False)]
                        self.assertEqual(expected, [_code(one) for one in answer])
                    self.assertTrue(wire.disconnecting)
                    self.assertEqual(
                        [("an MQTT CONNECT was refused", f"192.0.2.7: {error}")], self.house.reports
                    )
                    wire.lose()

    def test_own_mistake(self) -> None:
        """An error that is none of ours to tell closes with 0x80, keeps its text inside, and is logged."""
        self.house.gate.error = ZeroDivisionError("inside")
        wire = self.house.mqtt_wire()
        answer = wire.receive(encode(self.who("alice"), 5))
        self.assertEqual([(0x80, False)], [_code(one) for one in packets(answer)])
        self.assertNotIn(b"inside", answer)
        self.assertTrue(wire.disconnecting)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_over_limit(self) -> None:
        """One connection too many is told so without asking who it is."""
        self.house.over_limit = True
        for version, code in ((5, 0x97), (4, 3), (3, 3)):
            wire = self.house.mqtt_wire()
            (answer,) = packets(wire.receive(encode(self.who("alice", version), version)), version)
            self.assertEqual((code, False), _code(answer))
            self.assertTrue(wire.disconnecting)
        self.assertEqual([], self.house.gate.claims)

    def test_too_late(self) -> None:
        """Who comes when the others were told is not let in: nobody would tell it that the server ends."""
        self.house.mqtt.going_away()
        for version, code in ((5, 0x88), (4, 3), (3, 3)):
            wire = self.house.mqtt_wire()
            (answer,) = packets(wire.receive(encode(self.who("alice", version), version)), version)
            self.assertEqual((code, False), _code(answer))
            self.assertTrue(wire.disconnecting)
        self.assertEqual([], self.house.gate.claims)

    def test_assigned_client_id(self) -> None:
        """An empty client identifier gets one of ours; 5.0 is told, and no two are the same."""
        told = set()
        for _ in range(2):
            wire = self.house.mqtt_wire()
            (connack,) = packets(wire.receive(encode(self.who("alice", client_id=""), 5)))
            assert isinstance(connack, Connack) and connack.properties is not None
            told.add(str(connack.properties[properties.ASSIGNED_CLIENT_IDENTIFIER]))
        self.assertEqual(2, len(told))
        self.assertTrue(all(one.startswith("mf-") for one in told))
        (connack,) = self.ask(self.who("alice", 4, client_id=""))
        self.assertEqual((0, False), _code(connack))
        self.assertEqual(3, len(self.house.sessions))

    def test_failure_of_the_protocol(self) -> None:
        """What is no MQTT is closed and reported, without a word of it in the log."""
        wire = self.house.mqtt_wire()
        self.assertEqual(b"", wire.receive(b"GET / HTTP/1.1\r\n"))
        self.assertTrue(wire.disconnecting)
        ((kind, detail),) = self.house.reports
        self.assertEqual(("an MQTT connection failed", "192.0.2.7"), (kind, detail.partition(":")[0]))
        self.assertEqual(b"", wire.receive(encode(self.who("alice"), 5)))
        self.assertEqual([], self.house.gate.claims)

    def test_second_connect(self) -> None:
        """A second CONNECT ends the connection, and its key counts for nothing."""
        wire = self.connect("alice")
        (answer,) = packets(wire.receive(encode(self.who("bob"), 5)))
        self.assertEqual(Disconnect(0x82, answer.properties), answer)  # type: ignore[attr-defined]
        self.assertEqual(1, len(self.house.gate.claims))

    def ask(self, connect: Connect) -> list[Any]:
        """What a new connection is answered."""
        return packets(self.house.mqtt_wire().receive(encode(connect, connect.version)), connect.version)

    def who(self, name: str, version: int = 5, client_id: str | None = None, **options: Any) -> Connect:
        """A CONNECT with the right key."""
        chosen = name if client_id is None else client_id
        return Connect(version, chosen, user_name=name, password=f"key-of-{name}".encode(), **options)


class WillTests(MQTTTestCase):
    """The will comes when its client is lost, and only then."""

    def setUp(self) -> None:
        super().setUp()
        self.listener = self.connect("bob")
        self.subscribe(self.listener, "channels/c/messages/#")

    def heard(self) -> list[tuple[str, bytes, int]]:
        """What bob heard."""
        self.house.end_turn()
        return self.delivered(self.listener)

    def test_lost(self) -> None:
        """A connection that is lost leaves its will."""
        for version in VERSIONS:
            alice = self.connect("alice", version, will=WILL)
            self.assertEqual([], self.heard())
            alice.lose()
            self.assertEqual([("channels/c/messages/will", b"gone", 1)], self.heard())

    def test_good_bye(self) -> None:
        """DISCONNECT 0 takes the will back; 5.0's DISCONNECT 0x04 wants it."""
        for version, code, expected in ((5, 0, 0), (4, 0, 0), (3, 0, 0), (5, 4, 1)):
            alice = self.connect("alice", version, will=WILL)
            self.assertEqual(b"", alice.receive(encode(Disconnect(code), version)))
            self.assertTrue(alice.disconnecting)
            alice.lose()
            self.assertEqual(expected, len(self.heard()))

    def test_ended_by_us(self) -> None:
        """A connection that the server ends leaves its will too."""
        alice = self.connect("alice", will=WILL)
        alice.protocol.close(0x98, "the operator")
        alice.lose()
        self.assertEqual(1, len(self.heard()))

    def test_channel_lost_meanwhile(self) -> None:
        """A thing that is not connected to the channel any more leaves nothing there."""
        alice = self.connect("alice", will=WILL)
        self.alice.channels.remove("c")
        alice.lose()
        self.assertEqual([], self.heard())

    def test_refused(self) -> None:
        """A will on another's channel, or on no channel, is refused at CONNECT, and the thing logged out."""
        for topic, version, code in (
            ("channels/e/messages", 5, 0x87),
            ("channels/e/messages", 4, 5),
            ("channels/e/messages", 3, 5),
            ("elsewhere", 5, 0x90),
        ):
            wire = self.house.mqtt_wire()
            connect = Connect(
                version, "a", user_name="alice", password=b"key-of-alice", will=Will(topic, b"x")
            )
            (answer,) = packets(wire.receive(encode(connect, version)), version)
            self.assertEqual((code, False), _code(answer))
            self.assertTrue(wire.disconnecting)
            self.assertEqual(["bob"], [str(thing) for thing, _ in self.house.gate.logged_in])
            wire.lose()
        self.assertEqual([], self.heard())

    def test_own(self) -> None:
        """The client is gone: its will does not come back to it, and all of it is logged out."""
        alice = self.connect("alice", will=WILL)
        self.subscribe(alice, "channels/c/messages/#")
        alice.lose()
        self.assertEqual(b"", alice.take())
        self.assertEqual(1, len(self.house.sessions))
        self.assertEqual(["bob"], [str(thing) for thing, _ in self.house.gate.logged_in])


class TakeoverTests(MQTTTestCase):
    """A client identifier belongs to its thing."""

    def test_same_thing(self) -> None:
        """The newer connection stays, and the older hears 0x8E in 5.0 and is closed in all."""
        for version in VERSIONS:
            older = self.connect("alice", version, "pump")
            newer = self.connect("alice", version, "pump")
            self.assertEqual([0x8E] if version == 5 else [], disconnects(older, version))
            self.assertTrue(older.disconnecting)
            older.lose()
            self.assertEqual(1, len(self.house.sessions))
            self.assertFalse(newer.disconnecting)
            newer.lose()
            self.assertEqual(0, len(self.house.sessions))

    def test_other_thing(self) -> None:
        """Another thing's client of that name is another client."""
        alice, bob = self.connect("alice", client_id="pump"), self.connect("bob", client_id="pump")
        self.assertFalse(alice.disconnecting or bob.disconnecting)
        self.assertEqual(2, len(self.house.sessions))


class EndTests(MQTTTestCase):
    """Every end says why, where the version can."""

    def test_end(self) -> None:
        """A thing whose right ended hears 0x87."""
        for version in VERSIONS:
            wire = self.connect("alice", version)
            wire.protocol.end("the thing key was changed")
            self.assertEqual([0x87] if version == 5 else [], disconnects(wire, version))
            self.assertTrue(wire.disconnecting)
            wire.protocol.end("again")
            self.assertEqual(b"", wire.take())

    def test_channel_lost(self) -> None:
        """One of many channels: it stays open and falls silent."""
        alice, bob = self.connect("alice"), self.connect("bob")
        self.subscribe(bob, "channels/c/messages")
        self.bob.channels.clear()
        bob.protocol.channel_lost(ChannelId("c"))
        self.publish(alice, "channels/c/messages")
        self.assertEqual(b"", bob.take())
        self.assertFalse(bob.disconnecting)

    def test_going_away(self) -> None:
        """Every client hears 0x8B, also one that only connected."""
        wires = [self.connect("alice"), self.connect("bob", 4), self.house.mqtt_wire()]
        self.house.mqtt.going_away()
        self.assertEqual([[0x8B], [], []], [disconnects(wire, 5) for wire in wires])
        self.assertTrue(all(wire.disconnecting for wire in wires))
        for wire in wires:
            wire.lose()
        self.assertEqual(set(), self.house.mqtt.connections)
        self.assertEqual([], self.house.clock.getDelayedCalls())

    def test_close_deadline(self) -> None:
        """A client that does not read our last words is cut off after five seconds."""
        wire = self.connect("alice")
        wire.protocol.end("over")
        self.assertEqual("producing", wire.producerState)
        self.assertIsNone(wire.producer)
        self.house.clock.advance(4.9)
        self.assertFalse(wire.aborted)
        self.house.clock.advance(0.2)
        self.assertTrue(wire.aborted)

    def test_closed_in_time(self) -> None:
        """A connection that is over has no timer left."""
        wire = self.connect("alice", keep_alive=10)
        wire.protocol.end("over")
        wire.lose()
        self.assertEqual([], self.house.clock.getDelayedCalls())


def _said(claims: Any) -> tuple[Any, ...]:
    return claims.address, claims.keys, claims.thing_id


def _code(packet: Any) -> tuple[int, bool]:
    assert isinstance(packet, Connack)
    return packet.reason_code, packet.session_present


def _subscribe(*filters: str) -> Subscribe:
    return Subscribe(7, [Subscription(one) for one in filters])
