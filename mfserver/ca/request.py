"""Certificate signing requests (PKCS #10, RFC 2986): whose key one proves to hold, and nothing else of it."""

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from mfserver.ca.keys import check_strength
from mfserver.ca.x509 import PublicKey
from mfserver.errors import Invalid, TooLarge

__all__ = ["MAX_REQUEST", "FIELD", "read_request"]

#: Bytes of a request. One of RSA 4096 with some extensions has two thousand.
MAX_REQUEST: Final = 16 * 1024
#: The field that errors name.
FIELD: Final = "csr"

_BEGIN: Final = b"-----BEGIN "
#: id-RSASSA-PSS in DER: such a key is good for this signature only, and what we issue says RSA.
_RSASSA_PSS: Final = bytes.fromhex("06092a864886f70d01010a")


def read_request(data: bytes) -> PublicKey:
    """The public key of a request, whose sender holds the private one.

    Subject, alternative names and extensions are not looked at.

    :param data: PEM or DER.
    :raises TooLarge: it is larger than :data:`MAX_REQUEST`.
    :raises Invalid: it is no request, it holds a private key, its signature does not verify, or its key is
        not one that :func:`~mfserver.ca.keys.check_strength` lets pass.
    """
    if len(data) > MAX_REQUEST:
        raise TooLarge("the certificate signing request is too large", MAX_REQUEST)
    try:
        request = _load(data)
        # The key first: verifying with one of a hundred thousand bits takes long.
        key = check_strength(request.public_key(), FIELD)
        if _RSASSA_PSS in request.tbs_certrequest_bytes:
            raise Invalid("an RSA key must not be bound to RSASSA-PSS", FIELD)
        is_proven = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise Invalid("this is no certificate signing request in PEM or DER", FIELD) from error
    if not is_proven:
        raise Invalid("the request is not signed with the private key of its public key", FIELD)
    return key


def _load(data: bytes) -> x509.CertificateSigningRequest:
    if _BEGIN not in data:
        return x509.load_der_x509_csr(data)
    if b"PRIVATE KEY-----" in data:
        raise Invalid("a private key came with the request: keep it to yourself and send the rest", FIELD)
    if data.count(_BEGIN) > 1:
        raise Invalid("there must be one certificate signing request, and nothing else", FIELD)
    return x509.load_pem_x509_csr(data)
