"""Signs certificates of things with an authority's key. Everything here may be called in a thread.

A request's sender chooses the key alone. The subject, the names, the usages and the dates are ours.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, PublicKeyAlgorithmOID

from mfserver.ca.keys import check_strength, generate, spki
from mfserver.ca.request import read_request
from mfserver.ca.x509 import BACKDATED, PrivateKey, PublicKey, encode_certificate, encode_key, issue, name
from mfserver.certificates import CertificateRecord, fingerprint, thing_uri
from mfserver.errors import ConfigurationError, Invalid
from mfserver.records import ThingId, UserId, is_thing_key

__all__ = [
    "DEFAULT_DAYS",
    "MAX_DAYS",
    "MAX_CHAIN",
    "UNREADABLE",
    "Issued",
    "Issuer",
    "record",
    "authority_path",
    "is_issued_by",
]

#: How long a thing's certificate lives unless something else is asked for.
DEFAULT_DAYS: Final = 90
#: The longest that may be asked for. An authority may end sooner.
MAX_DAYS: Final = 3650
#: Certificates of authorities above a leaf, the root among them: as many as a handshake follows.
MAX_CHAIN: Final = 5

#: What cryptography may raise for a certificate that it has read: not all of it is a ValueError.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

#: Of a second. In days, as what is asked for.
_SHORTEST: Final = 1 / 86400


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was signed just now, and is not kept yet.

    :ivar private_key: in PEM (PKCS #8, not encrypted), where it was made here: hand it out and forget it.
    :ivar chain: the certificate and the intermediates that lead to its root, without the root; PEM.
    """

    certificate: x509.Certificate
    thing: ThingId
    issuer: bytes
    issued_at: int
    chain: bytes
    private_key: bytes | None = field(default=None, repr=False)

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def serial(self) -> str:
        """The serial number as records write it."""
        return f"{self.certificate.serial_number:x}"


def record(issued: Issued, owner: UserId) -> CertificateRecord:
    """What is kept of a certificate; not its private key."""
    der = issued.der
    return CertificateRecord(
        serial=issued.serial,
        fingerprint=fingerprint(der),
        thing=issued.thing,
        owner=owner,
        issuer=issued.issuer,
        der=der,
        not_before=int(issued.certificate.not_valid_before_utc.timestamp()),
        not_after=int(issued.certificate.not_valid_after_utc.timestamp()),
        issued_at=issued.issued_at,
    )


class Issuer:
    """An authority that signs: its certificate, its key, and the authorities above it.

    :ivar path: its certificate first, then each one's issuer as far as they are known.
    :ivar intermediates: those of the path that are no root: what a leaf is shown with.
    :ivar fingerprint: SHA-256 of its DER, as records name it.
    """

    def __init__(
        self, certificate: x509.Certificate, key: PrivateKey, others: Iterable[x509.Certificate] = ()
    ) -> None:
        """Look whether this authority can sign at all.

        :param others: where to look for the authorities above it; strangers among them are left out.
        :raises Invalid: its field is ``certificate`` if that is no authority's or cannot be read, ``key``
            if that is another's.
        """
        try:
            _check_authority(certificate)
            if spki(key.public_key()) != spki(certificate.public_key()):
                raise Invalid("does not belong to the certificate", "key")
            path = authority_path(certificate, others)
        except UNREADABLE as error:
            raise Invalid("cannot be read", "certificate") from error
        self.certificate = certificate
        self.key = key
        self.path: Sequence[x509.Certificate] = path
        self.intermediates: Sequence[x509.Certificate] = [
            each for each in path if not is_issued_by(each, each)
        ]
        self.fingerprint = fingerprint(certificate.public_bytes(Encoding.DER))

    @property
    def trust(self) -> bytes:
        """What the other end has to trust, in PEM: the root, or the highest authority that is known."""
        return encode_certificate(self.path[-1])

    @property
    def not_valid_after(self) -> datetime:
        """When the first certificate of the path ends; nothing that is issued ends later."""
        return min(each.not_valid_after_utc for each in self.path)

    def issue(
        self,
        thing: ThingId,
        *,
        now: datetime,
        thing_key: str | None = None,
        key_type: str = "ec",
        key_bits: int | None = None,
        days: float = DEFAULT_DAYS,
    ) -> Issued:
        """Make a key for a thing, and a certificate for it. With RSA it takes up to seconds.

        :param now: with its time zone.
        :param thing_key: stands as the common name in place of the thing's id, for other Mainflux servers.
        :param key_type: ``ec`` or ``rsa``.
        :param key_bits: one of :data:`mfserver.ca.keys.KEY_BITS`; None for the default.
        :param days: until it ends, unless the authority ends before.
        :raises Invalid: its field is the parameter that cannot be used.
        :raises ConfigurationError: this authority cannot sign certificates of things, or not now.
        """
        # Before a key is made that takes seconds.
        self._prepare(thing, thing_key, days)
        self.check(ExtendedKeyUsageOID.CLIENT_AUTH, now)
        key = generate(key_type, key_bits)
        return self._issue(key.public_key(), thing, thing_key, days, now, encode_key(key))

    def sign(
        self,
        request: bytes,
        thing: ThingId,
        *,
        now: datetime,
        thing_key: str | None = None,
        days: float = DEFAULT_DAYS,
    ) -> Issued:
        """Sign a certificate for the key of a request.

        :param request: PEM or DER; all of it but the key is ignored.
        :raises TooLarge: see :func:`~mfserver.ca.request.read_request`, and :meth:`issue` for the rest.
        :raises Invalid: likewise; the request's field is ``csr``.
        """
        return self._issue(read_request(request), thing, thing_key, days, now)

    def renew(
        self,
        certificate: bytes,
        thing: ThingId,
        *,
        now: datetime,
        thing_key: str | None = None,
        days: float = DEFAULT_DAYS,
    ) -> Issued:
        """Sign a new certificate for the key of one of ours; for a new key there are the other two.

        :param certificate: in DER, from our records.
        :raises Invalid: its field is ``certificate`` if that cannot be read, or its key is too weak by now.
        """
        try:
            public_key = x509.load_der_x509_certificate(certificate).public_key()
        except UNREADABLE as error:
            raise Invalid("this is no certificate", "certificate") from error
        return self._issue(check_strength(public_key, "certificate"), thing, thing_key, days, now)

    def certify(
        self,
        public_key: PublicKey,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        alternatives: Sequence[x509.GeneralName],
        now: datetime,
        lifetime: timedelta,
    ) -> x509.Certificate:
        """Sign a leaf that begins an hour ago and ends in a lifetime, both within the whole path's dates.

        :param usage: the one extended key usage.
        :raises ConfigurationError: see :meth:`check`.
        """
        self.check(usage, now)
        return issue(
            public_key,
            subject,
            self.certificate.subject,
            self.key,
            not_before=max(now - BACKDATED, *(each.not_valid_before_utc for each in self.path)),
            not_after=min(now + lifetime, self.not_valid_after),
            issuer=self.certificate,
            usages=[usage],
            alternatives=alternatives,
        )

    def check(self, usage: x509.ObjectIdentifier, now: datetime) -> None:
        """Whether a leaf for this usage would be accepted by anybody.

        :raises ConfigurationError: an authority of the path has expired or is not valid yet, or may not
            issue such leaves.
        """
        for each in self.path:
            label = each.subject.rfc4514_string()
            if now >= each.not_valid_after_utc:
                raise ConfigurationError(f"the authority {label} has expired and can sign nothing", "--ca")
            if now < each.not_valid_before_utc:
                raise ConfigurationError(f"the authority {label} is not valid yet", "--ca")
            _check_usage(each, usage, label)

    def chain(self, leaf: x509.Certificate) -> bytes:
        """A leaf and the intermediates that it is shown with, in PEM."""
        return b"".join(map(encode_certificate, (leaf, *self.intermediates)))

    def _issue(
        self,
        public_key: PublicKey,
        thing: ThingId,
        thing_key: str | None,
        days: float,
        now: datetime,
        private_key: bytes | None = None,
    ) -> Issued:
        subject, uri, lifetime = self._prepare(thing, thing_key, days)
        leaf = self.certify(public_key, subject, ExtendedKeyUsageOID.CLIENT_AUTH, [uri], now, lifetime)
        return Issued(
            certificate=leaf,
            thing=thing,
            issuer=self.fingerprint,
            issued_at=int(now.timestamp()),
            chain=self.chain(leaf),
            private_key=private_key,
        )

    def _prepare(
        self, thing: ThingId, thing_key: str | None, days: float
    ) -> tuple[x509.Name, x509.UniformResourceIdentifier, timedelta]:
        """What a thing's certificate says, checked."""
        if not _SHORTEST <= days <= MAX_DAYS:  # a NaN is refused, too
            raise Invalid(f"a certificate lives for at most {MAX_DAYS} days", "days")
        if thing_key is not None and not is_thing_key(thing_key):
            raise Invalid("this is no thing key", "thing_key")
        try:
            subject = name(thing if thing_key is None else thing_key)
            return subject, x509.UniformResourceIdentifier(thing_uri(thing)), timedelta(days=days)
        except ValueError as error:
            raise Invalid("this id fits into no certificate", "thing_id") from error


def authority_path(
    certificate: x509.Certificate, others: Iterable[x509.Certificate]
) -> list[x509.Certificate]:
    """A certificate, then each one's issuer as far as it is among the others; a root is the last.

    Of several that could have issued it, as an old root and its successor with the same key, the one that
    ends last.

    :raises Invalid: there are more than :data:`MAX_CHAIN`, or one of them may not have so many below it.
    """
    path, left = [certificate], sorted(others, key=lambda each: each.not_valid_after_utc, reverse=True)
    while not is_issued_by(path[-1], path[-1]):
        above = next((each for each in left if each not in path and is_issued_by(path[-1], each)), None)
        if above is None:
            break
        _check_authority(above)
        depth = above.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        if depth is not None and depth < len(path):  # RFC 5280, 4.2.1.9
            raise Invalid("is below an authority that may have no authorities below it", "certificate")
        path.append(above)
        if len(path) > MAX_CHAIN:
            raise Invalid(f"has more than {MAX_CHAIN} authorities in its chain", "certificate")
    return path


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether this authority signed that certificate, whatever the dates."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _check_authority(certificate: x509.Certificate) -> None:
    """Whether it may sign certificates (RFC 5280, 4.2.1.3 and 4.2.1.9)."""
    extensions = certificate.extensions
    try:
        is_authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    try:
        may_sign = extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        may_sign = True
    if not (is_authority and may_sign):
        raise Invalid("is no certificate of an authority", "certificate")
    if certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS:
        raise Invalid("has a key that is bound to RSASSA-PSS", "certificate")


def _check_usage(authority: x509.Certificate, usage: x509.ObjectIdentifier, label: str) -> None:
    """Whether verifiers accept leaves for this usage under an authority.

    OpenSSL asks extended key usages of authorities, too, and takes anyExtendedKeyUsage for none. A name
    constraint on URIs refuses all that have no host, as ours (RFC 5280, 4.2.1.10), and our subjects stand
    in nobody's directory.
    """
    for extension in authority.extensions:
        value = extension.value
        if isinstance(value, x509.ExtendedKeyUsage) and usage not in value:
            raise ConfigurationError(
                f"the authority {label} may not issue certificates of this usage", "--ca"
            )
        if isinstance(value, x509.NameConstraints):
            permitted = value.permitted_subtrees or ()
            every = (*permitted, *(value.excluded_subtrees or ()))
            if any(isinstance(each, x509.UniformResourceIdentifier) for each in every) or any(
                isinstance(each, x509.DirectoryName) for each in permitted
            ):
                raise ConfigurationError(f"the authority {label} is constrained to other names", "--ca")
