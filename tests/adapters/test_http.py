"""HTTP publish, in memory: bytes through the real site."""

import base64

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mfserver import message
from mfserver.errors import NotAuthorized, Overloaded, SlowDown
from mfserver.interfaces import ISubscriber
from mfserver.message import Message
from mfserver.routing.tree import Options
from mfserver.topic import TopicFilter
from tests.adapters.durable import DurableBus
from tests.adapters.fakes import House, Wire
from tests.adapters.frames import answer

PATH = "/http/channels/c/messages"
KEY = "Authorization: key-of-alice"


@implementer(ISubscriber)
class Ears:
    """Hears everything on one channel."""

    def __init__(self, house: House, channel: str = "c") -> None:
        self.thing = house.thing("ears", channel)
        self.messages: list[Message] = []
        house.router.subscribe(TopicFilter(channel, ("#",)), self, Options(qos=1), exact=True)

    def deliver(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
        self.messages.append(message)

    def is_ready(self) -> bool:
        return True


class HTTPTestCase(SynchronousTestCase):
    """A house, a thing that publishes and one that listens."""

    def setUp(self) -> None:
        self.house = House()
        self.alice = self.house.thing("alice", "c", "d")
        self.ears = Ears(self.house)

    def tearDown(self) -> None:
        self.assertEqual([], self.house.gate.logged_in)

    def send(self, path: str = PATH, *headers: str, body: bytes = b"x", method: str = "POST") -> Wire:
        """Send a request on a new connection."""
        wire = self.house.web_wire()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers, f"Content-Length: {len(body)}"]
        wire.protocol.dataReceived("\r\n".join([*lines, "", ""]).encode() + body)
        return wire

    def post(self, path: str = PATH, *headers: str, body: bytes = b"x") -> int:
        """Publish. :return: the status; what was heard is in ears."""
        self.ears.messages.clear()
        status, answered, rest = answer(self.send(path, *headers, body=body).take())
        self.assertEqual(int(answered["content-length"]), len(rest))
        return status


class PublishTests(HTTPTestCase):
    """One POST, one message."""

    def test_accepted(self) -> None:
        """202 and nothing else; the message says who, where, when and how."""
        wire = self.send(f"{PATH}/a/b.c", KEY, body=b"\0\xff")
        status, headers, rest = answer(wire.take())
        self.assertEqual((202, b"", "0"), (status, rest, headers["content-length"]))
        self.assertNotIn("content-type", headers)
        (one,) = self.ears.messages
        self.assertEqual(("c", ("a", "b", "c"), "a.b.c"), (one.channel, one.levels, one.subtopic))
        self.assertEqual(("alice", message.HTTP, b"\0\xff"), (one.publisher, one.protocol, one.payload))
        self.assertEqual((1_600_000_000_000_000_000, 1, ""), (one.created, one.qos, one.content_type))

    def test_keep_alive(self) -> None:
        """Each request on one connection proves itself anew."""
        wire = self.send(PATH, KEY)
        self.assertEqual(202, answer(wire.take())[0])
        request = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: stolen\r\nContent-Length: 0\r\n\r\n"
        self.assertEqual(401, answer(wire.receive(request.encode()))[0])
        self.assertEqual(1, len(self.ears.messages))

    def test_bare_path(self) -> None:
        """The path of Mainflux's bare service."""
        self.assertEqual(202, self.post("/channels/c/messages/a", KEY))

    def test_topics(self) -> None:
        """Slashes and dots separate, empty levels are dropped, percent-encoding is undone."""
        for path, subtopic in (
            ("", ""),
            ("/", ""),
            ("/a/b", "a.b"),
            ("/a.b", "a.b"),
            ("//a..b//", "a.b"),
            ("/%61%20b", "a b"),
            ("/%C3%A4", "ä"),
            ("?x=/y", ""),
        ):
            with self.subTest(path=path):
                self.assertEqual(202, self.post(PATH + path, KEY))
                self.assertEqual([subtopic], [one.subtopic for one in self.ears.messages])

    def test_wrong_topics(self) -> None:
        """Wildcards, control characters, broken encodings and too much are 400."""
        for path in ("/*", "/a/>", "/a>b", "/%2B", "/%23", "/%00", "/a%2Fb", "/%zz", "/%ff", "/a" * 126):
            with self.subTest(path=path):
                self.assertEqual(400, self.post(PATH + path, KEY))
                self.assertEqual([], self.ears.messages)
        self.assertEqual(400, self.post("/http/channels/%2a/messages", KEY))

    def test_old_content_type(self) -> None:
        """Mainflux's ending /ct/ names the content type; a header wins over it."""
        for path, headers, expected in (
            (f"{PATH}/a/ct/text_plain", [KEY], "text/plain"),
            (f"{PATH}/ct/application_senml-json", [KEY], "application/senml+json"),
            (f"{PATH}/ct/text_plain", [KEY, "Content-Type: text/x"], "text/x"),
        ):
            self.assertEqual(202, self.post(path, *headers))
            self.assertEqual([expected], [one.content_type for one in self.ears.messages])
            self.assertNotIn("ct", self.ears.messages[0].levels)

    def test_content_type(self) -> None:
        """Any body is taken, of any type, also a form, which is not read as one."""
        for headers, path, expected in (
            (["Content-Type: application/senml+json"], PATH, "application/senml+json"),
            (["Content-Type: application/x-www-form-urlencoded"], PATH, "application/x-www-form-urlencoded"),
            ([], f"{PATH}?content-type=text/x", "text/x"),
            (["Content-Type: text/x"], f"{PATH}?content-type=text/x", "text/x"),
            ([f"Content-Type: {'x' * 255}"], PATH, "x" * 255),
        ):
            self.assertEqual(202, self.post(path, KEY, *headers, body=b"authorization=stolen"))
            self.assertEqual([expected], [one.content_type for one in self.ears.messages])

    def test_wrong_content_type(self) -> None:
        """Given twice, too long or with control characters, it is 400."""
        for headers, path in (
            (["Content-Type: a", "Content-Type: a"], PATH),
            (["Content-Type: a"], f"{PATH}?content-type=b"),
            ([f"Content-Type: {'x' * 256}"], PATH),
            ([], f"{PATH}?content-type=a%00b"),
            ([], f"{PATH}?content-type=a%0d%0ab"),
            ([], f"{PATH}?content-type=a&content-type=a"),
        ):
            with self.subTest(headers=headers, path=path):
                self.assertEqual(400, self.post(path, KEY, *headers))
                self.assertEqual([], self.ears.messages)

    def test_too_large(self) -> None:
        """The bound itself is taken; one byte more is 413, and nothing of it is published."""
        self.assertEqual(202, self.post(PATH, KEY, body=b"x" * 1000))
        self.assertEqual(413, self.post(PATH, KEY, body=b"x" * 1001))
        self.assertEqual([], self.ears.messages)

    def test_get(self) -> None:
        """Behind the proxy's path there is only POST; on the bare one a GET wants to be a WebSocket."""
        status, headers, _ = answer(self.send(PATH, KEY, method="GET").take())
        self.assertEqual((405, "OPTIONS, POST"), (status, headers["allow"]))
        status, headers, _ = answer(self.send("/channels/c/messages", KEY, method="GET").take())
        self.assertEqual((426, "websocket"), (status, headers["upgrade"]))


class WhoTests(HTTPTestCase):
    """Each place of a key, and who is refused."""

    def test_places(self) -> None:
        """Header in each spelling, and both parameters; who is known from memory, and who is not."""
        basic = "Authorization: Basic " + base64.b64encode(b"alice:key-of-alice").decode()
        for path, headers in (
            (PATH, [KEY]),
            (PATH, ["Authorization: Thing key-of-alice"]),
            (PATH, ["Authorization: Bearer key-of-alice"]),
            (PATH, [basic]),
            (f"{PATH}?authorization=key-of-alice", []),
            (f"{PATH}?auth=key-of-alice", []),
        ):
            self.house.gate.remembers = not self.house.gate.remembers
            with self.subTest(path=path, headers=headers):
                self.assertEqual(202, self.post(path, *headers))
                claims = self.house.gate.claims[-1]
                self.assertEqual((("key-of-alice",), "192.0.2.7"), (claims.keys, claims.address))
                self.assertEqual("alice" if headers == [basic] else None, claims.thing_id)
                self.assertFalse(claims.needs_key)

    def test_refused(self) -> None:
        """401 asks for a key and never for Basic; 403 and 400 are final. Nothing is published."""
        basic = "Authorization: Basic " + base64.b64encode(b"alice:key-of-alice").decode()
        for path, headers, expected in (
            (PATH, [], 401),
            (PATH, ["Authorization: stolen"], 401),
            (PATH, ["Authorization: Digest x"], 401),
            (PATH, ["Authorization: Basic ?"], 401),
            ("/http/channels/e/messages", [KEY], 403),
            (PATH, [basic, "Origin: https://evil.example"], 403),
            (PATH, [KEY, KEY], 400),
            (f"{PATH}?auth=a&AUTH=a", [], 400),
            (f"{PATH}?auth=%ff", [], 400),
        ):
            with self.subTest(path=path, headers=headers):
                self.ears.messages.clear()
                wire = self.send(path, *headers)
                status, answered, _ = answer(wire.take())
                self.assertEqual(expected, status)
                self.assertEqual("Bearer" if status == 401 else None, answered.get("www-authenticate"))
                self.assertEqual([], self.ears.messages)

    def test_each_error(self) -> None:
        """What the authenticator raises is the answer's status."""
        for error, expected in (
            (NotAuthorized("no"), 403),
            (SlowDown("later", 2.5), 429),
            (Overloaded("full"), 503),
        ):
            self.house.gate.error = error
            self.assertEqual(expected, self.post(PATH, KEY))

    def test_cross_site(self) -> None:
        """A request for a page of another site needs a key besides a certificate."""
        for header, needs_key in (
            ("Origin: https://evil.example", True),
            ("Sec-Fetch-Site: cross-site", True),
            ("Sec-Fetch-Site: same-origin", False),
        ):
            self.assertEqual(202, self.post(PATH, KEY, header))
            self.assertEqual(needs_key, self.house.gate.claims[-1].needs_key)

    def test_right_lost(self) -> None:
        """The right is asked for at each request."""
        self.alice.channels.remove("c")
        for self.house.gate.remembers in (True, False):
            self.assertEqual(403, self.post(PATH, KEY))

    def test_right_lost_meanwhile(self) -> None:
        """It is asked for after the authentication, however long that took."""
        self.house.gate.held = []
        wire = self.send(PATH, KEY)
        self.alice.channels.remove("c")
        self.house.gate.held.pop()()
        self.assertEqual(403, answer(wire.take())[0])


class DurableTests(HTTPTestCase):
    """With a bus that commits, 202 waits for the commit."""

    def setUp(self) -> None:
        super().setUp()
        self.bus = self.house.router.bus = DurableBus(self.house.router.deliver)

    def test_committed(self) -> None:
        """Nothing is said before the commit, and a thing that was logged in stays so until then."""
        self.house.gate.remembers = False
        wire = self.send(PATH, KEY)
        self.assertEqual(b"", wire.take())
        self.assertEqual(1, len(self.house.gate.logged_in))
        self.bus.commits[0].callback(None)
        self.assertEqual(202, answer(wire.take())[0])

    def test_failed(self) -> None:
        """What could not be kept is 500, 503 where a queue is full, and never 202."""
        for error, expected in ((OSError("disk full"), 500), (Overloaded("full"), 503)):
            wire = self.send(PATH, KEY)
            self.bus.commits.pop().errback(error)
            status, _, rest = answer(wire.take())
            self.assertEqual(expected, status)
            self.assertNotIn(b"disk", rest)
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))

    def test_gone(self) -> None:
        """A client that goes meanwhile is logged out when it is over, whatever comes of it."""
        self.house.gate.remembers = False
        for error in (None, OSError()):
            wire = self.send(PATH, KEY)
            wire.lose()
            commit = self.bus.commits.pop()
            commit.callback(None) if error is None else commit.errback(error)
            self.assertEqual([], self.house.gate.logged_in)
            self.assertEqual(b"", wire.take())

    def test_gone_during_authentication(self) -> None:
        """A client that goes before it is let in: its message was whole, and it is logged out."""
        self.house.gate.held = []
        wire = self.send(PATH, KEY)
        wire.lose()
        self.house.gate.held.pop()()
        self.bus.commits.pop().callback(None)
        self.assertEqual([], self.house.gate.logged_in)


class WebFactoryTests(HTTPTestCase):
    """What the web port is, besides a site."""

    def test_factory(self) -> None:
        self.assertEqual(("web", False), (self.house.web.logPrefix(), self.house.web.noisy))

    def test_too_many(self) -> None:
        """A connection past the bound is answered 503 and closed, and publishes nothing."""
        self.house.over_limit = True
        wire = self.send(PATH, KEY)
        status, headers, _ = answer(wire.take())
        self.assertEqual((503, "close", "10"), (status, headers["connection"], headers["retry-after"]))
        self.assertTrue(wire.disconnecting)
        self.assertEqual([], self.ears.messages)

    def test_address(self) -> None:
        """The bound is asked for the address of the connection."""
        asked: list[str] = []

        def is_over_limit(address: str) -> bool:
            asked.append(address)
            return False

        self.house.web.is_over_limit = is_over_limit
        protocol = self.house.web.buildProtocol(IPv4Address("TCP", "192.0.2.7", 1))
        assert protocol is not None
        Wire(protocol)
        self.assertEqual(["192.0.2.7"], asked)
