"""MQTT: carries one network connection's bytes to the sans-I/O core, and walks the events it gives back."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final
from uuid import uuid4

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, ILoggingContext, IProtocol, IPushProducer
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import classImplements

from mfserver.adapters.mqtt_adapter import MQTTAdapter
from mfserver.adapters.mqtt_client import CLIENT_EVENTS, MQTTClient
from mfserver.adapters.mqtt_connect import REASON_CODES, claims_of, session_expiry, will_of
from mfserver.adapters.mqtt_unread import NOTHING, SLICE
from mfserver.address import network
from mfserver.errors import MFServerError, Overloaded
from mfserver.interfaces import ICounted, ILiveConnection, IPeer
from mfserver.mqtt import constants as mqtt
from mfserver.mqtt.connection import Connection
from mfserver.mqtt.events import (
    ConnectionFailed,
    ConnectReceived,
    DisconnectReceived,
    PublishAcknowledged,
    PublishReceived,
)
from mfserver.mqtt.packets import Connect
from mfserver.mqtt.properties import SESSION_EXPIRY_INTERVAL
from mfserver.records import ChannelId
from mfserver.tls.peer import peer_of

__all__ = ["MQTTFactory", "MQTTProtocol"]

#: Seconds that a client which does not read has for the last bytes.
_CLOSE_SECONDS: Final = 5.0
#: Slices of what came from one client that are looked at in one turn of the reactor, as much as TCP reads,
#: and seconds after which no more of them are.
_SLICES: Final = 4
_TURN: Final = 0.002
#: Why the core closed itself when it did not over what came: an answer is one too many, or too long.
_NOT_TAKEN: Final = "it does not take its answers"


class MQTTFactory(ServerFactory):
    """Builds a protocol for each accepted connection, of TCP or of TLS.

    [MQTT-4.2.0-1], of 3.1.1 [MQTT-7.1.1-1]
    """

    noisy = False

    def __init__(self, adapter: MQTTAdapter) -> None:
        self._adapter = adapter

    def buildProtocol(self, addr: Any) -> Any:
        return MQTTProtocol(self._adapter)

    def logPrefix(self) -> str:
        return "mqtt"


class MQTTProtocol:
    """One client's network connection.

    :param peer: the client certificate, where the transport below is not the one that carries TLS.
    :param by_browser: a page in a browser may have opened it.
    """

    _log: ClassVar[Logger] = Logger()
    transport: Any
    _connection: Connection

    def __init__(self, adapter: MQTTAdapter, peer: IPeer | None = None, *, by_browser: bool = False) -> None:
        # First what each message passes: so it lies side by side in a compiled object.
        self._adapter = adapter
        self._client: MQTTClient | None = None
        self._unread = NOTHING
        self._held = 0
        self._over = False
        self._is_lost = False
        self._is_failing = False
        self._reading = True
        self._is_full = False
        self._is_feeding = False
        self._by_browser = by_browser
        self._address = ""
        self._peer = peer
        self._expiry: int | None = None
        self._logout: Callable[[], None] | None = None
        self._deadline: IDelayedCall | None = None
        self.released: Callable[[], None] | None = None

    # --- Twisted's events ---

    def logPrefix(self) -> str:
        return "MQTTProtocol"

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        self._connection = Connection(self._adapter.limits, self._adapter.seconds())
        self._peer = self._peer or peer_of(self.transport)
        self._adapter.connections.add(self)
        self._address = network(getattr(self.transport.getPeer(), "host", ""))
        self.transport.registerProducer(self, True)
        self._watch_deadline()

    def dataReceived(self, data: bytes) -> None:
        if self._over:
            return
        unread = self._unread
        if unread.slices:
            self._unread = unread.add(data)
            self._account()
            self._read_less()
            if self._reading and not self._is_feeding:
                self._adapter.turn.add(self)  # which goes on with them
            return
        if self._is_feeding or not self._reading or len(data) > SLICE:
            self._unread = unread.add(data)
            self._read_on()
            return
        self._feed(data)
        if self._unread.slices or self._is_lost:
            self._read_on()
        elif not self._over:
            self._account()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """What came before is heard first, but for what comes from a client that we do not read on."""
        released, self.released = self.released, None
        if released is not None:
            released()
        self._is_lost = True
        if self._over or not (self._unread.slices and self._reading):
            self._end()

    def _end(self) -> None:
        """Nothing of it is left."""
        self._over = True
        self._set_deadline(None)
        adapter = self._adapter
        self._unread.clear()
        self._connection.receive_eof()
        adapter.budget.give(self._held, self._address)
        self._held = 0
        adapter.connections.discard(self)
        adapter.dropped += self._connection.dropped
        try:
            self._leave()
        finally:
            if self._logout is not None:
                self._logout()
                self._logout = None

    def _leave(self) -> None:
        """The connection is over: its session goes on without it, or ends."""
        client, self._client = self._client, None
        if client is not None:
            client.lost()
            self._adapter.sessions.close(
                client.session, client, self._expiry, will=self._connection.will is not None
            )

    def _account(self) -> None:
        """Count what is held for this client alone, and not as a message; of all clients that is bounded."""
        held = self._connection.held + self._unread.size
        client = self._client
        if client is not None:
            held += client.topics.size
        if held == self._held:
            return
        budget = self._adapter.budget
        budget.give(self._held, self._address)
        self._held = held
        if not budget.take(self._held, self._address):
            self._held = 0
            self._unread.clear()
            self._adapter.report("an MQTT connection failed", f"{self._address}: too much is held for all")
            self.close(mqtt.SERVER_BUSY, "the server is holding too much")

    def flush(self) -> None:
        """Write what the core has collected, and close after it where the core is done."""
        if self._over:
            return
        self._write()
        if self._connection.closed:
            self._close_transport()
        elif self._is_feeding:
            return  # we are below what looks at the rest
        elif self._unread.slices or self._is_lost:
            self._read_on()
        else:
            self._account()  # sending makes the core hold topics, too

    def _write(self) -> None:
        """Write what the core has collected, and let the session go on where that makes room for more."""
        connection = self._connection
        was_full = not connection.is_writable
        data = connection.data_to_send()
        if data:
            self.transport.write(data)
            client = self._client
            if was_full and client is not None:
                client.session.pump()

    def _close_transport(self) -> None:
        """The core is done, and what it had to say is written."""
        self._over = True
        if self._is_lost:
            self._end()
            return
        self._unread.clear()
        self._account()
        self._set_deadline(_CLOSE_SECONDS, self.transport.abortConnection)
        self.transport.unregisterProducer()
        # Unread bytes would make the system reset the connection, and our last words could be lost.
        self.transport.resumeProducing()
        self.transport.loseConnection()
        self._leave()

    # --- IPushProducer: the transport tells whether the client reads ---

    def pauseProducing(self) -> None:
        self._connection.pause()

    def resumeProducing(self) -> None:
        self._connection.resume()
        if self._client is not None:
            self._client.session.pump()
        self._adapter.turn.add(self)

    def stopProducing(self) -> None:
        pass

    # --- ILiveConnection and Link ---

    def end(self, reason: str) -> None:
        self.close(mqtt.NOT_AUTHORIZED, reason)

    def channel_lost(self, channel: ChannelId) -> None:
        """Drop what waits on it. Nothing to close: the channel is one of many, and silent already."""
        if self._client is not None:
            self._client.channel_lost(channel)

    def close(self, reason_code: int, reason: str) -> None:
        """Say why in MQTT 5.0's DISCONNECT, or in a CONNACK before the client was accepted, and close."""
        if not self._over:
            moves = reason_code == mqtt.USE_ANOTHER_SERVER
            self._connection.disconnect(
                reason_code, reason, self._adapter.server_reference if moves else None
            )
            self.flush()

    def fail(self, reason_code: int, reason: str) -> None:
        if self._over or self._is_failing:
            return
        self._is_failing = True
        self._adapter.report("an MQTT client is closed", f"{self._address}: {reason}")
        self._connection.disconnect(reason_code, reason)
        self._adapter.turn.add(self)

    def write_soon(self) -> None:
        if self._connection.closed and not self._is_feeding:
            self.fail(mqtt.QUOTA_EXCEEDED, _NOT_TAKEN)
        self._adapter.turn.add(self)

    def read(self, go_on: bool) -> None:
        if self._over:
            return
        self._reading = go_on
        if go_on:
            # The keep alive counts from here: what the client sent meanwhile, we did not look at.
            if not self._is_full:
                self.transport.resumeProducing()
            self._unread = self._unread.look_again()
            self._read_on()
        else:
            self.transport.pauseProducing()

    # --- the core's events ---

    def _read_on(self) -> None:
        """Let the core have what came, as long as we read: a few slices now, others have their turn too."""
        if self._is_feeding:
            return  # we are below what goes on with it
        seconds = self._adapter.seconds
        until = seconds() + _TURN
        for _ in range(_SLICES):
            if self._over or not (self._unread.slices and self._reading):
                break
            self._feed(self._unread.take())
            if seconds() >= until:
                break
        if self._over:
            return
        self._account()
        self._read_less()
        if self._unread.slices and self._reading:
            self._adapter.turn.add(self)
        elif self._is_lost:
            self._end()  # what is left of one that we do not read on is lost with it

    def _read_less(self) -> None:
        """Read the client no further while much of what it sent waits for its turn."""
        is_full = self._unread.is_full(self._is_full)
        if is_full != self._is_full and self._reading and not self._over:
            self._is_full = is_full
            self.transport.pauseProducing() if is_full else self.transport.resumeProducing()

    def _feed(self, data: bytes) -> None:
        """Let the core have these bytes, do what it says, and write what it answers."""
        self._is_feeding = True
        try:
            connection, kind, now = self._connection, None, 0
            happened: list[Any] = connection.receive_data(data, self._adapter.seconds())
            for event in happened:
                if self._over or self._is_failing:
                    break
                client, kind = self._client, type(event)
                if client is None:
                    _EVENTS[kind](self, event)
                elif kind is PublishReceived:
                    now = now or self._adapter.now()
                    client.publish_received(event, now)
                elif kind is PublishAcknowledged:
                    client.session.puback(event.packet_id)
                elif kind in _EVENTS:
                    _EVENTS[kind](self, event)
                else:
                    CLIENT_EVENTS[kind](client, event)
            if connection.closed:
                if kind is not None and kind not in _EVENTS:
                    self.fail(mqtt.QUOTA_EXCEEDED, _NOT_TAKEN)
                self.flush()
            else:
                self._write()
                if connection.is_behind:
                    self._unread = self._unread.look_again()
        except Exception:  # a mistake of ours: as after any other, whoever calls us logs it
            self._unread.clear()
            self.transport.abortConnection()
            raise
        finally:
            self._is_feeding = False
            if self._is_lost and not self._unread.slices:
                self._end()

    def _connection_failed(self, event: ConnectionFailed) -> None:
        self._adapter.report("an MQTT connection failed", f"{self._address}: {event.text}")

    def _disconnect_received(self, event: DisconnectReceived) -> None:
        if event.session_expiry is not None:
            self._expiry = min(event.session_expiry, self._adapter.longest_expiry)

    def _connect_received(self, event: ConnectReceived) -> None:
        """Find out who it is. The core holds what follows the CONNECT until then, and we stop reading."""
        adapter = self._adapter
        if adapter.is_ending:
            self.close(mqtt.SERVER_UNAVAILABLE, "the server is shutting down")
        elif adapter.is_over_limit(self._address):
            knows_another = adapter.server_reference and self._connection.version >= mqtt.MQTT_5_0
            code = mqtt.USE_ANOTHER_SERVER if knows_another else mqtt.QUOTA_EXCEEDED
            self.close(code, "too many connections")
        else:
            self.read(False)
            accepted = Deferred.fromCoroutine(self._accept(event.packet))
            accepted.addErrback(self._refused)
            accepted.addErrback(partial(self._log.failure, "an MQTT connection could not be accepted"))

    async def _accept(self, packet: Connect) -> None:
        """Let the client in, and give it its session, before CONNACK says so."""
        adapter, connection = self._adapter, self._connection
        thing, logout = await adapter.authenticator.authenticate(
            claims_of(packet, self._address, by_browser=self._by_browser), self._peer, self
        )
        if self._over:
            logout()
            return
        self._logout = logout
        will = will_of(packet, thing, adapter.now())
        assigned = None if packet.client_id else f"mf-{uuid4()}"  # [MQTT-3.1.3-6]
        expiry = session_expiry(packet, adapter.longest_expiry)
        if expiry and adapter.sessions.journal.stalled:
            raise Overloaded("nothing can be stored now")
        client = MQTTClient(
            thing, connection, self, adapter.sessions, adapter.limits, adapter.turn, adapter.now
        )
        client.session, is_present = await adapter.sessions.open(
            thing, assigned or packet.client_id, packet.clean_start, expiry, client, will
        )
        if connection.closed:
            # A session that nobody was told of is not kept.
            adapter.sessions.close(client.session, client, None if is_present else 0, will=False)
            return
        client.is_resumed = is_present
        self._client = client
        asked = packet.properties or {}
        connection.send_connack(
            session_present=is_present,
            assigned_client_id=assigned,
            session_expiry=None if expiry == asked.get(SESSION_EXPIRY_INTERVAL, 0) else expiry,
        )
        if not connection.closed:
            client.session.attach(client, connection.send_quota)
        self.read(True)  # first what came behind the CONNECT
        self._watch_deadline()  # it is the keep alive's now

    def _refused(self, failure: Failure) -> None:
        logout, self._logout = self._logout, None
        if logout is not None:
            logout()
        if self._over:
            return
        failure.trap(Exception)
        error = failure.value
        if isinstance(error, MFServerError):
            code = REASON_CODES.get(type(error), mqtt.UNSPECIFIED_ERROR)
            self._connection.send_connack(code, reason_string=str(error))
            self._adapter.report("an MQTT CONNECT was refused", f"{self._address}: {error}")
        else:
            self._log.failure("a CONNECT could not be answered", failure)
            self._connection.disconnect(mqtt.UNSPECIFIED_ERROR)
        self.flush()

    # --- deadlines ---

    def _watch_deadline(self) -> None:
        """Wake when the core's next deadline may have passed. A packet moves it without a timer's work."""
        if self._over:
            return
        if not self._reading:  # the client may have sent what we did not look at
            self._set_deadline(1.0, self._watch_deadline)
            return
        now = self._adapter.seconds()
        for event in self._connection.check_deadline(now):
            _EVENTS[type(event)](self, event)
        self.flush()
        deadline = self._connection.next_deadline()
        if not self._over and deadline is not None:
            self._set_deadline(max(deadline - now, 0.1), self._watch_deadline)

    def _set_deadline(self, seconds: float | None, call: Callable[[], None] | None = None) -> None:
        """Put the one timer of this connection; None for none."""
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
        if seconds is not None:
            self._deadline = self._adapter.clock.callLater(seconds, call)


# No decorators, and not a subclass of Twisted's Protocol: of such a class mypyc makes a slow one.
classImplements(MQTTProtocol, IProtocol, ILoggingContext, IPushProducer, ILiveConnection, ICounted)

#: What a connection does besides what its client does.
_EVENTS: Final[dict[type, Callable[[MQTTProtocol, Any], None]]] = {
    ConnectReceived: MQTTProtocol._connect_received,
    DisconnectReceived: MQTTProtocol._disconnect_received,
    ConnectionFailed: MQTTProtocol._connection_failed,
}
