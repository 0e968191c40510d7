"""What an accepted MQTT client does: it publishes, subscribes, acknowledges and is delivered to."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from mfserver.adapters.mqtt_answers import Answers
from mfserver.adapters.mqtt_link import Link
from mfserver.adapters.mqtt_messages import encoded_publish, incoming_message
from mfserver.adapters.mqtt_topics import Topics
from mfserver.errors import Invalid, Overloaded
from mfserver.interfaces import IThing
from mfserver.message import Message
from mfserver.mqtt import constants as mqtt
from mfserver.mqtt.connection import Connection
from mfserver.mqtt.events import (
    PublishCompleted,
    PublishReceived,
    PublishReleased,
    PublishStored,
    SubscribeReceived,
    UnsubscribeReceived,
)
from mfserver.mqtt.limits import Limits
from mfserver.mqtt.packets import Publish, Subscription
from mfserver.mqtt.properties import SUBSCRIPTION_IDENTIFIER, is_payload_well_formed
from mfserver.records import ChannelId
from mfserver.routing.sessions import ClientSession, Sessions
from mfserver.routing.tree import Options
from mfserver.topic import TopicFilter, parse_filter
from mfserver.turn import Turn

__all__ = ["CLIENT_EVENTS", "MQTTClient"]

# SUBSCRIBE's retain handling (MQTT 5.0, 3.8.3.1).
_RETAINED_IF_NEW: Final = 1
_NO_RETAINED: Final = 2

#: Times the receive maximum that a client may have sent at QoS 2 without a PUBREL, on all its connections:
#: MQTT 3 has no receive maximum, and that of 5.0 begins anew with each connection.
_UNRELEASED: Final = 4


class MQTTClient:
    """One thing's client, from its accepted CONNECT to the end of its network connection.

    :param thing: whose rights are asked when it publishes and subscribes.
    :param connection: the sans-I/O core, which is answered through.
    :param turn: where the link waits to be flushed.
    :param now: the wall clock, in nanoseconds since 1970.
    :ivar session: what outlives the connection, once it is there.
    :ivar is_resumed: whether the session was there before this connection.
    """

    _log: ClassVar[Logger] = Logger()

    __slots__ = (
        "_answers",
        "_connection",
        "_disk",
        "_form",
        "_link",
        "_now",
        "_publisher",
        "_receive_maximum",
        "_router",
        "_sessions",
        "_thing",
        "_turn",
        "is_resumed",
        "session",
        "topics",
    )

    session: ClientSession

    def __init__(
        self,
        thing: IThing,
        connection: Connection,
        link: Link,
        sessions: Sessions,
        limits: Limits,
        turn: Turn,
        now: Callable[[], int],
    ) -> None:
        # First what each message passes: so it lies side by side in a compiled object.
        self.topics = Topics(limits.topic_alias_maximum)
        self._thing = thing
        self._publisher = thing.id
        self._connection = connection
        self._router = sessions.router
        self._disk = sessions.journal
        self._answers: Answers | None = None  # until one has to wait
        self._form = 8 if connection.version >= mqtt.MQTT_5_0 else 0  # see encoded_publish
        self._turn = turn
        self._link = link
        self._now = now
        self._sessions = sessions
        self._receive_maximum = limits.receive_maximum
        self.is_resumed = False

    def lost(self) -> None:
        """The network connection is over."""
        if self._answers is not None:
            self._answers.stop()

    def channel_lost(self, channel: ChannelId) -> None:
        """The thing may not use this channel any more."""
        self.session.channel_lost(channel)

    # --- what its session sends through it ------------------------------------------------------------------

    @property
    def is_writable(self) -> bool:
        return self._connection.is_writable

    def send_publish(
        self,
        message: Message,
        qos: int,
        retain: bool,
        identifiers: tuple[int, ...],
        packet_id: int,
        dup: bool = False,
    ) -> bool:
        connection = self._connection
        encoded: Any = None
        if not identifiers and not message.expires:  # what most get is there already
            known = message.encoded
            encoded = None if known is None else known.get(self._form + 4 * retain + qos)
        if encoded is None:
            encoded = encoded_publish(message, qos, retain, identifiers, connection.version, self._now)
        if not connection.send_publish(encoded, packet_id, dup):
            return connection.closed
        self._turn.add(self._link)
        return True

    def send_pubrel(self, packet_id: int, reason_code: int) -> None:
        self._connection.send_pubrel(packet_id, reason_code)  # [MQTT-4.3.3-4]
        self._link.write_soon()

    def taken_over(self) -> None:
        self._link.close(mqtt.SESSION_TAKEN_OVER, "another connection of this client took over")

    def too_slow(self) -> None:
        self._link.fail(mqtt.QUOTA_EXCEEDED, "too much waits for it, and it does not read")

    # --- what the client publishes --------------------------------------------------------------------------

    def publish_received(self, event: PublishReceived, now: int) -> None:
        """PUBLISH.

        :param now: when it came, in nanoseconds since 1970.
        """
        packet = event.packet
        qos, properties = packet.qos, packet.properties
        if qos == 2 and not self._takes_qos_2(packet):
            return
        name, topics = packet.topic, self.topics
        topic = topics.latest if name is topics.name else topics.find(name)
        if topic is None or topic.channel not in self._thing.channels:
            self._refuse_publish(packet, mqtt.NOT_AUTHORIZED, "the thing may not publish there")
            return
        if properties is not None and not is_payload_well_formed(properties, packet.payload):
            self._refuse_publish(packet, mqtt.PAYLOAD_FORMAT_INVALID, "the payload is not UTF-8")
            return
        message = incoming_message(
            topic, self._publisher, packet.payload, qos, packet.retain, properties, now, self.session
        )
        stalled = self._disk.stalled
        try:
            # Nothing else is ever refused. A client that cannot be told why is made to wait; see Answers.
            if self._form if stalled else packet.retain:
                self._router.check(message)
            published = self._router.publish(message)
        except Overloaded as error:
            self._refuse_publish(packet, mqtt.QUOTA_EXCEEDED, str(error))
            return
        answers = self._answers
        if qos == 1 and published is None and (answers is None or answers.is_free):
            self._connection.send_puback(packet.packet_id)  # nothing to wait for [MQTT-4.3.2-4]
            return
        if qos == 2:
            self.session.received(packet.packet_id)  # in the same commit as the message
            published = _both(published, self._committed())
        self._answer_publish(packet, published)

    def _takes_qos_2(self, packet: Publish) -> bool:
        """Whether it is neither one that was taken already nor one too many; else it is answered."""
        received = self.session.state.received
        if packet.packet_id in received:
            # [MQTT-4.3.3-10], of 3.1.1 [MQTT-4.3.3-2]. While its commit is under way the first one's answer
            # stands before this; what came on an older connection was committed before CONNACK.
            self._answer_publish(packet, None)
            return False
        if len(received) >= _UNRELEASED * self._receive_maximum:
            self._link.fail(mqtt.RECEIVE_MAXIMUM_EXCEEDED, "it leaves too many QoS 2 messages unreleased")
            return False
        return True

    def _answer_publish(self, packet: Publish, published: Deferred[None] | None) -> None:
        """PUBACK, PUBREC or nothing, after everything that the message must survive in is committed.

        [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-3.3.4-1], of 3.1.1 [MQTT-4.3.2-2] [MQTT-4.3.3-2]
        """
        if packet.qos == 1:
            self._answer(published, partial(self._connection.send_puback, packet.packet_id))
        elif packet.qos:
            self._answer(published, partial(self._connection.send_pubrec, packet.packet_id))
        elif published is not None:
            self._answer(published, _nothing)

    def _answer(self, committed: Deferred[None] | None, send: Callable[[], None]) -> None:
        """Send an answer when this fires, or at once for None, but not before all earlier ones."""
        answers = self._answers
        if answers is None:
            if committed is None:
                send()
                return
            answers = self._answers = Answers(
                self._link, self._disk, self._receive_maximum, self._not_kept, can_refuse=self._form > 0
            )
        answers.add(committed, send)

    def publish_released(self, event: PublishReleased) -> None:
        """PUBREL: the packet identifier is free for another message when that is on the disk.

        Whether the message expired meanwhile is of no matter [MQTT-4.3.3-13].
        """
        packet_id = event.packet_id
        # A client that resumed may say again what we answered on its last connection, and is right to.
        code = mqtt.SUCCESS if self.is_resumed else mqtt.PACKET_IDENTIFIER_NOT_FOUND
        committed = None
        if self.session.released(packet_id):
            code = mqtt.SUCCESS
            committed = self._committed()
        # [MQTT-4.3.3-11], of 3.1.1 [MQTT-4.3.3-2]
        self._answer(committed, partial(self._connection.send_pubcomp, packet_id, code))

    def _refuse_publish(self, packet: Publish, code: int, reason: str) -> None:
        """MQTT 5.0 has a reason code for it; older versions can only close."""
        if self._connection.version < mqtt.MQTT_5_0 or not packet.qos:
            self._link.fail(code, reason)  # [MQTT-3.3.5-2]
            return
        send: Callable[[int, int, str], None] = (
            self._connection.send_puback if packet.qos == 1 else self._connection.send_pubrec
        )
        self._answer(None, partial(send, packet.packet_id, code, reason))

    def _committed(self) -> Deferred[None] | None:
        """What this session promises now has to wait for that, if for anything."""
        return self._disk.committed() if self.session.is_kept else None

    def _not_kept(self, failure: Failure) -> None:
        """It could not be committed: the client must send it again, so it gets no acknowledgement.

        Of 3.1.1 [MQTT-4.8.0-2].
        """
        self._log.failure("what an MQTT client sent could not be stored", failure)
        self._link.close(mqtt.UNSPECIFIED_ERROR, "it could not be stored")

    # --- what the client acknowledges -----------------------------------------------------------------------

    def publish_stored(self, event: PublishStored) -> None:
        """PUBREC."""
        self.session.pubrec(event.packet_id, event.reason_code)

    def publish_completed(self, event: PublishCompleted) -> None:
        """PUBCOMP."""
        self.session.pubcomp(event.packet_id)

    # --- what the client subscribes to ----------------------------------------------------------------------

    def subscribe_received(self, event: SubscribeReceived) -> None:
        packet = event.packet
        identifiers: tuple[int, ...] = ()
        if packet.properties is not None and SUBSCRIPTION_IDENTIFIER in packet.properties:
            identifiers = (int(str(packet.properties[SUBSCRIPTION_IDENTIFIER])),)
        codes: list[int] = []
        wanted: list[tuple[TopicFilter, Options]] = []
        before = self._disk.position
        for subscription in packet.subscriptions:  # [MQTT-3.8.4-5], of 3.1.1 [MQTT-3.8.4-4]
            codes.append(self._subscribe(subscription, identifiers, wanted))
        self._answer(
            self._committed_since(before), partial(self._subscribed, packet.packet_id, codes, wanted)
        )

    def _subscribed(
        self, packet_id: int, codes: list[int], wanted: list[tuple[TopicFilter, Options]]
    ) -> None:
        """SUBACK [MQTT-3.8.4-1], and behind it the retained messages [MQTT-3.3.1-9]."""
        self._connection.send_suback(packet_id, codes)
        for topic_filter, options in wanted:
            found = self._sessions.retained.find(topic_filter)
            self.session.feed(found, options.qos, options.identifiers)

    def _subscribe(
        self,
        subscription: Subscription,
        identifiers: tuple[int, ...],
        wanted: list[tuple[TopicFilter, Options]],
    ) -> int:
        """Subscribe to one filter. :return: its reason code in the SUBACK [MQTT-3.8.4-7]."""
        try:
            parsed = parse_filter(subscription.topic_filter)
        except Invalid:
            return mqtt.TOPIC_FILTER_INVALID
        if parsed.channel not in self._thing.channels:
            return mqtt.NOT_AUTHORIZED
        options = Options(
            subscription.qos, subscription.no_local, subscription.retain_as_published, identifiers
        )
        try:
            is_new = self._sessions.subscribe(self.session, parsed, options)
        except Overloaded:
            return mqtt.QUOTA_EXCEEDED
        handling = subscription.retain_handling
        if handling != _NO_RETAINED and (is_new or handling != _RETAINED_IF_NEW):
            wanted.append((parsed, options))  # [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4]
        return subscription.qos

    def unsubscribe_received(self, event: UnsubscribeReceived) -> None:
        packet = event.packet
        before = self._disk.position
        codes = [self._unsubscribe(topic_filter) for topic_filter in packet.topic_filters]  # [MQTT-3.10.4-6]
        self._answer(
            self._committed_since(before), partial(self._connection.send_unsuback, packet.packet_id, codes)
        )  # [MQTT-3.10.4-4]

    def _unsubscribe(self, topic_filter: str) -> int:
        try:
            parsed = parse_filter(topic_filter)
        except Invalid:
            return mqtt.NO_SUBSCRIPTION_EXISTED
        removed = self._sessions.unsubscribe(self.session, parsed)
        return mqtt.SUCCESS if removed else mqtt.NO_SUBSCRIPTION_EXISTED

    def _committed_since(self, position: int) -> Deferred[None] | None:
        return None if self._disk.position == position else self._disk.committed()


#: What an accepted client does besides what it does most: it publishes, and acknowledges at QoS 1.
CLIENT_EVENTS: Final[dict[type, Callable[[MQTTClient, Any], None]]] = {
    PublishReleased: MQTTClient.publish_released,
    PublishStored: MQTTClient.publish_stored,
    PublishCompleted: MQTTClient.publish_completed,
    SubscribeReceived: MQTTClient.subscribe_received,
    UnsubscribeReceived: MQTTClient.unsubscribe_received,
}


def _nothing() -> None:
    """QoS 0 has no answer."""


def _both(first: Deferred[None] | None, second: Deferred[None] | None) -> Deferred[None] | None:
    """What fires when both have; None for one that there is no need to wait for."""
    if first is None or second is None:
        return second if first is None else first
    both = gatherResults([first, second], consumeErrors=True)
    return both.addCallbacks(lambda _: None, _first_error)


def _first_error(failure: Failure) -> Failure:
    error = failure.value
    assert isinstance(error, FirstError)
    return error.subFailure
