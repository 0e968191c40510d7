"""Who subscribed to what: per channel a tree of topic levels, with MQTT's wildcards.

Matching walks only nodes that exist, level by level and without recursion, so that a topic costs at most
the nodes of its channel. A node without subscriptions and without children is cut off.

A shared subscription (MQTT 5.0, 4.8.2) is a group at the node of its filter: matching finds the group, and
whoever delivers picks the member.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import chain
from typing import Final, Generic, TypeVar

__all__ = ["Options", "Group", "SubscriptionTree"]

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

    def joined(self, other: "Options") -> "Options":
        """What one copy of a message for two overlapping subscriptions of one subscriber is to meet."""
        return _joined((self, other))


class Group(Generic[S]):
    """A shared subscription: of each message that matches, one of its members gets one copy.

    :ivar name: the ShareName.
    :ivar subscriptions: what each member asks for, ordered by whose turn it is; it is for those who deliver
        to move a member to the end.
    """

    __slots__ = ("name", "node", "subscriptions")

    def __init__(self, name: str, node: "_Node[S]") -> None:
        self.name = name
        self.node = node
        self.subscriptions: OrderedDict[S, Options] = OrderedDict()


class _Node(Generic[S]):
    """One topic level below its parent; the root of a channel has no parent, and the channel as its level.

    :ivar groups: the shared subscriptions by their names; None where there never was one.
    """

    __slots__ = ("children", "groups", "level", "parent", "subscriptions")

    def __init__(self, parent: "_Node[S] | None", level: str) -> None:
        self.parent = parent
        self.level = level
        self.children: dict[str, _Node[S]] = {}
        self.subscriptions: dict[S, Options] = {}
        self.groups: dict[str, Group[S]] | None = None


class SubscriptionTree(Generic[S]):
    """The subscriptions of everybody. Subscribers are hashable, and told apart by ``==``.

    :ivar channels: what there is of each channel that somebody has a subscription to; for others only to see
        whether there is anything, which is cheaper than to match.
    """

    __slots__ = ("_places", "channels")

    def __init__(self) -> None:
        self.channels: dict[str, _Node[S]] = {}
        self._places: dict[S, dict[_Node[S] | Group[S], None]] = {}

    def subscribe(
        self, channel: str, levels: Sequence[str], subscriber: S, options: Options, share: str = ""
    ) -> bool:
        """Add a subscription, or replace the options of the one to the same levels.

        :param levels: the levels of a valid topic filter after ``messages``.
        :param share: the group's name; a subscription without one, or with another, is another.
        :return: whether it is a new one.
        """
        node = self.channels.get(channel)
        if node is None:
            node = self.channels[channel] = _Node(None, channel)
        for level in levels:
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node(node, level)
            node = child
        place: _Node[S] | Group[S] = _group(node, share) if share else node
        new = subscriber not in place.subscriptions
        place.subscriptions[subscriber] = options  # [MQTT-3.8.4-3]
        if new:
            self._places.setdefault(subscriber, {})[place] = None
        return new

    def unsubscribe(self, channel: str, levels: Sequence[str], subscriber: S, share: str = "") -> bool:
        """End the subscription to exactly these levels, in this group. :return: whether there was one."""
        node = self.channels.get(channel)
        for level in levels:
            if node is None:
                return False
            node = node.children.get(level)
        if node is None:
            return False
        place: _Node[S] | Group[S] | None = (node.groups or {}).get(share) if share else node
        if place is None or subscriber not in place.subscriptions:
            return False
        places = self._places[subscriber]
        del places[place]
        if not places:
            del self._places[subscriber]
        self._cut(place, subscriber)  # [MQTT-3.10.4-1] [MQTT-3.10.4-2]
        return True

    def remove(self, subscriber: S) -> None:
        """End every subscription of this subscriber, in time proportional to their levels."""
        for place in self._places.pop(subscriber, {}):
            self._cut(place, subscriber)

    def count(self, subscriber: S) -> int:
        """How many subscriptions this subscriber has, shared ones too."""
        return len(self._places.get(subscriber, {}))

    def match(
        self, channel: str, levels: Sequence[str], origin: S | None = None
    ) -> tuple[dict[S, Options], list[Group[S]]]:
        """Everybody with a subscription that matches a topic, each once, and the groups that match it.

        Levels are compared as they are [MQTT-3.3.2-3] [MQTT-4.7.3-4]. Overlapping subscriptions of one
        subscriber are joined: the highest QoS, all identifiers, no second copy [MQTT-3.3.4-5]. What it
        gets as the member of a group it gets besides (MQTT 5.0, 4.8.2).

        :param levels: the levels of a topic name after ``messages``.
        :param origin: who published it, and does not get it over a subscription with ``no_local``.
        :return: a dictionary of the caller's own, and groups as they are and may become.
        """
        found: dict[S, Options] = {}
        several: dict[S, list[Options]] | None = None  # those whose subscriptions overlap
        groups: list[Group[S]] = []
        root = self.channels.get(channel)
        if root is None:
            return found, groups
        nodes = [root]
        for level in levels:
            below: list[_Node[S]] = []
            for node in nodes:
                children = node.children
                rest = children.get(_REST)
                if rest is not None:
                    several = _collect(rest, found, several, groups, origin)
                child = children.get(_ONE)
                if child is not None:
                    below.append(child)
                # A wildcard is no literal level, not even where somebody managed to publish one.
                child = children.get(level) if level != _ONE and level != _REST else None
                if child is not None:
                    below.append(child)
            nodes = below
            if not nodes:
                break
        for node in nodes:
            several = _collect(node, found, several, groups, origin)
            rest = node.children.get(_REST)
            if rest is not None:  # "#" matches the level above it too (MQTT 5.0, 4.7.1.2)
                several = _collect(rest, found, several, groups, origin)
        if several is not None:
            for subscriber, overlapping in several.items():
                found[subscriber] = _joined(overlapping)
        return found, groups

    def _cut(self, place: _Node[S] | Group[S], subscriber: S) -> None:
        """Take the subscriber from its place, then cut off what has become empty, upwards."""
        del place.subscriptions[subscriber]
        if isinstance(place, Group):
            node = place.node
            if not place.subscriptions and node.groups is not None:
                del node.groups[place.name]
        else:
            node = place
        while not node.subscriptions and not node.children and not node.groups:
            parent = node.parent
            if parent is None:
                del self.channels[node.level]
                return
            del parent.children[node.level]
            node = parent


def _group(node: _Node[S], name: str) -> Group[S]:
    """The group of this name at a node, made when there is none."""
    if node.groups is None:
        node.groups = {}
    group = node.groups.get(name)
    if group is None:
        group = node.groups[name] = Group(name, node)
    return group


def _collect(
    node: _Node[S],
    found: dict[S, Options],
    several: dict[S, list[Options]] | None,
    groups: list[Group[S]],
    origin: S | None,
) -> dict[S, list[Options]] | None:
    """Add a node's subscriptions to what was found.

    :return: ``several``, with those that overlap; None while none do.
    """
    if node.groups:
        groups.extend(node.groups.values())
    subscriptions = node.subscriptions
    if not found and (origin is None or origin not in subscriptions):
        found.update(subscriptions)  # most topics match one filter: nobody needs a look of their own
        return several
    for subscriber, options in subscriptions.items():
        if options.no_local and origin is not None and subscriber == origin:  # [MQTT-3.8.3-3]
            continue
        other = found.get(subscriber)
        if other is None:
            found[subscriber] = options
        else:
            if several is None:
                several = {}
            several.setdefault(subscriber, [other]).append(options)
    return several


def _joined(overlapping: Sequence[Options]) -> Options:
    """What one copy of a message for overlapping subscriptions of one subscriber is to meet."""
    return Options(
        max(options.qos for options in overlapping),  # [MQTT-3.3.4-2], of 3.1.1 [MQTT-3.3.5-1]
        False,
        any(options.retain_as_published for options in overlapping),
        tuple(chain.from_iterable(options.identifiers for options in overlapping)),  # [MQTT-3.3.4-4]
    )
