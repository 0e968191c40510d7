"""Requests whose head came before on their connection: served from their bodies, and as any other."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request
from zope.interface import alsoProvides

from mfserver.api.heads import Heads
from mfserver.api.server import BODY, IDLE, WAITING
from mfserver.errors import Overloaded
from mfserver.route import Route
from tests.api.house import Answer, House, Wire

LINE = "POST /take HTTP/1.1"


def request(body: bytes = b"x", line: str = LINE, *headers: str) -> bytes:
    """A request as a device sends it, with a secret in its head."""
    lines = [line, "Host: localhost", "Authorization: secret", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answers(data: bytes) -> list[Answer]:
    """Every answer that was written."""
    found = []
    while data:
        found.append(Answer(data))
        data = found[-1].rest
    return found


class Taker:
    """A handler that takes bodies in.

    :ivar whole: the bodies that came as requests.
    :ivar again: those whose head came before.
    :ivar outcome: what the latter are answered with.
    """

    def __init__(self) -> None:
        self.whole: list[bytes] = []
        self.again: list[bytes] = []
        self.outcome: Callable[[], Deferred[None] | bool] = lambda: True
        self.error: Exception | None = None

    async def serve(self, request: Request, parameters: dict[str, str]) -> Callable[[bytes], Any]:
        assert request.content is not None
        if self.error is not None:
            raise self.error
        self.whole.append(request.content.read())
        request.setResponseCode(202)
        request.setHeader(b"content-length", b"0")
        return self.take_again

    def take_again(self, body: bytes) -> "Deferred[None] | bool":
        self.again.append(body)
        return self.outcome()

    async def answered(self, request: Request, parameters: dict[str, str]) -> Callable[[bytes], Any]:
        again = await self.serve(request, parameters)
        request.finish()
        return again

    async def silent(self, request: Request, parameters: dict[str, str]) -> None:
        request.setResponseCode(202)
        request.setHeader(b"content-length", b"0")


class HeadsTestCase(SynchronousTestCase):
    """A connection on which a head was learned: the first request finds the connection at no rest."""

    def setUp(self) -> None:
        self.taker = Taker()
        routes = [
            Route(method="POST", path=f"/{path}", serve=serve, any_body=True, success=202)
            for path, serve in (
                ("take", self.taker.serve),
                ("other", self.taker.serve),
                ("silent", self.taker.silent),
                ("answered", self.taker.answered),
                *((f"take{number}", self.taker.serve) for number in range(5)),
            )
        ]
        self.house = House(routes, max_body=100_000)
        self.channel, self.wire = self.house.connect()
        self.send(request(), request())
        self.learned = self.take()
        self.assertEqual([202, 202], [one.status for one in self.learned])
        self.assertEqual(([b"x", b"x"], []), (self.taker.whole, self.taker.again))
        self.taker.whole.clear()

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.channel.dataReceived(part)

    def take(self) -> list[Answer]:
        """The answers since this was last asked."""
        value = self.wire.value()
        self.wire.clear()
        return answers(value)

    def statuses(self) -> list[int]:
        return [one.status for one in self.take()]

    def lose(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))

    def assert_not_learned(self, *parts: bytes) -> None:
        """None of these, sent thrice, is ever known again."""
        for _ in range(3):
            self.send(*parts)
        self.assertEqual([], self.taker.again)


class AgainTests(HeadsTestCase):
    """What is the same to the byte, but for the length of the body."""

    def test_same_answer(self) -> None:
        """To the byte, but for the second."""
        self.house.clock.advance(0.9)
        self.send(request())
        self.assertEqual(self.learned[0].headers, self.take()[0].headers)
        self.house.clock.advance(0.2)
        self.taker.again.clear()
        self.send(request())
        (answer,) = self.take()
        self.assertEqual(([], [b"x"]), (self.taker.whole, self.taker.again))
        self.assertEqual((202, "Accepted"), (answer.status, answer.reason))
        self.assertEqual(list(self.learned[0].headers), list(answer.headers))
        dates = [one.headers.pop("date") for one in (self.learned[0], answer)]
        self.assertEqual(["Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:21 GMT"], dates)
        self.assertEqual(self.learned[0].headers, answer.headers)

    def test_same_answer_over_tls(self) -> None:
        self.wire = Wire()
        alsoProvides(self.wire, ISSLTransport)
        self.channel, _ = self.house.connect(self.wire)
        self.send(*[request()] * 3)
        first, _, again = self.take()
        self.assertEqual([b"x"], self.taker.again)
        self.assertIn("strict-transport-security", again.headers)
        self.assertEqual(list(first.headers), list(again.headers))

    def test_lengths(self) -> None:
        """The digits may differ, and how many they are."""
        bodies = [b"", b"y", b"x" * 9, b"x" * 10, b"x" * 5000]
        self.send(*map(request, bodies))
        self.assertEqual(([202] * 5, bodies), (self.statuses(), self.taker.again))

    def test_odd_lengths(self) -> None:
        """What is no number, or too large, is twisted.web's to refuse."""
        for length, status in (("-1", 400), ("+1", 400), ("1 1", 400), ("²", 400), ("100001", 413)):
            with self.subTest(length=length):
                self.channel, self.wire = self.house.connect()
                self.send(request(), request())
                self.take()
                self.send(request().replace(b"Length: 1", b"Length: " + length.encode()))
                self.assertEqual([status], self.statuses())
                self.assertTrue(self.channel.closing)
        self.assertEqual([], self.taker.again)

    def test_other_heads(self) -> None:
        """One byte more, less or other, and it is taken apart as any."""
        one = request()
        end = one.index(b"\r\n\r\n")
        for place in range(end - 1):  # the last one is the length
            other = one[:place] + bytes([one[place] ^ 1]) + one[place + 1 :]
            channel, _ = self.house.connect()
            channel.dataReceived(one)
            channel.dataReceived(one)
            channel.dataReceived(other)
        self.send(one.replace(b"secret", b"secret2"), one.replace(b"secret", b"secre"))
        self.assertEqual([], self.taker.again)

    def test_one_line(self) -> None:
        """The same line with other headers is another head; a gateway sends several, in turn."""
        others = [request(b"%d" % number, LINE, f"X: {number}") for number in range(3)]
        self.send(*others, request(b"y"), *others, request(b"z"))
        self.assertEqual(([b"y", b"0", b"1", b"2", b"z"]), self.taker.again)
        self.assertEqual([b"0", b"1", b"2"], self.taker.whole)

    def test_pipelined(self) -> None:
        """Many in one segment are answered in their order, known or not."""
        self.send(request(b"a") + request(b"b") + request(b"c", "POST /other HTTP/1.1") + request(b"d")[:-1])
        self.assertEqual(([b"a", b"b"], [b"c"]), (self.taker.again, self.taker.whole))
        self.send(b"d" + request(b"e"))
        self.assertEqual([202] * 5, self.statuses())
        self.assertEqual(([b"a", b"b", b"d", b"e"], [b"c"]), (self.taker.again, self.taker.whole))

    def test_every_split(self) -> None:
        """However the bytes come, the same bodies are taken in the same order."""
        data = request(b"one") + request(b"two")
        for place in range(len(data) + 1):
            with self.subTest(place=place):
                taken: list[bytes] = []
                self.taker.whole = self.taker.again = taken
                self.send(*(part for part in (data[:place], data[place:]) if part))
                self.assertEqual(([b"one", b"two"], [202, 202]), (taken, self.statuses()))

    def test_byte_by_byte(self) -> None:
        data = request(b"one") + request(b"two")
        self.taker.whole = self.taker.again
        self.send(*(data[place : place + 1] for place in range(len(data))))
        self.assertEqual(([b"one", b"two"], [202, 202]), (self.taker.again, self.statuses()))

    def test_other_connection(self) -> None:
        """What one has sent says nothing about another."""
        self.channel, self.wire = self.house.connect()
        self.send(request())
        self.assertEqual(([], [b"x"]), (self.taker.again, self.taker.whole))

    def test_few(self) -> None:
        """Four heads are remembered; the oldest makes room."""
        requests = [request(b"%d" % number, f"POST /take{number} HTTP/1.1") for number in range(4)]
        self.send(*requests, *requests)
        self.assertEqual([b"0", b"1", b"2", b"3"], self.taker.again)
        self.send(request(b"4"))
        self.assertEqual(b"4", self.taker.whole[-1])

    def test_no_handler(self) -> None:
        """A handler that makes nothing of a body later is called each time."""
        self.send(*[request(b"x", "POST /silent HTTP/1.1")] * 4)
        self.assertEqual([202] * 4, self.statuses())
        self.assertEqual([], self.taker.again)

    def test_the_next_request_is_another(self) -> None:
        """What a pipelined request teaches is not tied to the head of the one before it."""
        for body in (b"x", b""):
            silent = request(body, "POST /silent HTTP/1.1")
            self.taker.whole.clear()
            self.send(silent + request(b"y", "POST /other HTTP/1.1", f"X: {body!r}"), silent, silent)
            self.assertEqual(([], [b"y"], [202] * 4), (self.taker.again, self.taker.whole, self.statuses()))

    def test_after_something_else(self) -> None:
        """What came before in the same segment belongs to it."""
        self.send(request(b"", "POST /other HTTP/1.1") + b"X", request())
        self.assertEqual(([], [202, 405]), (self.taker.again, self.statuses()))


class NotLearnedTests(HeadsTestCase):
    """Heads that mean more than themselves, or that are too much to keep."""

    def test_errors(self) -> None:
        self.taker.error = Overloaded("full")
        self.assert_not_learned(request(b"x", LINE, "X: 1"))
        self.assertEqual([503] * 3, self.statuses())

    def test_last_requests(self) -> None:
        """After them the connection is closed."""
        for line, *headers in ((LINE, "Connection: close"), ("POST /take HTTP/1.0",)):
            self.channel, self.wire = self.house.connect()
            self.send(request(b"x", "POST /other HTTP/1.1"))
            self.assert_not_learned(request(b"x", line, *headers))
            self.assertTrue(self.wire.disconnecting)

    def test_expectation(self) -> None:
        """Its body comes when it is asked for, each time."""
        for _ in range(3):
            self.send(request(b"x", LINE, "Expect: 100-continue")[:-1])
            self.assertEqual(b"HTTP/1.1 100 Continue\r\n\r\n", self.wire.value())
            self.wire.clear()
            self.send(b"x")
            self.assertEqual([202], self.statuses())
        self.assertEqual([], self.taker.again)

    def test_chunked(self) -> None:
        head = request().partition(b"Content-Length")[0]
        self.assert_not_learned(head + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
        self.assertEqual([b"x"] * 3, self.taker.whole)

    def test_query(self) -> None:
        self.assert_not_learned(request(b"x", "POST /take?auth=key HTTP/1.1"))
        self.assertEqual([b"x"] * 3, self.taker.whole)

    def test_after_an_empty_line(self) -> None:
        """twisted.web passes over it, so the line that is looked at for a query is another."""
        self.assert_not_learned(b"\r\n" + request(b"x", "POST /take?auth=key HTTP/1.1"))
        self.assert_not_learned(b"\r\n" + request())
        self.assertEqual(([b"x"] * 6, [202] * 6), (self.taker.whole, self.statuses()))

    def test_answered(self) -> None:
        """A handler that answers by itself teaches nothing: the connection is at the next request by then."""
        self.assert_not_learned(request(b"x", "POST /answered HTTP/1.1"))
        self.assertEqual([202] * 3, self.statuses())

    def test_what_begins_is_another(self) -> None:
        """Of a request that was never told of as a whole nothing is learned, whatever came before it."""
        heads = Heads()
        first, second = request(b"x", "POST /other HTTP/1.1"), request()
        for begins in (second[:20], b"", request(b"x", LINE, "X: " + "x" * 1024)):
            self.assertIsNone(heads.begin(first))
            self.assertIsNone(heads.begin(begins))
            heads.learn(lambda body: True, 202)
            self.assertIsNone(heads.begin(first))
        heads.learn(lambda body: True, 202)
        self.assertIsNotNone(heads.begin(first))

    def test_long(self) -> None:
        self.assert_not_learned(request(b"x", LINE, "X: " + "x" * 1024))
        self.assertEqual([b"x"] * 3, self.taker.whole)

    def test_length_in_another_header(self) -> None:
        """Which one counts is not guessed."""
        self.assert_not_learned(request(b"x", LINE, "X: content-length"))
        self.assert_not_learned(request(b"x", LINE, "X-Content-Length: 7"))
        self.assertEqual([b"x"] * 6, self.taker.whole)


class OutcomeTests(HeadsTestCase):
    """What a body can become."""

    def test_declined(self) -> None:
        """The request is served as any other, and has to be learned again."""
        self.taker.outcome = lambda: False
        self.send(request(b"a"))
        self.assertEqual(([b"a"], [b"a"]), (self.taker.again, self.taker.whole))
        self.taker.outcome = lambda: True
        self.send(request(b"b"), request(b"c"))
        self.assertEqual(([b"a", b"c"], [b"a", b"b"]), (self.taker.again, self.taker.whole))
        self.assertEqual([202] * 3, self.statuses())

    def test_forgotten(self) -> None:
        """What was declined, and then refused, is not asked again."""
        self.taker.outcome = lambda: False
        self.taker.error = Overloaded("full")
        self.send(*[request()] * 3)
        self.assertEqual(([b"x"], [503] * 3), (self.taker.again, self.statuses()))

    def begin(self, *parts: bytes) -> "Deferred[None]":
        """Send requests of which the first has to be waited for."""
        waiting: Deferred[None] = Deferred()
        outcomes: list[Deferred[None] | bool] = [waiting]
        self.taker.outcome = lambda: outcomes.pop() if outcomes else True
        self.send(*parts)
        self.assertEqual(b"", self.wire.value())
        return waiting

    def test_later(self) -> None:
        """The answer waits, and so does what comes after it; the body is taken in once."""
        waiting = self.begin(request(b"a") + request(b"b"), request(b"c"))
        self.house.clock.advance(1000)
        self.assertFalse(self.wire.disconnecting)
        self.assertEqual([b"a"], self.taker.again)
        waiting.callback(None)
        self.assertEqual(
            ([b"a", b"b", b"c"], [], [202] * 3), (self.taker.again, self.taker.whole, self.statuses())
        )

    def test_after_it(self) -> None:
        """What comes next is served for what it is."""
        self.begin(request(b"a")).callback(None)
        self.send(request(b"b", "POST /other HTTP/1.1"))
        self.assertEqual(([b"a"], [b"b"], [202] * 2), (self.taker.again, self.taker.whole, self.statuses()))

    def test_ended_by_itself(self) -> None:
        """Nothing is served on a connection that is closing."""

        def end() -> bool:
            self.channel.end()
            return True

        self.taker.outcome = end
        self.send(request(b"a") + request(b"b"))
        self.assertEqual(([b"a"], [], True), (self.taker.again, self.taker.whole, self.wire.disconnecting))

    def test_later_in_two_segments(self) -> None:
        waiting = self.begin(request(b"abc")[:-2], b"bc")
        waiting.callback(None)
        self.assertEqual(([b"abc"], [], [202]), (self.taker.again, self.taker.whole, self.statuses()))

    def test_failed(self) -> None:
        """What went wrong is the answer, and a mistake of ours is logged."""
        for error, status in ((Overloaded("full"), 503), (OSError("secret"), 500)):
            self.begin(request()).errback(error)
            (answer,) = self.take()
            self.assertEqual(status, answer.status)
            self.assertNotIn("secret", answer.error)
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))

    def test_gone(self) -> None:
        for error in (None, OSError()):
            self.channel, self.wire = self.house.connect()
            self.send(request(), request())
            self.wire.clear()
            waiting = self.begin(request())
            self.lose()
            waiting.callback(None) if error is None else waiting.errback(error)
            self.assertEqual(b"", self.wire.value())

    def test_no_room_for_bodies(self) -> None:
        """What has been taken in is not refused because its body could not be held: it is not."""
        budget = self.house.site.budget
        self.assertTrue(budget.take(budget.maximum, ""))
        self.begin(request()).callback(None)
        self.assertEqual([202], self.statuses())

    def test_end(self) -> None:
        """A connection that has to end is closed after the answer."""
        waiting = self.begin(request(b"a") + request(b"b"))
        self.channel.end()
        self.assertFalse(self.wire.disconnecting)
        waiting.callback(None)
        self.assertEqual(([202], True), (self.statuses(), self.wire.disconnecting))
        self.assertEqual([b"a"], self.taker.again)

    def test_a_mistake(self) -> None:
        """A handler that raises may have done something: it is 500, and not called once more."""
        self.taker.outcome = lambda: 1 // 0 == 0
        self.send(request())
        self.assertEqual(([b"x"], [], [500]), (self.taker.again, self.taker.whole, self.statuses()))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class BoundTests(HeadsTestCase):
    """Deadlines, and what is held."""

    def assert_closed_at(self, seconds: float) -> None:
        self.house.clock.advance(seconds - 0.01)
        self.assertFalse(self.wire.disconnecting)
        self.house.clock.advance(0.02)
        self.assertTrue(self.wire.disconnecting)

    def test_rest(self) -> None:
        """A request that was known begins a new rest."""
        self.house.clock.advance(IDLE - 1)
        self.send(request())
        self.assert_closed_at(IDLE)

    def test_one_timer(self) -> None:
        """However many requests come: there is one, which looks what time it is."""
        for _ in range(100):
            self.house.clock.advance(IDLE - 1)
            self.send(request(), request(b"x", "POST /silent HTTP/1.1"))
            self.assertEqual(1, len(self.house.clock.getDelayedCalls()))
        self.lose()
        self.assertEqual([], self.house.clock.getDelayedCalls())

    def test_body_apart(self) -> None:
        """It is waited for, and served when it is there."""
        head, body = request(b"abc")[:-3], b"abc"
        self.send(head)
        self.house.clock.advance(BODY - 1)
        self.assertEqual([], self.taker.again)
        self.send(body)
        self.assertEqual(([b"abc"], [202]), (self.taker.again, self.statuses()))
        self.assert_closed_at(IDLE)

    def test_late_body(self) -> None:
        """A byte now and then buys no time."""
        self.send(request(b"x" * 100)[:-100])
        for _ in range(int(BODY) - 1):
            self.house.clock.advance(1)
            self.send(b"x")
        self.assert_closed_at(1)
        self.assertEqual([], self.taker.again)

    def test_two_late_bodies(self) -> None:
        """Each has its own time."""
        self.send(request(b"ab")[:-1])
        self.house.clock.advance(BODY - 1)
        self.send(b"b" + request(b"cd")[:-1])
        self.assert_closed_at(BODY)

    def test_long_body(self) -> None:
        """One that is too long to wait for goes the way of any other, with its bounds."""
        head = request(b"x" * WAITING)[:-WAITING]
        self.send(head)
        self.assertEqual(1, len(self.channel.requests))
        self.send(b"x" * WAITING)
        self.assertEqual(([], [202]), (self.taker.again, self.statuses()))
        self.assertEqual([b"x" * WAITING], self.taker.whole)

    def test_too_long_body(self) -> None:
        """The site's bound holds, however much comes in one segment."""
        self.send(request(b"x" * 100_000))
        self.assertEqual(([b"x" * 100_000], [202]), (self.taker.again, self.statuses()))
        self.send(request(b"x" * 100_001))
        self.assertEqual((1, [], [413]), (len(self.taker.again), self.taker.whole, self.statuses()))

    def test_end_while_waiting(self) -> None:
        """What has not come yet is not waited for."""
        self.send(request()[:-1])
        self.channel.end()
        self.assertTrue(self.wire.disconnecting)
        self.send(b"x")
        self.assertEqual([], self.taker.again)

    def test_lost_while_waiting(self) -> None:
        self.send(request()[:-1])
        self.lose()
        self.assertEqual(([], []), (self.taker.again, self.house.clock.getDelayedCalls()))

    def test_a_peer_that_does_not_read(self) -> None:
        """Nothing is served for it, however many requests it sent ahead; then all are, in their order."""
        self.taker.whole = self.taker.again
        self.channel.pauseProducing()
        self.send(request(b"a"), request(b"b") + request(b"c")[:-1], b"c")
        self.assertEqual([], self.taker.again)
        self.channel.resumeProducing()
        self.assertEqual([202] * 3, self.statuses())
        self.assertEqual([b"a", b"b", b"c"], self.taker.again)

    def test_a_peer_that_stops_reading(self) -> None:
        """In the middle of what it sent ahead, or of a body."""
        channel = self.channel
        self.taker.whole = self.taker.again

        def pause() -> bool:
            channel.pauseProducing()
            return True

        self.taker.outcome = pause
        self.send(request(b"a") + request(b"b"))
        self.assertEqual([b"a"], self.taker.again)
        self.taker.outcome = lambda: True
        channel.resumeProducing()
        self.assertEqual([b"a", b"b"], self.taker.again)
        self.send(request(b"c")[:-1])
        channel.pauseProducing()
        self.send(b"c")
        channel.resumeProducing()
        self.assertEqual([b"a", b"b", b"c"], self.taker.again)
        self.assertEqual([202] * 3, self.statuses())
