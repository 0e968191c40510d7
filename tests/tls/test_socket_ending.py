"""How connections on a socket's TLS end: each once, with the right reason, and for the peer to see."""

import os
import select
import socket
from contextlib import ExitStack
from functools import partial
from select import EPOLLIN

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from mfserver.tls.transport import LINGER
from tests.collecting import not_collecting
from tests.tls.sockets import Client, Guest, House, SocketCase

LARGE = bytes(10_000_000)


class CloseTests(SocketCase):
    """Either side says close_notify."""

    def setUp(self) -> None:
        super().setUp()
        self.client, self.guest = self.connect()
        self.wire = self.guest.wire

    def test_we_close(self) -> None:
        """What was written arrives, then close_notify; the peer's own ends it at once."""
        self.wire.write(b"bye")
        self.wire.loseConnection()
        self.assertTrue(self.wire.disconnecting)
        self.house.until(self.client.is_over)
        self.assertEqual((self.client.received, self.client.ending), (b"bye", "close_notify"))
        self.house.rest()
        self.assertEqual(self.guest.lost, [])
        self.client.close()
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionDone)
        self.assertEqual(self.house.reactor.getDelayedCalls(), [])

    def test_twice(self) -> None:
        self.wire.loseConnection()
        self.wire.loseConnection()
        self.house.turn()
        self.wire.loseConnection()
        self.wire.loseWriteConnection()
        self.wire.stopProducing()
        self.house.rest()
        self.client.read()
        self.assertEqual(self.client.ending, "close_notify")
        self.client.close()
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionDone)

    def test_goodbye(self) -> None:
        """Who says so, and close_notify behind it, is gone in the same turn, answered and without a timer."""
        self.hear_first(self.client, self.guest)
        self.guest.on_data = lambda guest: guest.wire.loseConnection()
        said = self.client.records(b"goodbye")
        self.client.connection.shutdown()
        self.client.put(said + self.client.records())
        self.wire.ready(EPOLLIN)
        self.assertEqual(self.lost(self.guest), ConnectionDone)
        [turn] = self.house.reactor.getDelayedCalls()
        self.assertEqual(turn.getTime(), self.house.reactor.seconds())
        self.house.until(self.client.is_over)
        self.assertEqual((self.client.received, self.client.ending), (b"", "close_notify"))

    def test_goodbye_of_one_who_has_answers_to_come(self) -> None:
        """What its protocol wrote is sent before the end."""
        self.guest.on_data = say_goodbye
        said = self.client.records(b"goodbye")
        self.client.connection.shutdown()
        self.client.put(said + self.client.records())
        self.house.until(self.client.is_over)
        self.assertEqual((self.client.received, self.client.ending), (b"goodbye", "close_notify"))
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionDone)

    def test_other_ways_to_say_it(self) -> None:
        """There is no half that stays open."""
        for name in ("loseWriteConnection", "stopProducing"):
            client, guest = self.connect()
            getattr(guest.wire, name)()
            self.house.until(client.is_over)
            self.assertEqual(client.ending, "close_notify")

    def test_in_connection_made(self) -> None:
        """It is heard though the handshake is just over."""
        self.house.guests.prepare = lambda guest: setattr(guest, "on_made", say_goodbye)
        client = self.house.connect(self.client_context())
        with self.assertRaises(AssertionError):
            client.handshake()
        self.assertEqual((client.received, client.ending), (b"goodbye", "close_notify"))

    def test_in_data_received(self) -> None:
        self.guest.on_data = say_goodbye
        self.client.send(b"hello")
        self.house.until(self.client.is_over)
        self.assertEqual((self.client.received, self.client.ending), (b"goodbye", "close_notify"))

    def test_what_the_peer_says_meanwhile(self) -> None:
        """Until its close_notify is here it is heard, whoever had paused the reading."""
        self.wire.pauseProducing()
        self.wire.loseConnection()
        self.client.send(b"one more thing")
        self.house.until(lambda: self.guest.received)
        self.assertEqual(self.guest.received, b"one more thing")

    def test_deadline(self) -> None:
        """A peer that does not answer is aborted after half a minute."""
        self.wire.loseConnection()
        self.house.rest()
        self.house.reactor.advance(LINGER - 0.1)
        self.house.rest()
        self.assertEqual(self.guest.lost, [])
        self.house.reactor.advance(0.2)
        self.house.turn()
        self.assertEqual(self.lost(self.guest), ConnectionAborted)

    def test_deadline_while_data_waits(self) -> None:
        """Neither does one that does not read what was written before."""
        self.wire.write(LARGE)
        self.wire.loseConnection()
        self.house.rest()
        self.house.reactor.advance(LINGER + 0.1)
        self.house.turn()
        self.assertEqual(self.lost(self.guest), ConnectionAborted)

    def test_a_busy_peer_gets_no_more_time(self) -> None:
        """Data from the peer does not move the deadline."""
        self.wire.loseConnection()
        for _ in range(31):
            self.client.send(b"x")
            self.house.turn(2)
            self.house.reactor.advance(1)
        self.house.turn()
        self.assertEqual(self.lost(self.guest), ConnectionAborted)

    def test_large_write_then_close(self) -> None:
        self.wire.write(LARGE)
        self.wire.loseConnection()
        self.house.until(self.client.is_over)
        self.assertEqual((len(self.client.received), self.client.ending), (len(LARGE), "close_notify"))

    def test_the_peer_closes(self) -> None:
        """Our own close_notify answers at once."""
        self.client.close()
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionDone)
        self.house.until(self.client.is_over)
        self.assertEqual(self.client.ending, "close_notify")

    def test_answers_leave_though_the_peer_closed(self) -> None:
        """A request with close_notify behind it, as HTTP clients send them, is answered."""
        self.guest.on_data = lambda guest: guest.wire.write(b"the answer")
        self.client.put(self.client.records(b"a question"))
        self.client.close()
        self.house.until(self.client.is_over)
        self.assertEqual((self.client.received, self.client.ending), (b"the answer", "close_notify"))
        self.assertEqual(self.lost(self.guest), ConnectionDone)

    def test_a_large_answer_leaves_though_the_peer_closed(self) -> None:
        self.guest.on_data = lambda guest: guest.wire.write(LARGE)
        self.client.put(self.client.records(b"a question"))
        self.client.close()
        self.house.until(self.client.is_over)
        self.assertEqual(len(self.client.received), len(LARGE))
        self.assertEqual(self.client.ending, "close_notify")

    def test_the_peer_closes_and_never_reads(self) -> None:
        """An answer that nobody takes does not keep the connection."""
        self.guest.on_data = lambda guest: guest.wire.write(LARGE)
        self.client.put(self.client.records(b"a question"))
        self.client.close()
        self.house.rest()
        self.assertEqual(self.guest.lost, [])
        self.house.reactor.advance(LINGER + 0.1)
        self.house.turn()
        self.assertEqual(self.lost(self.guest), ConnectionAborted)

    def test_lose_after_the_peer_closed(self) -> None:
        """It is done already, and nothing is reset."""
        self.guest.on_data = lambda guest: guest.wire.write(LARGE)
        self.client.put(self.client.records(b"a question"))
        self.client.close()
        self.house.rest()
        self.wire.loseConnection()
        self.house.until(self.client.is_over)
        self.assertEqual((len(self.client.received), self.client.ending), (len(LARGE), "close_notify"))
        self.assertEqual(self.lost(self.guest), ConnectionDone)

    def test_full_network(self) -> None:
        """close_notify leaves even where the last record just filled the system's buffer."""
        client, guest, sent = self.full()
        guest.wire.loseConnection()
        self.house.rest()
        self.assertFalse(guest.wire._is_notified)
        self.house.until(client.is_over)
        self.assertEqual((len(client.received), client.ending), (sent, "close_notify"))
        client.close()
        self.house.until(guest.is_lost)
        self.assertEqual(self.lost(guest), ConnectionDone)

    def test_full_network_when_the_peer_closes(self) -> None:
        """Our answer to close_notify waits for room, and is not given up when it is asked for again."""
        client, guest, sent = self.full()
        client.close()
        self.house.rest()
        self.assertEqual(guest.lost, [])
        guest.wire.loseConnection()
        self.house.until(client.is_over)
        self.assertEqual((len(client.received), client.ending), (sent, "close_notify"))
        self.assertEqual(self.lost(guest), ConnectionDone)


def say_goodbye(guest: Guest) -> None:
    guest.wire.write(b"goodbye")
    guest.wire.loseConnection()


class OldCloseTests(CloseTests):
    """As under TLS 1.3."""

    version = SSL.TLS1_2_VERSION


class LossTests(SocketCase):
    """The peer, or the network, ends it without a word; or a protocol fails."""

    def setUp(self) -> None:
        super().setUp()
        self.client, self.guest = self.connect()
        self.wire = self.guest.wire

    def test_end_without_close_notify(self) -> None:
        """What may have been cut off is never taken for a whole."""
        self.client.send(b"half a mess")
        self.client.socket.shutdown(socket.SHUT_WR)
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionLost)
        self.assertEqual(self.guest.received, b"half a mess")

    def test_end_within_a_record(self) -> None:
        self.client.put(self.client.records(b"half a record")[:-1])
        self.client.socket.close()
        self.house.until(lambda: self.guest.lost)
        self.assertEqual((self.lost(self.guest), self.guest.received), (ConnectionLost, b""))

    def test_reset(self) -> None:
        self.client.reset()
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionLost)

    def test_reset_while_nobody_reads(self) -> None:
        """A paused connection whose peer is gone ends, too, and nobody turns in circles over it."""
        self.wire.pauseProducing()
        self.house.turn()
        self.client.reset()
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionLost)

    def test_end_while_closing(self) -> None:
        """After our close_notify the peer owes us nothing more."""
        self.wire.loseConnection()
        self.house.rest()
        self.client.socket.close()
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionDone)

    def test_forged_record(self) -> None:
        """It ends the connection, and the client is told why."""
        record = bytearray(self.client.records(b"hello"))
        record[-1] ^= 1
        self.client.put(bytes(record))
        self.house.until(self.client.is_over)
        self.assertIn("bad record mac", self.client.ending)
        self.assertEqual((self.lost(self.guest), self.guest.received), (SSL.Error, b""))

    def test_protocol_that_fails(self) -> None:
        """It hears of its own mistake, and nobody else is harmed."""
        other_client, other = self.connect()

        def break_down(guest: Guest) -> None:
            raise ZeroDivisionError("ono")

        self.guest.on_data = break_down
        self.client.send(b"x")
        other_client.send(b"y")
        self.house.until(lambda: self.guest.lost and other.received)
        self.assertEqual(self.lost(self.guest), ZeroDivisionError)
        self.assertEqual(other.lost, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_protocol_that_fails_after_an_abort(self) -> None:
        """The first reason is the one that counts."""

        def break_down(guest: Guest) -> None:
            guest.wire.abortConnection()
            raise ZeroDivisionError("ono")

        self.guest.on_data = break_down
        self.client.send(b"x")
        self.house.until(lambda: self.guest.lost)
        self.assertEqual(self.lost(self.guest), ConnectionAborted)
        self.house.until(self.client.is_over)
        self.assertEqual(self.client.ending, "reset")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_protocol_that_fails_when_it_is_made(self) -> None:
        def break_down(guest: Guest) -> None:
            raise ZeroDivisionError("ono")

        self.house.guests.prepare = lambda guest: setattr(guest, "on_made", break_down)
        client = self.house.connect(self.client_context())
        client.hello()
        self.house.until(client.is_over)
        guest = self.house.guests.made[-1]
        self.assertEqual(self.lost(guest), ZeroDivisionError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_protocol_that_fails_when_it_is_lost(self) -> None:
        def break_down(guest: Guest) -> None:
            raise ZeroDivisionError("ono")

        self.guest.on_lost = break_down
        self.client.reset()
        self.house.until(lambda: self.guest.lost)
        self.house.rest()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class AbortTests(SocketCase):
    """At once, whatever waits; connectionLost follows, never from inside a call."""

    def setUp(self) -> None:
        super().setUp()
        self.client, self.guest = self.connect()
        self.wire = self.guest.wire

    def test_abort(self) -> None:
        self.wire.write(b"never sent")
        self.wire.abortConnection()
        self.assertEqual(self.guest.lost, [])
        self.wire.abortConnection()
        self.wire.loseConnection()
        self.wire.write(b"nor this")
        self.house.turn()
        self.assertEqual(self.lost(self.guest), ConnectionAborted)
        self.house.until(self.client.is_over)
        self.assertEqual((self.client.received, self.client.ending), (b"", "reset"))

    def test_in_data_received(self) -> None:
        """Nothing is heard any more, not even what is here already."""
        self.guest.on_data = lambda guest: guest.wire.abortConnection()
        self.client.put(self.client.records(bytes(16_384)) + self.client.records(b"y"))
        self.house.until(lambda: self.guest.lost)
        self.assertEqual((self.lost(self.guest), self.guest.received), (ConnectionAborted, bytes(16_384)))

    def test_in_connection_made(self) -> None:
        self.house.guests.prepare = lambda guest: setattr(
            guest, "on_made", lambda guest: guest.wire.abortConnection()
        )
        client = self.house.connect(self.client_context())
        with self.assertRaises(AssertionError):
            client.handshake()
        self.assertEqual(client.ending, "reset")
        self.assertEqual(self.lost(self.house.guests.made[-1]), ConnectionAborted)

    def test_by_another_one(self) -> None:
        """Both have data in the same turn; the first aborts the second, which hears nothing more."""
        other_client, other = self.connect()
        both = [self.guest, other]
        self.guest.on_data = lambda guest: other.wire.abortConnection()
        other.on_data = lambda guest: self.wire.abortConnection()
        for client in (self.client, other_client):
            client.send(b"x")
        self.house.until(lambda: self.guest.lost or other.lost)
        self.assertEqual(sorted(len(guest.received) for guest in both), [0, 1])
        self.assertEqual(sorted(len(guest.lost) for guest in both), [0, 1])

    def test_while_closing(self) -> None:
        self.wire.loseConnection()
        self.house.rest()
        self.wire.abortConnection()
        self.house.turn()
        self.assertEqual(self.lost(self.guest), ConnectionAborted)

    def test_while_data_waits(self) -> None:
        """The rest of a large write is forgotten."""
        self.wire.write(LARGE)
        self.house.rest()
        self.wire.abortConnection()
        self.house.turn()
        self.assertEqual(self.lost(self.guest), ConnectionAborted)
        self.house.until(self.client.is_over)
        self.assertLess(len(self.client.received), len(LARGE))

    def test_while_paused(self) -> None:
        self.wire.pauseProducing()
        self.wire.abortConnection()
        self.wire.resumeProducing()
        self.client.send(b"x")
        self.house.turn()
        self.assertEqual((self.lost(self.guest), self.guest.received), (ConnectionAborted, b""))


class DescriptorTests(SocketCase):
    """A descriptor that is closed is somebody else's at once: nothing of ours may reach it."""

    def setUp(self) -> None:
        stack = ExitStack()
        self.addCleanup(stack.close)
        stack.enter_context(not_collecting())  # it would close what other tests left, and free their numbers
        super().setUp()

    def stranger(self, number: int) -> tuple[socket.socket, socket.socket]:
        """A pair of sockets, the first of which has this descriptor."""
        pairs = []
        while True:
            pair = socket.socketpair()
            pairs.append(pair)
            self.addCleanup(pair[0].close)
            self.addCleanup(pair[1].close)
            if pair[0].fileno() == number:
                break
            if pair[1].fileno() == number:
                pair = (pair[1], pair[0])
                break
            self.assertLess(len(pairs), 100)
        for one in pair:
            one.setblocking(False)
        return pair

    def end(self, how: str, client: Client, guest: Guest) -> None:
        if how == "reset":
            client.reset()
        elif how == "abort":
            guest.wire.abortConnection()
        elif how == "close_notify":
            client.close()
        elif how == "garbage":
            client.put(b"\x17\x03\x03\x00\x20" + bytes(32))
        elif how == "deadline":
            guest.wire.loseConnection()
            self.house.rest()
            self.house.reactor.advance(LINGER + 1)
        self.house.until(lambda: guest.lost)

    def test_nothing_reaches_the_next_one(self) -> None:
        """Whatever is called late, and whichever timer runs: a stranger's socket hears and loses nothing."""
        for how in ("reset", "abort", "close_notify", "garbage", "deadline"):
            with self.subTest(how=how):
                client, guest = self.connect()
                wire, number = guest.wire, guest.wire.fd
                wire.write(LARGE if how != "close_notify" else b"x")
                self.house.turn()
                self.end(how, client, guest)
                ours, theirs = self.stranger(number)
                theirs.send(b"for a stranger")
                for late in (
                    partial(wire.write, b"late"),
                    wire.flush,
                    partial(wire.ready, select.EPOLLIN | select.EPOLLOUT | select.EPOLLHUP),
                    wire.handshake,
                    wire.loseConnection,
                    wire.abortConnection,
                    wire.resumeProducing,
                    partial(wire.lose, ConnectionLost()),
                    partial(wire.setTcpKeepAlive, True),
                    partial(self.house.reactor.advance, 100),
                    self.house.turn,
                ):
                    late()
                self.assertRaises(BlockingIOError, theirs.recv, 1)
                self.assertEqual(ours.recv(100), b"for a stranger")
                os.fstat(number)

    def test_the_next_connection_has_its_number(self) -> None:
        """A connection that gets the number of one that ended in the same turn works."""
        _, guest = self.connect()
        number = guest.wire.fd
        guest.wire.abortConnection()
        second, other = self.connect()
        self.assertEqual(other.wire.fd, number)
        guest.wire.write(b"late")
        guest.wire.abortConnection()
        second.send(b"hello")
        other.wire.write(b"welcome")
        self.house.until(lambda: second.read() and other.received)
        self.assertEqual((second.received, other.received, guest.received), (b"welcome", b"hello", b""))


class StopTests(SocketCase):
    """The reactor ends."""

    def test_everybody_is_told(self) -> None:
        """Open connections, those that shake hands, those that close, and one that fails."""
        house = self.house
        opened = [self.connect() for _ in range(3)]
        house.connect(self.client_context()).hello()
        opened[0][1].wire.loseConnection()
        opened[1][1].wire.write(LARGE)
        house.turn()
        house.plain().close()
        silent = house.plain()
        house.turn(2)
        house.close()
        silent.close()
        for _, guest in opened:
            self.assertEqual(len(guest.lost), 1)
        self.assertEqual((house.reactor.readers, house.reactor.getDelayedCalls()), ([], []))
        self.assertEqual(house.poller.fileno(), -1)

    def test_handshakes_that_wait(self) -> None:
        """No timed call is left behind when the last connection ends though somebody waited for a turn."""
        house = House(self.context)
        for _ in range(5):
            house.connect(self.client_context()).hello()
        for reader in list(house.reactor.readers):
            reader.doRead()
            reader.doRead()
        self.assertEqual(len([call for call in house.reactor.getDelayedCalls() if call.getTime() == 0]), 1)
        house.poller.connectionLost(Failure(ConnectionDone()))
        for client in house.clients:
            client.socket.close()
        self.assertEqual((house.reactor.readers, house.reactor.getDelayedCalls()), ([], []))

    def test_only_while_there_is_something(self) -> None:
        """The reactor knows the poller as long as it watches anybody."""
        house = House(self.context)
        self.assertEqual(house.reactor.readers, [house.poller])
        client = house.connect(self.client_context())
        guest = client.handshake()
        house.port.stopListening()
        house.port.stopListening()
        self.assertEqual(house.reactor.readers, [house.poller])
        client.close()
        house.until(lambda: guest.lost)
        self.assertEqual(house.reactor.readers, [])
        self.assertEqual(house.reactor.getDelayedCalls(), [])
        client.socket.close()
