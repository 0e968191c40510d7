"""A stranger's mistakes fill no log."""

from collections.abc import Sequence
from typing import cast

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mfserver.repeats import Repeats


class RepeatsTests(SynchronousTestCase):
    """One line a minute of each kind."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.repeats = Repeats(self.clock)
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def lines(self) -> Sequence[str]:
        """What was logged since the last time."""
        events, self.events[:] = list(self.events), []
        self.assertEqual({"warn"} if events else set(), {event["log_level"].name for event in events})
        return [formatEvent(event) for event in events]

    def test_first(self) -> None:
        """The first of each kind at once, with its details."""
        self.repeats.report("refused", "192.0.2.1")
        self.repeats.report("failed", "192.0.2.2")
        self.assertEqual(["refused: 192.0.2.1", "failed: 192.0.2.2"], self.lines())

    def test_details_are_no_format(self) -> None:
        """Braces in what a peer sent mean nothing."""
        self.repeats.report("refused", "{log_level} {0}")
        self.assertEqual(["refused: {log_level} {0}"], self.lines())

    def test_more(self) -> None:
        """The others are counted, and told with the last of them when a minute is over."""
        for index in range(1001):
            self.repeats.report("refused", str(index))
        self.assertEqual(["refused: 0"], self.lines())
        self.clock.advance(59.9)
        self.assertEqual([], self.lines())
        self.clock.advance(0.2)
        self.assertEqual(["refused: 1000 more in the last minute; the last, 1000"], self.lines())

    def test_silence(self) -> None:
        """After a minute without any it begins anew, and nothing is kept."""
        self.repeats.report("refused", "1")
        self.clock.advance(60)
        self.assertEqual([], self.clock.getDelayedCalls())
        self.repeats.report("refused", "2")
        self.assertEqual(["refused: 1", "refused: 2"], self.lines())

    def test_it_goes_on(self) -> None:
        """Whatever happens however often: one line a minute."""
        for _ in range(5):
            for _ in range(60):
                self.repeats.report("refused", "x")
                self.clock.advance(1)
        self.assertEqual(6, len(self.lines()))
        self.clock.pump([60, 60])
        self.lines()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_kinds_are_bounded(self) -> None:
        """Past a hundred kinds nothing is logged or kept; there is room again after a minute."""
        for index in range(150):
            self.repeats.report(f"kind {index}", "x")
        self.assertEqual(100, len(self.lines()))
        self.assertEqual(100, len(self.clock.getDelayedCalls()))
        self.clock.advance(60)
        self.repeats.report("kind 149", "x")
        self.assertEqual(["kind 149: x"], self.lines())
