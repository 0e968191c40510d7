"""A listener whose connections speak TLS straight on their sockets."""

import errno
import socket
from select import EPOLLIN
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort
from twisted.logger import Logger
from zope.interface import implementer

from mfserver.address import network
from mfserver.tls.admission import Admission
from mfserver.tls.carrier import address_of
from mfserver.tls.limit import ConnectionLimit
from mfserver.tls.poller import Poller
from mfserver.tls.transport import TLSTransport

__all__ = ["TLSPort"]

#: Connections that are accepted in one turn of the reactor.
_MOST: Final = 8
#: How the system says that there is no room for another one, and seconds until it is asked again.
_NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 1.0


@implementer(IListeningPort)
class TLSPort:
    """Accepts connections.

    :param bound: a listening socket that does not block; it is ours from now on.
    :param limit: counts the connections from the moment they are accepted, and closes those too many.
    :ivar fd: its descriptor; -1 while it does not listen.
    """

    _log = Logger()

    def __init__(
        self, bound: socket.socket, admission: Admission, poller: Poller, limit: ConnectionLimit | None
    ) -> None:
        self.fd = -1
        self._bound = bound
        self._address = address_of(bound.getsockname())
        self._admission = admission
        self._poller = poller
        self._limit = limit
        self._pause: IDelayedCall | None = None

    # --- IListeningPort -------------------------------------------------------------------------------------

    def startListening(self) -> None:
        """Begin to accept.

        :raises CannotListenError: it was closed.
        """
        if self._bound.fileno() < 0:
            raise CannotListenError(self._address.host, self._address.port, OSError("it was closed"))
        self.fd = self._bound.fileno()
        self._admission.start()
        self._poller.watch(self, EPOLLIN)

    def stopListening(self) -> Deferred[None] | None:
        """Accept no more. The connections stay."""
        if self.fd >= 0:
            if self._pause is not None:
                self._pause.cancel()
            self._poller.forget(self)
            self.fd = -1
            self._bound.close()
            self._admission.stop()
        return None

    def getHost(self) -> Any:
        """Where it listens."""
        return self._address

    # --- the poller's calls ---------------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        """Somebody waits to be accepted."""
        for _ in range(_MOST):
            if self._poller.is_busy:  # they wait in the backlog meanwhile
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
            self._accept(carrier, address_of(name))

    def lose(self, error: BaseException) -> None:
        """The reactor ends."""
        self.stopListening()

    def _accept(self, carrier: socket.socket, address: Any) -> None:
        limit = self._limit
        if limit is not None and not limit.accept(network(address.host)):
            carrier.close()
            return
        try:
            carrier.setblocking(False)
            TLSTransport(carrier, address, self._admission, self._poller, self._released)
        except Exception:  # OpenSSL's or the system's memory ends: this listener has to outlive it
            self._log.failure("an accepted connection cannot be served")
            carrier.close()
            self._released(address)

    def _released(self, address: IAddress) -> None:
        if self._limit is not None:
            self._limit.release(network(getattr(address, "host", "")))

    def _wait(self, error: OSError) -> None:
        """There is no descriptor or memory left: let who is there go on, and look again later."""
        self._admission.report("a connection cannot be accepted", f"{self._address.port}: {error.strerror}")
        self._poller.watch_for(self, 0)
        self._pause = self._poller.clock.callLater(_PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._poller.watch_for(self, EPOLLIN)
