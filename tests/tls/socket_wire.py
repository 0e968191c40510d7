"""The listener and the wire of :mod:`tests.tls.wire` with sockets between."""

from collections.abc import Callable, Mapping
from contextlib import suppress

from OpenSSL import SSL
from twisted.internet.interfaces import IProtocolFactory

from mfserver.tls.context import ServerContext
from tests.tls.sockets import House
from tests.tls.wire import Listener, Wire

__all__ = ["SocketListener"]


class SocketListener(Listener):
    """TLS straight on the socket."""

    def _listen(
        self,
        context: ServerContext,
        main: IProtocolFactory,
        alpn: Mapping[bytes, IProtocolFactory],
        now: Callable[[], float],
    ) -> None:
        self.house = House(context, factory=main, alpn=alpn, now=now)
        self.reports = self.house.reports
        self.wires: list[SocketWire] = []

    def connect(self, context: SSL.Context, session: SSL.Session | None = None) -> Wire:
        self.wires.append(SocketWire(self, context, session))
        return self.wires[-1]

    def advance(self, seconds: float) -> None:
        self.house.rest()
        self.house.reactor.advance(seconds)
        self.house.rest()

    def timed_calls(self) -> int:
        return len(self.house.reactor.getDelayedCalls())

    def stop(self) -> None:
        self.house.port.stopListening()

    def close(self) -> None:
        for wire in self.wires:
            wire.carrier.close()
        self.house.close()


class SocketWire(Wire):
    """A connection over the loopback interface."""

    def __init__(self, listener: SocketListener, context: SSL.Context, session: SSL.Session | None) -> None:
        super().__init__(listener, context, session)
        self.house = listener.house
        self.carrier = self.house.plain()
        self._came = b""
        self._ending = ""

    def feed(self, data: bytes) -> None:
        with suppress(ConnectionError):
            self.carrier.sendall(data)
        self.house.rest()

    def taken(self) -> bytes:
        self._receive()
        came, self._came = self._came, b""
        return came

    def cut(self) -> None:
        self.carrier.close()
        self.house.rest()

    @property
    def is_closed(self) -> bool:
        self._receive()
        return bool(self._ending)

    @property
    def is_aborted(self) -> bool:
        self._receive()
        return self._ending == "reset"

    def _receive(self) -> None:
        self.house.rest()
        try:
            while data := self.carrier.recv(1 << 16):
                self._came += data
            self._ending = self._ending or "end"
        except BlockingIOError:
            pass
        except ConnectionError:
            self._ending = "reset"
