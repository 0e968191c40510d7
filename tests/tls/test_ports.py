"""Listeners on the loopback interface: addresses, socket options, refusals."""

import errno
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from mfserver.tls import listen as module
from mfserver.tls.context import ServerContext
from mfserver.tls.listen import listen
from mfserver.tls.peer import peer_of
from mfserver.tls.poller import Poller
from mfserver.turn import Turn
from tests.tls.pki import KEY, Authority, server_context
from tests.tls.sockets import PATIENCE
from tests.tls.wire import client_context


class Greeting(Protocol):
    """Says how it is connected, and closes."""

    def connectionMade(self) -> None:
        transport: Any = self.transport
        peer = peer_of(transport)
        words = [
            "tls" if ISSLTransport.providedBy(transport) else "plain",
            peer.common_name() if peer else "nobody",
            "nodelay" if transport.getTcpNoDelay() else "delay",
            "keepalive" if transport.getTcpKeepAlive() else "no keepalive",
        ]
        transport.write(" ".join(words).encode())
        transport.loseConnection()


class PortCase(TestCase):
    """Runs a blocking client in a thread, and closes the listeners.

    :ivar is_on_socket: whether TLS is straight on the socket.
    """

    is_on_socket = False

    def setUp(self) -> None:
        self.authority = Authority()
        self.factory = Factory.forProtocol(Greeting)
        self.factory.noisy = False

    def open(self, host: str, context: ServerContext | None = None, factory: Any = None) -> Any:
        poller = Poller(reactor, Turn(reactor)) if self.is_on_socket else None
        port: IListeningPort = listen(reactor, host, 0, factory or self.factory, context, poller=poller)
        self.addCleanup(port.stopListening)
        return port.getHost()

    def run_client(self, client: Callable[[], bytes]) -> Deferred[bytes]:
        return deferToThread(client)

    def tls_client(self, port: int, *exchanges: tuple[bytes, bytes]) -> bytes:
        """What a client with a thing's certificate receives.

        :param exchanges: what to send, and what to wait for before the next one; at last the end.
        """
        context = client_context(self.authority.certificate, self.authority.client())
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain:
            plain.settimeout(None)  # pyOpenSSL wants it blocking; the kernel keeps the deadline
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))
            connection = SSL.Connection(context, plain)
            connection.set_connect_state()
            connection.do_handshake()
            received = b""
            for data, enough in exchanges:
                connection.sendall(data)
                while enough not in received:
                    received += connection.recv(65536)
            try:
                while not exchanges:
                    received += connection.recv(65536)
            except SSL.ZeroReturnError:
                connection.shutdown()
            return received


def plain_client(host: str, port: int) -> bytes:
    """What a plain client receives."""
    with socket.create_connection((host, port), PATIENCE) as connection:
        received = b""
        while data := connection.recv(65536):
            received += data
        return received


class AddressTests(PortCase):
    """A bare port listens on all addresses, IPv6 and IPv4."""

    def test_all_addresses(self) -> Deferred[None]:
        async def go() -> None:
            address = self.open("")
            self.assertEqual(address.host, "::")
            for host in ("127.0.0.1", "::1", "localhost"):
                greeting = await self.run_client(partial(plain_client, host, address.port))
                self.assertEqual(greeting, b"plain nobody nodelay keepalive")

        return Deferred.fromCoroutine(go())

    def test_one_address(self) -> Deferred[None]:
        async def go() -> None:
            for host in ("127.0.0.1", "::1"):
                address = self.open(host)
                self.assertEqual(address.host, host)
                greeting = await self.run_client(partial(plain_client, host, address.port))
                self.assertTrue(greeting.startswith(b"plain"))

        return Deferred.fromCoroutine(go())

    def test_name(self) -> None:
        self.assertIn(self.open("localhost").host, ("127.0.0.1", "::1"))


class OwnAddressTests(AddressTests):
    """As above, where we accept and not the reactor."""

    is_on_socket = True


class RefusalTests(SynchronousTestCase):
    """An address that cannot be had raises, and leaves no socket behind."""

    def refuse(self, host: str, port: int) -> CannotListenError:
        error: CannotListenError = self.assertRaises(
            CannotListenError, listen, MemoryReactorClock(), host, port, Factory()
        )
        self.assertIn(str(port), str(error))
        return error

    def test_taken(self) -> None:
        """By one of the two families, or by both."""
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as other:
                other.bind((host, 0))
                other.listen()
                port: int = other.getsockname()[1]
                for wanted in (host, ""):
                    error = self.refuse(wanted, port)
                    self.assertEqual(error.socketError.errno, errno.EADDRINUSE)

    def test_not_of_this_machine(self) -> None:
        self.refuse("192.0.2.1", 8080)
        self.refuse("2001:db8::1", 8080)

    def test_no_address(self) -> None:
        self.refuse("no-such-host.invalid", 8080)
        self.refuse("a" * 300, 8080)

    def test_no_port(self) -> None:
        self.refuse("", 65536)
        self.refuse("127.0.0.1", 65536)

    def test_no_ipv6(self) -> None:
        """On a machine without IPv6 all addresses are those of IPv4."""
        opened: list[int] = []

        def without_ipv6(family: int, address: Any, backlog: int) -> socket.socket:
            opened.append(family)
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "no IPv6")
            return original(family, address, backlog)

        original = module._open
        self.patch(module, "_open", without_ipv6)
        memory = MemoryReactorClock()
        listen(memory, "", 0, Factory())
        self.assertEqual(opened, [socket.AF_INET6, socket.AF_INET])
        self.assertEqual(memory.adoptedPorts[0][1], socket.AF_INET)


class Echo(WebSocketServerProtocol):
    """Sends back what it gets."""

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.sendMessage(payload + KEY.encode() if peer_of(self.transport) else payload, isBinary)


class TLSTests(PortCase):
    """TLS through the real reactor."""

    def test_address(self) -> None:
        """The port says where it listens, of both families."""
        context = server_context(self.mktemp(), self.authority)
        for host in ("127.0.0.1", "::1"):
            self.assertEqual(self.open(host, context).host, host)
        self.assertEqual(self.open("", context).host, "::")

    def test_greeting(self) -> Deferred[None]:
        async def go() -> None:
            address = self.open("", server_context(self.mktemp(), self.authority))
            greeting = await self.run_client(lambda: self.tls_client(address.port))
            self.assertEqual(greeting, f"tls {KEY} nodelay keepalive".encode())

        return Deferred.fromCoroutine(go())


class WebSocketTests(PortCase):
    """autobahn's own way."""

    def test_web_socket(self) -> Deferred[None]:
        """autobahn's resource works over our transport, and the peer is found under it."""
        factory = WebSocketServerFactory()
        factory.protocol = Echo
        root = Resource()
        root.putChild(b"ws", WebSocketResource(factory))
        request = (
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        masked = b"\x81\x85\0\0\0\0hello"

        async def go() -> None:
            address = self.open("", server_context(self.mktemp(), self.authority), Site(root))
            enough = b"hello" + KEY.encode()
            got = await self.run_client(
                lambda: self.tls_client(address.port, (request, b"\r\n\r\n"), (masked, enough))
            )
            self.assertIn(b"101 Switching Protocols", got)
            self.assertTrue(got.endswith(enough))

        return Deferred.fromCoroutine(go())


class SocketTLSTests(TLSTests):
    """TLS straight on the socket."""

    is_on_socket = True
