"""The last message of each topic, against a dictionary and a matcher that only reads the rules."""

from sys import getsizeof

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mfserver.errors import Overloaded
from mfserver.message import Message
from mfserver.routing.retained import Retained
from mfserver.topic import TopicFilter, parse_filter
from tests.builds import attributes
from tests.routing.cases import mqtt
from tests.routing.test_tree import CHANNEL, FILTER, TOPIC, matches

STEP = st.tuples(
    st.sampled_from(["keep", "keep", "keep", "clear", "gone", "later"]),
    CHANNEL,
    TOPIC,
    st.sampled_from([0, 0, 1, 2, 5]),
)


class RetainedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = 1000
        self.recorded: list[tuple[str, tuple[str, ...], Message | None]] = []
        self.retained = self.make()

    def make(self, max_messages: int = 1000, max_bytes: int = 10_000_000) -> Retained:
        return Retained(max_messages, max_bytes, self.record, lambda: self.time)

    def record(self, channel: str, levels: tuple[str, ...], message: Message | None) -> None:
        self.recorded.append((channel, levels, message))

    def keep(self, subtopic: str, payload: bytes = b"x", channel: str = "c", expires: int = 0) -> Message:
        published = retained(subtopic, payload, channel, expires)
        self.retained.keep(published)
        return published

    def found(self, subtopic: str, channel: str = "c") -> list[str]:
        """The topics of what a filter finds."""
        return sorted(
            "/".join(one.levels) for one in self.retained.match(TopicFilter(channel, levels_of(subtopic)))
        )

    def assert_empty(self) -> None:
        """Nothing is left behind."""
        self.assertEqual((len(self.retained), self.retained.size), (0, 0))
        self.assertEqual((self.retained._channels, self.retained._expiring), ({}, {}))

    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(STEP, max_size=25),
        st.lists(st.tuples(CHANNEL, FILTER), min_size=1, max_size=5),
    )
    def test_against_the_rules(
        self,
        steps: list[tuple[str, str, tuple[str, ...], int]],
        filters: list[tuple[str, tuple[str, ...]]],
    ) -> None:
        """Whatever is kept, cleared, expires or goes with its channel: what matches is found, and no more.

        The journal, in the end, holds the same.
        """
        self.setUp()
        known: dict[tuple[str, tuple[str, ...]], tuple[bytes, int]] = {}
        for number, (what, channel, levels, seconds) in enumerate(steps):
            expires = self.time + seconds if seconds else 0
            if what == "keep":
                self.retained.keep(made(channel, levels, b"%d" % number, expires))
                known[channel, levels] = (b"%d" % number, expires)
            elif what == "clear":
                self.retained.keep(made(channel, levels, b"", expires))
                known.pop((channel, levels), None)
            elif what == "gone":
                self.retained.channels_gone([channel, "never there"])
                known = {key: value for key, value in known.items() if key[0] != channel}
                self.recorded = [entry for entry in self.recorded if entry[0] != channel]
            else:
                self.time += seconds
        known = {key: value for key, value in known.items() if not value[1] or value[1] > self.time}
        for channel, levels in filters:
            expected = {
                key: value for key, value in known.items() if key[0] == channel and matches(levels, key[1])
            }
            found = self.retained.match(TopicFilter(channel, levels))
            self.assertEqual(
                sorted((one.channel, one.levels, one.payload, one.expires) for one in found),
                sorted((*key, *value) for key, value in expected.items()),
            )
            self.assertEqual({one.retain for one in found} | {True}, {True})
        for channel in ("c", "d"):
            self.retained.match(TopicFilter(channel, ("#",)))
        self.assertEqual(len(self.retained), len(known))
        recorded = {(channel, levels): message for channel, levels, message in self.recorded}
        self.assertEqual(
            {key: (one.payload, one.expires) for key, one in recorded.items() if one is not None}, known
        )
        for channel, levels in known:
            self.retained.keep(made(channel, levels, b"", 0))
        self.assert_empty()

    def test_a_copy_is_kept_and_given_out(self) -> None:
        """With all fields, RETAIN set, and nothing of what others hold or leave in it."""
        published = mqtt(
            "channels/c/messages/a", 2, object(), b"x", retain=True, properties={1: 1}, expires=9000
        )
        published.key, published.encoded = 7, {5: b"long"}
        self.retained.keep(published)
        (first,), (second,) = (self.retained.match(parse_filter("channels/c/messages/#")) for _ in range(2))
        kept = self.recorded[0][2]
        assert kept is not None
        for copy in (kept, first, second):
            self.assertEqual((copy.origin, copy.key, copy.encoded, copy.retain), (None, 0, None, True))
            for name in {"size", *attributes(Message)} - {"_size", "origin", "key", "encoded"}:
                self.assertEqual(getattr(copy, name), getattr(published, name), name)
        first.encoded, first.key = {5: b"long"}, 8
        self.assertEqual((second.encoded, second.key, kept.encoded, kept.key), (None, 0, None, 0))
        restored = self.make()
        restored.restore([mqtt("channels/c/messages/a", payload=b"x")])
        self.assertTrue(restored.match(parse_filter("channels/c/messages/a"))[0].retain)

    def test_replace_and_clear(self) -> None:
        """At any QoS; an empty one clears and is not kept itself, and what is not there needs no clearing."""
        for payload in (b"1", b"2"):
            self.keep("a", payload)
        (found,) = self.retained.match(parse_filter("channels/c/messages/a"))
        self.assertEqual((found.payload, len(self.retained)), (b"2", 1))
        for subtopic in ("a", "a", "b", "a/b", ""):
            self.keep(subtopic, b"")
        self.keep("", b"", "d")
        self.assertEqual(len(self.recorded), 3)
        self.assertEqual(self.recorded[2], ("c", ("a",), None))
        self.assert_empty()

    def test_shared_filters_get_none(self) -> None:
        self.keep("a")
        self.assertEqual(self.retained.match(parse_filter("$share/g/channels/c/messages/a")), [])
        self.assertEqual(self.found("a"), ["a"])

    def test_what_others_use_is_not_cut_off(self) -> None:
        for subtopic in ("a", "a/b/c", "a/x"):
            self.keep(subtopic)
        self.keep("a/b/c", b"")
        self.assertEqual(self.found("#"), ["a", "a/x"])
        self.keep("a", b"")
        self.assertEqual(self.found("#"), ["a/x"])
        self.keep("a/x", b"")
        self.assert_empty()

    def test_count_is_bounded(self) -> None:
        """As many as may be, and no more; to replace or clear one is always possible."""
        self.retained = self.make(max_messages=2)
        for subtopic in "ab":
            self.retained.check(retained(subtopic))
            self.keep(subtopic)
        for subtopic in ("c", "a/b", ""):
            with self.assertRaises(Overloaded):
                self.retained.check(retained(subtopic))
        self.retained.check(retained("a", b"y"))
        self.retained.check(retained("c", b""))
        self.retained.check(mqtt("channels/c/messages/c", payload=b"x"))
        self.keep("a", b"")
        self.retained.check(retained("c"))

    def test_bytes_are_bounded(self) -> None:
        """Exactly the bound fits, and one byte more does not: alone, and in the place of another."""
        self.keep("a/b", bytes(100))
        size = self.retained.size
        for bound, fits in ((size, True), (size - 1, False)):
            self.retained = self.make(max_bytes=bound)
            for before in ((), (b"y",)):
                for payload in before:
                    self.keep("a/b", payload)
                if fits:
                    self.retained.check(retained("a/b", bytes(100)))
                else:
                    with self.assertRaises(Overloaded):
                        self.retained.check(retained("a/b", bytes(100)))
            self.keep("a/b", bytes(100))
            self.assertEqual((len(self.retained), self.retained.dropped), (fits, not fits))

    def test_sizes(self) -> None:
        """All that a message holds counts, so that no part of it is a way around the bound."""
        plain = retained("a", b"")
        for change in (
            {"payload": bytes(1000)},
            {"content_type": "t" * 1000},
            {"publisher": "p" * 1000},
            {"subtopic": "s" * 1000},
            {"levels": ("l" * 1000,)},
            {"levels": ("a", "b", "c")},
            {"levels": ("",) * 20},
            {"channel": "c" * 1000},
            {"properties": {1: b"p" * 1000}},
            {"properties": {38: [("n" * 500, "v" * 500)]}},
            {"properties": {38: [("", "")] * 20}},
        ):
            with self.subTest(change=change):
                sizes = []
                for changes in ({}, change):
                    one = retained("a", b"x")
                    for name, value in changes.items():
                        setattr(one, name, value)
                    self.retained = self.make()
                    self.retained.keep(one)
                    sizes.append(self.retained.size)
                self.assertGreater(sizes[1] - sizes[0], 800)
        self.assertLess(sizes[0], 2500 + getsizeof(plain.payload))

    def test_what_does_not_fit_clears(self) -> None:
        """A will asks nobody: what was true before it is not true any more, and it is counted."""
        self.retained = self.make(max_bytes=5000)
        self.keep("status", b"online")
        self.keep("status", bytes(6000))
        self.assertEqual(self.recorded[-1], ("c", ("status",), None))
        self.assertEqual(self.retained.dropped, 1)
        self.assert_empty()
        self.keep("other", bytes(6000))
        self.assertEqual((len(self.recorded), self.retained.dropped), (2, 2))

    def test_expiry(self) -> None:
        """Up to its time it is found, from then on not, and then it takes no room [MQTT-3.3.2-5]."""
        self.keep("a", expires=1010)
        self.keep("a/b")
        self.time = 1009
        self.assertEqual(self.found("#"), ["a", "a/b"])
        self.time = 1010
        self.assertEqual(self.found("#"), ["a/b"])
        self.assertEqual(self.recorded[-1], ("c", ("a",), None))
        self.assertEqual(len(self.retained), 1)
        self.keep("a/b", b"")
        self.assert_empty()

    def test_expired_ones_give_way(self) -> None:
        """Without being looked at by anybody; a replaced one's old time means nothing."""
        self.retained = self.make(max_messages=2)
        self.keep("a", expires=1010)
        self.keep("b", expires=1020)
        self.keep("a", expires=1020)
        self.time = 1010
        with self.assertRaises(Overloaded):
            self.retained.check(retained("c"))
        self.keep("b", b"y")
        self.time = 1020
        self.retained.check(retained("c"))
        self.assertEqual(self.found("#"), ["b"])

    def test_a_sweep_is_bounded(self) -> None:
        """However many expire at once, each call drops a few; all in the end."""
        for number in range(250):
            self.keep(str(number), expires=1010)
        self.time = 1010
        for left in (150, 50, 0, 0):
            self.retained.check(retained("x"))
            self.assertEqual(len(self.retained), left)
        self.assert_empty()

    def test_replaced_times_do_not_pile_up(self) -> None:
        """One topic published again and again holds one time, about."""
        for _ in range(2000):
            self.keep("a", expires=99_999)
        self.assertLess(len(self.retained._expiries), 110)
        for number in range(200):
            self.keep(str(number), expires=99_000 - number)
        self.time = 99_000
        self.retained.check(retained("x"))
        self.retained.check(retained("x"))
        self.assertEqual(self.found("#"), ["a"])

    def test_order_of_expiry(self) -> None:
        """Whatever was cleared in between, the first to expire goes first."""
        for number in range(300):
            self.keep(str(number), expires=2000 + number * 37 % 301)
        for number in range(300):
            if number % 6:
                self.keep(str(number), b"")
        self.keep("last", expires=3000)
        self.assertEqual(len(self.retained._expiries), len(self.retained))
        for self.time in range(2000, 2301, 7):
            self.retained.check(retained("x"))
            left = sum(2000 + number * 37 % 301 > self.time for number in range(0, 300, 6))
            self.assertEqual(len(self.retained), 1 + left)

    def test_channels_gone(self) -> None:
        """With their messages and all they took; the journal hears it from who says so."""
        for channel in "cde":
            for subtopic in ("a", "a/b", ""):
                self.keep(subtopic, channel=channel, expires=1010)
        count = len(self.recorded)
        self.retained.channels_gone(["c", "d", "x"])
        self.assertEqual((len(self.retained), len(self.recorded)), (3, count))
        self.assertEqual((self.found("#"), self.found("#", "e")), ([], ["", "a", "a/b"]))
        self.retained.channels_gone(["e"])
        self.assert_empty()
        self.time = 1010
        self.retained.check(retained("x"))
        self.assertEqual(len(self.recorded), count)

    def test_restore(self) -> None:
        """What was kept is there again, the journal is not told, and a lower bound loses none of it."""
        self.retained = self.make(max_messages=1, max_bytes=1)
        self.retained.restore([retained("a", expires=1010), retained("b"), retained("c", channel="d")])
        self.assertEqual((len(self.retained), self.recorded), (3, []))
        self.assertEqual((self.found("#"), self.found("c", "d")), (["a", "b"], ["c"]))
        with self.assertRaises(Overloaded):
            self.retained.check(retained("b"))
        self.time = 1010
        self.assertEqual(self.found("#"), ["b"])
        self.retained.channels_gone(["c", "d"])
        self.assert_empty()

    def test_hostile_filters_cost_no_more_than_their_nodes(self) -> None:
        """``+`` at every level, and ``#`` behind: each node is looked at once."""
        for number in range(2**7):
            self.keep("/".join("ab"[number >> bit & 1] for bit in range(7)))
        for topic_filter, expected in (
            ("/".join("+" * 7), 128),
            ("/".join("+" * 6) + "/#", 128),
            ("#", 128),
            ("/".join("+" * 7) + "/#", 128),
            ("/".join("+" * 8), 0),
            ("/".join("+" * 100) + "/#", 0),
            ("a/+/a/+/a/+/#", 16),
        ):
            self.assertEqual(len(self.found(topic_filter)), expected)


def levels_of(subtopic: str) -> tuple[str, ...]:
    return tuple(subtopic.split("/")) if subtopic else ()


def made(channel: str, levels: tuple[str, ...], payload: bytes, expires: int) -> Message:
    """A message on any levels."""
    return Message(channel, levels, "", "p", "mqtt", payload, "", 0, 1, True, None, None, expires)


def retained(subtopic: str, payload: bytes = b"x", channel: str = "c", expires: int = 0) -> Message:
    """A message with RETAIN."""
    topic = "/".join(("channels", channel, "messages", *levels_of(subtopic)))
    return mqtt(topic, payload=payload, retain=True, expires=expires)
