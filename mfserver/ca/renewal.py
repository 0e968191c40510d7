"""Renews the server certificate that this server made for itself, before it ends.

The file watch of the TLS context takes the new pair up. It may look at any moment, and the power may fail
at any moment: the key is replaced first, and the certificate right after it. Who looks between the two finds
a key that is not the certificate's, keeps what it has, and looks again when the certificate changes. Where
it never did, the next renewal signs a certificate for the key that is there.
"""

import os
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mfserver.ca.authority import SERVER, SERVER_LIFETIME
from mfserver.ca.files import AuthorityFiles, read, read_certificates, read_issuer, write
from mfserver.ca.issuer import UNREADABLE, Issuer, is_issued_by
from mfserver.ca.keys import generate_like, load_key, spki
from mfserver.ca.x509 import PrivateKey, encode_key
from mfserver.errors import ConfigurationError, Invalid

__all__ = ["RENEW_BEFORE", "renew_server_certificate"]

#: How long before its end a server certificate is renewed, or a third of its life if that is shorter.
RENEW_BEFORE: Final = timedelta(days=30)


def renew_server_certificate(
    directory: str,
    now: datetime | None = None,
    *,
    ca: str | None = None,
    ca_key: str | None = None,
) -> str | None:
    """Renew ``DIR/pki/mainflux-server.crt`` and its key if they are due, or finish what was interrupted.

    Only what an authority in our hands signed is touched; with the same names, and a key of the same kind.
    Call it after :func:`~mfserver.ca.authority.ensure`, before the files are read for TLS, and then at least
    daily; it blocks for a moment, with an RSA key for seconds, so that it belongs into a thread.

    :param ca: and ``ca_key``, as for :func:`~mfserver.ca.authority.ensure`.
    :return: a line for the log if there is a new certificate.
    :raises ConfigurationError: it is due, but cannot be renewed: the authority's key is not here, or the
        authority ends no later; or a file cannot be read or written. The old pair is still in use.
    """
    now = datetime.now(UTC) if now is None else now
    path = os.path.join(directory, "pki", SERVER)
    if not (os.path.lexists(f"{path}.crt") and os.path.lexists(f"{path}.key")):
        return None
    old = read_certificates(f"{path}.crt", "--cert")[0]
    key = _read_key(f"{path}.key")
    is_interrupted = spki(key.public_key()) != spki(old.public_key())
    if not (is_interrupted or _is_due(old, now)):
        return None
    files = AuthorityFiles.of(directory, ca, ca_key)
    if not any(is_issued_by(old, each) for each in read_certificates(files.certificate, "--ca")):
        return None
    issuer = read_issuer(files)
    if not is_interrupted:
        if issuer.not_valid_after - old.not_valid_after_utc < timedelta(days=1):
            raise ConfigurationError(
                f"{path}.crt ends on {old.not_valid_after_utc.date()}, and so does the authority that would"
                f" renew it: {files.certificate} has to be replaced",
                "--ca",
            )
        key = generate_like(old.public_key())
    return _replace(path, old, key, issuer, now, is_new=not is_interrupted)


def _is_due(certificate: x509.Certificate, now: datetime) -> bool:
    end = certificate.not_valid_after_utc
    life = end - certificate.not_valid_before_utc
    return end - now < min(RENEW_BEFORE, life / 3)


def _replace(
    path: str, old: x509.Certificate, key: PrivateKey, issuer: Issuer, now: datetime, *, is_new: bool
) -> str:
    """Sign first, then write: what cannot be signed leaves both files as they were."""
    try:
        alternatives = list(old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        certificate = issuer.certify(
            key.public_key(),
            old.subject,
            ExtendedKeyUsageOID.SERVER_AUTH,
            alternatives,
            now,
            SERVER_LIFETIME,
        )
    except (x509.ExtensionNotFound, *UNREADABLE) as error:
        raise ConfigurationError(
            f"{path}.crt has no names that it could be renewed with: remove it and {path}.key to have both"
            " made anew",
            "--cert",
        ) from error
    try:
        if is_new:
            write(f"{path}.key", encode_key(key))
        write(f"{path}.crt", issuer.chain(certificate))
    except OSError as error:
        raise ConfigurationError(f"cannot renew {path}.crt: {error.strerror}", "--data-dir") from error
    return f"renewed the server certificate until {certificate.not_valid_after_utc.date()}: {path}.crt"


def _read_key(path: str) -> PrivateKey:
    try:
        return load_key(read(path, "--key"))
    except Invalid as error:
        raise ConfigurationError(f"{path} {error}", "--key") from error
