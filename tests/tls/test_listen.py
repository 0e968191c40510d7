"""Listeners in memory: real TLS between pyOpenSSL's client and ours, no sockets."""

import contextlib
from datetime import timedelta
from typing import Any

from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs

from mfserver.ca.x509 import encode_certificate
from mfserver.tls.peer import peer_of
from tests.tls.listen_case import ListenCase, ours
from tests.tls.pki import DAY, KEY, Authority, Identity, write
from tests.tls.socket_wire import SocketListener
from tests.tls.wire import Application, Wire

VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)


class CertificateTests(ListenCase):
    """IDENTITY.md, certificate mode: requested, verified if sent, never demanded."""

    def test_certificate(self) -> None:
        """A thing's certificate is at hand as soon as its protocol is, in both versions of TLS."""
        for version, text in zip(VERSIONS, ("TLSv1.2", "TLSv1.3"), strict=True):
            listener = self.listen()
            wire = listener.connect(self.client(self.authority.client(), version))
            wire.handshake()
            [application] = listener.applications.made
            peer = peer_of(application.transport)
            assert peer is not None
            self.assertEqual((peer.common_name(), peer.tls_version), (KEY, text))

    def test_no_certificate(self) -> None:
        """People and their browsers have none, and are let in as nobody."""
        for version in VERSIONS:
            listener = self.listen()
            wire = listener.connect(self.client(version=version))
            wire.handshake()
            [application] = listener.applications.made
            self.assertIsNone(peer_of(application.transport))

    def test_certificate_through_intermediate(self) -> None:
        """A chain that the client sends leads to the root, on the first handshake and on a resumed one."""
        between = Authority("Between", self.authority)
        context = self.client(between.client(chain=(between.certificate,)))
        wire = self.listener.connect(context)
        wire.handshake()
        resumed = self.listener.connect(context, wire.client.get_session())
        resumed.handshake()
        peers = [peer_of(application.transport) for application in self.listener.applications.made]
        self.assertEqual([peer and peer.common_name() for peer in peers], [KEY, KEY])

    def refuse(self, identity: Identity, alert: str, version: int = SSL.TLS1_3_VERSION) -> None:
        wire = self.listener.connect(self.client(identity, version))
        wire.handshake()
        self.assert_refused(wire, alert)

    def test_other_authority(self) -> None:
        """The right common name under another authority fails the handshake."""
        self.refuse(Authority("Other").client(), "unknown ca")

    def test_other_authority_of_the_same_name(self) -> None:
        """An authority is its key, not its name."""
        self.refuse(Authority().client(), "alert")

    def test_self_signed(self) -> None:
        """A certificate that vouches for itself fails the handshake."""
        alone = Authority(KEY, is_authority=False)
        self.refuse(Identity(alone.certificate, alone.key), "unknown ca")

    def test_expired(self) -> None:
        """An expired certificate fails the handshake."""
        self.refuse(self.authority.client(begin=-2 * DAY, end=-DAY), "certificate expired")

    def test_not_yet_valid(self) -> None:
        """A certificate from the future fails the handshake."""
        self.refuse(self.authority.client(begin=DAY, end=2 * DAY), "bad certificate")

    def test_server_usage_only(self) -> None:
        """A server's certificate is no thing's."""
        usages = [ExtendedKeyUsageOID.SERVER_AUTH]
        self.refuse(self.authority.client(usages=usages), "unsupported certificate")

    def test_server_usage_only_tls_1_2(self) -> None:
        """As under TLS 1.3."""
        usages = [ExtendedKeyUsageOID.SERVER_AUTH]
        self.refuse(self.authority.client(usages=usages), "unsupported certificate", SSL.TLS1_2_VERSION)

    def test_no_extended_usage(self) -> None:
        """Where no extended key usage is present, none is missed: that is how old authorities issue."""
        wire = self.listener.connect(self.client(self.authority.client(usages=())))
        wire.handshake()
        self.assertEqual(len(self.listener.applications.made), 1)

    def test_leaf_as_authority(self) -> None:
        """A thing cannot issue certificates for others."""
        thing = Authority(KEY, self.authority, is_authority=False)
        self.refuse(thing.client("victim-0123456789", chain=(thing.certificate,)), "alert")

    def test_names_of_authorities(self) -> None:
        """The client is told which authority to use, so that a browser offers the right certificates."""
        wire = self.listener.connect(self.client(version=SSL.TLS1_2_VERSION))
        wire.handshake()
        [offered] = wire.client.get_client_ca_list(as_cryptography=True)
        self.assertEqual(offered, self.authority.certificate.subject)

    def test_key_mode_asks_for_none(self) -> None:
        """In key mode a certificate is not asked for, so one that does not verify harms nobody."""
        self.context = self.make_context(request=False)
        for version in VERSIONS:
            listener = self.listen()
            wire = listener.connect(self.client(Authority("Other").client(), version))
            wire.handshake()
            self.assertIsNone(peer_of(listener.applications.made[0].transport))


class ResumptionTests(ListenCase):
    """A resumed session shows OpenSSL neither dates nor a chain: our own records are asked."""

    def session(self, context: SSL.Context) -> SSL.Session:
        wire = self.listener.connect(context)
        wire.handshake()
        session = wire.client.get_session()
        assert session is not None
        wire.client.shutdown()
        wire.pump()
        self.listener.applications.made.clear()
        return session

    def resume(self, version: int) -> Wire:
        context = self.client(self.authority.client(), version)
        wire = self.listener.connect(context, self.session(context))
        wire.handshake()
        return wire

    def test_leaf_is_there(self) -> None:
        """The thing of a resumed session is the one that began it."""
        for version in VERSIONS:
            self.resume(version)
            [application] = self.listener.applications.made
            peer = peer_of(application.transport)
            assert peer is not None
            self.assertEqual(peer.common_name(), KEY)
            # Only a resumed session has no chain: the test above would pass without resumption too.
            self.assertFalse(handle_of(application).get_peer_cert_chain())

    def test_expired_since(self) -> None:
        """A certificate that ended since the session began lets nobody in."""
        for version in VERSIONS:
            context = self.client(self.authority.client(end=DAY), version)
            session = self.session(context)
            self.skew = timedelta(days=2).total_seconds()
            refused = self.context.peers_refused
            with capturedLogs():
                wire = self.listener.connect(context, session)
                wire.handshake()
            self.skew = 0.0
            self.assertTrue(wire.is_aborted)
            self.assertEqual(self.listener.applications.made, [])
            self.assertEqual(self.context.peers_refused, refused + 1)

    def test_after_reload(self) -> None:
        """A new context resumes nothing: the handshake is whole, and verifies afresh."""
        for version in VERSIONS:
            context = self.client(self.authority.client(), version)
            session = self.session(context)
            self.assertTrue(self.context.reload())
            wire = self.listener.connect(context, session)
            wire.handshake()
            [application] = self.listener.applications.made
            self.assertTrue(handle_of(application).get_peer_cert_chain())

    def test_untrusted_since_reload(self) -> None:
        """A session that began under an authority which is trusted no more is not resumed."""
        other = Authority("Other")
        context = self.client(self.authority.client())
        session = self.session(context)
        with open(self.context._ca, "wb") as file:
            file.write(encode_certificate(other.certificate))
        self.assertTrue(self.context.reload())
        wire = self.listener.connect(context, session)
        wire.handshake()
        self.assert_refused(wire, "unknown ca")


class HandshakeTests(ListenCase):
    """Nothing that a stranger does before the handshake is complete reaches an application or the log.

    :ivar where: the address of clients.
    """

    where = ""

    def test_application_waits(self) -> None:
        """No application protocol exists before the handshake is complete."""
        wire = self.listener.connect(self.client())
        wire.feed(wire.client_hello())
        self.assertEqual(self.listener.applications.made, [])
        wire.pump()
        self.assertEqual(len(self.listener.applications.made), 1)

    def test_silence(self) -> None:
        """A client that says nothing is gone after ten seconds."""
        wire = self.listener.connect(self.client())
        self.listener.advance(9.9)
        self.assertFalse(wire.is_aborted)
        self.listener.advance(0.2)
        self.assertTrue(wire.is_aborted)
        self.assertEqual(self.context.handshakes_failed, 1)

    def test_dripping(self) -> None:
        """A byte now and then prolongs nothing."""
        wire = self.listener.connect(self.client())
        hello = wire.client_hello()
        for index in range(21):
            if not wire.is_closed:
                wire.feed(hello[index : index + 1])
            self.listener.advance(0.5)
        self.assertTrue(wire.is_aborted)
        self.assertEqual(self.listener.applications.made, [])

    def test_no_deadline_after(self) -> None:
        """The deadline is the handshake's; a quiet application is not disturbed."""
        wire = self.listener.connect(self.client())
        wire.handshake()
        self.listener.advance(3600)
        self.assertFalse(wire.is_closed)
        self.assertEqual(self.listener.timed_calls(), 0)

    def test_byte_by_byte(self) -> None:
        """How the bytes are split does not matter."""
        wire = self.listener.connect(self.client(self.authority.client()))
        for byte in wire.client_hello():
            wire.feed(bytes([byte]))
        wire.pump()
        wire.client.send(b"hello")
        for byte in wire.client.bio_read(2**16):
            wire.feed(bytes([byte]))
        self.assertEqual(self.listener.applications.made[0].received, b"hello")

    def test_garbage(self) -> None:
        """What is no TLS ends the connection, counted and not printed."""
        with capturedLogs() as events:
            for data in (
                b"GET / HTTP/1.1\r\n\r\n",
                b"\x10\x10\x00\x04MQTT",
                bytes(1000),
                b"\x16\x03\x01\xff\xff",
            ):
                wire = self.listener.connect(self.client())
                wire.feed(data)
                self.listener.advance(10)
                self.assertTrue(wire.is_closed)
        self.assertEqual(self.context.handshakes_failed, 4)
        self.assertEqual(ours(events), [])
        self.assertEqual([kind for kind, _ in self.listener.reports], ["a TLS handshake failed"] * 4)
        self.assertIn("http request", self.listener.reports[0][1])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_minimum_version(self) -> None:
        """With a minimum of 1.3, TLS 1.2 is refused."""
        self.context = self.make_context(minimum="1.3")
        self.listener = self.listen()
        wire = self.listener.connect(self.client(version=SSL.TLS1_2_VERSION))
        wire.handshake()
        self.assert_refused(wire, "protocol version")

    def test_renegotiation(self) -> None:
        """A TLS 1.2 client cannot make us shake hands again, which costs us more than it."""
        wire = self.listener.connect(self.client(version=SSL.TLS1_2_VERSION))
        wire.handshake()
        connection = handle_of(self.listener.applications.made[0])
        wire.client.renegotiate()
        with contextlib.suppress(SSL.WantReadError):
            wire.client.do_handshake()
        wire.pump()
        self.assertEqual(connection.total_renegotiations(), 0)
        self.assertIn("no renegotiation", wire.alert)

    def test_intermediate_as_root(self) -> None:
        """A trust root need not be self-signed."""
        between = Authority("Between", self.authority)
        write(self.context._certificate.rpartition("/")[0], self.authority.server(), between.certificate)
        self.assertTrue(self.context.reload())
        self.listener.connect(self.client(between.client())).handshake()
        self.assertEqual(len(self.listener.applications.made), 1)

    def test_application_that_declines(self) -> None:
        """A factory that makes no protocol ends the connection."""
        listener = self.make_listener(factory=Declining())
        wire = listener.connect(self.client())
        wire.handshake()
        self.assertTrue(wire.is_aborted)

    def test_refusals_are_reported(self) -> None:
        """Each refused certificate is counted and reported with the reason, and not printed by itself."""
        context = self.client(self.authority.client(end=DAY))
        wire = self.listener.connect(context)
        wire.handshake()
        session = wire.client.get_session()
        self.skew = timedelta(days=2).total_seconds()
        with capturedLogs() as events:
            for _ in range(5):
                self.listener.connect(context, session).handshake()
        self.assertEqual(ours(events), [])
        self.assertEqual(self.context.peers_refused, 5)
        refused = [detail for kind, detail in self.listener.reports if "certificate was refused" in kind]
        self.assertEqual(refused, [f"{self.where}: the certificate has expired"] * 5)


def handle_of(application: Application) -> SSL.Connection:
    """OpenSSL's connection of the server's side."""
    transport: Any = application.transport
    connection: SSL.Connection = transport.getHandle()
    return connection


class Declining(Factory):
    """Makes no protocol."""

    noisy = False

    def buildProtocol(self, addr: object) -> Protocol | None:
        return None


class SocketCertificateTests(CertificateTests):
    """As through Twisted."""

    listener_type = SocketListener


class SocketResumptionTests(ResumptionTests):
    """As through Twisted."""

    listener_type = SocketListener


class SocketHandshakeTests(HandshakeTests):
    """As through Twisted."""

    listener_type = SocketListener
    where = "127.0.0.1"
