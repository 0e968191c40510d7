"""PEM, DER and PKCS #12, and the programs that read them."""

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from mfserver.ca.bundle import MAX_PASSWORD, MEDIA_TYPES, encode
from mfserver.ca.keys import load_key, spki
from mfserver.errors import Invalid
from tests.ca.authorities import NOW, THING, FilesCase, intermediate, top

PASSWORD = "pass w\N{LATIN SMALL LETTER O WITH DIAERESIS}rd \N{EURO SIGN}'\""


class BundleTests(FilesCase):
    """A leaf under an intermediate, with its key."""

    def setUp(self) -> None:
        super().setUp()
        self.issuer = intermediate(top())
        self.issued = self.issuer.issue(THING, now=NOW)

    def encode(self, form: str, **options: Any) -> bytes:
        options.setdefault("private_key", self.issued.private_key)
        return encode(form, self.issued.der, self.issuer.intermediates, **options)

    def refuse(self, field: str, form: str, **options: Any) -> None:
        error = self.assertRaises(Invalid, self.encode, form, **options)
        self.assertEqual(field, error.field)

    def test_pem(self) -> None:
        """One file that every program with one option for both takes."""
        data = self.encode("pem")
        self.assertEqual(
            [self.issued.certificate, self.issuer.certificate], x509.load_pem_x509_certificates(data)
        )
        self.assertEqual(spki(self.issued.certificate.public_key()), spki(load_key(data).public_key()))
        self.assertEqual(self.issued.chain, self.encode("pem", private_key=None))

    def test_der(self) -> None:
        self.assertEqual(self.issued.certificate, x509.load_der_x509_certificate(self.encode("der")))

    def test_pkcs12(self) -> None:
        found = load_pkcs12(self.encode("p12", password=PASSWORD, label=THING), PASSWORD.encode())
        assert found.cert is not None
        self.assertEqual(self.issued.certificate, found.cert.certificate)
        self.assertEqual(THING.encode(), found.cert.friendly_name)
        self.assertEqual([self.issuer.certificate], [each.certificate for each in found.additional_certs])
        assert found.key is not None
        self.assertEqual(spki(self.issued.certificate.public_key()), spki(found.key.public_key()))

    def test_pkcs12_without_key(self) -> None:
        data = encode("p12", self.issued.der, password="x")
        found = load_pkcs12(data, b"x")
        self.assertIsNone(found.key)
        self.assertRaises(ValueError, load_pkcs12, data, b"y")

    def test_openssl_reads_pkcs12(self) -> None:
        """OpenSSL 3 without its legacy provider; PBES2 and SHA-256 all through."""
        issued = self.issuer.renew(self.issued.der, THING, now=NOW)
        for private_key in (self.issued.private_key, None):
            data = encode(
                "p12", issued.der, self.issuer.intermediates, private_key=private_key, password="secret word"
            )
            self.file("thing.p12", data)
            printed = self.openssl(
                *("pkcs12", "-in", "thing.p12", "-passin", "pass:secret word", "-nodes", "-info")
            )
            self.assertIn("PBES2, PBKDF2, AES-256-CBC, Iteration 100000, PRF hmacWithSHA256", printed)
            self.assertIn("MAC: sha256", printed)
            self.assertNotRegex(printed, "(?i)rc2|3des|sha1")
            self.assertEqual(2, printed.count("BEGIN CERTIFICATE"))
            self.assertEqual(int(private_key is not None), printed.count("BEGIN PRIVATE KEY"))
        code, _ = self.run_openssl("pkcs12", "-in", "thing.p12", "-passin", "pass:wrong", "-nodes")
        self.assertNotEqual(0, code)

    def test_passwords(self) -> None:
        for bad in (None, "", "\0", "a\0b", "a\nb", "\ud800", "x" * (MAX_PASSWORD + 1)):
            self.refuse("password", "p12", password=bad)
        for form in ("pem", "der"):
            self.refuse("password", form, password="x")
        load_pkcs12(self.encode("p12", password="x" * MAX_PASSWORD), b"x" * MAX_PASSWORD)

    def test_forms(self) -> None:
        self.assertEqual({"pem", "der", "p12"}, set(MEDIA_TYPES))
        for bad in ("", "PEM", "jks"):
            self.refuse("format", bad)

    def test_no_certificate(self) -> None:
        error = self.assertRaises(Invalid, encode, "pem", b"hello")
        self.assertEqual("certificate", error.field)
