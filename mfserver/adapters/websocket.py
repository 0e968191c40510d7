"""What every WebSocket of the server has: bounds, pings, and a close with a reason (RFC 6455)."""

from collections.abc import Callable
from typing import Any, Final

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure

from mfserver.address import network
from mfserver.budget import Budget

__all__ = [
    "BoundedWebSocket",
    "websocket_factory",
    "GOING_AWAY",
    "INTERNAL_ERROR",
    "NORMAL",
    "POLICY_VIOLATION",
    "UNSUPPORTED_DATA",
]

# Close codes (RFC 6455, 7.4.1).
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
UNSUPPORTED_DATA: Final = 1003
POLICY_VIOLATION: Final = 1008
INTERNAL_ERROR: Final = 1011
TRY_AGAIN_LATER: Final = 1013

#: Seconds between pings, and for the answer to one.
_PING_INTERVAL: Final = 30
_PING_TIMEOUT: Final = 30
#: Seconds for the opening and for the closing handshake.
_HANDSHAKE_TIMEOUT: Final = 10
#: A control frame has at most 125 bytes, two of them the close code (RFC 6455, 5.5).
_MAX_REASON: Final = 123
#: Pieces of a message that are kept as they came; each costs some forty bytes besides its own.
_MAX_PIECES: Final = 1024


class BoundedWebSocket(WebSocketServerProtocol):
    """A WebSocket that can say why it closes, and whose peer makes us keep no more than it may.

    :ivar paused: the peer does not read; to be kept by who is told so by the transport.
    """

    # autobahn would print a line, with what the peer sent in it, for each mistake of a peer.
    log = Logger(observer=LogPublisher())
    transport: Any
    paused = False
    _held = 0

    @property
    def can_send(self) -> bool:
        """Whether it is open, and neither side has begun to close it."""
        return bool(self.state == self.STATE_OPEN)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        waiting: IDelayedCall | None = self.closeHandshakeTimeoutCall
        if waiting is not None:  # autobahn would keep it, and us with it
            self.closeHandshakeTimeoutCall = None
            waiting.cancel()
        self._give_back()

    # --- autobahn's events: what a message that is not complete may cost ---

    def onPing(self, payload: bytes) -> None:
        # Pongs that nobody reads would pile up; a peer wants no more than the latest (RFC 6455, 5.5.3).
        if not self.paused:
            super().onPing(payload)

    def onMessageFrameData(self, payload: bytes) -> None:
        super().onMessageFrameData(payload)
        if self.failedByMe:
            return
        if not self.factory.budget.take(len(payload), self._address):
            self._give_back()
            self.message_data, self.frame_data = [], []
            self._fail_connection(TRY_AGAIN_LATER, "the server is holding too much")
            return
        self._held += len(payload)
        _join(self.frame_data)

    def onMessageFrame(self, payload: bytes) -> None:
        super().onMessageFrame(payload)
        _join(self.message_data)

    def onMessageEnd(self) -> None:
        self._give_back()
        super().onMessageEnd()

    @property
    def _address(self) -> str:
        return network(getattr(self.transport.getPeer(), "host", ""))

    def _give_back(self) -> None:
        if self._held:
            self.factory.budget.give(self._held, self._address)
            self._held = 0

    def close(self, code: int, reason: str = "") -> None:
        """Close an open WebSocket; one that is closing already goes on with that.

        autobahn's ``sendClose`` leaves the codes of a server to autobahn itself.

        :param reason: cut to what a close frame holds.
        """
        text = reason.encode()[:_MAX_REASON].decode("utf-8", "ignore").encode()
        self.sendCloseFrame(code=code, reasonUtf8=text)


class _Timer:
    """Measures autobahn's deadlines by our reactor; it would take the process's, whatever it is given."""

    def __init__(self, reactor: Any) -> None:
        self.call_later: Callable[..., IDelayedCall] = reactor.callLater


def _join(pieces: list[Any]) -> None:
    """Let many pieces become one, each byte copied a bounded number of times."""
    if len(pieces) > _MAX_PIECES:
        whole = pieces[0] if isinstance(pieces[0], bytearray) else bytearray(pieces[0])
        whole += b"".join(pieces[1:])
        pieces[:] = [whole]


def websocket_factory(
    max_message: int, reactor: Any, budget: Budget, protocols: tuple[str, ...] = ()
) -> WebSocketServerFactory:
    """The bounds of a kind of WebSocket.

    :param max_message: bytes of one message; a longer one closes with 1009.
    :param budget: bytes of messages that are not complete, of all clients; past it 1013 closes.
    :param protocols: the subprotocols that are spoken.
    """
    factory = WebSocketServerFactory(protocols=list(protocols), reactor=reactor)
    factory._batched_timer = _Timer(reactor)
    factory.budget = budget  # type: ignore[attr-defined]
    factory.setProtocolOptions(
        versions=[13],
        webStatus=False,
        utf8validateIncoming=True,
        maxFramePayloadSize=max_message,
        maxMessagePayloadSize=max_message,
        autoPingInterval=_PING_INTERVAL,
        autoPingTimeout=_PING_TIMEOUT,
        openHandshakeTimeout=_HANDSHAKE_TIMEOUT,
        closeHandshakeTimeout=_HANDSHAKE_TIMEOUT,
        failByDrop=False,
    )
    return factory
