"""The files of ``DIR/pki``: written whole or not at all, and the authority read from them."""

import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from mfserver.ca.issuer import UNREADABLE, Issuer
from mfserver.ca.keys import load_key, spki
from mfserver.errors import ConfigurationError, Invalid
from mfserver.ownership import hand_over

__all__ = ["MAX_FILE", "AuthorityFiles", "read", "read_certificates", "read_issuer", "remove", "write"]

#: Bytes of a certificate, a chain, a key or a PKCS #12.
MAX_FILE: Final = 1024 * 1024

_CERTIFICATE: Final = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class AuthorityFiles:
    """Where an authority is.

    :ivar certificate: its certificate; more may stand beside it, as trust roots or as its chain.
    :ivar key: its key.
    :ivar chain: the authorities above it, where they are not in the other file; it may be absent.
    """

    certificate: str
    key: str
    chain: str

    @classmethod
    def of(cls, directory: str, ca: str | None = None, ca_key: str | None = None) -> "AuthorityFiles":
        """Those of a data directory.

        :param ca_key: the key of the authority that signs, where it is not ``ca.key``.
        :param ca: that authority's certificate, where it is not ``ca.crt``; looked at only with a ``ca_key``.
        """
        pki = os.path.join(directory, "pki")
        elsewhere = ca is not None and ca_key is not None
        return cls(
            certificate=ca if elsewhere and ca is not None else os.path.join(pki, "ca.crt"),
            key=ca_key or os.path.join(pki, "ca.key"),
            chain=os.path.join(pki, "ca-chain.crt"),
        )


def read_issuer(files: AuthorityFiles) -> Issuer:
    """The authority that signs: of several certificates the one that the key belongs to.

    :raises ConfigurationError: a file is missing or unreadable, or there is no such certificate.
    """
    if not os.path.lexists(files.key):
        raise ConfigurationError(
            f"{files.key} is missing, and certificates have to be signed with it: put it there, or give"
            " a certificate of your own with --cert and --key",
            "--ca-key",
        )
    certificates = read_certificates(files.certificate, "--ca")
    others = read_certificates(files.chain, "--ca") if os.path.lexists(files.chain) else []
    try:
        key = load_key(read(files.key, "--ca-key"))
    except Invalid as error:
        raise ConfigurationError(f"{files.key} {error}", "--ca-key") from error
    own = spki(key.public_key())
    fitting = [each for each in certificates if spki(each.public_key()) == own]
    if not fitting:
        raise ConfigurationError(f"{files.key} does not belong to {files.certificate}", "--ca-key")
    # An authority that was renewed with its key stands beside its successor.
    certificate = max(fitting, key=lambda each: each.not_valid_after_utc)
    try:
        return Issuer(certificate, key, [*certificates, *others])
    except Invalid as error:
        raise ConfigurationError(f"{files.certificate} {error}", "--ca") from error


def read_certificates(path: str, option: str) -> list[x509.Certificate]:
    """All certificates of a file in PEM.

    :raises ConfigurationError: it cannot be read, or holds none.
    """
    data = read(path, option)
    try:
        certificates = x509.load_pem_x509_certificates(data)
        for certificate in certificates:
            certificate.public_key()
    except UNREADABLE as error:
        raise ConfigurationError(f"{path} is no certificate in PEM", option) from error
    if len(certificates) != len(_CERTIFICATE.findall(data)):  # the parser skips what is cut off
        raise ConfigurationError(f"{path} holds half a certificate", option)
    return certificates


def read(path: str, option: str) -> bytes:
    """A file's content. :raises ConfigurationError: it cannot be read, or is far too large."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", option) from error
    if len(data) > MAX_FILE:
        raise ConfigurationError(f"{path} has more than {MAX_FILE} bytes", option)
    return data


def write(path: str, data: bytes) -> None:
    """Make or replace a file of mode 0600, whatever the umask, that is on the disk when this returns."""
    new = f"{path}.{secrets.token_hex(8)}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            hand_over(file.fileno(), os.path.dirname(path))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, path)
    except BaseException:
        os.unlink(new)
        raise
    _sync(os.path.dirname(path))


def remove(path: str) -> None:
    """Take a file away for good; it may be absent."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    _sync(os.path.dirname(path))


def _sync(path: str) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
