"""The topics that a client publishes on are parsed once, where they are long or come often."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.adapters.mqtt_topics import Topics

LONG = "channels/c/messages/" + "x" * 300


class TopicsTests(SynchronousTestCase):
    """So many at most, and all that long ones hold is counted."""

    def test_usual(self) -> None:
        """Of usual ones a few are known, and never more."""
        topics = Topics(2)
        self.assertEqual({}, topics.known)
        for number in range(9):
            name = f"channels/{number}/messages"
            topic = topics.parse(name)
            assert topic is not None
            self.assertEqual(str(number), topic.channel)
            self.assertIs(topic, topics.known[name])
            self.assertLessEqual(len(topics.known), 4)
        self.assertEqual(["channels/8/messages"], list(topics.known))
        self.assertEqual({}, Topics(2).known)
        self.assertEqual(0, topics.size)

    def test_unusual(self) -> None:
        """Nothing is kept of one that is neither usual nor long, or none of ours."""
        topics = Topics(2)
        for name in LONG[:150], "channels/c/messages/" + "x/" * 17, "weather":
            topics.parse(name)
        self.assertEqual(({}, 0), (topics.known, topics.size))

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
