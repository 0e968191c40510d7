"""The server's end of one MQTT connection (MQTT 3.1, 3.1.1 and 5.0, chapters 3 and 4).

Give it what the transport received and the time, walk the events it returns, call ``send_*``, and write
what :meth:`Connection.data_to_send` hands out. It opens no socket, starts no timer and never raises for
anything that a client does.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

from mfserver.mqtt import constants, errors, events, properties
from mfserver.mqtt.constants import MQTT_3_1, MQTT_3_1_1, MQTT_5_0, PACKET_NAMES, REASON_CODES, RETURN_CODES
from mfserver.mqtt.data import Reader
from mfserver.mqtt.decode import (
    INCOMPLETE,
    check_first_byte,
    check_remaining_length,
    decode_body,
    decode_remaining_length,
)
from mfserver.mqtt.decode_connect import decode_connect, decode_protocol
from mfserver.mqtt.encode import EncodedPublish
from mfserver.mqtt.errors import MQTTError, ProtocolError, QuotaExceeded
from mfserver.mqtt.events import Event
from mfserver.mqtt.limits import Limits
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from mfserver.mqtt.receiving import Receiver
from mfserver.mqtt.sending import Sender
from mfserver.mqtt.session import Session

__all__ = ["Connection", "Limits"]

# The states of a connection, and what may come in each:
#
#   AWAITING_CONNECT --CONNECT--> AWAITING_CONNACK --send_connack(0)--> CONNECTED --> CLOSED
#
# While the owner decides about a CONNECT nothing that follows it is looked at, only kept.
_AWAITING_CONNECT: Final = 0
_AWAITING_CONNACK: Final = 1
_CONNECTED: Final = 2
_CLOSED: Final = 3

#: Bytes that may follow a CONNECT before its CONNACK, besides one whole packet.
_HELD_BYTES: Final = 65_536


class Connection:
    """One client. All times are seconds of one monotonic clock; all reason codes those of MQTT 5.0.

    When :attr:`closed`, write :meth:`data_to_send` once more and close the transport; whatever is
    received or sent afterwards is ignored.

    :ivar version: 3, 4 or 5; 0 until CONNECT told.
    :ivar client_id: the client identifier, from CONNECT or assigned.
    :ivar will: the will message of an accepted CONNECT, until a DISCONNECT takes it back. Publish what
        is left here when the connection is over.
    :ivar dropped: messages that were not sent: QoS 0 past ``max_queued_bytes``, or longer than the
        client's Maximum Packet Size.
    """

    __slots__ = (
        "_asked",
        "_buffer",
        "_explains",
        "_keep_alive",
        "_last_received",
        "_limits",
        "_needed",
        "_receiver",
        "_sender",
        "_session_expires_later",
        "_state",
        "client_id",
        "dropped",
        "version",
        "will",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self.version = 0
        self.client_id = ""
        self.will: Will | None = None
        self.dropped = 0
        self._limits = limits
        self._state = _AWAITING_CONNECT
        self._asked: Connect | None = None
        self._explains = True
        self._session_expires_later = False
        self._keep_alive = 0.0
        self._last_received = now
        self._buffer = bytearray()
        self._needed = 0
        self._sender = Sender(limits.max_queued_bytes)
        self._receiver = Receiver(limits)

    # --- what the owner calls when something happened ----------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self._state == _CLOSED

    @property
    def held(self) -> int:
        """Bytes that are kept because what they belong to is not complete or not yet to be looked at."""
        return len(self._buffer)

    @property
    def unacknowledged(self) -> int:
        """QoS 1 PUBLISHes of the client that wait for :meth:`send_puback`."""
        return self._receiver.unacknowledged

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take in what the transport received, however it is split.

        After ``send_connack(0)`` call it with ``b""`` for what came meanwhile. A call, also with
        ``b""``, starts the keep alive anew: make one when reading goes on after a pause.
        """
        if self._state == _CLOSED:
            return []  # [MQTT-3.1.4-6], of 3.1.1 [MQTT-3.1.4-5]
        if self._state != _AWAITING_CONNECT:
            self._last_received = now
        happened: list[Event] = []
        try:
            self._receive(data, happened)
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
        return [self._fail(errors.KeepAliveTimeout("nothing came within the keep alive"))]  # [MQTT-3.1.2-22]

    def data_to_send(self) -> bytes:
        """Everything that is to be written now; nothing while paused, unless :attr:`closed`."""
        if self._sender.paused and self._state != _CLOSED:
            return b""
        return self._sender.take_data()

    def pause(self) -> None:
        """The transport takes no more: what is to be sent waits within ``max_queued_bytes``."""
        self._sender.paused = True

    def resume(self) -> None:
        """The transport takes more again: call :meth:`data_to_send`."""
        self._sender.resume()

    def discard(self, is_over: Callable[[str], bool]) -> None:
        """Drop the messages that wait for the client: it may not have them any more.

        :param is_over: whether this is so for messages of this topic name.
        """
        self._sender.discard(is_over)

    # --- what the owner answers --------------------------------------------------------------------------

    def send_connack(
        self,
        reason_code: int = 0,
        *,
        session_present: bool = False,
        assigned_client_id: str | None = None,
        reason_string: str | None = None,
    ) -> None:
        """Answer the CONNECT. Everything but 0 closes the connection.

        A 3.x client is told the return code that fits; where none does it is closed without one
        (of 3.1.1 [MQTT-3.2.2-6]).

        :param session_present: MQTT 3.1 has no means to say so.
        :param assigned_client_id: needed where CONNECT has an empty client identifier; 3.x is not told.
        """
        connect = self._asked
        if self._state != _AWAITING_CONNACK or connect is None:
            return
        self._asked = None  # it holds the password
        if reason_code:
            self._refuse(reason_code, reason_string)
            self._close()
            return
        self.client_id = assigned_client_id or self.client_id  # [MQTT-3.1.3-7], of 3.1.1 [MQTT-3.1.3-6]
        assert self.client_id, "an empty client identifier needs an assigned one"
        asked = connect.properties or {}
        said = self._limits.announce(asked) if self.version == MQTT_5_0 else None
        if said is not None and assigned_client_id is not None:
            said[properties.ASSIGNED_CLIENT_IDENTIFIER] = assigned_client_id  # [MQTT-3.2.2-16]
        # [MQTT-3.1.4-5] [MQTT-3.2.2-2] [MQTT-3.2.2-3], of 3.1.1 [MQTT-3.1.4-4] [MQTT-3.2.2-1]
        connack = Connack(0, session_present and self.version != MQTT_3_1, said)
        if self._sender.explain(connack, reason_string):
            self._close()  # the client's Maximum Packet Size does not even allow this
            return
        receive_maximum = cast(int, asked.get(properties.RECEIVE_MAXIMUM, 65_535))
        self._sender.session = Session(min(self._limits.send_quota, receive_maximum))
        self._keep_alive = connect.keep_alive * 1.5
        self._explains = asked.get(properties.REQUEST_PROBLEM_INFORMATION) != 0
        self._session_expires_later = bool(asked.get(properties.SESSION_EXPIRY_INTERVAL))
        self.will = connect.will  # [MQTT-3.1.2-7], of 3.1.1 [MQTT-3.1.2-8]
        self._state = _CONNECTED

    def send_publish(self, publish: EncodedPublish) -> bool:
        """Send a message, at QoS 1 when the send quota allows.

        :param publish: encoded for this connection's version, at QoS 0 or 1.
        :return: whether it was taken. If not, it was dropped: a QoS 0 one past ``max_queued_bytes``, one
            that is longer than the client takes [MQTT-3.1.2-24] [MQTT-3.1.2-25], or there is no client.
            A QoS 1 one past ``max_queued_bytes`` ends the connection.
        """
        if self._state != _CONNECTED:
            return False  # [MQTT-3.2.0-1]
        refusal = self._sender.publish(publish)
        if not refusal:
            return True
        self.dropped += 1
        if publish.qos and refusal == constants.QUOTA_EXCEEDED:
            self._disconnect(refusal, "too much waits for this client")
        return False

    def send_puback(self, packet_id: int, reason_code: int = 0, reason_string: str | None = None) -> None:
        """Acknowledge a QoS 1 PUBLISH [MQTT-4.3.2-4]. In 3.x a refusal looks like an acceptance."""
        if self._state != _CONNECTED:
            return
        self._receiver.acknowledged()
        if not self._explains:
            reason_string = None  # [MQTT-3.1.2-29]
        self._sent(self._sender.explain(Puback(packet_id, reason_code), reason_string))

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
        self._send(Suback(packet_id, codes))

    def send_unsuback(self, packet_id: int, reason_codes: Sequence[int]) -> None:
        """Answer an UNSUBSCRIBE with a reason code for each topic filter, in their order [MQTT-3.11.3-1]."""
        self._send(Unsuback(packet_id, list(reason_codes)))

    def disconnect(self, reason_code: int, reason_string: str | None = None) -> None:
        """End the connection; 5.0 is told why. The will stays.

        Before CONNACK the reason goes into that, where it can, and else is not told [MQTT-3.14.0-1].
        """
        if self._state == _CONNECTED:
            self._disconnect(reason_code, reason_string)
        elif self._state == _AWAITING_CONNACK:
            if self.version != MQTT_5_0 or reason_code in REASON_CODES[constants.CONNACK]:
                self._refuse(reason_code, reason_string)
            self._close()
        else:
            self._close()

    # --- decoding ----------------------------------------------------------------------------------------

    def _receive(self, data: bytes, happened: list[Event]) -> None:
        """Decode every whole packet and keep the rest, copying each byte a bounded number of times."""
        if self._state == _AWAITING_CONNACK:
            self._hold(data)
            return
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        pos = 0
        end = len(data)
        while pos < end:
            start, stop = self._next_packet(data, pos)
            if stop > end:
                self._needed = stop - pos
                self._buffer += data[pos:] if pos else data
                return
            event = self._receive_packet(data, pos, start, stop)
            pos = stop
            if event is not None:
                happened.append(event)
            if self._state != _CONNECTED:
                break
        if self._state == _AWAITING_CONNACK:
            self._hold(data[pos:])

    def _hold(self, data: bytes) -> None:
        """Keep what follows a CONNECT until it is answered."""
        self._buffer += data
        self._needed = 0
        if len(self._buffer) > self._limits.max_packet + _HELD_BYTES:
            raise QuotaExceeded("too much was sent before CONNACK")

    def _next_packet(self, data: bytes, pos: int) -> tuple[int, int]:
        """Look at a fixed header before anything behind it is kept.

        :return: where its variable header begins and where it ends, which is behind the data while the
            fixed header is not all there.
        """
        first = data[pos]
        packet_type = first >> 4
        if self._state == _AWAITING_CONNECT and packet_type != constants.CONNECT:
            raise ProtocolError("the first packet is not CONNECT")  # [MQTT-3.1.0-1]
        check_first_byte(first, self.version)
        if self._state not in _TABLE[packet_type][0]:
            # A second CONNECT [MQTT-3.1.0-2]; AUTH [MQTT-4.12.0-7]; what only a server says; QoS 2
            raise ProtocolError(f"{PACKET_NAMES[packet_type]} is not allowed here")
        length, start = decode_remaining_length(data, pos + 1)
        if length == INCOMPLETE:
            return start, len(data) + 1
        check_remaining_length(data, pos, start, self.version)
        connected = self._state == _CONNECTED
        stop = start + length
        if stop - pos > (self._limits.max_packet if connected else self._limits.max_connect):
            raise errors.PacketTooLarge("a control packet is too large")  # [MQTT-3.2.2-15]
        return start, stop

    def _receive_packet(self, data: bytes, pos: int, start: int, stop: int) -> Event | None:
        """Decode a packet whose fixed header is right, and do what it says."""
        if self._state == _AWAITING_CONNECT:
            return self._connect_received(data, pos, start, stop)
        first = data[pos]
        packet = decode_body(first, data, start, stop, self.version)
        return _TABLE[first >> 4][1](self, packet)

    # --- what each packet means --------------------------------------------------------------------------

    def _connect_received(self, data: bytes, pos: int, start: int, stop: int) -> Event:
        """CONNECT: find out the version first, because a refusal has to be in its form."""
        reader = Reader(data, start, stop)
        try:
            self.version = self._sender.version = decode_protocol(reader)
        except errors.UnsupportedProtocolVersion as error:
            self.version = self._sender.version = error.answer
            raise
        check_remaining_length(data, pos, start, self.version)
        connect = decode_connect(reader, self.version)
        self._asked = connect
        self.client_id = connect.client_id
        asked = connect.properties or {}
        maximum = asked.get(properties.MAXIMUM_PACKET_SIZE)
        if maximum is not None:
            self._sender.maximum = cast(int, maximum)
        self._limits.check_connect(connect)
        # 3.1 demands an identifier; 3.1.1 one for a session that is kept [MQTT-3.1.3-8].
        if not connect.client_id and (
            self.version == MQTT_3_1 or (self.version == MQTT_3_1_1 and not connect.clean_start)
        ):
            raise errors.ClientIdentifierNotValid("the client identifier is empty")
        self._state = _AWAITING_CONNACK
        return events.ConnectReceived(connect)

    def _publish_received(self, packet: Packet) -> Event:
        """PUBLISH."""
        publish = cast(Publish, packet)
        self._receiver.publish(publish, self.version)
        return events.PublishReceived(publish)

    def _puback_received(self, packet: Packet) -> Event | None:
        """PUBACK: one for nothing that is in flight is passed over, as no version demands otherwise."""
        puback = cast(Puback, packet)
        if not self._sender.acknowledged(puback.packet_id):
            return None
        return events.PublishAcknowledged(puback.packet_id, puback.reason_code)

    def _subscribe_received(self, packet: Packet) -> Event:
        """SUBSCRIBE."""
        subscribe = cast(Subscribe, packet)
        self._limits.check_subscribe(subscribe, self.version)
        return events.SubscribeReceived(subscribe)

    def _unsubscribe_received(self, packet: Packet) -> Event:
        """UNSUBSCRIBE."""
        return events.UnsubscribeReceived(cast(Unsubscribe, packet))

    def _pingreq_received(self, _packet: Packet) -> None:
        """PINGREQ."""
        if self._sender.send(Pingresp()):  # [MQTT-3.12.4-1]
            raise QuotaExceeded("too much waits for this client")

    def _disconnect_received(self, packet: Packet) -> Event:
        """DISCONNECT."""
        disconnect = cast(Disconnect, packet)
        said = disconnect.properties or {}
        if said.get(properties.SESSION_EXPIRY_INTERVAL) and not self._session_expires_later:
            raise ProtocolError("a session expiry interval that CONNECT had not")  # 3.14.2.2.2
        if not disconnect.reason_code:
            self.will = None  # [MQTT-3.14.4-3] [MQTT-3.1.2-10]
        self._close()
        return events.DisconnectReceived(disconnect.reason_code, disconnect.properties)

    # --- endings ----------------------------------------------------------------------------------------

    def _send(self, packet: Packet) -> None:
        """Queue an answer, if there is somebody to send it to."""
        if self._state == _CONNECTED:
            self._sent(self._sender.send(packet))

    def _sent(self, refusal: int) -> None:
        """End the connection unless an answer could be queued."""
        if refusal:
            self._disconnect(refusal, None)

    def _refuse(self, reason_code: int, reason_string: str | None) -> None:
        """Queue the CONNACK of a refusal [MQTT-3.2.2-6] [MQTT-3.2.2-7], of 3.1.1 [MQTT-3.2.2-4]."""
        if self.version != MQTT_5_0:
            return_code = RETURN_CODES.get(reason_code)
            if return_code is None:
                return  # of 3.1.1 [MQTT-3.2.2-6] [MQTT-3.1.4-1]
            reason_code = return_code
        self._sender.explain(Connack(reason_code), reason_string)

    def _disconnect(self, reason_code: int, reason_string: str | None) -> None:
        """Close, after a DISCONNECT for 5.0; only there has a server one [MQTT-4.13.2-1]."""
        if self.version == MQTT_5_0:
            self._sender.explain(Disconnect(reason_code), reason_string)
        self._close()

    def _fail(self, error: MQTTError) -> Event:
        """End the connection over what the client did [MQTT-4.13.1-1], of 3.1.1 [MQTT-4.8.0-1]."""
        if self._state == _CONNECTED:
            self._disconnect(error.reason_code, str(error))
        else:
            if self.version:
                self._refuse(error.reason_code, str(error))
            self._close()
        return events.ConnectionFailed(error)

    def _close(self) -> None:
        """Forget everything but what is still to be written, and the will."""
        self._state = _CLOSED
        self._buffer.clear()
        self._sender.clear()
        self._receiver.clear()
        self._asked = None


_Received: TypeAlias = Callable[[Connection, Packet], Event | None]


def _never(_connection: Connection, _packet: Packet) -> None:
    """Stands where no state allows the packet; CONNECT is taken in before its version is known."""


#: Each control packet with the states in which a client may send it, and what takes it in.
_TABLE: Final[dict[int, tuple[tuple[int, ...], _Received]]] = {
    constants.CONNECT: ((_AWAITING_CONNECT,), _never),
    constants.CONNACK: ((), _never),
    constants.PUBLISH: ((_CONNECTED,), Connection._publish_received),
    constants.PUBACK: ((_CONNECTED,), Connection._puback_received),
    # Nothing can be under way at QoS 2 while it is above the maximum QoS.
    constants.PUBREC: ((), _never),
    constants.PUBREL: ((), _never),
    constants.PUBCOMP: ((), _never),
    constants.SUBSCRIBE: ((_CONNECTED,), Connection._subscribe_received),
    constants.SUBACK: ((), _never),
    constants.UNSUBSCRIBE: ((_CONNECTED,), Connection._unsubscribe_received),
    constants.UNSUBACK: ((), _never),
    constants.PINGREQ: ((_CONNECTED,), Connection._pingreq_received),
    constants.PINGRESP: ((), _never),
    constants.DISCONNECT: ((_CONNECTED,), Connection._disconnect_received),
    constants.AUTH: ((), _never),
}
