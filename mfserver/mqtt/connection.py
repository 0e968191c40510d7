"""The server's end of one MQTT connection (MQTT 3.1, 3.1.1 and 5.0, chapters 3 and 4).

Give it what the transport received and the time, walk the events it returns, call ``send_*``, and write
what :meth:`Connection.data_to_send` hands out. It opens no socket, starts no timer and never raises for
anything that a client does. What outlives it is in :class:`~.session.Session`, of which it knows nothing.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

from mfserver.mqtt import constants, errors, events, properties
from mfserver.mqtt.constants import MQTT_3_1, MQTT_3_1_1, MQTT_5_0
from mfserver.mqtt.data import Reader
from mfserver.mqtt.decode import check_remaining_length, decode_body
from mfserver.mqtt.decode_common import take_common
from mfserver.mqtt.decode_connect import decode_connect, decode_protocol
from mfserver.mqtt.encode import EncodedPublish
from mfserver.mqtt.errors import MQTTError, ProtocolError, QuotaExceeded
from mfserver.mqtt.events import Event
from mfserver.mqtt.framing import NOTHING, find_packet
from mfserver.mqtt.limits import Limits
from mfserver.mqtt.packets import (
    Acknowledgement,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from mfserver.mqtt.receiving import Receiver
from mfserver.mqtt.sending import Sender

__all__ = ["Connection", "Limits"]

# The states of a connection:
#
#   AWAITING_CONNECT --CONNECT--> AWAITING_CONNACK --send_connack(0)--> CONNECTED --> CLOSED
#
# While the owner decides about a CONNECT nothing that follows it is looked at, only kept. What may come in
# each of the others, the tables at the end say.
_AWAITING_CONNECT: Final = 0
_AWAITING_CONNACK: Final = 1
_CONNECTED: Final = 2
_CLOSED: Final = 3

#: Bytes that may follow a CONNECT before its CONNACK, besides one whole packet.
_HELD_BYTES: Final = 65_536
#: Packets of the less common kinds that are looked at in one call: others of the server have their turn, too.
_PACKETS: Final = 256


class Connection:
    """One client. All times are seconds of one monotonic clock; all reason codes those of MQTT 5.0.

    When :attr:`closed`, write :meth:`data_to_send` once more and close the transport; whatever is
    received or sent afterwards is ignored.

    :ivar version: 3, 4 or 5; 0 until CONNECT told.
    :ivar client_id: the client identifier, from CONNECT or assigned.
    :ivar send_quota: PUBLISHes of QoS 1 and 2 that may be under way to the client, from CONNECT on
        [MQTT-3.3.4-9] [MQTT-4.9.0-1].
    :ivar will: the will message of an accepted CONNECT, until a DISCONNECT takes it back. Publish what
        is left here when the connection is over.
    :ivar dropped: messages that were not sent because they are longer than the client's Maximum Packet Size.
    """

    __slots__ = (
        "_asked",
        "_keep_alive",
        "_last_received",
        "_limits",
        "_receiver",
        "_rest",
        "_sender",
        "_session_expires_later",
        "_state",
        "client_id",
        "dropped",
        "send_quota",
        "version",
        "will",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self.version = 0  # first what each message passes: so it lies side by side in a compiled object
        self._state = _AWAITING_CONNECT
        self._last_received = now
        self._rest = NOTHING
        self._sender = Sender()
        self._receiver = Receiver(limits)
        self._limits = limits
        self._keep_alive = 0.0
        self.client_id = ""
        self.send_quota = 0
        self.will: Will | None = None
        self.dropped = 0
        self._asked: Connect | None = None
        self._session_expires_later = False

    # --- what the owner calls when something happened ----------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self._state == _CLOSED

    @property
    def is_behind(self) -> bool:
        """Whether there was too much to look at in one call of :meth:`receive_data`."""
        return self._rest.is_left

    @property
    def held(self) -> int:
        """Bytes that are kept for this client alone: of packets that are not complete or not yet to be
        looked at, and of topics that have a topic alias, in both directions.
        """
        return len(self._rest) + self._receiver.alias_bytes + self._sender.alias_bytes

    @property
    def is_writable(self) -> bool:
        """Whether a message may be sent now: the client is there, the transport takes what it gets, and less
        than ``max_queued_bytes`` of messages wait for :meth:`data_to_send`. Look again after that.
        """
        sender = self._sender
        return (
            self._state == _CONNECTED
            and not sender.paused
            and sender.message_bytes < self._limits.max_queued_bytes
        )

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take in what the transport received, however it is split.

        After ``send_connack(0)``, and while :attr:`is_behind`, call it with ``b""`` for what came before. A
        call, also with ``b""``, starts the keep alive anew: make one when reading goes on after a pause.
        """
        if self._state == _CLOSED:
            return []  # [MQTT-3.1.4-6], of 3.1.1 [MQTT-3.1.4-5]
        if self._state != _AWAITING_CONNECT:
            self._last_received = now
        happened: list[Event] = []
        try:
            if self._state == _AWAITING_CONNACK:
                self._rest = self._rest.hold(data, self._limits.max_packet + _HELD_BYTES)
                return happened
            data, pos = self._rest.with_data(data)
            if self._state == _CONNECTED:
                pos = take_common(data, pos, self.version, self._receiver, happened)
            if pos < len(data):
                self._receive(data, pos, happened)
        except MQTTError as error:
            happened.append(self._fail(error))
        return happened

    def receive_eof(self) -> list[Event]:
        """The transport is lost. :return: a ConnectionFailed, unless the connection was closed already."""
        if self._state == _CLOSED:
            return []
        self._close()
        self._sender.take_data()
        return [events.ConnectionFailed(errors.ConnectionLost("the connection was lost"))]

    def next_deadline(self) -> float | None:
        """When to call :meth:`check_deadline`; None for never. Ask again after every call."""
        if self._state == _AWAITING_CONNECT:
            return self._last_received + self._limits.connect_timeout
        if self._state == _CONNECTED and self._keep_alive:
            return self._last_received + self._keep_alive
        return None

    def check_deadline(self, now: float) -> list[Event]:
        """End the connection if its deadline has passed."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return []
        if self._state == _AWAITING_CONNECT:
            return [self._fail(errors.ConnectTimeout("no CONNECT in time"))]
        # [MQTT-3.1.2-20] [MQTT-3.1.2-22], of 3.1.1 [MQTT-3.1.2-23] [MQTT-3.1.2-24]
        return [self._fail(errors.KeepAliveTimeout("nothing came within the keep alive"))]

    def data_to_send(self) -> bytes:
        """Everything that is to be written now; nothing while paused, unless :attr:`closed`."""
        if self._sender.paused and self._state != _CLOSED:
            return b""
        return self._sender.take_data()

    def pause(self) -> None:
        """The transport takes no more: what is to be sent waits."""
        self._sender.paused = True

    def resume(self) -> None:
        """The transport takes more again: call :meth:`data_to_send`."""
        self._sender.paused = False

    # --- what the owner answers --------------------------------------------------------------------------

    def send_connack(
        self,
        reason_code: int = 0,
        *,
        session_present: bool = False,
        assigned_client_id: str | None = None,
        reason_string: str | None = None,
        server_reference: str | None = None,
        session_expiry: int | None = None,
    ) -> None:
        """Answer the CONNECT. Everything but 0 closes the connection.

        A 3.x client is told the return code that fits; where none does it is closed without one
        (of 3.1.1 [MQTT-3.2.2-6]). Of all else it is told whether there was a session, 3.1 not even that.

        :param assigned_client_id: needed where CONNECT has an empty client identifier.
        :param server_reference: said with the reason codes 0x9C and 0x9D.
        :param session_expiry: seconds, where they are others than CONNECT asks for.
        """
        connect = self._asked
        if connect is None:
            return  # [MQTT-3.2.0-2]
        self._asked = None  # it holds the password
        if reason_code:
            # [MQTT-3.2.2-7] [MQTT-3.1.4-2], of 3.1.1 [MQTT-3.2.2-5]
            self._sender.refuse(reason_code, reason_string, server_reference)
            self._close()
            return
        # [MQTT-3.1.3-6] [MQTT-3.1.3-7], of 3.1.1 [MQTT-3.1.3-6]
        self.client_id = assigned_client_id or self.client_id
        assert self.client_id, "an empty client identifier needs an assigned one"
        said = None  # 3.x has no properties
        keep_alive = connect.keep_alive  # [MQTT-3.2.2-22]
        if self.version == MQTT_5_0:
            said = self._limits.announce(keep_alive)
            keep_alive = cast(int, said.get(properties.SERVER_KEEP_ALIVE, keep_alive))
            if assigned_client_id is not None:
                said[properties.ASSIGNED_CLIENT_IDENTIFIER] = assigned_client_id  # [MQTT-3.2.2-16]
            if session_expiry is not None:
                said[properties.SESSION_EXPIRY_INTERVAL] = session_expiry
        # [MQTT-3.1.4-5] [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-4.12.0-6], of 3.1.1 [MQTT-3.1.4-4]
        # [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
        connack = Connack(0, session_present and self.version != MQTT_3_1, said)
        if self._sender.explain(connack, reason_string):
            self._close()  # the client's Maximum Packet Size does not even allow this
            return
        self._keep_alive = keep_alive * 1.5  # [MQTT-3.1.2-21] [MQTT-3.2.2-21]
        self.will = connect.will  # [MQTT-3.1.2-7], of 3.1.1 [MQTT-3.1.2-8] [MQTT-3.1.2-12]
        self._state = _CONNECTED

    def send_publish(self, publish: EncodedPublish, packet_id: int = 0, dup: bool = False) -> bool:
        """Send a message. It is for the caller to do so only while :attr:`is_writable`.

        :param publish: encoded for this connection's version.
        :param packet_id: 1 to 65,535 at QoS 1 and 2.
        :param dup: whether it was sent before [MQTT-3.3.1-1]; at QoS 0 of no matter [MQTT-3.3.1-2].
        :return: False where it is longer than the client takes, which is as good as delivered
            [MQTT-3.1.2-25], or where there is no client.
        """
        if self._state != _CONNECTED:
            return False  # [MQTT-3.2.0-1], of 3.1.1 [MQTT-3.2.0-1]
        assert (packet_id > 0) == (publish.qos > 0), "a packet identifier at QoS 1 and 2, none at QoS 0"
        if self._sender.publish(publish, packet_id, dup):
            return True
        self.dropped += 1
        return False

    def send_puback(self, packet_id: int, reason_code: int = 0, reason_string: str | None = None) -> None:
        """Acknowledge a QoS 1 PUBLISH [MQTT-4.3.2-4]. In 3.x a refusal looks like an acceptance."""
        self._receiver.qos_1_over()  # [MQTT-4.3.2-5]
        is_common = reason_code == 0 and reason_string is None and self._state == _CONNECTED
        if is_common and self._sender.puback(packet_id):
            return
        self._acknowledge(Puback(packet_id, reason_code), reason_string)

    def send_pubrec(self, packet_id: int, reason_code: int = 0, reason_string: str | None = None) -> None:
        """Acknowledge a QoS 2 PUBLISH [MQTT-4.3.3-8]. In 3.x a refusal looks like an acceptance."""
        if reason_code >= constants.UNSPECIFIED_ERROR:
            self._receiver.qos_2_over(packet_id)  # [MQTT-4.3.3-9]
        self._acknowledge(Pubrec(packet_id, reason_code), reason_string)

    def send_pubrel(self, packet_id: int, reason_code: int = 0) -> None:
        """Release a QoS 2 PUBLISH of ours that the client has [MQTT-4.3.3-4]."""
        self._acknowledge(Pubrel(packet_id, reason_code))

    def send_pubcomp(self, packet_id: int, reason_code: int = 0) -> None:
        """Tell the client that its QoS 2 PUBLISH is released [MQTT-4.3.3-11] [MQTT-4.3.3-12]."""
        self._receiver.qos_2_over(packet_id)
        self._acknowledge(Pubcomp(packet_id, reason_code))

    def send_suback(self, packet_id: int, reason_codes: Sequence[int]) -> None:
        """Answer a SUBSCRIBE with a reason code for each subscription, in their order [MQTT-3.9.3-1].

        3.1.1 knows one failure, 0x80. MQTT 3.1 knows none: its server "must make a positive
        acknowledgement, and the client will not be informed", so there a failure becomes QoS 0.
        """
        codes = list(reason_codes)
        if self.version == MQTT_3_1_1:
            codes = [min(code, 0x80) for code in codes]  # of 3.1.1 [MQTT-3.9.3-2]
        elif self.version == MQTT_3_1:
            codes = [code if code < 0x80 else 0 for code in codes]
        # [MQTT-2.2.1-6] [MQTT-3.8.4-2] [MQTT-3.9.2-1] [MQTT-3.9.2-2], of 3.1.1 [MQTT-2.3.1-7] [MQTT-3.8.4-2]
        self._send(Suback(packet_id, codes))

    def send_unsuback(self, packet_id: int, reason_codes: Sequence[int]) -> None:
        """Answer an UNSUBSCRIBE with a reason code for each topic filter, in their order [MQTT-3.11.3-1]."""
        # [MQTT-3.10.4-5] [MQTT-3.11.2-1] [MQTT-3.11.2-2]
        self._send(Unsuback(packet_id, list(reason_codes)))

    def disconnect(
        self, reason_code: int, reason_string: str | None = None, server_reference: str | None = None
    ) -> None:
        """End the connection; 5.0 is told why. The will stays.

        Before CONNACK the reason goes into that, where it can, and else is not told [MQTT-3.14.0-1].

        :param server_reference: said with the reason codes 0x9C and 0x9D.
        """
        if self._state == _CONNECTED:
            # [MQTT-4.13.2-1] [MQTT-3.14.4-1] [MQTT-3.14.4-2]
            self._sender.disconnect(reason_code, reason_string, server_reference)
        elif self._state != _CLOSED and self.version:
            self._sender.refuse(reason_code, reason_string, server_reference)
        self._close()

    # --- decoding ----------------------------------------------------------------------------------------

    def _receive(self, data: bytes, pos: int, happened: list[Event]) -> None:
        """Decode the whole packets from there on, so many as are looked at in one call, and keep the rest."""
        limits = self._limits
        end = len(data)
        for _ in range(_PACKETS):
            if pos >= end:
                return
            connected = self._state == _CONNECTED
            if not connected and data[pos] >> 4 != constants.CONNECT:
                raise ProtocolError("the first packet is not CONNECT")  # [MQTT-3.1.0-1]
            maximum = limits.max_packet if connected else limits.max_connect
            start, stop = find_packet(data, pos, self.version, _ALLOWED[self._state], maximum)
            if stop > end:
                self._rest = self._rest.keep(data[pos:], stop - pos)
                return
            event: Event | None
            if connected:
                packet = decode_body(data[pos], data, start, stop, self.version)
                event = _RECEIVED[data[pos] >> 4](self, packet)
            else:
                event = _connect_received(self, data, pos, start, stop)
            pos = stop
            if event is not None:
                happened.append(event)
            if self._state != _CONNECTED:
                break
            pos = take_common(data, pos, self.version, self._receiver, happened)
        if self._state == _AWAITING_CONNACK:
            self._rest = self._rest.hold(data[pos:], limits.max_packet + _HELD_BYTES)
        elif self._state == _CONNECTED and pos < end:
            self._rest = self._rest.leave(data, pos)

    # --- answers and endings -----------------------------------------------------------------------------

    def _acknowledge(self, packet: Acknowledgement, reason_string: str | None = None) -> None:
        """Queue one of the four that repeat a packet identifier [MQTT-2.2.1-5], of 3.1.1 [MQTT-2.3.1-6]."""
        if self._state == _CONNECTED:
            refusal = self._sender.explain(packet, reason_string)
            if refusal:
                self.disconnect(refusal)

    def _send(self, packet: Packet) -> None:
        """Queue an answer, if there is somebody to send it to."""
        if self._state == _CONNECTED:
            refusal = self._sender.answer(packet)
            if refusal:
                self.disconnect(refusal)

    def _fail(self, error: MQTTError) -> Event:
        """End the connection over what the client did.

        [MQTT-3.1.4-1] [MQTT-4.13.1-1] [MQTT-3.1.3-8], of 3.1.1 [MQTT-4.8.0-1] [MQTT-3.1.4-1]
        """
        self.disconnect(error.reason_code, str(error))
        return events.ConnectionFailed(error)

    def _close(self) -> None:
        """Forget everything but what is still to be written, and the will."""
        self._state = _CLOSED
        self._rest.clear()
        self._sender.clear()
        self._receiver.clear()
        self._asked = None


# --- what each packet means ------------------------------------------------------------------------------


def _connect_received(connection: Connection, data: bytes, pos: int, start: int, stop: int) -> Event:
    """CONNECT: find out the version first, because a refusal has to be in its form."""
    reader = Reader(data, start, stop)
    try:
        connection.version = connection._sender.version = decode_protocol(reader)
    except errors.UnsupportedProtocolVersion as error:
        connection.version = connection._sender.version = error.answer
        raise
    check_remaining_length(data, pos, start, connection.version)
    connect = decode_connect(reader, connection.version)
    connection._asked = connect
    connection.client_id = connect.client_id
    asked = connect.properties or {}
    connection._sender.heed(asked)
    connection.send_quota = min(
        connection._limits.send_quota, cast(int, asked.get(properties.RECEIVE_MAXIMUM, 65_535))
    )
    connection._session_expires_later = bool(asked.get(properties.SESSION_EXPIRY_INTERVAL))
    connection._limits.check_connect(connect)
    # 3.1 demands an identifier; 3.1.1 one for a session that is kept.
    # of 3.1.1 [MQTT-3.1.3-7] [MQTT-3.1.3-8] [MQTT-3.1.3-9]
    if not connect.client_id and (
        connection.version == MQTT_3_1 or (connection.version == MQTT_3_1_1 and not connect.clean_start)
    ):
        raise errors.ClientIdentifierNotValid("the client identifier is empty")
    connection._state = _AWAITING_CONNACK
    return events.ConnectReceived(connect)


def _publish_received(connection: Connection, packet: Packet) -> Event:
    publish = cast(Publish, packet)
    connection._receiver.publish(publish, connection.version)
    return events.PublishReceived(publish)


def _puback_received(_connection: Connection, packet: Packet) -> Event:
    puback = cast(Puback, packet)
    return events.PublishAcknowledged(puback.packet_id, puback.reason_code)


def _pubrec_received(_connection: Connection, packet: Packet) -> Event:
    pubrec = cast(Pubrec, packet)
    return events.PublishStored(pubrec.packet_id, pubrec.reason_code)


def _pubrel_received(_connection: Connection, packet: Packet) -> Event:
    return events.PublishReleased(cast(Pubrel, packet).packet_id)


def _pubcomp_received(_connection: Connection, packet: Packet) -> Event:
    pubcomp = cast(Pubcomp, packet)
    return events.PublishCompleted(pubcomp.packet_id, pubcomp.reason_code)


def _subscribe_received(_connection: Connection, packet: Packet) -> Event:
    return events.SubscribeReceived(cast(Subscribe, packet))


def _unsubscribe_received(_connection: Connection, packet: Packet) -> Event:
    return events.UnsubscribeReceived(cast(Unsubscribe, packet))


def _pingreq_received(connection: Connection, _packet: Packet) -> None:
    if connection._sender.answer(Pingresp()):  # [MQTT-3.12.4-1]
        raise QuotaExceeded("too much waits for this client")


def _disconnect_received(connection: Connection, packet: Packet) -> Event:
    disconnect = cast(Disconnect, packet)
    event = events.DisconnectReceived(disconnect.reason_code, disconnect.properties)
    if event.session_expiry and not connection._session_expires_later:
        raise ProtocolError("a session expiry interval where CONNECT had none")  # 3.14.2.2.2
    if not disconnect.reason_code:
        # [MQTT-3.14.4-3] [MQTT-3.1.2-10], of 3.1.1 [MQTT-3.14.4-3] [MQTT-3.1.2-10]
        connection.will = None
    connection._close()  # of 3.1.1 [MQTT-3.14.4-1] [MQTT-3.14.4-2]
    return event


_Received: TypeAlias = Callable[[Connection, Packet], Event | None]

#: Each control packet that an accepted client may send, and what takes it in.
_RECEIVED: Final[dict[int, _Received]] = {
    constants.PUBLISH: _publish_received,
    constants.PUBACK: _puback_received,
    constants.PUBREC: _pubrec_received,
    constants.PUBREL: _pubrel_received,
    constants.PUBCOMP: _pubcomp_received,
    constants.SUBSCRIBE: _subscribe_received,
    constants.UNSUBSCRIBE: _unsubscribe_received,
    constants.PINGREQ: _pingreq_received,
    constants.DISCONNECT: _disconnect_received,
}

#: The control packet types that may come in each state in which one is looked at.
_ALLOWED: Final[dict[int, frozenset[int]]] = {
    _AWAITING_CONNECT: frozenset((constants.CONNECT,)),
    _CONNECTED: frozenset(_RECEIVED),
}
