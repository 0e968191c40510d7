"""Who a certificate says somebody is: exactly one common name, or nobody."""

from collections.abc import Callable
from datetime import UTC, datetime
from time import time
from typing import Any
from weakref import ref

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mfserver.ca.x509 import issue, new_key
from mfserver.errors import NotAuthorized
from mfserver.interfaces import IPeer
from mfserver.tls.peer import IPeerTransport, Peer, peer_of
from mfserver.tls.revocation import Revocations
from tests.tls.pki import DAY, KEY, Authority, server_context, write

VICTIM = "victim-0123456789"


def common_names(*names: str) -> x509.Name:
    """A subject with each as a common name of its own."""
    return x509.Name([attribute(NameOID.COMMON_NAME, text) for text in names])


def attribute(oid: x509.ObjectIdentifier, text: str) -> x509.NameAttribute[str]:
    """An attribute that may break the bounds of its type."""
    return x509.NameAttribute(oid, text, _validate=False)


class PeerCase(SynchronousTestCase):
    """A context that trusts one authority."""

    def setUp(self) -> None:
        self.authority = Authority()
        self.directory = self.mktemp()
        self.context = server_context(self.directory, self.authority)

    def peer(self, certificate: x509.Certificate) -> Peer:
        return Peer(certificate, (), "TLSv1.3", self.context, self.context.generation)


class CommonNameTests(PeerCase):
    """Every subject that is not exactly one common name of text is refused."""

    def of(self, subject: x509.Name) -> str:
        return self.peer(self.authority.client(subject).certificate).common_name()

    def refuse(self, subject: x509.Name) -> None:
        self.assertRaises(NotAuthorized, self.of, subject)

    def test_one(self) -> None:
        self.assertEqual(self.of(common_names(KEY)), KEY)
        self.assertEqual(self.of(common_names("a" * 64)), "a" * 64)

    def test_none(self) -> None:
        self.refuse(x509.Name([]))
        self.refuse(x509.Name([attribute(NameOID.ORGANIZATION_NAME, KEY)]))

    def test_two(self) -> None:
        """Whether in two parts of the subject or in one, and whether they differ or not."""
        for names in ((KEY, VICTIM), (VICTIM, KEY), (KEY, KEY)):
            self.refuse(common_names(*names))
            both = [attribute(NameOID.COMMON_NAME, text) for text in dict.fromkeys(names)]
            if len(both) > 1:
                self.refuse(x509.Name([x509.RelativeDistinguishedName(both)]))

    def test_organization_that_looks_like_one(self) -> None:
        """Text of another attribute is never the victim's name."""
        for text in (f"Evil,CN={VICTIM}", f"Evil/CN={VICTIM}", f"Evil+CN={VICTIM}", f"\nCN={VICTIM}"):
            organization = attribute(NameOID.ORGANIZATION_NAME, text)
            self.refuse(x509.Name([organization]))
            own = attribute(NameOID.COMMON_NAME, KEY)
            self.assertEqual(self.of(x509.Name([organization, own])), KEY)

    def test_text_is_taken_as_it_is(self) -> None:
        """What looks like syntax in a name is a part of it: no victim has that key."""
        for text in (f"x,CN={VICTIM}", f"x/CN={VICTIM}", f"x\\,CN={VICTIM}", f"CN={VICTIM}", f" {VICTIM}"):
            self.assertEqual(self.of(common_names(text)), text)

    def test_control_characters(self) -> None:
        for text in (f"{VICTIM}\0", f"{VICTIM}\0.evil", f"\0{VICTIM}", f"{VICTIM}\n", f"{VICTIM}\x7f"):
            self.refuse(common_names(text))

    def test_beyond_ascii(self) -> None:
        """No look-alike of a key passes."""
        for text in (
            VICTIM.replace("i", "\N{CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I}"),
            VICTIM.replace("v", "\N{FULLWIDTH LATIN SMALL LETTER V}"),
        ):
            self.refuse(common_names(text))

    def test_length(self) -> None:
        self.refuse(common_names("a" * 65))
        self.refuse(common_names("a" * 5000))
        self.flushWarnings()  # cryptography's, of the names that this test makes

    def test_types(self) -> None:
        """Text types are read, the others refused, and what cannot be parsed raises nothing else."""
        der = self.authority.client(common_names("A" * 16)).certificate.public_bytes(Encoding.DER)
        name = b"\x0c\x10" + b"A" * 16
        self.assertEqual(der.count(name), 1)
        for tag in range(256):
            changed = der.replace(name, bytes([tag]) + name[1:])
            try:
                peer = self.peer(x509.load_der_x509_certificate(changed))
            except ValueError:
                continue  # never gets as far as a name
            if tag in (0x0C, 0x13, 0x14, 0x16):
                self.assertEqual(peer.common_name(), "A" * 16)
            else:
                self.assertRaises(NotAuthorized, peer.common_name)

    def test_invalid_encodings(self) -> None:
        der = self.authority.client(common_names("A" * 16)).certificate.public_bytes(Encoding.DER)
        for value in (b"\xff" * 16, b"\xc0\x80" * 8, b"A" * 15 + b"\xc3", bytes(16)):
            certificate = x509.load_der_x509_certificate(der.replace(b"A" * 16, value))
            self.assertRaises(NotAuthorized, self.peer(certificate).common_name)


class UriTests(PeerCase):
    """The URIs of a certificate, and who issued it."""

    def test_uris(self) -> None:
        for uris in ((), ("urn:mainflux:thing:1",), ("urn:b", "urn:a", "urn:a")):
            self.assertEqual(self.peer(self.authority.client(uris=uris).certificate).uris(), uris)

    def test_other_names_are_none(self) -> None:
        now = datetime.now(UTC)
        names = [x509.DNSName("urn:mainflux:thing:1"), x509.RFC822Name("urn:mainflux:thing@example.org")]
        certificate = issue(
            new_key().public_key(),
            x509.Name([]),
            self.authority.name,
            self.authority.key,
            not_before=now,
            not_after=now + DAY,
            alternatives=names,
        )
        self.assertEqual(self.peer(certificate).uris(), ())

    def test_unreadable(self) -> None:
        """What cannot be read may hide a name: it is refused."""
        der = self.authority.client(uris=["urn:0123456789"]).certificate.public_bytes(Encoding.DER)
        for broken in (b"\x86\x0eurn:\xff123456789", b"\x83\x0eurn:0123456789", b"\x86\x0furn:0123456789"):
            changed = der.replace(b"\x86\x0eurn:0123456789", broken)
            self.assertNotEqual(changed, der)
            peer = self.peer(x509.load_der_x509_certificate(changed))
            self.assertRaises(NotAuthorized, peer.uris)

    def test_issuer(self) -> None:
        """Its key decides, not its name, and nobody may stand between."""
        peer = self.peer(self.authority.client().certificate)
        between = Authority("Between", self.authority)
        others = [Authority().certificate, Authority("Other").certificate, between.certificate]
        self.assertTrue(peer.is_issued_by([*others, self.authority.certificate]))
        self.assertFalse(peer.is_issued_by(others))
        self.assertFalse(peer.is_issued_by([]))
        self.assertFalse(self.peer(between.client().certificate).is_issued_by([self.authority.certificate]))

    def test_fingerprint(self) -> None:
        """The one that everybody else computes."""
        leaf = self.authority.client().certificate
        self.assertEqual(self.peer(leaf).fingerprint, leaf.fingerprint(SHA256()))


class VerifyTests(PeerCase):
    """Our own records are asked again and again."""

    def test_interface(self) -> None:
        peer = self.peer(self.authority.client().certificate)
        self.assertTrue(verifyObject(IPeer, peer))
        self.assertEqual(peer.not_valid_after, peer.leaf.not_valid_after_utc.timestamp())

    def test_dates_always(self) -> None:
        peer = self.peer(self.authority.client().certificate)
        peer.verify(time())
        peer.verify(peer.not_valid_after)
        self.assertRaises(NotAuthorized, peer.verify, peer.not_valid_after + 1)
        self.assertRaises(NotAuthorized, peer.verify, time() - 2 * DAY.total_seconds())

    def test_revocation_always(self) -> None:
        """Asked by what the certificate is known by, before a reload and after it."""
        asked: list[tuple[bytes, int]] = []

        class Asked(Revocations):
            def check(
                self, fingerprint: bytes, serial: int, certificate: Callable[[], x509.Certificate], now: float
            ) -> None:
                asked.append((fingerprint, serial))

        self.context = server_context(self.directory, self.authority, revocations=Asked())
        leaf = self.authority.client().certificate
        peer = self.peer(leaf)
        for _ in range(2):
            for _ in range(2):
                peer.verify(time())
            self.assertTrue(self.context.reload())
        self.assertEqual(asked, [(leaf.fingerprint(SHA256()), leaf.serial_number)] * 4)

    def test_trust_after_each_reload(self) -> None:
        """A root that is gone takes what it issued with it, and one that is back brings it back."""
        peer = self.peer(self.authority.client().certificate)
        for root, is_trusted in ((Authority("Other"), False), (self.authority, True)):
            write(self.directory, self.authority.server(), root.certificate)
            self.assertTrue(self.context.reload())
            for _ in range(2):  # a refusal is not remembered as a success
                if is_trusted:
                    peer.verify(time())
                else:
                    self.assertRaises(NotAuthorized, peer.verify, time())

    def test_chain_after_reload(self) -> None:
        """The intermediates of a chain that was verified are remembered; without them it fails safe."""
        between = Authority("Between", self.authority)
        leaf = between.client().certificate
        peers = [
            Peer(leaf, chain, "TLSv1.3", self.context, self.context.generation)
            for chain in ((between.certificate,), ())
        ]
        for peer in peers:
            peer.verify(time())
        self.assertTrue(self.context.reload())
        self.assertRaises(NotAuthorized, peers[1].verify, time())
        peers[0].verify(time())
        peers[1].verify(time())


class Connection(SSL.Connection):
    """OpenSSL's, which shows what it is told to."""

    shown: x509.Certificate | None = None

    def get_peer_certificate(self, *, as_cryptography: bool = False) -> Any:
        return self.shown


class RestTests(PeerCase):
    """At rest a peer has what it shows from OpenSSL's connection, and nothing without it."""

    def setUp(self) -> None:
        super().setUp()
        self.thing = self.authority.client(common_names(KEY), uris=["urn:a"]).certificate
        self.connection = Connection(self.context.context)
        self.connection.shown = self.thing
        generation = self.context.generation
        self.peer_at_rest = Peer(self.thing, (), "TLSv1.3", self.context, generation, self.connection)
        self.peer_at_rest.common_name()
        self.peer_at_rest.uris()
        self.peer_at_rest.rest()

    def refused(self) -> None:
        """Whatever is asked of it that only the certificate can tell."""
        peer = self.peer_at_rest
        self.assertRaises(NotAuthorized, lambda: peer.leaf)
        self.assertRaises(NotAuthorized, peer.common_name)
        self.assertRaises(NotAuthorized, peer.uris)
        self.assertRaises(NotAuthorized, peer.is_issued_by, [self.authority.certificate])
        self.assertTrue(self.context.reload())
        self.assertRaises(NotAuthorized, peer.verify, time())

    def test_all_is_there(self) -> None:
        peer = self.peer_at_rest
        self.assertEqual((peer.leaf, peer.common_name(), peer.uris()), (self.thing, KEY, ("urn:a",)))
        self.assertTrue(peer.is_issued_by([self.authority.certificate]))
        peer.verify(time())
        self.assertTrue(self.context.reload())
        peer.verify(time())
        self.assertRaises(NotAuthorized, peer.verify, peer.not_valid_after + 1)

    def test_nothing_is_held(self) -> None:
        peer = self.peer_at_rest
        peer.verify(time())
        self.assertEqual((peer._leaf, peer._common_name, peer._uris), (None, None, None))
        before = ref(self.connection)
        del self.connection
        self.assertIsNone(before())

    def test_gone(self) -> None:
        """Nobody is let in, or stays, by a certificate that nobody shows."""
        del self.connection
        self.refused()

    def test_another_one(self) -> None:
        for shown in (self.authority.client(common_names(KEY)).certificate, None):
            self.connection.shown = shown
            self.refused()

    def test_without_a_connection(self) -> None:
        """There is nowhere to read it from: it stays."""
        peer = self.peer(self.thing)
        peer.rest()
        self.assertIs(peer.leaf, self.thing)

    def test_version_is_one_text(self) -> None:
        """OpenSSL's name of it is a new one of each connection."""
        names = ["".join(("TLS", "v1.3")) for _ in range(2)]
        self.assertIsNot(*names)
        first, second = (Peer(self.thing, (), name, self.context, 1) for name in names)
        self.assertIs(first.tls_version, second.tls_version)


@implementer(IPeerTransport)
class FakeTransport:
    """The bottom of a stack."""

    def __init__(self, peer: Peer | None) -> None:
        self.peer = peer


class Layer:
    """A protocol that is a transport to another one."""

    def __init__(self, transport: object) -> None:
        self.transport = transport


class TransportTests(PeerCase):
    """Whoever holds a transport, or a protocol in its place, finds the peer."""

    def test_below_other_layers(self) -> None:
        peer = self.peer(self.authority.client().certificate)
        self.assertIs(peer_of(FakeTransport(peer)), peer)
        self.assertIs(peer_of(Layer(Layer(FakeTransport(peer)))), peer)
        self.assertIsNone(peer_of(Layer(FakeTransport(None))))

    def test_plain(self) -> None:
        for transport in (None, object(), Layer(None), Layer(object())):
            self.assertIsNone(peer_of(transport))

    def test_circle(self) -> None:
        """Layers that stand on themselves end the search."""
        layer = Layer(None)
        layer.transport = layer
        self.assertIsNone(peer_of(layer))
