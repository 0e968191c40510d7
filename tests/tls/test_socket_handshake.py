"""From the accepted socket to the application's protocol: who is let in, when, and who is not."""

import contextlib
import errno
import os
import resource
import select
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from OpenSSL import SSL
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, connectionDone

from mfserver.tls.limit import ConnectionLimit
from mfserver.tls.peer import peer_of
from tests.tls.pki import DAY, KEY, Authority
from tests.tls.sockets import Client, Guest, Guests, House, SocketCase

#: Bytes that are no TLS, or end where they should not.
GARBAGE = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test",
    bytes(1000),
    b"\x16\x03\x01\xff\xff",
    b"\x16\x03\x01\x00\x00" * 100,
    b"\x14\x03\x03\x00\x01\x01" * 100,
    b"\x15\x03\x03\x00\x02\x02\x28",
    b"\x17\x03\x03\x00\x01x",
    b"\x80\x2e\x01\x03\x01",
)


class AdmissionTests(SocketCase):
    """Who gets a protocol, and which."""

    def shake(self, context: SSL.Context, session: SSL.Session | None = None) -> Client:
        client = self.house.connect(context, session)
        client.hello()
        self.house.until(lambda: client.is_over() or self.done(client))
        self.house.rest()
        client.read()
        return client

    def done(self, client: Client) -> bool:
        return client.connection.get_state_string() == b"SSL negotiation finished successfully"

    def test_certificate(self) -> None:
        self.shake(self.client_context(self.authority.client()))
        [guest] = self.house.guests.made
        peer = peer_of(guest.transport)
        assert peer is not None
        self.assertEqual(peer.common_name(), KEY)
        self.assertEqual(self.context.handshakes_failed, 0)

    def test_first_words_with_the_handshake(self) -> None:
        """Data that comes in one piece with the end of the handshake is not left lying."""
        client = self.house.connect(self.client_context())
        client.hello()
        while not self.done(client):
            self.house.turn()
            with contextlib.suppress(BlockingIOError):
                client.connection.bio_write(client.socket.recv(1 << 16))
            with contextlib.suppress(SSL.WantReadError):
                client.connection.do_handshake()
            if not self.done(client):
                client.put(client.records())
        client.send(b"hello")
        self.house.until(lambda: self.house.guests.made)
        [guest] = self.house.guests.made
        self.house.until(partial(guest.has_received, b"hello"))

    def test_refused_while_it_talks(self) -> None:
        """The alert reaches a client that sent its first words behind a certificate that is refused."""
        client = self.house.connect(self.client_context(Authority("Other").client()))
        client.hello()
        self.house.until(lambda: client.read() or self.done(client) or client.ending)
        with contextlib.suppress(SSL.Error):
            client.send(bytes(100_000))
        self.house.until(client.is_over)
        self.assertIn("unknown ca", client.ending)
        self.assertEqual((self.house.guests.made, self.context.handshakes_failed), ([], 1))
        self.house.rest()
        self.house.reactor.advance(1.1)
        self.house.rest()
        self.assertEqual(self.house.reactor.getDelayedCalls(), [])

    def test_who_talks_on_after_the_alert(self) -> None:
        """A bounded amount is thrown away for it, and then no more."""
        client = self.house.connect(self.client_context())
        client.put(b"GET / HTTP/1.1\r\n\r\n")
        self.house.rest()
        self.assertEqual(self.context.handshakes_failed, 1)
        sent = 0
        with contextlib.suppress(ConnectionError):
            for _ in range(300):
                with contextlib.suppress(BlockingIOError):
                    sent += client.socket.send(bytes(1 << 16))
                self.house.turn()
        self.assertLess(sent, 12 << 20)
        self.assertEqual(self.house.reactor.getDelayedCalls(), [])

    def test_expired_since_the_session_began(self) -> None:
        """Our own records refuse a resumed session; the client is reset, and no protocol ever knew."""
        context = self.client_context(self.authority.client(end=DAY))
        session = self.shake(context).connection.get_session()
        assert session is not None
        late = House(self.context, now=lambda: 4e9)
        client = late.connect(context, session)
        client.hello()
        late.until(client.is_over)
        self.assertEqual((client.ending, late.guests.made), ("reset", []))
        self.assertEqual((self.context.peers_refused, self.context.handshakes_failed), (1, 1))
        late.close()

    def test_resumed(self) -> None:
        context = self.client_context(self.authority.client())
        first = self.shake(context)
        session = first.connection.get_session()
        self.shake(context, session)
        guest = self.house.guests.made[1]
        connection = guest.wire.getHandle()
        assert connection is not None
        self.assertFalse(connection.get_peer_cert_chain())
        peer = peer_of(guest.transport)
        assert peer is not None
        self.assertEqual(peer.common_name(), KEY)

    def test_alpn(self) -> None:
        mqtt = Guests()
        self.house = self.open(alpn={b"http/1.1": self.house.guests, b"mqtt": mqtt})
        self.shake(self.client_context(protocols=[b"h2", b"mqtt"]))
        [guest] = mqtt.made
        self.assertEqual(guest.wire.negotiatedProtocol, b"mqtt")
        self.shake(self.client_context())
        self.assertIsNone(self.house.guests.made[0].wire.negotiatedProtocol)
        mqtt.made.clear()

    def test_factory_that_declines(self) -> None:
        house = self.open(factory=Factories(lambda: None))
        client = house.connect(self.client_context())
        client.hello()
        house.until(client.is_over)
        self.assertEqual((client.ending, self.context.handshakes_failed), ("reset", 1))

    def test_factory_that_fails(self) -> None:
        """It is logged once, counted, and costs nobody else anything."""

        def break_down() -> None:
            raise ZeroDivisionError("ono")

        house = self.open(factory=Factories(break_down))
        client = house.connect(self.client_context())
        client.hello()
        house.until(client.is_over)
        self.assertEqual(self.context.handshakes_failed, 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(house.reactor.getDelayedCalls(), [])

    def test_factories_begin_and_end_once(self) -> None:
        self.assertEqual(self.house.guests.numPorts, 1)
        self.house.port.stopListening()
        self.assertEqual(self.house.guests.numPorts, 0)


class Factories(Factory):
    """Builds what it is told to."""

    noisy = False

    def __init__(self, build: Callable[[], Any]) -> None:
        self.build = build

    def buildProtocol(self, addr: object) -> Any:
        return self.build()


class OldAdmissionTests(AdmissionTests):
    """As under TLS 1.3."""

    version = SSL.TLS1_2_VERSION


class DeadlineTests(SocketCase):
    """A handshake has ten seconds, which no number of bytes prolongs."""

    def failed(self, client: Client) -> None:
        """The client was reset, was counted once, and left nothing behind."""
        self.house.until(client.is_over)
        self.assertEqual((client.ending, self.context.handshakes_failed), ("reset", 1))
        self.assertEqual([kind for kind, _ in self.house.reports], ["a TLS handshake failed"])
        self.assertEqual(self.house.reactor.getDelayedCalls(), [])

    def test_silence(self) -> None:
        client = self.house.connect(self.client_context())
        self.house.turn()
        self.house.reactor.advance(9.9)
        self.assertEqual(client.is_over(), "")
        self.house.reactor.advance(0.2)
        self.failed(client)

    def test_a_byte_a_second(self) -> None:
        client = self.house.connect(self.client_context())
        with contextlib.suppress(SSL.WantReadError):
            client.connection.do_handshake()
        for byte in client.records()[:11]:
            client.put(bytes([byte]))
            self.house.rest()
            self.house.reactor.advance(1)
        self.failed(client)

    def test_half_way(self) -> None:
        """Our own part is sent, and the client's last is missing."""
        client = self.house.connect(self.client_context())
        client.hello()
        self.house.rest()
        self.house.reactor.advance(10)
        self.failed(client)

    def test_while_it_waits_for_its_turn(self) -> None:
        """A deadline that passes in the queue ends it, and its turn later is nobody's."""
        client = self.house.connect(self.client_context())
        client.hello()
        for reader in list(self.house.reactor.readers):
            reader.doRead()
            reader.doRead()
        calls = self.house.reactor.getDelayedCalls()
        self.assertTrue(any(call.getTime() == 0 for call in calls))
        self.house.reactor.advance(10)
        self.failed(client)

    def test_never_ending(self) -> None:
        """A ClientHello that promises more and more, in records of one byte."""
        client = self.house.connect(self.client_context())
        client.put(b"\x16\x03\x01\x00\x04\x01\x01\xff\x00")
        for _ in range(20):
            client.put(b"\x16\x03\x01\x00\x01x" * 50)
            self.house.rest()
            self.house.reactor.advance(0.6)
        self.failed(client)

    def test_no_deadline_after(self) -> None:
        client, guest = self.connect()
        self.assertEqual(self.house.reactor.getDelayedCalls(), [])
        self.house.reactor.advance(3600)
        client.send(b"still here")
        self.house.until(partial(guest.has_received, b"still here"))

    def test_no_room_for_our_part(self) -> None:
        """The handshake waits for a client that does not read, without work, and goes on when it does."""
        client = self.house.pair(self.client_context(), 5000, is_full=True)
        client.hello()
        self.house.rest()
        self.assertFalse(self.house.reactor.is_ready())
        while client.ahead:
            client.ahead -= len(client.socket.recv(client.ahead))
        self.house.until(lambda: client.read() or self.house.guests.made)
        self.assertEqual(self.context.handshakes_failed, 0)

    def test_gone_before(self) -> None:
        """Closed or reset before a byte, or in the middle: counted, told once, nothing left behind."""
        ways = (Client.reset, lambda client: client.socket.close(), lambda client: client.hello())
        for number, way in enumerate(ways, 1):
            client = self.house.connect(self.client_context())
            way(client)
            self.house.rest()
            client.socket.close()
            self.house.rest()
            self.assertEqual(self.context.handshakes_failed, number)
        self.assertEqual(len(self.house.reports), 3)
        self.assertEqual(self.house.reactor.getDelayedCalls(), [])

    def test_garbage(self) -> None:
        """What is no TLS ends the connection, counted and not printed."""
        for number, data in enumerate(GARBAGE, 1):
            client = self.house.connect(self.client_context())
            client.put(data)
            self.house.rest()
            client.is_over()
            client.socket.close()
            self.house.rest()
            self.assertEqual(self.context.handshakes_failed, number, data)
        self.assertEqual(self.house.reactor.getDelayedCalls(), [])


class Instants:
    """A clock by which each handshake takes a certain time."""

    def __init__(self, step: float) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class StormTests(SocketCase):
    """Handshakes are worked off a slice a turn; live traffic flows between."""

    def storm(self, count: int, house: House) -> list[Client]:
        """So many ClientHellos, all accepted, none answered yet."""
        clients = [house.connect(self.client_context()) for _ in range(count)]
        for client in clients:
            client.hello()
        return clients

    def answered(self, clients: list[Client]) -> list[int]:
        """Who has got something from the server."""
        return [index for index, client in enumerate(clients) if select.select([client.socket], [], [], 0)[0]]

    def test_a_slice_a_turn(self) -> None:
        """By a clock on which a handshake takes a millisecond, two have their turn; the first come first."""
        house = self.open(clock=Instants(0.001))
        clients = self.storm(12, house)
        house.poller.doRead()
        house.poller.doRead()
        self.assertEqual(self.answered(clients), [])
        for count in (2, 4, 6):
            house.reactor.run_calls()
            self.assertEqual(self.answered(clients), list(range(count)))

    def test_one_is_always_done(self) -> None:
        house = self.open(clock=Instants(60))
        clients = self.storm(3, house)
        house.poller.doRead()
        house.poller.doRead()
        for count in (1, 2, 3):
            house.reactor.run_calls()
            self.assertEqual(self.answered(clients), list(range(count)))
        self.assertEqual(house.reactor.getDelayedCalls()[0].getTime(), 10)

    def test_live_traffic_between(self) -> None:
        """Between two slices everybody who is in is read and answered."""
        house = self.open(clock=Instants(60))
        live = house.connect(self.client_context())
        guest = live.handshake()
        guest.on_data = lambda guest: guest.wire.write(b"pong")
        clients = self.storm(30, house)
        for count in range(1, 10):
            live.send(b"ping")
            house.turn(2)
            self.assertEqual(guest.received, b"ping" * count)
            house.until(partial(live.has_received, b"pong" * count))
        self.assertLess(len(self.answered(clients)), 30)
        self.assertTrue(self.answered(clients))

    def test_nobody_new_while_too_many_wait(self) -> None:
        """Past a bound newcomers wait in the system's backlog, where no deadline of ours runs."""
        house = self.open(clock=Instants(60))
        clients = self.storm(150, house)
        for _ in range(20):
            house.poller.doRead()
        self.assertTrue(house.poller.is_busy)
        accepted = len(house.reactor.getDelayedCalls()) - 1  # each has its deadline
        self.assertGreaterEqual(accepted, 64)
        self.assertLess(accepted, 100)
        for client in clients:
            house.until(client.read if client.ending else partial(self.shaken, client))
        house.until(lambda: len(house.guests.made) == 150)
        self.assertEqual(self.context.handshakes_failed, 0)

    def shaken(self, client: Client) -> bool:
        client.read()
        return client.connection.get_state_string() == b"SSL negotiation finished successfully"

    def test_clock_set_back(self) -> None:
        """Nobody waits until it is that late again."""
        house = self.open()
        for waiting in (1, 70):  # so many that nobody new is accepted
            house.reactor.advance(7200)
            clients = self.storm(waiting, house)
            for _ in range(10):
                house.poller.doRead()
            self.assertEqual(house.poller.is_busy, waiting == 70)
            house.reactor.rightNow -= 3600.0
            house.connect(self.client_context()).handshake()
            for client in clients:
                client.reset()
            house.rest()

    def test_those_that_are_gone_cost_nothing(self) -> None:
        """Who hung up while it waited is dropped without computing."""
        house = self.open()
        clients = self.storm(20, house)
        house.poller.doRead()
        house.poller.doRead()
        for client in clients:
            client.reset()
        house.rest()
        self.assertEqual((self.context.handshakes_failed, house.guests.made), (20, []))
        self.assertEqual(house.reactor.getDelayedCalls(), [])


def abort_and_lose(_client: Client, guest: Guest) -> None:
    guest.wire.abortConnection()
    guest.wire.lose(ZeroDivisionError())


class LimitTests(SocketCase):
    """Every connection is counted from its accept to its end, exactly once."""

    def setUp(self) -> None:
        super().setUp()
        self.limit = ConnectionLimit(1000, 1000)
        self.house = self.open(limit=self.limit)

    def test_every_ending(self) -> None:
        endings: list[Callable[[Client, Guest], object]] = [
            lambda client, guest: client.reset(),
            lambda client, guest: client.socket.close(),
            lambda client, guest: client.close(),
            lambda client, guest: client.put(b"garbage"),
            lambda client, guest: guest.wire.abortConnection(),
            lambda client, guest: guest.wire.lose(ZeroDivisionError()),
            abort_and_lose,
        ]
        for end in endings:
            client = self.house.connect(self.client_context())
            guest = client.handshake()
            self.assertEqual(self.limit.total, 1)
            end(client, guest)
            self.house.until(guest.is_lost)
            self.house.rest()
            self.assertEqual(self.limit.total, 0)

    def test_every_failed_handshake(self) -> None:
        for data in GARBAGE:
            client = self.house.connect(self.client_context())
            client.put(data)
            self.house.until(partial(getattr, self.limit, "total"))
            self.house.rest()
            client.socket.close()
            self.house.rest()
            self.assertEqual(self.limit.total, 0, data)
        self.house.connect(self.client_context())
        self.house.turn()
        self.assertEqual(self.limit.total, 1)
        self.house.reactor.advance(11)
        self.assertEqual(self.limit.total, 0)

    def test_who_stays_after_the_alert(self) -> None:
        """It has a second to read why it failed, then its socket is closed."""
        client = self.house.connect(self.client_context())
        client.put(b"GET / HTTP/1.1\r\n\r\n")
        self.house.until(client.is_over)
        self.house.reactor.advance(0.9)
        self.house.rest()
        self.assertEqual(self.limit.total, 1)
        self.house.reactor.advance(0.2)
        self.assertEqual(self.limit.total, 0)

    def test_the_reactor_ends(self) -> None:
        for _ in range(3):
            self.house.connect(self.client_context()).handshake()
        self.house.connect(self.client_context()).hello()
        self.house.turn()
        self.assertEqual(self.limit.total, 4)
        self.house.poller.connectionLost(connectionDone)
        self.assertEqual(self.limit.total, 0)

    def test_too_many(self) -> None:
        """They are closed unheard, and not counted."""
        limit = ConnectionLimit(0, 1000)
        house = self.open(limit=limit)
        clients = [house.connect(self.client_context()) for _ in range(260)]
        house.rest()
        self.assertEqual((limit.total, limit.unheard), (256, 4))
        self.assertEqual([bool(client.is_over()) for client in clients], [False] * 256 + [True] * 4)

    def test_one_that_cannot_be_served(self) -> None:
        """A connection for which there is no memory is closed and released; the listener goes on."""

        def connection(*_: object) -> Any:
            raise MemoryError

        admission: Any = self.house.port._admission
        admission.connection = connection
        client = self.house.connect(self.client_context())
        self.house.until(client.is_over)
        self.assertEqual(self.limit.total, 0)
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)
        del admission.connection
        self.house.connect(self.client_context()).handshake()
        self.assertEqual(self.limit.total, 1)


class PortTests(SocketCase):
    """The listener itself."""

    def test_no_descriptor_left(self) -> None:
        """It is told once, who is there goes on, nobody turns in circles, and later newcomers are served."""
        client, guest = self.connect()
        waiting = self.house.connect(self.client_context())
        waiting.hello()
        with NoDescriptors():
            self.house.turn(5)
            self.assertEqual(len(self.house.reports), 1)
            kind, detail = self.house.reports[0]
            self.assertEqual(kind, "a connection cannot be accepted")
            self.assertIn(os.strerror(errno.EMFILE), detail)
            client.send(b"still here")
            self.house.until(partial(guest.has_received, b"still here"))
            self.house.rest()
            self.assertFalse(self.house.reactor.is_ready())
            self.house.reactor.advance(1)
            self.house.turn(3)
            self.assertEqual(len(self.house.reports), 2)
        self.house.reactor.advance(1)
        self.house.until(lambda: waiting.read() or len(self.house.guests.made) == 2)
        self.assertEqual(self.context.handshakes_failed, 0)

    def test_closed_while_there_is_no_descriptor(self) -> None:
        self.house.connect(self.client_context())
        with NoDescriptors():
            self.house.turn(2)
        self.house.port.stopListening()
        self.assertEqual((self.house.reactor.readers, self.house.reactor.getDelayedCalls()), ([], []))

    def test_closed(self) -> None:
        """Nobody can connect, who is there stays, and it does not begin again."""
        client, guest = self.connect()
        port = self.house.port.getHost().port
        self.house.port.stopListening()
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        client.send(b"still here")
        self.house.until(partial(guest.has_received, b"still here"))
        self.assertRaises(CannotListenError, self.house.port.startListening)
        self.assertEqual(self.house.port.fd, -1)

    def test_a_bounded_number_in_one_turn(self) -> None:
        carriers = [self.house.plain() for _ in range(40)]
        self.house.poller.doRead()
        self.assertEqual(len(self.house.reactor.getDelayedCalls()), 16)
        self.house.rest()
        self.assertEqual(len(self.house.reactor.getDelayedCalls()), 40)
        for carrier in carriers:
            carrier.close()

    def test_reset_in_the_backlog(self) -> None:
        """Who is gone before it is accepted harms nobody."""
        for _ in range(20):
            client = self.house.connect(self.client_context())
            client.reset()
        port: Any = self.house.port
        port._bound = Interrupted(port._bound)
        _client, guest = self.connect()
        self.assertEqual(guest.lost, [])
        self.assertEqual(self.house.reports[20:], [])


class Interrupted:
    """A listening socket whose first newcomer was gone before it was accepted."""

    def __init__(self, bound: socket.socket) -> None:
        self.bound = bound
        self.asked = 0

    def accept(self) -> Any:
        self.asked += 1
        if self.asked == 1:
            raise ConnectionAbortedError(errno.ECONNABORTED, "gone")
        return self.bound.accept()

    def close(self) -> None:
        self.bound.close()


class NoDescriptors:
    """While it lasts the process can open no file."""

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = os.open(os.devnull, os.O_RDONLY)
        os.close(highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, self.before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self.before)
