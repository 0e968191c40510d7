"""Real certificates, from the leaf of a handshake to the end of a live connection, wired as in a service."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from time import process_time, time

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mfserver.certificates import CertificateRecord, fingerprint, thing_uri
from mfserver.cred.access import Access
from mfserver.cred.attempts import Attempts
from mfserver.cred.authentication import x509_mode
from mfserver.cred.expiry import CertificateWatch
from mfserver.cred.identity import Identities
from mfserver.cred.tokens import TokenOwners
from mfserver.errors import NotAuthorized
from mfserver.interfaces import IThing
from mfserver.records import Change, Claims, Thing
from mfserver.tls.peer import Peer
from mfserver.tls.revocation import Revocations
from tests.cred.fakes import ALICE, SECRET, LiveConnection, alices_thing
from tests.store.memory import MemoryStore
from tests.tls.pki import DAY, Authority, rewritten, server_context

SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
OWN, VICTIM = alices_thing(1), alices_thing(2)


@dataclass
class Row:
    """One certificate, and whether it lets its thing in (a new connection, a resumed one: the same)."""

    name: str
    certificate: x509.Certificate
    is_in: bool


class HouseCase(SynchronousTestCase):
    """A server's memory without its network: everything from the leaf on is the real thing."""

    def setUp(self) -> None:
        self.authority, self.trusted = Authority(), Authority("Trusted as well")
        self.store = MemoryStore()
        self.store.users.add(ALICE)
        self.store.things.add([OWN, VICTIM])
        self.clock = Clock()
        self.clock.advance(time())
        self.revocations = Revocations(now=self.clock.seconds)
        self.context = server_context(self.mktemp(), self.authority, revocations=self.revocations)
        self.context.roots = [self.authority.certificate, self.trusted.certificate]
        self.watch = CertificateWatch(self.clock, self.clock.seconds)
        self.access = Access(
            self.store.things, self.store.connections, SECRET, self.watch, max_connections=1000
        )
        identities = Identities(
            self.store.certificates, lambda: [self.authority.certificate], self.clock.seconds
        )
        self.revocations.on_revoked.append(identities.forget)
        self.revocations.on_change.append(self.watch.reverify)
        owners = TokenOwners(SECRET, self.store.users, self.store.keys, self.clock.seconds)
        self.authenticator, _ = x509_mode(
            self.access, identities, owners, Attempts(self.clock), self.clock.seconds
        )

    def keep(self, certificate: x509.Certificate, thing: Thing = OWN) -> CertificateRecord:
        """Put a certificate into our records."""
        der = certificate.public_bytes(Encoding.DER)
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        record = CertificateRecord(
            f"{certificate.serial_number:x}",
            fingerprint(der),
            thing.id,
            ALICE.id,
            bytes(32),
            der,
            int(begin.timestamp()),
            int(end.timestamp()),
            int(begin.timestamp()),
        )
        self.successResultOf(self.store.certificates.add(record))
        return record

    def revoke(self, *certificates: x509.Certificate) -> None:
        """As provisioning does: commit, tell, answer."""
        serials = [f"{certificate.serial_number:x}" for certificate in certificates]
        revoked = [self.store.certificates.revoke(ALICE.id, serial, "keyCompromise", 1) for serial in serials]
        self.revocations.revoked([self.successResultOf(one) for one in revoked])

    def enter(self, certificate: x509.Certificate, *, resumed: bool = False) -> LiveConnection:
        """A connection whose handshake is complete. :raises NotAuthorized: it is refused."""
        connection = LiveConnection()
        generation = 0 if resumed else self.context.generation
        peer = Peer(certificate, (), "TLSv1.3", self.context, generation)
        peer.verify(self.clock.seconds())
        entered = self.authenticator.authenticate(Claims("a"), peer, connection)
        if hasattr(entered.result, "value"):
            raise self.failureResultOf(entered, NotAuthorized).value
        self.assertEqual(IThing(self.successResultOf(entered)[0]).id, OWN.id)
        return connection


class MatrixTests(HouseCase):
    """Every way of naming a thing, and everything that is wrong with it."""

    def leaves(self, begin: timedelta = -DAY, end: timedelta = DAY) -> Iterator[tuple[str, x509.Certificate]]:
        """OWN's certificate in each of the three ways."""
        recorded = self.authority.client(OWN.id, begin=begin, end=end).certificate
        self.keep(recorded)
        yield "fingerprint", recorded
        uris = [thing_uri(OWN.id)]
        yield "san", self.authority.client(OWN.id, begin=begin, end=end, uris=uris).certificate
        yield "cn", self.authority.client(OWN.key, begin=begin, end=end).certificate

    def rows(self) -> Iterator[Row]:
        for method, leaf in self.leaves():
            yield Row(f"{method}, own", leaf, True)
        for method, leaf in self.leaves(begin=-2 * DAY, end=-DAY / 2):
            yield Row(f"{method}, expired", leaf, False)
        for method, leaf in self.leaves(begin=DAY, end=2 * DAY):
            yield Row(f"{method}, not yet valid", leaf, False)
        for method, leaf in self.leaves():
            if method != "fingerprint":
                self.keep(leaf)  # else we cannot revoke it
            self.revoke(leaf)
            yield Row(f"{method}, revoked", leaf, False)
            yield Row(f"{method}, revoked, the signature written the other way", rewritten(leaf), False)
        uris = [thing_uri(OWN.id)]
        yield Row("cn is a thing's id", self.authority.client(OWN.id).certificate, False)
        yield Row("cn = key, made elsewhere", self.trusted.client(OWN.key).certificate, True)
        yield Row("san, made elsewhere", self.trusted.client(OWN.key, uris=uris).certificate, False)
        wrong = Authority()
        yield Row("san, wrong root of our name", wrong.client(OWN.id, uris=uris).certificate, False)
        yield Row("cn, wrong root", Authority("Wrong").client(OWN.key).certificate, False)
        between = Authority("Between", self.authority)
        yield Row("san, by an intermediate", between.client(OWN.key, uris=uris).certificate, False)
        both = [*uris, thing_uri(VICTIM.id)]
        yield Row("two names", self.authority.client(OWN.key, uris=both).certificate, False)
        server = self.authority.client(OWN.key, uris=uris, usages=[SERVER_AUTH])
        yield Row("no clientAuth", server.certificate, False)
        renewed = self.authority.client(OWN.id, uris=uris).certificate
        yield Row("renewed", renewed, True)

    def test_every_cell(self) -> None:
        for row in self.rows():
            # OpenSSL refuses what is not trusted in a new handshake; a resumed one asks us alone.
            with self.subTest(row=row.name):
                if row.is_in:
                    self.assertEqual(self.enter(row.certificate).told, [])
                    self.assertEqual(self.enter(row.certificate, resumed=True).told, [])
                else:
                    self.assertRaises(NotAuthorized, self.enter, row.certificate, resumed=True)

    def test_deleted_thing(self) -> None:
        leaves = dict(self.leaves())
        connections = [self.enter(leaf) for leaf in leaves.values()]
        self.store.things.remove(ALICE.id, OWN.id)
        self.access.changed(Change(things=(OWN.id,), deleted=True))
        self.assertEqual([len(connection.told) for connection in connections], [1, 1, 1])
        for leaf in leaves.values():
            self.assertRaises(NotAuthorized, self.enter, leaf)


class LiveTests(HouseCase):
    """IDENTITY: a revoked certificate closes its live connections within a second."""

    def test_ten_of_a_thousand(self) -> None:
        """Only the right ones end, all of them, within a second of real time and a few turns."""
        leaves = [self.authority.client(OWN.id, end=DAY).certificate for _ in range(100)]
        for leaf in leaves:
            self.keep(leaf)
        live = [(leaf, self.enter(leaf)) for leaf in leaves for _ in range(10)]
        began = process_time()
        self.revoke(leaves[42])
        turns = 1
        while self.watch._verifying is not None:
            self.clock.advance(0)
            turns += 1
        took = process_time() - began
        ended = [leaf for leaf, connection in live if connection.told]
        self.assertEqual(ended, [leaves[42]] * 10)
        self.assertLess(took, 1.0)
        self.assertLess(turns, 100)
        self.assertRaises(NotAuthorized, self.enter, leaves[42])
        self.assertRaises(NotAuthorized, self.enter, leaves[42], resumed=True)

    def test_renewed_while_connected(self) -> None:
        """Both live side by side; revoking the old one ends its connection alone."""
        old, new = (self.authority.client(OWN.id).certificate for _ in range(2))
        self.keep(old)
        first = self.enter(old)
        self.keep(new)
        second = self.enter(new)
        self.assertEqual(first.told, [])
        self.revoke(old)
        self.assertEqual((len(first.told), second.told), (1, []))

    def test_expires_while_connected(self) -> None:
        leaf = self.authority.client(OWN.id, end=timedelta(seconds=100)).certificate
        self.keep(leaf)
        connection = self.enter(leaf)
        left = leaf.not_valid_after_utc.timestamp() - self.clock.seconds()  # the clock stands since setUp
        self.clock.pump([1.0] * int(left - 1))
        self.assertEqual(connection.told, [])
        self.clock.pump([1.0] * 3)
        self.assertEqual(len(connection.told), 1)
