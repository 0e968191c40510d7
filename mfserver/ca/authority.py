"""Makes the files of ``DIR/pki`` that are missing: an authority, and a server certificate signed by it.

All are PEM, readable by their owner only, and appear whole or not at all. What root makes belongs to the
owner of the directory that it is in.
"""

import os
import secrets
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mfserver.ca.x509 import (
    PrivateKey,
    encode_certificate,
    encode_key,
    general_name,
    issue_authority,
    issue_server,
    name,
    new_key,
)
from mfserver.errors import ConfigurationError
from mfserver.ownership import hand_over

__all__ = ["ensure", "CA_LIFETIME", "SERVER_LIFETIME"]

#: Of an authority that is made here.
CA_LIFETIME: Final = timedelta(days=3650)
#: Of a server certificate: the most that Apple's devices accept under an authority that their user added.
SERVER_LIFETIME: Final = timedelta(days=825)

_SERVER: Final = "mainflux-server"


def ensure(
    directory: str,
    names: Sequence[str],
    now: datetime | None = None,
    *,
    ca: str | None = None,
    ca_key: str | None = None,
) -> list[str]:
    """Make what is missing of ``ca.crt ca.key mainflux-server.crt mainflux-server.key`` in ``DIR/pki``.

    What is there is kept and, unless it is needed to make the rest, not even read. A key without its
    certificate is used; a certificate without its key only where nothing has to be signed with it.

    :param directory: the data directory DIR.
    :param names: further names and addresses for the server certificate, which always has localhost,
        127.0.0.1, ::1 and this machine's host name.
    :param ca_key: the key of the authority that signs, where it is not ``ca.key``.
    :param ca: that authority's certificate, where it is not ``ca.crt``; looked at only with a ``ca_key``.
    :return: a line for the log for each pair that was made.
    :raises ConfigurationError: a file that is needed cannot be read, or a missing one cannot be made.
    """
    now = datetime.now(UTC) if now is None else now
    pki = os.path.join(directory, "pki")
    try:
        if not os.path.isdir(pki):
            os.makedirs(pki, mode=0o700)
            os.chmod(pki, 0o700)
            if os.geteuid() == 0:
                owner = os.stat(directory)
                os.chown(pki, owner.st_uid, owner.st_gid)
        issuer = os.path.join(pki, "ca.crt"), ca_key or os.path.join(pki, "ca.key")
        if ca is not None and ca_key is not None:
            return _make_server(pki, names, now, (ca, ca_key))
        return _make_authority(*issuer, now) + _make_server(pki, names, now, issuer)
    except OSError as error:
        raise ConfigurationError(
            f"cannot make {error.filename or pki}: {error.strerror}", "--data-dir"
        ) from error


def _make_authority(path: str, key_path: str, now: datetime) -> list[str]:
    if os.path.lexists(path):
        return []
    key = _key_to_use(key_path, "--ca-key")
    # Everybody who trusts several of these tells them apart by a part of their keys.
    mark = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    certificate = issue_authority(key, name(f"mfserver CA {mark}", "mfserver"), now, CA_LIFETIME)
    _write(path, encode_certificate(certificate))
    return [f"made a certificate authority of {CA_LIFETIME.days} days: {path} (its key: {key_path})"]


def _make_server(pki: str, names: Sequence[str], now: datetime, authority: tuple[str, str]) -> list[str]:
    path = os.path.join(pki, _SERVER)
    if os.path.lexists(f"{path}.crt"):
        if not os.path.lexists(f"{path}.key"):
            raise ConfigurationError(
                f"{path}.key is missing: put it back, or remove {path}.crt to have both made anew", "--key"
            )
        return []
    hosts = _hosts(names)
    issuer, issuer_key = _read_authority(*authority)
    key = _key_to_use(f"{path}.key", "--key")
    if issuer.not_valid_after_utc <= now:
        raise ConfigurationError(f"{authority[0]} has expired and can sign nothing", "--ca")
    certificate = issue_server(
        key.public_key(), name("localhost"), hosts, issuer, issuer_key, now, SERVER_LIFETIME
    )
    _write(f"{path}.crt", encode_certificate(certificate))
    end = certificate.not_valid_after_utc.date()
    return [f"made a server certificate until {end} for {', '.join(hosts)}: {path}.crt"]


def _hosts(names: Sequence[str]) -> list[str]:
    """Every name and address that clients may call this server by, each once."""
    hosts = ["localhost", "127.0.0.1", "::1"]
    own = socket.gethostname()
    try:
        general_name(own)
    except ValueError:
        own = "localhost"  # a machine may be called anything; a certificate has host names
    for host in (own, *names):
        try:
            general_name(host)
        except ValueError as error:
            raise ConfigurationError(str(error), "--server-name") from error
        if host not in hosts:
            hosts.append(host)
    return hosts


def _read_authority(path: str, key_path: str) -> tuple[x509.Certificate, PrivateKey]:
    """The certificate and the key to sign with."""
    if not os.path.lexists(key_path):
        raise ConfigurationError(
            f"{key_path} is missing, and a server certificate has to be signed with it: put it there, or give"
            " a certificate of your own with --cert and --key",
            "--ca-key",
        )
    with open(path, "rb") as file:
        data = file.read()
    try:
        certificate = x509.load_pem_x509_certificate(data)
        certificate_key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} is no certificate in PEM", "--ca") from error
    key = _load_key(key_path, "--ca-key")
    if _spki(key.public_key()) != _spki(certificate_key):
        raise ConfigurationError(f"{key_path} does not belong to {path}", "--ca-key")
    return certificate, key


def _key_to_use(path: str, option: str) -> PrivateKey:
    """The key that is there already, or a new one. The key is written first: an interrupted start goes on."""
    if os.path.lexists(path):
        return _load_key(path, option)
    key = new_key()
    _write(path, encode_key(key))
    return key


def _load_key(path: str, option: str) -> PrivateKey:
    with open(path, "rb") as file:
        data = file.read()
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError as error:
        raise ConfigurationError(f"{path} is encrypted: take its passphrase off", option) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} is no private key in PEM", option) from error
    if not isinstance(key, PrivateKey):
        raise ConfigurationError(f"{path} is no key that signs certificates", option)
    return key


def _spki(key: object) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded


def _write(path: str, data: bytes) -> None:
    """Make a file of mode 0600, whatever the umask, that is on the disk when this returns."""
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
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
