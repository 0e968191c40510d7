"""Revocation lists, as others read them."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from mfserver.ca.crl import build_crl, encode_crl_pem
from mfserver.ca.issuer import Issuer, record
from mfserver.ca.x509 import new_key
from mfserver.certificates import REASONS, CertificateRecord
from mfserver.errors import ConfigurationError
from tests.ca.authorities import DAY, NOW, OWNER, THING, YEAR, authority, root, rsa_key
from tests.ca.test_issuer import CA, key_usage

SECOND = int(NOW.timestamp())


def revoked(issuer: Issuer, reason: str | None = "keyCompromise", days: float = 90) -> CertificateRecord:
    kept = record(issuer.issue(THING, now=NOW, days=days), OWNER)
    return CertificateRecord(
        **{name: getattr(kept, name) for name in kept.__slots__} | {"revoked_at": SECOND, "reason": reason}
    )


class CRLTests(SynchronousTestCase):
    """The list of a root."""

    def setUp(self) -> None:
        self.issuer = root()

    def test_empty(self) -> None:
        der = build_crl(self.issuer, [], 1, NOW)
        crl = x509.load_der_x509_crl(der)
        self.assertEqual([], list(crl))
        self.assertTrue(crl.is_signature_valid(self.issuer.certificate.public_key()))  # type: ignore[arg-type]
        self.assertEqual(NOW - timedelta(hours=1), crl.last_update_utc)
        self.assertEqual(NOW + 7 * DAY, crl.next_update_utc)
        self.assertEqual(crl, x509.load_pem_x509_crl(encode_crl_pem(der)))

    def test_number_and_key_identifier(self) -> None:
        """Both must be there (RFC 5280, 5.2.1 and 5.2.3)."""
        for number in (0, 1, 2**63, 2**159 - 1):
            crl = x509.load_der_x509_crl(build_crl(self.issuer, [], number, NOW, timedelta(hours=1)))
            self.assertEqual(x509.CRLNumber(number), crl.extensions[1].value)
            own = self.issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
            identifier = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
            self.assertEqual(own.value.digest, identifier.key_identifier)
            self.assertEqual(NOW + timedelta(hours=1), crl.next_update_utc)

    def test_reasons(self) -> None:
        """Each as it is; "unspecified" as none at all."""
        records = [revoked(self.issuer, reason) for reason in (*REASONS, None)]
        crl = x509.load_der_x509_crl(build_crl(self.issuer, records, 1, NOW))
        self.assertEqual(len(records), len(list(crl)))
        for kept in records:
            entry = crl.get_revoked_certificate_by_serial_number(int(kept.serial, 16))
            assert entry is not None
            self.assertEqual(datetime.fromtimestamp(SECOND, UTC), entry.revocation_date_utc)
            reasons = [each.value.reason.value for each in entry.extensions]
            self.assertEqual([] if kept.reason in (None, "unspecified") else [kept.reason], reasons)

    def test_what_is_left_out(self) -> None:
        """What is not revoked, another authority's, and what ended more than one list ago."""
        short, other = revoked(self.issuer, days=1), revoked(root())
        active = record(self.issuer.issue(THING, now=NOW), OWNER)
        for later, expected in ((0, 1), (1, 1), (8, 1), (8.001, 0)):
            der = build_crl(self.issuer, [short, other, active], 1, NOW + later * DAY)
            self.assertEqual(expected, len(list(x509.load_der_x509_crl(der))))

    def test_twice(self) -> None:
        one = revoked(self.issuer)
        self.assertEqual(1, len(list(x509.load_der_x509_crl(build_crl(self.issuer, [one, one], 1, NOW)))))

    def test_never_before_the_authority(self) -> None:
        crl = x509.load_der_x509_crl(build_crl(self.issuer, [], 1, NOW - timedelta(minutes=30)))
        self.assertEqual(self.issuer.certificate.not_valid_before_utc, crl.last_update_utc)

    def test_many(self) -> None:
        """Linear in their number: a list of ten thousand takes a moment."""
        one = revoked(self.issuer)
        values = {name: getattr(one, name) for name in one.__slots__}
        records = [CertificateRecord(**values | {"serial": f"{number:x}"}) for number in range(1, 10_001)]
        crl = x509.load_der_x509_crl(build_crl(self.issuer, records, 1, NOW))
        self.assertIsNotNone(crl.get_revoked_certificate_by_serial_number(10_000))


class KeyUsageTests(SynchronousTestCase):
    """An imported root may have been made without lists in mind."""

    def test_no_crl_sign(self) -> None:
        certificate, key = authority("No", extensions=(CA, key_usage(key_cert_sign=True)))
        error = self.assertRaises(ConfigurationError, build_crl, Issuer(certificate, key), [], 1, NOW)
        self.assertIn("cRLSign", str(error))
        self.assertEqual("--ca", error.option)

    def test_crl_sign_or_no_key_usage(self) -> None:
        for extensions in ((CA,), (CA, key_usage(key_cert_sign=True, crl_sign=True))):
            for key in (rsa_key(), new_key()):
                certificate, _ = authority("Yes", key=key, extensions=extensions, end=NOW + YEAR)
                build_crl(Issuer(certificate, key), [], 1, NOW)
