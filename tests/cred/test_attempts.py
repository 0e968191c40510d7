"""Who keeps failing waits; nobody is locked out."""

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mfserver.cred.attempts import Attempts
from mfserver.errors import SlowDown
from mfserver.interfaces import IAttempts


class AttemptsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def attempts(self, **limits: float) -> Attempts:
        """One failure costs a second, three are free."""
        options = {"interval": 1.0, "burst": 3, "longest": 30.0, "patience": 5.0, "max_waiting": 2, **limits}
        return Attempts(self.clock, **options)  # type: ignore[arg-type]

    def fail_often(self, attempts: Attempts, times: int, *subjects: str) -> None:
        for _ in range(times):
            attempts.failed(*subjects)

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(IAttempts, self.attempts()))

    def test_without_failures_nobody_waits(self) -> None:
        attempts = self.attempts()
        for _ in range(100):
            self.successResultOf(attempts.admit("address a", "account b"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_first_failures_are_free(self) -> None:
        attempts = self.attempts()
        self.fail_often(attempts, 2, "a")
        self.successResultOf(attempts.admit("a"))
        attempts.failed("a")
        self.assertNoResult(attempts.admit("a"))

    def test_is_free(self) -> None:
        """As long as nobody would have to wait; it costs no place and no time."""
        attempts = self.attempts()
        self.assertTrue(attempts.is_free("a", "b"))
        for free in (True, True, False, False):
            attempts.failed("a")
            self.assertEqual((free, True), (attempts.is_free("b", "a"), attempts.is_free("b")))
        self.clock.advance(1.9)
        self.assertFalse(attempts.is_free("a"))
        self.clock.advance(0.2)
        self.assertTrue(attempts.is_free("a"))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_it_passes_with_time(self) -> None:
        attempts = self.attempts()
        self.fail_often(attempts, 4, "a")
        waiting = attempts.admit("a", "b")
        self.clock.advance(1.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.2)
        self.assertIsNone(self.successResultOf(waiting))

    def test_those_who_wait_come_one_by_one(self) -> None:
        attempts = self.attempts()
        self.fail_often(attempts, 3, "a")
        first, second = attempts.admit("a"), attempts.admit("a")
        self.clock.advance(1)
        self.successResultOf(first)
        self.assertNoResult(second)
        self.clock.advance(1)
        self.successResultOf(second)

    def test_few_wait_and_the_rest_is_refused(self) -> None:
        attempts = self.attempts()
        self.fail_often(attempts, 3, "a")
        attempts.admit("a")
        attempts.admit("a")
        refused = self.failureResultOf(attempts.admit("a", "b"), SlowDown)
        self.assertEqual(refused.value.retry_after, 3.0)
        self.successResultOf(attempts.admit("b"))

    def test_nobody_waits_for_long(self) -> None:
        attempts = self.attempts()
        self.fail_often(attempts, 9, "a")
        refused = self.failureResultOf(attempts.admit("a"), SlowDown)
        self.assertEqual(refused.value.retry_after, 7.0)

    def test_no_failure_locks_out(self) -> None:
        """However many there were, ``longest`` later it is over."""
        attempts = self.attempts()
        self.fail_often(attempts, 1000, "a")
        self.failureResultOf(attempts.admit("a"), SlowDown)
        self.clock.advance(30)
        self.successResultOf(attempts.admit("a"))

    def test_the_worst_subject_decides(self) -> None:
        attempts = self.attempts()
        self.fail_often(attempts, 4, "account")
        attempts.failed("address")
        self.assertNoResult(attempts.admit("address", "account"))
        self.successResultOf(attempts.admit("address"))

    def test_success_forgets(self) -> None:
        attempts = self.attempts()
        self.fail_often(attempts, 9, "a", "b")
        attempts.succeeded("a", "never failed")
        self.successResultOf(attempts.admit("a"))
        self.failureResultOf(attempts.admit("b"), SlowDown)

    def test_who_gives_up_frees_the_place(self) -> None:
        attempts = self.attempts(max_waiting=1)
        self.fail_often(attempts, 3, "a")
        waiting = attempts.admit("a")
        self.failureResultOf(attempts.admit("a"), SlowDown)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertNoResult(attempts.admit("a"))
        self.clock.advance(10)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_the_table_is_bounded(self) -> None:
        """The one that failed least lately is forgotten first."""
        attempts = self.attempts(max_subjects=3, burst=1)
        for subject in "abacd":
            attempts.failed(subject)
        self.assertEqual(len(attempts._records), 3)
        self.successResultOf(attempts.admit("b"))
        for subject in "acd":
            self.assertNoResult(attempts.admit(subject))

    def test_what_is_paid_off_is_forgotten(self) -> None:
        attempts = self.attempts()
        attempts.failed()
        for number in range(50):
            attempts.failed(str(number))
        self.clock.advance(2)
        attempts.failed("a")
        self.assertEqual(list(attempts._records), ["a"])
