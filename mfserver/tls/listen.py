"""Opens every listener of the server, plain and TLS.

An application's protocol exists only after the handshake is complete and the client's certificate, if it
showed one, passed our own records too. Until then a deadline runs that no number of bytes prolongs.
"""

import errno
import socket
from collections.abc import Callable, Mapping
from time import time
from types import MappingProxyType
from typing import Any, Final

from OpenSSL import SSL
from twisted.internet.error import CannotListenError, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import classImplements, implementer

from mfserver.address import network
from mfserver.errors import NotAuthorized
from mfserver.tls.context import ServerConnection, ServerContext
from mfserver.tls.limit import ConnectionLimit, LimitedFactory
from mfserver.tls.peer import IPeerTransport, Peer

__all__ = ["listen", "LINGER"]

#: Seconds that a connection which was told to close has for sending the rest and for the peer's own
#: close_notify; then it is aborted.
LINGER: Final = 30.0
#: TCP keepalive: a peer that is gone is noticed after 60 + 4 * 15 seconds of silence.
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
#: How a machine without IPv6 answers.
_NO_IPV6: Final = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_NO_ALPN: Final[Mapping[bytes, IProtocolFactory]] = MappingProxyType({})


def listen(
    reactor: Any,
    host: str,
    port: int,
    factory: IProtocolFactory,
    context: ServerContext | None = None,
    alpn: Mapping[bytes, IProtocolFactory] = _NO_ALPN,
    *,
    handshake_timeout: float = 10.0,
    backlog: int = 1024,
    limit: ConnectionLimit | None = None,
    report: Callable[[str, str], None] = lambda kind, detail: None,
    now: Callable[[], float] = time,
) -> IListeningPort:
    """Open a listener.

    :param reactor: provides IReactorSocket and IReactorTime.
    :param host: a name or address; ``""`` for all addresses of the machine, IPv6 and IPv4.
    :param port: 0 picks a free one.
    :param factory: builds the protocols of all clients, but those who chose another one by ALPN.
    :param context: None for plain TCP.
    :param alpn: the ALPN names that are spoken here, the preferred one first, and who builds the protocols
        of clients with which that name was negotiated.
    :param handshake_timeout: seconds from the connection to the end of the TLS handshake.
    :param backlog: connections that the kernel holds until they are accepted.
    :param limit: counts the connections from the moment they are accepted, and closes those too many.
    :param report: tells the log of a kind of mistake and its details, without repeating itself.
    :param now: the time in seconds since 1970.
    :raises CannotListenError: the address is taken, forbidden or none of this machine's.
    """
    if context is not None:
        factory = _TLSFactory(reactor, factory, context, alpn, handshake_timeout, report, now)
    if limit is not None:
        factory = LimitedFactory(factory, limit)
    bound = _bind(host, port, backlog)
    try:
        listening: IListeningPort = reactor.adoptStreamPort(bound.fileno(), bound.family, factory)
    finally:
        bound.close()  # the reactor has a descriptor of its own
    return listening


def _bind(host: str, port: int, backlog: int) -> socket.socket:
    try:
        if not 0 <= port <= 65_535:  # getaddrinfo would take the rest of a division
            raise OverflowError("a port is a number from 0 to 65535")
        if host:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            return _open(family, address, backlog)
        try:
            return _open(socket.AF_INET6, ("::", port), backlog)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
            return _open(socket.AF_INET, ("0.0.0.0", port), backlog)  # noqa: S104 - what "" asks for
    except (OSError, OverflowError, UnicodeError) as error:
        raise CannotListenError(host, port, error) from error


def _open(family: int, address: Any, backlog: int) -> socket.socket:
    """A listening socket. On Linux the connections that it accepts inherit its options."""
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in _KEEPALIVE:
            opened.setsockopt(socket.IPPROTO_TCP, option, value)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.bind(address)
        opened.listen(backlog)
    except BaseException:
        opened.close()
        raise
    return opened


class _Transport(BufferingTLSTransport):
    """The transport of an application's protocol.

    :ivar peer: who showed a certificate; set before the application's protocol exists.
    """

    peer: Peer | None = None
    factory: "_TLSFactory"
    _linger: IDelayedCall | None = None

    def loseConnection(self) -> None:
        super().loseConnection()
        # Twisted waits for the peer's close_notify, which need never come.
        if self.connected and self._linger is None:
            self._linger = self.factory.clock.callLater(LINGER, self.abortConnection)

    def abortConnection(self) -> None:
        if self.connected:
            super().abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        super().connectionLost(reason)


# Twisted's class has their methods, some by way of the TCP transport, where a type checker sees none.
classImplements(_Transport, ISSLTransport, IPeerTransport)


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """Stands where the application's protocol will stand, until the handshake is complete."""

    transport: _Transport

    def __init__(self, factory: "_TLSFactory", address: IAddress | None) -> None:
        self._factory = factory
        self._address = address
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._deadline = self._factory.clock.callLater(
            self._factory.handshake_timeout, self.transport.abortConnection
        )

    def handshakeCompleted(self) -> None:
        self._stop_deadline()
        transport = self.transport
        try:
            transport.peer = self._factory.admit(transport.getHandle())
        except NotAuthorized as error:
            self._factory.refused(self._address, error)
            transport.abortConnection()
            return
        protocol = self._factory.build(transport.negotiatedProtocol, self._address)
        if protocol is None:
            transport.abortConnection()
            return
        transport.wrappedProtocol = protocol
        protocol.makeConnection(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_deadline()
        self._factory.context.handshakes_failed += 1
        self._factory.report("a TLS handshake failed", f"{_host(self._address)}: {_why(reason.value)}")
        # Its traceback holds the frames that hold the connection: a circle for every hostile handshake.
        reason.cleanFailure()

    def _stop_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()


@implementer(IOpenSSLServerConnectionCreator)
class _Connections:
    """Makes each connection from the context of the moment, for the protocols of one listener."""

    def __init__(self, context: ServerContext, protocols: tuple[bytes, ...]) -> None:
        self._context = context
        self._protocols = protocols

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> ServerConnection:
        return self._context.connection(self._protocols)


class _TLSFactory(TLSMemoryBIOFactory):
    """Puts TLS under the protocols of other factories, of which it asks one, only after the handshake.

    It hides what else such a factory provides: twisted.web's Site would set ALPN in the shared context.
    """

    protocol = _Transport

    def __init__(
        self,
        clock: IReactorTime,
        factory: IProtocolFactory,
        context: ServerContext,
        alpn: Mapping[bytes, IProtocolFactory],
        handshake_timeout: float,
        report: Callable[[str, str], None],
        now: Callable[[], float],
    ) -> None:
        super().__init__(_Connections(context, tuple(alpn)), False, factory, clock)
        self.clock = clock
        self.context = context
        self.handshake_timeout = handshake_timeout
        self.report = report
        self._now = now
        self._alpn = dict(alpn)
        self._others = {id(other): other for other in alpn.values() if other is not factory}.values()

    def doStart(self) -> None:
        super().doStart()
        for factory in self._others:
            factory.doStart()

    def doStop(self) -> None:
        super().doStop()
        for factory in self._others:
            factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> _Transport:
        return _Transport(self, _Handshake(self, addr))

    def build(self, negotiated: bytes | None, address: Any) -> IProtocol | None:
        """The application's protocol of a client, by the ALPN name that was negotiated with it."""
        factory = self.wrappedFactory if negotiated is None else self._alpn[negotiated]
        protocol: IProtocol | None = factory.buildProtocol(address)
        return protocol

    def admit(self, connection: ServerConnection) -> Peer | None:
        """Ask our own records whether a connection whose handshake is complete may go on.

        :raises NotAuthorized: the certificate cannot be read, or is not to be trusted now.
        """
        try:
            leaf = connection.get_peer_certificate(as_cryptography=True)
            if leaf is None:
                return None
            chain = connection.get_verified_chain(as_cryptography=True)  # none on a resumed session
            peer = Peer(
                leaf,
                self.context.remember(chain[1:-1]) if chain else (),
                connection.get_protocol_version_name(),
                self.context,
                connection.generation if chain else 0,
            )
        except Exception as error:  # OpenSSL has read it; what cryptography may raise for it varies
            raise NotAuthorized("the client certificate cannot be read") from error
        peer.verify(self._now())
        return peer

    def refused(self, address: IAddress | None, error: NotAuthorized) -> None:
        """Count a refusal of our own records, and tell of it."""
        self.context.peers_refused += 1
        self.report("a client certificate was refused after the handshake", f"{_host(address)}: {error}")


def _host(address: IAddress | None) -> str:
    return network(getattr(address, "host", ""))


def _why(error: BaseException | None) -> str:
    """OpenSSL's own words for a failed handshake, or Twisted's for a lost connection."""
    details = error.args[0] if isinstance(error, SSL.Error) and error.args else None
    if isinstance(details, list) and details:
        return str(details[-1][-1])
    return "the connection was lost" if isinstance(error, ConnectionLost) else type(error).__name__
