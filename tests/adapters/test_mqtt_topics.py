"""The topics that a client publishes on are parsed once, where they are long or come often."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.adapters.mqtt_topics import Topics

LONG = "channels/c/messages/" + "x" * 300


class TopicsTests(SynchronousTestCase):
    """So many at most, and all that long ones hold is counted."""

    def test_usual(self) -> None:
        """The last one stands ready, a few more are known, and never more."""
        topics = Topics(2)
        names = [f"channels/{number}/messages" for number in range(9)]
        found = {}
        for name in names:
            topic = found[name] = topics.find(name)
            assert topic is not None
            self.assertEqual(name.split("/")[1], topic.channel)
            self.assertEqual((name, topic), (topics.name, topics.latest))
            self.assertIs(topic, topics.find(name))
            self.assertLessEqual(len(topics._others or ()), 4)
        kept = [name for name in reversed(names) if topics.find(name) is found[name]]
        self.assertEqual(names[:3:-1], kept)
        self.assertEqual(0, topics.size)

    def test_a_few_in_turn(self) -> None:
        """Each of a few is parsed once, however often another comes between."""
        topics = Topics(2)
        names = [f"channels/{number}/messages" for number in range(4)]
        first = [topics.find(name) for name in names]
        for _ in range(3):
            for name, topic in zip(names, first, strict=True):
                self.assertIs(topic, topics.find(name))

    def test_one(self) -> None:
        """Who has but one topic pays for one."""
        topics = Topics(2)
        topics.find("channels/c/messages")
        topics.find("".join(["channels/", "c/messages"]))
        self.assertIsNone(topics._others)

    def test_unusual(self) -> None:
        """Nothing is kept of one that is neither usual nor long, or none of ours."""
        topics = Topics(2)
        for name in LONG[:150], "channels/c/messages/" + "x/" * 17, "weather", "":
            topics.find(name)
            self.assertEqual(("", None, None, 0), (topics.name, topics.latest, topics._others, topics.size))

    def test_long(self) -> None:
        """A long one is the same object the next time, and the oldest goes for a newer one."""
        topics = Topics(2)
        first = topics.find(LONG)
        self.assertIs(first, topics.find(LONG))
        self.assertEqual(3 * len(LONG), topics.size)
        topics.find(LONG + "1")
        topics.find(LONG + "2")
        self.assertEqual(3 * 2 * (len(LONG) + 1), topics.size)
        self.assertIsNot(first, topics.find(LONG))

    def test_none_of_ours(self) -> None:
        """What is no topic of ours is none the next time, too; without room for any it is parsed anew."""
        topics = Topics(2)
        self.assertEqual([None, None], [topics.find("weather/" + LONG) for _ in range(2)])
        self.assertIsNone(topics.find("weather"))
        none = Topics(0)
        self.assertIsNotNone(none.find(LONG))
        self.assertEqual(0, none.size)
