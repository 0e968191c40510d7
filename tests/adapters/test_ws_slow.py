"""WebSockets whose peer does not answer or does not read, in memory."""

from mfserver import message
from mfserver.message import Message
from tests.adapters.fakes import Wire
from tests.adapters.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    WSTestCase,
    close_code,
    frame,
    frames,
)


class PingTests(WSTestCase):
    """A peer that is silently gone is noticed."""

    def test_ping(self) -> None:
        """A ping every thirty seconds; who answers stays."""
        wire = self.open("alice")
        for _ in range(3):
            self.house.clock.advance(31)
            (ping,) = frames(wire.take())
            self.assertEqual(PING, ping.opcode)
            self.assertEqual(b"", wire.receive(frame(PONG, ping.payload)))
        self.assertFalse(wire.aborted)

    def test_no_pong(self) -> None:
        """Who answers nothing for thirty seconds more is cut off, and logged out."""
        wire = self.open("alice")
        self.house.clock.advance(31)
        self.house.clock.advance(28)
        self.assertFalse(wire.aborted)
        self.house.clock.advance(3)
        self.assertTrue(wire.aborted)


class IncompleteTests(WSTestCase):
    """What comes of a message before its end is bounded, in bytes and in pieces."""

    def held(self, wire: Wire) -> int:
        """How many pieces are kept."""
        return len(wire.protocol.wrappedProtocol.message_data)

    def test_counted(self) -> None:
        """It counts for the budget of all clients until the message is whole or the peer is gone."""
        alice, bob = self.open("alice"), self.open("bob", "/mqtt", "Sec-WebSocket-Protocol: mqtt")
        alice.receive(frame(BINARY, bytes(300), final=False) + frame(CONTINUATION, bytes(100))[:50])
        bob.receive(frame(BINARY, bytes(200), final=False))
        self.assertEqual(300 + 50 - 6 + 200, self.house.budget.used)
        (echo,) = frames(alice.receive(frame(CONTINUATION, bytes(100))[50:]))
        self.assertEqual(400, len(echo.payload))
        self.assertEqual(200, self.house.budget.used)
        bob.lose()
        self.assertEqual(0, self.house.budget.used)

    def test_too_much(self) -> None:
        """Who makes it too much is closed with 1013, and the others go on."""
        self.house.budget.maximum = 500
        alice, bob = self.open("alice"), self.open("bob")
        alice.receive(frame(BINARY, bytes(400), final=False))
        self.assertEqual(1013, close_code(bob.receive(frame(BINARY, bytes(101), final=False))))
        bob.receive(frame(CONTINUATION, bytes(101)))
        self.assertEqual(400, self.house.budget.used)
        self.assertEqual(400, len(frames(alice.receive(frame(CONTINUATION)))[0].payload))
        self.assertEqual(0, self.house.budget.used)

    def test_small_pieces(self) -> None:
        """Pieces of one byte, be they frames or segments of one, are not kept each by itself."""
        self.house.ws._factory.setProtocolOptions(maxMessagePayloadSize=5000)
        alice = self.open("alice")
        alice.receive(frame(BINARY, b"x", final=False))
        for _ in range(2000):
            alice.receive(frame(CONTINUATION, b"y", final=False))
        self.assertLess(self.held(alice), 1100)
        (echo,) = frames(alice.receive(frame(CONTINUATION, b"z")))
        self.assertEqual(b"x" + b"y" * 2000 + b"z", echo.payload)
        self.house.ws._factory.setProtocolOptions(maxFramePayloadSize=5000)
        alice = self.open("alice")
        for byte in frame(BINARY, bytes(3000))[:-1]:
            alice.receive(bytes([byte]))
        self.assertLess(len(alice.protocol.wrappedProtocol.frame_data), 1100)


class SlowTests(WSTestCase):
    """A peer that does not read is bounded."""

    def test_pongs(self) -> None:
        """Pings of a peer that does not read are not answered: the answers would pile up."""
        for path, headers in ("/ws/channels/c/messages", ()), ("/mqtt", ("Sec-WebSocket-Protocol: mqtt",)):
            bob = self.open("bob", path, *headers)
            bob.producer.pauseProducing()
            self.assertEqual(b"", bob.receive(frame(PING, b"1") * 3))
            bob.producer.resumeProducing()
            self.assertEqual(b"2", frames(bob.receive(frame(PING, b"2")))[0].payload)
            bob.producer.stopProducing()
            self.house.end_turn()

    def publish(self, payload: bytes, qos: int) -> None:
        """A message for everybody on channel c."""
        self.house.router.publish(Message("c", (), "", "x", message.MQTT, payload, "", 0, qos))

    def test_waits(self) -> None:
        """What waits is sent in its order when the peer reads again, if the thing still may have it."""
        bob = self.open("bob")
        bob.producer.pauseProducing()
        for payload in (b"1", b"2"):
            self.publish(payload, 1)
        self.assertEqual(b"", bob.take())
        bob.producer.resumeProducing()
        self.assertEqual([b"1", b"2"], [one.payload for one in frames(bob.take())])
        bob.producer.pauseProducing()
        self.publish(b"3", 1)
        self.bob.channels.clear()
        bob.producer.resumeProducing()
        self.assertEqual(b"", bob.take())

    def test_expires(self) -> None:
        """What has expired while it waited is not sent any more; what has not, or never does, is."""
        bob = self.open("bob")
        bob.producer.pauseProducing()
        now = 1_600_000_000_000_000_000
        for expires in (now - 1, 0, now, now + 1):
            payload = str(expires - now).encode()
            self.house.router.publish(
                Message("c", (), "", "x", message.MQTT, payload, "", 0, 1, expires=expires)
            )
        bob.producer.resumeProducing()
        self.assertEqual([str(-now).encode(), b"1"], [one.payload for one in frames(bob.take())])

    def test_ready(self) -> None:
        """It is ready for the messages of a group while it is open and reads."""
        bob = self.open("bob")
        protocol = bob.protocol.wrappedProtocol
        self.assertTrue(protocol.is_ready())
        bob.producer.pauseProducing()
        self.assertFalse(protocol.is_ready())
        bob.producer.resumeProducing()
        self.assertTrue(protocol.is_ready())
        bob.lose()
        self.assertFalse(protocol.is_ready())

    def test_pauses_again(self) -> None:
        """A transport that is full again in the middle gets the rest later."""
        bob = self.open("bob")
        bob.producer.pauseProducing()
        for payload in (b"1", b"2"):
            self.publish(payload, 1)
        write = bob.write

        def fill(data: bytes) -> None:
            write(data)
            bob.producer.pauseProducing()

        bob.write = fill  # type: ignore[method-assign]
        bob.producer.resumeProducing()
        self.assertEqual([b"1"], [one.payload for one in frames(bob.take())])
        bob.producer.resumeProducing()
        self.assertEqual([b"2"], [one.payload for one in frames(bob.take())])

    def test_qos_0_is_dropped(self) -> None:
        """Past the bound QoS 0 is dropped and counted, and there is room again after reading."""
        bob = self.open("bob")
        bob.producer.pauseProducing()
        for _ in range(5):
            self.publish(b"x" * 900, 0)
        self.assertEqual(2, self.house.ws.dropped)
        self.assertFalse(bob.aborted)
        bob.producer.resumeProducing()
        self.assertEqual(3, len(frames(bob.take())))
        bob.producer.pauseProducing()
        self.publish(b"x" * 900, 0)
        self.assertEqual(2, self.house.ws.dropped)

    def test_more_is_aborted(self) -> None:
        """Past the bound QoS 1 cuts the peer off, and the log is told once."""
        bob = self.open("bob")
        bob.producer.pauseProducing()
        for _ in range(6):
            self.publish(b"x" * 900, 1)
        self.assertTrue(bob.aborted)
        self.assertEqual([("a WebSocket does not read and is closed", "thing bob")], self.house.reports)
        self.assertEqual(0, self.house.ws.dropped)

    def test_bound(self) -> None:
        """Exactly the bound may wait, and one byte more may not; each takes 64 bytes besides its own."""
        for last, dropped in ((3000 - 2 * 1064, 0), (3000 - 2 * 1064 + 1, 1)):
            bob = self.open("bob")
            bob.producer.pauseProducing()
            for size in (1000, 1000, last):
                self.publish(b"x" * size, 0)
            self.assertEqual(dropped, self.house.ws.dropped)
            bob.producer.resumeProducing()
            self.assertEqual(3 - dropped, len(frames(bob.take())))
            bob.lose()

    def test_empty_messages(self) -> None:
        """Empty messages take room too."""
        bob = self.open("bob")
        bob.producer.pauseProducing()
        for _ in range(100):
            self.publish(b"", 0)
        self.assertGreater(self.house.ws.dropped, 40)

    def test_ended_while_it_waits(self) -> None:
        """What waits for a WebSocket that ends is never sent."""
        bob = self.open("bob")
        bob.producer.pauseProducing()
        self.publish(b"secret", 1)
        bob.protocol.wrappedProtocol.end("over")
        bob.producer.resumeProducing()
        self.assertEqual([CLOSE], [one.opcode for one in frames(bob.take())])

    def test_stopped(self) -> None:
        """A transport that stops its producer frees what waits."""
        bob = self.open("bob")
        bob.producer.pauseProducing()
        self.publish(b"x", 1)
        bob.producer.stopProducing()
        bob.producer.resumeProducing()
        self.assertEqual(b"", bob.take())
