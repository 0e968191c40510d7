"""What all clients together may hold is bounded, and comes back."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.budget import Budget


class BudgetTests(SynchronousTestCase):
    """A budget of ten bytes."""

    def test_taken_and_given(self) -> None:
        budget = Budget(10)
        self.assertTrue(budget.take(6))
        self.assertFalse(budget.take(5))
        self.assertTrue(budget.take(4))
        budget.give(6)
        self.assertEqual(4, budget.used)
        self.assertTrue(budget.take(6))
