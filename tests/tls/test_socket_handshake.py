"""From the accepted socket to the application's protocol: who is let in, when, and who is not."""

import contextlib
import select
from collections.abc import Callable
from functools import partial
from typing import Any

from OpenSSL import SSL
from twisted.internet.protocol import Factory

from mfserver.tls.peer import peer_of
from tests.tls.pki import DAY, KEY, Authority
from tests.tls.sockets import GARBAGE, Client, Guest, Guests, House, SocketCase


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
            client.put(b"\x16\x03\x01\x00\x01x" * 10)
            self.house.rest()
            self.house.reactor.advance(0.6)
        self.failed(client)

    def test_crumbs(self) -> None:
        """A long ClientHello in records of a byte is not given to OpenSSL: it would read all in one call."""
        for ahead in (b"", b"\x16\x03\x01\x00", b"\x16\x03\x01\x00\x04"):
            before = self.context.handshakes_failed
            client = self.house.connect(self.client_context())
            client.put(ahead)
            self.house.rest()
            client.put(
                (b"\x16\x03\x01\x00\x04\x01\x01\xff\x00" + b"\x16\x03\x01\x00\x01x" * 3000)[len(ahead) :]
            )
            self.house.until(client.is_over)
            self.assertEqual(self.context.handshakes_failed, before + 1)
        self.assertIn(("a TLS client shakes hands without end", "127.0.0.1"), self.house.reports)
        self.assertEqual(self.house.reactor.getDelayedCalls(), [])

    def test_pieces(self) -> None:
        """A ClientHello in a dozen records is as good as one in a single one."""
        client = self.house.connect(self.client_context())
        with contextlib.suppress(SSL.WantReadError):
            client.connection.do_handshake()
        hello = client.records()[5:]
        size = len(hello) // 11
        pieces = [hello[start : start + size] for start in range(0, len(hello), size)]
        client.put(b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces))
        self.house.until(lambda: client.read() or self.house.guests.made)
        self.assertEqual(self.context.handshakes_failed, 0)

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


def both_close(client: Client, guest: Guest) -> None:
    guest.wire.loseConnection()
    client.close()


def speak_and_close(client: Client, guest: Guest) -> None:
    guest.wire.write(b"first")
    client.close()


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
        house = self.open(clock=Instants(0.003))
        clients = self.storm(3, house)
        house.poller.doRead()
        house.poller.doRead()
        for count in (1, 2, 3):
            house.reactor.run_calls()
            self.assertEqual(self.answered(clients), list(range(count)))
        self.assertEqual(house.reactor.getDelayedCalls()[0].getTime(), 10)

    def test_live_traffic_between(self) -> None:
        """Between two slices everybody who is in is read and answered."""
        house = self.open(clock=Instants(0.003))
        live = house.connect(self.client_context())
        guest = live.handshake()
        guest.on_data = lambda guest: guest.wire.write(b"pong")
        clients = self.storm(60, house)
        for count in range(1, 10):
            live.send(b"ping")
            house.turn(2)
            self.assertEqual(guest.received, b"ping" * count)
            house.until(partial(live.has_received, b"pong" * count))
        self.assertLess(len(self.answered(clients)), 60)
        self.assertTrue(self.answered(clients))

    def test_first_words_wait_too(self) -> None:
        """A crowd that logs in waits among those who shake hands; who was heard before does not."""
        clock = Instants(0.0)
        house = self.open(clock=clock)
        live = house.connect(self.client_context())
        guest = live.handshake()
        self.house, others = house, [house.connect(self.client_context()) for _ in range(30)]
        self.hear_first(live, guest)
        newcomers = [(client, client.handshake()) for client in others]
        for client, newcomer in newcomers:
            newcomer.on_data = lambda newcomer: newcomer.wire.write(b"welcome")
            client.send(b"hello")
        live.send(b"ping")
        house.poller.doRead()
        house.poller.doRead()
        self.assertEqual(guest.received, b"ping")
        self.assertEqual([one.received for _, one in newcomers], [b""] * 30)
        clock.step = 0.001
        for count in (2, 4, 6):
            house.reactor.run_calls()
            self.assertEqual(
                [one.received for _, one in newcomers], [b"hello"] * count + [b""] * (30 - count)
            )
            self.assertTrue(newcomers[count - 1][0].read(), "its answer left with the slice")
        clock.step = 0.0
        for client, newcomer in newcomers:
            house.until(partial(client.has_received, b"welcome"))
            client.send(b"again")
            newcomer.received = b""
        house.poller.doRead()
        house.poller.doRead()
        self.assertEqual([one.received for _, one in newcomers], [b"again"] * 30)

    def test_one_record_when_it_is_late(self) -> None:
        """Who has very much to say is read no further when the turn's time is over."""
        clock = Instants(0.0)
        self.house = self.open(clock=clock)
        for step, heard in ((0.0, 16), (1.0, 1)):
            client, guest = self.connect()
            self.hear_first(client, guest)
            client.put(b"".join(client.records(b"x") for _ in range(20)))
            guest.wire._eager = True
            clock.step = step
            self.house.poller.doRead()
            self.assertEqual(len(guest.received), heard)
            clock.step = 0.0
            self.house.until(partial(guest.has_received, b"x" * 20))

    def test_first_words_that_nobody_wants_yet(self) -> None:
        """A protocol that pauses before it was told anything is told when it goes on."""
        client, guest = self.connect()
        client.send(b"hello")
        guest.wire.pauseProducing()
        self.house.rest()
        guest.wire.resumeProducing()
        guest.wire.pauseProducing()
        self.house.rest()
        self.assertEqual(guest.received, b"")
        guest.wire.resumeProducing()
        self.house.until(lambda: guest.received == b"hello")
        client.send(b"!")
        self.house.poller.doRead()
        self.house.until(lambda: guest.received == b"hello!")

    def test_gone_before_its_first_words(self) -> None:
        """Closed, reset or ended by us while it waits for its turn: told once."""
        ends: list[Callable[[Client, Guest], object]] = [
            lambda client, guest: client.close(),
            lambda client, guest: client.reset(),
            both_close,
            lambda client, guest: guest.wire.abortConnection(),
            speak_and_close,
        ]
        for waits in (False, True):
            for end in ends:
                client, guest = self.connect()
                client.send(b"hello")
                if waits:
                    self.house.poller.doRead()
                end(client, guest)
                self.house.rest()
                if client.socket.fileno() >= 0:
                    client.read()
                self.house.until(guest.is_lost)
                self.house.rest()
                self.assertEqual(len(guest.lost), 1)

    def test_nobody_new_while_too_many_wait(self) -> None:
        """Past a bound newcomers wait in the system's backlog, where no deadline of ours runs."""
        house = self.open(clock=Instants(0.003))
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
