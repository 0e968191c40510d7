"""Who owns a connection: answers its events as the adapter does, sends messages, watches what is written."""

from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any, Final, cast

from mfserver.mqtt import constants, events
from mfserver.mqtt.connection import Connection, Limits
from mfserver.mqtt.constants import MQTT_3_1, MQTT_5_0, REASON_CODES
from mfserver.mqtt.decode import decode, decode_remaining_length
from mfserver.mqtt.encode import EncodedPublish, encode_publish_parts
from mfserver.mqtt.packets import (
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
    Unsuback,
)
from mfserver.mqtt.properties import MAXIMUM_PACKET_SIZE, RECEIVE_MAXIMUM, TOPIC_ALIAS, TOPIC_ALIAS_MAXIMUM
from mfserver.mqtt.session import Delivery, Session
from tests.mqtt.random_packets import TOPICS, binary, section, text

__all__ = ["LIMITS", "Owner"]

#: Low, so that a short conversation meets them.
LIMITS: Final = Limits(
    max_payload=70_000, receive_maximum=3, send_quota=4, max_queued_bytes=2_000, topic_alias_maximum=3
)
#: What may be kept of one client: what has to be whole, or came behind a CONNECT; and the topics of aliases.
_HELD: Final = max(LIMITS.max_connect, LIMITS.max_packet) + 65_536 + (3 + 32) * 65_535

_SERVER_SAYS: Final = (
    Connack,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Suback,
    Unsuback,
    Pingresp,
    Disconnect,
)
_REFUSALS: Final = sorted(REASON_CODES[constants.CONNACK] - {0})
_GOODBYES: Final = sorted(REASON_CODES[constants.DISCONNECT] - {0, 4})
_TAKEN: Final = (0, 0, 0, 0x10)
_REFUSED: Final = 0x80


class Owner:
    """Owns one connection.

    :ivar connection: the one.
    :ivar now: its clock.
    :ivar failed: the error that ended it, or None.
    :ivar published: topic and payload of each message that the client published.
    :ivar may_refuse: whether to refuse, end and forget things at random.
    """

    def __init__(self, random: Random, reached: "Counter[str]", may_refuse: bool) -> None:
        self.now = 0.0
        self.connection = Connection(LIMITS, self.now)
        self.failed: events.ConnectionFailed | None = None
        self.may_refuse = may_refuse
        self.published: list[tuple[str, bytes]] = []
        self._random = random
        self._reached = reached
        self._session = Session()
        self._answers: deque[Callable[[], None]] = deque()
        self._writing = Watched(reached)
        self._paused = False
        self._over = False
        self._unwritten = 0  # bytes of messages

    # --- what happens to it -------------------------------------------------------------------------------

    def receive(self, data: bytes) -> list[Packet]:
        """The transport received something. :return: what the connection writes."""
        self._walk(self.connection.receive_data(data, self.now))
        return self.write()

    def write(self) -> list[Packet]:
        """Take what is to be written, and look at all that has to be so at any time."""
        connection = self.connection
        assert connection.held <= _HELD, connection.held
        data = connection.data_to_send()
        self._unwritten = self._unwritten if self._paused else 0
        assert not (data and self._paused and not connection.closed), "written while paused"
        if connection.closed:
            self._check_silence()
        found = self._writing.packets(data, connection)
        for packet in found:
            self._reached[f"{connection.version}: wrote {type(packet).__name__.upper()}"] += 1
        return found

    def wait(self, seconds: float) -> list[Packet]:
        """Time passes."""
        self.now += seconds
        deadline = self.connection.next_deadline()
        happened = self.connection.check_deadline(self.now)
        assert bool(happened) == (deadline is not None and deadline <= self.now), (deadline, self.now)
        self._walk(happened)
        return self.write()

    def act(self) -> list[Packet]:
        """Do something that has nothing to do with what the client just said."""
        random = self._random
        chance = random.random()
        if chance < 0.5:
            self._commit()
        elif chance < 0.75:
            self._deliver()
        elif chance < 0.83:
            self._pause(not self._paused)
        elif chance < 0.88:
            topic = random.choice(TOPICS)
            self._session.discard(lambda delivery: cast(EncodedPublish, delivery.message).topic == topic)
        elif self.may_refuse and chance > 0.99:
            self._end()
        return self.write()

    def settle(self) -> list[Packet]:
        """Answer everything that waits, and let the transport take it."""
        self._pause(False)
        while self._answers:
            self._commit()
        return self.write()

    def lose(self) -> None:
        """The transport is lost: nothing is written or said any more."""
        self._walk(self.connection.receive_eof())
        assert self.connection.closed
        assert self.write() == []

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        if paused:
            self.connection.pause()
        else:
            self.connection.resume()
            self._pump()

    def _end(self) -> None:
        self.connection.disconnect(self._random.choice(_GOODBYES), text(self._random))
        self._reached[f"{self.connection.version}: ended by us"] += 1

    def _check_silence(self) -> None:
        """A connection that is closed takes nothing, says nothing, keeps nothing and waits for nothing."""
        connection = self.connection
        assert connection.receive_data(b"\xc0\0", self.now) == []
        assert connection.receive_eof() == [] and connection.check_deadline(self.now + 1e9) == []
        assert connection.next_deadline() is None
        connection.send_pubcomp(1)
        connection.send_suback(1, [0])
        connection.send_connack()
        connection.disconnect(0x8B)
        assert not connection.send_publish(encode_publish_parts(4, "t", b"", 0))
        assert not connection.is_writable and connection.held == 0
        assert connection.data_to_send() == b"", "written after the end"

    # --- its events ---------------------------------------------------------------------------------------

    def _walk(self, happened: list[events.Event]) -> None:
        """Answer, each in its order; the last may be the end."""
        for event in happened:
            assert not self._over, f"{event!r} after the end"
            self._reached[f"{self.connection.version}: {type(event).__name__}"] += 1
            self._OF[type(event)](self, event)

    def _connect_received(self, event: events.ConnectReceived) -> None:
        self._writing.accept(event.packet)
        self._answers.append(self._connack)

    def _connack(self) -> None:
        random, connection = self._random, self.connection
        if self.may_refuse and random.random() < 0.05:
            connection.send_connack(random.choice(_REFUSALS), reason_string=text(random))
            return
        assigned = None if connection.client_id else "assigned"
        expiry = random.choice((None, 0, 7))
        connection.send_connack(
            session_present=random.random() < 0.3,
            assigned_client_id=assigned,
            reason_string=text(random),
            session_expiry=expiry,
        )
        self._session.send_quota = connection.send_quota
        if not connection.closed and random.random() < 0.3:
            self._resend()
        self._walk(connection.receive_data(b"", self.now))

    def _publish_received(self, event: events.PublishReceived) -> None:
        random, packet = self._random, event.packet
        assert packet.topic and TOPIC_ALIAS not in (packet.properties or {})
        self.published.append((packet.topic, packet.payload))
        code = random.choice(_TAKEN)
        if self.may_refuse and random.random() < 0.1:
            code = random.choice(sorted(REASON_CODES[constants.PUBACK]))
        if packet.qos == 1:
            self._answers.append(lambda: self.connection.send_puback(packet.packet_id, code, text(random)))
        elif packet.qos == 2:
            if code < _REFUSED:
                again = packet.packet_id in self._session.received
                self._reached["QoS 2: repeated" if again else "QoS 2: received"] += 1
                self._session.received.add(packet.packet_id)
            self._answers.append(lambda: self.connection.send_pubrec(packet.packet_id, code, text(random)))

    def _publish_released(self, event: events.PublishReleased) -> None:
        known = event.packet_id in self._session.received
        self._session.received.discard(event.packet_id)
        self._reached["QoS 2: released" if known else "QoS 2: nothing to release"] += 1
        code = 0 if known else constants.PACKET_IDENTIFIER_NOT_FOUND
        self._answers.append(lambda: self.connection.send_pubcomp(event.packet_id, code))

    def _publish_acknowledged(self, event: events.PublishAcknowledged) -> None:
        if self._session.puback(event.packet_id) is not None:
            self._writing.over(event.packet_id)
        self._pump()

    def _publish_stored(self, event: events.PublishStored) -> None:
        delivery = self._session.pubrec(event.packet_id, event.reason_code)
        if delivery is None:
            code = constants.PACKET_IDENTIFIER_NOT_FOUND
            self._answers.append(lambda: self.connection.send_pubrel(event.packet_id, code))
        elif delivery.released:
            self._reached["QoS 2: stored by the client"] += 1
            self._answers.append(lambda: self.connection.send_pubrel(event.packet_id))
        else:
            self._writing.over(event.packet_id)
        self._pump()

    def _publish_completed(self, event: events.PublishCompleted) -> None:
        if self._session.pubcomp(event.packet_id) is not None:
            self._reached["QoS 2: completed by the client"] += 1
            self._writing.over(event.packet_id)
        self._pump()

    def _subscribe_received(self, event: events.SubscribeReceived) -> None:
        packet = event.packet
        codes = [subscription.qos for subscription in packet.subscriptions]
        if self.may_refuse:
            allowed = sorted(REASON_CODES[constants.SUBACK])
            codes = [self._random.choice((code, *allowed)) for code in codes]
        self._answers.append(lambda: self.connection.send_suback(packet.packet_id, codes))

    def _unsubscribe_received(self, event: events.UnsubscribeReceived) -> None:
        packet = event.packet
        codes = [self._random.choice((0, 0x11, 0x87)) for _ in packet.topic_filters]
        self._answers.append(lambda: self.connection.send_unsuback(packet.packet_id, codes))

    def _disconnect_received(self, event: events.DisconnectReceived) -> None:
        assert self.connection.closed
        assert event.reason_code or self.connection.will is None
        self._over = True

    def _connection_failed(self, event: events.ConnectionFailed) -> None:
        assert self.connection.closed
        self._reached[f"failed: {type(event.error).__name__}"] += 1
        self.failed = event
        self._over = True

    _OF: Final[dict[type, Callable[[Any, Any], None]]] = {
        events.ConnectReceived: _connect_received,
        events.PublishReceived: _publish_received,
        events.PublishReleased: _publish_released,
        events.PublishAcknowledged: _publish_acknowledged,
        events.PublishStored: _publish_stored,
        events.PublishCompleted: _publish_completed,
        events.SubscribeReceived: _subscribe_received,
        events.UnsubscribeReceived: _unsubscribe_received,
        events.DisconnectReceived: _disconnect_received,
        events.ConnectionFailed: _connection_failed,
    }

    # --- its messages -------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """What the oldest answer waited for is on the disk; all answers leave in their order."""
        if self._answers:
            self._answers.popleft()()

    def _resend(self) -> None:
        """An earlier connection of this client left something in flight [MQTT-4.4.0-1]."""
        random, session = self._random, self._session
        for packet_id in random.sample(range(1, 6), k=min(3, session.send_quota)):
            delivery = self._message(random.choice((1, 2)))
            delivery.packet_id = packet_id
            delivery.released = delivery.qos == 2 and random.random() < 0.5
            session.adopt(delivery)
            if delivery.released:
                self._writing.resumed(packet_id)
                self.connection.send_pubrel(packet_id)
            else:
                self._send(delivery, dup=True)

    def _deliver(self) -> None:
        """A message comes for this client."""
        if self.connection.version:
            self._session.enqueue(self._message(self._random.randrange(3)))
            self._pump()

    def _message(self, qos: int) -> Delivery:
        """Any message."""
        random, version = self._random, self.connection.version
        properties = section(random, version, constants.PUBLISH)
        if properties:
            properties.pop(TOPIC_ALIAS, None)
        publish = encode_publish_parts(
            version, random.choice(TOPICS), binary(random, long=True), qos, random.random() < 0.3, properties
        )
        return Delivery(publish, qos, size=publish.size)

    def _pump(self) -> None:
        """Send as far as the client takes it."""
        session, connection = self._session, self.connection
        while session.waiting and connection.is_writable:
            assert self._unwritten < LIMITS.max_queued_bytes, "writable, though too much waits"
            delivery = session.waiting[0]
            if delivery.qos and not session.begin(delivery):
                return
            session.pop_waiting()
            self._send(delivery, dup=delivery.qos > 0 and self._random.random() < 0.1)

    def _send(self, delivery: Delivery, dup: bool) -> None:
        """Send one message."""
        publish = cast(EncodedPublish, delivery.message)
        if self.connection.send_publish(publish, delivery.packet_id, dup):
            self._reached[f"QoS {delivery.qos}: sent"] += 1
            self._writing.sent(publish.topic)
            self._unwritten += publish.size - len(publish.topic.encode())  # there may be an alias for it
            return
        self._reached["longer than the client takes"] += 1
        assert publish.size > self._writing.maximum, "dropped without need"
        self._session.in_flight.pop(delivery.packet_id, None)


class Watched:
    """What the connection wrote until now, as its client sees it.

    :ivar maximum: its Maximum Packet Size.
    """

    def __init__(self, reached: "Counter[str]") -> None:
        self.reached = reached
        self.maximum = 1 << 28
        self._receive_maximum = 65_535
        self._alias_maximum = 0
        self._aliases: dict[int, str] = {}
        self._in_flight: set[int] = set()
        self._early: Counter[int] = Counter()
        self._topics: deque[str] = deque()
        self._connacked = False
        self._over = False

    def accept(self, connect: Connect) -> None:
        """The server understood this CONNECT."""
        said = connect.properties or {}
        self.maximum = cast(int, said.get(MAXIMUM_PACKET_SIZE, self.maximum))
        self._receive_maximum = cast(int, said.get(RECEIVE_MAXIMUM, self._receive_maximum))
        self._alias_maximum = cast(int, said.get(TOPIC_ALIAS_MAXIMUM, 0))

    def sent(self, topic: str) -> None:
        """A message of this topic was handed to the connection."""
        self._topics.append(topic)

    def resumed(self, packet_id: int) -> None:
        """This was in flight before, and is still."""
        self._in_flight.add(packet_id)

    def over(self, packet_id: int) -> None:
        """The client acknowledged this to the end; a liar may do so before it is written."""
        if packet_id in self._in_flight:
            self._in_flight.remove(packet_id)
        else:
            self._early[packet_id] += 1

    def packets(self, data: bytes, connection: Connection) -> list[Packet]:
        """Everything in these bytes, each packet legal where it stands, of its version and of its size."""
        found = []
        while data:
            length, start = decode_remaining_length(data, 1)
            packet = decode(data[: start + length], connection.version)
            assert start + length <= self.maximum, f"{packet!r} is longer than the client takes"
            self._check(packet, connection.version)
            found.append(packet)
            data = data[start + length :]
        return found

    def _check(self, packet: Packet, version: int) -> None:
        assert not self._over, f"{packet!r} after the end"
        assert isinstance(packet, _SERVER_SAYS), packet
        assert version == MQTT_5_0 or not getattr(packet, "properties", None), packet
        assert isinstance(packet, Connack) != self._connacked, f"{packet!r} in the wrong place"
        if isinstance(packet, Connack):
            self._connacked = True
            self._over = packet.reason_code != 0
            assert version != MQTT_3_1 or not packet.session_present
        elif isinstance(packet, Disconnect):
            assert version == MQTT_5_0
            self._over = True
        elif isinstance(packet, Publish):
            self._publish(packet)

    def _publish(self, packet: Publish) -> None:
        alias = cast(int, (packet.properties or {}).get(TOPIC_ALIAS, 0))
        assert alias <= self._alias_maximum, "a topic alias above the client's maximum"
        if alias and packet.topic:
            self._aliases[alias] = packet.topic
        elif alias:
            self.reached["topic alias of the server"] += 1
        assert (packet.topic or self._aliases.get(alias)) == self._topics.popleft(), "another topic"
        if packet.qos and self._early[packet.packet_id]:
            self._early[packet.packet_id] -= 1
        elif packet.qos:
            assert packet.packet_id not in self._in_flight, "a packet identifier that is in use"
            self._in_flight.add(packet.packet_id)
            assert len(self._in_flight) <= self._receive_maximum, "the client's receive maximum is exceeded"
