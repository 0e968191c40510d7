"""Requests of honest and of other senders."""

import base64
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from mfserver.ca.keys import spki
from mfserver.ca.request import MAX_REQUEST, read_request
from mfserver.ca.x509 import new_key
from mfserver.errors import Invalid, TooLarge
from tests.ca.authorities import FilesCase, pkcs8, request, rsa_key


class RequestTests(FilesCase):
    """The key of a request."""

    def refuse(self, data: bytes, *words: str) -> None:
        error = self.assertRaises(Invalid, read_request, data)
        self.assertEqual("csr", error.field)
        for word in words:
            self.assertIn(word, str(error))

    def test_keys_and_forms(self) -> None:
        keys: tuple[tuple[Any, Any], ...] = (
            (new_key(), SHA384()),
            (ec.generate_private_key(ec.SECP521R1()), SHA384()),
            (rsa_key(), SHA384()),
            (ed25519.Ed25519PrivateKey.generate(), None),
        )
        for key, hashed in keys:
            for form in (Encoding.PEM, Encoding.DER):
                found = read_request(request(key, hashed=hashed, form=form))
                self.assertEqual(spki(key.public_key()), spki(found))

    def test_text_around(self) -> None:
        """``openssl req -text`` prints before it, and mail adds carriage returns."""
        data = request(new_key())
        read_request(b"Certificate Request:\n    Data:\n" + data + b"\n\n")
        read_request(data.replace(b"\n", b"\r\n"))
        read_request(data.replace(b" CERTIFICATE REQUEST", b" NEW CERTIFICATE REQUEST"))

    def test_weak_keys(self) -> None:
        self.refuse(request(rsa_key(1024)), "2048")
        self.refuse(request(rsa_key(2048, 3)), "exponent")
        der = request(rsa_key(), form=Encoding.DER)
        for exponent in ("0203010002", "0203000003"):  # even, and not the shortest form
            self.refuse(der.replace(bytes.fromhex("0203010001"), bytes.fromhex(exponent)))
        self.refuse(request(ec.generate_private_key(ec.SECP256K1())), "P-256")
        self.refuse(request(ed448.Ed448PrivateKey.generate(), hashed=None), "Ed25519")

    def test_somebody_else_s_key(self) -> None:
        """Who does not hold the private key cannot sign: a signature of another one's is refused."""
        for key, hashed in ((new_key(), SHA384()), (rsa_key(), SHA384())):
            der = bytearray(request(key, hashed=hashed, form=Encoding.DER))
            der[-1] ^= 1
            self.refuse(bytes(der))
        mine, others = (request(new_key(), form=Encoding.DER) for _ in range(2))
        own, other = (x509.load_der_x509_csr(each) for each in (mine, others))
        swapped = mine.replace(spki(own.public_key()), spki(other.public_key()))
        self.assertNotEqual(mine, swapped)
        self.refuse(swapped, "not signed")

    def test_what_is_none(self) -> None:
        data = request(new_key())
        der = request(new_key(), form=Encoding.DER)
        for bad in (b"", b"\x30", b"hello", der[:-1], der + b"\0", data[:-40], data.replace(b"REQUEST", b"")):
            self.refuse(bad, "no certificate signing request")

    def test_two(self) -> None:
        self.refuse(request(new_key()) + request(new_key()), "one")

    def test_private_key(self) -> None:
        """What should have stayed at home is not even looked at, and its owner is told."""
        key = new_key()
        self.refuse(pkcs8(key) + request(key), "private key")

    def test_size(self) -> None:
        data = request(new_key())
        read_request(data + b"\n" * (MAX_REQUEST - len(data)))
        error = self.assertRaises(TooLarge, read_request, data + b"\n" * (MAX_REQUEST - len(data) + 1))
        self.assertEqual(MAX_REQUEST, error.limit)

    def test_rsassa_pss(self) -> None:
        """A certificate that says RSA is no good to a key that may only do RSASSA-PSS."""
        self.openssl(
            *("genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "pss.key")
        )
        self.openssl("req", "-new", "-key", "pss.key", "-subj", "/CN=x", "-out", "pss.csr")
        with open(f"{self.directory}/pss.csr", "rb") as file:
            self.refuse(file.read(), "RSASSA-PSS")

    def test_any_bytes(self) -> None:
        """Whatever comes, only our errors leave."""
        good = request(new_key(), form=Encoding.DER)

        @settings(max_examples=200, deadline=None)
        @given(st.data())
        def attack(data: st.DataObject) -> None:
            bad = bytearray(good)
            for _ in range(data.draw(st.integers(1, 4))):
                bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
            pem = (
                b"-----BEGIN CERTIFICATE REQUEST-----\n"
                + base64.encodebytes(bytes(bad))
                + b"-----END CERTIFICATE REQUEST-----\n"
            )
            for each in (bytes(bad), pem):
                try:
                    read_request(each)
                except Invalid:
                    continue
                assert bytes(bad) == good

        attack()
