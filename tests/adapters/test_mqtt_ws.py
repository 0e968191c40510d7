"""MQTT over WebSocket, in memory: the same protocol in binary frames."""

from mfserver.adapters.upgrade import WebConnection
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Puback,
    Publish,
    Subscribe,
    Subscription,
)
from tests.adapters.durable import DurableBus
from tests.adapters.fakes import Wire
from tests.adapters.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    TEXT,
    WSTestCase,
    close_code,
    closing,
    frame,
    frames,
)
from tests.adapters.mqtt_case import packets

TOPIC = "channels/c/messages"
OFFER = "Sec-WebSocket-Protocol: mqtt"
CONNECT = encode(Connect(5, "a", user_name="alice", password=b"key-of-alice", keep_alive=10), 5)
SUBSCRIBE = encode(Subscribe(7, [Subscription(f"{TOPIC}/#", qos=1)]), 5)


def carried(data: bytes) -> list[Packet]:
    """The packets in the binary frames that were written."""
    return packets(b"".join(one.payload for one in frames(data) if one.opcode == BINARY))


class HandshakeTests(WSTestCase):
    """The subprotocol has to be offered, and is answered [MQTT-6.0.0-3] [MQTT-6.0.0-4]."""

    def test_subprotocol(self) -> None:
        for offered, chosen in (
            ("mqtt", "mqtt"),
            ("mqttv3.1", "mqttv3.1"),
            ("mqttv3.1, mqtt", "mqtt"),
            ("x, mqtt", "mqtt"),
        ):
            _, status, answered, _ = self.ask("/mqtt", f"Sec-WebSocket-Protocol: {offered}")
            self.assertEqual((101, chosen), (status, answered["sec-websocket-protocol"]))

    def test_no_subprotocol(self) -> None:
        """Without it the answer is 400, and no MQTT connection is there."""
        for headers in ([], ["Sec-WebSocket-Protocol: wamp"]):
            wire, status, _, _ = self.ask("/mqtt", *headers)
            self.assertEqual(400, status)
            self.assertTrue(wire.disconnecting)
        self.assertEqual(set(), self.house.mqtt.connections)

    def test_nobody_is_asked(self) -> None:
        """Who it is, its CONNECT says; a key in the handshake is none."""
        self.ask("/mqtt?authorization=key-of-alice", OFFER, "Authorization: key-of-alice")
        self.assertEqual([], self.house.gate.claims)

    def test_gone(self) -> None:
        """A client that is gone is not upgraded."""
        wire, *_ = self.ask("/mqtt", OFFER)
        self.assertIsInstance(wire.protocol, WebConnection)
        wire.lose()
        self.assertEqual(set(), self.house.mqtt.connections)


class MQTTOverWSTests(WSTestCase):
    """How packets are put into frames does not matter [MQTT-6.0.0-2]."""

    def begin(self) -> Wire:
        """An open WebSocket that speaks MQTT."""
        wire, status, _, rest = self.ask("/mqtt", OFFER)
        self.assertEqual((101, b""), (status, rest))
        return wire

    def connect(self) -> Wire:
        """An accepted client of alice's, which listens on channel c."""
        wire = self.begin()
        answer = carried(wire.receive(frame(BINARY, CONNECT + SUBSCRIBE)))
        self.assertEqual([0, [1]], [answer[0].reason_code, answer[1].reason_codes])  # type: ignore[attr-defined]
        return wire

    def test_joined(self) -> None:
        """Several packets in one frame; what they are answered with is binary too."""
        wire = self.begin()
        written = wire.receive(frame(BINARY, CONNECT + SUBSCRIBE))
        self.assertEqual({BINARY}, {one.opcode for one in frames(written)})
        self.assertEqual(2, len(carried(written)))

    def test_split(self) -> None:
        """One packet over several frames, cut anywhere, also by fragments."""
        data = CONNECT + SUBSCRIBE
        for cut in range(1, len(data), 3):
            for second in (frame(BINARY, data[cut:]), frame(CONTINUATION, data[cut:])):
                wire = self.begin()
                first = frame(BINARY, data[:cut], final=second[0] & 0x0F == BINARY)
                self.assertEqual(2, len(carried(wire.receive(first) + wire.receive(second))))
                wire.lose()

    def test_both_ways(self) -> None:
        """It hears MQTT over TCP and WebSockets, and they hear it."""
        wire, other = self.connect(), self.open("bob")
        publish = encode(Publish(TOPIC, b"hi", qos=1, packet_id=1), 5)
        answer = carried(wire.receive(frame(BINARY, publish)))
        self.assertEqual({Puback, Publish}, {type(one) for one in answer})
        self.assertEqual(b"hi", frames(other.take())[0].payload)
        other.receive(frame(TEXT, b"back"))
        self.house.end_turn()
        (heard,) = carried(wire.take())
        assert isinstance(heard, Publish)
        self.assertEqual((TOPIC, b"back"), (heard.topic, heard.payload))

    def test_page_in_a_browser(self) -> None:
        """Its certificate must not count alone: browsers send it for whatever page asks."""
        origin = "Origin: https://evil.example"
        for headers, by_browser in (([OFFER], False), ([OFFER, origin], True)):
            wire, status, _, _ = self.ask("/mqtt", *headers)
            self.assertEqual(101, status)
            wire.receive(frame(BINARY, CONNECT))
            self.assertEqual(by_browser, self.house.gate.claims[-1].by_browser)

    def test_stolen_key(self) -> None:
        """A wrong key is refused in CONNACK, and the WebSocket closed after it."""
        wire = self.begin()
        bad = encode(Connect(5, "a", user_name="alice", password=b"key-of-bob"), 5)
        written = wire.receive(frame(BINARY, bad))
        (connack,) = carried(written)
        assert isinstance(connack, Connack)
        self.assertEqual((0x87, 1000), (connack.reason_code, close_code(written)))

    def test_text(self) -> None:
        """A text frame closes with 1003 [MQTT-6.0.0-1], and what follows it never happens."""
        wire = self.begin()
        written = wire.receive(frame(TEXT, CONNECT.decode("latin-1").encode()) + frame(BINARY, CONNECT))
        self.assertEqual((1003, []), (close_code(written), carried(written)))
        self.assertEqual([], self.house.gate.claims)

    def test_disconnect(self) -> None:
        """DISCONNECT ends the WebSocket with its closing handshake, and everything of it is forgotten."""
        wire = self.connect()
        written = wire.receive(frame(BINARY, encode(Disconnect(), 5)))
        self.assertEqual(1000, close_code(written))
        self.assertFalse(wire.aborted)
        self.assertIsNone(wire.producer)
        wire.receive(closing())
        self.assertTrue(wire.aborted)
        wire.lose()
        self.assertEqual([], self.house.gate.logged_in)
        self.assertEqual(0, len(self.house.sessions))

    def test_closed_by_the_client(self) -> None:
        """A close frame without DISCONNECT is answered, and nothing more is written to it."""
        wire = self.connect()
        self.assertEqual(1000, close_code(wire.receive(closing())))
        wire.protocol.wrappedProtocol._mqtt.end("the thing was deleted")
        self.assertEqual(b"", wire.take())
        wire.lose()
        self.assertEqual([], self.house.gate.logged_in)

    def test_closed_while_messages_come(self) -> None:
        """Messages for a client that broke a rule of WebSocket go nowhere, and into no log."""
        wire, other = self.connect(), self.open("bob")
        self.assertEqual(1002, close_code(wire.receive(frame(3))))
        other.receive(frame(TEXT, b"x"))
        self.house.end_turn()
        self.assertEqual(b"", wire.take())

    def test_too_big(self) -> None:
        """A message longer than the largest packet and CONNECT closes with 1009."""
        limits = self.house.mqtt.limits
        wire = self.begin()
        size = limits.max_packet + limits.max_connect + 1
        head = b"\x82\xff" + size.to_bytes(8, "big") + bytes(4)
        self.assertEqual(1009, close_code(wire.receive(head)))

    def test_ended(self) -> None:
        """A thing whose right ended hears 0x87, then 1000; one that does not answer is cut off."""
        wire = self.connect()
        wire.protocol.wrappedProtocol._mqtt.end("the thing key was changed")
        written = wire.take()
        (disconnect,) = carried(written)
        assert isinstance(disconnect, Disconnect)
        self.assertEqual((0x87, 1000), (disconnect.reason_code, close_code(written)))
        self.house.clock.advance(5.1)
        self.assertTrue(wire.aborted)

    def test_going_away(self) -> None:
        wire = self.connect()
        self.house.mqtt.going_away()
        (disconnect,) = carried(wire.take())
        self.assertEqual(0x8B, disconnect.reason_code)  # type: ignore[attr-defined]

    def test_keep_alive(self) -> None:
        """The keep alive of MQTT ends it, whatever WebSocket's pings say."""
        wire = self.connect()
        self.house.clock.advance(15.1)
        self.assertEqual(0x8D, carried(wire.take())[0].reason_code)  # type: ignore[attr-defined]

    def test_slow(self) -> None:
        """A peer that does not read is bounded as over TCP: nothing is written while it is paused."""
        wire, other = self.connect(), self.open("bob")
        wire.producer.pauseProducing()
        other.receive(frame(TEXT, b"x"))
        self.house.end_turn()
        self.assertEqual(b"", wire.take())
        wire.producer.resumeProducing()
        self.house.end_turn()
        self.assertEqual(1, len(carried(wire.take())))

    def test_long_turn(self) -> None:
        """What a turn collected may be longer than the longest message that a peer may send."""
        wire = self.begin()
        limits = self.house.mqtt.limits
        data = b"x" * (limits.max_packet + limits.max_connect + 1)
        wire.protocol.wrappedProtocol._mqtt.transport.write(data)
        written = frames(wire.take())
        self.assertEqual({BINARY}, {one.opcode for one in written})
        self.assertEqual(data, b"".join(one.payload for one in written))

    def test_reading_stops(self) -> None:
        """While two messages wait for their commit nothing is read, at the socket itself."""
        wire = self.connect()
        bus = self.house.router.bus = DurableBus(lambda message: None)
        wire.receive(frame(BINARY, encode(Publish(TOPIC, b"x"), 5) * 2))
        self.assertEqual("paused", wire.producerState)
        bus.commits[0].callback(None)
        self.assertEqual("producing", wire.producerState)
        self.house.end_turn()

    def test_address(self) -> None:
        """The address is that of the connection below."""
        self.connect()
        self.assertEqual("192.0.2.7", self.house.gate.claims[0].address)

    def test_transport(self) -> None:
        """What else a transport can do, it does on the connection below."""
        wire = self.begin()
        transport = wire.protocol.wrappedProtocol._mqtt.transport
        self.assertEqual(wire.getHost(), transport.getHost())
        transport.writeSequence([b"a", b"b"])
        self.assertEqual([(BINARY, b"ab")], [tuple(one) for one in frames(wire.take())])
        wire.protocol.wrappedProtocol._mqtt.close(0x98, "over")
        self.assertEqual([CLOSE], [one.opcode for one in frames(wire.take())])
