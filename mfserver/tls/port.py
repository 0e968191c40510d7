"""Listeners that accept a few connections a turn, however many come at once."""

import errno
import socket
from collections.abc import Callable
from select import EPOLLIN
from typing import Any, Final, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort, IProtocolFactory
from twisted.logger import Logger
from zope.interface import implementer

from mfserver.address import network
from mfserver.tls.admission import Admission
from mfserver.tls.carrier import address_of
from mfserver.tls.limit import ConnectionLimit
from mfserver.tls.poller import Poller
from mfserver.tls.transport import TLSTransport

__all__ = ["PlainPort", "TLSPort"]

#: Connections that are accepted in one turn of the reactor.
_MOST: Final = 8
#: How the system says that there is no room for another one, and seconds until it is asked again.
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 1.0


@implementer(IListeningPort)
class _Port:
    """Accepts connections; what becomes of them, a subclass says.

    :param bound: a listening socket that does not block; it is ours from now on.
    :param report: tells the log of a kind of mistake and its details, without repeating itself.
    :ivar fd: its descriptor; -1 while it does not listen.
    """

    _log = Logger()

    def __init__(self, bound: socket.socket, poller: Poller, report: Callable[[str, str], None]) -> None:
        self.fd = -1
        self._bound = bound
        self._address = address_of(bound.getsockname())
        self._poller = poller
        self._report = report
        self._pause: IDelayedCall | None = None

    def _start(self) -> None:
        """It is about to listen."""

    def _stop(self) -> None:
        """It listens no more."""

    def _may_accept(self) -> bool:
        """Whether there is time for one more; the others wait in the system's backlog meanwhile."""
        return True

    def _serve(self, carrier: socket.socket, address: Any) -> None:
        """A connection is there; its socket does not block.

        :raises Exception: it cannot be served, and nobody has its socket.
        """
        raise NotImplementedError

    # --- IListeningPort -------------------------------------------------------------------------------------

    def startListening(self) -> None:
        """Begin to accept.

        :raises CannotListenError: it was closed.
        """
        if self._bound.fileno() < 0:
            raise CannotListenError(self._address.host, self._address.port, OSError("it was closed"))
        self.fd = self._bound.fileno()
        self._start()
        self._poller.watch(self, EPOLLIN)

    def stopListening(self) -> Deferred[None] | None:
        """Accept no more. The connections stay."""
        if self.fd >= 0:
            if self._pause is not None:
                self._pause.cancel()
            self._poller.forget(self)
            self.fd = -1
            self._bound.close()
            self._stop()
        return None

    def getHost(self) -> Any:
        """Where it listens."""
        return self._address

    # --- the poller's calls ---------------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        """Somebody waits to be accepted."""
        for _ in range(_MOST):
            if not self._may_accept():
                return
            try:
                carrier, name = self._bound.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._wait(error)
                    return
                continue  # who wanted to connect is gone
            try:
                carrier.setblocking(False)
                self._serve(carrier, address_of(name))
            except Exception as error:  # OpenSSL's or the system's memory ends: this listener outlives it
                carrier.close()
                number = error.errno if isinstance(error, OSError) else None
                if number in _NO_ROOM:
                    self._wait(cast(OSError, error))
                    return
                if number != errno.ENOTCONN:  # who wanted to connect is gone
                    self._log.failure("an accepted connection cannot be served")

    def lose(self, error: BaseException) -> None:
        """The reactor ends."""
        self.stopListening()

    def _wait(self, error: OSError) -> None:
        """There is no descriptor or memory left: let who is there go on, and look again later."""
        self._report("a connection cannot be accepted", f"{self._address.port}: {error.strerror}")
        self._poller.watch_for(self, 0)
        self._pause = self._poller.clock.callLater(_PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._poller.watch_for(self, EPOLLIN)


class PlainPort(_Port):
    """A listener whose connections are the reactor's own.

    Twisted's accepts whoever waits, hundreds in one turn, which the others wait for.

    :param reactor: an ``IReactorSocket``.
    :param factory: builds the protocols.
    """

    def __init__(
        self,
        bound: socket.socket,
        reactor: Any,
        factory: IProtocolFactory,
        poller: Poller,
        report: Callable[[str, str], None],
    ) -> None:
        super().__init__(bound, poller, report)
        self._reactor = reactor
        self._factory = factory

    def _start(self) -> None:
        self._factory.doStart()

    def _stop(self) -> None:
        self._factory.doStop()

    def _serve(self, carrier: socket.socket, address: Any) -> None:
        self._reactor.adoptStreamConnection(carrier.fileno(), carrier.family, self._factory)
        carrier.close()  # the reactor has a descriptor of its own


class TLSPort(_Port):
    """A listener whose connections speak TLS straight on their sockets.

    :param limit: counts the connections from the moment they are accepted, and closes those too many.
    """

    def __init__(
        self, bound: socket.socket, admission: Admission, poller: Poller, limit: ConnectionLimit | None
    ) -> None:
        super().__init__(bound, poller, admission.report)
        self._admission = admission
        self._limit = limit
        self._on_close = self._released  # the same for all: of each connection it would take 64 bytes

    def _start(self) -> None:
        self._admission.start()

    def _stop(self) -> None:
        self._admission.stop()

    def _may_accept(self) -> bool:
        return not self._poller.is_busy

    def _serve(self, carrier: socket.socket, address: Any) -> None:
        limit = self._limit
        if limit is not None and not limit.accept(network(address.host)):
            carrier.close()
            return
        try:
            TLSTransport(carrier, address, self._admission, self._poller, self._on_close)
        except BaseException:
            self._released(address)
            raise

    def _released(self, address: IAddress) -> None:
        if self._limit is not None:
            self._limit.release(network(getattr(address, "host", "")))
