"""What a hostile peer sends instead of a request, or never sends."""

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request
from zope.interface import alsoProvides

from mfserver.api.server import BoundedChannel
from mfserver.route import Route
from tests.api.house import Answer, House, Wire

GET = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n"


async def echo(request: Request, parameters: dict[str, str]) -> None:
    """Answer with the body."""
    assert request.content is not None
    body = request.content.read()
    request.setHeader(b"Content-Length", b"%d" % len(body))
    request.write(body)


ECHO = Route(method="POST", path="/echo", serve=echo, any_body=True)


class ServerTestCase(SynchronousTestCase):
    """One connection to a house with an echo."""

    def setUp(self) -> None:
        self.house = House([ECHO], max_body=100_000)
        self.channel, self.wire = self.house.connect()

    def send(self, data: bytes) -> None:
        self.channel.dataReceived(data)

    def answer(self) -> Answer:
        """The first answer since this was last asked."""
        value = self.wire.value()
        self.wire.clear()
        return Answer(value)

    def assert_closed_at(self, seconds: float, wire: Wire | None = None) -> None:
        """The server closes after so many seconds and not before, and later cuts off."""
        wire = wire or self.wire
        self.house.clock.advance(seconds - 0.01)
        self.assertFalse(wire.disconnecting)
        self.house.clock.advance(0.02)
        self.assertTrue(wire.disconnecting)
        self.assertFalse(wire.aborted)
        self.house.clock.advance(15)
        self.assertTrue(wire.aborted)

    def lose(self, channel: BoundedChannel | None = None) -> None:
        (channel or self.channel).connectionLost(Failure(ConnectionDone()))


class DeadlineTests(ServerTestCase):
    """Everything that a peer owes has a deadline."""

    def test_silence(self) -> None:
        self.assert_closed_at(10)

    def test_half_the_headers(self) -> None:
        self.send(b"GET / HTTP/1.1\r\nHost")
        self.assert_closed_at(10)

    def test_dripping_headers(self) -> None:
        """A byte every second buys no time."""
        for byte in b"GET / HT":
            self.send(bytes([byte]))
            self.house.clock.advance(1)
        self.assertFalse(self.wire.disconnecting)
        self.house.clock.advance(2)
        self.assertTrue(self.wire.disconnecting)

    def test_rest(self) -> None:
        """Between two requests there is a minute; from the first byte of the next, ten seconds."""
        self.send(GET)
        self.assert_closed_at(60)
        channel, wire = self.house.connect()
        channel.dataReceived(GET)
        self.house.clock.advance(59)
        channel.dataReceived(b"GET")
        self.assert_closed_at(10, wire)

    def test_pipelined_rest(self) -> None:
        """A request that stands behind another in one segment is served too."""
        self.send(GET + GET)
        first = self.answer()
        self.assertEqual((first.status, Answer(first.rest).status), (200, 200))

    def test_dripping_body(self) -> None:
        """30 seconds, and one more for every 4,096 bytes."""
        self.send(POST + b"Content-Length: 8192\r\n\r\n")
        for _ in range(31):
            self.send(b"x")
            self.house.clock.advance(1)
        self.assertFalse(self.wire.disconnecting)
        self.house.clock.advance(1.1)
        self.assertTrue(self.wire.disconnecting)

    def test_chunked_body(self) -> None:
        """A body of unknown length has the time of the longest."""
        self.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        self.assert_closed_at(30 + 100_000 / 4096)

    def test_slow_server(self) -> None:
        """The server's own time is not the peer's."""
        waiting: Deferred[None] = Deferred()
        slow = Route(method="GET", path="/slow", serve=lambda request, parameters: waiting)
        house = House([slow])
        channel, wire = house.connect()
        channel.dataReceived(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        house.clock.advance(1000)
        self.assertFalse(wire.disconnecting)
        waiting.callback(None)
        self.assertEqual(Answer(wire.value()).status, 200)

    def test_no_timer_is_left(self) -> None:
        """Whatever state a connection was lost in."""
        for data in b"", b"GET", GET, POST + b"Content-Length: 2\r\n\r\n", b"nonsense\r\n":
            channel, _ = self.house.connect()
            channel.dataReceived(data)
            self.lose(channel)
        self.lose()
        self.assertEqual(self.house.clock.getDelayedCalls(), [])


class BackPressureTests(ServerTestCase):
    """A peer that sends requests and does not read the answers."""

    def served(self) -> int:
        """How many requests were answered."""
        value: bytes = self.wire.value()
        return value.count(b"HTTP/1.1 200")

    def test_pipelined(self) -> None:
        """As soon as the transport is full, requests that came already wait until it is not."""
        full = [True]

        async def fill(request: Request, parameters: dict[str, str]) -> None:
            if full:
                full.pop()
                self.channel.pauseProducing()

        self.house = House([Route(method="GET", path="/fill", serve=fill)])
        self.channel, self.wire = self.house.connect()
        self.send(GET + GET.replace(b"version", b"fill") + GET + GET + GET[:10])
        self.assertEqual((self.served(), self.wire.producerState), (2, "paused"))
        self.send(GET[10:])
        self.assertEqual(self.served(), 2)
        self.channel.resumeProducing()
        self.assertEqual((self.served(), self.wire.producerState), (5, "producing"))

    def test_never_read(self) -> None:
        """Answers that nobody reads are dropped with the connection."""
        self.send(GET)
        self.channel.pauseProducing()
        self.assert_closed_at(60)

    def test_slow_farewell(self) -> None:
        """Who asks for the end of the connection has a minute to read the answer."""
        self.send(GET[:-2] + b"Connection: close\r\n\r\n")
        self.assertTrue(self.wire.disconnecting)
        self.house.clock.advance(59)
        self.assertFalse(self.wire.aborted)
        self.house.clock.advance(1)
        self.assertTrue(self.wire.aborted)

    def test_closed_while_served(self) -> None:
        """A connection that closes while its request is served is cut off in time all the same."""

        async def close(request: Request, parameters: dict[str, str]) -> None:
            request.loseConnection()

        self.house = House([Route(method="GET", path="/close", serve=close)])
        self.channel, self.wire = self.house.connect()
        self.send(GET.replace(b"version", b"close"))
        self.assertTrue(self.wire.disconnecting)
        self.house.clock.advance(60)
        self.assertTrue(self.wire.aborted)

    def test_resumed_without_a_byte(self) -> None:
        """That the peer reads again is no beginning of a request: the rest goes on."""
        self.send(GET)
        self.channel.pauseProducing()
        self.house.clock.advance(30)
        self.channel.resumeProducing()
        self.assert_closed_at(30)


class BodyTests(ServerTestCase):
    """Bodies are bounded before they are read."""

    def test_largest(self) -> None:
        self.send(POST + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000)
        self.assertEqual(len(self.answer().entity), 100_000)

    def test_announced_too_large(self) -> None:
        """413 at once, before any byte of the body and without inviting it; then the connection closes."""
        self.send(POST + b"Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n")
        answer = self.answer()
        self.assertEqual((answer.status, answer.headers["connection"]), (413, "close"))
        self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        self.assertIn("100000", answer.error)
        self.send(b"x" * 100_000)
        self.assertEqual(self.wire.value(), b"")
        self.assert_closed_at(2)

    def test_announced_too_large_and_sent(self) -> None:
        """At the end of a refused body the connection closes at once, and what follows is nothing."""
        self.send(POST + b"Content-Length: 100001\r\n\r\nx")
        self.answer()
        self.send(b"x" * 99_999)
        self.assertFalse(self.wire.disconnecting)
        self.send(b"x" + GET)
        self.assertTrue(self.wire.disconnecting)
        self.send(GET)
        self.assertEqual(self.wire.value(), b"")

    def test_chunks_too_large(self) -> None:
        """A chunked body is refused once it passes the bound, whatever else stands in the segment."""
        self.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        self.send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
        self.assertEqual(self.wire.value(), b"")
        self.send(b"1\r\nx\r\n1\r\nx\r\n0\r\n\r\n" + GET)
        self.assertEqual(self.answer().status, 413)
        self.assertEqual(self.wire.value(), b"")
        self.assert_closed_at(2)

    def test_refused_and_lost(self) -> None:
        self.send(POST + b"Content-Length: 100001\r\n\r\n")
        self.lose()
        self.assertEqual(self.house.clock.getDelayedCalls(), [])

    def test_absurd_lengths(self) -> None:
        """Digits beyond what Python makes an integer of, signs, and two lengths at once."""
        for headers in (
            b"Content-Length: " + b"9" * 5000,
            b"Content-Length: " + b"9" * 5000 + b"\r\nX: y",
            b"Content-Length: -1",
            b"Content-Length: +1",
            b"Content-Length: 1\r\nContent-Length: 1",
            b"Content-Length: 1\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: gzip",
        ):
            channel, wire = self.house.connect()
            channel.dataReceived(POST + headers + b"\r\n\r\nx")
            self.assertEqual(Answer(wire.value()).status, 400, headers[:40])
            self.assertTrue(wire.disconnecting)

    def test_broken_chunks(self) -> None:
        self.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"zz\r\n" + GET)
        self.assertEqual(self.answer().status, 400)
        self.assertTrue(self.wire.disconnecting)
        self.send(GET)
        self.assertEqual(self.wire.value(), b"")

    def test_continue(self) -> None:
        self.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        self.assertEqual(self.answer().status, 100)
        self.send(b"hi")
        self.assertEqual(self.answer().entity, b"hi")

    def test_form_is_not_parsed(self) -> None:
        """twisted.web would take a multipart body apart, and refuse this one; to us it is bytes."""
        self.send(POST + b"Content-Type: multipart/form-data\r\nContent-Length: 5\r\n\r\n--a\r\n")
        self.assertEqual(self.answer().entity, b"--a\r\n")


class HeadTests(ServerTestCase):
    """Request lines and headers are bounded and nonsense is refused."""

    def test_nonsense(self) -> None:
        """400 or silence, the end of the connection, and nothing in the log."""
        for data in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n",
            b"GET\r\n",
            b"GET / HTTP/9.9\r\n",
            b"GET /\x00 HTTP/1.1\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
            b"GET / HTTP/1.1\r\nno colon\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nna me: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"y" * 1000 + b"\r\n") * 17 + b"\r\n",
        ):
            channel, wire = self.house.connect()
            channel.dataReceived(data)
            channel.dataReceived(GET)
            self.assertEqual(Answer(wire.value()).status, 400, data[:40])
            self.assertEqual(wire.value().count(b"HTTP/1.1"), 1)
            self.assertTrue(wire.disconnecting)

    def test_too_long(self) -> None:
        """414 for the request line, 431 for a header, as soon as they pass 16 KiB."""
        for head, status in (b"GET /", 414), (b"GET / HTTP/1.1\r\nX: ", 431):
            channel, wire = self.house.connect()
            channel.dataReceived(head + b"x" * 16_386)
            self.assertEqual(Answer(wire.value()).status, status)
            self.assertTrue(wire.disconnecting)

    def test_host(self) -> None:
        """Exactly one Host header in HTTP/1.1 (RFC 9112, 3.2); HTTP/1.0 needs none."""
        self.assertEqual(self.house.raw(b"GET /version HTTP/1.1\r\n\r\n").status, 400)
        self.assertEqual(self.house.raw(b"GET /version HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n").status, 400)
        self.assertEqual(self.house.raw(b"GET /version HTTP/1.0\r\n\r\n").status, 200)

    def test_targets(self) -> None:
        """The absolute form is understood, and what is no path is 404 or 400."""
        for target, status in (
            (b"http://localhost/version", 200),
            (b"http://localhost", 404),
            (b"http://[", 400),
            (b"*", 405),
            (b"version", 404),
            (b"//version", 404),
            (b"/vers\x80on", 400),
            (b"/../version", 404),
        ):
            answer = self.house.raw(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertEqual(answer.status, status, target)

    def test_every_split(self) -> None:
        """How the bytes are split does not matter."""
        data = POST + b"Content-Length: 2\r\n\r\nhi" + GET
        self.send(data)
        whole = self.wire.value()
        for cut in range(1, len(data)):
            channel, wire = self.house.connect()
            channel.dataReceived(data[:cut])
            channel.dataReceived(data[cut:])
            self.assertEqual(_without_date(wire.value()), _without_date(whole))


class TLSTests(ServerTestCase):
    """On TLS, browsers are told to come back over TLS."""

    def test_hsts(self) -> None:
        wire = Wire()
        alsoProvides(wire, ISSLTransport)
        channel, _ = self.house.connect(wire)
        channel.dataReceived(GET)
        self.assertIn("max-age=", Answer(wire.value()).headers["strict-transport-security"])
        self.send(GET)
        self.assertNotIn("strict-transport-security", self.answer().headers)

    def test_alpn(self) -> None:
        self.assertEqual(self.house.site.acceptableProtocols(), [b"http/1.1"])

    def test_factory_keeps_no_clock(self) -> None:
        """Neither an access log nor its timer."""
        self.house.site.doStart()
        self.lose()
        self.assertEqual(self.house.clock.getDelayedCalls(), [])
        self.house.site.doStop()


def _without_date(wire: bytes) -> list[bytes]:
    return [line for line in wire.split(b"\r\n") if not line.startswith(b"Date")]
