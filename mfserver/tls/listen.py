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

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from mfserver.tls.admission import Admission
from mfserver.tls.context import ServerContext
from mfserver.tls.limit import ConnectionLimit, LimitedFactory
from mfserver.tls.memory import MemoryTLSFactory
from mfserver.tls.poller import Poller
from mfserver.tls.port import PlainPort, TLSPort

__all__ = ["listen"]

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
    poller: Poller | None = None,
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
    :param poller: accepts a few connections a turn, and carries TLS straight on the sockets; None for
        Twisted's own ways.
    :param report: tells the log of a kind of mistake and its details, without repeating itself.
    :param now: the time in seconds since 1970.
    :raises CannotListenError: the address is taken, forbidden or none of this machine's.
    """
    admission = None
    if context is not None:
        admission = Admission(factory, context, alpn, handshake_timeout, report, now)
    bound = _bind(host, port, backlog)
    if admission is not None and poller is not None:
        tls_port = TLSPort(bound, admission, poller, limit)
        tls_port.startListening()
        return tls_port
    if admission is not None:
        factory = MemoryTLSFactory(reactor, factory, admission)
    if limit is not None:
        factory = LimitedFactory(factory, limit)
    if poller is not None:
        plain_port = PlainPort(bound, reactor, factory, poller, report)
        plain_port.startListening()
        return plain_port
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
