"""Authorities of others: which become ours, and which do not."""

import os
import shutil
import stat
import subprocess
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.trial.unittest import SkipTest

from mfserver.ca.authority import ensure
from mfserver.ca.files import AuthorityFiles, read_issuer
from mfserver.ca.imported import import_authority
from mfserver.ca.issuer import Issuer
from mfserver.ca.keys import spki
from mfserver.ca.x509 import encode_certificate, new_key
from mfserver.errors import ConfigurationError, Conflict, Invalid, TooLarge
from tests.ca.authorities import (
    DAY,
    NOW,
    PATIENCE,
    THING,
    YEAR,
    authority,
    intermediate,
    pkcs8,
    root,
    rsa_key,
    top,
)
from tests.ca.test_authority import AuthorityCase
from tests.ca.test_issuer import CA


def pem(issuer: Issuer) -> bytes:
    """The key in the middle, as it may come."""
    first, *rest = map(encode_certificate, issuer.path)
    return first + pkcs8(issuer.key) + b"".join(rest)


def locked(key: Any) -> bytes:
    encoded: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    return encoded


def pkcs12(issuer: Issuer, password: bytes | None = b"secret") -> bytes:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return serialize_key_and_certificates(
        None,
        issuer.key,
        issuer.certificate,
        issuer.path[1:],
        encryption,
    )


class ImportCase(AuthorityCase):
    """An empty data directory."""

    def imported(self, data: bytes, password: str | None = None, **options: Any) -> Issuer:
        """What signs then."""
        self.assertTrue(import_authority(self.directory, data, password, NOW, **options))
        return read_issuer(AuthorityFiles.of(self.directory))


class ImportTests(ImportCase):
    """What becomes ours."""

    def test_root(self) -> None:
        issuer = root()
        for data, password in (
            (pem(issuer), None),
            (pkcs8(issuer.key) + encode_certificate(issuer.certificate), None),
            (encode_certificate(issuer.certificate) + locked(issuer.key), "secret"),
            (pkcs12(issuer), "secret"),
            (pkcs12(issuer, None), None),
        ):
            found = self.imported(data, password, force=True)
            self.assertEqual(issuer.certificate, found.certificate)
            self.assertEqual(spki(issuer.key.public_key()), spki(found.key.public_key()))
            self.assertEqual(["ca.crt", "ca.key"], sorted(self.contents()))
        for file in self.contents():
            self.assertEqual(0o600, stat.S_IMODE(os.stat(self.path(file)).st_mode))

    def test_old_forms_of_keys(self) -> None:
        """``BEGIN EC PRIVATE KEY``, with ``EC PARAMETERS`` before it, as ``openssl ecparam`` writes."""
        for key in (new_key(), rsa_key()):
            issuer = root(key)
            old = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
            parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
            data = parameters + old + encode_certificate(issuer.certificate)
            self.assertEqual(issuer.certificate, self.imported(data, force=True).certificate)

    def test_intermediate(self) -> None:
        """It alone is trusted by ``ca.crt``; those above are kept for the chain."""
        above = top()
        issuer = intermediate(above)
        for data, password in ((pem(issuer), None), (pkcs12(issuer), "secret")):
            found = self.imported(data, password, force=True)
            self.assertEqual([issuer.certificate, above.certificate], found.path)
            self.assertEqual([issuer.certificate], x509.load_pem_x509_certificates(self.read("ca.crt")))
            issued = found.issue(THING, now=NOW)
            self.assertEqual(
                [issued.certificate, issuer.certificate], x509.load_pem_x509_certificates(issued.chain)
            )
        ensure(self.directory, (), NOW)
        self.assertEqual(2, len(x509.load_pem_x509_certificates(self.read("mainflux-server.crt"))))

    def test_chain_of_the_one_before(self) -> None:
        """It does not stay when a root follows an intermediate."""
        self.imported(pem(intermediate(top())))
        self.assertIn("ca-chain.crt", self.contents())
        self.imported(pem(root()), force=True)
        self.assertNotIn("ca-chain.crt", self.contents())

    def test_renewed_with_the_same_key(self) -> None:
        """Of the two in ``ca.crt`` the one that ends last signs, whatever their order."""
        old = root(lifetime=30 * DAY)
        new = root(old.key)
        self.imported(pem(old))
        for pair in ((old, new), (new, old)):
            self.write("ca.crt", b"".join(encode_certificate(each.certificate) for each in pair))
            self.assertEqual(new.certificate, read_issuer(AuthorityFiles.of(self.directory)).certificate)

    def test_never_by_accident(self) -> None:
        ensure(self.directory, (), NOW)
        before = self.contents()
        new = root()
        for missing in (None, "ca.key", "ca.crt"):
            if missing:
                os.unlink(self.path(missing))
                before.pop(missing)
            if not {"ca.crt", "ca.key"} & set(before):
                break
            error = self.assertRaises(Conflict, import_authority, self.directory, pem(new), None, NOW)
            self.assertIn("force", str(error))
            self.assertEqual(before, self.contents())
        self.assertEqual(new.certificate, self.imported(pem(new)).certificate)

    def test_old_and_new_side_by_side(self) -> None:
        """The things of the old one are let in on; the new one signs."""
        ensure(self.directory, (), NOW)
        old = self.certificate("ca.crt")
        new = root()
        lines = import_authority(self.directory, pem(new), None, NOW, force=True, keep=True)
        self.assertIn("stay trusted", lines[1])
        self.assertEqual([new.certificate, old], x509.load_pem_x509_certificates(self.read("ca.crt")))
        self.assertEqual(new.certificate, read_issuer(AuthorityFiles.of(self.directory)).certificate)
        again = import_authority(self.directory, pem(new), None, NOW, force=True, keep=True)
        self.assertEqual(2, len(again))
        self.assertEqual([new.certificate, old], x509.load_pem_x509_certificates(self.read("ca.crt")))
        os.unlink(self.path("ca.crt"))
        self.assertEqual(1, len(import_authority(self.directory, pem(new), None, NOW, force=True, keep=True)))

    def test_now(self) -> None:
        self.assertRaises(
            Invalid, import_authority, self.directory, pem(root(now=NOW.replace(year=2001), lifetime=DAY))
        )


class RefusedTests(ImportCase):
    """What does not, and what is said then; nothing is written."""

    def refuse(self, data: bytes, *words: str, password: str | None = None, field: str = "authority") -> None:  # type: ignore[override]
        error = self.assertRaises(Invalid, import_authority, self.directory, data, password, NOW)
        self.assertEqual(field, error.field, str(error))
        for word in words:
            self.assertIn(word, str(error))
        self.assertFalse(os.path.exists(self.path("")))

    def test_no_authority(self) -> None:
        for extensions in ((), ((x509.BasicConstraints(False, None), True),)):
            certificate, key = authority("Leaf", extensions=extensions)
            self.refuse(encode_certificate(certificate) + pkcs8(key), "no certificate of an authority")

    def test_dates(self) -> None:
        for begin, end, words in (
            (NOW - YEAR, NOW - DAY, "expired"),
            (NOW - YEAR, NOW, "expired"),
            (NOW + DAY, NOW + YEAR, "not valid yet"),
        ):
            certificate, key = authority("CA", begin=begin, end=end)
            self.refuse(encode_certificate(certificate) + pkcs8(key), words)

    def test_expired_root(self) -> None:
        """The intermediate is good, but nothing below it is."""
        above = Issuer(*authority("Root", begin=NOW - 20 * DAY, end=NOW - 10 * DAY))
        certificate, key = authority("Below", above)
        self.refuse(
            b"".join(map(encode_certificate, (certificate, above.certificate))) + pkcs8(key),
            "CN=Root has expired",
        )

    def test_other_key(self) -> None:
        issuer = intermediate(top())
        self.refuse(
            b"".join(map(encode_certificate, issuer.path)) + pkcs8(new_key()), "belongs to no certificate"
        )

    def test_keys(self) -> None:
        issuer = root()
        certificate = encode_certificate(issuer.certificate)
        self.refuse(certificate, "exactly one private key")
        self.refuse(certificate + pkcs8(issuer.key) + pkcs8(new_key()), "exactly one private key")
        self.refuse(certificate + b"-----BEGIN PRIVATE KEY-----\n" * 30_000, "exactly one private key")
        self.refuse(certificate + locked(issuer.key), "encrypted")
        self.refuse(certificate + locked(issuer.key), "wrong", password="guess")
        self.refuse(certificate + pkcs8(x25519.X25519PrivateKey.generate()), "signs")
        self.refuse(pkcs8(issuer.key), "no certificate")
        self.refuse(pkcs8(issuer.key) + certificate[:300], "no certificate")

    def test_weak_keys(self) -> None:
        for key, words in ((rsa_key(1024), "2048"), (ec.generate_private_key(ec.SECP256K1()), "P-256")):
            certificate, _ = authority("Weak", key=key)
            self.refuse(encode_certificate(certificate) + pkcs8(key), words)

    def test_pkcs12(self) -> None:
        issuer = root()
        for password in (None, "guess", "\ud800"):
            self.refuse(pkcs12(issuer), "wrong", password=password, field="password")
        self.refuse(b"hello", "neither PEM nor PKCS #12", field="password")
        without_key = serialize_key_and_certificates(
            None, None, issuer.certificate, None, BestAvailableEncryption(b"secret")
        )
        self.refuse(without_key, "no private key", password="secret")

    def test_pkcs12_with_a_key_of_another_kind(self) -> None:
        key: Any = dsa.generate_private_key(1024)
        data = serialize_key_and_certificates(
            None,
            key,
            authority("DSA", key=key)[0],
            None,
            BestAvailableEncryption(b"secret"),
        )
        self.refuse(data, "signs", password="secret")

    def test_rsassa_pss(self) -> None:
        """What it signed as RSA would verify nowhere."""
        program = shutil.which("openssl")
        if program is None:
            raise SkipTest("openssl is not installed")
        files = [os.path.join(self.directory, file) for file in ("pss.key", "pss.crt")]
        subprocess.run(
            [program, "req", "-x509", "-newkey", "rsa-pss", "-nodes", "-subj", "/CN=PSS", "-keyout", files[0],
             "-out", files[1]],
            check=True, capture_output=True, timeout=PATIENCE,
        )  # fmt: skip
        data = b""
        for file in files:
            with open(file, "rb") as opened:
                data += opened.read()
        self.refuse(data, "RSASSA-PSS")

    def test_unreadable(self) -> None:
        broken = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.19"), b"\xff")
        certificate, key = authority("Broken", extensions=((broken, True),))
        self.refuse(encode_certificate(certificate) + pkcs8(key), "cannot be read")

    def test_unknown_key(self) -> None:
        """A certificate whose key nobody knows how to read."""
        issuer = root()
        der = issuer.certificate.public_bytes(Encoding.DER)
        odd = der.replace(bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0209"))
        self.assertNotEqual(der, odd)
        data = encode_certificate(x509.load_der_x509_certificate(odd)) + pkcs8(issuer.key)
        self.refuse(data, "cannot be read")

    def test_other_usages(self) -> None:
        for usage in (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH):
            certificate, key = authority("One", extensions=(CA, (x509.ExtendedKeyUsage([usage]), False)))
            self.refuse(encode_certificate(certificate) + pkcs8(key), "usage")

    def test_size(self) -> None:
        self.assertRaises(TooLarge, import_authority, self.directory, b"\0" * (1024 * 1024 + 1))

    def test_directory_that_cannot_be_made(self) -> None:
        self.directory = os.path.join(self.directory, "file")
        with open(self.directory, "wb"):
            pass
        error = self.assertRaises(
            ConfigurationError, import_authority, self.directory, pem(root()), None, NOW
        )
        self.assertEqual("--data-dir", error.option)

    def test_file_that_cannot_be_written(self) -> None:
        """A directory stands where the chain should go."""
        os.makedirs(self.path("ca-chain.crt/full"))
        error = self.assertRaises(
            ConfigurationError, import_authority, self.directory, pem(intermediate(top())), None, NOW
        )
        self.assertIn("Is a directory", str(error))
        self.assertEqual(["ca-chain.crt"], os.listdir(self.path("")))
