"""Client certificates, honest and hostile, and the TLS of the client that shows them."""

import itertools
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mfserver.ca.x509 import (
    PrivateKey,
    encode_certificate,
    encode_key,
    issue,
    issue_authority,
    name,
    new_key,
)

__all__ = ["Identity", "Authority", "client_tls", "common_name", "subject"]

CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_HOUR = timedelta(hours=1)


def client_tls(
    trusted: str, tls: str = "1.3", certificate: Path | None = None, alpn: str = ""
) -> ssl.SSLContext:
    """A client's context of exactly one TLS version, with a certificate to show or none.

    :param alpn: the one name to offer; none without.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(trusted)
    context.minimum_version = context.maximum_version = _VERSIONS[tls]
    if certificate is not None:
        context.load_cert_chain(certificate)
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


def common_name(text: str, kind: x509.name._ASN1Type | None = None) -> "x509.NameAttribute[str]":
    """A common name, however long and of whatever string type."""
    return x509.NameAttribute(NameOID.COMMON_NAME, text, kind, _validate=False)


def subject(*attributes: "x509.NameAttribute[str]") -> x509.Name:
    """A subject with these attributes, each in an RDN of its own."""
    return x509.Name(attributes)


class Identity:
    """A certificate and its key in a file.

    :ivar leaf: the certificate; None for somebody who shows none.
    """

    def __init__(self, trusted: str, leaf: x509.Certificate | None = None, file: Path | None = None) -> None:
        self.leaf = leaf
        self._trusted = trusted
        self._file = file
        self._contexts: dict[tuple[str, str], ssl.SSLContext] = {}

    def tls(self, version: str = "1.3", alpn: str = "") -> ssl.SSLContext:
        """The client's context, always the same one."""
        if (version, alpn) not in self._contexts:
            self._contexts[version, alpn] = client_tls(self._trusted, version, self._file, alpn)
        return self._contexts[version, alpn]


class Authority:
    """Signs whatever it is asked to.

    :ivar directory: where the files of its identities go.
    :param trusted: the file of the authority that clients trust.
    """

    _numbers = itertools.count()

    def __init__(self, certificate: x509.Certificate, key: PrivateKey, directory: Path, trusted: str) -> None:
        self.certificate = certificate
        self.key = key
        self.directory = directory
        self._trusted = trusted
        self._leaf_key = new_key()

    @classmethod
    def load(cls, pki: Path, directory: Path) -> "Authority":
        """The server's own authority."""
        key = load_pem_private_key((pki / "ca.key").read_bytes(), None)
        assert isinstance(key, PrivateKey)
        certificate = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
        return cls(certificate, key, directory, str(pki / "ca.crt"))

    @classmethod
    def new(cls, subject: x509.Name, directory: Path, trusted: str) -> "Authority":
        """A fresh authority."""
        key = new_key()
        certificate = issue_authority(key, subject, datetime.now(UTC), 24 * _HOUR)
        return cls(certificate, key, directory, trusted)

    def impostor(self) -> "Authority":
        """Another authority with this one's name."""
        return self.new(self.certificate.subject, self.directory, self._trusted)

    def nobody(self) -> Identity:
        """Shows no certificate."""
        return Identity(self._trusted)

    def client(
        self,
        subject: x509.Name | str,
        *,
        lifetime: timedelta = _HOUR,
        not_before: datetime | None = None,
        usages: Sequence[x509.ObjectIdentifier] = CLIENT,
        alternatives: Sequence[x509.GeneralName] = (),
    ) -> Identity:
        """A client certificate.

        :param subject: or its one common name.
        :param lifetime: from now on; negative for one that has ended.
        """
        now = datetime.now(UTC)
        leaf = issue(
            self._leaf_key.public_key(),
            name(subject) if isinstance(subject, str) else subject,
            self.certificate.subject,
            self.key,
            not_before=not_before or now - 2 * _HOUR,
            not_after=now + lifetime,
            issuer=self.certificate,
            usages=usages,
            alternatives=alternatives,
        )
        return self._identity(leaf)

    def self_signed(self, common_name: str) -> Identity:
        """A client certificate that nobody vouches for."""
        now, key = datetime.now(UTC), self._leaf_key
        both = name(common_name)
        leaf = issue(
            key.public_key(), both, both, key, not_before=now - _HOUR, not_after=now + _HOUR, usages=CLIENT
        )
        return self._identity(leaf)

    def signed_by_thing(self, thing: Identity, common_name: str) -> Identity:
        """A client certificate that a thing signed with its own certificate's key, and sends along."""
        now = datetime.now(UTC)
        assert thing.leaf is not None
        leaf = issue(
            self._leaf_key.public_key(),
            name(common_name),
            thing.leaf.subject,
            self._leaf_key,
            not_before=now - _HOUR,
            not_after=now + _HOUR,
            issuer=thing.leaf,
            usages=CLIENT,
        )
        return self._identity(leaf, thing.leaf)

    def _identity(self, leaf: x509.Certificate, *chain: x509.Certificate) -> Identity:
        file = self.directory / f"client-{next(self._numbers)}.pem"
        parts = [encode_certificate(leaf), *map(encode_certificate, chain), encode_key(self._leaf_key)]
        file.write_bytes(b"".join(parts))
        return Identity(self._trusted, leaf, file)
