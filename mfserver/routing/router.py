"""Brings each message to everybody who listens and, at that moment, may."""

from collections.abc import Iterable
from itertools import chain
from typing import ClassVar, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mfserver.errors import Invalid, Overloaded
from mfserver.interfaces import IBus, ISubscriber
from mfserver.message import Message
from mfserver.routing.bus import LocalBus
from mfserver.routing.journal import Journal
from mfserver.routing.retained import Retained
from mfserver.routing.shared import next_members
from mfserver.routing.tree import Options, SubscriptionTree
from mfserver.topic import TopicFilter

__all__ = ["Options", "Router"]

# Levels that a subscriber's filters may have on average, the channel counted: each may cost a node of the
# tree, some 400 bytes, and a filter may have 126. So many more characters count as a level of their own, as
# a filter may have 65,535. A group takes as much as two levels.
_MEAN_LEVELS: Final = 8
_LEVEL_CHARACTERS: Final = 256
_GROUP_LEVELS: Final = 2


class Router:
    """Knows all subscriptions of this process.

    MQTT clients match the exact levels of a topic; everybody else its normal form. A message comes once to
    each subscriber, however many of its subscriptions match, and to one member of each group that matches.

    :ivar bus: takes published messages to every server, which calls :meth:`deliver` of each; in-process
        unless another is put here before the first message.
    :ivar retained: the retained messages; None where none are kept.

    :param max_subscriptions: of one subscriber.
    :param journal: commits what the subscribers and the retained messages note in it; None where nothing
        outlives the process.
    """

    _log: ClassVar[Logger] = Logger()

    def __init__(
        self, max_subscriptions: int, journal: Journal | None = None, retained: Retained | None = None
    ) -> None:
        self.bus: IBus = LocalBus(self.deliver, journal)
        self.retained = retained
        self._journal = journal
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
        :raises Invalid: a shared subscription that is not MQTT's.
        """
        channel, levels, share = topic_filter.channel, topic_filter.levels, topic_filter.share
        if share and not exact:
            raise Invalid("only MQTT has shared subscriptions", "topic")
        tree = self._exact if exact else self._normal
        if not tree.subscribe(channel, levels, subscriber, options, share):
            return False
        cost = self._levels.get(subscriber, 0) + _cost(topic_filter)
        self._levels[subscriber] = cost
        subscriptions = self._exact.count(subscriber) + self._normal.count(subscriber)
        if subscriptions > self._max_subscriptions or cost > _MEAN_LEVELS * self._max_subscriptions:
            self.unsubscribe(topic_filter, subscriber, exact)
            raise Overloaded(f"at most {self._max_subscriptions} subscriptions, and fewer long ones")
        return True

    def unsubscribe(self, topic_filter: TopicFilter, subscriber: ISubscriber, exact: bool) -> bool:
        """End the subscription with this filter. :return: whether there was one."""
        tree = self._exact if exact else self._normal
        channel, levels = topic_filter.channel, topic_filter.levels
        if not tree.unsubscribe(channel, levels, subscriber, topic_filter.share):
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

    def check(self, message: Message) -> None:
        """Ask before publishing whether what an acknowledgement would promise can be kept now.

        :raises Overloaded: the disk is full, and it is of QoS 1 or 2; or it is to be retained and there is no
            room for it.
        """
        if message.qos and self._journal is not None and self._journal.stalled:
            raise Overloaded("nothing can be stored now")
        if self.retained is not None:
            self.retained.check(message)

    def publish(self, message: Message) -> "Deferred[None] | None":
        """Send a message on its way; see :meth:`mfserver.interfaces.IBus.publish`.

        Whether its publisher may is asked by the caller.
        """
        return self.bus.publish(message)

    def deliver(self, message: Message) -> None:
        """Hand a message to everybody of this process whose subscription matches and who may have it now.

        To each at once, and to every session whether its client is there or not [MQTT-4.5.0-1]: so all get
        the messages of a publisher in the order that they came in [MQTT-4.6.0-5] [MQTT-4.6.0-6].
        """
        channel, qos, retain = message.channel, message.qos, message.retain
        if retain and self.retained is not None:  # [MQTT-3.3.1-8], of 3.1.1 [MQTT-3.3.1-12]
            self.retained.keep(message)
        if channel not in self._exact.channels and channel not in self._normal.channels:
            return
        receivers = self._receivers(message)
        for subscriber, options in receivers:
            try:
                if channel in subscriber.thing.channels:
                    # [MQTT-3.8.4-8] [MQTT-4.8.2-3], of 3.1.1 [MQTT-3.8.4-6]
                    lower = qos if qos < options.qos else options.qos
                    # [MQTT-3.3.1-12] [MQTT-3.3.1-13], of 3.1.1 [MQTT-3.3.1-9]
                    retained = retain and options.retain_as_published
                    subscriber.deliver(message, lower, retained, options.identifiers)  # [MQTT-3.3.4-3]
            except Exception:
                self._log.failure("a subscriber failed to take a message in")

    def _receivers(self, message: Message) -> Iterable[tuple[ISubscriber, Options]]:
        """Whose subscriptions match, and what they ask for."""
        channel, origin = message.channel, message.origin
        found, groups = self._exact.match(channel, message.levels, origin)
        if channel in self._normal.channels:
            levels = message.subtopic.split(".") if message.subtopic else []
            for subscriber, options in self._normal.match(channel, levels, origin)[0].items():
                other = found.get(subscriber)
                found[subscriber] = options if other is None else other.joined(options)
        return chain(found.items(), next_members(groups, channel)) if groups else found.items()


def _cost(topic_filter: TopicFilter) -> int:
    """How many levels a filter counts as, the channel's among them."""
    levels, share = topic_filter.levels, topic_filter.share
    characters = len(share) + sum(map(len, levels))
    return 1 + len(levels) + (_GROUP_LEVELS if share else 0) + characters // _LEVEL_CHARACTERS
