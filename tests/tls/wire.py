"""A TLS client and a listener's protocol that talk in memory, under a clock that tests move."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import time

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from mfserver.tls.context import ServerContext
from mfserver.tls.listen import listen
from tests.tls.pki import Identity

__all__ = ["Application", "Applications", "Listener", "MemoryWire", "Wire", "client_context"]


class Application(Protocol):
    """An application's protocol that remembers what happened to it."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Applications(Factory):
    """Keeps every protocol it made."""

    noisy = False

    def __init__(self) -> None:
        self.made: list[Application] = []

    def buildProtocol(self, addr: object) -> Application | None:
        self.made.append(Application())
        return self.made[-1]


class Socket(StringTransport):
    """Tells its protocol that the connection is lost in the next turn, as a real one does."""

    def __init__(self, reactor: MemoryReactorClock) -> None:
        super().__init__()
        self.reactor = reactor
        self.aborted = False
        self.closed = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        """twisted.web calls it."""

    def loseConnection(self) -> None:
        self._close(ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = True
        self._close(ConnectionAborted())

    def _close(self, reason: Exception) -> None:
        if not self.closed:
            self.closed = True
            self.reactor.callLater(0, self.protocol.connectionLost, Failure(reason))

    protocol: Protocol


class Listener:
    """What :func:`listen` hands to the reactor, without a network.

    :param protocols: ALPN names of the factory's protocols; those of others come after them.
    :ivar reports: what the log would be told.
    """

    def __init__(
        self,
        context: ServerContext,
        protocols: Iterable[bytes] = (),
        *,
        factory: IProtocolFactory | None = None,
        others: Mapping[bytes, IProtocolFactory] | None = None,
        now: Callable[[], float] = time,
    ) -> None:
        self.applications = Applications()
        self.reports: list[tuple[str, str]] = []
        main = factory or self.applications
        self._listen(context, main, {**dict.fromkeys(protocols, main), **(others or {})}, now)

    def _listen(
        self,
        context: ServerContext,
        main: IProtocolFactory,
        alpn: Mapping[bytes, IProtocolFactory],
        now: Callable[[], float],
    ) -> None:
        self.memory = MemoryReactorClock()
        listen(self.memory, "127.0.0.1", 0, main, context, alpn, report=self.report, now=now)
        self.factory: Factory = self.memory.adoptedPorts[0][2]
        self.factory.doStart()

    def report(self, kind: str, detail: str) -> None:
        """What the log would be told."""
        self.reports.append((kind, detail))

    def connect(self, context: SSL.Context, session: SSL.Session | None = None) -> "Wire":
        """A client's connection, before its first byte."""
        return MemoryWire(self, context, session)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.memory.advance(seconds)

    def timed_calls(self) -> int:
        """How many deadlines run."""
        return len(self.memory.getDelayedCalls())

    def stop(self) -> None:
        """Listen no more."""
        self.factory.doStop()

    def close(self) -> None:
        """Leave nothing behind."""
        self.stop()


class Wire:
    """One connection.

    :ivar client: pyOpenSSL's, in memory.
    """

    def __init__(self, listener: Listener, context: SSL.Context, session: SSL.Session | None) -> None:
        self.listener = listener
        self.client = SSL.Connection(context, None)
        self.client.set_connect_state()
        if session is not None:
            self.client.set_session(session)
        self.error: SSL.Error | None = None

    def feed(self, data: bytes) -> None:
        """Give the server these bytes of the client."""
        raise NotImplementedError

    def taken(self) -> bytes:
        """Let the server's turn pass. :return: what it has sent since."""
        raise NotImplementedError

    def cut(self) -> None:
        """End the connection without a word of TLS."""
        raise NotImplementedError

    @property
    def is_closed(self) -> bool:
        """Whether the server has ended the connection."""
        raise NotImplementedError

    @property
    def is_aborted(self) -> bool:
        """Whether it did so at once, with a reset."""
        raise NotImplementedError

    def client_hello(self) -> bytes:
        """Start the client's handshake and take its first bytes."""
        with suppress(SSL.WantReadError):
            self.client.do_handshake()
        return self.client.bio_read(2**16)

    def handshake(self) -> bytes:
        """Move bytes both ways until nobody has more to say.

        :return: application data that the client received.
        """
        self.feed(self.client_hello())
        return self.pump()

    def pump(self) -> bytes:
        """Move bytes both ways until nobody has more to say, and let the server's turn pass."""
        received = b""
        for _ in range(20):
            data = self.taken()
            if data:
                self.client.bio_write(data)
            try:
                received += self.client.recv(2**16)
            except (SSL.WantReadError, SSL.ZeroReturnError):
                pass
            except SSL.Error as error:
                self.error = self.error or error  # the first says why
            try:
                answer = self.client.bio_read(2**16)
            except SSL.WantReadError:
                answer = b""
            if answer and not self.is_closed:
                self.feed(answer)
            elif not data:
                break
        return received

    @property
    def alert(self) -> str:
        """OpenSSL's words for the alert that the client got."""
        return str(self.error.args[0][-1][2]) if self.error is not None and self.error.args[0] else ""


class MemoryWire(Wire):
    """A connection without a network.

    :ivar server: the listener's protocol.
    """

    def __init__(self, listener: Listener, context: SSL.Context, session: SSL.Session | None) -> None:
        super().__init__(listener, context, session)
        self.socket = Socket(listener.memory)
        server = listener.factory.buildProtocol(None)
        assert isinstance(server, Protocol)
        self.server = server
        self.socket.protocol = server
        server.makeConnection(self.socket)

    def feed(self, data: bytes) -> None:
        self.server.dataReceived(data)

    def taken(self) -> bytes:
        self.listener.advance(0)
        data: bytes = self.socket.value()
        self.socket.clear()
        return data

    def cut(self) -> None:
        self.socket._close(ConnectionLost())
        self.listener.advance(0)

    @property
    def is_closed(self) -> bool:
        return self.socket.closed

    @property
    def is_aborted(self) -> bool:
        return self.socket.aborted


def client_context(
    root: x509.Certificate | None = None,
    identity: Identity | None = None,
    *,
    version: int = SSL.TLS1_3_VERSION,
    protocols: list[bytes] | None = None,
) -> SSL.Context:
    """A client that speaks one version of TLS."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    if root is not None:
        store = context.get_cert_store()
        assert store is not None
        store.add_cert(crypto.X509.from_cryptography(root))
        context.set_verify(SSL.VERIFY_PEER)
    if identity is not None:
        context.use_certificate(identity.certificate)
        context.use_privatekey(identity.key)
        for certificate in identity.chain:
            context.add_extra_chain_cert(certificate)
    if protocols is not None:
        context.set_alpn_protos(protocols)
    return context
