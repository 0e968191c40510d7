"""What is written on a socket's TLS transport, and who produces it; the promises are Twisted's."""

import socket
from functools import partial
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ISSLTransport
from zope.interface.verify import verifyObject

from mfserver.tls.peer import IPeerTransport
from mfserver.tls.transport import TLSTransport
from tests.tls.sockets import Guest, SocketCase

#: More than any buffer of the system's takes.
LARGE = bytes(range(256)) * 40_960


class Producer:
    """Remembers what it was told, and does what a test wants when it is to go on."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.on_resume: Any = lambda: None

    def pauseProducing(self) -> None:
        self.heard.append("pause")

    def resumeProducing(self) -> None:
        self.heard.append("resume")
        self.on_resume()

    def stopProducing(self) -> None:
        self.heard.append("stop")


class WriteTests(SocketCase):
    """Everything that is written arrives, in order, without a call that waits."""

    def setUp(self) -> None:
        super().setUp()
        self.client, self.guest = self.connect()
        self.wire = self.guest.wire

    def arrives(self, data: bytes) -> None:
        self.house.until(lambda: len(self.client.read()) >= len(data) or self.client.ending)
        self.assertTrue(self.client.received == data, f"{len(self.client.received)} of {len(data)}")

    def test_interfaces(self) -> None:
        for interface in (ISSLTransport, IConsumer, IPushProducer, IPeerTransport):
            self.assertTrue(verifyObject(interface, self.wire))

    def test_writes_of_one_turn_leave_in_one_record(self) -> None:
        for _ in range(100):
            self.wire.write(b"x")
        self.wire.writeSequence([b"y", bytearray(b"z"), memoryview(b"!")])
        self.house.turn()
        sent = self.client.socket.recv(1 << 16)
        self.assertEqual(int.from_bytes(sent[3:5], "big") + 5, len(sent))
        self.client.connection.bio_write(sent)
        self.arrives(b"x" * 100 + b"yz!")

    def test_to_nobody_else(self) -> None:
        """What waits for one connection has no place in common with what waits for another."""
        other, guest = self.connect()
        for number in range(3):
            self.wire.write(b"one %d" % number)
            guest.wire.write(b"other %d" % number)
            self.house.turn()
        self.arrives(b"one 0one 1one 2")
        self.house.until(lambda: len(other.read()) >= 21 or other.ending)
        self.assertEqual(b"other 0other 1other 2", other.received)

    def test_nothing_leaves_before_the_turn_ends(self) -> None:
        self.wire.write(b"x")
        self.assertRaises(BlockingIOError, self.client.socket.recv, 1)

    def test_nothing_to_write(self) -> None:
        self.wire.write(b"")
        self.wire.writeSequence([])
        self.house.turn()
        self.assertFalse(self.house.reactor.is_ready())
        self.assertRaises(BlockingIOError, self.client.socket.recv, 1)

    def test_only_bytes(self) -> None:
        """Text and numbers are mistakes of the caller; what came before them is sent."""
        wire: Any = self.wire
        self.wire.write(b"before")
        for wrong in ("text", 5, None, [1, 2]):
            self.assertRaises(TypeError, wire.write, wrong)
        self.assertRaises(TypeError, wire.writeSequence, [b"a", "text"])
        wire.write(memoryview(bytearray(b" after")))
        self.arrives(b"before after")

    def test_a_buffer_can_be_used_again(self) -> None:
        """What was written is what it was then."""
        buffer = bytearray(b"now")
        wire: Any = self.wire
        wire.write(buffer)
        buffer[:] = b"who"
        self.arrives(b"now")

    def test_large_write_to_a_slow_reader(self) -> None:
        """Ten megabytes, of which the client takes a little now and then, and which other writes follow."""
        self.wire.write(LARGE)
        self.wire.write(b"the end")
        self.house.rest()
        taken = 0
        while not self.client.ending and taken < len(LARGE):
            self.client.connection.bio_write(self.client.socket.recv(300_000))
            self.client._decrypt()
            self.house.rest() if taken == 0 else self.house.turn()
            taken = len(self.client.received)
            if len(self.client.received) > 3_000_000:
                break
        self.arrives(LARGE + b"the end")

    def test_one_turn_sends_a_bounded_number_of_records(self) -> None:
        """However fast the client reads, the others have their turn."""
        self.wire.write(LARGE)
        self.client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        before = self.wire._held
        self.house.reactor.advance(0)
        self.assertGreaterEqual(self.wire._held, before - 64 * 16_384)

    def test_writing_waits_without_work(self) -> None:
        """While the client does not read, nobody turns in circles."""
        self.wire.write(LARGE)
        self.house.rest()
        self.assertFalse(self.house.reactor.is_ready())
        self.assertEqual(self.guest.lost, [])

    def test_reading_goes_on_meanwhile(self) -> None:
        self.wire.write(LARGE)
        self.house.rest()
        self.client.send(b"still here")
        self.house.until(lambda: self.guest.received == b"still here")

    def test_write_when_made(self) -> None:
        """From connectionMade on."""
        self.house.guests.prepare = lambda guest: setattr(
            guest, "on_made", lambda guest: guest.wire.write(b"welcome")
        )
        client, _ = self.connect()
        self.house.until(lambda: client.read() == b"welcome")

    def test_write_after_lose(self) -> None:
        """It is not sent."""
        self.wire.write(b"last")
        self.wire.loseConnection()
        self.wire.write(b"too late")
        self.house.until(self.client.is_over)
        self.assertEqual((self.client.received, self.client.ending), (b"last", "close_notify"))

    def test_write_when_it_is_lost(self) -> None:
        """From connectionLost on, nothing can be done wrong."""

        def late(guest: Guest) -> None:
            use_late(guest.wire)

        self.guest.on_lost = late
        self.client.reset()
        self.house.until(lambda: self.guest.lost)
        use_late(self.wire)
        self.house.rest()
        self.assertEqual(self.lost(self.guest), ConnectionLost)

    def test_the_peer_resets_while_we_write(self) -> None:
        self.wire.write(LARGE)
        self.house.rest()
        self.client.reset()
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionLost)


def use_late(wire: TLSTransport) -> None:
    """Everything that can be called, on a transport that is closed."""
    producer = Producer()
    wire.write(b"x")
    wire.writeSequence([b"x"])
    wire.pauseProducing()
    wire.resumeProducing()
    wire.registerProducer(producer, True)
    wire.registerProducer(producer, False)
    wire.unregisterProducer()
    wire.loseWriteConnection()
    wire.loseConnection()
    wire.stopProducing()
    wire.abortConnection()
    wire.flush()
    wire.handshake()
    wire.ready(1)
    wire.lose(ConnectionLost())
    wire.setTcpNoDelay(True)
    wire.setTcpNoDelay(False)
    wire.setTcpKeepAlive(True)
    assert producer.heard == ["stop", "stop"]
    assert (wire.fileno(), wire.getHandle(), wire.getPeerCertificate()) == (-1, None, None)
    assert not wire.getTcpNoDelay() and not wire.getTcpKeepAlive()
    assert wire.getPeer() is not None


class ProducerTests(SocketCase):
    """IPushProducer and IPullProducer."""

    def setUp(self) -> None:
        super().setUp()
        self.client, self.guest = self.connect(receive_buffer=4096)
        self.wire = self.guest.wire
        self.producer = Producer()

    def fill(self) -> None:
        """Write until nothing more goes."""
        self.wire.write(LARGE)
        self.house.rest()
        self.assertGreater(self.wire._held, 1 << 16)

    def drain(self) -> None:
        self.house.until(lambda: self.client.read() and not self.wire._held)

    def test_push(self) -> None:
        """It is paused above the high-water mark once, and goes on when all is sent."""
        self.wire.registerProducer(self.producer, True)
        self.assertEqual(self.producer.heard, [])
        self.wire.write(bytes(1 << 16))
        self.assertEqual(self.producer.heard, [])
        self.wire.write(b"x")
        self.wire.write(LARGE)
        self.assertEqual(self.producer.heard, ["pause"])
        self.house.rest()
        self.assertEqual(self.producer.heard, ["pause"])
        self.drain()
        self.assertEqual(self.producer.heard, ["pause", "resume"])
        self.house.rest()
        self.assertEqual(self.producer.heard, ["pause", "resume"])

    def test_push_writes_as_long_as_it_may(self) -> None:
        """A producer that fills the buffer again each time it may is asked again each time."""

        def more() -> None:
            if len(self.producer.heard) < 20:
                self.wire.write(bytes(100_000))

        self.producer.on_resume = more
        self.wire.registerProducer(self.producer, True)
        self.wire.write(bytes(100_000))
        self.house.until(lambda: self.client.read() and len(self.producer.heard) >= 20)
        self.drain()
        self.assertEqual(self.producer.heard[:4], ["pause", "resume"] * 2)

    def test_pull(self) -> None:
        """It is asked for the first piece at once, and for the next when that is sent."""
        pieces = [b"one", b"two", b"three"]

        def next_piece() -> None:
            if pieces:
                self.wire.write(pieces.pop(0))
            else:
                self.wire.unregisterProducer()

        self.producer.on_resume = next_piece
        self.wire.registerProducer(self.producer, False)
        self.assertEqual(self.producer.heard, ["resume"])
        self.house.until(lambda: self.client.read() == b"onetwothree")
        self.house.rest()
        self.assertEqual(self.producer.heard, ["resume"] * 4)

    def test_pull_is_not_asked_while_something_waits(self) -> None:
        self.producer.on_resume = lambda: self.wire.write(LARGE)
        self.wire.registerProducer(self.producer, False)
        self.house.rest()
        self.assertEqual(self.producer.heard, ["resume"])

    def test_twice(self) -> None:
        """There is one producer at a time; the second changes nothing."""
        self.wire.registerProducer(self.producer, True)
        self.assertRaises(RuntimeError, self.wire.registerProducer, Producer(), True)
        self.wire.unregisterProducer()
        self.wire.unregisterProducer()
        self.wire.registerProducer(Producer(), True)

    def test_after_the_end(self) -> None:
        """It is told to stop at once."""
        self.client.reset()
        self.house.until(lambda: self.guest.lost)
        for streaming in (True, False):
            producer = Producer()
            self.wire.registerProducer(producer, streaming)
            self.assertEqual(producer.heard, ["stop"])

    def test_lost_with_producer(self) -> None:
        """Whoever produces when the connection ends is told to stop once, before the protocol hears."""
        for streaming in (True, False):
            client, guest = self.connect()
            producer = Producer()
            heard: list[list[str]] = []
            guest.wire.registerProducer(producer, streaming)
            producer.heard.clear()
            guest.on_lost = partial(self.remember, producer, heard)
            client.reset()
            self.house.until(guest.is_lost)
            self.assertEqual((producer.heard, heard), (["stop"], [["stop"]]))

    def remember(self, producer: Producer, heard: list[list[str]], guest: Guest) -> None:
        heard.append(list(producer.heard))

    def test_aborted_with_producer(self) -> None:
        self.wire.registerProducer(self.producer, True)
        self.fill()
        self.wire.abortConnection()
        self.house.turn()
        self.assertEqual(self.producer.heard, ["pause", "stop"])
        self.assertEqual(self.lost(self.guest), ConnectionAborted)

    def test_lose_with_producer(self) -> None:
        """What it still produces is sent; the connection ends when it is done."""
        self.wire.registerProducer(self.producer, True)
        self.wire.loseConnection()
        self.house.rest()
        self.wire.write(b"some more")
        self.house.until(lambda: self.client.read() == b"some more")
        self.assertEqual(self.client.ending, "")
        self.wire.unregisterProducer()
        self.wire.write(b"too late")
        self.house.until(self.client.is_over)
        self.assertEqual((self.client.received, self.client.ending), (b"some more", "close_notify"))
        self.client.close()
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionDone)

    def test_lose_while_it_is_paused(self) -> None:
        self.wire.registerProducer(self.producer, True)
        self.fill()
        self.wire.loseConnection()
        self.house.rest()
        self.assertEqual(self.producer.heard, ["pause"])
        self.drain()
        self.assertEqual(self.producer.heard, ["pause", "resume"])
        self.assertEqual(self.client.ending, "")

    def test_unregistered_while_paused(self) -> None:
        """A producer that is gone is told nothing more; the next one begins afresh."""
        self.wire.registerProducer(self.producer, True)
        self.fill()
        self.wire.unregisterProducer()
        second = Producer()
        self.wire.registerProducer(second, True)
        self.drain()
        self.assertEqual(self.producer.heard, ["pause"])
        self.assertEqual(second.heard, [])

    def test_the_peer_closes_with_producer(self) -> None:
        """Nobody is there any more to produce for."""
        self.wire.registerProducer(self.producer, True)
        self.client.close()
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.producer.heard, ["stop"])
        self.assertEqual(self.lost(self.guest), ConnectionDone)

    def break_down(self) -> None:
        raise ZeroDivisionError("ono")

    def test_raises_when_it_is_to_go_on(self) -> None:
        """Its connection ends; it would never be asked again."""
        self.producer.on_resume = self.break_down
        self.wire.registerProducer(self.producer, True)
        self.fill()
        self.house.until(lambda: self.client.read() and (self.guest.lost or self.client.ending))
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_pull_raises(self) -> None:
        self.wire.registerProducer(self.producer, False)
        self.producer.on_resume = self.break_down
        self.wire.write(b"x")
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_aborts_when_it_is_to_go_on(self) -> None:
        """From inside a producer's call, too, connectionLost comes later."""

        def abort() -> None:
            self.guest.inside = True
            self.wire.abortConnection()
            self.guest.inside = False

        self.producer.on_resume = abort
        self.wire.registerProducer(self.producer, True)
        self.fill()
        self.house.until(lambda: self.client.read() and self.guest.lost)
        self.assertEqual(self.producer.heard, ["pause", "resume", "stop"])
        self.assertEqual(self.lost(self.guest), ConnectionAborted)

    def test_stop_raises(self) -> None:
        """The protocol hears of the end all the same."""
        self.wire.registerProducer(self.producer, True)
        self.producer.stopProducing = self.break_down  # type: ignore[method-assign]
        self.client.reset()
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class OldWriteTests(WriteTests):
    """As under TLS 1.3."""

    version = SSL.TLS1_2_VERSION
