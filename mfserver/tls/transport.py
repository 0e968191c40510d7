"""TLS straight on the socket: OpenSSL reads and writes the descriptor itself, and nothing is copied between.

The contract is that of Twisted's own TLS transport: ``write`` never blocks and never fails, whoever produces
too fast is paused, ``connectionLost`` comes once, last, and never from inside a call of the protocol's.

Three rules keep it safe. OpenSSL's connection is dropped before its descriptor is closed: a late write would
reach the next socket that gets the number. One record is read each time that the poller calls, and a few more
only where there seem to be more, so that nobody keeps the others waiting. And what waits to be sent is sent
again as the very same bytes (SSL_write(3)).
"""

import socket
from collections.abc import Callable
from contextlib import suppress
from select import EPOLLIN, EPOLLONESHOT, EPOLLOUT
from struct import pack
from typing import Any, ClassVar, Final

from OpenSSL import SSL
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IConsumer, IDelayedCall, IPushProducer, ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from mfserver.address import network
from mfserver.errors import NotAuthorized
from mfserver.tls.admission import Admission, reason_of
from mfserver.tls.carrier import Carried, has_crumbs
from mfserver.tls.context import ServerConnection
from mfserver.tls.peer import IPeerTransport, Peer
from mfserver.tls.watching import IPoller

__all__ = ["TLSTransport", "LINGER"]

#: Seconds that a connection which was told to close has for sending the rest and for the peer's own
#: close_notify; then it is aborted.
LINGER: Final = 30.0
#: Seconds, and reads, in which the peer of a failed handshake may find out why.
_DRAIN: Final = 1.0
_DRAIN_READS: Final = 64
#: Bytes of a record's plaintext at most (RFC 8446, 5.1): so none is left behind in OpenSSL.
_RECORD: Final = 1 << 14
#: Records of one connection that are read, and written, in one turn; and bytes after which no more is read.
_RECORDS_READ: Final = 16
_BYTES_READ: Final = 1 << 16
_RECORDS_WRITTEN: Final = 64
#: Every so many reads another one is tried at once: there may be a stream of small records.
_PROBE: Final = 8
#: Bytes that wait to be sent before a producer is asked to wait; as Twisted's.
_HIGH_WATER: Final = 1 << 16

#: What waits where nothing does: nothing is ever put here.
_NOTHING: Final[list[bytes]] = []
#: SO_LINGER: on, with no time.
_RESET: Final = pack("ii", 1, 0)

# What it does, in this order; CLOSED from when it gave up the socket.
_HANDSHAKING: Final = 0
_OPEN: Final = 1
_ENDING: Final = 2  # our close_notify is sent, the peer's is awaited
_DRAINING: Final = 3  # the handshake failed; OpenSSL's alert is on its way
_ABORTED: Final = 4  # to be closed when the turn ends
_CLOSED: Final = 5


class TLSTransport(Carried):
    """One TLS connection of a server.

    :ivar peer: who showed a certificate; set before the application's protocol exists.
    :ivar negotiatedProtocol: the name that ALPN chose, or None.
    :ivar connected: until ``connectionLost``.
    :ivar disconnecting: somebody wants it closed.
    """

    _log: ClassVar[Logger] = Logger()
    TLS: ClassVar[bool] = True

    __slots__ = (
        "_admission", "_eager", "_events", "_held", "_is_notified", "_is_paused", "_on_close",
        "_peer_ended", "_poller", "_producer", "_protocol", "_reading", "_reads", "_reason", "_state",
        "_streaming", "_timer", "_turn", "_unsent", "_waiting", "connected", "disconnecting",
        "negotiatedProtocol", "peer",
    )  # fmt: skip

    def __init__(
        self,
        carrier: socket.socket,
        address: IAddress,
        admission: Admission,
        poller: IPoller,
        on_close: Callable[[IAddress], None] | None = None,
    ) -> None:
        """Begin the handshake.

        :param carrier: a connected socket that does not block; it is ours from now on.
        :param address: the peer's.
        :param on_close: called once with the address, when the socket is closed.
        """
        super().__init__(carrier, address, admission.connection(carrier))
        # First what each message passes: so it lies side by side in a compiled object.
        self._state = _HANDSHAKING
        self._events = EPOLLIN | EPOLLONESHOT
        self._reads = 0
        self._reading = self.connected = True
        self._eager = self.disconnecting = False
        self._peer_ended = self._is_notified = self._streaming = self._is_paused = False
        self._protocol: Any = None
        self._poller = poller
        self._turn = poller.turn
        # Collected in this turn; what OpenSSL was given and could not send; the bytes of both.
        self._waiting = _NOTHING
        self._unsent: bytes | memoryview = b""
        self._held = 0
        self._producer: Any = None
        self._timer: IDelayedCall | None = None
        self.peer: Peer | None = None
        self.negotiatedProtocol: bytes | None = None
        self._admission = admission
        self._on_close = on_close
        self._reason: BaseException | None = None
        poller.watch(self, self._events)
        self._set_timer(admission.handshake_timeout, self._abort, ConnectionAborted())

    # --- the poller's calls ---------------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        """The socket can be read, can be written, or is broken.

        :param events: of epoll(7).
        """
        if self._state == _HANDSHAKING or (self._events & EPOLLONESHOT and events & ~EPOLLOUT):
            self._poller.handshake_soon(self)
        elif self._state == _DRAINING:
            self._drain()
        elif self._state < _ABORTED:
            if events & EPOLLOUT:
                self.flush()
            if events & ~EPOLLOUT and self._tls is not None:
                if self._reading:
                    self._read()
                elif events & ~(EPOLLOUT | EPOLLIN):  # broken, while nobody wants to hear what came before
                    self.lose(ConnectionLost())

    def handshake(self) -> None:
        """Go on with the handshake; it costs up to a few milliseconds when a certificate's key is used.

        What comes first after it, a login most of the time, has to wait for its turn in the same way.
        """
        if self._tls is None or self._state != _HANDSHAKING:
            self._hear_first()
            return
        if has_crumbs(self._carrier):
            self._cut_off()
            return
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._watch_for(EPOLLIN | EPOLLONESHOT, again=True)
        except SSL.WantWriteError:
            self._watch_for(EPOLLOUT | EPOLLONESHOT, again=True)
        except Exception as error:  # OpenSSL's, or a callback's
            self._handshake_failed(error)
        else:
            self._handshake_completed(self._tls)

    def _handshake_failed(self, error: Exception) -> None:
        self._admission.failed(self._address, error)
        if isinstance(reason_of(error), ConnectionLost):
            self._close()
            return
        # OpenSSL has sent an alert. Bytes that nobody reads would make the system reset the connection, and
        # the peer would never learn why.
        self._state = _DRAINING
        self._tls = None
        self._reads = 0
        self._set_timer(_DRAIN, self._close)
        try:
            self._carrier.shutdown(socket.SHUT_WR)
        except OSError:
            self._close()
            return
        self._watch_for(EPOLLIN)

    def _drain(self) -> None:
        self._reads += 1
        try:
            over = not self._carrier.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            over = True
        if over or self._reads > _DRAIN_READS:
            self._close()

    def _handshake_completed(self, tls: ServerConnection) -> None:
        self._set_timer(None)
        admission = self._admission
        try:
            self.peer = admission.admit(tls)
        except NotAuthorized as error:
            admission.refused(self._address, error)
            admission.failed(self._address, ConnectionAborted())
            self._close(reset=True)
            return
        self._state = _OPEN
        self.negotiatedProtocol = tls.get_alpn_proto_negotiated() or None
        protocol = admission.build(self.negotiatedProtocol, self._address)
        if protocol is None:
            admission.failed(self._address, ConnectionAborted())
            self._close(reset=True)
            return
        self._protocol = protocol
        self._watch_for(EPOLLIN | EPOLLONESHOT, again=True)
        protocol.makeConnection(self)

    # --- reading --------------------------------------------------------------------------------------------

    def _hear_first(self) -> None:
        if self._tls is not None and self._events & EPOLLONESHOT:
            self._watch_for(self._events & ~EPOLLONESHOT)
            if self._reading:
                self._read()

    def _read(self) -> None:
        """Give the protocol what is there: one record, and more while there seem to be more."""
        tls, protocol = self._tls, self._protocol
        assert tls is not None
        self._reads += 1
        if not self._reads % _PROBE:
            self._eager = True
        left = _BYTES_READ
        for _ in range(_RECORDS_READ):
            try:
                data = tls.recv(_RECORD)
            except SSL.WantReadError:
                self._eager = False
                return
            except SSL.ZeroReturnError:
                self._cut_off() if tls.is_cut_off else self._peer_closes()
                return
            except SSL.WantWriteError:  # an answer of TLS itself, behind a peer that does not read
                self._watch_for(EPOLLOUT)
                return
            except SSL.Error as error:
                self.lose(reason_of(error))
                return
            protocol.dataReceived(data)
            left -= len(data)
            is_leaving = self.disconnecting and not self._held  # its close_notify is mostly there, too
            more = left > 0 and (self._eager or is_leaving or len(data) == _RECORD)
            if not more or not self._reading or self._state > _ENDING or self._poller.is_late():
                return

    def _cut_off(self) -> None:
        """It sends no end of what is no data."""
        self._admission.report("a TLS client shakes hands without end", network(self.getPeer().host))
        self.lose(ConnectionAborted())

    def _peer_closes(self) -> None:
        """Its close_notify: it sends no more. If we have anything to say, we do when this turn ends."""
        self._peer_ended, self._reading = True, False
        if self.disconnecting and self._producer is None and not self._held:
            self.flush()
        else:
            self._watch_for(EPOLLOUT if self._held else 0)
            self._turn.add_transport(self)

    # --- writing --------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes when this turn ends; after ``loseConnection`` only those of a registered producer.

        :raises TypeError: it is text, or a number.
        """
        data = data if type(data) is bytes else bytes(memoryview(data))
        if self._state != _OPEN or not data or (self.disconnecting and self._producer is None):
            return
        if self._waiting:
            self._waiting.append(data)
        else:
            self._waiting = [data]
            self._turn.add_transport(self)
        self._held += len(data)
        if self._held > _HIGH_WATER and self._streaming and not self._is_paused:
            self._is_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, iovec: Any) -> None:
        """Send them all."""
        self.write(b"".join(iovec))

    def flush(self) -> None:
        """Send what was collected, and close where there is no more to come."""
        if self._state == _OPEN:
            if not (self._held or self._events & EPOLLOUT) or self._send():
                if self._peer_ended or (self.disconnecting and self._producer is None):
                    self._end()
                elif self._is_paused or (self._producer is not None and not self._streaming):
                    self._is_paused = False
                    self._resume()
            if (self.disconnecting or self._peer_ended) and self._timer is None and self._state < _ABORTED:
                self._set_timer(LINGER, self._abort, ConnectionAborted())  # most are closed by now
        elif self._state == _ENDING:
            self._end()
        elif self._state == _ABORTED:
            self._close(reset=True)

    def _send(self) -> bool:
        """Send as much as goes. :return: whether that was all; if not, the poller calls again."""
        tls = self._tls
        assert tls is not None
        for _ in range(_RECORDS_WRITTEN):
            data = self._unsent
            if not data:
                waiting = self._waiting
                if not waiting:
                    break
                data = waiting[0] if len(waiting) == 1 else b"".join(waiting)
                self._waiting, self._unsent = _NOTHING, data
            try:
                sent = tls.send(data)
            except SSL.WantWriteError:
                break
            except SSL.WantReadError:  # TLS 1.2 would have to shake hands again, which is refused
                self.lose(ConnectionLost())
                return False
            except SSL.Error as error:
                self.lose(reason_of(error))
                return False
            self._held -= sent
            self._unsent = b"" if sent == len(data) else memoryview(data)[sent:]
        wanted = (EPOLLIN if self._reading else 0) | (EPOLLOUT if self._held else 0)
        if wanted != self._events:
            self._watch_for(wanted)
        return not self._held

    # --- producers ------------------------------------------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Tell a producer when to pause; one that does not stream, when to write the next piece.

        :raises RuntimeError: there is one already.
        """
        if self._producer is not None:
            raise RuntimeError(f"{self._producer!r} is registered already")
        if self._state != _OPEN:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = bool(streaming)
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """It writes no more."""
        self._producer = None
        self._streaming = self._is_paused = False
        if self.disconnecting and self._state == _OPEN:
            self._turn.add_transport(self)

    def _resume(self) -> None:
        """All is sent: let the producer go on. One that cannot would never be asked again."""
        try:
            self._producer.resumeProducing()
        except Exception as error:
            self._log.failure("a producer failed, and its connection ends")
            self.lose(error)

    def pauseProducing(self) -> None:
        """Read no more."""
        if self._reading and self._state in (_OPEN, _ENDING):
            self._reading = False
            self._watch_for(self._events & ~EPOLLIN)

    def resumeProducing(self) -> None:
        """Read on."""
        if not self._reading and not self._peer_ended and self._state in (_OPEN, _ENDING):
            self._reading = True
            self._watch_for(self._events | EPOLLIN)

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    # --- endings --------------------------------------------------------------------------------------------

    def loseConnection(self) -> None:
        """Send what was written, then close_notify, and wait for the peer's, all within :data:`LINGER`."""
        if self.disconnecting or self._state != _OPEN:
            return
        self.disconnecting = True
        self._turn.add_transport(self)

    def loseWriteConnection(self) -> None:
        """The same: TLS under HTTP, WebSockets and MQTT has no half that stays open."""
        self.loseConnection()

    def abortConnection(self) -> None:
        """Close at once, whatever waits; ``connectionLost`` follows when this turn ends."""
        self._abort(ConnectionAborted())

    def _abort(self, reason: BaseException) -> None:
        if self._state >= _ABORTED:
            return
        if self._state == _HANDSHAKING:
            self._admission.failed(self._address, reason)
            self._close(reset=True)
            return
        self.disconnecting = True
        self._state = _ABORTED
        self._reason = reason
        self._watch_for(0)
        self._turn.add_transport(self)

    def _end(self) -> None:
        """Send our close_notify. The connection is over when the peer's is here, too."""
        tls = self._tls
        assert tls is not None
        self._state = _ENDING
        self.disconnecting = True
        if not self._is_notified:
            try:
                tls.shutdown()
            except SSL.WantWriteError:  # OpenSSL calls it sent already, and sends it when asked again
                self._watch_for(EPOLLOUT)
                return
            except SSL.Error as error:
                reason_of(error)
                self._peer_ended = True  # there is nobody to wait for
            self._is_notified = True  # asked once more, OpenSSL would look for the peer's
        if self._peer_ended:
            self._reason = ConnectionDone()
            self._close()
            return
        self._reading = True  # who asked us to wait is of no matter now: the peer's last record is
        self._watch_for(EPOLLIN)

    def lose(self, reason: BaseException) -> None:
        """The connection is broken or ended by the peer without a word, or nobody watches it any more."""
        if self._state == _CLOSED:
            return
        if self._protocol is None and self._state != _DRAINING:
            self._admission.failed(self._address, reason)
        elif self._reason is None:
            self._reason = ConnectionDone() if self._state == _ENDING or self._peer_ended else reason
        self._close(reset=self._state == _ABORTED)

    def _close(self, reset: bool = False) -> None:
        """Give the socket up, and tell the protocol.

        :param reset: have the system forget what it still had to send.
        """
        if self._state == _CLOSED:
            return
        self._state = _CLOSED
        self._set_timer(None)
        self._poller.forget(self)
        self._tls = None  # before its descriptor is another connection's
        carrier = self._carrier
        if reset:
            with suppress(OSError):
                carrier.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        carrier.close()
        self.fd = -1
        self._waiting, self._unsent, self._held = _NOTHING, b"", 0
        self.connected, self.disconnecting = False, True
        producer, protocol, reason = self._producer, self._protocol, self._reason
        self._producer = self._protocol = self._reason = None
        self._streaming = self._is_paused = False
        try:
            if producer is not None:
                producer.stopProducing()
        except Exception:
            self._log.failure("a producer failed to hear that its connection is lost")
        try:
            if protocol is not None:
                protocol.connectionLost(Failure(reason or ConnectionLost()))
        except Exception:
            self._log.failure("a protocol failed to hear that its connection is lost")
        if self._on_close is not None:
            self._on_close(self._address)

    # --- small parts ----------------------------------------------------------------------------------------

    def _watch_for(self, events: int, again: bool = False) -> None:
        """:param again: after EPOLLONESHOT the same events have to be asked for again."""
        if events != self._events or again:
            self._events = events
            self._poller.watch_for(self, events)

    def _set_timer(self, seconds: float | None, call: Any = None, *arguments: Any) -> None:
        """Put the one timer of this connection; None for none."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None if seconds is None else self._poller.clock.callLater(seconds, call, *arguments)


# No decorator: of a class that has one mypyc makes a slow one.
classImplements(TLSTransport, ISSLTransport, IConsumer, IPushProducer, IPeerTransport)
