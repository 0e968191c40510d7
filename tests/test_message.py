"""Messages, as every subscriber is handed them."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver import message
from mfserver.message import Message


class MessageTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """A protocol without qualities of service publishes with 1, and nothing of MQTT's travels along."""
        made = Message("c", (), "", "t", message.HTTP, b"x", "", 1)
        self.assertEqual((made.qos, made.retain, made.properties, made.origin), (1, False, None, None))

    def test_fields(self) -> None:
        origin = object()
        made = Message("c", ("a",), "a", "t", message.MQTT, b"x", "text/plain", 7, 2, True, {1: 1}, origin)
        self.assertEqual(
            (made.channel, made.levels, made.subtopic, made.publisher, made.protocol, made.payload),
            ("c", ("a",), "a", "t", "mqtt", b"x"),
        )
        self.assertEqual((made.content_type, made.created, made.qos, made.retain), ("text/plain", 7, 2, True))
        self.assertEqual((made.properties, made.origin), ({1: 1}, origin))

    def test_topic(self) -> None:
        for levels, topic in (((), ""), (("",), "/"), (("a", "", "b"), "/a//b")):
            made = Message("c", levels, "", "t", message.MQTT, b"", "", 0)
            self.assertEqual(made.topic, "channels/c/messages" + topic)

    def test_encodings_are_shared_by_no_two_messages(self) -> None:
        one, other = (Message("c", (), "", "t", message.WS, b"", "", 0) for _ in range(2))
        one.encoded = {1: b"x"}
        self.assertIsNone(other.encoded)

    def test_what_is_long_counts(self) -> None:
        """A message counts as its payload, and as long topics and properties besides: they take room, too."""

        def size(levels: tuple[str, ...] = (), properties: dict[int, object] | None = None) -> int:
            return Message("c", levels, "", "t", message.MQTT, b"12345", "", 0, properties=properties).size

        self.assertEqual(5, size(("a",) * 16))
        self.assertEqual(5, size(("a" * 256,)))
        self.assertGreater(size(("." * 60_000,)), 60_000)
        self.assertGreater(size(("a",) * 125), 125 * 40)
        self.assertGreater(size((), {8: "t" * 60_000}), 60_000)
        self.assertGreater(size((), {9: b"c" * 60_000}), 60_000)
        pairs: list[tuple[str, str]] = [("name" * 10, "value")] * 1024
        self.assertGreater(size((), {38: pairs}), 1024 * 150)
