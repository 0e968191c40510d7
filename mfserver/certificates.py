"""Client certificates that this server issued, as plain values."""

import hashlib
from dataclasses import dataclass, field
from typing import Final

from mfserver.records import ThingId, UserId

__all__ = [
    "ACTIVE",
    "EXPIRED",
    "REASONS",
    "REVOKED",
    "THING_URI",
    "CertificateQuery",
    "CertificateRecord",
    "NewCertificate",
    "fingerprint",
    "thing_uri",
]

#: What stands before a thing's id in the subject alternative name of its certificate.
THING_URI: Final = "urn:mainflux:thing:"

#: The states of a certificate. One that is revoked stays that when it has expired.
ACTIVE: Final = "active"
REVOKED: Final = "revoked"
EXPIRED: Final = "expired"

#: Why a certificate may be revoked (RFC 5280, 5.3.1), as openssl and curl show it.
REASONS: Final = (
    "unspecified",
    "keyCompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
)


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """A certificate that was issued for a thing. All times are seconds since 1970.

    :ivar serial: its serial number, in lower-case hexadecimal digits without leading zeros.
    :ivar fingerprint: SHA-256 of its DER, 32 bytes.
    :ivar issuer: SHA-256 of its issuer's DER, 32 bytes.
    :ivar der: the certificate.
    :ivar revoked_at: None while it is not revoked.
    :ivar reason: one of :data:`REASONS` once it is revoked.
    :ivar replaced_by: the serial number of the one that it was renewed by.
    """

    serial: str
    fingerprint: bytes
    thing: ThingId
    owner: UserId
    issuer: bytes
    der: bytes
    not_before: int
    not_after: int
    issued_at: int
    revoked_at: int | None = None
    reason: str | None = None
    replaced_by: str | None = None

    def state(self, now: float) -> str:
        """:data:`ACTIVE`, :data:`REVOKED` or :data:`EXPIRED`."""
        if self.revoked_at is not None:
            return REVOKED
        return EXPIRED if now > self.not_after else ACTIVE


@dataclass(frozen=True, slots=True)
class NewCertificate:
    """A certificate as it is handed out, this once.

    :ivar record: what is kept of it.
    :ivar chain: it and the intermediates that it is shown with, in PEM.
    :ivar trust: the root that it leads to, or the highest authority that is known, in PEM.
    :ivar private_key: in PEM (PKCS #8, not encrypted), where it was made here: nobody keeps it.
    :ivar bundle: all of it as PKCS #12, where that was asked for.
    """

    record: CertificateRecord
    chain: bytes
    trust: bytes
    private_key: bytes | None = field(default=None, repr=False)
    bundle: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CertificateQuery:
    """Which page of a list of certificates is asked for; the youngest come first.

    :ivar now: seconds since 1970, which states are told by.
    :ivar thing: of this thing alone.
    :ivar state: in this state alone.
    :ivar ends_before: that end before this, in seconds since 1970.
    """

    now: int
    offset: int = 0
    limit: int = 10
    thing: ThingId | None = None
    state: str | None = None
    ends_before: int | None = None


def fingerprint(der: bytes) -> bytes:
    """What a certificate is known by: SHA-256 of its DER."""
    return hashlib.sha256(der).digest()


def thing_uri(thing: ThingId) -> str:
    """The URI that names a thing in its certificate."""
    return THING_URI + thing
