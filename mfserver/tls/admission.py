"""Who may go on after a TLS handshake, and with which protocol: the same for every transport."""

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from OpenSSL import SSL, crypto
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory

from mfserver.address import network
from mfserver.errors import NotAuthorized
from mfserver.tls.context import ServerConnection, ServerContext
from mfserver.tls.peer import Peer

__all__ = ["Admission", "reason_of"]

#: What pyOpenSSL says of an end without close_notify: the one error of which it leaves nothing behind.
_CUT: Final = (-1, "Unexpected EOF")


class Admission:
    """What the TLS connections of one listener have in common.

    :param factory: builds the protocols of all clients, but those who chose another one by ALPN.
    :param alpn: the ALPN names that are spoken here, the preferred one first, and who builds the protocols
        of clients with which that name was negotiated.
    :param handshake_timeout: seconds from the connection to the end of the TLS handshake.
    :param report: tells the log of a kind of mistake and its details, without repeating itself.
    :param now: the time in seconds since 1970.
    """

    def __init__(
        self,
        factory: IProtocolFactory,
        context: ServerContext,
        alpn: Mapping[bytes, IProtocolFactory],
        handshake_timeout: float,
        report: Callable[[str, str], None],
        now: Callable[[], float],
    ) -> None:
        self.context = context
        self.handshake_timeout = handshake_timeout
        self.report = report
        self._factory = factory
        self._alpn = dict(alpn)
        self._protocols = tuple(alpn)
        self._factories = list({id(each): each for each in (factory, *alpn.values())}.values())
        self._now = now

    def start(self) -> None:
        """The listener begins: tell every factory."""
        for factory in self._factories:
            factory.doStart()

    def stop(self) -> None:
        """The listener ended: tell every factory."""
        for factory in self._factories:
            factory.doStop()

    def connection(self, carrier: socket.socket | None = None) -> ServerConnection:
        """A connection from the context of the moment, before its first byte.

        :param carrier: the socket that it runs on; None for one in memory.
        """
        return self.context.connection(self._protocols, carrier)

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
                connection,
            )
        except Exception as error:  # OpenSSL has read it; what cryptography may raise for it varies
            raise NotAuthorized("the client certificate cannot be read") from error
        peer.verify(self._now())
        return peer

    def build(self, negotiated: bytes | None, address: Any) -> IProtocol | None:
        """The application's protocol of a client, by the ALPN name that was negotiated with it."""
        factory = self._factory if negotiated is None else self._alpn[negotiated]
        protocol: IProtocol | None = factory.buildProtocol(address)
        return protocol

    def failed(self, address: IAddress | None, error: BaseException | None) -> None:
        """Count a connection that ended before there was a protocol for it, and tell of it."""
        self.context.handshakes_failed += 1
        self.report("a TLS handshake failed", f"{_host(address)}: {_why(error)}")

    def refused(self, address: IAddress | None, error: NotAuthorized) -> None:
        """Count a refusal of our own records, and tell of it."""
        self.context.peers_refused += 1
        self.report("a client certificate was refused after the handshake", f"{_host(address)}: {error}")


def reason_of(error: Exception) -> Exception:
    """What a connection is told of an error of OpenSSL's: the same, or ``ConnectionLost``."""
    error.__traceback__ = None  # it holds the connection
    if not isinstance(error, SSL.SysCallError):
        return error
    if error.args != _CUT:
        # pyOpenSSL may leave it in the list of errors that all connections of a thread share, and the next
        # one's would be read with it. Whatever fails empties the list.
        with suppress(crypto.Error):
            crypto.load_certificate(crypto.FILETYPE_ASN1, b"")
    return ConnectionLost()


def _host(address: IAddress | None) -> str:
    return network(getattr(address, "host", ""))


def _why(error: BaseException | None) -> str:
    """OpenSSL's own words for a failed handshake, or Twisted's for a lost connection."""
    details = error.args[0] if isinstance(error, SSL.Error) and error.args else None
    if isinstance(details, list) and details:
        return str(details[-1][-1])
    lost = isinstance(error, (ConnectionLost, SSL.SysCallError))
    return "the connection was lost" if lost else type(error).__name__
