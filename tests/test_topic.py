"""Topics: what each protocol writes, and what it becomes."""

from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mfserver.errors import Invalid
from mfserver.topic import MAX_BYTES, MAX_LEVELS, parse, parse_filter, parse_path, parse_path_filter

PIECES = ["a", "ct", "text_plain", "*", ">", ".", "%2e", "%2F", "%00", "%ff", "%", "é", "+", "#", "", "\x7f"]


class ParseTests(SynchronousTestCase):
    """The topic name of an MQTT PUBLISH."""

    def test_topics(self) -> None:
        for text, levels, subtopic, content_type in (
            ("channels/c/messages", (), "", ""),
            ("/channels/c/messages", (), "", ""),
            ("channels/c/messages/", ("",), "", ""),
            ("channels/c/messages/a/b", ("a", "b"), "a.b", ""),
            ("channels/c/messages/a.b//c./", ("a.b", "", "c.", ""), "a.b.c", ""),
            ("channels/c/messages/ct/application_senml-json", (), "", "application/senml+json"),
            ("channels/c/messages/a/ct/text_plain", ("a",), "a", "text/plain"),
            ("channels/c/messages/ct", ("ct",), "ct", ""),
            ("channels/c/messages/ct/", ("ct", ""), "ct", ""),
            ("channels/c/messages/ct/a/b", ("ct", "a", "b"), "ct.a.b", ""),
            ("channels/c/messages/$SYS", ("$SYS",), "$SYS", ""),
        ):
            with self.subTest(text=text):
                topic = parse(text)
                self.assertEqual(
                    (topic.channel, topic.levels, topic.subtopic, topic.content_type),
                    ("c", levels, subtopic, content_type),
                )

    def test_what_is_no_topic_of_ours(self) -> None:
        for text in (
            "",
            "/",
            "channels",
            "channels/c",
            "channels/c/",
            "channels//messages",
            "//channels/c/messages",
            "channels/c/message",
            "channels/c/messagesx/a",
            "Channels/c/messages",
            "x/channels/c/messages",
            "$SYS/c/messages",
            "$share/g/channels/c/messages",
        ):
            with self.subTest(text=text), self.assertRaises(Invalid):
                parse(text)

    def test_levels_are_bounded(self) -> None:
        start = "channels/c/messages"
        self.assertEqual(len(parse(start + "/a" * (MAX_LEVELS - 3)).levels), MAX_LEVELS - 3)
        for read in (parse, parse_filter):
            with self.assertRaises(Invalid):
                read(start + "/a" * (MAX_LEVELS - 2))


class ParseFilterTests(SynchronousTestCase):
    """The topic filter of an MQTT SUBSCRIBE."""

    def test_filters(self) -> None:
        for text, levels, share, has_wildcard in (
            ("channels/c/messages", (), "", False),
            ("/channels/c/messages/a", ("a",), "", False),
            ("channels/c/messages/#", ("#",), "", True),
            ("channels/c/messages/+/a/+/#", ("+", "a", "+", "#"), "", True),
            ("channels/c/messages//", ("", ""), "", False),
            ("$share/group/channels/c/messages/a", ("a",), "group", False),
            ("$share/group//channels/c/messages/+", ("+",), "group", True),
        ):
            with self.subTest(text=text):
                found = parse_filter(text)
                self.assertEqual(
                    (found.channel, found.levels, found.share, found.has_wildcard),
                    ("c", levels, share, has_wildcard),
                )

    def test_bad_filters(self) -> None:
        """[MQTT-4.7.1-1] [MQTT-4.8.2-1] [MQTT-4.8.2-2], and no wildcard for the channel or before it."""
        for text in (
            "#",
            "+/c/messages",
            "channels/#",
            "channels/+/messages",
            "channels/a+/messages",
            "channels/a#/messages",
            "channels/c/+",
            "channels/c/messages/a+",
            "channels/c/messages/+a",
            "channels/c/messages/a#",
            "channels/c/messages/#/a",
            "channels/c/messages/#/#",
            "channels/c/messages#",
            "$share",
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//channels/c/messages",
            "$share/+/channels/c/messages",
            "$share/g#/channels/c/messages",
            "$share/g/$share/g/channels/c/messages",
            "$SHARE/g/channels/c/messages",
        ):
            with self.subTest(text=text), self.assertRaises(Invalid):
                parse_filter(text)


class ParsePathTests(SynchronousTestCase):
    """Where HTTP, WebSocket and CoAP publish."""

    def test_paths(self) -> None:
        for text, levels, content_type in (
            ("", (), ""),
            ("a/b", ("a", "b"), ""),
            ("a.b/c", ("a", "b", "c"), ""),
            ("//a/./..b/", ("a", "b"), ""),
            ("%61%2E%62", ("a", "b"), ""),
            ("a%20b", ("a b",), ""),
            ("%C3%A9", ("é",), ""),
            ("é", ("é",), ""),
            ("a+b".replace("+", "%25"), ("a%b",), ""),
            ("ct/text_plain", (), "text/plain"),
            ("a/ct/application_senml-json", ("a",), "application/senml+json"),
            ("ct", ("ct",), ""),
            ("ct/a/b", ("ct", "a", "b"), ""),
        ):
            with self.subTest(text=text):
                topic = parse_path("c", text)
                self.assertEqual(
                    (topic.channel, topic.levels, topic.subtopic, topic.content_type),
                    ("c", levels, ".".join(levels), content_type),
                )

    def test_bad_paths(self) -> None:
        for text in (
            "*",
            "a*",
            ">",
            "a/>b",
            "%2A",
            "%3e",
            "ct/*",
            "+",
            "a%2Bb",
            "%23",
            "#",
            "a%2Fb",
            "%00",
            "%0a",
            "%1f",
            "\x7f",
            "%C2%80",
            "%EF%BF%BE",
            "%EF%B7%90",
            "%F4%8F%BF%BF",
            "%ff",
            "%C3",
            "%ED%A0%80",
            "%",
            "%4",
            "%zz",
            "a/%",
        ):
            with self.subTest(text=text):
                with self.assertRaises(Invalid):
                    parse_path("c", text)
                if text not in ("*", ">", "%2A", "%3e", "ct/*"):
                    with self.assertRaises(Invalid):
                        parse_path_filter("c", text)

    def test_bad_channels(self) -> None:
        for channel in ("", "*", "a>", "+", "%23", "a%2Fb", "%00", "%ff", "%"):
            for read in (parse_path, parse_path_filter):
                with self.subTest(channel=channel), self.assertRaises(Invalid):
                    read(channel, "a")

    def test_bounds(self) -> None:
        """It must be a topic that every MQTT client accepts: 65,535 bytes, counted as UTF-8."""
        room = MAX_BYTES - len("channels/c/messages/")
        self.assertEqual(parse_path("c", "a" * room).levels, ("a" * room,))
        self.assertEqual(len(parse_path("c", "a." * (MAX_LEVELS - 3)).levels), MAX_LEVELS - 3)
        for text in ("a" * (room + 1), "é" * (room // 2 + 1), "a." * (MAX_LEVELS - 2)):
            for read in (parse_path, parse_path_filter):
                with self.subTest(text=text[:3]), self.assertRaises(Invalid):
                    read("c", text)

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.sampled_from(PIECES), max_size=5), st.sampled_from(["/", "."]))
    def test_what_is_taken_is_the_same_mqtt_topic(self, pieces: list[str], separator: str) -> None:
        """The topic that an MQTT client is sent reads back as the same subtopic and says no wildcard."""
        try:
            topic = parse_path("c", separator.join(pieces))
        except Invalid:
            return
        self.assertEqual(topic.subtopic, ".".join(topic.levels))
        if topic.levels[-2:-1] != ("ct",):
            again = parse("/".join(("channels", "c", "messages", *topic.levels)))
            self.assertEqual((again.levels, again.subtopic), (topic.levels, topic.subtopic))
        self.assertFalse(any(set(level) & set("/+#*>\0") or not level for level in topic.levels))
        path = "/".join(quote(level, safe="") for level in topic.levels)
        if "ct" not in topic.levels:
            self.assertEqual(parse_path("c", path).levels, topic.levels)
            self.assertEqual(parse_path_filter("c", path).levels, topic.levels)


class ParsePathFilterTests(SynchronousTestCase):
    """Where WebSocket and CoAP listen."""

    def test_filters(self) -> None:
        for text, levels in (
            ("", ()),
            ("a/b.c", ("a", "b", "c")),
            ("*", ("+",)),
            ("a/*/b", ("a", "+", "b")),
            ("a.*.b", ("a", "+", "b")),
            (">", ("+", "#")),
            ("a/>", ("a", "+", "#")),
            ("a.>/", ("a", "+", "#")),
            ("%2A/%3E", ("+", "+", "#")),
            ("ct/text_plain", ("ct", "text_plain")),
        ):
            with self.subTest(text=text):
                found = parse_path_filter("c", text)
                self.assertEqual((found.channel, found.levels, found.share), ("c", levels, ""))

    def test_bad_filters(self) -> None:
        for text in ("a*", "*a", "**", ">a", "a>", ">>", ">/a", ">.a", ">/>", ">/*"):
            with self.subTest(text=text), self.assertRaises(Invalid):
                parse_path_filter("c", text)

    def test_levels_are_bounded(self) -> None:
        """``>`` is two of MQTT's levels."""
        parse_path_filter("c", "a." * (MAX_LEVELS - 5) + ">")
        with self.assertRaises(Invalid):
            parse_path_filter("c", "a." * (MAX_LEVELS - 4) + ">")
