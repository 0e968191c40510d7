"""One address has a share of what is slow, and no more."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.errors import SlowDown
from mfserver.provisioning.turnstile import Turnstile


class TurnstileTests(SynchronousTestCase):
    """Two places for each address."""

    def test_share(self) -> None:
        turnstile = Turnstile(2)
        with turnstile.passed("a"), turnstile.passed("a"):
            with self.assertRaises(SlowDown), turnstile.passed("a"):
                pass
            with turnstile.passed("b"):
                pass
        with turnstile.passed("a"):
            pass
        self.assertEqual({}, turnstile._inside)

    def test_given_back_after_an_error(self) -> None:
        turnstile = Turnstile(1)

        def fail() -> None:
            with turnstile.passed("a"):
                raise KeyError

        self.assertRaises(KeyError, fail)
        self.assertEqual({}, turnstile._inside)
