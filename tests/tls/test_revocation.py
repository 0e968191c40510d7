"""Revoked certificates: at a new handshake, at a resumed one, and live; by us and by the lists of others."""

import os
from time import time

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mfserver.certificates import CertificateRecord, fingerprint
from mfserver.errors import NotAuthorized
from mfserver.interfaces import IRevocations
from mfserver.records import ThingId, UserId
from mfserver.tls.context import ServerContext
from mfserver.tls.crl import RevocationLists
from mfserver.tls.peer import Peer, peer_of
from mfserver.tls.revocation import Revocations
from tests.tls.listen_case import ListenCase
from tests.tls.pki import DAY, Authority, Identity, rewritten, server_context
from tests.tls.socket_wire import SocketListener
from tests.tls.wire import Wire

VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)


def record(certificate: x509.Certificate, end: int | None = None) -> CertificateRecord:
    """What our records say of a certificate of ours."""
    der = certificate.public_bytes(Encoding.DER)
    not_after = int(certificate.not_valid_after_utc.timestamp()) if end is None else end
    return CertificateRecord(
        f"{certificate.serial_number:x}",
        fingerprint(der),
        ThingId("a-thing"),
        UserId("an-owner"),
        bytes(32),
        b"",
        0,
        not_after,
        0,
    )


class RevocationsTests(SynchronousTestCase):
    """What is remembered, for how long, and who is told."""

    def setUp(self) -> None:
        self.authority = Authority()
        self.leaf = self.authority.client().certificate
        self.record = record(self.leaf)
        self.seconds = time()
        self.revocations = Revocations(now=lambda: self.seconds)
        self.told: list[object] = []
        self.revocations.on_revoked.append(lambda fingerprints: self.told.append(list(fingerprints)))
        self.revocations.on_change.append(lambda: self.told.append("changed"))

    def is_revoked(self, certificate: x509.Certificate) -> bool:
        try:
            digest = fingerprint(certificate.public_bytes(Encoding.DER))
            self.revocations.check(digest, certificate.serial_number, lambda: certificate, time())
        except NotAuthorized:
            return True
        return False

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(IRevocations, self.revocations))

    def test_revoked(self) -> None:
        self.assertFalse(self.is_revoked(self.leaf))
        self.revocations.revoked([self.record])
        self.assertTrue(self.is_revoked(self.leaf))
        self.assertFalse(self.is_revoked(self.authority.client().certificate))
        self.assertEqual(self.told, [[self.record.fingerprint], "changed"])

    def test_again(self) -> None:
        """What is known already makes nobody verify anything again."""
        self.revocations.load([self.record])
        self.assertEqual(self.told, [])
        self.revocations.revoked([self.record])
        self.revocations.revoked([])
        self.assertEqual((self.told, len(self.revocations)), ([], 1))

    def test_a_signature_written_the_other_way(self) -> None:
        """Another fingerprint and the same certificate, which OpenSSL accepts as well: it stays revoked."""
        other = rewritten(self.leaf)
        other.verify_directly_issued_by(self.authority.certificate)
        self.assertNotEqual(fingerprint(other.public_bytes(Encoding.DER)), self.record.fingerprint)
        self.revocations.revoked([self.record])
        self.assertTrue(self.is_revoked(other))

    def test_what_has_ended_is_forgotten(self) -> None:
        """A day after its end, at which it is refused anyway; so memory has a bound."""
        self.revocations.poll()
        self.revocations.revoked([record(self.leaf, end=int(self.seconds))])
        self.seconds += 86_000
        self.revocations.poll()
        self.assertEqual(len(self.revocations), 1)
        self.seconds += 3_600
        self.revocations.poll()
        self.assertEqual(len(self.revocations), 0)
        self.assertFalse(self.is_revoked(self.leaf))

    def test_it_is_not_looked_through_at_every_call(self) -> None:
        self.revocations.poll()
        self.revocations.revoked([record(self.leaf, end=1)])
        self.revocations.poll()
        self.assertEqual(len(self.revocations), 1)

    def test_one_who_fails_to_hear(self) -> None:
        """He keeps the news from nobody else, and the caller's answer from nobody."""
        self.revocations.on_revoked.insert(0, lambda fingerprints: [][0])
        self.revocations.on_change.insert(0, lambda: [][0])
        self.revocations.revoked([self.record])
        self.assertEqual(len(self.told), 2)
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 2)

    def test_lists(self) -> None:
        """The lists of others count besides, and a new one is told of."""
        path = self.mktemp()
        lists = RevocationLists([path], lambda: [self.authority.certificate], now=lambda: self.seconds)
        self.revocations._lists = lists
        self.write(path)
        lists.load()
        self.revocations.poll()
        self.revocations.reload()
        self.assertEqual((self.told, self.is_revoked(self.leaf)), ([], False))
        self.write(path, self.leaf)
        self.revocations.poll()
        self.assertEqual((self.told, self.is_revoked(self.leaf)), (["changed"], True))
        self.write(path, self.leaf, self.authority.client().certificate)
        self.revocations.reload()
        self.assertEqual(self.told, ["changed"] * 2)
        self.seconds += 2 * DAY.total_seconds()
        self.revocations.poll()
        self.assertEqual(self.told, ["changed"] * 3, "a list that has become too old ends what is live")

    def test_the_certificate_is_read_for_lists_alone(self) -> None:
        """Who is at rest is asked about often, and what it has in OpenSSL costs more than all else."""

        def unread() -> x509.Certificate:
            raise AssertionError("it is read")

        self.revocations.check(bytes(32), 1, unread, time())
        self.revocations.revoked([self.record])
        for digest, serial in ((self.record.fingerprint, 1), (bytes(32), self.leaf.serial_number)):
            self.assertRaises(NotAuthorized, self.revocations.check, digest, serial, unread, time())

    def test_without_lists(self) -> None:
        self.revocations.reload()
        self.revocations.poll()
        self.assertEqual(self.told, [])

    def write(self, path: str, *revoked: x509.Certificate) -> None:
        with open(path, "wb") as file:
            file.write(self.authority.crl(*revoked).public_bytes(Encoding.PEM))
        self.ticks = getattr(self, "ticks", 0) + 1
        os.utime(path, ns=(self.ticks, self.ticks))


class HandshakeTests(ListenCase):
    """A revoked certificate fails right after the handshake, before a byte is read."""

    def make_context(self, *, request: bool = True, minimum: str = "1.2") -> ServerContext:
        self.crl = self.mktemp()
        self.lists = RevocationLists([self.crl], lambda: self.context.roots)
        self.revocations = Revocations(self.lists)
        self.list_revoked()
        return server_context(
            self.mktemp(), self.authority, request=request, minimum=minimum, revocations=self.revocations
        )

    def setUp(self) -> None:
        super().setUp()
        self.lists.load()

    def list_revoked(self, *revoked: x509.Certificate) -> None:
        """Write the list of the authority."""
        with open(self.crl, "wb") as file:
            file.write(self.authority.crl(*revoked).public_bytes(Encoding.PEM))

    def connect(self, context: SSL.Context, session: SSL.Session | None = None) -> Wire:
        wire = self.listener.connect(context, session)
        self.listener.applications.made.clear()
        wire.feed(wire.client_hello())
        wire.pump()
        wire.client.send(b"are you there") if not wire.is_closed else None
        wire.pump()
        return wire

    def assert_let_in(self, wire: Wire) -> Peer:
        [application] = self.listener.applications.made
        self.assertEqual((application.received, wire.is_aborted), (b"are you there", False))
        peer = peer_of(application.transport)
        assert peer is not None
        return peer

    def assert_not_let_in(self, wire: Wire, words: str = "is revoked") -> None:
        self.assertEqual(self.listener.applications.made, [])
        self.assertTrue(wire.is_aborted)
        reasons = [detail for kind, detail in self.listener.reports if "certificate was refused" in kind]
        self.assertIn(words, reasons[-1])
        self.listener.reports.clear()

    def revoke_ours(self, identity: Identity) -> None:
        self.revocations.revoked([record(identity.certificate)])

    def revoke_on_list(self, identity: Identity) -> None:
        self.list_revoked(identity.certificate)
        self.revocations.reload()

    def test_new_and_resumed(self) -> None:
        """In both versions of TLS, revoked by us and by a list; the others go on."""
        for version in VERSIONS:
            for revoke in (self.revoke_ours, self.revoke_on_list):
                identity, other = self.authority.client(), self.authority.client()
                context, others = self.client(identity, version), self.client(other, version)
                first = self.connect(context)
                live = self.assert_let_in(first)
                session = first.client.get_session()
                again = self.connect(context, session)
                self.assertEqual(self.assert_let_in(again).leaf, identity.certificate)
                resumed = again.client.get_session() or session
                revoke(identity)
                self.assertRaises(NotAuthorized, live.verify, time())
                for ticket in (None, session, resumed):
                    self.assert_not_let_in(self.connect(context, ticket))
                self.assert_let_in(self.connect(others))

    def test_at_rest(self) -> None:
        """The same of who is let in for long, whose certificate is in OpenSSL alone, resumed or not."""
        for version in VERSIONS:
            for revoke in (self.revoke_ours, self.revoke_on_list):
                identity = self.authority.client()
                context = self.client(identity, version)
                first = self.connect(context)
                live = [self.assert_let_in(first)]
                again = self.connect(context, first.client.get_session())
                live.append(self.assert_let_in(again))
                for peer in live:
                    peer.rest()
                    self.assertEqual(peer.leaf, identity.certificate)
                    self.assertIsNot(peer.leaf, peer.leaf)
                    peer.verify(time())
                revoke(identity)
                for peer in live:
                    self.assertRaises(NotAuthorized, peer.verify, time())

    def test_a_signature_written_the_other_way(self) -> None:
        """OpenSSL does accept it; we do until it is revoked, and not after."""
        identity = self.authority.client()
        twin = Identity(rewritten(identity.certificate), identity.key)
        self.assert_let_in(self.connect(self.client(twin)))
        self.revoke_ours(identity)
        self.assert_not_let_in(self.connect(self.client(twin)))

    def test_revoked_intermediate(self) -> None:
        """Whoever it issued for is refused: new, resumed, live, and live since a resumption."""
        between, fine = (Authority(name, self.authority) for name in ("Between", "Fine"))
        context = self.client(between.client(chain=(between.certificate,)))
        others = self.client(fine.client(chain=(fine.certificate,)))
        first = self.connect(context)
        session = first.client.get_session()
        live = [self.assert_let_in(first), self.assert_let_in(self.connect(context, session))]
        self.assert_let_in(self.connect(others))
        self.list_revoked(between.certificate)
        self.revocations.poll()
        for peer in live:
            self.assertRaises(NotAuthorized, peer.verify, time())
        self.assert_not_let_in(self.connect(context))
        self.assert_not_let_in(self.connect(context, session))
        self.assert_let_in(self.connect(others))

    def test_a_reload_ends_no_session_through_an_intermediate(self) -> None:
        """Who is live by a resumed session showed no chain; the intermediate is known from the first one."""
        between = Authority("Between", self.authority)
        context = self.client(between.client(chain=(between.certificate,)))
        first = self.connect(context)
        full = self.assert_let_in(first)
        resumed = self.assert_let_in(self.connect(context, first.client.get_session()))
        self.assertTrue(self.context.reload())
        for peer in (full, resumed):
            peer.verify(time())
        self.assertIs(full._chain[0], resumed._chain[0], "one object for all")

    def test_known_intermediates_are_bounded(self) -> None:
        between = [Authority(f"Between {number}", self.authority).certificate for number in range(66)]
        for certificate in between:
            self.context.remember([certificate])
        self.assertEqual(list(self.context._known), between[2:])

    def test_stale_list(self) -> None:
        with open(self.crl, "wb") as file:
            file.write(self.authority.crl(end=-DAY / 2).public_bytes(Encoding.PEM))
        self.revocations.reload()
        self.assert_not_let_in(self.connect(self.client(self.authority.client())), "too old")

    def test_no_certificate(self) -> None:
        """People without one are not concerned."""
        self.connect(self.client())
        self.assertEqual(len(self.listener.applications.made), 1)


class SocketHandshakeTests(HandshakeTests):
    """As through Twisted."""

    listener_type = SocketListener

    def test_at_rest_after_the_connection(self) -> None:
        """What OpenSSL showed is gone with it, and what nobody shows is not trusted."""
        wire = self.connect(self.client(self.authority.client()))
        peer = self.assert_let_in(wire)
        peer.rest()
        peer.verify(time())
        wire.cut()
        self.assertRaises(NotAuthorized, peer.verify, time())
