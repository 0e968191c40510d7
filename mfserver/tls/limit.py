"""How many connections there may be, in all and from one neighbour."""

from functools import partial
from typing import Final

from twisted.internet.interfaces import IAddress, ILoggingContext, IProtocol, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from mfserver.address import network
from mfserver.interfaces import ICounted

__all__ = ["ConnectionLimit", "LimitedFactory"]

#: Connections past the bound that are still accepted, so that they can be told why they are refused; beyond
#: these a connection is closed unheard.
_HEARD_IN_ALL: Final = 256
_HEARD_PER_ADDRESS: Final = 16


class ConnectionLimit:
    """Counts the open connections of all listeners, from the moment they are accepted.

    :param maximum: connections in all.
    :param per_address: connections from one network, as :func:`mfserver.address.network` names it.
    :ivar total: connections that are open now.
    :ivar unheard: connections that were closed at once.
    """

    def __init__(self, maximum: int, per_address: int) -> None:
        self._maximum = maximum
        self._per_address = per_address
        self._open: dict[str, int] = {}
        self.total = 0
        self.unheard = 0

    def accept(self, address: str) -> bool:
        """Count one more connection. :return: False when it is to be closed at once, and not counted."""
        count = self._open.get(address, 0)
        if self.total >= self._maximum + _HEARD_IN_ALL or count >= self._per_address + _HEARD_PER_ADDRESS:
            self.unheard += 1
            return False
        self._open[address] = count + 1
        self.total += 1
        return True

    def release(self, address: str) -> None:
        """A connection that was accepted is over."""
        count = self._open[address] - 1
        if count:
            self._open[address] = count
        else:
            del self._open[address]
        self.total -= 1

    def is_over(self, address: str) -> bool:
        """Whether a connection from there that begins now is one too many, and is to be told so."""
        return self.total > self._maximum or self._open.get(address, 0) > self._per_address


@implementer(IProtocolFactory, ILoggingContext)
class LimitedFactory:
    """Counts the connections of a listener while they are open.

    It puts no layer of its own between the transport and the protocol, which would cost every message.
    """

    def __init__(self, factory: IProtocolFactory, limit: ConnectionLimit) -> None:
        self._factory = factory
        self._limit = limit

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        """Build the factory's protocol, or None, which closes the connection, where there are too many."""
        limit, address = self._limit, network(getattr(addr, "host", ""))
        if not limit.accept(address):
            return None
        protocol = self._factory.buildProtocol(addr)
        if protocol is None:
            limit.release(address)
            return None
        if ICounted.providedBy(protocol):
            protocol.released = partial(limit.release, address)
            return protocol
        lost = protocol.connectionLost

        def release(reason: Failure = connectionDone) -> None:
            del protocol.connectionLost  # else protocol and function would hold each other
            limit.release(address)
            lost(reason)

        protocol.connectionLost = release  # type: ignore[method-assign]
        return protocol

    def doStart(self) -> None:
        """The listener begins."""
        self._factory.doStart()

    def doStop(self) -> None:
        """The listener ended."""
        self._factory.doStop()

    def logPrefix(self) -> str:
        """What Twisted logs."""
        return "mfserver"
