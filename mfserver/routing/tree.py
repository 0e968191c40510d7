"""Who subscribed to what: per channel a tree of topic levels, with MQTT's wildcards.

Matching walks only nodes that exist, level by level and without recursion, so that a topic costs at most
the nodes of its channel. A node without subscriptions and without children is cut off.
"""

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

__all__ = ["Options", "SubscriptionTree"]

S = TypeVar("S")

_ONE: Final = "+"
_REST: Final = "#"


class Options:
    """What a subscription asks for (MQTT 5.0, 3.8.3.1). Read-only.

    :ivar qos: the highest quality of service that it takes.
    :ivar no_local: what its own subscriber published does not come back.
    :ivar retain_as_published: the RETAIN flag is passed on as it was published.
    :ivar identifiers: MQTT 5's subscription identifiers; of overlapping subscriptions all.
    """

    __slots__ = ("identifiers", "no_local", "qos", "retain_as_published")

    def __init__(
        self,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        identifiers: tuple[int, ...] = (),
    ) -> None:
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.identifiers = identifiers


class _Node(Generic[S]):
    """One topic level below its parent; the root of a channel has no parent, and the channel as its level."""

    __slots__ = ("children", "level", "parent", "subscriptions")

    def __init__(self, parent: "_Node[S] | None", level: str) -> None:
        self.parent = parent
        self.level = level
        self.children: dict[str, _Node[S]] = {}
        self.subscriptions: dict[S, Options] = {}


class SubscriptionTree(Generic[S]):
    """The subscriptions of everybody. Subscribers are hashable, and told apart by ``==``."""

    __slots__ = ("_channels", "_nodes")

    def __init__(self) -> None:
        self._channels: dict[str, _Node[S]] = {}
        self._nodes: dict[S, dict[_Node[S], None]] = {}

    def subscribe(self, channel: str, levels: Sequence[str], subscriber: S, options: Options) -> bool:
        """Add a subscription, or replace the options of the one to the same levels.

        :param levels: the levels of a valid topic filter after ``messages``.
        :return: whether it is a new one.
        """
        node = self._channels.get(channel)
        if node is None:
            node = self._channels[channel] = _Node(None, channel)
        for level in levels:
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node(node, level)
            node = child
        new = subscriber not in node.subscriptions
        node.subscriptions[subscriber] = options
        if new:
            self._nodes.setdefault(subscriber, {})[node] = None
        return new

    def unsubscribe(self, channel: str, levels: Sequence[str], subscriber: S) -> bool:
        """End the subscription to exactly these levels. :return: whether there was one."""
        node = self._channels.get(channel)
        for level in levels:
            if node is None:
                return False
            node = node.children.get(level)
        if node is None or subscriber not in node.subscriptions:
            return False
        nodes = self._nodes[subscriber]
        del nodes[node]
        if not nodes:
            del self._nodes[subscriber]
        self._cut(node, subscriber)
        return True

    def remove(self, subscriber: S) -> None:
        """End every subscription of this subscriber, in time proportional to their levels."""
        for node in self._nodes.pop(subscriber, {}):
            self._cut(node, subscriber)

    def count(self, subscriber: S) -> int:
        """How many subscriptions this subscriber has."""
        return len(self._nodes.get(subscriber, {}))

    def match(self, channel: str, levels: Sequence[str], origin: S | None = None) -> dict[S, Options]:
        """Everybody with a subscription that matches a topic, each once.

        Overlapping subscriptions of one subscriber are joined: the highest QoS, all identifiers.

        :param levels: the levels of a topic name after ``messages``.
        :param origin: who published it, and does not get it over a subscription with ``no_local``.
        """
        found: dict[S, Options] = {}
        root = self._channels.get(channel)
        if root is None:
            return found
        nodes = [root]
        for level in levels:
            below: list[_Node[S]] = []
            for node in nodes:
                children = node.children
                rest = children.get(_REST)
                if rest is not None:
                    _collect(rest.subscriptions, found, origin)
                child = children.get(_ONE)
                if child is not None:
                    below.append(child)
                # A wildcard is no literal level, not even where somebody managed to publish one.
                child = children.get(level) if level != _ONE and level != _REST else None
                if child is not None:
                    below.append(child)
            nodes = below
        for node in nodes:
            _collect(node.subscriptions, found, origin)
            rest = node.children.get(_REST)
            if rest is not None:  # "#" matches the level above it too (MQTT 5.0, 4.7.1.2)
                _collect(rest.subscriptions, found, origin)
        return found

    def _cut(self, node: _Node[S], subscriber: S) -> None:
        """Take the subscriber from the node, then cut off what has become empty, upwards."""
        del node.subscriptions[subscriber]
        while not node.subscriptions and not node.children:
            parent = node.parent
            if parent is None:
                del self._channels[node.level]
                return
            del parent.children[node.level]
            node = parent


def _collect(subscriptions: dict[S, Options], found: dict[S, Options], origin: S | None) -> None:
    """Add a node's subscriptions to what was found."""
    for subscriber, options in subscriptions.items():
        if options.no_local and origin is not None and subscriber == origin:  # [MQTT-3.8.3-3]
            continue
        other = found.get(subscriber)
        if other is None:
            found[subscriber] = options
        else:  # [MQTT-3.3.4-2] [MQTT-3.3.4-3]
            found[subscriber] = Options(
                max(options.qos, other.qos),
                False,
                options.retain_as_published or other.retain_as_published,
                other.identifiers + options.identifiers,
            )
