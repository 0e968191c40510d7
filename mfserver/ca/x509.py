"""Builds X.509 v3 certificates (RFC 5280) that strict verifiers accept. Nothing here touches a file."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "PrivateKey",
    "PublicKey",
    "BACKDATED",
    "new_key",
    "name",
    "general_name",
    "issue_authority",
    "issue_server",
    "issue_client",
    "issue",
    "authority_key_identifier",
    "signature_hash",
    "encode_certificate",
    "encode_key",
]

PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)
PublicKey: TypeAlias = (
    rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
)

#: How long before its making a certificate begins: the clocks of devices are late.
BACKDATED: Final = timedelta(hours=1)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh private key on P-256, which every TLS library that a device may have speaks."""
    return ec.generate_private_key(ec.SECP256R1())


def name(common_name: str, organization: str | None = None) -> x509.Name:
    """A subject. :raises ValueError: the common name is empty or has more than 64 characters."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def general_name(host: str) -> x509.GeneralName:
    """A subject alternative name: an IP address, or else a DNS name.

    :raises ValueError: it is neither.
    """
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    labels = host.removeprefix("*.").removesuffix(".").split(".")
    if len(host) > 253 or not all(
        0 < len(label) <= 63 and label.replace("-", "").replace("_", "").isalnum() for label in labels
    ):
        raise ValueError(f"{host!r} is neither a host name nor an IP address")
    return x509.DNSName(host)


def issue_authority(
    key: PrivateKey, subject: x509.Name, now: datetime, lifetime: timedelta
) -> x509.Certificate:
    """A self-signed authority that issues leaves only."""
    return issue(
        key.public_key(),
        subject,
        subject,
        key,
        not_before=now - BACKDATED,
        not_after=now + lifetime,
        path_length=0,
    )


def issue_server(
    public_key: PublicKey,
    subject: x509.Name,
    hosts: Sequence[str],
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    """A server's leaf, which ends no later than its issuer.

    :param hosts: names and addresses, see :func:`general_name`.
    """
    return issue(
        public_key,
        subject,
        issuer.subject,
        issuer_key,
        not_before=max(now - BACKDATED, issuer.not_valid_before_utc),
        not_after=min(now + lifetime, issuer.not_valid_after_utc),
        issuer=issuer,
        usages=[ExtendedKeyUsageOID.SERVER_AUTH],
        alternatives=[general_name(host) for host in hosts],
    )


def issue_client(
    public_key: PublicKey,
    subject: x509.Name,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    now: datetime,
    lifetime: timedelta,
    alternatives: Sequence[x509.GeneralName] = (),
) -> x509.Certificate:
    """A thing's leaf, which ends no later than its issuer."""
    return issue(
        public_key,
        subject,
        issuer.subject,
        issuer_key,
        not_before=max(now - BACKDATED, issuer.not_valid_before_utc),
        not_after=min(now + lifetime, issuer.not_valid_after_utc),
        issuer=issuer,
        usages=[ExtendedKeyUsageOID.CLIENT_AUTH],
        alternatives=alternatives,
    )


def issue(
    public_key: PublicKey,
    subject: x509.Name,
    issuer_name: x509.Name,
    issuer_key: PrivateKey,
    *,
    not_before: datetime,
    not_after: datetime,
    issuer: x509.Certificate | None = None,
    usages: Sequence[x509.ObjectIdentifier] = (),
    alternatives: Sequence[x509.GeneralName] = (),
    path_length: int | None = None,
) -> x509.Certificate:
    """Sign a certificate with a random serial number of 128 bits.

    :param issuer: the issuer's certificate; None for a self-signed one.
    :param usages: extended key usages; none leaves the extension out.
    :param path_length: makes it an authority, with at most this many authorities below it.
    """
    is_authority = path_length is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name)
        .public_key(public_key)
        .serial_number(secrets.randbits(128) + 1)
        .not_valid_before(not_before.astimezone(UTC))
        .not_valid_after(not_after.astimezone(UTC))
        .add_extension(x509.BasicConstraints(is_authority, path_length), critical=True)
        .add_extension(_key_usage(public_key, is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(authority_key_identifier(issuer, issuer_key), critical=False)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(issuer_key, signature_hash(issuer_key))


def signature_hash(key: PrivateKey) -> SHA256 | None:
    """What to hash with before this key signs; None for the keys that do it themselves."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else SHA256()


def authority_key_identifier(
    issuer: x509.Certificate | None, issuer_key: PrivateKey
) -> x509.AuthorityKeyIdentifier:
    """The issuer's own key identifier, however that was made; strict verifiers compare the two."""
    if issuer is not None:
        try:
            identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            pass
        else:
            return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())


def encode_certificate(certificate: x509.Certificate) -> bytes:
    """The certificate in PEM."""
    return certificate.public_bytes(Encoding.PEM)


def encode_key(key: PrivateKey) -> bytes:
    """The private key in PEM (PKCS #8), not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _key_usage(public_key: PublicKey, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        # What TLS 1.2 asks of RSA certificates when the client chooses a key exchange without ECDHE.
        key_encipherment=not is_authority and isinstance(public_key, rsa.RSAPublicKey),
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
