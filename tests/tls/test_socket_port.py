"""The listener itself: whom it counts, and what it does when the system has no room."""

import errno
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, connectionDone
from twisted.trial.unittest import SynchronousTestCase

from mfserver.tls.limit import ConnectionLimit
from mfserver.tls.listen import listen
from mfserver.tls.poller import Poller
from mfserver.turn import Turn
from tests.collecting import not_collecting
from tests.tls.sockets import GARBAGE, Client, Guest, Reactor, SocketCase


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
        with no_descriptors():
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
        with no_descriptors():
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
        self.assertEqual(len(self.house.reactor.getDelayedCalls()), 8)
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


class Adopting(Reactor):
    """A reactor that keeps the connections it is given, or says why it cannot.

    :ivar error: what it raises.
    """

    def __init__(self) -> None:
        super().__init__()
        self.adopted: list[socket.socket] = []
        self.error: BaseException | None = None

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Factory) -> None:
        if self.error is not None:
            raise self.error
        self.adopted.append(socket.fromfd(descriptor, family, socket.SOCK_STREAM))


class PlainPortTests(SynchronousTestCase):
    """A listener without TLS."""

    def setUp(self) -> None:
        self.reactor = Adopting()
        self.poller = Poller(self.reactor, Turn(self.reactor))
        self.reports: list[tuple[str, str]] = []
        self.factory = Factory()
        self.factory.noisy = False
        self.port = listen(
            self.reactor,
            "127.0.0.1",
            0,
            self.factory,
            poller=self.poller,
            report=lambda kind, detail: self.reports.append((kind, detail)),
        )
        self.addCleanup(self.close)

    def close(self) -> None:
        self.port.stopListening()
        for adopted in self.reactor.adopted:
            adopted.close()
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), ([], []))
        self.assertEqual(self.factory.numPorts, 0)

    def connect(self) -> socket.socket:
        host: Any = self.port.getHost()
        client = socket.create_connection((host.host, host.port), 10)
        self.addCleanup(client.close)
        return client

    def test_a_bounded_number_in_one_turn(self) -> None:
        """Hundreds who come at once hold nobody up who is there."""
        clients = [self.connect() for _ in range(40)]
        self.poller.doRead()
        self.assertEqual(len(self.reactor.adopted), 8)
        for _ in range(10):
            self.poller.doRead()
        self.assertEqual(len(self.reactor.adopted), 40)
        self.assertFalse(os.get_blocking(self.reactor.adopted[0].fileno()))
        clients[0].send(b"hello")
        self.assertEqual(self.reactor.adopted[0].recv(5), b"hello")

    def test_who_is_gone(self) -> None:
        """It was reset while it waited: nothing to tell anybody."""
        self.reactor.error = OSError(errno.ENOTCONN, "gone")
        client = self.connect()
        self.poller.doRead()
        self.assertEqual((self.reports, client.recv(1)), ([], b""))

    def test_no_descriptor_for_the_reactor(self) -> None:
        self.reactor.error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        client = self.connect()
        self.poller.doRead()
        [(kind, detail)] = self.reports
        self.assertEqual(kind, "a connection cannot be accepted")
        self.assertIn(os.strerror(errno.EMFILE), detail)
        self.assertEqual(client.recv(1), b"")

    def test_one_that_cannot_be_served(self) -> None:
        self.reactor.error = MemoryError()
        client = self.connect()
        self.poller.doRead()
        self.assertEqual(client.recv(1), b"")
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)
        self.reactor.error = None
        self.connect()
        self.poller.doRead()
        self.assertEqual(len(self.reactor.adopted), 1)


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


@contextmanager
def no_descriptors() -> Iterator[None]:
    """While it lasts the process can open no file, and what other tests left open is not closed."""
    with not_collecting():
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = os.open(os.devnull, os.O_RDONLY)
        os.close(highest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
