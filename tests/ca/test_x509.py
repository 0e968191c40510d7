"""Certificates that strict verifiers accept."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from twisted.trial.unittest import SynchronousTestCase

from mfserver.ca.x509 import (
    general_name,
    issue_authority,
    issue_client,
    issue_server,
    name,
    new_key,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)
YEAR = timedelta(days=365)


class IssueTests(SynchronousTestCase):
    """Leaves of an authority that ends in a year."""

    def setUp(self) -> None:
        self.key = new_key()
        self.authority = issue_authority(self.key, name("CA", "Organization"), NOW, YEAR)

    def test_client(self) -> None:
        """A thing's leaf verifies as a client's; the verifier wants an alternative name."""
        leaf = issue_client(
            new_key().public_key(),
            name("0123456789abcdef"),
            self.authority,
            self.key,
            NOW,
            YEAR,
            [x509.UniformResourceIdentifier("urn:uuid:7d9b8f1a-0000-4000-8000-000000000000")],
        )
        verifier = PolicyBuilder().store(Store([self.authority])).time(NOW).build_client_verifier()
        self.assertEqual(verifier.verify(leaf, []).chain, [leaf, self.authority])
        [common_name] = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        self.assertEqual(common_name.value, "0123456789abcdef")

    def test_client_is_no_server(self) -> None:
        leaf = issue_client(
            new_key().public_key(), name("localhost"), self.authority, self.key, NOW, YEAR,
            [x509.DNSName("localhost")],
        )  # fmt: skip
        builder = PolicyBuilder().store(Store([self.authority])).time(NOW)
        verifier = builder.build_server_verifier(x509.DNSName("localhost"))
        self.assertRaises(VerificationError, verifier.verify, leaf, [])

    def test_dates_within_the_issuer(self) -> None:
        for start in (NOW - YEAR, NOW + YEAR / 2):
            leaf = issue_server(
                new_key().public_key(), name("a"), ["localhost"], self.authority, self.key, start, YEAR * 2
            )
            self.assertGreaterEqual(leaf.not_valid_before_utc, self.authority.not_valid_before_utc)
            self.assertEqual(leaf.not_valid_after_utc, self.authority.not_valid_after_utc)

    def test_key_usage(self) -> None:
        """RSA may encipher keys, as TLS 1.2 asks of it; other keys may not, nor may leaves sign."""
        for key, enciphers in ((new_key(), False), (rsa.generate_private_key(65537, 2048), True)):
            leaf = issue_server(
                key.public_key(), name("a"), ["localhost"], self.authority, self.key, NOW, YEAR
            )
            usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
            self.assertTrue(usage.critical)
            self.assertEqual(usage.value.key_encipherment, enciphers)
            self.assertFalse(usage.value.key_cert_sign)

    def test_issuer_without_key_identifier(self) -> None:
        """Old authorities have none; theirs is then what it would have been."""
        builder = x509.CertificateBuilder(
            issuer_name=name("Old"),
            subject_name=name("Old"),
            public_key=self.key.public_key(),
            serial_number=1,
            not_valid_before=NOW,
            not_valid_after=NOW + YEAR,
        )
        old = builder.sign(self.key, SHA256())
        leaf = issue_client(new_key().public_key(), name("a"), old, self.key, NOW, YEAR)
        leaf.verify_directly_issued_by(old)
        identifier = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        expected = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()).digest
        self.assertEqual(identifier.key_identifier, expected)


class NameTests(SynchronousTestCase):
    """Subjects and alternative names."""

    def test_common_name_bounds(self) -> None:
        for bad in ("", "a" * 65):
            self.assertRaises(ValueError, name, bad)

    def test_general_names(self) -> None:
        self.assertIsInstance(general_name("::1"), x509.IPAddress)
        self.assertIsInstance(general_name("10.0.0.1"), x509.IPAddress)
        self.assertEqual(general_name("*.example"), x509.DNSName("*.example"))
        for bad in ("", ".", "*", "a.*.b", "a,b", "a\nb", "a b", "x" * 300):
            self.assertRaises(ValueError, general_name, bad)
