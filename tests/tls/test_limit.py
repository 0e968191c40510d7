"""How many connections there may be: counted from the first to the last moment."""

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mfserver.interfaces import ICounted
from mfserver.tls.limit import ConnectionLimit, LimitedFactory


class ConnectionLimitTests(SynchronousTestCase):
    """The numbers."""

    def test_in_all(self) -> None:
        """Up to the bound nobody is over it; 256 more are heard, and the next is not."""
        limit = ConnectionLimit(10, 1000)
        self.assertTrue(all(limit.accept(str(index)) for index in range(10)))
        self.assertFalse(limit.is_over("9"))
        self.assertTrue(limit.accept("next"))
        self.assertTrue(limit.is_over("next"))
        self.assertTrue(all(limit.accept(str(index)) for index in range(11, 266)))
        self.assertFalse(limit.accept("last"))
        self.assertEqual((266, 1), (limit.total, limit.unheard))
        limit.release("next")
        self.assertTrue(limit.accept("last"))

    def test_per_address(self) -> None:
        """The same for one neighbour: 16 more are heard. Others are not concerned."""
        limit = ConnectionLimit(1000, 2)
        self.assertTrue(all(limit.accept("a") for _ in range(2)))
        self.assertFalse(limit.is_over("a"))
        self.assertTrue(all(limit.accept("a") for _ in range(16)))
        self.assertTrue(limit.is_over("a"))
        self.assertFalse(limit.accept("a"))
        self.assertTrue(limit.accept("b"))
        self.assertFalse(limit.is_over("b"))
        self.assertFalse(limit.is_over("never seen"))

    def test_release(self) -> None:
        """What is released is free again, and an address without connections is not kept."""
        limit = ConnectionLimit(1000, 1)
        for _ in range(3):
            limit.accept("a")
        for over in (True, False, False):
            limit.release("a")
            self.assertEqual(over, limit.is_over("a"))
        self.assertEqual((0, {}), (limit.total, limit._open))
        self.assertRaises(KeyError, limit.release, "a")


class Inner(Factory):
    """Builds protocols that remember how they were lost."""

    builds: type[Protocol] | None

    def __init__(self) -> None:
        self.builds = Recorded
        self.started = 0

    def buildProtocol(self, addr: Any) -> Protocol | None:
        return None if self.builds is None else self.builds()

    def doStart(self) -> None:
        self.started += 1

    def doStop(self) -> None:
        self.started -= 1


class Recorded(Protocol):
    """A protocol."""

    def __init__(self) -> None:
        self.reasons: list[Failure] = []

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reasons.append(reason)


@implementer(ICounted)
class Telling(Recorded):
    """A protocol that tells itself when it is over."""

    released: Callable[[], None] | None = None


class LimitedFactoryTests(SynchronousTestCase):
    """The factory that counts."""

    def setUp(self) -> None:
        self.inner = Inner()
        self.limit = ConnectionLimit(1000, 1)
        self.factory = LimitedFactory(self.inner, self.limit)

    def build(self, address: Any) -> IProtocol | None:
        return self.factory.buildProtocol(address)

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(IProtocolFactory, self.factory))
        self.assertEqual("mfserver", self.factory.logPrefix())

    def test_counted(self) -> None:
        """From its building to its loss, which the protocol is told too; no layer is between."""
        protocol: Any = self.build(IPv4Address("TCP", "192.0.2.1", 1))
        self.assertIs(Recorded, type(protocol))
        self.assertEqual(1, self.limit.total)
        reason = Failure(ConnectionResetError())
        protocol.connectionLost(reason)
        self.assertEqual(([reason], 0), (protocol.reasons, self.limit.total))

    def test_told(self) -> None:
        """A protocol that tells itself when it is over is left as it is."""
        self.inner.builds = Telling
        protocol: Any = self.build(IPv4Address("TCP", "192.0.2.1", 1))
        self.assertNotIn("connectionLost", vars(protocol))
        protocol.connectionLost()
        self.assertEqual(1, self.limit.total)
        protocol.released()
        self.assertEqual((1, 0), (len(protocol.reasons), self.limit.total))

    def test_networks(self) -> None:
        """IPv6 counts by /64 and IPv4 in IPv6 as IPv4; a UNIX socket has no host."""
        for address in (
            IPv6Address("TCP", "2001:db8::1", 1),
            IPv6Address("TCP", "2001:db8::2", 1),
            IPv6Address("TCP", "::ffff:192.0.2.1", 1),
            IPv4Address("TCP", "192.0.2.1", 1),
            UNIXAddress("/run/x"),
        ):
            self.build(address)
        self.assertEqual({"2001:db8::/64": 2, "192.0.2.1": 2, "": 1}, self.limit._open)

    def test_too_many(self) -> None:
        """Beyond those that are heard there is no protocol, and the inner factory is not asked."""
        address = IPv4Address("TCP", "192.0.2.1", 1)
        self.assertTrue(all(self.build(address) for _ in range(17)))
        self.inner.buildProtocol = None  # type: ignore[assignment, method-assign]
        self.assertIsNone(self.build(address))
        self.assertEqual((17, 1), (self.limit.total, self.limit.unheard))

    def test_refused_inside(self) -> None:
        """What the inner factory does not build is not counted."""
        self.inner.builds = None
        self.assertIsNone(self.build(IPv4Address("TCP", "192.0.2.1", 1)))
        self.assertEqual(0, self.limit.total)

    def test_start_and_stop(self) -> None:
        self.factory.doStart()
        self.assertEqual(1, self.inner.started)
        self.factory.doStop()
        self.assertEqual(0, self.inner.started)
