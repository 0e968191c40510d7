"""A TLS listener in memory, and clients for it."""

from collections.abc import Mapping, Sequence
from time import time

from OpenSSL import SSL
from twisted.internet.interfaces import IProtocolFactory
from twisted.logger import LogEvent
from twisted.trial.unittest import SynchronousTestCase

from mfserver.tls.context import ServerContext
from tests.tls.pki import Authority, Identity, server_context
from tests.tls.wire import Listener, Wire, client_context


class ListenCase(SynchronousTestCase):
    """A listener that requests client certificates, and one authority for both sides.

    :ivar listener_type: how its connections carry TLS.
    """

    listener_type = Listener

    def setUp(self) -> None:
        self.authority = Authority()
        self.context = self.make_context()
        self.skew = 0.0
        self.listener = self.listen()

    def make_context(self, *, request: bool = True, minimum: str = "1.2") -> ServerContext:
        return server_context(self.mktemp(), self.authority, request=request, minimum=minimum)

    def listen(self, *protocols: bytes) -> Listener:
        return self.make_listener(protocols)

    def make_listener(
        self,
        protocols: Sequence[bytes] = (),
        *,
        factory: IProtocolFactory | None = None,
        others: Mapping[bytes, IProtocolFactory] | None = None,
    ) -> Listener:
        listener = self.listener_type(
            self.context, protocols, factory=factory, others=others, now=lambda: time() + self.skew
        )
        self.addCleanup(listener.close)
        return listener

    def client(
        self,
        identity: Identity | None = None,
        version: int = SSL.TLS1_3_VERSION,
        protocols: list[bytes] | None = None,
    ) -> SSL.Context:
        return client_context(self.authority.certificate, identity, version=version, protocols=protocols)

    def assert_refused(self, wire: Wire, alert: str) -> None:
        """The handshake failed with this alert, and no application ever knew."""
        self.assertEqual(self.listener.applications.made, [])
        self.assertTrue(wire.is_closed)
        self.assertIn(alert, wire.alert)
        self.assertEqual(self.context.handshakes_failed, 1)


def ours(events: Sequence[LogEvent]) -> list[LogEvent]:
    """The events that listeners logged."""
    return [event for event in events if event["log_namespace"].startswith("mfserver.tls.listen")]
