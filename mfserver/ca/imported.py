"""Takes an authority that somebody else made: a root, or an intermediate with its chain."""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

from mfserver.ca.authority import make_pki
from mfserver.ca.files import MAX_FILE, AuthorityFiles, read_certificates, remove, write
from mfserver.ca.issuer import UNREADABLE, Issuer
from mfserver.ca.keys import check_strength, load_key, spki
from mfserver.ca.x509 import PrivateKey, encode_certificate, encode_key
from mfserver.errors import ConfigurationError, Conflict, Invalid, TooLarge

__all__ = ["FIELD", "import_authority", "read_authority"]

#: The field that errors name, unless it is the password.
FIELD: Final = "authority"

#: Bits of an authority's RSA key.
_LONGEST_KEY: Final = 16384
_PRIVATE_KEY: Final = re.compile(
    rb"-----BEGIN ((?:[A-Z0-9]+ )*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL
)


def import_authority(
    directory: str,
    data: bytes,
    password: str | None = None,
    now: datetime | None = None,
    *,
    force: bool = False,
    keep: bool = False,
) -> list[str]:
    """Make an authority the one that signs: ``ca.crt``, ``ca.key`` and ``ca-chain.crt`` in ``DIR/pki``.

    Clients are trusted by ``ca.crt``: the authority alone, so that an intermediate does not let in whom its
    root or its sisters certified. The authorities above it go into ``ca-chain.crt``, if there are any.

    :param data: PEM, with the key in it and in any order, or PKCS #12.
    :param password: what the PKCS #12, or the key in the PEM, is encrypted with.
    :param force: replace the authority that is there, whose key is then gone.
    :param keep: the certificates in ``ca.crt`` stay trusted, beside the new one.
    :return: lines for the person who imports.
    :raises Invalid: it is no authority that could sign certificates of things now, or the password is wrong.
    :raises TooLarge: it is larger than a file may be.
    :raises Conflict: there is an authority, and ``force`` is not given.
    :raises ConfigurationError: a file cannot be read or written.
    """
    now = datetime.now(UTC) if now is None else now
    issuer = read_authority(data, password)
    try:
        issuer.check(ExtendedKeyUsageOID.CLIENT_AUTH, now)
        issuer.check(ExtendedKeyUsageOID.SERVER_AUTH, now)
    except ConfigurationError as error:
        raise Invalid(str(error), FIELD) from error
    files = AuthorityFiles.of(directory)
    there = [path for path in (files.certificate, files.key) if os.path.lexists(path)]
    if there and not force:
        raise Conflict(f"{' and '.join(there)} would be overwritten: that needs force")
    make_pki(directory)
    trusted = [issuer.certificate]
    if keep and os.path.lexists(files.certificate):
        old = read_certificates(files.certificate, "--ca")
        trusted += [each for each in old if each != issuer.certificate]
    try:
        _write(files, issuer, trusted)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {error.filename or files.certificate}: {error.strerror}", "--data-dir"
        ) from error
    return _lines(files, issuer, trusted)


def read_authority(data: bytes, password: str | None = None) -> Issuer:
    """The authority in some PEM or PKCS #12, whenever it is valid.

    :raises Invalid: its field is ``password`` or ``authority``.
    :raises TooLarge: it is larger than a file may be.
    """
    if len(data) > MAX_FILE:
        raise TooLarge("this is too large for an authority", MAX_FILE)
    secret = None if password is None else password.encode(errors="replace")
    key, certificates = _read_pem(data, secret) if b"-----BEGIN " in data else _read_pkcs12(data, secret)
    own = spki(key.public_key())
    try:
        certificate = next((each for each in certificates if spki(each.public_key()) == own), None)
        if certificate is None:
            raise Invalid("the key belongs to no certificate in it", FIELD)
        check_strength(certificate.public_key(), FIELD, longest=_LONGEST_KEY)
        return Issuer(certificate, key, certificates)
    except UNREADABLE as error:
        raise Invalid("a certificate in it cannot be read", FIELD) from error
    except Invalid as error:
        # The issuer's errors begin with a verb.
        text = str(error) if error.field == FIELD else f"the certificate of the key {error}"
        raise Invalid(text, FIELD) from error


def _read_pem(data: bytes, password: bytes | None) -> tuple[PrivateKey, list[x509.Certificate]]:
    # Counted first: looking for the end of each of ten thousand takes long.
    found = _PRIVATE_KEY.search(data) if data.count(b" PRIVATE KEY-----") <= 2 else None
    if found is None:
        raise Invalid("exactly one private key must come with it", FIELD)
    try:
        certificates = x509.load_pem_x509_certificates(data)
    except UNREADABLE as error:
        raise Invalid("it holds no certificate", FIELD) from error
    try:
        return load_key(found[0], password), certificates
    except Invalid as error:
        raise Invalid(f"the private key {error}", FIELD) from error


def _read_pkcs12(data: bytes, password: bytes | None) -> tuple[PrivateKey, list[x509.Certificate]]:
    try:
        bundle = load_pkcs12(data, password)
    except UNREADABLE as error:
        raise Invalid("it is neither PEM nor PKCS #12, or the password is wrong", "password") from error
    if bundle.key is None or bundle.cert is None:
        raise Invalid("it holds no private key with its certificate", FIELD)
    if not isinstance(bundle.key, PrivateKey):
        raise Invalid("the private key is no key that signs certificates", FIELD)
    return bundle.key, [bundle.cert.certificate, *(each.certificate for each in bundle.additional_certs)]


def _write(files: AuthorityFiles, issuer: Issuer, trusted: Sequence[x509.Certificate]) -> None:
    """The certificate last, which makes it the authority."""
    above = issuer.path[1:]
    if above:
        write(files.chain, b"".join(map(encode_certificate, above)))
    write(files.key, encode_key(issuer.key))
    write(files.certificate, b"".join(map(encode_certificate, trusted)))
    if not above:
        remove(files.chain)


def _lines(files: AuthorityFiles, issuer: Issuer, trusted: Sequence[x509.Certificate]) -> list[str]:
    label = issuer.certificate.subject.rfc4514_string()
    lines = [f"{label} signs from now on, until {issuer.not_valid_after.date()}: {files.certificate}"]
    if len(trusted) > 1:
        lines.append(f"{len(trusted) - 1} more in {files.certificate} stay trusted")
    return lines
