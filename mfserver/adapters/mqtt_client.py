"""What an accepted MQTT client does: it publishes, subscribes and is delivered to."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mfserver.adapters.mqtt_messages import encoded_publish, incoming_message
from mfserver.errors import Invalid, Overloaded
from mfserver.interfaces import ISubscriber, IThing
from mfserver.message import Message
from mfserver.mqtt import constants as mqtt
from mfserver.mqtt.connection import Connection
from mfserver.mqtt.events import PublishReceived, SubscribeReceived, UnsubscribeReceived
from mfserver.mqtt.limits import Limits
from mfserver.mqtt.packets import Publish, Subscription
from mfserver.records import ChannelId
from mfserver.routing.router import Router
from mfserver.routing.tree import Options
from mfserver.topic import parse, parse_filter

__all__ = ["Link", "MQTTClient"]


class Link(Protocol):
    """The network connection below a client."""

    def close(self, reason_code: int, reason: str) -> None:
        """End it, and say why."""

    def write_soon(self) -> None:
        """Write what the core has collected before the reactor's turn ends."""

    def read(self, go_on: bool) -> None:
        """Read on, or stop reading."""


@implementer(ISubscriber)
class MQTTClient:
    """One thing's client, from its accepted CONNECT to the end of its network connection.

    :param connection: the sans-I/O core, which is answered through.
    :param now: the wall clock, in nanoseconds since 1970.
    """

    _log = Logger()

    def __init__(
        self,
        thing: IThing,
        connection: Connection,
        link: Link,
        router: Router,
        limits: Limits,
        now: Callable[[], int],
    ) -> None:
        self.thing = thing
        self._connection = connection
        self._link = link
        self._router = router
        self._limits = limits
        self._now = now
        self._uncommitted = 0

    def taken_over(self) -> None:
        """A newer connection of the same client took the session."""
        self._link.close(mqtt.SESSION_TAKEN_OVER, "another connection of this client took over")

    def deliver(self, message: Message, qos: int) -> None:
        connection = self._connection
        if not connection.closed:
            connection.send_publish(encoded_publish(message, connection.version, qos))
            self._link.write_soon()

    def channel_lost(self, channel: ChannelId) -> None:
        """What came from a channel while the thing might use it, and still waits, is not its any more."""
        self._connection.discard(lambda topic: topic.split("/", 2)[1] == channel)

    def publish_received(self, event: PublishReceived) -> None:
        packet = event.packet
        try:
            topic = parse(packet.topic)
        except Invalid:
            topic = None
        if topic is None or topic.channel not in self.thing.channels:
            self._refuse_publish(packet)
            return
        published = self._router.publish(
            incoming_message(
                topic, self.thing.id, packet.payload, packet.qos, packet.properties, self._now(), self
            )
        )
        if published is not None:
            self._wait_for_commits()
            published.addCallbacks(self._published, self._not_kept, callbackArgs=(packet.packet_id,))
        elif packet.qos:
            self._connection.send_puback(packet.packet_id)

    def subscribe_received(self, event: SubscribeReceived) -> None:
        packet = event.packet
        codes = [self._subscribe(subscription) for subscription in packet.subscriptions]
        self._connection.send_suback(packet.packet_id, codes)  # [MQTT-3.8.4-1]

    def unsubscribe_received(self, event: UnsubscribeReceived) -> None:
        packet = event.packet
        codes = [self._unsubscribe(topic_filter) for topic_filter in packet.topic_filters]
        self._connection.send_unsuback(packet.packet_id, codes)  # [MQTT-3.10.4-4]

    def lost(self) -> None:
        """The network connection is over: listen no more, and publish the will if it is still there."""
        self._router.forget(self)
        will = self._connection.will
        if will is None:
            return
        topic = parse(will.topic)
        if topic.channel not in self.thing.channels:
            return
        published = self._router.publish(
            incoming_message(topic, self.thing.id, will.payload, will.qos, will.properties, self._now(), self)
        )
        if published is not None:
            published.addErrback(partial(self._log.failure, "a will could not be stored"))

    def _wait_for_commits(self) -> None:
        """Stop reading from a publisher whose messages are not committed as fast as they come."""
        self._uncommitted += 1
        if self._uncommitted == self._limits.receive_maximum:
            self._link.read(False)

    def _published(self, _: None, packet_id: int) -> None:
        if self._connection.closed:
            return
        if packet_id:
            self._connection.send_puback(packet_id)
            self._link.write_soon()
        if self._uncommitted == self._limits.receive_maximum:
            self._link.read(True)
        self._uncommitted -= 1

    def _not_kept(self, failure: Failure) -> None:
        """It could not be committed: the client must send it again, so it gets no acknowledgement."""
        self._log.failure("a PUBLISH could not be stored", failure)
        self._link.close(mqtt.UNSPECIFIED_ERROR, "the message could not be stored")

    def _refuse_publish(self, packet: Publish) -> None:
        """MQTT 5.0 has a reason code for it; older versions can only close."""
        if self._connection.version >= mqtt.MQTT_5_0 and packet.qos:
            self._connection.send_puback(packet.packet_id, mqtt.NOT_AUTHORIZED)
        else:
            self._link.close(mqtt.NOT_AUTHORIZED, "the thing may not publish there")  # [MQTT-3.3.5-2]

    def _subscribe(self, subscription: Subscription) -> int:
        """Subscribe to one filter. :return: its reason code in the SUBACK."""
        try:
            parsed = parse_filter(subscription.topic_filter)
        except Invalid:
            return mqtt.TOPIC_FILTER_INVALID
        if parsed.share:
            return mqtt.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        if parsed.channel not in self.thing.channels:
            return mqtt.NOT_AUTHORIZED
        granted = min(subscription.qos, self._limits.maximum_qos)
        options = Options(qos=granted, no_local=subscription.no_local)
        try:
            self._router.subscribe(parsed, self, options, exact=True)
        except Overloaded:
            return mqtt.QUOTA_EXCEEDED
        return granted

    def _unsubscribe(self, topic_filter: str) -> int:
        try:
            parsed = parse_filter(topic_filter)
        except Invalid:
            return mqtt.NO_SUBSCRIPTION_EXISTED
        removed = self._router.unsubscribe(parsed, self, exact=True)
        return mqtt.SUCCESS if removed else mqtt.NO_SUBSCRIPTION_EXISTED
