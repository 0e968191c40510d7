"""The server's end of one MQTT connection (MQTT 3.1, 3.1.1 and 5.0, chapters 3 and 4).

Give it what the transport received and the time, walk the events it returns, call ``send_*``, and write
what :meth:`Connection.data_to_send` hands out. It opens no socket, starts no timer and never raises for
anything that a client does.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

from mfserver.mqtt import constants, properties
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
from mfserver.mqtt.encode import EncodedPublish, encode
from mfserver.mqtt.errors import (
    BadAuthenticationMethod,
    ClientIdentifierNotValid,
    ConnectionLost,
    ConnectTimeout,
    KeepAliveTimeout,
    MQTTError,
    PacketTooLarge,
    ProtocolError,
    QoSNotSupported,
    QuotaExceeded,
    ReceiveMaximumExceeded,
    RetainNotSupported,
    SharedSubscriptionsNotSupported,
    SubscriptionIdentifiersNotSupported,
    TopicAliasInvalid,
    UnsupportedProtocolVersion,
)
from mfserver.mqtt.events import (
    ConnectionFailed,
    ConnectReceived,
    DisconnectReceived,
    Event,
    PublishAcknowledged,
    PublishReceived,
    SubscribeReceived,
    UnsubscribeReceived,
)
from mfserver.mqtt.limits import Limits
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Properties,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from mfserver.mqtt.session import Session
from mfserver.mqtt.topics import is_shared

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

_PINGRESP_BYTES: Final = b"\xd0\x00"


class Connection:
    """One client. All times are seconds of one monotonic clock; all reason codes those of MQTT 5.0.

    When :attr:`closed`, write :meth:`data_to_send` once more and close the transport; whatever is
    received or sent afterwards is ignored.

    :ivar version: 3, 4 or 5; 0 until CONNECT told.
    :ivar client_id: the client identifier, from CONNECT or assigned.
    :ivar will: the will message of an accepted CONNECT, until a DISCONNECT takes it back. Publish what
        is left here when the connection is over.
    :ivar unacknowledged: QoS 1 PUBLISHes of the client that wait for :meth:`send_puback`.
    :ivar dropped: messages that were not sent: QoS 0 past ``max_queued_bytes``, or longer than the
        client's Maximum Packet Size.
    """

    __slots__ = (
        "_aliases",
        "_buffer",
        "_connect",
        "_keep_alive",
        "_last_received",
        "_limits",
        "_needed",
        "_out",
        "_out_bytes",
        "_paused",
        "_peer_maximum",
        "_session",
        "_state",
        "client_id",
        "dropped",
        "unacknowledged",
        "version",
        "will",
    )

    def __init__(self, limits: Limits, now: float) -> None:
        self.version = 0
        self.client_id = ""
        self.will: Will | None = None
        self.unacknowledged = 0
        self.dropped = 0
        self._limits = limits
        self._state = _AWAITING_CONNECT
        self._connect: Connect | None = None
        self._keep_alive = 0.0
        self._last_received = now
        self._buffer = bytearray()
        self._needed = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._paused = False
        self._peer_maximum = constants.VARIABLE_MAXIMUM + 5
        self._session = Session(1)
        self._aliases: dict[int, str] = {}

    # --- what the owner calls when something happened ----------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return self._state == _CLOSED

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take in what the transport received, however it is split.

        After ``send_connack(0)`` call it with ``b""`` for what came meanwhile. A call, also with
        ``b""``, starts the keep alive anew: make one when reading goes on after a pause.
        """
        if self._state == _CLOSED:
            return []  # [MQTT-3.1.4-6], of 3.1.1 [MQTT-3.1.4-5]
        if self._state != _AWAITING_CONNECT:
            self._last_received = now
        events: list[Event] = []
        try:
            self._receive(data, events)
        except MQTTError as error:
            events.append(self._fail(error))
        return events

    def receive_eof(self) -> list[Event]:
        """The transport is lost. :return: a ConnectionFailed, unless the connection was closed already."""
        if self._state == _CLOSED:
            return []
        self._close()
        self._out.clear()
        return [ConnectionFailed(ConnectionLost("the connection was lost"))]

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
            return [self._fail(ConnectTimeout("no CONNECT in time"))]
        return [self._fail(KeepAliveTimeout("nothing came within the keep alive"))]  # [MQTT-3.1.2-22]

    def data_to_send(self) -> bytes:
        """Everything that is to be written now; nothing while paused, unless :attr:`closed`."""
        if not self._out or (self._paused and self._state != _CLOSED):
            return b""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        return data

    def pause(self) -> None:
        """The transport takes no more: what is to be sent waits within ``max_queued_bytes``."""
        self._paused = True

    def resume(self) -> None:
        """The transport takes more again: call :meth:`data_to_send`."""
        self._paused = False

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
        connect = self._connect
        if self._state != _AWAITING_CONNACK or connect is None:
            return
        if reason_code:
            self._refuse(reason_code, reason_string)
            self._close()
            return
        self.client_id = assigned_client_id or self.client_id  # [MQTT-3.1.3-7], of 3.1.1 [MQTT-3.1.3-6]
        asked = connect.properties or {}
        self._session = Session(
            min(self._limits.send_quota, cast(int, asked.get(properties.RECEIVE_MAXIMUM, 65_535)))
        )
        self._keep_alive = connect.keep_alive * 1.5
        self.will = connect.will
        self._state = _CONNECTED
        said = self._announcements(asked) if self.version == MQTT_5_0 else None
        if said is not None and assigned_client_id is not None:
            said[properties.ASSIGNED_CLIENT_IDENTIFIER] = assigned_client_id  # [MQTT-3.2.2-16]
        # [MQTT-3.1.4-5] [MQTT-3.2.2-2] [MQTT-3.2.2-3], of 3.1.1 [MQTT-3.1.4-4] [MQTT-3.2.2-1]
        self._send_explained(Connack(0, session_present and self.version != MQTT_3_1, said), reason_string)

    def send_publish(self, publish: EncodedPublish) -> bool:
        """Send a message, at QoS 1 when the send quota allows.

        :param publish: encoded for this connection's version, at QoS 0 or 1.
        :return: whether it was taken. If not, it was dropped: a QoS 0 one past ``max_queued_bytes``, one
            that is longer than the client takes [MQTT-3.1.2-24] [MQTT-3.1.2-25], or there is no client.
            A QoS 1 one past ``max_queued_bytes`` ends the connection.
        """
        if self._state != _CONNECTED:
            return False  # [MQTT-3.2.0-1]
        if publish.size > self._peer_maximum:
            self.dropped += 1
            return False
        waiting = self._out_bytes + self._session.queued_bytes
        if waiting and waiting + publish.size > self._limits.max_queued_bytes:
            self.dropped += 1
            if publish.qos:
                self._disconnect(constants.QUOTA_EXCEEDED, "too much waits for this client")
            return False
        if publish.qos == 0:
            self._out.append(publish.head)
            self._out_bytes += publish.size
            return True
        packet_id = self._session.take_packet_id()
        if packet_id:
            self._send_in_flight(packet_id, publish)
        else:
            self._session.enqueue(publish)
        return True

    def send_puback(self, packet_id: int, reason_code: int = 0, reason_string: str | None = None) -> None:
        """Acknowledge a QoS 1 PUBLISH [MQTT-4.3.2-4]. In 3.x a refusal looks like an acceptance."""
        if self._state != _CONNECTED:
            return
        self.unacknowledged = max(0, self.unacknowledged - 1)
        asked = self._connect.properties if self._connect is not None else None
        if asked and not asked.get(properties.REQUEST_PROBLEM_INFORMATION, 1):
            reason_string = None  # [MQTT-3.1.2-29]
        self._send_explained(Puback(packet_id, reason_code), reason_string)

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

    def _receive(self, data: bytes, events: list[Event]) -> None:
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
            stop = self._next_packet(data, pos)
            if stop > end:
                self._needed = stop - pos
                self._buffer += data[pos:] if pos else data
                return
            event = self._receive_packet(data, pos, stop)
            pos = stop
            if event is not None:
                events.append(event)
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

    def _next_packet(self, data: bytes, pos: int) -> int:
        """Look at a fixed header before anything behind it is kept.

        :return: where the packet ends, or a place behind the data while the fixed header is not all there.
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
            return len(data) + 1
        check_remaining_length(data, start, self.version)
        connected = self._state == _CONNECTED
        stop = start + length
        if stop - pos > (self._limits.max_packet if connected else self._limits.max_connect):
            raise PacketTooLarge("a control packet is too large")  # [MQTT-3.2.2-15]
        return stop

    def _receive_packet(self, data: bytes, pos: int, stop: int) -> Event | None:
        """Decode a packet whose fixed header is right, and do what it says."""
        _, start = decode_remaining_length(data, pos + 1)
        first = data[pos]
        if self._state == _AWAITING_CONNECT:
            return self._connect_received(data, start, stop)
        packet = decode_body(first, data, start, stop, self.version)
        return _TABLE[first >> 4][1](self, packet)

    # --- what each packet means --------------------------------------------------------------------------

    def _connect_received(self, data: bytes, start: int, stop: int) -> Event:
        """CONNECT: find out the version first, because a refusal has to be in its form."""
        reader = Reader(data, start, stop)
        try:
            self.version = decode_protocol(reader)
        except UnsupportedProtocolVersion as error:
            self.version = error.answer
            raise
        check_remaining_length(data, start, self.version)
        connect = decode_connect(reader, self.version)
        self._connect = connect
        self.client_id = connect.client_id
        asked = connect.properties or {}
        self._peer_maximum = cast(int, asked.get(properties.MAXIMUM_PACKET_SIZE, self._peer_maximum))
        self._check_connect(connect, asked)
        self._state = _AWAITING_CONNACK
        return ConnectReceived(connect)

    def _check_connect(self, connect: Connect, asked: Properties) -> None:
        """Refuse what a well-formed CONNECT asks for and we have not got."""
        if properties.AUTHENTICATION_METHOD in asked:
            raise BadAuthenticationMethod("no authentication method is supported")  # [MQTT-4.12.0-1]
        # 3.1 demands an identifier; 3.1.1 one for a session that is kept [MQTT-3.1.3-8].
        if not connect.client_id and (
            self.version == MQTT_3_1 or (self.version == MQTT_3_1_1 and not connect.clean_start)
        ):
            raise ClientIdentifierNotValid("the client identifier is empty")
        will = connect.will
        if will is None:
            return
        if will.qos > self._limits.maximum_qos:
            raise QoSNotSupported("a will at a QoS above the maximum")  # [MQTT-3.2.2-12]
        if will.retain and not self._limits.retain_available:
            raise RetainNotSupported("a retained will")  # [MQTT-3.2.2-13]
        if len(will.payload) > self._limits.max_payload:
            raise PacketTooLarge("a will payload is too large")

    def _publish_received(self, packet: Packet) -> Event:
        """PUBLISH."""
        publish = cast(Publish, packet)
        limits = self._limits
        if publish.qos > limits.maximum_qos:
            raise QoSNotSupported("a QoS above the maximum")  # [MQTT-3.2.2-11]
        if publish.retain and not limits.retain_available:
            raise RetainNotSupported("retained messages are not available")  # [MQTT-3.2.2-14]
        if len(publish.payload) > limits.max_payload:
            raise PacketTooLarge("a payload is too large")
        if publish.properties is not None:
            self._check_publish_properties(publish, publish.properties)
        if publish.qos:
            self.unacknowledged += 1
            if self.version == MQTT_5_0 and self.unacknowledged > limits.receive_maximum:
                raise ReceiveMaximumExceeded("the receive maximum is exceeded")  # [MQTT-3.3.4-7]
        return PublishReceived(publish)

    def _check_publish_properties(self, publish: Publish, said: Properties) -> None:
        """Put the topic name where a topic alias stands; refuse what only a server says."""
        if properties.SUBSCRIPTION_IDENTIFIER in said:
            raise ProtocolError("a subscription identifier from a client")  # [MQTT-3.3.4-6]
        alias = cast(int, said.pop(properties.TOPIC_ALIAS, 0))
        if alias > self._limits.topic_alias_maximum:
            raise TopicAliasInvalid("a topic alias above the maximum")  # [MQTT-3.3.2-9] [MQTT-3.2.2-17]
        if publish.topic and alias:
            self._aliases[alias] = publish.topic
        elif alias:
            topic = self._aliases.get(alias)
            if topic is None:
                raise ProtocolError("a topic alias that was never set")  # 3.3.2.3.4
            publish.topic = topic
        if not said:
            publish.properties = None

    def _puback_received(self, packet: Packet) -> Event | None:
        """PUBACK: one for nothing that is in flight is passed over, as no version demands otherwise."""
        puback = cast(Puback, packet)
        if not self._session.acknowledge(puback.packet_id):
            return None
        queued = self._session.next_queued()
        if queued is not None:
            self._send_in_flight(*queued)
        return PublishAcknowledged(puback.packet_id, puback.reason_code)

    def _subscribe_received(self, packet: Packet) -> Event:
        """SUBSCRIBE."""
        subscribe = cast(Subscribe, packet)
        if self.version == MQTT_5_0:
            said = subscribe.properties
            if (
                said
                and properties.SUBSCRIPTION_IDENTIFIER in said
                and not self._limits.subscription_identifiers
            ):
                raise SubscriptionIdentifiersNotSupported("subscription identifiers are not available")
            if not self._limits.shared_subscriptions and any(
                is_shared(subscription.topic_filter) for subscription in subscribe.subscriptions
            ):
                raise SharedSubscriptionsNotSupported("shared subscriptions are not available")
        return SubscribeReceived(subscribe)

    def _unsubscribe_received(self, packet: Packet) -> Event:
        """UNSUBSCRIBE."""
        return UnsubscribeReceived(cast(Unsubscribe, packet))

    def _pingreq_received(self, _packet: Packet) -> None:
        """PINGREQ."""
        self._write(_PINGRESP_BYTES)  # [MQTT-3.12.4-1]

    def _disconnect_received(self, packet: Packet) -> Event:
        """DISCONNECT."""
        disconnect = cast(Disconnect, packet)
        said = disconnect.properties or {}
        asked = (self._connect.properties if self._connect is not None else None) or {}
        expiry = properties.SESSION_EXPIRY_INTERVAL
        if said.get(expiry) and not asked.get(expiry):
            raise ProtocolError("a session expiry interval that CONNECT had not")  # 3.14.2.2.2
        if not disconnect.reason_code:
            self.will = None  # [MQTT-3.14.4-3] [MQTT-3.1.2-10]
        self._close()
        return DisconnectReceived(disconnect.reason_code, disconnect.properties)

    # --- sending -----------------------------------------------------------------------------------------

    def _announcements(self, asked: Properties) -> Properties:
        """What CONNACK tells 5.0 of our limits (3.2.2.3), without what is the default."""
        limits = self._limits
        said: Properties = {
            properties.RECEIVE_MAXIMUM: limits.receive_maximum,
            properties.MAXIMUM_PACKET_SIZE: limits.max_packet,
        }
        if limits.maximum_qos < 2:
            said[properties.MAXIMUM_QOS] = limits.maximum_qos  # [MQTT-3.2.2-9]
        if not limits.retain_available:
            said[properties.RETAIN_AVAILABLE] = 0
        if not limits.shared_subscriptions:
            said[properties.SHARED_SUBSCRIPTION_AVAILABLE] = 0
        if not limits.subscription_identifiers:
            said[properties.SUBSCRIPTION_IDENTIFIERS_AVAILABLE] = 0
        if limits.topic_alias_maximum:
            said[properties.TOPIC_ALIAS_MAXIMUM] = limits.topic_alias_maximum  # [MQTT-3.2.2-18]
        if asked.get(properties.SESSION_EXPIRY_INTERVAL) and not limits.session_expiry:
            said[properties.SESSION_EXPIRY_INTERVAL] = 0
        return said

    def _send(self, packet: Packet) -> None:
        """Queue a packet, if there is somebody to send it to."""
        if self._state == _CONNECTED:
            self._write(encode(packet, self.version))

    def _send_explained(self, packet: Connack | Disconnect | Puback, reason_string: str | None) -> None:
        """Queue a packet with its reason string, or without where that cannot be.

        [MQTT-3.2.2-19] [MQTT-3.4.2-2] [MQTT-3.14.2-3]
        """
        if reason_string and self.version == MQTT_5_0:
            bare = packet.properties
            packet.properties = {**(bare or {}), properties.REASON_STRING: reason_string}
            encoded = encode(packet, MQTT_5_0)
            if len(encoded) <= self._peer_maximum:
                self._write(encoded)
                return
            packet.properties = bare
        self._write(encode(packet, self.version))

    def _send_in_flight(self, packet_id: int, publish: EncodedPublish) -> None:
        """Queue a QoS 1 PUBLISH with its packet identifier."""
        self._out += (publish.head, packet_id.to_bytes(2, "big"), publish.tail)
        self._out_bytes += publish.size

    def _write(self, data: bytes) -> None:
        """Queue bytes that are no message; they cannot be dropped, so it is the connection that ends."""
        if len(data) > self._peer_maximum:
            self._close()  # [MQTT-3.1.2-24] and nothing shorter says it
        elif self._out_bytes and self._out_bytes + len(data) > self._limits.max_queued_bytes + _HELD_BYTES:
            self._close()
        else:
            self._out.append(data)
            self._out_bytes += len(data)

    def _refuse(self, reason_code: int, reason_string: str | None) -> None:
        """Queue the CONNACK of a refusal [MQTT-3.2.2-6] [MQTT-3.2.2-7], of 3.1.1 [MQTT-3.2.2-4]."""
        if self.version != MQTT_5_0:
            return_code = RETURN_CODES.get(reason_code)
            if return_code is None:
                return  # of 3.1.1 [MQTT-3.2.2-6] [MQTT-3.1.4-1]
            reason_code = return_code
        self._send_explained(Connack(reason_code), reason_string)

    def _disconnect(self, reason_code: int, reason_string: str | None) -> None:
        """Close, after a DISCONNECT for 5.0; only there has a server one [MQTT-4.13.2-1]."""
        if self.version == MQTT_5_0:
            self._send_explained(Disconnect(reason_code), reason_string)
        self._close()

    def _fail(self, error: MQTTError) -> Event:
        """End the connection over what the client did [MQTT-4.13.1-1], of 3.1.1 [MQTT-4.8.0-1]."""
        if self._state == _CONNECTED:
            self._disconnect(error.reason_code, str(error))
        else:
            if self.version:
                self._refuse(error.reason_code, str(error))
            self._close()
        return ConnectionFailed(error)

    def _close(self) -> None:
        """Forget everything but what is still to be written, and the will."""
        self._state = _CLOSED
        self._buffer.clear()
        self._session.clear()
        self._aliases.clear()
        self._connect = None


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
