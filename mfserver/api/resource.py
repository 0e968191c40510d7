"""One resource for a whole route table: finds the row, serves it, and turns errors into answers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mfserver.api.heads import Begun
from mfserver.errors import (
    Conflict,
    Invalid,
    MFServerError,
    NotAuthorized,
    NotFound,
    Overloaded,
    SlowDown,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from mfserver.route import Route

__all__ = [
    "Root",
    "WrongMethod",
    "WrongType",
    "UpgradeRequired",
    "answer",
    "answer_error",
    "bare_answer",
    "set_headers",
]


class WrongMethod(MFServerError):
    """The path is there, but not for this method.

    :ivar allowed: the methods that it is there for.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__("the method is not one of this path's")
        self.allowed = allowed


class WrongType(MFServerError):
    """The body is not of the media type that the path wants."""


class UpgradeRequired(MFServerError):
    """The path speaks another protocol.

    :ivar protocol: what the Upgrade header has to name.
    """

    def __init__(self, protocol: str) -> None:
        super().__init__(f"this path wants an upgrade to {protocol}")
        self.protocol = protocol


_STATUS: Final[Mapping[type[BaseException], int]] = {
    Invalid: 400,
    Unauthenticated: 401,
    NotAuthorized: 403,
    NotFound: 404,
    WrongMethod: 405,
    Conflict: 409,
    TooLarge: 413,
    WrongType: 415,
    UpgradeRequired: 426,
    SlowDown: 429,
    Overloaded: 503,
    Unavailable: 503,
}

#: Seconds after which somebody who was turned away because a queue is full may try again.
_OVERLOAD_PAUSE: Final = 1.0
# Any page may call the API: what it needs is a token, which no browser sends by itself.
_HEADERS: Final = (
    (b"Access-Control-Allow-Origin", b"*"),
    (b"Access-Control-Expose-Headers", b"Location"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"X-Frame-Options", b"DENY"),
    (b"Cache-Control", b"no-store"),
)
_HSTS: Final = b"max-age=63072000; includeSubDomains"


class Root(Resource):
    """Serves every row of a route table; the path is matched as it came, before percent-decoding.

    A literal segment wins over a place, and a place over the rest of a path. A trailing slash is a segment
    of its own, as in Mainflux. HEAD is served by GET's row and OPTIONS by the table itself.

    What a row's handler raises becomes the answer. A request without an upgrade that its handler left open
    when it returned is finished here.
    """

    isLeaf = True
    _log = Logger()

    def __init__(self, routes: Sequence[Route]) -> None:
        super().__init__()
        self._tree = _Node()
        for route in routes:
            self._tree.add(route)

    def render(self, request: Request) -> int:
        """Begin to serve a request; the answer comes when the row's handler is done."""
        self._begin(request, None)
        return NOT_DONE_YET

    def finish(self, request: Request, begun: Begun) -> None:
        """Answer a request when what was begun with its body is done."""
        self._begin(request, begun)

    def _begin(self, request: Request, begun: Begun | None) -> None:
        Deferred.fromCoroutine(self._serve(request, begun)).addErrback(
            lambda failure: self._log.failure("a request could not be answered", failure)
        )

    async def _serve(self, request: Any, begun: Begun | None) -> None:
        """Serve a request and answer it, whatever its handler does."""
        set_headers(request)
        try:
            if begun is not None:
                await begun[0]
                answer(request, begun[1])
                return
            found = self._find(request)
            if found is None:
                return
            route, parameters = found
            again = route.serve(request, parameters)
            if again is not None:
                again = await again
            if again is not None and _is_open(request):
                request.learn(again, route.success)
        except Exception as error:
            self._failed(request, error)
            return
        if route.upgrade is None and _is_open(request):
            request.finish()

    def _failed(self, request: Request, error: Exception) -> None:
        """Answer what a handler raised, and log it where it is no answer but our mistake."""
        if not _is_open(request) and not request.finished:  # nobody is there
            return
        if not isinstance(error, MFServerError):
            self._log.failure("a request failed")
        if request.finished:
            return
        if request.startedWriting:
            request.loseConnection()
        else:
            answer_error(request, error)

    def _find(self, request: Request) -> tuple[Route, dict[str, str]] | None:
        """The row of a request and what stands in its places; None when it has been answered already.

        :raises MFServerError: there is none.
        """
        hosts = request.requestHeaders.getRawHeaders(b"host", [])
        if len(hosts) > 1 or (not hosts and request.clientproto == b"HTTP/1.1"):  # RFC 9112, 3.2
            raise Invalid("a request has exactly one Host header", "Host")
        matches = self._tree.match(_segments(request))
        if not matches:
            raise NotFound("no such path")
        if request.method == b"OPTIONS":
            _answer_options(request, _allowed(matches))
            return None
        wanted = "GET" if request.method == b"HEAD" else request.method.decode("ascii")
        others, matches = matches, [match for match in matches if match[0].method == wanted]
        if not matches:
            raise WrongMethod(_allowed(others))
        upgrades = _upgrades(request)
        for route, values in matches:
            if route.upgrade in upgrades:
                return route, dict(zip(_places(route.path), values, strict=True))
        for route, values in matches:
            if route.upgrade is None:
                return route, dict(zip(_places(route.path), values, strict=True))
        raise UpgradeRequired(str(matches[0][0].upgrade))


def answer(request: Request, status: int, entity: bytes = b"", media_type: str = "application/json") -> None:
    """Answer a request and finish it; nothing happens when its client is gone."""
    if not _is_open(request):
        return
    # twisted.web has no words for statuses younger than RFC 2616: 426 and 429.
    request.setResponseCode(status, HTTPStatus(status).phrase.encode())
    if entity:
        request.setHeader(b"Content-Type", media_type.encode())
    if status != 204:
        request.setHeader(b"Content-Length", b"%d" % len(entity))
    request.write(entity)
    request.finish()


def bare_answer(status: int, date: bytes, is_secure: bool) -> bytes:
    """What :func:`answer` and :func:`set_headers` write for a status without a body.

    :param date: the Date header.
    """
    headers = [(b"Date", date), *_HEADERS, *([(b"Strict-Transport-Security", _HSTS)] if is_secure else ())]
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%s: %s" % header for header in (*headers, (b"Content-Length", b"0"))]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def answer_error(request: Request, error: Exception) -> None:
    """Answer with an error's status and text; the text of one that is not ours stays inside."""
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
    text = str(error) if status != 500 else "the server failed"
    match error:
        case Invalid(field=str(field)):
            text = f"{field}: {text}"
        case Unauthenticated():
            request.setHeader(b"WWW-Authenticate", b"Bearer")
        case WrongMethod(allowed=allowed):
            request.setHeader(b"Allow", ", ".join(allowed).encode())
        case UpgradeRequired(protocol=protocol):
            request.setHeader(b"Upgrade", protocol.encode())
            request.setHeader(b"Connection", b"Upgrade")
        case SlowDown(retry_after=pause):
            _set_retry_after(request, pause)
        case Overloaded():
            _set_retry_after(request, _OVERLOAD_PAUSE)
        case _:
            pass
    answer(request, status, msgspec.json.encode({"error": text}))


def set_headers(request: Request) -> None:
    """Give an answer the headers that every answer has."""
    for name, value in _HEADERS:
        request.setHeader(name, value)
    if request.isSecure():
        request.setHeader(b"Strict-Transport-Security", _HSTS)


class _Node:
    """The rows below one segment of their paths."""

    __slots__ = ("literals", "place", "rest", "routes")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.place: _Node | None = None
        self.routes: list[Route] = []
        self.rest: list[Route] = []

    def add(self, route: Route) -> None:
        node = self
        for segment in route.path.split("/")[1:]:
            if segment.endswith("*}"):
                node.rest.append(route)
                return
            if segment.startswith("{"):
                node.place = node.place or _Node()
                node = node.place
            else:
                node = node.literals.setdefault(segment, _Node())
        node.routes.append(route)

    def match(self, segments: Sequence[str]) -> list[tuple[Route, tuple[str, ...]]]:
        """Every row of a path with the values of its places, the most literal first.

        It goes no deeper than the longest path of the table, however many segments there are.
        """
        found: list[tuple[Route, tuple[str, ...]]] = []
        if segments:
            first, below = segments[0], segments[1:]
            if first in self.literals:
                found += self.literals[first].match(below)
            if self.place is not None and first:
                found += [(route, (first, *values)) for route, values in self.place.match(below)]
        else:
            found += [(route, ()) for route in self.routes]
        rest = "/".join(segments) if self.rest else ""
        return found + [(route, (rest,)) for route in self.rest]


def _segments(request: Request) -> list[str]:
    """The path's segments, still percent-encoded. :raises Invalid: it is no path."""
    try:
        path = request.path.decode("ascii")
        if not path.startswith("/"):  # the absolute form, which proxies send (RFC 9112, 3.2.2)
            path = urlsplit(path).path or "/"
    except ValueError as error:
        raise Invalid("the path is not ASCII", "path") from error
    return path.split("/")[1:]


def _is_open(request: Request) -> bool:
    """Whether there is somebody to answer who has not been: twisted.web takes the channel away."""
    return getattr(request, "channel", None) is not None


def _allowed(matches: Iterable[tuple[Route, tuple[str, ...]]]) -> list[str]:
    """The methods of a path."""
    methods = {route.method for route, _ in matches} | {"OPTIONS"}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


def _places(path: str) -> list[str]:
    return [segment.strip("{*}") for segment in path.split("/") if segment.startswith("{")]


def _upgrades(request: Request) -> set[str]:
    """The protocols that the Upgrade headers name, in lower case; of a request that can be upgraded."""
    if request.method != b"GET" or request.clientproto != b"HTTP/1.1":  # RFC 9110, 7.8; RFC 6455, 4.1
        return set()
    values = request.requestHeaders.getRawHeaders(b"upgrade", [])
    return {name.strip().decode("latin-1").lower() for value in values for name in value.split(b",")}


def _answer_options(request: Request, allowed: Sequence[str]) -> None:
    """Answer OPTIONS and a browser's preflight."""
    methods = ", ".join(allowed).encode()
    request.setHeader(b"Allow", methods)
    request.setHeader(b"Access-Control-Allow-Methods", methods)
    request.setHeader(b"Access-Control-Allow-Headers", b"Authorization, Content-Type")
    request.setHeader(b"Access-Control-Max-Age", b"7200")
    answer(request, 204)


def _set_retry_after(request: Request, pause: float) -> None:
    request.setHeader(b"Retry-After", b"%d" % max(1, math.ceil(pause)))
