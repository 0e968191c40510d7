"""The forms in which a certificate is handed out: PEM, DER and PKCS #12."""

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import (
    PBES,
    serialize_key_and_certificates,
)

from mfserver.ca.issuer import UNREADABLE
from mfserver.ca.keys import load_key
from mfserver.ca.x509 import encode_certificate
from mfserver.errors import Invalid

__all__ = ["PEM", "DER", "PKCS12", "MEDIA_TYPES", "MAX_PASSWORD", "encode"]

PEM: Final = "pem"
DER: Final = "der"
PKCS12: Final = "p12"

#: The media type of each form (RFC 8555, 9.1; RFC 2585, 4.1; and what browsers know).
MEDIA_TYPES: Final = {
    PEM: "application/pem-certificate-chain",
    DER: "application/pkix-cert",
    PKCS12: "application/x-pkcs12",
}
#: Bytes of a PKCS #12 password.
MAX_PASSWORD: Final = 1024

#: Rounds of PBKDF2: a tenth of a second here, and no more than seconds on a small device.
_ROUNDS: Final = 100_000


def encode(
    form: str,
    leaf: bytes,
    chain: Sequence[x509.Certificate] = (),
    *,
    private_key: bytes | None = None,
    password: str | None = None,
    label: str | None = None,
) -> bytes:
    """Put a certificate into one of the forms. PKCS #12 takes a tenth of a second: call it in a thread.

    :param form: :data:`PEM`, the key if there is one, then the certificate and its chain; :data:`DER`, the
        certificate alone; :data:`PKCS12`, all of it, encrypted.
    :param leaf: the certificate in DER.
    :param chain: the intermediates.
    :param private_key: in PEM, not encrypted.
    :param password: of PKCS #12, which it must have; the other forms have none.
    :param label: the friendly name in PKCS #12.
    :raises Invalid: its field is ``format``, ``password`` or ``certificate``.
    """
    if form not in MEDIA_TYPES:
        raise Invalid(f"the format is one of {', '.join(MEDIA_TYPES)}", "format")
    if form != PKCS12 and password is not None:
        raise Invalid("only p12 is encrypted with a password", "password")
    try:
        certificate = x509.load_der_x509_certificate(leaf)
    except UNREADABLE as error:
        raise Invalid("this is no certificate", "certificate") from error
    if form == DER:
        return leaf
    if form == PEM:
        return (private_key or b"") + b"".join(map(encode_certificate, (certificate, *chain)))
    return _pkcs12(certificate, chain, private_key, _password(password), label)


def _pkcs12(
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    private_key: bytes | None,
    password: bytes,
    label: str | None,
) -> bytes:
    key = None if private_key is None else load_key(private_key)
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_ROUNDS)
        .key_cert_algorithm(PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(SHA256())
        .build(password)
    )
    friendly = None if label is None else label.encode()
    return serialize_key_and_certificates(friendly, key, certificate, chain or None, encryption)


def _password(password: str | None) -> bytes:
    """A password that every program can be given."""
    try:
        encoded = (password or "").encode()
    except UnicodeEncodeError as error:
        raise Invalid("the password is no text", "password") from error
    if not encoded:
        raise Invalid("p12 needs a password", "password")
    if len(encoded) > MAX_PASSWORD or not encoded.decode().isprintable():
        raise Invalid(f"a password has at most {MAX_PASSWORD} bytes and no control characters", "password")
    return encoded
