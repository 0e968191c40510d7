"""Points in time: each comes once, at its time, whatever the wall clock does."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mfserver.routing.deadlines import Deadlines

START = 1_600_000_000


class DeadlinesTests(SynchronousTestCase):
    """On a clock that moves when the test says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.offset = 0.0
        self.called: list[str] = []
        self.deadlines: Deadlines[str] = Deadlines(self.due, self.now, self.clock)

    def now(self) -> int:
        return START * 1_000_000_000 + int((self.clock.seconds() + self.offset) * 1e9)

    def due(self, key: str) -> None:
        self.called.append(key)
        if key == "again":
            self.deadlines.set("again", START + int(self.clock.seconds()) + 1)
        if key == "bad":
            raise ValueError(key)
        if key.startswith("slow"):
            self.clock.rightNow += 0.02
        if key == "stop":
            self.deadlines.stop()

    def test_in_time(self) -> None:
        """Each is called at its second, the earliest first, and none before."""
        for key, seconds in (("b", 20), ("a", 10), ("c", 100)):
            self.deadlines.set(key, START + seconds)
        self.clock.advance(9.5)
        self.assertEqual([], self.called)
        self.clock.advance(0.5)
        self.assertEqual(["a"], self.called)
        self.assertEqual(
            (2, False, True), (len(self.deadlines), "a" in self.deadlines, "c" in self.deadlines)
        )
        self.clock.pump([10] * 9)
        self.assertEqual((["a", "b", "c"], []), (self.called, self.clock.getDelayedCalls()))

    def test_past(self) -> None:
        """One that is past is called in the next turn, not at once."""
        self.deadlines.set("a", START - 100)
        self.assertEqual([], self.called)
        self.clock.advance(0)
        self.assertEqual(["a"], self.called)

    def test_later(self) -> None:
        """Only one that comes before all others moves the timer: of a crowd that leaves, the first does."""
        self.deadlines.set("b", START + 20)
        [timer] = self.clock.getDelayedCalls()
        for name in ("c", "d"):
            self.deadlines.set(name, START + 20)
        self.assertEqual([timer], self.clock.getDelayedCalls())
        self.deadlines.set("a", START + 10)
        self.assertEqual([10.0], [call.getTime() for call in self.clock.getDelayedCalls()])
        self.clock.pump([10, 10])
        self.assertEqual(["a", "b", "c", "d"], self.called)

    def test_changed(self) -> None:
        """The last word counts; what was dropped is not called, and may be set again."""
        self.deadlines.set("a", START + 10)
        self.deadlines.set("a", START + 30)
        self.deadlines.set("b", START + 10)
        self.deadlines.drop("b")
        self.deadlines.drop("never there")
        self.clock.advance(20)
        self.assertEqual([], self.called)
        self.deadlines.set("b", START + 30)
        self.clock.advance(10)
        self.assertEqual({"a", "b"}, set(self.called))

    def test_same_again(self) -> None:
        """One that is dropped and set to the same second is called once, and costs nothing in the end."""
        for _ in range(1000):
            self.deadlines.drop("a")
            self.deadlines.set("a", START + 10)
        self.assertLess(len(self.deadlines._heap), 100)
        self.clock.advance(10)
        self.assertEqual(["a"], self.called)

    def test_forgotten(self) -> None:
        """What was dropped is not held on to until its year has passed."""
        for number in range(1000):
            self.deadlines.set(str(number), START + 365 * 86_400)
        for number in range(1000):
            self.deadlines.drop(str(number))
        self.assertLess(len(self.deadlines._heap), 100)

    def test_clock_set_forward(self) -> None:
        """A wall clock that is set forward is noticed within a minute."""
        self.deadlines.set("a", START + 86_400)
        self.clock.advance(1)
        self.offset = 86_400
        self.clock.advance(60)
        self.assertEqual(["a"], self.called)

    def test_clock_set_back(self) -> None:
        """One that is set back makes nobody early."""
        self.deadlines.set("a", START + 10)
        self.offset = -3600
        self.clock.advance(10)
        self.assertEqual([], self.called)

    def test_error(self) -> None:
        """One that fails is logged, and does not stop the others."""
        self.deadlines.set("bad", START)
        self.deadlines.set("good", START)
        self.clock.advance(0)
        self.assertEqual(["bad", "good"], self.called)
        self.assertEqual(1, len(self.flushLoggedErrors(ValueError)))

    def test_slow(self) -> None:
        """One that takes long is the last of its turn: others want theirs."""
        turns: list[int] = []
        call_later = self.clock.callLater

        def calling(*said: Any) -> Any:
            turns.append(len(self.called))
            return call_later(*said)

        for number in range(5):
            self.deadlines.set(f"slow {number}", START + 10)
        self.clock.callLater = calling  # type: ignore[method-assign,assignment]
        self.clock.advance(11)
        self.clock.advance(1)
        self.assertEqual(([1, 2, 3, 4], 5), (turns, len(self.called)))

    def test_set_by_itself(self) -> None:
        """One may set itself again, and stop all."""
        self.deadlines.set("again", START + 1)
        self.clock.pump([1, 1, 1])
        self.assertEqual(["again"] * 3, self.called)
        self.deadlines.set("stop", START + 3)
        self.deadlines.set("z", START + 3)
        self.clock.pump([0, 1, 1])
        self.assertEqual((["again"] * 3 + ["stop"], 0), (self.called, len(self.deadlines)))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_many(self) -> None:
        """Of very many in the same second some are called in each turn, so that others get theirs, too."""
        for number in range(1200):
            self.deadlines.set(str(number), START)
        self.clock.callLater(0, lambda: self.called.append("another"))
        self.clock.advance(0)
        self.assertEqual(1201, len(set(self.called)))
        self.assertEqual(500, self.called.index("another"))

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 9), st.integers(0, 4)), max_size=60))
    def test_any(self, steps: list[tuple[int, int, int]]) -> None:
        """Each key is called at the second that it was last set to, if it was not dropped since."""
        self.setUp()
        expected: list[tuple[int, int]] = []
        called: list[tuple[int, int]] = []
        at: dict[int, int] = {}
        deadlines: Deadlines[int] = Deadlines(
            lambda key: called.append((int(self.clock.seconds()), key)), self.now, self.clock
        )
        for key, seconds, passing in steps:
            now = int(self.clock.seconds())
            if seconds < 0:
                deadlines.drop(key)
                at.pop(key, None)
            else:
                deadlines.set(key, START + now + seconds)
                at[key] = now + seconds
            for _ in range(passing):
                self.clock.advance(1)
                now += 1
                due = [key for key, its in at.items() if its <= now]
                expected += [(now, key) for key in due]
                for key in due:
                    del at[key]
        self.assertEqual(sorted(expected), sorted(called))
        self.assertEqual(len(at), len(deadlines))

    def test_a_timer_that_comes_a_moment_early_does_not_spin(self) -> None:
        """Found by fuzzing: nanoseconds before the point in time, a float says that it is there already."""
        clock = Clock()
        looks = [0]

        def now() -> int:
            looks[0] += 1
            assert looks[0] < 100, "it spins"
            return 1_600_000_000_000_000_000 + int(clock.seconds() * 1e9)

        deadlines: Deadlines[str] = Deadlines(lambda key: None, now, clock)
        for _ in range(13):
            clock.advance(0.01)
        deadlines.set("key", 1_600_000_050)
        clock.advance(clock.getDelayedCalls()[0].getTime() - clock.seconds())
