"""What matching costs: never more than what is there, whatever the wildcards (MQTT 5.0, 4.7.1).

Work is counted, in looks at the children of a node, not timed.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mfserver.errors import Overloaded
from mfserver.message import MQTT, Message
from mfserver.routing.retained import Retained
from mfserver.routing.router import Router
from mfserver.routing.tree import Options, SubscriptionTree
from mfserver.topic import MAX_LEVELS, TopicFilter
from tests.adapters.fakes import Thing
from tests.builds import pure_only

_DEEPEST = MAX_LEVELS - 3
_SUBSCRIPTIONS = 200


class Counted(dict[str, Any]):
    """The children of a node, which count the looks at them.

    :cvar looks: children that were asked for by name or walked over.
    """

    looks = 0

    def get(self, key: str, default: Any = None) -> Any:
        Counted.looks += 1
        return super().get(key, default)

    def values(self) -> Any:
        Counted.looks += len(self)
        return super().values()


def counted(root: Any) -> int:
    """Count from now on the looks at the nodes below this one. :return: how many nodes there are."""
    Counted.looks = 0
    nodes = [root]
    for node in nodes:
        nodes.extend(node.children.values())
        node.children = Counted(node.children)
    return len(nodes)


class Listener:
    """Subscribes, and is never delivered to."""

    def __init__(self, name: str) -> None:
        self.thing = Thing(name, set())


def message(*levels: str, payload: bytes = b"x", retain: bool = False) -> Message:
    """A message on the one channel."""
    return Message("c", levels, ".".join(levels), "t", MQTT, payload, "", 0, retain=retain)


def long_filters() -> Iterator[tuple[str, ...]]:
    """As deep as a filter can be: ``+`` and ``a`` in every combination at their beginning, then all ``+``."""
    for start in product("+a", repeat=10):
        yield (*start, *"+" * (_DEEPEST - 10))


def bushy_filters() -> Iterator[tuple[str, ...]]:
    """The shortest on which as many nodes match one topic: 2, 4, 8... of each depth; each with ``#`` too."""
    for depth in range(1, 20):
        for levels in product("+a", repeat=depth):
            yield levels
            yield (*levels, "#")


class SubscriptionCostTests(SynchronousTestCase):
    """Matching a topic against hostile filters."""

    def fill(self, router: Router, name: str, filters: Iterator[tuple[str, ...]]) -> None:
        """Subscribe to as many as the bounds of one subscriber allow."""
        listener: Any = Listener(name)
        for levels in filters:
            try:
                router.subscribe(TopicFilter("c", levels), listener, Options(), exact=True)
            except Overloaded:
                return
        self.fail("the bounds of a subscriber were not met")

    def looks(self, subscribers: int, filters: Any) -> tuple[int, int]:
        """Looks at nodes for the deepest topic, and the nodes that there are."""
        router = Router(max_subscriptions=_SUBSCRIPTIONS)
        for number in range(subscribers):
            self.fill(router, str(number), ((*levels,) for levels in filters()))
        nodes = counted(router._exact.channels["c"])
        router.deliver(message(*"a" * _DEEPEST))
        router.deliver(message(*"a" * 7))
        return Counted.looks, nodes

    @pure_only
    def test_every_combination_of_wildcards_costs_no_more_than_their_nodes(self) -> None:
        """A topic of 125 levels after messages matches along 2**n paths, and looks at each node once."""
        for filters in (long_filters, bushy_filters):
            looks, nodes = self.looks(1, filters)
            self.assertLessEqual(looks, 2 * 3 * nodes, filters.__name__)
            self.assertGreater(looks, nodes // 2, filters.__name__)  # they were hostile
            self.assertLessEqual(nodes, 8 * _SUBSCRIPTIONS, filters.__name__)

    @pure_only
    def test_other_subscribers_to_the_same_filters_add_no_nodes(self) -> None:
        """A hundred who subscribe to the same hostile filters cost the walk nothing more than one."""
        self.assertEqual(self.looks(1, bushy_filters), self.looks(100, bushy_filters))

    @pure_only
    def test_the_walk_is_as_long_as_the_filters(self) -> None:
        """Twice as many other filters, twice as many looks: nothing grows faster."""

        def looks(channels: int) -> int:
            router = Router(max_subscriptions=_SUBSCRIPTIONS)
            for number in range(channels):
                self.fill(router, str(number), ((str(number), *levels) for levels in bushy_filters()))
            counted(router._exact.channels["c"])
            router.deliver(message("0", *"a" * 7))
            return Counted.looks

        self.assertEqual(looks(1), looks(8))  # what does not match is not walked

    def test_overlapping_subscriptions_with_identifiers_are_joined_in_linear_time(self) -> None:
        """Each identifier is copied a few times, not once for each subscription that matches besides."""
        copied = [0]

        class Counted(tuple[int, ...]):
            def __add__(self, other: Any) -> Any:
                copied[0] += len(self) + len(other)
                return Counted((*self, *other))

        tree: SubscriptionTree[str] = SubscriptionTree()
        for number in range(2**8):
            levels = ["+a"[number >> bit & 1] for bit in range(8)]
            tree.subscribe("c", levels, "s", Options(1, identifiers=Counted((number + 1,))))
        found, _ = tree.match("c", ["a"] * 8)
        self.assertEqual(sorted(found["s"].identifiers), list(range(1, 257)))
        self.assertLessEqual(copied[0], 4 * 256)


class RetainedCostTests(SynchronousTestCase):
    """Matching a filter against hostile retained topics."""

    def setUp(self) -> None:
        self.retained = Retained(5_000, 1 << 24, lambda *_: None, lambda: 0)

    def looks(self, *levels: str) -> int:
        """Looks at nodes for one filter."""
        Counted.looks = 0
        self.retained.match(TopicFilter("c", levels))
        return Counted.looks

    def test_every_combination_of_wildcards_costs_no_more_than_the_topics(self) -> None:
        """Whatever stands where in a filter, each level of each retained topic is looked at once."""
        for levels in product("ab", repeat=9):
            self.retained.keep(message(*levels, retain=True))
        self.retained.keep(message(*"a" * _DEEPEST, retain=True))
        nodes = counted(self.retained._channels["c"])
        for filters in product("+a", repeat=9):
            self.assertLessEqual(self.looks(*filters), nodes + len(filters))
            self.assertLessEqual(self.looks(*filters[:5], "#"), nodes + 6)
        for levels in (("#",), ("+",) * _DEEPEST, (*"+" * (_DEEPEST - 1), "#")):
            self.assertLessEqual(self.looks(*levels), nodes + _DEEPEST)
        self.assertGreater(self.looks("#"), 2**9)

    def test_one_topic_is_found_by_its_levels(self) -> None:
        """A filter without wildcards looks at its own levels, however much else is retained."""
        for number in range(2_000):
            self.retained.keep(message("a", str(number), retain=True))
        counted(self.retained._channels["c"])
        self.assertEqual(self.looks("a", "7"), 2)
