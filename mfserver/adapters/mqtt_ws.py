"""MQTT over WebSocket (MQTT 5.0, 6): the same protocol, its bytes in binary frames on ``/mqtt``."""

from typing import Any, Final

from autobahn.websocket.types import ConnectionDeny, ConnectionRequest
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import Request
from zope.interface import implementer

from mfserver.adapters.claims import is_cross_site
from mfserver.adapters.mqtt import MQTTProtocol
from mfserver.adapters.mqtt_adapter import MQTTAdapter
from mfserver.adapters.upgrade import upgrade
from mfserver.adapters.websocket import NORMAL, UNSUPPORTED_DATA, BoundedWebSocket, websocket_factory
from mfserver.route import Route
from mfserver.tls.peer import Peer, peer_of

__all__ = ["MQTTOverWS"]

_SUBPROTOCOLS: Final = ("mqtt", "mqttv3.1")
#: Bytes of one message that we send. What a turn collected may be more than autobahn lets a message have.
_LONGEST: Final = 65_536


@implementer(ITransport)
class _Transport:
    """The WebSocket as the transport of an MQTT connection."""

    disconnecting = False

    def __init__(self, socket: "_Socket") -> None:
        self._socket = socket

    def write(self, data: bytes) -> None:
        if not self._socket.can_send:
            return
        for start in range(0, len(data), _LONGEST):
            part = data[start : start + _LONGEST]
            self._socket.sendMessage(part, isBinary=True)  # [MQTT-6.0.0-1]

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self._socket.close(NORMAL)

    def abortConnection(self) -> None:
        self._socket.transport.abortConnection()

    def getPeer(self) -> Any:
        return self._socket.transport.getPeer()

    def getHost(self) -> Any:
        return self._socket.transport.getHost()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._socket.transport.registerProducer(self._socket, streaming)  # who tells the producer

    def unregisterProducer(self) -> None:
        self._socket.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self._socket.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._socket.transport.resumeProducing()


class _Socket(BoundedWebSocket):
    """One WebSocket that carries MQTT."""

    def __init__(self, mqtt: MQTTProtocol) -> None:
        super().__init__()
        self._mqtt = mqtt
        self._is_open = False

    def onConnect(self, request: ConnectionRequest) -> str:
        for subprotocol in _SUBPROTOCOLS:
            if subprotocol in request.protocols:
                return subprotocol  # [MQTT-6.0.0-4]
        raise ConnectionDeny(ConnectionDeny.BAD_REQUEST, "offer the subprotocol mqtt")  # [MQTT-6.0.0-3]

    def onOpen(self) -> None:
        self._is_open = True
        self._mqtt.makeConnection(_Transport(self))

    # --- IPushProducer ---

    def pauseProducing(self) -> None:
        self.paused = True
        self._mqtt.pauseProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        self._mqtt.resumeProducing()

    def stopProducing(self) -> None:
        self._mqtt.stopProducing()

    # --- autobahn's events ---

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if not self.can_send:
            return
        if isBinary:
            self._mqtt.dataReceived(payload)  # [MQTT-6.0.0-2]
        else:
            self.close(UNSUPPORTED_DATA, "MQTT comes in binary frames")  # [MQTT-6.0.0-1]

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if self._is_open:
            self._is_open = False
            self._mqtt.connectionLost(Failure(connectionDone.value))


class MQTTOverWS:
    """Opens WebSockets that carry MQTT.

    :param adapter: what its connections share with those over TCP and TLS.
    """

    def __init__(self, adapter: MQTTAdapter, *, reactor: Any) -> None:
        self._adapter = adapter
        self._factory = websocket_factory(
            adapter.limits.max_packet + adapter.limits.max_connect, reactor, adapter.budget, _SUBPROTOCOLS
        )

    def routes(self) -> list[Route]:
        """``/mqtt``, as in Mainflux."""
        return [
            Route(
                method="GET",
                path="/mqtt",
                upgrade="websocket",
                serve=self.serve,
                summary="MQTT over WebSocket (subprotocol mqtt)",
                success=101,
                access="thing",
            )
        ]

    async def serve(self, request: Request, parameters: dict[str, str]) -> None:
        """Open the WebSocket. Who it is, its CONNECT says."""
        peer: Peer | None = peer_of(request.channel.transport)
        socket = _Socket(MQTTProtocol(self._adapter, peer, by_browser=is_cross_site(request)))
        socket.factory = self._factory
        upgrade(request, socket)
