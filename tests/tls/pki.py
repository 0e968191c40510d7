"""Certificates for tests, the hostile ones too."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from mfserver.ca.x509 import encode_certificate, encode_key, issue, issue_server, name, new_key
from mfserver.interfaces import IRevocations
from mfserver.tls.context import ServerContext

__all__ = ["Identity", "Authority", "rewritten", "write", "server_context", "DAY", "KEY"]

DAY = timedelta(days=1)
#: How many points P-256 has.
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
#: A thing key that stands in most certificates here.
KEY = "0123456789abcdef"


@dataclass(frozen=True)
class Identity:
    """A certificate, its key, and what a client sends with it."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()


class Authority:
    """An authority, a root unless it has an issuer; with room for two below a root."""

    def __init__(
        self,
        common_name: str = "Test CA",
        issuer: "Authority | None" = None,
        *,
        is_authority: bool = True,
        begin: timedelta = -DAY,
        end: timedelta = 30 * DAY,
    ) -> None:
        self.key = new_key()
        self.below: int = 2 if issuer is None else issuer.below - 1
        now = datetime.now(UTC)
        self.name = name(common_name)
        self.certificate: x509.Certificate = issue(
            self.key.public_key(),
            self.name,
            self.name if issuer is None else issuer.name,
            self.key if issuer is None else issuer.key,
            issuer=None if issuer is None else issuer.certificate,
            not_before=now + begin,
            not_after=now + end,
            path_length=self.below if is_authority else None,
        )

    def client(
        self,
        subject: x509.Name | str = KEY,
        *,
        begin: timedelta = -DAY,
        end: timedelta = DAY,
        usages: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
        chain: tuple[x509.Certificate, ...] = (),
        uris: Sequence[str] = (),
    ) -> Identity:
        """A thing's certificate.

        :param uris: its subject alternative names.
        """
        key = new_key()
        now = datetime.now(UTC)
        certificate = issue(
            key.public_key(),
            name(subject) if isinstance(subject, str) else subject,
            self.name,
            self.key,
            issuer=self.certificate,
            not_before=now + begin,
            not_after=now + end,
            usages=usages,
            alternatives=[x509.UniformResourceIdentifier(uri) for uri in uris],
        )
        return Identity(certificate, key, chain)

    def crl(
        self,
        *revoked: x509.Certificate,
        begin: timedelta = -DAY,
        end: timedelta = DAY,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        entry: x509.ExtensionType | None = None,
        signer: "Authority | None" = None,
    ) -> x509.CertificateRevocationList:
        """A revocation list.

        :param end: when the next one comes.
        :param extensions: each with whether it is critical.
        :param entry: an extension of every entry.
        :param signer: who signs in our name.
        """
        now = datetime.now(UTC)
        entries = []
        for certificate in revoked:
            one = x509.RevokedCertificateBuilder(certificate.serial_number, now)
            entries.append((one if entry is None else one.add_extension(entry, False)).build())
        builder = x509.CertificateRevocationListBuilder(
            self.name, now + begin, now + end, revoked_certificates=entries
        )
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, is_critical)
        return builder.sign((signer or self).key, SHA256())

    def server(self, *hosts: str, end: timedelta = DAY) -> Identity:
        """A server's certificate."""
        key = new_key()
        certificate = issue_server(
            key.public_key(),
            name("localhost"),
            hosts or ("localhost",),
            self.certificate,
            self.key,
            datetime.now(UTC),
            end,
        )
        return Identity(certificate, key)


def write(directory: str, server: Identity, *roots: x509.Certificate) -> tuple[str, str, str]:
    """Write the files of a server. :return: their paths: certificate, key, trust roots."""
    os.makedirs(directory, exist_ok=True)
    certificate, key, ca = (os.path.join(directory, file) for file in ("server.crt", "server.key", "ca.crt"))
    with open(certificate, "wb") as file:
        file.write(b"".join(map(encode_certificate, (server.certificate, *server.chain))))
    with open(key, "wb") as file:
        file.write(encode_key(server.key))
    with open(ca, "wb") as file:
        file.write(b"".join(map(encode_certificate, roots)))
    return certificate, key, ca


def rewritten(certificate: x509.Certificate) -> x509.Certificate:
    """The same certificate with its ECDSA signature written the other way, as anybody can: (r, n - s)."""
    r, s = decode_dss_signature(certificate.signature)
    other = encode_dss_signature(r, P256_ORDER - s)
    der = certificate.public_bytes(Encoding.DER)
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    bits = b"\x00" + other
    body = certificate.tbs_certificate_bytes + algorithm + b"\x03" + bytes([len(bits)]) + bits
    assert der.startswith(b"\x30\x82") and len(body) > 255
    return x509.load_der_x509_certificate(b"\x30\x82" + len(body).to_bytes(2, "big") + body)


def server_context(
    directory: str,
    authority: Authority,
    *,
    request: bool = True,
    minimum: str = "1.2",
    revocations: IRevocations | None = None,
) -> ServerContext:
    """A loaded context whose server certificate and trust root are this authority's."""
    paths = write(directory, authority.server(), authority.certificate)
    context = ServerContext(
        *paths, request_client_certificates=request, minimum=minimum, revocations=revocations
    )
    context.load()
    return context
