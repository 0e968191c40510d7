"""Which keys are made, and which are let pass."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from twisted.trial.unittest import SynchronousTestCase

from mfserver.ca.keys import check_strength, generate, generate_like, load_key, spki
from mfserver.ca.x509 import new_key
from mfserver.errors import Invalid
from tests.ca.authorities import pkcs8, rsa_key


class GenerateTests(SynchronousTestCase):
    """Keys for things."""

    def test_types_and_sizes(self) -> None:
        for key_type, key_bits, kind, size in (
            ("ec", None, ec.EllipticCurvePrivateKey, 256),
            ("ec", 384, ec.EllipticCurvePrivateKey, 384),
            ("ec", 521, ec.EllipticCurvePrivateKey, 521),
            ("rsa", None, rsa.RSAPrivateKey, 2048),
        ):
            key: Any = generate(key_type, key_bits)
            self.assertIsInstance(key, kind)
            self.assertEqual(size, key.key_size)
            check_strength(key.public_key(), "key")

    def test_others_are_refused(self) -> None:
        for key_type, key_bits, field in (
            ("dsa", None, "key_type"),
            ("EC", None, "key_type"),
            ("", 256, "key_type"),
            ("ec", 255, "key_bits"),
            ("ec", 2048, "key_bits"),
            ("rsa", 256, "key_bits"),
            ("rsa", 1024, "key_bits"),
            ("rsa", 8192, "key_bits"),
            ("rsa", 0, "key_bits"),
            ("rsa", -2048, "key_bits"),
        ):
            error = self.assertRaises(Invalid, generate, key_type, key_bits)
            self.assertEqual(field, error.field)

    def test_one_of_the_same_kind(self) -> None:
        for old, size in ((rsa_key(), 2048), (ec.generate_private_key(ec.SECP384R1()), 384)):
            new: Any = generate_like(old.public_key())
            self.assertIs(type(old), type(new))
            self.assertEqual(size, new.key_size)
            self.assertNotEqual(spki(old.public_key()), spki(new.public_key()))
        for odd in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256K1())):
            other: Any = generate_like(odd.public_key())
            self.assertEqual("secp256r1", other.curve.name)
        odd_size: Any = generate_like(rsa_key(1024).public_key())
        self.assertEqual("secp256r1", odd_size.curve.name)


class StrengthTests(SynchronousTestCase):
    """Keys that come from outside."""

    def refuse(self, key: Any, *words: str) -> None:
        error = self.assertRaises(Invalid, check_strength, key, "field")
        self.assertEqual("field", error.field)
        for word in words:
            self.assertIn(word, str(error))

    def test_accepted(self) -> None:
        for key in (
            new_key(),
            ec.generate_private_key(ec.SECP521R1()),
            ed25519.Ed25519PrivateKey.generate(),
            rsa_key(),
        ):
            public = key.public_key()
            self.assertIs(public, check_strength(public, "field"))

    def test_refused(self) -> None:
        self.refuse(ec.generate_private_key(ec.SECP256K1()).public_key(), "P-256")
        self.refuse(ec.generate_private_key(ec.SECP224R1()).public_key(), "P-256")
        self.refuse(rsa_key(1024).public_key(), "2048 to 4096")
        self.refuse(rsa_key(2047).public_key(), "2048 to 4096")
        self.refuse(ed448.Ed448PrivateKey.generate().public_key(), "Ed25519")
        self.refuse(x25519.X25519PrivateKey.generate().public_key(), "Ed25519")
        self.refuse(dsa.DSAPublicNumbers(2, dsa.DSAParameterNumbers(
            p=2**2047 + 1, q=2**255 + 1, g=2)), "Ed25519")  # fmt: skip
        self.refuse(rsa_key(2048, 3).public_key(), "exponent")

    def test_odd_numbers(self) -> None:
        """No more than OpenSSL takes with a long modulus, and nothing even."""
        modulus = rsa_key().public_key().public_numbers().n
        for exponent in (2**64 + 1, 2**2000 + 1):
            self.refuse(rsa.RSAPublicNumbers(exponent, modulus).public_key(), "exponent")
        self.refuse(rsa.RSAPublicNumbers(65537, modulus - 1).public_key(), "exponent")
        check_strength(rsa.RSAPublicNumbers(2**63 + 1, modulus).public_key(), "field")

    def test_long(self) -> None:
        long = rsa.RSAPublicNumbers(65537, 2**4096 + 1).public_key()
        self.refuse(long, "2048 to 4096")
        self.assertIs(long, check_strength(long, "field", longest=16384))


class LoadTests(SynchronousTestCase):
    """Private keys in PEM."""

    def test_passwords(self) -> None:
        key = new_key()
        locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        for data, password in ((pkcs8(key), None), (locked, b"secret")):
            self.assertEqual(spki(key.public_key()), spki(load_key(data, password).public_key()))
        for data, password, words in (
            (locked, None, "is encrypted"),
            (locked, b"wrong", "password is wrong"),
            (pkcs8(key), b"secret", "not encrypted"),
            (b"", None, "no private key"),
        ):
            error = self.assertRaises(Invalid, load_key, data, password, field="authority")
            self.assertIn(words, str(error))
            self.assertEqual("authority", error.field)

    def test_keys_that_sign_nothing(self) -> None:
        error = self.assertRaises(Invalid, load_key, pkcs8(x25519.X25519PrivateKey.generate()))
        self.assertIn("signs", str(error))
