"""What all clients together may hold is bounded, and comes back."""

from twisted.trial.unittest import SynchronousTestCase

from mfserver.budget import Budget


class BudgetTests(SynchronousTestCase):
    """A budget of ten bytes."""

    def test_taken_and_given(self) -> None:
        budget = Budget(10)
        self.assertTrue(budget.take(6, "a"))
        self.assertFalse(budget.take(5, "a"))
        self.assertTrue(budget.take(4, "b"))
        budget.give(6, "a")
        self.assertEqual(4, budget.used)
        self.assertTrue(budget.take(6, "b"))

    def test_per_address(self) -> None:
        """One neighbour cannot take what everybody needs, and leaves nothing behind."""
        budget = Budget(10, 4)
        self.assertTrue(budget.take(4, "a"))
        self.assertFalse(budget.take(1, "a"))
        self.assertTrue(budget.take(0, "b"))
        self.assertTrue(budget.take(4, "b"))
        self.assertFalse(budget.take(3, "c"))
        budget.give(3, "a")
        self.assertTrue(budget.take(3, "a"))
        for address in "a", "b":
            budget.give(4, address)
        budget.give(0, "c")
        self.assertEqual((0, {}), (budget.used, budget._addresses))
