"""One flush for everybody who asked, at the end of each turn."""

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mfserver.turn import Turn


class Flushed:
    """Remembers that it was flushed, and does what a test wants then."""

    def __init__(self, name: str, told: list[str], and_then: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.told = told
        self.and_then = and_then

    def flush(self) -> None:
        self.told.append(self.name)
        self.and_then()


class TurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.turn = Turn(self.clock)
        self.told: list[str] = []

    def flushed(self, name: str, and_then: Callable[[], None] = lambda: None) -> Flushed:
        return Flushed(name, self.told, and_then)

    def test_once(self) -> None:
        """However often it asks, it is flushed once, and not again in the next turn."""
        protocol, transport = self.flushed("protocol"), self.flushed("transport")
        for _ in range(5):
            self.turn.add_transport(transport)
            self.turn.add(protocol)
        self.assertEqual(self.told, [])
        self.clock.advance(0)
        self.assertEqual(self.told, ["protocol", "transport"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.turn.end()
        self.assertEqual(len(self.told), 2)

    def test_in_order(self) -> None:
        """Protocols first, then transports, each in the order in which they asked."""
        for name in "cab":
            self.turn.add_transport(self.flushed(name.upper()))
            self.turn.add(self.flushed(name))
        self.clock.advance(0)
        self.assertEqual("".join(self.told), "cabCAB")

    def test_brackets(self) -> None:
        """Who reads many connections ends the turn: no timed call is asked for."""
        self.turn.begin()
        self.turn.add(self.flushed("protocol"))
        self.turn.add_transport(self.flushed("transport"))
        self.assertEqual((self.told, self.clock.getDelayedCalls()), ([], []))
        self.turn.end()
        self.assertEqual((self.told, self.clock.getDelayedCalls()), (["protocol", "transport"], []))

    def test_asked_for_before_the_brackets(self) -> None:
        """The bracket's end serves those, too; the timed call that was asked for finds nothing to do."""
        self.turn.add(self.flushed("early"))
        self.turn.begin()
        self.turn.add(self.flushed("late"))
        self.turn.end()
        self.assertEqual(self.told, ["early", "late"])
        self.clock.advance(0)
        self.assertEqual(self.told, ["early", "late"])
        self.turn.add(self.flushed("again"))
        self.clock.advance(0)
        self.assertEqual(self.told, ["early", "late", "again"])

    def test_transports_of_protocols(self) -> None:
        """What a protocol writes when it is flushed leaves in the same turn."""
        transport = self.flushed("transport")
        self.turn.add(self.flushed("protocol", lambda: self.turn.add_transport(transport)))
        self.clock.advance(0)
        self.assertEqual(self.told, ["protocol", "transport"])

    def test_asked_for_while_it_ends(self) -> None:
        """Who asks during its own flush waits for the next turn: nobody has this one alone."""
        for add in (self.turn.add, self.turn.add_transport):
            self.told.clear()
            busy = self.flushed("busy")
            busy.and_then = lambda add=add, busy=busy: add(busy)  # type: ignore[misc]
            add(busy)
            self.turn.begin()
            self.turn.end()
            self.assertEqual(self.told, ["busy"])
            [call] = self.clock.getDelayedCalls()
            self.assertEqual(call.getTime(), self.clock.seconds())
            busy.and_then = lambda: None
            self.clock.advance(0)
            self.assertEqual(self.told, ["busy", "busy"])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_fails(self) -> None:
        """The others are flushed all the same, and the next turn comes."""

        def break_down() -> None:
            raise ZeroDivisionError("ono")

        self.turn.add(self.flushed("a", break_down))
        self.turn.add(self.flushed("b"))
        self.turn.add_transport(self.flushed("A", break_down))
        self.turn.add_transport(self.flushed("B"))
        self.clock.advance(0)
        self.assertEqual("".join(self.told), "abAB")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.turn.add(self.flushed("c"))
        self.clock.advance(0)
        self.assertEqual("".join(self.told), "abABc")

    def test_clock_set_back(self) -> None:
        """The end of the turn is not put off for as long as the clock was set back."""
        self.clock.advance(1000)
        self.turn.add(self.flushed("before"))
        self.clock.rightNow = 10.0
        self.turn.add(self.flushed("after"))
        self.clock.advance(0)
        self.assertEqual(self.told, ["before", "after"])
