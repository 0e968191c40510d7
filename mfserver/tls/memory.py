"""TLS as Twisted carries it, through memory: for comparison, and where epoll(7) is missing."""

from typing import Final

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import classImplements, implementer

from mfserver.errors import NotAuthorized
from mfserver.tls.admission import Admission
from mfserver.tls.context import ServerConnection
from mfserver.tls.peer import IPeerTransport, Peer

__all__ = ["MemoryTLSFactory", "LINGER"]

#: Seconds that a connection which was told to close has for sending the rest and for the peer's own
#: close_notify; then it is aborted.
LINGER: Final = 30.0


class _Transport(BufferingTLSTransport):
    """The transport of an application's protocol.

    :ivar peer: who showed a certificate; set before the application's protocol exists.
    """

    peer: Peer | None = None
    factory: "MemoryTLSFactory"
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

    def __init__(self, factory: "MemoryTLSFactory", address: IAddress | None) -> None:
        self._factory = factory
        self._admission = factory.admission
        self._address = address
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:
        self._deadline = self._factory.clock.callLater(
            self._admission.handshake_timeout, self.transport.abortConnection
        )

    def handshakeCompleted(self) -> None:
        self._stop_deadline()
        transport, admission = self.transport, self._admission
        try:
            transport.peer = admission.admit(transport.getHandle())
        except NotAuthorized as error:
            admission.refused(self._address, error)
            transport.abortConnection()
            return
        protocol = admission.build(transport.negotiatedProtocol, self._address)
        if protocol is None:
            transport.abortConnection()
            return
        transport.wrappedProtocol = protocol
        protocol.makeConnection(transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_deadline()
        self._admission.failed(self._address, reason.value)
        # Its traceback holds the frames that hold the connection: a circle for every hostile handshake.
        reason.cleanFailure()

    def _stop_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()


@implementer(IOpenSSLServerConnectionCreator)
class _Connections:
    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> ServerConnection:
        return self._admission.connection()


class MemoryTLSFactory(TLSMemoryBIOFactory):
    """Puts TLS under the protocols of other factories, of which it asks one, only after the handshake.

    It hides what else such a factory provides: twisted.web's Site would set ALPN in the shared context.
    """

    protocol = _Transport

    def __init__(self, clock: IReactorTime, factory: IProtocolFactory, admission: Admission) -> None:
        super().__init__(_Connections(admission), False, factory, clock)
        self.clock = clock
        self.admission = admission

    def doStart(self) -> None:
        self.admission.start()

    def doStop(self) -> None:
        self.admission.stop()

    def buildProtocol(self, addr: IAddress | None) -> _Transport:
        return _Transport(self, _Handshake(self, addr))
