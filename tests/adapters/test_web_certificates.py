"""An HTTP connection ends with the certificate that was shown on it, in memory."""

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mfserver.errors import NotAuthorized
from mfserver.tls.peer import IPeerTransport
from tests.adapters.fakes import House, Wire
from tests.adapters.frames import answer, handshake
from tests.cred.fakes import CarefulPeer

KEY = b"Authorization: key-of-alice\r\n"
HEAD = b"POST /http/channels/c/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n" + KEY + b"\r\n"


@implementer(IPeerTransport)
class SecureWire(Wire):
    """A connection on which a certificate was shown."""

    def __init__(self, protocol: Any, peer: Any) -> None:
        self.peer = peer
        super().__init__(protocol)


class EndTests(SynchronousTestCase):
    """What is revoked, expired or trusted no more does not rest on an open connection."""

    def setUp(self) -> None:
        self.house = House()
        self.house.thing("alice", "c")
        self.peer = CarefulPeer("key-of-alice")
        self.wire = self.connect(self.peer)

    def connect(self, peer: CarefulPeer) -> SecureWire:
        return SecureWire(self.house.web.buildProtocol(IPv4Address("TCP", "192.0.2.7", 4711)), peer)

    def revoke(self) -> None:
        self.peer.trouble = NotAuthorized("it is revoked")
        self.house.watch.reverify()

    def test_resting(self) -> None:
        """At once between two requests; another one's connection stays."""
        other = self.connect(CarefulPeer("key-of-alice"))
        for wire in self.wire, other:
            self.assertEqual(202, answer(wire.receive(HEAD + b"x"))[0])
        self.revoke()
        self.assertEqual((True, False), (self.wire.disconnecting, other.disconnecting))
        self.assertEqual(b"", self.wire.receive(HEAD + b"x"))
        self.assertEqual(202, answer(other.receive(HEAD + b"x"))[0])

    def test_silent(self) -> None:
        """Before the first request."""
        self.revoke()
        self.assertTrue(self.wire.disconnecting)

    def test_half_a_request(self) -> None:
        """One that has not come yet is not waited for, be it in its head or in its body."""
        self.wire.receive(HEAD[:20])
        self.revoke()
        self.assertTrue(self.wire.disconnecting)
        self.peer = CarefulPeer("key-of-alice")
        self.wire = self.connect(self.peer)
        self.wire.receive(HEAD)
        self.revoke()
        self.assertTrue(self.wire.disconnecting)

    def test_served(self) -> None:
        """A request that is being served is answered: it may be the one that revokes. None after it is."""
        held: list[Callable[[], object]] = []
        self.house.gate.held = held
        self.wire.receive((HEAD + b"x") * 2)
        self.revoke()
        self.assertFalse(self.wire.disconnecting)
        held.pop()()
        status, _, rest = answer(self.wire.take())
        self.assertEqual((202, b""), (status, rest))
        self.assertTrue(self.wire.disconnecting)
        self.assertEqual([], held)

    def test_upgraded(self) -> None:
        """A WebSocket's own login is watched, and it knows how to say good-bye."""
        self.wire.receive(handshake("/ws/channels/c/messages", "Authorization: key-of-alice"))
        self.revoke()
        self.assertEqual([], self.peer.verified)
        self.assertFalse(self.wire.disconnecting)

    def test_expired(self) -> None:
        """With the certificate's last second."""
        wire = self.connect(CarefulPeer("key-of-alice", self.house.clock.seconds() + 5))
        self.house.clock.advance(4.9)
        self.assertFalse(wire.disconnecting)
        self.house.clock.advance(0.2)
        self.assertTrue(wire.disconnecting)

    def test_gone(self) -> None:
        """Who has left is not watched, and leaves no timer."""
        self.wire.lose()
        self.revoke()
        self.assertEqual([], self.peer.verified)
        self.assertEqual([], self.house.clock.getDelayedCalls())
