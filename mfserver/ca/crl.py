"""Builds certificate revocation lists (RFC 5280, 5), for those who verify without asking us."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mfserver.ca.issuer import Issuer
from mfserver.ca.x509 import BACKDATED, authority_key_identifier, signature_hash
from mfserver.certificates import REASONS, CertificateRecord
from mfserver.errors import ConfigurationError

__all__ = ["LIFETIME", "build_crl", "encode_crl_pem"]

#: How long a list is good for.
LIFETIME: Final = timedelta(days=7)


def build_crl(
    issuer: Issuer,
    records: Iterable[CertificateRecord],
    number: int,
    now: datetime,
    lifetime: timedelta = LIFETIME,
) -> bytes:
    """The list of an authority, version 2, in DER. With many entries call it in a thread.

    What this issuer did not sign and what is not revoked is left out. What has expired is kept for one
    lifetime more where it is given: it must have stood on a list after its end (RFC 5280, 3.3).

    :param number: grows with every list (RFC 5280, 5.2.3); at most 20 bytes.
    :raises ConfigurationError: the authority may not sign lists, as its key usage says.
    """
    _check_may_sign(issuer.certificate)
    ended = (now - lifetime).timestamp()
    entries = {
        record.serial: _entry(record)
        for record in records
        if record.issuer == issuer.fingerprint and record.revoked_at is not None and record.not_after >= ended
    }
    builder = (
        # Added one by one, the builder would copy its whole list for each.
        x509.CertificateRevocationListBuilder(revoked_certificates=list(entries.values()))
        .issuer_name(issuer.certificate.subject)
        .last_update(max(now - BACKDATED, issuer.certificate.not_valid_before_utc))
        .next_update(now + lifetime)
        .add_extension(authority_key_identifier(issuer.certificate, issuer.key), critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    return builder.sign(issuer.key, signature_hash(issuer.key)).public_bytes(Encoding.DER)


def encode_crl_pem(der: bytes) -> bytes:
    """The same list in PEM."""
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)


def _entry(record: CertificateRecord) -> x509.RevokedCertificate:
    assert record.revoked_at is not None
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(int(record.serial, 16))
        .revocation_date(datetime.fromtimestamp(record.revoked_at, UTC))
    )
    # No code says the same as "unspecified", and is what it should be (RFC 5280, 5.3.1).
    if record.reason in REASONS[1:]:
        builder = builder.add_extension(x509.CRLReason(x509.ReasonFlags(record.reason)), critical=False)
    return builder.build()


def _check_may_sign(certificate: x509.Certificate) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.crl_sign:
        raise ConfigurationError(
            "the key usage of this authority has no cRLSign: nobody would accept its revocation list", "--ca"
        )
