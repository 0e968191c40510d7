"""Makes the files of ``DIR/pki`` that are missing: an authority, and a server certificate signed by it.

All are PEM, readable by their owner only, and appear whole or not at all. What root makes belongs to the
owner of the directory that it is in.
"""

import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mfserver.ca.files import AuthorityFiles, read, read_issuer, write
from mfserver.ca.keys import load_key
from mfserver.ca.x509 import (
    PrivateKey,
    encode_certificate,
    encode_key,
    general_name,
    issue_authority,
    name,
    new_key,
)
from mfserver.errors import ConfigurationError, Invalid

__all__ = ["ensure", "make_pki", "CA_LIFETIME", "SERVER_LIFETIME", "SERVER"]

#: Of an authority that is made here.
CA_LIFETIME: Final = timedelta(days=3650)
#: Of a server certificate: the most that Apple's devices accept under an authority that their user added.
SERVER_LIFETIME: Final = timedelta(days=825)

#: What the server's files in ``DIR/pki`` are called, without their endings.
SERVER: Final = "mainflux-server"


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
    authority = AuthorityFiles.of(directory, ca, ca_key)
    pki = make_pki(directory)
    try:
        made = [] if ca is not None and ca_key is not None else _make_authority(authority, now)
        return made + _make_server(pki, names, now, authority)
    except OSError as error:
        raise ConfigurationError(
            f"cannot make {error.filename or pki}: {error.strerror}", "--data-dir"
        ) from error


def make_pki(directory: str) -> str:
    """``DIR/pki``, made if it is missing. :raises ConfigurationError: it cannot be."""
    pki = os.path.join(directory, "pki")
    try:
        if not os.path.isdir(pki):
            os.makedirs(pki, mode=0o700)
            os.chmod(pki, 0o700)
            if os.geteuid() == 0:
                owner = os.stat(directory)
                os.chown(pki, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise ConfigurationError(f"cannot make {pki}: {error.strerror}", "--data-dir") from error
    return pki


def _make_authority(files: AuthorityFiles, now: datetime) -> list[str]:
    if os.path.lexists(files.certificate):
        return []
    key = _key_to_use(files.key, "--ca-key")
    # Everybody who trusts several of these tells them apart by a part of their keys.
    mark = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:8]
    certificate = issue_authority(key, name(f"mfserver CA {mark}", "mfserver"), now, CA_LIFETIME)
    write(files.certificate, encode_certificate(certificate))
    days = CA_LIFETIME.days
    return [f"made a certificate authority of {days} days: {files.certificate} (its key: {files.key})"]


def _make_server(pki: str, names: Sequence[str], now: datetime, authority: AuthorityFiles) -> list[str]:
    path = os.path.join(pki, SERVER)
    if os.path.lexists(f"{path}.crt"):
        if not os.path.lexists(f"{path}.key"):
            raise ConfigurationError(
                f"{path}.key is missing: put it back, or remove {path}.crt to have both made anew", "--key"
            )
        return []
    hosts = _hosts(names)
    issuer = read_issuer(authority)
    issuer.check(ExtendedKeyUsageOID.SERVER_AUTH, now)
    certificate = issuer.certify(
        _key_to_use(f"{path}.key", "--key").public_key(),
        name("localhost"),
        ExtendedKeyUsageOID.SERVER_AUTH,
        [general_name(host) for host in hosts],
        now,
        SERVER_LIFETIME,
    )
    write(f"{path}.crt", issuer.chain(certificate))
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


def _key_to_use(path: str, option: str) -> PrivateKey:
    """The key that is there already, or a new one. The key is written first: an interrupted start goes on."""
    if os.path.lexists(path):
        try:
            return load_key(read(path, option))
        except Invalid as error:
            raise ConfigurationError(f"{path} {error}", option) from error
    key = new_key()
    write(path, encode_key(key))
    return key
