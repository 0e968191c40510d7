"""The one resource: which row serves a request, and what becomes of errors."""

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request, fromChunk

from mfserver import __version__
from mfserver.api.server import make_site
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
)
from mfserver.route import Route
from tests.api.house import Answer, House
from tests.builds import EXPECTED


class Echo:
    """Answers which row it is and what stood in the places."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self, request: Request, parameters: dict[str, str]) -> None:
        request.write(f"{self.name} {parameters}".encode())


def row(method: str, path: str, name: str, upgrade: str | None = None) -> Route:
    return Route(method=method, path=path, serve=Echo(name), upgrade=upgrade)


class DispatchTests(SynchronousTestCase):
    """A route table with everything in it."""

    def setUp(self) -> None:
        self.house = House(
            [
                row("GET", "/a/{id}", "one"),
                row("GET", "/a/all", "all"),
                row("PUT", "/a/{id}", "put"),
                row("GET", "/a/{x}/b/{y}", "two"),
                row("POST", "/m/{channel}/messages/{subtopic*}", "publish"),
                Route(
                    method="GET",
                    path="/m/{channel}/messages/{subtopic*}",
                    serve=lambda request, parameters: request.write(b"socket") or request.finish(),
                    upgrade="websocket",
                ),
                row("GET", "/m/{channel}/{rest*}", "reader"),
            ]
        )

    def serve(self, method: str, path: str, version: str = "HTTP/1.1", **headers: str) -> str:
        """What was written: the first of the chunks, which have no length."""
        channel, wire = self.house.connect()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        channel.dataReceived(f"{method} {path} {version}\r\nHost: x\r\n{lines}\r\n".encode())
        head, _, body = wire.value().partition(b"\r\n\r\n")
        if body and b"chunked" in head:
            body, _ = fromChunk(body)
        text: str = body.decode()
        return text

    def test_places(self) -> None:
        """Literals win, places are handed on as they came, and the rest may be empty or anything."""
        for method, path, expected in (
            ("GET", "/a/all", "all {}"),
            ("GET", "/a/al%6c", "one {'id': 'al%6c'}"),
            ("GET", "/a/1?id=2", "one {'id': '1'}"),
            ("PUT", "/a/all", "put {'id': 'all'}"),
            ("GET", "/a/1%2F2/b/..", "two {'x': '1%2F2', 'y': '..'}"),
            ("GET", "/a/all/b/1", "two {'x': 'all', 'y': '1'}"),
            ("POST", "/m/1/messages", "publish {'channel': '1', 'subtopic': ''}"),
            ("POST", "/m/1/messages/", "publish {'channel': '1', 'subtopic': ''}"),
            ("POST", "/m/1/messages/a//b%2f/", "publish {'channel': '1', 'subtopic': 'a//b%2f/'}"),
            ("POST", "/m/1/messages/" + "a/" * 7000, None),
        ):
            served = self.serve(method, path)
            self.assertEqual(served, expected or served, path)
            self.assertNotIn("error", served)

    def test_upgrade(self) -> None:
        """On a path that several share, the Upgrade header decides; without a plain row it is asked for."""
        self.assertEqual(self.serve("GET", "/m/1/messages/a", Upgrade="h2c, WebSocket"), "socket")
        reader = "reader {'channel': '1', 'rest': 'messages/a'}"
        self.assertEqual(self.serve("GET", "/m/1/messages/a"), reader)
        self.assertEqual(self.serve("GET", "/m/1/messages/a", Upgrade="h2c"), reader)
        self.assertEqual(self.serve("POST", "/m/1/messages/a", Upgrade="websocket")[:7], "publish")
        self.assertEqual(self.serve("GET", "/m/1/messages/a", "HTTP/1.0", Upgrade="websocket"), reader)
        house = House([row("GET", "/mqtt", "mqtt", "websocket")])
        answer = house.ask("GET", "/mqtt")
        self.assertEqual((answer.status, answer.reason), (426, "Upgrade Required"))
        self.assertEqual(answer.headers["upgrade"], "websocket")

    def test_absent(self) -> None:
        """404: other paths, a trailing slash, an empty place, another case."""
        for path in "/", "/b", "/a", "/a/", "/a/1/", "/A/1", "/a//b/1", "/things/", "/version/x", "/%61/1":
            self.assertEqual(self.house.ask("GET", path).status, 404, path)

    def test_wrong_method(self) -> None:
        """405 with what is allowed, for every method that the path has not."""
        for method in "POST", "PATCH", "TRACE", "put", "X" * 100:
            answer = self.house.ask(method, "/a/all")
            self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET, HEAD, OPTIONS, PUT"))

    def test_head(self) -> None:
        """HEAD is GET without the entity."""
        answer = self.house.ask("HEAD", "/version")
        self.assertEqual((answer.status, answer.entity), (200, b""))
        self.assertEqual(answer.headers["content-length"], str(len(self.house.ask("GET", "/version").entity)))
        self.assertEqual(self.house.ask("HEAD", "/nowhere").entity, b"")

    def test_preflight(self) -> None:
        """A browser may ask from any page, with a token and JSON."""
        answer = self.house.ask("OPTIONS", "/things/1/key", headers={"Origin": "https://a.example"})
        self.assertEqual((answer.status, answer.entity), (204, b""))
        self.assertEqual(answer.headers["access-control-allow-origin"], "*")
        self.assertEqual(answer.headers["access-control-allow-methods"], "OPTIONS, PATCH")
        self.assertEqual(answer.headers["access-control-allow-headers"], "Authorization, Content-Type")
        self.assertEqual(self.house.ask("OPTIONS", "/nowhere").status, 404)

    def test_headers(self) -> None:
        """Every answer has them, the errors too."""
        for path in "/version", "/nowhere", "/things":
            headers = self.house.ask("GET", path).headers
            for name, value in (
                ("access-control-allow-origin", "*"),
                ("access-control-expose-headers", "Location"),
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
                ("cache-control", "no-store"),
            ):
                self.assertEqual(headers[name], value)
            self.assertNotIn("server", headers)


class ErrorTests(SynchronousTestCase):
    """Whatever a handler does, there is an answer."""

    def ask(self, serve: Any) -> Answer:
        return House([Route(method="GET", path="/x", serve=serve)]).ask("GET", "/x")

    def test_statuses(self) -> None:
        """Each error of ours has its status, raised at once, in a coroutine or by a Deferred."""

        class Worse(Conflict):
            pass

        for error, status, headers in (
            (Invalid("wrong"), 400, {}),
            (Unauthenticated("wrong"), 401, {"www-authenticate": "Bearer"}),
            (NotAuthorized("wrong"), 403, {}),
            (NotFound("wrong"), 404, {}),
            (Worse("wrong"), 409, {}),
            (TooLarge("wrong", 7), 413, {}),
            (SlowDown("wrong", 0.1), 429, {"retry-after": "1"}),
            (Overloaded("wrong"), 503, {"retry-after": "1"}),
        ):

            def raises(request: Request, parameters: Any, error: MFServerError = error) -> None:
                raise error

            async def coroutine(request: Request, parameters: Any, error: MFServerError = error) -> None:
                raise error

            def deferred(request: Request, parameters: Any, error: MFServerError = error) -> Any:
                return fail(error)

            for serve in raises, coroutine, deferred:
                answer = self.ask(serve)
                self.assertEqual((answer.status, answer.error), (status, "wrong"))
                self.assertEqual(headers, {name: answer.headers.get(name) for name in headers})

    def test_field(self) -> None:
        """The text of a wrong field begins with its name."""
        self.assertEqual(self.ask(lambda *_: fail(Invalid("too long", "name"))).error, "name: too long")

    def test_bug(self) -> None:
        """500 and a neutral text; the log has the rest."""
        answer = self.ask(lambda *_: fail(ValueError("secret")))
        self.assertEqual((answer.status, answer.error), (500, "the server failed"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_too_late(self) -> None:
        """An error after the answer began ends the connection: half an answer must not look whole."""

        async def serve(request: Request, parameters: dict[str, str]) -> None:
            request.write(b"half")
            raise Conflict("too late")

        house = House([Route(method="GET", path="/x", serve=serve)])
        channel, wire = house.connect()
        channel.dataReceived(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertTrue(wire.disconnecting)
        self.assertNotIn(b"too late", wire.value())

    def test_after_the_answer(self) -> None:
        """A mistake after the whole answer is logged, and the connection goes on."""

        async def serve(request: Request, parameters: dict[str, str]) -> None:
            request.setHeader(b"Content-Length", b"0")
            request.finish()
            raise ValueError("too late")

        house = House([Route(method="GET", path="/x", serve=serve)])
        channel, wire = house.connect()
        for count in (1, 2):
            channel.dataReceived(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            self.assertEqual(1, len(self.flushLoggedErrors()))
            self.assertEqual(count, wire.value().count(b"HTTP/1.1 200 OK"))
        self.assertFalse(wire.disconnecting)

    def test_client_gone(self) -> None:
        """Whatever a handler does after its client went away is quiet, and nothing is written."""

        async def returns(request: Request, waiting: "Deferred[None]") -> None:
            await waiting

        async def fails(request: Request, waiting: "Deferred[None]") -> None:
            await waiting
            raise Conflict("nobody listens")

        async def finishes(request: Request, waiting: "Deferred[None]") -> None:
            await waiting
            request.finish()

        for serve in returns, fails, finishes:
            waiting: Deferred[None] = Deferred()
            route = Route(
                method="GET", path="/x", serve=lambda r, _, serve=serve, waiting=waiting: serve(r, waiting)
            )
            channel, wire = House([route]).connect()
            channel.dataReceived(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            channel.connectionLost(Failure(ConnectionDone()))
            waiting.callback(None)
            self.assertEqual(wire.value(), b"")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_provisioning_for_nobody(self) -> None:
        """A call whose client went away is still done, and its answer goes nowhere."""
        house = House()
        waiting: Deferred[str] = Deferred()
        house.passwords.hash = lambda password: waiting  # type: ignore[method-assign]
        channel, wire = house.connect()
        body = b'{"email":"a@b.example","password":"12345678"}'
        channel.dataReceived(
            b"POST /users HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        channel.connectionLost(Failure(ConnectionDone()))
        waiting.callback("hash")
        self.assertIsNotNone(self.successResultOf(house.store.users.by_email("a@b.example")))
        self.assertEqual(wire.value(), b"")


class BodyTests(SynchronousTestCase):
    """JSON in."""

    def setUp(self) -> None:
        self.house = House(max_body=2_000_000)

    def test_type(self) -> None:
        """415 unless the body is said to be JSON, once; a charset is fine."""
        good = b'{"email":"a@b.example","password":"12345678"}'
        for value, status in (
            ("application/json", 201),
            ("application/JSON; charset=utf-8", 409),
            ("application/x-www-form-urlencoded", 415),
            ("", 415),
            ("application/json\r\nContent-Type: application/json", 415),
        ):
            answer = self.house.ask("POST", "/users", good, headers={"Content-Type": value})
            self.assertEqual(answer.status, status, value)
        self.assertEqual(self.house.ask("POST", "/users").status, 415)

    def test_malformed(self) -> None:
        """400 for what is no JSON, or not what is wanted; nothing of it comes back."""
        for body in (
            b"",
            b"{",
            b"null",
            b"[]",
            b"{}",
            b'{"token":1}',
            b'{"token":NaN}',
            b'{"token":"\xff"}',
            b'{"\xff":1}',
            b'{"token":"\\ud800"}',
            b"\xef\xbb\xbf{}",
            b"[" * 100_000,
            b'{"x":' * 100_000,
            b'{"token":"hush","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        ):
            answer = self.house.ask("POST", "/identify", body)
            self.assertEqual((answer.status, answer.error[:6]), (400, "body: "), body[:40])
            self.assertNotIn("hush", answer.error)

    def test_too_large(self) -> None:
        """JSON has a bound of its own where the site's is higher."""
        answer = self.house.ask("POST", "/identify", b" " * 1_048_577)
        self.assertEqual((answer.status, answer.headers.get("connection")), (413, None))

    def test_unknown_and_double_fields(self) -> None:
        """Unknown fields are passed over, and of two with one name the last counts, as in Go."""
        answer = self.house.ask("POST", "/identify", b'{"token":"x","surprise":[],"token":"y"}')
        self.assertEqual(answer.status, 401)


class VersionTests(SynchronousTestCase):
    """What anybody may ask."""

    def test_version(self) -> None:
        told = House().ask("GET", "/version").json
        self.assertEqual(told, {"service": "things", "version": __version__, "build": EXPECTED})

    def test_health(self) -> None:
        answer = House().ask("GET", "/health", token="nonsense")
        self.assertEqual((answer.status, answer.json["status"]), (200, "pass"))

    def test_default_bound(self) -> None:
        """A site's bodies have 1 MiB unless more is asked for."""
        self.assertEqual(make_site([], House().clock).max_body, 1_048_576)
