"""TLS listeners on the loopback interface under a reactor that takes a turn when it is told to."""

import select
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from struct import pack
from time import monotonic, sleep, time
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mfserver.tls.context import ServerContext
from mfserver.tls.limit import ConnectionLimit
from mfserver.tls.listen import listen
from mfserver.tls.poller import Poller
from mfserver.tls.port import TLSPort
from mfserver.tls.transport import TLSTransport
from mfserver.turn import Turn
from tests.tls.pki import Authority, Identity, server_context
from tests.tls.wire import client_context

__all__ = ["GARBAGE", "PATIENCE", "Client", "Guest", "Guests", "House", "Reactor", "SocketCase"]

#: Seconds of the real clock in which a test's peers have to be done; a busy machine needs some.
PATIENCE = 60.0
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


class Reactor(Clock):
    """Reads who wants to be read, once a turn, whether there is something or not."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        assert reader.fileno() >= 0 and reader not in self.readers
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            assert reader.fileno() >= 0
            self.readers.remove(reader)

    def run_calls(self) -> None:
        """Make the calls whose time has come; those that they ask for come next time."""
        for call in [call for call in self.calls if call.getTime() <= self.seconds()]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)

    def turn(self) -> None:
        """What a reactor does in one go: its timed calls, then its readers."""
        self.run_calls()
        for reader in list(self.readers):
            reader.doRead()

    def is_ready(self) -> bool:
        """Whether a real reactor would wake up at once: it must not for ever."""
        descriptors = [reader.fileno() for reader in self.readers]
        calls = self.getDelayedCalls()
        return bool(select.select(descriptors, [], [], 0)[0]) or any(
            call.getTime() <= self.seconds() for call in calls
        )


class Guest(Protocol):
    """An application's protocol that remembers what happened to it, and does what a test wants.

    :ivar on_data: called with the guest when something came; the others likewise.
    """

    def __init__(self) -> None:
        self.received = b""
        self.lost: list[Failure] = []
        self.on_made: Callable[[Guest], None] = lambda guest: None
        self.on_data: Callable[[Guest], None] = lambda guest: None
        self.on_lost: Callable[[Guest], None] = lambda guest: None
        self.inside = False

    @property
    def wire(self) -> TLSTransport:
        """Its transport."""
        wire: Any = self.transport
        assert isinstance(wire, TLSTransport)
        return wire

    def is_lost(self) -> bool:
        """Whether it was told."""
        return bool(self.lost)

    def has_received(self, data: bytes) -> bool:
        """Whether this is what it received."""
        return self.received == data

    def connectionMade(self) -> None:
        self._call(self.on_made)

    def dataReceived(self, data: bytes) -> None:
        assert data and not self.lost
        self.received += data
        self._call(self.on_data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert not self.inside, "connectionLost from inside a call of the protocol's"
        assert not self.wire.connected and self.wire.fd == -1 and self.wire.getHandle() is None
        self.lost.append(reason)
        self._call(self.on_lost)

    def _call(self, hook: "Callable[[Guest], None]") -> None:
        self.inside = True
        try:
            hook(self)
        finally:
            self.inside = False


class Guests(Factory):
    """Keeps every protocol it made.

    :ivar prepare: called with each new one.
    """

    noisy = False

    def __init__(self) -> None:
        self.made: list[Guest] = []
        self.prepare: Callable[[Guest], None] = lambda guest: None

    def buildProtocol(self, addr: object) -> Guest | None:
        guest = Guest()
        self.prepare(guest)
        self.made.append(guest)
        return guest


class House:
    """A listener, and all that stands behind it.

    :ivar reports: what the log would be told.
    """

    def __init__(
        self,
        context: ServerContext,
        *,
        factory: IProtocolFactory | None = None,
        alpn: Mapping[bytes, IProtocolFactory] | None = None,
        limit: ConnectionLimit | None = None,
        clock: Callable[[], float] = lambda: 0.0,
        now: Callable[[], float] = time,
    ) -> None:
        self.reactor = Reactor()
        self.turns = Turn(self.reactor)
        self.poller = Poller(self.reactor, self.turns, clock)
        self.guests = Guests()
        self.reports: list[tuple[str, str]] = []
        self.clients: list[Client] = []
        port = listen(
            self.reactor,
            "127.0.0.1",
            0,
            factory or self.guests,
            context,
            alpn or {},
            limit=limit,
            poller=self.poller,
            report=lambda kind, detail: self.reports.append((kind, detail)),
            now=now,
        )
        assert isinstance(port, TLSPort)
        self.port = port

    def turn(self, times: int = 1) -> None:
        """Let some turns of the reactor pass."""
        for _ in range(times):
            self.reactor.turn()

    def until(self, is_so: Callable[[], Any]) -> None:
        """Let turns pass until it is so.

        :raises AssertionError: it never is.
        """
        end = monotonic() + PATIENCE
        while not is_so():
            if monotonic() > end:
                raise AssertionError("it never comes")
            self.turn()
            if not self.reactor.is_ready():
                sleep(0.0005)

    def rest(self) -> None:
        """Let turns pass until nobody has anything to do.

        :raises AssertionError: somebody always has.
        """
        end, is_quiet = monotonic() + PATIENCE, False
        while True:
            self.turn()
            if self.reactor.is_ready():
                is_quiet = False
            elif is_quiet:
                return
            else:
                is_quiet = True
                sleep(0.0002)  # what is on its way inside the system is there now
            if monotonic() > end:
                raise AssertionError("it never rests")

    def plain(self, receive_buffer: int = 0) -> socket.socket:
        """A client's socket, connected, which does not block.

        :param receive_buffer: bytes that the system keeps for it; 0 for as many as it likes.
        """
        carrier = socket.socket()
        if receive_buffer:
            carrier.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        carrier.connect(("127.0.0.1", self.port.getHost().port))
        carrier.setblocking(False)
        carrier.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return carrier

    def pair(self, context: SSL.Context, send_buffer: int, is_full: bool = False) -> "Client":
        """A client on a pair of Unix sockets, which take a record as a whole or not at all.

        :param send_buffer: bytes that the system keeps for the server's end.
        :param is_full: there is no room in them; the client has to take so many bytes first as its ``ahead``.
        """
        ours, theirs = socket.socketpair()
        for one in (ours, theirs):
            one.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        TLSTransport(ours, IPv4Address("TCP", "127.0.0.1", 1), self.port._admission, self.poller)
        client = Client(self, theirs, context, None)
        with suppress(BlockingIOError):
            while is_full:
                client.ahead += ours.send(bytes(100))
        self.clients.append(client)
        return client

    def connect(
        self, context: SSL.Context, session: SSL.Session | None = None, receive_buffer: int = 0
    ) -> "Client":
        """A client before its first byte."""
        client = Client(self, self.plain(receive_buffer), context, session)
        self.clients.append(client)
        return client

    def close(self) -> None:
        """End everything, as the reactor does."""
        for client in self.clients:
            client.socket.close()
        self.poller.connectionLost(Failure(connectionDone.value))
        self.turn()


class Client:
    """A TLS client whose bytes a test can hold.

    :ivar received: application data so far.
    :ivar ending: how the connection ended: "close_notify", "reset", "eof" or OpenSSL's words for an alert.
    """

    def __init__(
        self, house: House, carrier: socket.socket, context: SSL.Context, session: SSL.Session | None
    ) -> None:
        self.house = house
        self.socket = carrier
        self.connection = SSL.Connection(context, None)
        self.connection.set_connect_state()
        if session is not None:
            self.connection.set_session(session)
        self.received = bytearray()
        self.ending = ""
        self.ahead = 0
        self._unsent = b""

    @property
    def port(self) -> int:
        """By which the server knows it; 1 without a network."""
        name: Any = self.socket.getsockname()
        return name[1] if isinstance(name, tuple) else 1

    def records(self, data: bytes = b"") -> bytes:
        """What goes over the network for these bytes, and what else OpenSSL has to say."""
        if data:
            self.connection.sendall(data)
        said = b""
        with suppress(SSL.WantReadError):
            while True:
                said += self.connection.bio_read(1 << 17)
        return said

    def put(self, data: bytes) -> None:
        """Give bytes to the network, as many as it takes; the rest follows with :meth:`read`."""
        self._unsent += data
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ending = self.ending or "reset"

    def send(self, data: bytes) -> None:
        """Send application data."""
        self.put(self.records(data))

    def read(self) -> bytearray:
        """Take what is there. :return: all application data so far."""
        try:
            while data := self.socket.recv(1 << 17):
                self.connection.bio_write(data)
            self.ending = self.ending or "eof"
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.ending = self.ending or "reset"
        self._decrypt()
        self.put(self.records())
        return self.received

    def _decrypt(self) -> None:
        try:
            while True:
                self.received += self.connection.recv(1 << 16)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.ending = "close_notify"
        except SSL.Error as error:
            if error.args and error.args[0]:
                self.ending = str(error.args[0][-1][2])

    def has_received(self, data: bytes) -> bool:
        """Take what is there. :return: whether this is all that it received."""
        return self.read() == data

    def is_over(self) -> str:
        """Take what is there. :return: how the connection ended."""
        self.read()
        return self.ending

    def hello(self) -> None:
        """Send a ClientHello."""
        with suppress(SSL.WantReadError):
            self.connection.do_handshake()
        self.put(self.records())

    def handshake(self) -> Guest:
        """Shake hands. :return: whom the server has put there."""
        before = len(self.house.guests.made)

        def ours() -> list[Guest]:
            self.read()
            made = self.house.guests.made[before:]
            return [guest for guest in made if guest.wire.getPeer().port == self.port]

        self.hello()
        self.house.until(lambda: ours() or self.ending)
        assert not self.ending, self.ending
        self.house.rest()
        return ours()[0]  # the tickets are read, too

    def close(self) -> None:
        """Send close_notify."""
        self.connection.shutdown()
        self.put(self.records())

    def reset(self) -> None:
        """Have the system send RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))
        self.socket.close()


class SocketCase(SynchronousTestCase):
    """A listener that requests client certificates, and one authority for both sides."""

    version = SSL.TLS1_3_VERSION

    def setUp(self) -> None:
        self.authority = Authority()
        self.context = server_context(self.mktemp(), self.authority)
        self.house = self.open()

    def open(self, **options: Any) -> House:
        house = House(self.context, **options)
        self.addCleanup(self._close, house)
        return house

    def _close(self, house: House) -> None:
        """Nobody is left behind, and nothing."""
        house.close()
        self.assertEqual(house.reactor.readers, [])
        self.assertEqual(house.reactor.getDelayedCalls(), [])
        for guest in house.guests.made:
            self.assertEqual(len(guest.lost), 1)

    def client_context(
        self, identity: Identity | None = None, protocols: list[bytes] | None = None
    ) -> SSL.Context:
        return client_context(self.authority.certificate, identity, version=self.version, protocols=protocols)

    def connect(self, receive_buffer: int = 0) -> tuple[Client, Guest]:
        """A client and whom the server has put there, hands shaken."""
        client = self.house.connect(self.client_context(), receive_buffer=receive_buffer)
        return client, client.handshake()

    def hear_first(self, client: Client, guest: Guest) -> None:
        """Let a client say something: what it says next needs not wait among those who shake hands."""
        client.send(b"first")
        self.house.until(lambda: guest.received == b"first")
        guest.received = b""

    def full(self) -> tuple[Client, Guest, int]:
        """A network that takes not one byte more, though nothing of ours waits, and how many it has."""
        client, guest = self._narrow()
        fitting = -1
        while not guest.wire._held:
            guest.wire.write(bytes(1000))
            self.house.reactor.advance(0)
            fitting += 1
        client, guest = self._narrow()
        for _ in range(fitting):
            guest.wire.write(bytes(1000))
            self.house.reactor.advance(0)
        self.assertEqual(guest.wire._held, 0)
        return client, guest, fitting * 1000

    def _narrow(self) -> tuple[Client, Guest]:
        client = self.house.pair(self.client_context(), 5000)
        return client, client.handshake()

    def lost(self, guest: Guest) -> type[BaseException]:
        """Why the connection ended; it did once."""
        [reason] = guest.lost
        assert reason.value is not None
        return type(reason.value)
