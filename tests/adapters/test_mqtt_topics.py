"""Long topics that a client publishes on are parsed once."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.adapters.mqtt_topics import Topics

LONG = "channels/c/messages/" + "x" * 300


class TopicsTests(SynchronousTestCase):
    """So many at most, and all that they hold is counted."""

    def test_short(self) -> None:
        """A short one is parsed anew, and nothing is kept of it."""
        topics = Topics(2)
        for name in "channels/c/messages", "channels/c/messages":
            topic = topics.parse(name)
            assert topic is not None
            self.assertEqual("c", topic.channel)
        self.assertEqual(0, topics.size)

    def test_long(self) -> None:
        """A long one is the same object the next time, and the oldest goes for a newer one."""
        topics = Topics(2)
        first = topics.parse(LONG)
        self.assertIs(first, topics.parse(LONG))
        self.assertEqual(3 * len(LONG), topics.size)
        topics.parse(LONG + "1")
        topics.parse(LONG + "2")
        self.assertEqual(3 * 2 * (len(LONG) + 1), topics.size)
        self.assertIsNot(first, topics.parse(LONG))

    def test_none_of_ours(self) -> None:
        """What is no topic of ours is none the next time, too; without room for any it is parsed anew."""
        topics = Topics(2)
        self.assertEqual([None, None], [topics.parse("weather/" + LONG) for _ in range(2)])
        self.assertIsNone(topics.parse("weather"))
        none = Topics(0)
        self.assertIsNotNone(none.parse(LONG))
        self.assertEqual(0, none.size)
