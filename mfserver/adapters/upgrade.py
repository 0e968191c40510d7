"""A connection on the web port: HTTP first, a WebSocket after an upgrade.

twisted.web reads the request and we decide on it; only then does WebSocket code see the connection.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProtocolFactory, ITransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import Request
from zope.interface import implementer

from mfserver.address import network
from mfserver.cred.expiry import CertificateWatch
from mfserver.errors import Invalid
from mfserver.tls.peer import Peer, peer_of

__all__ = ["WebFactory", "WebConnection", "upgrade"]

# All of the request that WebSocket code is shown: keys stand in other headers and in the query. Origin has
# been decided on; autobahn would refuse one that is no address, such as the null of a local file.
_HANDSHAKE_HEADERS = (
    "host",
    "upgrade",
    "connection",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
)
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 34\r\n"
    b'Retry-After: 10\r\nConnection: close\r\n\r\n{"error":"too many connections"}\r\n'
)


@implementer(ITransport)
class _Transport:
    """What WebSocket code may do with the connection.

    It does not provide ``ISSLTransport``: autobahn would ask such a one for a channel binding that only
    one of Twisted's transports can answer.
    """

    def __init__(self, connection: "WebConnection") -> None:
        self._connection = connection
        self.disconnecting = False

    def write(self, data: bytes) -> None:
        self._connection.write(data)

    def writeSequence(self, data: Any) -> None:
        self._connection.writeSequence(data)

    def loseConnection(self) -> None:
        self.disconnecting = True
        self._connection.loseConnection()

    def abortConnection(self) -> None:
        self.disconnecting = True
        self._connection.abortConnection()

    def getPeer(self) -> Any:
        return self._connection.getPeer()

    def getHost(self) -> Any:
        return self._connection.getHost()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._connection.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        self._connection.unregisterProducer()

    def pauseProducing(self) -> None:
        self._connection.pauseProducing()

    def resumeProducing(self) -> None:
        self._connection.resumeProducing()


class WebConnection(ProtocolWrapper):
    """Carries an HTTP channel until :func:`upgrade` puts another protocol in its place.

    Each request proves itself anew, but a connection must not rest when its certificate counts no more.

    :ivar peer: who showed a certificate.
    """

    factory: "WebFactory"
    peer: Peer | None = None
    wrappedProtocol: Any
    _one_too_many = False

    def makeConnection(self, transport: Any) -> None:
        self._one_too_many = self.factory.is_over_limit(network(getattr(transport.getPeer(), "host", "")))
        self.peer = peer_of(transport)
        if self.peer is not None:
            self.factory.watch.add(self, self.peer)
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        if not self._one_too_many:
            super().dataReceived(data)
        elif not self.disconnecting:
            self.write(_TOO_MANY)
            self.unregisterProducer()  # TLS would wait for it to close
            self.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.watch.discard(self)
        super().connectionLost(reason)

    def end(self, reason: str) -> None:
        """The certificate is revoked, has ended or is trusted no more. HTTP has no word for it."""
        self.wrappedProtocol.end()

    def upgrade(self, request: Request, protocol: Protocol) -> None:
        """Let another protocol have the connection, from the request's first byte on."""
        self.factory.watch.discard(self)  # the other one's login is watched
        channel: Any = request.channel  # the API's, which knows how to leave
        channel.leave()
        self.unregisterProducer()
        self.wrappedProtocol = protocol
        protocol.makeConnection(_Transport(self))
        self.resumeProducing()
        protocol.dataReceived(_handshake(request))


class WebFactory(WrappingFactory):
    """Wraps a Site so that its connections can be upgraded.

    :param is_over_limit: whether an address has more connections than it may.
    :param watch: ends connections with their certificates.
    """

    protocol = WebConnection
    noisy = False

    def __init__(
        self, site: IProtocolFactory, is_over_limit: Callable[[str], bool], watch: CertificateWatch
    ) -> None:
        super().__init__(site)
        self.is_over_limit = is_over_limit
        self.watch = watch

    def logPrefix(self) -> str:
        return "web"


def upgrade(request: Request, protocol: Protocol) -> bool:
    """Hand a request's connection to another protocol.

    :return: False when the peer is gone: the protocol was not connected and never will be.
    :raises Invalid: the request came on a connection that cannot be upgraded, or has a body.
    """
    channel: Any = request.channel
    if channel is None:  # twisted.web takes it from a request whose peer is gone
        return False
    connection: object = channel.transport
    if not isinstance(connection, WebConnection):
        raise Invalid("this connection cannot be upgraded", "upgrade")
    assert request.content is not None  # twisted.web has read all of it
    if request.content.read(1):
        raise Invalid("a request for an upgrade has no body", "body")
    connection.upgrade(request, protocol)
    return True


def _handshake(request: Request) -> bytes:
    """The opening handshake as WebSocket code may see it (RFC 6455, 4.2.1)."""
    path, _, _ = request.uri.partition(b"?")
    lines = [b"GET " + path + b" HTTP/1.1"]
    for name in _HANDSHAKE_HEADERS:
        for value in request.requestHeaders.getRawHeaders(name.encode(), []):
            lines.append(name.encode() + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n"
