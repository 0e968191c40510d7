"""WebSockets, in memory: handshake bytes and frames by hand, through the real site and autobahn."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ISSLTransport, ITransport
from zope.interface.verify import verifyObject

from mfserver import message
from mfserver.adapters.ws import WSProtocol
from mfserver.errors import Invalid, NotAuthorized, SlowDown
from mfserver.interfaces import ILiveConnection, ISubscriber
from mfserver.message import Message
from mfserver.records import ChannelId
from mfserver.route import Route
from tests.adapters.durable import DurableBus
from tests.adapters.fakes import Wire
from tests.adapters.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    WSTestCase,
    answer,
    close_code,
    closing,
    frame,
    frames,
    handshake,
)

PATH = "/ws/channels/c/messages"
ALICE = "Authorization: key-of-alice"


class HandshakeTests(WSTestCase):
    """Who may open a WebSocket is decided before WebSocket code sees the connection."""

    def test_each_path(self) -> None:
        """Mainflux's path behind its proxy and that of its bare service, with and without a subtopic."""
        for path in (PATH, "/channels/c/messages", f"{PATH}/a/b", f"{PATH}/", "/channels/c/messages/a.b"):
            self.open("alice", path)

    def test_each_place_of_the_key(self) -> None:
        """Header or query, and both when they are equal."""
        for path, headers in (
            (PATH, [ALICE]),
            (PATH, ["authorization: Bearer key-of-alice"]),
            (f"{PATH}?authorization=key-of-alice", []),
            (f"{PATH}?auth=key%2Dof%2Dalice", []),
        ):
            _, status, _, _ = self.ask(path, *headers)
            self.assertEqual(101, status)
            self.assertEqual(("key-of-alice",), self.house.gate.claims[-1].keys)
            self.assertTrue(self.house.gate.claims[-1].needs_key)

    def test_refused(self) -> None:
        """A status before any upgrade; nobody is logged in and nobody listens."""
        for path, headers, expected in (
            (PATH, [], 401),
            (PATH, ["Authorization: wrong"], 401),
            (PATH, ["Authorization: Digest x"], 401),
            ("/ws/channels/e/messages", [ALICE], 403),
            ("/ws/channels/e/messages/>", [ALICE], 403),
            (PATH, [ALICE, ALICE], 400),
            (f"{PATH}?auth=a&auth=a", [], 400),
            (f"{PATH}/%zz", [ALICE], 400),
            (f"{PATH}/a*", [ALICE], 400),
            (f"{PATH}/>/a", [ALICE], 400),
            ("/ws/channels/%20%2a/messages", [ALICE], 400),
            (PATH, [ALICE, "Content-Type: a", "Content-Type: a"], 400),
            (PATH, ["Authorization: Basic OmtleS1vZi1hbGljZQ==", "Origin: https://evil.example"], 403),
        ):
            with self.subTest(path=path, headers=headers):
                wire, status, answered, _ = self.ask(path, *headers)
                self.assertEqual(expected, status)
                self.assertNotIn("upgrade", answered)
                self.assertEqual([], self.house.gate.logged_in)
                self.assertFalse(wire.aborted)
        self.assertEqual(set(), self.house.ws.open)

    def test_each_error(self) -> None:
        """What the authenticator raises is the answer's status."""
        for error, expected in (
            (NotAuthorized("no"), 403),
            (SlowDown("later", 2.5), 429),
            (Invalid("x"), 400),
        ):
            self.house.gate.error = error
            self.assertEqual(expected, self.ask(PATH, ALICE)[1])

    def test_bad_handshake(self) -> None:
        """A handshake that WebSocket code refuses: 400 or 426, closed, and logged out again."""
        for fields in ({"key": "short"}, {"key": ""}, {"version": "8"}, {"version": "x"}):
            wire, status, _, _ = self.ask(PATH, ALICE, **fields)
            self.assertIn(status, (400, 426))
            self.assertTrue(wire.disconnecting)
            wire.lose()
            self.assertEqual([], self.house.gate.logged_in)
        self.assertEqual(set(), self.house.ws.open)

    def test_not_to_be_upgraded(self) -> None:
        """Only a GET of HTTP/1.1 is (RFC 9110, 7.8; RFC 6455, 4.1); nobody is logged in for another."""
        for old, new in (b"GET", b"HEAD"), (b"HTTP/1.1", b"HTTP/1.0"):
            wire = self.house.web_wire()
            answer = wire.receive(handshake(PATH, ALICE).replace(old, new, 1))
            self.assertIn(b" 426 ", answer.partition(b"\r\n")[0])
            self.assertEqual([], self.house.gate.claims)

    def test_what_websocket_code_sees(self) -> None:
        """The key is in no header and no query that autobahn is shown, and stays out of its log."""
        wire, *_ = self.ask(f"{PATH}?authorization=key-of-alice&x=1", ALICE, "Cookie: secret", "X-Y: secret")
        socket = wire.protocol.wrappedProtocol
        self.assertIsInstance(socket, WSProtocol)
        seen = repr((socket.http_request_data, socket.http_headers, socket.http_request_uri))
        self.assertNotIn("key-of-alice", seen)
        self.assertNotIn("secret", seen)
        self.assertIn("localhost", seen)

    def test_interfaces(self) -> None:
        """The authenticator can end it and the router deliver to it."""
        protocol = self.open("alice").protocol.wrappedProtocol
        for interface in (ILiveConnection, ISubscriber):
            self.assertTrue(verifyObject(interface, protocol))

    def test_one_too_many(self) -> None:
        """A connection past the bound is told 503, once, and closed; nobody asks for its key."""
        self.house.over_limit = True
        wire = self.house.web_wire()
        _, headers, rest = answer(wire.receive(handshake(PATH, ALICE)))
        self.assertEqual((b'{"error":"too many connections"}\r\n', "34"), (rest, headers["content-length"]))
        self.assertEqual(b"", wire.receive(handshake(PATH, ALICE)))
        self.assertTrue(wire.disconnecting)
        self.assertEqual([], self.house.gate.claims)

    def test_not_on_the_web_port(self) -> None:
        """A connection that cannot be upgraded is answered 400, and the thing logged out."""
        wire = Wire(self.house.web.wrappedFactory.buildProtocol(None))
        self.house.wires.append(wire)
        self.assertEqual(400, answer(wire.receive(handshake(PATH, ALICE)))[0])
        self.assertEqual([], self.house.gate.logged_in)
        wire.receive(handshake("/mqtt", "Sec-WebSocket-Protocol: mqtt"))
        self.assertEqual(set(), self.house.mqtt.connections)

    def test_gone_during_authentication(self) -> None:
        """A client that goes while it is let in is logged out again, and nothing is upgraded."""
        self.house.gate.held = []
        wire = self.house.web_wire()
        wire.receive(handshake(PATH, ALICE))
        wire.lose()
        self.house.gate.held.pop()()
        self.assertEqual([], self.house.gate.logged_in)
        self.assertEqual(set(), self.house.ws.open)
        self.assertEqual(b"", wire.take())

    def test_ended_during_authentication(self) -> None:
        """A thing whose right ends between its login and the upgrade is denied with 403."""
        self.house.gate.held = []
        wire = self.house.web_wire()
        wire.receive(handshake(PATH, ALICE))
        let_in = self.house.gate.held.pop()
        self.house.gate.on_login = lambda connection: connection.end("the thing key was changed")
        let_in()
        self.assertEqual(403, answer(wire.take())[0])
        self.assertTrue(wire.disconnecting)
        wire.lose()
        self.assertEqual([], self.house.gate.logged_in)

    def test_ended_during_the_handshake(self) -> None:
        """A right that ends while the handshake is answered closes with 1008; nobody was listening yet."""
        wire = self.house.web_wire()
        write = wire.write

        def end(data: bytes) -> None:
            write(data)
            wire.protocol.wrappedProtocol.end("the thing key was changed")

        wire.write = end  # type: ignore[method-assign]
        status, _, rest = answer(wire.receive(handshake(PATH, ALICE)))
        self.assertEqual((101, 1008), (status, close_code(rest)))
        self.assertEqual(set(), self.house.ws.open)

    def test_body(self) -> None:
        """A request for an upgrade has no body: what stood there would not be frames."""
        wire = self.house.web_wire()
        request = handshake(PATH, ALICE, "Content-Length: 3") + b"\x81\x80\0"
        self.assertEqual(400, answer(wire.receive(request))[0])
        self.assertEqual([], self.house.gate.logged_in)

    def test_transport(self) -> None:
        """What autobahn is handed is a transport, and no TLS one."""
        wire = self.open("alice")
        transport = wire.protocol.wrappedProtocol.transport
        self.assertTrue(verifyObject(ITransport, transport))
        self.assertFalse(ISSLTransport.providedBy(transport))
        self.assertEqual(wire.getHost(), transport.getHost())
        transport.writeSequence([frame(PING)[:1], b"\0"])
        self.assertEqual([Frame(PING, b"")], frames(wire.take()))
        transport.abortConnection()
        self.assertTrue(wire.aborted and transport.disconnecting)

    def test_channel_lost_during_authentication(self) -> None:
        """Likewise when it loses the channel."""
        self.house.gate.on_login = lambda connection: connection.channel_lost(ChannelId("c"))
        self.assertEqual(403, self.ask(PATH, ALICE)[1])


class RouteTests(WSTestCase):
    """What the API's description says of it."""

    def test_rows(self) -> None:
        for route in self.house.ws.routes():
            self.assertEqual(("GET", "websocket", 101, "thing"), _row(route))
            self.assertEqual((400, 401, 403), route.errors)
            self.assertEqual({"authorization", "content-type"}, set(route.parameters))
        for route in self.house.mqtt_over_ws.routes():
            self.assertEqual(("GET", "websocket", 101, "thing"), _row(route))
        for route in self.house.http.routes():
            self.assertEqual(("POST", None, 202, "thing"), _row(route))
            self.assertEqual(((400, 401, 403, 413, 503), True), (route.errors, route.any_body))


def _row(route: Route) -> tuple[str, str | None, int, str]:
    return route.method, route.upgrade, route.success, route.access


class MessageTests(WSTestCase):
    """Frames are messages."""

    def test_hears_itself_and_others(self) -> None:
        """As in Mainflux, a publisher hears its own messages; so does everybody on the same topic."""
        alice, bob, elsewhere = self.open("alice"), self.open("bob"), self.open("bob", f"{PATH}/a")
        self.assertEqual([Frame(TEXT, b"hi")], frames(alice.receive(frame(TEXT, b"hi"))))
        self.assertEqual([Frame(TEXT, b"hi")], frames(bob.take()))
        self.assertEqual(b"", elsewhere.take())

    def test_frame_type(self) -> None:
        """Text leaves as text where it is UTF-8 of a text, JSON or unknown type, else binary."""
        bob = self.open("bob")
        for content_type, payload, opcode in (
            ("", b"hi", TEXT),
            ("", "ä".encode(), TEXT),
            ("", b"\xff", BINARY),
            ("text/plain; charset=utf-8", b"hi", TEXT),
            ("TEXT/CSV", b"hi", TEXT),
            ("application/senml+json", b"[]", TEXT),
            ("application/json", b"\xff", BINARY),
            ("application/octet-stream", b"hi", BINARY),
            ("application/senml+cbor", b"hi", BINARY),
        ):
            with self.subTest(content_type=content_type, payload=payload):
                self.house.router.publish(Message("c", (), "", "x", message.HTTP, payload, content_type, 0))
                self.assertEqual([Frame(opcode, payload)], frames(bob.take()))

    def test_content_type(self) -> None:
        """What the handshake named, else what the old topic ending says, is the message's."""
        for path, headers, expected in (
            (PATH, ["Content-Type: text/x"], "text/x"),
            (f"{PATH}?content-type=text/y", [], "text/y"),
            (f"{PATH}/ct/text_z", [], "text/z"),
            (PATH, [], ""),
        ):
            wire = self.open("alice", path, *headers)
            published = self.record()
            wire.receive(frame(BINARY, b"\0\xff"))
            (one,) = published
            self.assertEqual((expected, b"\0\xff"), (one.content_type, one.payload))
            self.assertEqual(("alice", message.WS, 1), (one.publisher, one.protocol, one.qos))
            self.assertEqual(1_600_000_000_000_000_000, one.created)

    def test_fragments(self) -> None:
        """A message in fragments, with a ping between them, in every split of its bytes, is one message."""
        data = frame(TEXT, b"a" * 130, final=False) + frame(PING, b"p") + frame(CONTINUATION, b"b")
        for cut in range(len(data)):
            wire = self.open("alice")
            written = frames(wire.receive(data[:cut]) + wire.receive(data[cut:]))
            self.assertEqual([Frame(PONG, b"p"), Frame(TEXT, b"a" * 130 + b"b")], written)
            wire.lose()

    def test_wildcard_listens(self) -> None:
        """On a wildcard a WebSocket hears every topic that matches, and may say nothing."""
        wild, exact = self.open("bob", f"{PATH}/*/x"), self.open("alice", f"{PATH}/a/x")
        rest = self.open("bob", f"{PATH}/>")
        self.assertEqual([Frame(TEXT, b"hi")], frames(exact.receive(frame(TEXT, b"hi"))))
        self.assertEqual([Frame(TEXT, b"hi")], frames(wild.take()))
        self.assertEqual([Frame(TEXT, b"hi")], frames(rest.take()))
        self.assertEqual(1008, close_code(wild.receive(frame(TEXT, b"no"))))
        self.assertEqual(b"", exact.take() + rest.take())

    def test_right_lost(self) -> None:
        """A thing that is not connected any more is closed at its next frame, and hears nothing."""
        alice, bob = self.open("alice"), self.open("bob")
        self.bob.channels.clear()
        alice.receive(frame(TEXT, b"secret"))
        self.assertEqual(b"", bob.take())
        self.assertEqual(1008, close_code(bob.receive(frame(TEXT, b"x"))))
        self.assertEqual(b"", alice.take())

    def test_durable(self) -> None:
        """Until every frame that came is committed no further one is read."""
        alice = self.open("alice")
        bus = self.house.router.bus = DurableBus(self.house.router.deliver)
        self.assertEqual(2, len(frames(alice.receive(frame(TEXT, b"1") + frame(TEXT, b"2")))))
        self.assertEqual("paused", alice.producerState)
        bus.commits[0].callback(None)
        self.assertEqual("paused", alice.producerState)
        bus.commits[1].callback(None)
        self.assertEqual("producing", alice.producerState)

    def test_not_kept(self) -> None:
        """A message that could not be kept closes with 1011, and the log says why."""
        for gone in (False, True):
            alice = self.open("alice", f"{PATH}/x")
            bus = self.house.router.bus = DurableBus(lambda message: None)
            alice.receive(frame(TEXT, b"1"))
            if gone:
                alice.lose()
            bus.commits[0].errback(OSError("disk full"))
            self.assertEqual(None if gone else 1011, close_code(alice.take()))
            self.assertEqual(1, len(self.flushLoggedErrors(OSError)))

    def test_commit_after_the_end(self) -> None:
        """A commit finds a WebSocket that is over, and says nothing to it."""
        alice = self.open("alice")
        bus = self.house.router.bus = DurableBus(lambda message: None)
        alice.receive(frame(TEXT, b"1"))
        alice.lose()
        bus.commits[0].callback(None)
        self.assertEqual(b"", alice.take())

    def record(self) -> list[Message]:
        """What is published from now on, which nobody hears."""
        published: list[Message] = []

        class Bus:
            def publish(self, message: Message) -> "Deferred[None] | None":
                published.append(message)
                return None

        self.house.router.bus = Bus()  # type: ignore[assignment]
        return published


class EndTests(WSTestCase):
    """Every end says why."""

    def test_end(self) -> None:
        """A thing whose right ended hears 1008 and the reason, once."""
        wire = self.open("alice")
        wire.protocol.wrappedProtocol.end("the thing key was changed")
        self.assertEqual([Frame(CLOSE, b"\x03\xf0the thing key was changed")], frames(wire.take()))
        wire.protocol.wrappedProtocol.end("again")
        wire.protocol.wrappedProtocol.going_away()
        self.assertEqual(b"", wire.take())
        self.assertEqual(b"", wire.receive(frame(TEXT, b"x")))
        wire.receive(closing(1008))
        self.assertTrue(wire.aborted)

    def test_long_reason(self) -> None:
        """A reason is cut to what a close frame holds, between characters."""
        wire = self.open("alice")
        wire.protocol.wrappedProtocol.end("ä" * 100)
        ((_, payload),) = frames(wire.take())
        self.assertEqual("ä" * 61, payload[2:].decode())

    def test_channel_lost(self) -> None:
        """The WebSocket on that channel closes with 1008; one on another stays."""
        c, d = self.open("alice"), self.open("alice", "/ws/channels/d/messages")
        for wire in (c, d):
            wire.protocol.wrappedProtocol.channel_lost(ChannelId("c"))
        self.assertEqual((1008, None), (close_code(c.take()), close_code(d.take())))

    def test_going_away(self) -> None:
        """Every client hears 1001."""
        wires = [self.open("alice"), self.open("bob")]
        self.house.ws.going_away()
        self.assertEqual([1001, 1001], [close_code(wire.take()) for wire in wires])

    def test_late(self) -> None:
        """While the server ends nobody is let in; who was on the way in hears 1001, and no message."""
        self.house.gate.held = []
        late = self.house.web_wire()
        self.assertEqual(b"", late.receive(handshake(PATH, ALICE)))
        self.house.ws.going_away()
        self.assertEqual(503, self.ask(PATH, ALICE)[1])
        self.house.gate.held.pop()()
        status, _, rest = answer(late.take())
        self.assertEqual((101, 1001), (status, close_code(rest)))

    def test_close_deadline(self) -> None:
        """A peer that does not answer a close is cut off after ten seconds."""
        wire = self.open("alice")
        wire.protocol.wrappedProtocol.end("over")
        self.house.clock.advance(8)
        self.assertFalse(wire.aborted)
        self.house.clock.advance(3)
        self.assertTrue(wire.aborted)

    def test_good_bye(self) -> None:
        """A client's close is answered, and everything of it forgotten."""
        wire, bob = self.open("alice"), self.open("bob")
        self.assertEqual(1000, close_code(wire.receive(closing())))
        self.assertTrue(wire.disconnecting)
        bob.receive(frame(TEXT, b"x"))
        wire.lose()
        self.assertEqual(b"", wire.take())
        self.assertEqual(1, len(self.house.ws.open))
        self.assertEqual(["bob"], [str(thing) for thing, _ in self.house.gate.logged_in])

    def test_lost(self) -> None:
        """A connection that is lost is logged out and hears nothing more."""
        alice, bob = self.open("alice"), self.open("bob")
        protocol = alice.protocol.wrappedProtocol
        alice.lose()
        bob.receive(frame(TEXT, b"x"))
        self.assertEqual(b"", alice.take())
        protocol.release()
        self.assertEqual(["bob"], [str(thing) for thing, _ in self.house.gate.logged_in])
        self.assertEqual([bob.protocol.wrappedProtocol], self.listeners())

    def listeners(self) -> list[object]:
        """Who would be handed a message on the channel."""
        subscribers: list[object] = list(self.house.router._normal.match("c", ())[0])
        return subscribers

    def test_broken_rules(self) -> None:
        """Too big 1009, no UTF-8 1007, an unmasked or unknown frame 1002; nothing of it is published."""
        bob = self.open("bob")
        for data, code in (
            (frame(BINARY, b"x" * 1001), 1009),
            (frame(BINARY, b"x" * 600, final=False) + frame(CONTINUATION, b"x" * 401), 1009),
            (frame(TEXT, b"\xff"), 1007),
            (frame(TEXT, b"\xc3"), 1007),
            (b"\x81\x01x", 1002),
            (frame(3, b"x"), 1002),
        ):
            with self.subTest(data=data[:10]):
                wire = self.open("alice")
                self.assertEqual(code, close_code(wire.receive(data)))
                self.assertEqual(b"", bob.take())
                bob.receive(frame(TEXT, b"still here"))
                bob.take()
                self.assertEqual(b"", wire.take())
                wire.lose()

    def test_largest(self) -> None:
        """A message of exactly the bound is taken."""
        self.assertEqual(1, len(frames(self.open("alice").receive(frame(BINARY, b"x" * 1000)))))

    def test_subscriptions_full(self) -> None:
        """A WebSocket that the router refuses closes with 1008."""
        self.house.router._max_subscriptions = 0
        _, _, _, rest = self.ask(PATH, ALICE)
        self.assertEqual(1008, close_code(rest))
