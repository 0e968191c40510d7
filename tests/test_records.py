"""The records, and what may be a thing key."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.records import Claims, Thing, ThingId, UserId, is_thing_key


class ThingKeyTests(SynchronousTestCase):
    def test_keys(self) -> None:
        for key in ("a" * 16, "Z" * 64, "0123456789._~-ab", "20000000-0000-4000-8000-000000000001"):
            with self.subTest(key=key):
                self.assertTrue(is_thing_key(key))

    def test_what_is_no_key(self) -> None:
        """Nothing that a DN, a URL, a header or a shell could read as something else."""
        good = "a" * 16
        for key in (
            "",
            "a" * 15,
            "a" * 65,
            good + "\n",
            "\n" + good,
            good + "\0",
            *(good + odd for odd in " ,+=/\\\"'<>#;:@%&*?!$()[]{}|^`\t\x7f"),
            good + "é",
            good + "\u0661",
            good + "\uff41",
            good + "\udc80",
        ):
            with self.subTest(key=key):
                self.assertFalse(is_thing_key(key))


class ReprTests(SynchronousTestCase):
    def test_keys_are_shown_nowhere(self) -> None:
        """A record in a log line or a traceback gives no secret away."""
        thing = Thing(ThingId("the-id"), UserId("u"), "the-secret-thing-key")
        claims = Claims("192.0.2.1", ("the-secret-thing-key",), "the-id")
        for record in (thing, claims):
            for text in (repr(record), str(record), f"{record}"):
                self.assertNotIn("secret", text)
        self.assertIn("the-id", repr(thing))
        self.assertIn("192.0.2.1", repr(claims))
