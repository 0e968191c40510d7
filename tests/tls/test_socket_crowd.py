"""Many connections at once: what one of them does is no other's."""

from collections.abc import Callable
from functools import partial
from select import EPOLLIN, EPOLLOUT

from OpenSSL import SSL
from twisted.internet.error import ConnectionLost

from tests.tls.sockets import Client, Guest, SocketCase

LARGE = bytes(10_000_000)


def echo(guest: Guest) -> None:
    """Send it all back, once it is whole."""
    if guest.received.endswith(b"."):
        guest.wire.write(guest.received)


class CrowdTests(SocketCase):
    """More than one poll shows."""

    def test_everybody_is_answered(self) -> None:
        """Three hundred connections that talk at the same time, and none in another's name."""
        everybody = [self.connect() for _ in range(300)]
        for number, (client, guest) in enumerate(everybody):
            guest.on_data = echo
            client.send(b"I am number %d." % number)
        for number, (client, guest) in enumerate(everybody):
            self.house.until(partial(client.has_received, b"I am number %d." % number))
            self.assertEqual(guest.lost, [])

    def test_one_write_each(self) -> None:
        """A turn in which everybody is told something by the first one ends with a record for each."""
        everybody = [self.connect() for _ in range(20)]

        def tell_all(_guest: Guest) -> None:
            for _ in range(5):
                for _, guest in everybody:
                    guest.wire.write(b"x")

        everybody[0][1].on_data = tell_all
        everybody[0][0].send(b"go")
        self.house.until(lambda: everybody[0][1].received)
        for client, _ in everybody:
            record = client.socket.recv(1 << 16)
            self.assertEqual(int.from_bytes(record[3:5], "big") + 5, len(record))
            client.connection.bio_write(record)
            self.assertEqual(client.read(), b"x" * 5)

    def test_all_reset_at_once(self) -> None:
        everybody = [self.connect() for _ in range(50)]
        for _, guest in everybody:
            guest.wire.write(LARGE[:1_000_000])
        self.house.turn()
        for client, _ in everybody[1:]:
            client.reset()
        for _, guest in everybody[1:]:
            self.house.until(guest.is_lost)
            self.assertEqual(self.lost(guest), ConnectionLost)
        client, guest = everybody[0]
        self.house.until(lambda: len(client.read()) == 1_000_000)
        self.assertEqual(guest.lost, [])

    def test_the_last_is_told_all(self) -> None:
        """connectionLost of each aborts all the others."""
        everybody = [self.connect() for _ in range(20)]

        def end_all(_guest: Guest) -> None:
            for _, guest in everybody:
                guest.wire.abortConnection()

        for _, guest in everybody:
            guest.on_lost = end_all
        everybody[7][0].reset()
        for _, guest in everybody:
            self.house.until(guest.is_lost)
            self.assertEqual(len(guest.lost), 1)


class ErrorTests(SocketCase):
    """OpenSSL has one list of errors for a thread, and pyOpenSSL leaves an error in it now and then."""

    def setUp(self) -> None:
        super().setUp()
        self.client, self.guest = self.connect()

    def leave_error(self) -> None:
        """A write to a client that has reset its connection fails."""
        client, guest = self.connect()
        guest.wire.pauseProducing()
        client.reset()
        guest.wire.write(b"x")
        guest.wire.flush()
        self.assertEqual(self.lost(guest), ConnectionLost)

    def after_error(self, act: Callable[[], object]) -> None:
        """Do it right after another connection's error, and see that nothing is taken for ours."""
        self.leave_error()
        act()
        self.assertEqual((self.guest.lost, self.client.ending), ([], ""))

    def test_behind_an_end_without_close_notify(self) -> None:
        """There is nothing to be emptied after that, and nothing is."""
        client, guest = self.connect()
        self.hear_first(client, guest)
        self.hear_first(self.client, self.guest)
        client.socket.close()
        guest.wire.ready(EPOLLIN)
        self.assertEqual(self.lost(guest), ConnectionLost)
        self.guest.wire.ready(EPOLLIN)
        self.client.send(b"hello")
        self.guest.wire.ready(EPOLLIN)
        self.assertEqual((self.guest.received, self.guest.lost), (b"hello", []))

    def test_reading_nothing(self) -> None:
        self.after_error(partial(self.guest.wire.ready, EPOLLIN))

    def test_reading(self) -> None:
        self.client.send(b"hello")
        self.after_error(partial(self.guest.wire.ready, EPOLLIN))
        self.assertEqual(self.guest.received, b"hello")

    def test_writing(self) -> None:
        self.guest.wire.write(b"hello")
        self.after_error(self.guest.wire.flush)
        self.assertEqual(self.client.read(), b"hello")

    def test_writing_to_a_full_network(self) -> None:
        self.guest.wire.write(LARGE)
        self.house.rest()
        self.after_error(partial(self.guest.wire.ready, EPOLLOUT))
        self.after_error(partial(self.guest.wire.ready, EPOLLIN | EPOLLOUT))
        self.house.until(lambda: len(self.client.read()) == len(LARGE))

    def test_closing(self) -> None:
        self.guest.wire.loseConnection()
        self.after_error(self.guest.wire.flush)
        self.house.until(self.client.is_over)
        self.assertEqual(self.client.ending, "close_notify")

    def test_shaking_hands(self) -> None:
        """Every step of a handshake, with an error before each."""
        client = self.house.connect(self.client_context(self.authority.client()))
        made = len(self.house.guests.made)
        client.hello()
        for _ in range(6):
            self.leave_error()
            self.house.turn(2)
            client.read()
        self.assertEqual(client.ending, "")
        ports = [guest.wire.getPeer().port for guest in self.house.guests.made[made:]]
        self.assertIn(client.socket.getsockname()[1], ports)

    def test_own_errors(self) -> None:
        """Who does end, ends for its own reason."""
        ends: list[tuple[Callable[[Client], object], type[BaseException]]] = [
            (lambda client: client.socket.close(), ConnectionLost),
            (lambda client: client.put(b"\x17\x03\x03\x00\x20" + bytes(32)), SSL.Error),
        ]
        for end, reason in ends:
            client, guest = self.connect()
            end(client)
            guest.wire.pauseProducing()
            self.leave_error()
            guest.wire.resumeProducing()
            self.house.until(guest.is_lost)
            self.assertIs(self.lost(guest), reason)


class OldErrorTests(ErrorTests):
    """As under TLS 1.3."""

    version = SSL.TLS1_2_VERSION
