"""HTTP publish on one connection, with the same head again and again: every request proves itself anew."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mfserver.adapters.http import HTTPAdapter
from mfserver.adapters.upgrade import WebFactory
from mfserver.api.server import make_site
from mfserver.cred.attempts import Attempts
from mfserver.cred.authentication import Authenticator, key_mode, x509_mode
from mfserver.cred.identity import Identities
from mfserver.cred.tokens import TokenOwners
from mfserver.errors import NotAuthorized, Overloaded
from mfserver.message import Message
from mfserver.records import Change, ChannelId
from tests.adapters.durable import BrokenBus, DurableBus
from tests.adapters.fakes import House, Wire
from tests.adapters.frames import answer
from tests.adapters.test_http import Ears
from tests.adapters.test_web_certificates import SecureWire
from tests.builds import attributes
from tests.cred.fakes import ALICE, CHANNEL, SECRET, CarefulPeer, alices_thing
from tests.cred.fakes import House as CredHouse

OWN, VICTIM = alices_thing(1), alices_thing(2)
PATH = f"/http/channels/{CHANNEL}/messages"


def post(body: bytes = b"x", key: str | None = OWN.key, path: str = f"{PATH}/a/b.c") -> bytes:
    """A request as a device sends it."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/senml+json"]
    lines += [f"Authorization: {key}"] if key is not None else []
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


class Counted(HTTPAdapter):
    """Counts what it published that came with a head that came before."""

    known = 0

    def publish_again(self, *arguments: Any) -> "Deferred[None] | bool":
        published = super().publish_again(*arguments)
        self.known += published is not False
        return published


class AgainTestCase(SynchronousTestCase):
    """A web port with the real access to Alice's things, in the mode of the class."""

    certificates = False

    def setUp(self) -> None:
        self.house = House()
        self.cred = CredHouse()
        self.attempts = Attempts(self.cred.clock, interval=60.0, burst=3)
        self.peer = CarefulPeer(OWN.key)
        self.adapter = self.make_adapter()
        site = make_site(self.adapter.routes(), self.house.clock)
        self.web = WebFactory(site, lambda _: False, self.cred.watch)
        self.ears = Ears(self.house, CHANNEL)
        self.wire = self.connect()
        self.assertEqual([202, 202], [self.send(post()), self.send(post())])
        self.assertEqual(0, self.adapter.known)

    def make_adapter(self) -> Counted:
        return Counted(self.authenticator(), self.house.router, max_message=1000, now=self.house.now)

    def authenticator(self) -> Authenticator:
        seconds = self.cred.clock.seconds
        owners = TokenOwners(SECRET, self.cred.store.users, self.cred.store.keys, seconds)
        if not self.certificates:
            return key_mode(self.cred.access, owners, self.attempts)[0]
        identities = Identities(self.cred.certificates, lambda: (), seconds)
        return x509_mode(self.cred.access, identities, owners, self.attempts, seconds)[0]

    def connect(self) -> Wire:
        protocol = self.web.buildProtocol(IPv4Address("TCP", "192.0.2.7", 4711))
        assert protocol is not None
        return SecureWire(protocol, self.peer if self.certificates else None)

    def send(self, data: bytes) -> int:
        """Send one request. :return: the status."""
        status, headers, rest = answer(self.wire.receive(data))
        self.assertEqual(int(headers["content-length"]), len(rest))
        return status

    def heard(self) -> list[Message]:
        heard, self.ears.messages = self.ears.messages, []
        return heard

    @contextmanager
    def known(self, times: int) -> Iterator[None]:
        """So many requests are served from their bodies."""
        before = self.adapter.known
        yield
        self.assertEqual(times, self.adapter.known - before)

    def delete(self) -> None:
        self.successResultOf(self.cred.store.things.remove(ALICE.id, OWN.id))
        self.cred.access.changed(Change(things=(OWN.id,), deleted=True))

    def rotate(self) -> None:
        self.successResultOf(self.cred.store.things.set_key(ALICE.id, OWN.id, "a-new-key-for-thing-1"))
        self.cred.access.changed(Change(things=(OWN.id,)))

    def disconnect(self) -> None:
        self.successResultOf(self.cred.store.connections.disconnect(ALICE.id, [CHANNEL], [OWN.id]))
        self.cred.access.changed(Change(things=(OWN.id,), channels=(CHANNEL,)))

    def remove_channel(self) -> None:
        self.successResultOf(self.cred.store.channels.remove(ALICE.id, ChannelId(CHANNEL)))
        self.cred.access.changed(Change(channels=(CHANNEL,)))

    def assert_ended(self, end: Callable[[], object], status: int) -> None:
        """The next request with the same head is refused, and no other; then each after it is."""
        with self.known(1):
            self.assertEqual(202, self.send(post()))
        self.heard()
        end()
        self.assertEqual([status] * 2, [self.send(post()) for _ in range(2)])
        self.assertEqual([], self.heard())


class KeyTests(AgainTestCase):
    """Key mode."""

    def test_same_message(self) -> None:
        """It says what the first one said, but for its payload."""
        self.house.clock.advance(1)
        first, _ = self.heard()
        with self.known(2):
            self.assertEqual(([202, 202]), [self.send(post(b"\0\xff" * 50)), self.send(post(b""))])
        for one, payload in zip(self.heard(), (b"\0\xff" * 50, b""), strict=True):
            self.assertEqual((payload, len(payload), self.house.now()), (one.payload, one.size, one.created))
            for name in set(attributes(Message)) - {"payload", "_size", "created", "encoded"}:
                self.assertEqual(getattr(first, name), getattr(one, name), name)

    def test_thing_deleted(self) -> None:
        self.assert_ended(self.delete, 401)

    def test_key_rotated(self) -> None:
        self.assert_ended(self.rotate, 401)
        self.assertEqual(202, self.send(post(key="a-new-key-for-thing-1")))

    def test_disconnected(self) -> None:
        """And connected again."""
        self.assert_ended(self.disconnect, 403)
        self.successResultOf(self.cred.store.connections.connect(ALICE.id, [CHANNEL], [OWN.id]))
        self.cred.access.changed(Change(things=(OWN.id,), channels=(CHANNEL,), connected=True))
        self.assertEqual([202] * 3, [self.send(post()) for _ in range(3)])

    def test_channel_removed(self) -> None:
        self.assert_ended(self.remove_channel, 403)

    def test_ended_by_a_message(self) -> None:
        """The right is asked for at each of those that came in one segment, not once for all."""
        for end, status in ((self.disconnect, 403), (self.delete, 401)):
            self.setUp()
            self.heard()
            deliver = self.ears.deliver

            def deliver_and_end(
                *arguments: Any, deliver: Any = deliver, end: Callable[[], None] = end
            ) -> None:
                deliver(*arguments)
                end()

            self.ears.deliver = deliver_and_end  # type: ignore[assignment]
            with self.known(1):
                data = self.wire.receive(post(b"1") + post(b"2"))
            self.assertEqual([b"1"], [one.payload for one in self.heard()])
            first, _, rest = answer(data)
            self.assertEqual((202, status), (first, answer(rest)[0]))

    def test_stolen_key(self) -> None:
        """One connection, two requests: a good key, then one that is not; and the other way round."""
        stolen = OWN.key[:-1] + "2"
        self.assertEqual(VICTIM.key, stolen)
        for key, status in (("x" * len(OWN.key), 401), (OWN.key + "2", 401), (OWN.key[:-1], 401)):
            self.setUp()
            with self.known(0):
                self.assertEqual(status, self.send(post(key=key)))
            self.heard()
            with self.known(1):
                self.assertEqual(202, self.send(post()))
            self.assertEqual([OWN.id], [one.publisher for one in self.heard()])

    def test_two_things(self) -> None:
        """Two behind one gateway: each message is that of the one whose key came with it."""
        self.heard()
        for _ in range(3):
            for thing in (OWN, VICTIM, VICTIM, VICTIM):
                self.assertEqual(202, self.send(post(key=thing.key)))
        expected = [OWN.id, VICTIM.id, VICTIM.id, VICTIM.id] * 3
        self.assertEqual(expected, [one.publisher for one in self.heard()])
        self.assertGreater(self.adapter.known, 2)

    def test_guessing(self) -> None:
        """Failures on one connection make the good key on another wait as well, known or not."""
        other = self.connect()
        self.assertEqual(401, answer(other.receive(post(key="x" * 16)))[0])
        with self.known(1):
            self.assertEqual(202, self.send(post()))
        for _ in range(2):
            self.assertEqual(401, answer(other.receive(post(key="x" * 16)))[0])
        with self.known(0):
            self.assertEqual(429, self.send(post()))

    def test_not_in_memory(self) -> None:
        """Who was forgotten is looked up, and then known again."""
        self.cred = CredHouse()
        self.adapter._authenticator = self.authenticator()
        with self.known(0):
            self.assertEqual([202, 202], [self.send(post()), self.send(post())])
        with self.known(1):
            self.assertEqual(202, self.send(post()))

    def test_too_large(self) -> None:
        """413, whatever came before."""
        with self.known(1):
            self.assertEqual((202, 413), (self.send(post(b"x" * 1000)), self.send(post(b"x" * 1001))))

    def test_nothing_can_be_stored(self) -> None:
        """What the router refuses is 503, and nothing is published."""
        self.heard()
        self.house.journal.stalled = True
        with self.known(0):
            self.assertEqual(503, self.send(post()))
        self.assertEqual([], self.heard())

    def test_committed(self) -> None:
        """202 waits for the commit; the message is published once."""
        bus = self.house.router.bus = DurableBus(self.house.router.deliver)
        self.heard()
        self.assertEqual(b"", self.wire.receive(post(b"1") + post(b"2")))
        self.assertEqual([b"1"], [one.payload for one in self.heard()])
        bus.commits.pop().callback(None)
        self.assertEqual(202, answer(self.wire.take())[0])
        self.assertEqual([b"2"], [one.payload for one in self.heard()])
        bus.commits.pop().errback(Overloaded("full"))
        self.assertEqual(503, answer(self.wire.take())[0])
        bus.free = 1
        with self.known(1):
            self.assertEqual(202, self.send(post()))

    def test_bus_fails(self) -> None:
        """A mistake after some may have had the message: 500, and it is not published once more."""
        bus = self.house.router.bus = BrokenBus(OSError("secret"))
        self.assertEqual((500, 1), (self.send(post()), bus.count))
        self.assertEqual(1, len(self.flushLoggedErrors(OSError)))


class CertificateTests(AgainTestCase):
    """Certificate mode, where the key may come too."""

    certificates = True

    def test_revoked(self) -> None:
        """At the very next request, before anybody has told the connection."""

        def revoke() -> None:
            self.peer.trouble = NotAuthorized("the certificate is revoked")

        self.assert_ended(revoke, 403)

    def test_revoked_and_told(self) -> None:
        """The connection that rests is closed."""
        self.assertEqual(202, self.send(post()))
        self.peer.trouble = NotAuthorized("the certificate is revoked")
        self.cred.watch.reverify()
        self.assertTrue(self.wire.disconnecting)
        self.assertEqual(b"", self.wire.receive(post()))

    def test_thing_deleted(self) -> None:
        self.assert_ended(self.delete, 403)

    def test_key_rotated(self) -> None:
        self.assert_ended(self.rotate, 403)

    def test_disconnected(self) -> None:
        self.assert_ended(self.disconnect, 403)

    def test_without_a_key(self) -> None:
        """The certificate is enough, each time; another's key is too much."""
        self.assertEqual([202] * 2, [self.send(post(key=None)) for _ in range(2)])
        with self.known(1):
            self.assertEqual(202, self.send(post(key=None)))
        with self.known(0):
            self.assertEqual([403] * 2, [self.send(post(key=VICTIM.key)) for _ in range(2)])
