"""Whatever bytes come, and however: who remembers heads answers as one does that takes each apart anew."""

import re
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request

from mfserver.errors import NotAuthorized
from mfserver.route import Route
from tests.api.house import House, Wire

SCRIPTS = 250
KEYS = (b"one", b"two")
LINES = (
    b"POST /take HTTP/1.1",
    b"POST /take HTTP/1.1",
    b"POST http://h/other HTTP/1.1",
    b"GET /take HTTP/1.1",
)
RARE_LINES = (
    b"POST /take HTTP/1.0",
    b"OPTIONS /take HTTP/1.1",
    b"POST /take?auth=one HTTP/1.1",
    b"POST /take",
)
NAMES = (b"Content-Length: ", b"content-length:", b"CONTENT-LENGTH:\t ")
RARE_NAMES = (b"Content-Length : ", b" Content-Length: ", b"Content-Length\0: ", b"X-Content-Length: ")
#: What may stand in place of a length's digits.
LENGTHS = (
    b"0%d",
    b"000%d",
    b"%d ",
    b"%d\r\n ",
    b"%d\r\n 1",
    b"+%d",
    b"-%d",
    b"0x%d",
    b"%d,%d",
    b"%d99999999",
    b"%d\0",
)
HEADERS = (
    b"Content-Length: 1", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity",
    b"X: content-length: 5", b"X: a\r\n content-length: 5", b"X: a\nContent-Length: 3",
    b"X: a\rContent-Length: 3", b"X: \0",
    b"Expect: 100-continue", b"Connection: close", b"Connection: keep-alive", b"Authorization: one",
    b"Host: other", b"X: " + b"x" * 1024, b"Upgrade: websocket\r\nConnection: Upgrade",
)  # fmt: skip
#: What may happen between two segments.
STEPS = (("settle",), ("read",), ("wait", 0.1), ("end",))
#: A body that would be a request of somebody else's, were its length misread.
SMUGGLED = b"POST /take HTTP/1.1\r\nHost: h\r\nAuthorization: two\r\nContent-Length: 1\r\n\r\nz"


class Script:
    """What a client does on one connection: a few requests again and again, some of them no good.

    :ivar steps: the name of a method of :class:`Run`, and its arguments.
    """

    def __init__(self, seed: int) -> None:
        self._random = random = Random(seed)
        requests = [self._request() for _ in range(random.choice((2, 3, 5)))]
        parts = [random.choice(requests) for _ in range(random.choice((8, 16, 24)))]
        if random.random() < 0.6:
            parts = self._split(b"".join(parts), random.choice((3, 30, 200, 1000)))
        self.steps: list[tuple[Any, ...]] = []
        for part in parts:
            self.steps.append(("send", part))
            if random.random() < 0.6:
                self.steps.append(random.choices(STEPS, (20, 20, 10, 1))[0])
        self.steps += [("settle",), ("read",)] * 30

    def _split(self, data: bytes, longest: int) -> list[bytes]:
        parts = []
        while data:
            length = self._random.randint(1, longest)
            parts.append(data[:length])
            data = data[length:]
        return parts

    def _usually(self, usual: Any, rare: Any, chance: float = 0.02) -> Any:
        return self._random.choice(rare if self._random.random() < chance else usual)

    def _request(self) -> bytes:
        random = self._random
        body = bytes(random.choices(b"abRWF\r\n", k=random.choice((0, 1, 2, 10, 40))))
        body = self._usually((body,), (SMUGGLED, b"x" * 4000, b"x" * 4096, b"x" * 10_001), 0.1)
        length = self._usually((b"%d",), LENGTHS, 0.1)
        headers = [
            b"Host: h",
            b"Authorization: " + random.choice(KEYS),
            self._usually(NAMES, RARE_NAMES) + length.replace(b"%d", b"%d" % len(body)),
        ]
        if random.random() < 0.1:
            headers.append(random.choice(HEADERS))
        if random.random() < 0.3:
            random.shuffle(headers)
        request = b"\r\n".join([self._usually(LINES, RARE_LINES), *headers, b"", body])
        return bytes(self._usually((request,), (b"\r\n" + request, request + b"\r\n", request[:-1]), 0.05))


class SlowWire(Wire):
    """Asks to wait after so many bytes until somebody reads."""

    def __init__(self, room: int) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.1", 4242))
        self._room = room
        self._read = 0
        self.is_full = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.value()) - self._read > self._room and not self.is_full and self.producer is not None:
            self.is_full = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def unregisterProducer(self) -> None:
        """Once more does no harm, as with real ones."""
        if self.producer is not None:
            super().unregisterProducer()

    def read(self) -> None:
        self._read, self.is_full = len(self.value()), False


class Run:
    """A server, and a connection on which a script is played.

    :param remembers: whether its handler makes anything of heads that come again.
    :ivar taken: whose body was taken in by whom, in order.
    :ivar again: how many of those were of a head that came before.
    """

    def __init__(self, seed: int, *, remembers: bool) -> None:
        self.taken: list[tuple[object, bytes]] = []
        self.again = 0
        self._remembers = remembers
        self._waiting: list[tuple[Deferred[None], bytes]] = []
        self._unsent: list[bytes] = []
        routes = [
            Route(method=method, path=f"/{path}", serve=self._serve, any_body=True, success=202)
            for method, path in (("POST", "take"), ("POST", "other"), ("GET", "take"))
        ]
        self._house = House(routes, max_body=10_000)
        self._wire = SlowWire(seed * 37 % 3000 + 200)
        self._channel, _ = self._house.connect(self._wire)
        for step, *arguments in Script(seed).steps:
            getattr(self, step)(*arguments)
        self.answers = re.sub(rb"Date: [^\r]*", b"Date", self._wire.value())
        self.state = self._wire.disconnecting, self._wire.aborted, self._channel.closing
        self._channel.connectionLost(Failure(ConnectionDone()))
        self.left = self._house.clock.getDelayedCalls(), self._house.site.budget.used

    async def _serve(self, request: Request, parameters: dict[str, str]) -> Callable[[bytes], Any] | None:
        assert request.content is not None
        who = request.method, request.uri, request.requestHeaders.getRawHeaders(b"authorization")

        def take(body: bytes) -> "Deferred[None] | bool":
            if body.startswith(b"R"):
                return False
            self.taken.append((who, body))
            if not body.startswith((b"W", b"F")):
                return True
            waiting: Deferred[None] = Deferred()
            self._waiting.append((waiting, body))
            return waiting

        def take_again(body: bytes) -> "Deferred[None] | bool":
            taken = take(body)
            self.again += taken is not False
            return taken

        taken = take(request.content.read())
        if taken is False:
            raise NotAuthorized("refused")
        if taken is not True:
            await taken
        request.setResponseCode(202)
        request.setHeader(b"content-length", b"0")
        return take_again if self._remembers else None

    def send(self, data: bytes) -> None:
        """A transport that was asked to wait gives nothing."""
        if self._wire.is_full:
            self._unsent.append(data)
        else:
            self._channel.dataReceived(data)

    def read(self) -> None:
        if self._wire.is_full and not self._wire.disconnecting:
            self._wire.read()
            self._channel.resumeProducing()
        unsent, self._unsent = self._unsent, []
        for data in unsent:
            self.send(data)

    def settle(self) -> None:
        """What was begun is done, well or not."""
        waiting, self._waiting = self._waiting, []
        for one, body in waiting:
            one.callback(None) if body.startswith(b"W") else one.errback(NotAuthorized("failed"))

    def wait(self, seconds: float) -> None:
        self._house.clock.advance(seconds)

    def end(self) -> None:
        if not self._wire.disconnecting:
            self._channel.end()


class FuzzTests(SynchronousTestCase):
    def test_same(self) -> None:
        """The same bodies of the same senders, the same answers in the same order, and the same end."""
        again, reached = 0, set()
        for seed in range(SCRIPTS):
            with self.subTest(seed=seed):
                one, other = Run(seed, remembers=True), Run(seed, remembers=False)
                self.assertEqual(other.taken, one.taken)
                self.assertEqual(other.answers, one.answers)
                self.assertEqual(other.state, one.state)
                self.assertEqual(([], 0), one.left)
                self.assertEqual(0, other.again)
                again += one.again
                reached |= set(re.findall(rb"HTTP/1.1 (\d+)", one.answers))
        self.assertGreater(again, SCRIPTS / 2)
        self.assertLessEqual({b"100", b"202", b"204", b"400", b"403", b"413"}, reached)
