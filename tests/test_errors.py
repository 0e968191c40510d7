"""The errors, and the facts that they carry."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver import errors
from mfserver.errors import ConfigurationError, Invalid, MFServerError, SlowDown, TooLarge


class ErrorTests(SynchronousTestCase):
    def test_all_have_one_base(self) -> None:
        """An adapter that knows the base knows them all."""
        for name in errors.__all__:
            self.assertTrue(issubclass(getattr(errors, name), MFServerError))

    def test_facts(self) -> None:
        configuration = ConfigurationError("no such file", "--cert")
        self.assertEqual((str(configuration), configuration.option), ("no such file", "--cert"))
        self.assertIsNone(ConfigurationError("no such file").option)
        invalid = Invalid("too long", "name")
        self.assertEqual((str(invalid), invalid.field), ("too long", "name"))
        self.assertIsNone(Invalid("too long").field)
        self.assertEqual(TooLarge("too large", 10).limit, 10)
        self.assertEqual(SlowDown("too many", 1.5).retry_after, 1.5)
