"""The tree of subscriptions, against a matcher that only reads the rules."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mfserver.routing.tree import Options, SubscriptionTree

LEVEL = st.sampled_from(["a", "b", "", "$SYS", "a.b"])
TOPIC = st.lists(LEVEL, max_size=5).map(tuple)
FILTER = st.tuples(st.lists(LEVEL | st.just("+"), max_size=4), st.sampled_from([[], ["#"]])).map(
    lambda parts: (*parts[0], *parts[1])
)
CHANNEL = st.sampled_from(["c", "d"])
SUBSCRIBER = st.sampled_from(["one", "two", "three"])
SHARE = st.sampled_from(["", "", "g", "h"])
STEP = st.tuples(
    st.sampled_from(["subscribe", "subscribe", "subscribe", "unsubscribe", "remove"]),
    CHANNEL,
    FILTER,
    SUBSCRIBER,
    st.integers(0, 2),
    st.booleans(),
    SHARE,
)


def matches(levels: tuple[str, ...], topic: tuple[str, ...]) -> bool:
    """MQTT 5.0, 4.7.1, read aloud."""
    if levels == ("#",):
        return True
    if not levels or not topic:
        return levels == topic
    return levels[0] in ("+", topic[0]) and matches(levels[1:], topic[1:])


class TreeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.tree: SubscriptionTree[str] = SubscriptionTree()

    def assert_empty(self) -> None:
        """Nothing is left behind, neither nodes nor subscribers."""
        self.assertEqual((self.tree.channels, self.tree._places), ({}, {}))

    @settings(max_examples=150, deadline=None)
    @given(st.lists(STEP, max_size=25), st.lists(TOPIC, min_size=1, max_size=5))
    def test_against_the_rules(
        self,
        steps: list[tuple[str, str, tuple[str, ...], str, int, bool, str]],
        topics: list[tuple[str, ...]],
    ) -> None:
        """Whatever is subscribed, ended and matched, in any order: the rules' answer; in the end, nothing."""
        self.setUp()
        known: dict[tuple[str, tuple[str, ...], str, str], tuple[int, bool]] = {}
        for what, channel, levels, subscriber, qos, no_local, share in steps:
            key = (channel, levels, subscriber, share)
            if what == "subscribe":
                new = self.tree.subscribe(channel, levels, subscriber, Options(qos, no_local), share)
                self.assertEqual(new, key not in known)
                known[key] = (qos, no_local)
            elif what == "unsubscribe":
                self.assertEqual(self.tree.unsubscribe(channel, levels, subscriber, share), key in known)
                known.pop(key, None)
            else:
                self.tree.remove(subscriber)
                known = {key: value for key, value in known.items() if key[2] != subscriber}
            self.assertEqual(self.tree.count(subscriber), sum(key[2] == subscriber for key in known))
        for topic in topics:
            for channel in ("c", "d"):
                self.assert_found(known, channel, topic)
        for channel, levels, subscriber, share in known:
            self.assertTrue(self.tree.unsubscribe(channel, levels, subscriber, share))
        self.assert_empty()

    def assert_found(
        self,
        known: dict[tuple[str, tuple[str, ...], str, str], tuple[int, bool]],
        channel: str,
        topic: tuple[str, ...],
    ) -> None:
        """What "one" publishes finds whom the rules name, and each matching group with its members."""
        single: dict[str, int] = {}
        shared: dict[tuple[tuple[str, ...], str], dict[str, int]] = {}
        for (at, levels, subscriber, share), (qos, no_local) in known.items():
            if at != channel or not matches(levels, topic):
                continue
            if share:
                shared.setdefault((levels, share), {})[subscriber] = qos
            elif not (no_local and subscriber == "one"):
                single[subscriber] = max(single.get(subscriber, 0), qos)
        found, groups = self.tree.match(channel, topic, "one")
        self.assertEqual({name: options.qos for name, options in found.items()}, single)
        members = [
            (group.name, sorted((name, options.qos) for name, options in group.subscriptions.items()))
            for group in groups
        ]
        expected = [(share, sorted(members.items())) for (_, share), members in shared.items()]
        self.assertEqual(sorted(members), sorted(expected))

    def test_examples_of_the_specification(self) -> None:
        """MQTT 5.0, 4.7.1.2 and 4.7.1.3."""
        for levels, topic, expected in (
            ("sport/tennis/player1/#", "sport/tennis/player1", True),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
            ("sport/#", "sport", True),
            ("#", "sport/tennis", True),
            ("sport/tennis/+", "sport/tennis/player1", True),
            ("sport/tennis/+", "sport/tennis/player1/ranking", False),
            ("sport/+", "sport", False),
            ("sport/+", "sport/", True),
            ("+/+", "/finance", True),
            ("/+", "/finance", True),
            ("+", "/finance", False),
        ):
            with self.subTest(levels=levels, topic=topic):
                self.setUp()
                self.tree.subscribe("c", levels.split("/"), "one", Options())
                self.assertEqual("one" in self.tree.match("c", topic.split("/"))[0], expected)
                self.assertEqual(self.tree.match("d", topic.split("/"))[0], {})

    def test_the_channel_itself(self) -> None:
        """``channels/<id>/messages`` has no further level; ``#`` takes it as well, ``+`` not."""
        for subscriber, levels in (("exact", ()), ("all", ("#",)), ("one", ("+",))):
            self.tree.subscribe("c", levels, subscriber, Options())
        self.assertEqual(set(self.tree.match("c", ())[0]), {"exact", "all"})
        self.assertEqual(set(self.tree.match("c", ("a",))[0]), {"all", "one"})

    def test_a_published_wildcard_is_only_text(self) -> None:
        """Should one ever get here, it matches nobody's literal wildcard twice or at all."""
        self.tree.subscribe("c", ("a", "#"), "one", Options(identifiers=(7,)))
        self.tree.subscribe("c", ("+",), "two", Options(identifiers=(8,)))
        self.assertEqual(self.tree.match("c", ("a", "#"))[0]["one"].identifiers, (7,))
        self.assertEqual(self.tree.match("c", ("+",))[0]["two"].identifiers, (8,))

    def test_overlapping_subscriptions_are_joined(self) -> None:
        """The highest QoS, every identifier, one message [MQTT-3.3.4-2] [MQTT-3.3.4-3]."""
        self.tree.subscribe("c", ("a",), "one", Options(0, False, True, (1,)))
        self.tree.subscribe("c", ("+",), "one", Options(2, True, False, (2,)))
        self.tree.subscribe("c", ("#",), "one", Options(1))
        found = self.tree.match("c", ("a",))[0]["one"]
        self.assertEqual((found.qos, found.retain_as_published, sorted(found.identifiers)), (2, True, [1, 2]))

    def test_no_local_leaves_the_other_subscriptions(self) -> None:
        """[MQTT-3.8.3-3]; what an overlapping one without it asks for still comes, with its QoS."""
        self.tree.subscribe("c", ("+",), "one", Options(2, no_local=True))
        self.tree.subscribe("c", ("+",), "two", Options(2, no_local=True))
        self.assertEqual(set(self.tree.match("c", ("a",), "one")[0]), {"two"})
        self.tree.subscribe("c", ("#",), "one", Options(1))
        self.assertEqual(self.tree.match("c", ("a",), "one")[0]["one"].qos, 1)
        self.assertEqual(self.tree.match("c", ("a",), "two")[0]["one"].qos, 2)

    def test_a_subscription_is_replaced(self) -> None:
        self.assertTrue(self.tree.subscribe("c", ("a",), "one", Options(2)))
        self.assertFalse(self.tree.subscribe("c", ("a",), "one", Options(0)))
        self.assertEqual(self.tree.match("c", ("a",))[0]["one"].qos, 0)
        self.assertEqual(self.tree.count("one"), 1)

    def test_what_is_found_is_the_callers(self) -> None:
        """Who ends a subscription while its message is delivered disturbs nobody."""
        self.tree.subscribe("c", ("a",), "one", Options())
        found = self.tree.match("c", ("a",))[0]
        self.tree.remove("one")
        self.assertEqual(list(found), ["one"])
        self.tree.subscribe("c", ("a",), "two", Options())
        self.tree.match("c", ("a",))[0].clear()
        self.assertEqual(list(self.tree.match("c", ("a",))[0]), ["two"])

    def test_groups_are_told_apart(self) -> None:
        """By their filter and their name, and from what is subscribed to unshared (MQTT 5.0, 4.8.2)."""
        for share, levels in (("g", ("a",)), ("g", ("+",)), ("h", ("a",)), ("", ("a",))):
            self.assertTrue(self.tree.subscribe("c", levels, "one", Options(), share))
        found, groups = self.tree.match("c", ("a",))
        self.assertEqual((list(found), sorted(group.name for group in groups)), (["one"], ["g", "g", "h"]))
        self.assertEqual(self.tree.count("one"), 4)
        self.assertFalse(self.tree.unsubscribe("c", ("a",), "one", "x"))
        self.assertFalse(self.tree.unsubscribe("c", ("a",), "two", "g"))
        self.assertTrue(self.tree.unsubscribe("c", ("a",), "one"))
        self.assertFalse(self.tree.unsubscribe("c", ("a",), "one"))
        self.assertEqual(len(self.tree.match("c", ("a",))[1]), 3)
        self.tree.remove("one")
        self.assert_empty()

    def test_a_member_keeps_its_turn(self) -> None:
        """When it changes its options: who asks again is not served more often."""
        for name in ("one", "two"):
            self.tree.subscribe("c", ("a",), name, Options(0), "g")
        self.assertFalse(self.tree.subscribe("c", ("a",), "one", Options(2), "g"))
        (group,) = self.tree.match("c", ("a",))[1]
        self.assertEqual(
            [(name, one.qos) for name, one in group.subscriptions.items()], [("one", 2), ("two", 0)]
        )

    def test_a_group_holds_its_node(self) -> None:
        """The end of the others cuts off neither it nor its way; its own end cuts off only what is empty."""
        self.tree.subscribe("c", ("a", "b"), "one", Options(), "g")
        self.tree.subscribe("c", ("a", "b"), "two", Options())
        self.tree.subscribe("c", ("a", "b", "c"), "two", Options())
        self.tree.remove("two")
        self.assertEqual(len(self.tree.match("c", ("a", "b"))[1]), 1)
        self.tree.subscribe("c", ("a", "b"), "two", Options())
        self.tree.remove("one")
        self.assertEqual(self.tree.match("c", ("a", "b"))[1], [])
        self.assertEqual(list(self.tree.match("c", ("a", "b"))[0]), ["two"])
        self.tree.remove("two")
        self.assert_empty()

    def test_unsubscribe_asks_for_the_same_levels(self) -> None:
        """A filter is ended by itself and by nothing that matches it."""
        self.tree.subscribe("c", ("a", "b"), "one", Options())
        for levels in ((), ("a",), ("a", "+"), ("#",), ("a", "b", "c", "d")):
            self.assertFalse(self.tree.unsubscribe("c", levels, "one"))
        self.assertFalse(self.tree.unsubscribe("d", (), "one"))
        self.assertFalse(self.tree.unsubscribe("c", ("a", "b"), "two"))
        self.assertTrue(self.tree.unsubscribe("c", ("a", "b"), "one"))
        self.assert_empty()

    def test_what_others_use_is_not_cut_off(self) -> None:
        self.tree.subscribe("c", ("a",), "one", Options())
        self.tree.subscribe("c", ("a", "b", "c"), "two", Options())
        self.tree.subscribe("c", ("a", "x"), "three", Options())
        self.tree.remove("two")
        self.assertEqual(set(self.tree.match("c", ("a", "x"))[0]), {"three"})
        self.tree.remove("three")
        self.assertEqual(set(self.tree.match("c", ("a",))[0]), {"one"})
        self.tree.remove("one")
        self.tree.remove("never here")
        self.assert_empty()

    def test_hostile_filters_cost_no_more_than_their_nodes(self) -> None:
        """Filters of ``+`` and ``a`` in every combination: 2**n paths, each node visited once."""
        visits = 0

        class Counted(dict[str, object]):
            def get(self, key: str, default: object = None) -> object:
                nonlocal visits
                visits += 1
                return super().get(key, default)

        depth = 7
        for number in range(2**depth):
            self.tree.subscribe(
                "c", ["+a"[number >> bit & 1] for bit in range(depth)], str(number), Options()
            )
        pending = [self.tree.channels["c"]]
        nodes = 0
        while pending:
            node = pending.pop()
            nodes += 1
            pending += node.children.values()
            node.children = Counted(node.children)  # type: ignore[assignment]
        self.assertEqual(len(self.tree.match("c", ["a"] * depth)[0]), 2**depth)
        self.assertLessEqual(visits, 3 * nodes)
