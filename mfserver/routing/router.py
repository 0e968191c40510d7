"""Brings each message to everybody who listens and, at that moment, may."""

from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mfserver.errors import Invalid, Overloaded
from mfserver.interfaces import IBus, ISubscriber
from mfserver.message import Message
from mfserver.routing.bus import LocalBus
from mfserver.routing.tree import Options, SubscriptionTree
from mfserver.topic import TopicFilter

__all__ = ["Options", "Router"]

# Levels that a subscriber's filters may have on average, the channel counted: each may cost a node of the
# tree, some 400 bytes, and a filter may have 126. So many more characters count as a level of their own, as
# a filter may have 65,535.
_MEAN_LEVELS: Final = 8
_LEVEL_CHARACTERS: Final = 256


class Router:
    """Knows all subscriptions of this process.

    MQTT clients match the exact levels of a topic; everybody else its normal form. A message comes once to
    each subscriber, however many of its subscriptions match.

    :ivar bus: takes published messages to every server, which calls :meth:`deliver` of each; in-process
        unless another is put here before the first message.

    :param max_subscriptions: of one subscriber.
    """

    _log = Logger()

    def __init__(self, max_subscriptions: int) -> None:
        self.bus: IBus = LocalBus(self.deliver)
        self._max_subscriptions = max_subscriptions
        self._exact: SubscriptionTree[ISubscriber] = SubscriptionTree()
        self._normal: SubscriptionTree[ISubscriber] = SubscriptionTree()
        self._levels: dict[ISubscriber, int] = {}

    def subscribe(
        self, topic_filter: TopicFilter, subscriber: ISubscriber, options: Options, exact: bool
    ) -> bool:
        """Add a subscription, or replace the options of the one with the same filter.

        Whether the subscriber's thing may is asked by the caller now, and by us at every delivery.

        :param exact: match the exact levels (MQTT), not the normal form.
        :return: whether it is a new one.
        :raises Overloaded: the subscriber has as many as it may.
        :raises Invalid: a shared subscription, which this router does not offer.
        """
        if topic_filter.share:
            raise Invalid("shared subscriptions are not offered", "topic")
        tree = self._exact if exact else self._normal
        if not tree.subscribe(topic_filter.channel, topic_filter.levels, subscriber, options):
            return False
        levels = self._levels.get(subscriber, 0) + _cost(topic_filter)
        self._levels[subscriber] = levels
        subscriptions = self._exact.count(subscriber) + self._normal.count(subscriber)
        if subscriptions > self._max_subscriptions or levels > _MEAN_LEVELS * self._max_subscriptions:
            self.unsubscribe(topic_filter, subscriber, exact)
            raise Overloaded(f"at most {self._max_subscriptions} subscriptions, and fewer long ones")
        return True

    def unsubscribe(self, topic_filter: TopicFilter, subscriber: ISubscriber, exact: bool) -> bool:
        """End the subscription with this filter. :return: whether there was one."""
        tree = self._exact if exact else self._normal
        if topic_filter.share or not tree.unsubscribe(topic_filter.channel, topic_filter.levels, subscriber):
            return False
        self._levels[subscriber] -= _cost(topic_filter)
        if not self._levels[subscriber]:
            del self._levels[subscriber]
        return True

    def forget(self, subscriber: ISubscriber) -> None:
        """End every subscription of this subscriber."""
        self._exact.remove(subscriber)
        self._normal.remove(subscriber)
        self._levels.pop(subscriber, None)

    def publish(self, message: Message) -> "Deferred[None] | None":
        """Send a message on its way; see :meth:`mfserver.interfaces.IBus.publish`.

        Whether its publisher may is asked by the caller.
        """
        return self.bus.publish(message)

    def deliver(self, message: Message) -> None:
        """Hand a message to every subscriber of this process that matches and may receive it now."""
        origin = message.origin
        found = self._exact.match(message.channel, message.levels, origin)
        levels = message.subtopic.split(".") if message.subtopic else []
        for subscriber, options in self._normal.match(message.channel, levels, origin).items():
            other = found.get(subscriber)
            if other is None or other.qos < options.qos:
                found[subscriber] = options
        for subscriber, options in found.items():
            try:
                if message.channel in subscriber.thing.channels:
                    subscriber.deliver(message, min(message.qos, options.qos))
            except Exception:
                self._log.failure("a subscriber failed to take a message in")


def _cost(topic_filter: TopicFilter) -> int:
    """How many levels a filter counts as, the channel's among them."""
    levels = topic_filter.levels
    return 1 + len(levels) + sum(map(len, levels)) // _LEVEL_CHARACTERS
