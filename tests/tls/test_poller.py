"""Who is read, when, and how long the others wait for it."""

import socket
from collections.abc import Callable
from select import EPOLLIN, EPOLLOUT
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mfserver.tls.poller import Poller
from mfserver.turn import Turn
from tests.tls.sockets import Reactor


class Pipe:
    """Something to watch that is always ready, and what it does then."""

    def __init__(self, number: int, told: list[str], name: str, act: Callable[[], Any]) -> None:
        self.fd = number
        self.told = told
        self.name = name
        self.act = act

    def ready(self, events: int) -> None:
        self.told.append(self.name)
        self.act()

    def lose(self, error: BaseException) -> None:
        self.told.append(f"{self.name} lost: {type(error).__name__}")


class Stuck(Pipe):
    """One that cannot end."""

    def lose(self, error: BaseException) -> None:
        raise ZeroDivisionError("ono")


class Flushed:
    """Something that has written."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def flush(self) -> None:
        self.told.append("flushed")


class PollerCase(SynchronousTestCase):
    """Sockets of nobody, under a clock that stands still unless a test sets it."""

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.turn = Turn(self.reactor)
        self.now = 1000.0
        self.poller = Poller(self.reactor, self.turn, lambda: self.now)
        self.told: list[str] = []

    def watched(self, name: str, act: Callable[[], Any] = lambda: None, kind: type[Pipe] = Pipe) -> Pipe:
        """A socket with something to read."""
        ours, theirs = socket.socketpair()
        theirs.send(b"x")
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        watched = kind(ours.fileno(), self.told, name, act)
        self.poller.watch(watched, EPOLLIN)
        return watched


class PollerTests(PollerCase):
    """One turn."""

    def test_forgotten_in_the_same_turn(self) -> None:
        """Who was closed by what another one was told hears nothing of what was found before."""
        both: list[Pipe] = []

        def forget_other() -> None:
            if len(self.told) == 1:
                other = next(one for one in both if one.name != self.told[0])
                self.poller.forget(other)
                other.fd = -1

        both += [self.watched("a", forget_other), self.watched("b", forget_other)]
        self.poller.doRead()
        self.assertEqual(len(self.told), 1)

    def test_one_that_fails(self) -> None:
        """It is lost, and the others are read in the same turn."""

        def break_down() -> None:
            raise ZeroDivisionError("ono")

        self.watched("a", break_down)
        self.watched("b")
        self.poller.doRead()
        self.assertEqual(sorted(self.told), ["a", "a lost: ZeroDivisionError", "b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_one_that_cannot_even_be_lost(self) -> None:
        """It is watched no more, and the others hear that the reactor ends."""

        def break_down() -> None:
            raise ZeroDivisionError("ono")

        self.watched("a", break_down, Stuck)
        other = self.watched("b")
        self.poller.doRead()
        self.poller.doRead()
        self.assertEqual(sorted(self.told), ["a", "b", "b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.poller.forget(other)
        self.assertEqual(self.reactor.readers, [])

    def test_the_reactor_ends(self) -> None:
        """Everybody hears of it, whoever cannot end."""
        self.watched("a", kind=Stuck)
        self.watched("b")
        self.poller.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.told, ["b lost: ConnectionDone"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_the_turn_ends(self) -> None:
        """Whatever happened, what was written leaves."""

        self.watched("a", lambda: self.turn.add_transport(Flushed(self.told)))
        self.watched("b", lambda: self.turn.add(Flushed(self.told)))
        self.poller.doRead()
        self.assertEqual(sorted(self.told[:2]), ["a", "b"])
        self.assertEqual(self.told[2:], ["flushed", "flushed"])

    def test_nobody_left(self) -> None:
        """The last one takes the poller out of the reactor; the next one brings it back."""
        for _ in range(2):
            self.assertEqual((self.reactor.readers, self.poller.fileno()), ([], -1))
            watched = self.watched("a", lambda: None)
            self.assertEqual(self.reactor.readers, [self.poller])
            self.poller.forget(watched)
            self.poller.forget(watched)
        self.assertEqual(self.reactor.readers, [])

    def test_the_last_leaves_in_the_middle_of_a_turn(self) -> None:
        watched = self.watched("a", lambda: self.poller.forget(watched))
        self.poller.doRead()
        self.assertEqual((self.reactor.readers, self.poller.fileno()), ([], -1))

    def test_forgotten_again(self) -> None:
        """It is nothing to forget who is forgotten, or closed, whoever has the descriptor by now."""
        first, second = self.watched("a"), self.watched("b")
        self.poller.forget(first)
        self.poller.forget(first)
        fd, second.fd = second.fd, -1
        self.poller.forget(second)
        first.fd = fd
        self.poller.forget(first)
        second.fd = fd
        self.poller.doRead()
        self.assertEqual(self.told, ["b"])
        self.poller.forget(second)
        self.assertEqual(self.reactor.readers, [])

    def test_nobody_watches_on(self) -> None:
        """Other events may be asked for after the poller has ended: nothing happens."""
        watched = self.watched("a")
        self.poller.forget(watched)
        self.poller.watch_for(watched, EPOLLOUT)
        self.assertEqual(self.reactor.readers, [])


class ShareTests(PollerCase):
    """Time is shared: who crowds one listener starves nobody at another."""

    def take(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    def crowd(self, count: int, seconds: float) -> None:
        """So many sockets that always have something, and the time that each of them takes."""
        for number in range(count):
            self.watched(str(number), lambda: self.take(seconds))

    def heard(self) -> int:
        """How many are heard in a turn."""
        self.told.clear()
        self.poller.doRead()
        return len(self.told)

    def test_who_waits_is_first(self) -> None:
        """A turn ends when its time is over, and the next one begins with those who were not heard."""
        self.crowd(40, 0.001)
        self.poller.doRead()
        self.assertEqual(len(self.told), 16)
        self.poller.doRead()
        self.assertEqual(len(set(self.told)), 32)

    def test_as_long_as_there_is_time(self) -> None:
        """Many who need little are heard in one turn, and what they write leaves at its end."""
        self.crowd(40, 0.0001)
        flushed = Flushed(self.told)
        self.watched("writes", lambda: self.turn.add_transport(flushed))
        self.assertEqual(self.heard(), 49)
        self.assertEqual(len(set(self.told)), 42)
        self.assertEqual(self.told[-1], "flushed")

    def test_as_much_as_the_others(self) -> None:
        """Where the others of the reactor's turn took a tenth of a second, a tenth is ours, too."""
        self.crowd(40, 0.001)
        self.assertEqual(self.heard(), 16)
        self.take(0.1)
        self.assertEqual(self.heard(), 112)
        self.assertEqual(self.heard(), 16)

    def test_what_is_written_leaves_meanwhile(self) -> None:
        """However long our share is, nobody waits longer than a turn for what it is sent."""
        self.crowd(39, 0.001)
        flushed = Flushed(self.told)
        self.watched("writes", lambda: self.turn.add_transport(flushed))
        self.poller.doRead()
        self.take(0.1)
        self.heard()
        self.assertGreaterEqual(self.told.count("flushed"), 2)
        self.assertEqual(self.told.count("flushed"), self.told.count("writes"))

    def test_a_pause_is_no_crowd(self) -> None:
        """A process that was stopped for an hour does not read for an hour."""
        self.crowd(40, 0.001)
        self.heard()
        self.take(3600)
        self.assertEqual(self.heard(), 256)

    def test_nobody_waited(self) -> None:
        """While everybody is heard the reactor may rest, and that is not the others' time."""
        self.crowd(15, 0.01)
        self.assertEqual(self.heard(), 15)
        self.take(10)
        self.assertEqual(self.heard(), 15)

    def handshakes(self, count: int) -> None:
        """So many that take a millisecond each."""
        for _ in range(count):
            self.poller.handshake_soon(Handshake(self))
        self.poller.doRead()

    def shaken(self) -> int:
        """How many are done in a turn."""
        self.told.clear()
        self.reactor.run_calls()
        return len(self.told)

    def test_handshakes(self) -> None:
        """Two milliseconds are theirs; half of what the others take where that is more."""
        self.watched("quiet")
        self.handshakes(200)
        self.assertEqual(self.shaken(), 2)
        self.assertEqual(self.shaken(), 2)
        self.take(0.0995)
        self.assertEqual(self.shaken(), 50)
        self.take(3600)
        self.assertEqual(self.shaken(), 125)
        self.assertEqual(self.shaken(), 2)

    def test_shares(self) -> None:
        """Reading and handshakes do not take each other for the others: what all else needs stays a third."""
        self.crowd(40, 0.000_5)
        self.handshakes(10_000)
        for _ in range(5):
            self.take(0.03)
            self.shaken()
            began, shaken = self.now, len(self.told)
            self.poller.doRead()
            read = self.now - began
        self.assertLess(abs(0.03 - shaken * 0.001), 0.005)
        self.assertLess(abs(0.03 - read), 0.01)

    def test_first_handshakes(self) -> None:
        """What passed before somebody wanted to shake hands is not the others' time."""
        self.watched("quiet")
        self.handshakes(1)
        self.assertEqual(self.shaken(), 1)
        self.take(10)
        self.handshakes(10)
        self.assertEqual(self.shaken(), 2)


class Handshake:
    """A client that shakes hands, which takes a millisecond."""

    fd = -1

    def __init__(self, case: ShareTests) -> None:
        self.case = case

    def ready(self, events: int) -> None:
        """Nobody watches it."""

    def handshake(self) -> None:
        self.case.told.append("shaken")
        self.case.take(0.001)

    def lose(self, error: BaseException) -> None:
        raise AssertionError(error)
