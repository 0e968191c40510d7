"""What Twisted's TLS transports can be asked about their socket and its TLS."""

import socket
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from mfserver.tls.context import ServerConnection

__all__ = ["Carried", "address_of", "has_crumbs"]

#: How a handshake record begins that is not encrypted, and how many of them may stand in so many bytes.
_HANDSHAKE: Final = b"\x16\x03"
_CRUMBS: Final = 16
_AHEAD: Final = 4096


class Carried:
    """TLS on a connected socket.

    :ivar fd: the socket's descriptor; -1 once it is closed.
    """

    __slots__ = ("_address", "_carrier", "_tls", "fd")

    def __init__(self, carrier: socket.socket, address: IAddress, tls: ServerConnection) -> None:
        self.fd = carrier.fileno()
        self._carrier = carrier
        self._address = address
        self._tls: ServerConnection | None = tls

    def fileno(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self.fd

    def logPrefix(self) -> str:
        """What Twisted logs."""
        return "TLS"

    def getHandle(self) -> ServerConnection | None:
        """OpenSSL's connection; None once it is closed. Do not keep it."""
        return self._tls

    def getPeerCertificate(self) -> Any:
        """The certificate that the peer showed, as pyOpenSSL's; None without one."""
        return self._tls.get_peer_certificate() if self._tls is not None else None

    def getPeer(self) -> Any:
        """The peer's address."""
        return self._address

    def getHost(self) -> Any:
        """Our own address; None once it is closed."""
        return address_of(self._carrier.getsockname()) if self.fd >= 0 else None

    def getTcpNoDelay(self) -> bool:
        """Whether small segments are sent at once; False once it is closed."""
        return self.fd >= 0 and bool(self._carrier.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Send small segments at once; our listeners' connections do already."""
        if self.fd >= 0:
            self._carrier.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        """Whether the system notices a peer that is gone; False once it is closed."""
        return self.fd >= 0 and bool(self._carrier.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Have the system notice a peer that is gone; our listeners' connections do already."""
        if self.fd >= 0:
            self._carrier.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)


def address_of(name: Any) -> IPv4Address | IPv6Address:
    """What Twisted calls an address of the socket module's."""
    return IPv4Address("TCP", *name[:2]) if len(name) == 2 else IPv6Address("TCP", *name)


def has_crumbs(carrier: socket.socket) -> bool:
    """Whether a handshake comes in far more records than it needs.

    OpenSSL reads on until there are no more, all in one call: a ClientHello of 128 KiB, a byte in each
    record, takes it two tenths of a second, in which nobody else is served. No client has a reason for that.

    :param carrier: what came to it stays there.
    """
    try:
        return carrier.recv(_AHEAD, socket.MSG_PEEK).count(_HANDSHAKE) > _CRUMBS
    except OSError:
        return False  # OpenSSL finds out what it is
