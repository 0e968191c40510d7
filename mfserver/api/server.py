"""The HTTP server under the routes: twisted.web's, with a bound and a deadline on everything a peer sends."""

from collections.abc import Callable, Sequence
from io import BytesIO
from time import time
from typing import Any, Final

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from twisted.web.server import Request, Site

from mfserver.address import network
from mfserver.api.heads import Again, Begun, Heads
from mfserver.api.resource import Root, answer_error, bare_answer, set_headers
from mfserver.budget import Budget
from mfserver.errors import MFServerError, Overloaded, TooLarge
from mfserver.route import Route

__all__ = [
    "BoundedChannel",
    "BoundedRequest",
    "BoundedSite",
    "make_site",
    "HEADERS",
    "IDLE",
    "BODY",
    "MAX_BODY",
]

#: Seconds from a request's first byte, or the connection's beginning, to the end of its headers.
HEADERS: Final = 10.0
#: Seconds that a connection may rest between two requests.
IDLE: Final = 60.0
#: Seconds that a body may take, besides what it needs at :data:`BODY_RATE`.
BODY: Final = 30.0
#: Bytes per second that a body has to come with in the long run.
BODY_RATE: Final = 4096
#: Seconds to read on after an answer that came before the end of the body, so that the peer sees the answer.
LINGER: Final = 2.0
#: Bytes of a request whose head came before that are kept until its body is all there.
WAITING: Final = 4096
#: Bytes of an answer that are not counted: as much as a transport takes before it asks to wait.
LONG: Final = 65_536
#: Bytes of a body, where nothing else is said.
MAX_BODY: Final = 1_048_576


class BoundedRequest(Request):
    """A request whose body is kept in memory, and refused as soon as it passes the site's bound."""

    defaultContentType = None
    channel: "BoundedChannel"
    content: BytesIO
    received = 0

    def process(self) -> None:
        """Serve it: there is but one resource, and it finds the row by itself."""
        if self.path == b"*":
            super().process()
            return
        self.setHeader(b"Date", datetimeToString(self.channel.site.now()))
        begun, self.channel.begun = self.channel.begun, None
        if begun is None:
            self.channel.site.root.render(self)
        else:
            self.channel.site.root.finish(self, begun)

    def learn(self, again: Again, status: int) -> None:
        """Serve a later request with this same head by its body alone, if it can have one."""
        if not self.requestHeaders.hasHeader(b"Expect"):
            self.channel.heads.learn(again, status)

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a part of the body while it is within the bounds, its own and that of all bodies."""
        if self.finished or self.channel.begun is not None:  # its body is being served already
            return
        site = self.channel.site
        if self.received + len(data) > site.max_body:
            self.channel.refuse(self)
        elif not site.budget.take(len(data), self.channel.address):
            self.channel.refuse(self, Overloaded("the server is holding too many requests"))
        else:
            self.received += len(data)
            self.content.write(data)

    def write(self, data: bytes) -> None:
        """Write a part of the answer.

        :raises Overloaded: it is long, and clients that do not read theirs make the server hold too much.
        """
        channel = getattr(self, "channel", None)
        if channel is None:
            return
        channel.hold(len(data))
        super().write(data)
        channel.let_go()

    def finish(self) -> None:
        """The answer is complete, and the body not needed any more."""
        self._give_back()
        super().finish()

    def connectionLost(self, reason: Failure) -> None:
        """There is nobody to answer."""
        self._give_back()
        super().connectionLost(reason)

    def _give_back(self) -> None:
        channel = getattr(self, "channel", None)  # twisted.web takes it away at the end
        if channel is not None:
            channel.site.budget.give(self.received, channel.address)
            self.received = 0


class BoundedChannel(HTTPChannel):
    """An HTTP connection with deadlines of its own: twisted.web's only asks for a byte now and then.

    :ivar closing: nothing that comes any more is looked at.
    :ivar heads: what came before on it.
    :ivar begun: what has been done with the body of the request that is being read; twisted.web serves its
        answer.
    """

    maxHeaders = 100
    totalHeadersSize = 16_384
    closing = False
    site: "BoundedSite"
    begun: Begun | None = None
    _deadline: IDelayedCall | None = None
    _due: float | None = None
    _resting = False
    _waiting = b""
    _is_secure = False
    _unread = 0
    _unsent = 0
    address = ""
    transport: Any

    def connectionMade(self) -> None:
        """Expect the first request."""
        super().connectionMade()
        self.heads = Heads()
        self._is_secure = super().isSecure()
        self.address = network(getattr(self.transport.getPeer(), "host", ""))
        self._expect(HEADERS)

    def dataReceived(self, data: bytes) -> None:
        """Read on, unless the connection is closing."""
        if self.closing:
            self._drain(data)
            return
        if self._resting:
            data = self._serve_again(self._waiting + self.clearLineBuffer() + data)
            if not data or self.closing:
                return
        self._begin()
        super().dataReceived(data)

    def _serve_again(self, data: bytes) -> bytes:
        """Serve the requests at the front whose heads came before, or wait for the rest of a body.

        :return: what twisted.web has to look at.
        """
        is_late, self._waiting = bool(self._waiting), b""
        while data and not self.paused and not self.closing:
            found = self.heads.begin(data)
            if found is None:
                break
            head, body, end = found
            if len(data) < end <= WAITING:
                self._waiting = data
                if not is_late:
                    self._expect(BODY)
                return b""
            if len(data) < end or end - body > self.site.max_body:
                break
            begun: Deferred[None] | bool
            try:
                begun = head.again(data[body:end])
            except Exception:  # something may have been done: it is answered, and not done once more
                begun = fail()
            if begun is not True:
                if begun:
                    self.begun = begun, head.status
                else:
                    self.heads.forget(head)
                break
            self.transport.write(self.site.accepted(self._is_secure, head.status))
            self._expect(IDLE)
            is_late, data = False, data[end:]
        return data

    def lineReceived(self, line: bytes) -> None:
        """Read a line of a request's head."""
        self._begin()
        super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a request line or header that is too long."""
        self._reply(b"431 Request Header Fields Too Large" if self.requests else b"414 URI Too Long")

    def headerReceived(self, line: bytes) -> bool:
        """Read one header."""
        try:
            return bool(super().headerReceived(line))
        except ValueError:  # a Content-Length of more digits than Python reads as an integer
            self._reply(b"400 Bad Request")
            return False

    def allHeadersReceived(self) -> None:
        """Refuse a body that is announced too long; else expect it."""
        length = self.length
        bound = self.site.max_body
        if length is not None and length > bound:
            self._unread = length
            self.refuse(self.requests[-1])
            return
        self._expect(BODY + (bound if length is None else length) / BODY_RATE)
        super().allHeadersReceived()

    def rawDataReceived(self, data: bytes) -> None:
        """Read a part of a body."""
        if self.closing:
            self._drain(data)
        else:
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        """Serve the request; from here on the server is the slow one."""
        if not self.closing:
            self._expect(None)
            super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """Expect the next request, unless the connection is closing."""
        self.heads.end()
        if self.closing:
            self.requests.remove(request)
            return
        self._resting = True
        self._expect(IDLE)
        super().requestDone(request)

    def refuse(self, request: Any, error: MFServerError | None = None) -> None:
        """Answer a request whose body is too large, or cannot be held, without reading it, and close."""
        self.closing = True
        bound = self.site.max_body
        # The body is not all there, so twisted.web has not told the request what it is.
        request.method, request.clientproto = b"POST", b"HTTP/1.1"
        set_headers(request)
        request.setHeader(b"Connection", b"close")
        answer_error(request, error or TooLarge(f"a body has at most {bound} bytes", bound))
        self._expect(LINGER)

    def end(self) -> None:
        """Close when the request that is being served is answered, or at once where there is none."""
        if self.requests and self._due is None:
            self.persistent = 0
        else:
            self.loseConnection()

    def leave(self) -> None:
        """Another protocol has the connection from now on."""
        self._forget_deadline()
        self.transport = None

    def isSecure(self) -> bool:
        """Whether it is over TLS."""
        return self._is_secure

    def hold(self, length: int) -> None:
        """Count an answer that is about to be written, until the transport is rid of it.

        :raises Overloaded: there is no room for it.
        """
        if length > LONG:
            if not self.site.budget.take(length, self.address):
                raise Overloaded("the server is holding too many answers")
            self._unsent += length

    def let_go(self) -> None:
        """Count no answers any more, unless the peer does not read."""
        if not self.paused:
            self.site.budget.give(self._unsent, self.address)
            self._unsent = 0

    def loseConnection(self) -> None:
        """Close, and after :data:`IDLE` seconds cut off a peer that does not read what is left to send."""
        self._close(IDLE)

    def pauseProducing(self) -> None:
        """Serve no further request while the peer does not read its answers, however many it sent ahead."""
        self.paused = True
        super().pauseProducing()
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Serve what waits."""
        self.paused = False
        self.let_go()
        super().resumeProducing()
        if not self.closing:
            super().dataReceived(b"")

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """Forget the deadlines, and what was not sent."""
        self._forget_deadline()
        self.paused = False
        self.let_go()
        super().connectionLost(reason)

    def _drain(self, data: bytes) -> None:
        """Pass over the body of a refused request; at its end nothing is left that a reset could cut off."""
        if self._unread:
            self._unread = max(0, self._unread - len(data))
            if not self._unread:
                self.loseConnection()

    def _begin(self) -> None:
        """The first byte of a request after a rest."""
        if self._resting:
            self._resting = False
            self._expect(HEADERS)

    def _expect(self, seconds: float | None) -> None:
        """Close unless what is expected comes in time; None expects nothing."""
        # A timer that is too early asks again when it fires: most deadlines are met, and few timers are set.
        self._due = None if seconds is None else self.site.clock.seconds() + seconds
        if self._due is not None and (self._deadline is None or self._deadline.getTime() > self._due):
            self._forget_deadline(self._due)
            self._deadline = self.callLater(seconds, self._late)

    def _forget_deadline(self, due: float | None = None) -> None:
        self._due = due
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        """Close; a peer that was late already has ``abortTimeout`` seconds to read what is left."""
        self._deadline = None
        if self._due is None:
            return
        left = self._due - self.site.clock.seconds()
        if left > 0:
            self._deadline = self.callLater(left, self._late)
        else:
            self._close(self.abortTimeout)

    def _close(self, patience: float) -> None:
        self.closing = True
        self._forget_deadline()
        super().loseConnection()
        self._deadline = self.callLater(patience, self._abort)

    def _abort(self) -> None:
        self._deadline = None
        self.transport.abortConnection()

    def _reply(self, status: bytes) -> None:
        """Answer bytes that never became a request, and close."""
        self.transport.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.loseConnection()


class BoundedSite(Site):
    """A site without an access log: a query string may hold a key.

    :ivar max_body: bytes of a request's body.
    :ivar budget: bytes of all bodies, and of all answers that are not read, that are held at a time.
    :ivar now: the time in seconds since 1970.
    """

    protocol = BoundedChannel  # type: ignore[assignment]  # twisted.web's own wraps a channel for HTTP/2
    displayTracebacks = False
    noisy = False

    def __init__(
        self, root: Root, clock: IReactorTime, max_body: int, budget: Budget, now: Callable[[], float]
    ) -> None:
        super().__init__(
            root, requestFactory=BoundedRequest, reactor=clock, timeout=None, parsePOSTFormSubmission=False
        )
        self.root = root
        self.clock = clock
        self.max_body = max_body
        self.budget = budget
        self.now = now
        self._accepted: dict[tuple[bool, int], bytes] = {}
        self._accepted_at = 0

    def accepted(self, is_secure: bool, status: int) -> bytes:
        """An answer without a body, for a request that was served; the same all through a second."""
        second = int(self.now())
        if second != self._accepted_at:
            self._accepted.clear()
            self._accepted_at = second
        if (is_secure, status) not in self._accepted:
            self._accepted[is_secure, status] = bare_answer(status, datetimeToString(second), is_secure)
        return self._accepted[is_secure, status]

    def startFactory(self) -> None:
        """Nothing to start."""

    def stopFactory(self) -> None:
        """Nothing to stop."""

    def log(self, request: Any) -> None:
        """Root logs what is worth it."""

    def getContentFile(self, length: int | None) -> BytesIO:
        """Where a body is kept: in memory, because it is bounded."""
        return BytesIO()

    def acceptableProtocols(self) -> list[bytes]:
        """The ALPN names that it speaks."""
        return [b"http/1.1"]


def make_site(
    routes: Sequence[Route],
    clock: IReactorTime,
    max_body: int = MAX_BODY,
    budget: Budget | None = None,
    now: Callable[[], float] = time,
) -> BoundedSite:
    """A site that serves a route table.

    :param clock: what deadlines are measured by.
    :param max_body: bytes of a request's body; a longer one is answered 413 before it is read.
    :param budget: bytes of all bodies and unread answers that are held at a time; past it 503. By default
        of 64 bodies.
    :param now: the time in seconds since 1970.
    """
    return BoundedSite(Root(routes), clock, max_body, budget or Budget(64 * max_body), now)
