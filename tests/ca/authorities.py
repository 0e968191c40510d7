"""Authorities to issue with, and the openssl program to ask what it thinks of the result."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from mfserver.ca.issuer import Issuer
from mfserver.ca.x509 import PrivateKey, issue, issue_authority, name, new_key, signature_hash
from mfserver.records import ThingId, UserId

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
YEAR = 365 * DAY
THING = ThingId("7d9b8f1a-1111-4222-8333-444444444444")
OWNER = UserId("0c6bff3e-1111-4222-8333-444444444444")
THING_KEY = "0123456789abcdef"
#: Seconds until a test gives up another program or thread: a busy machine may need long for a key of RSA.
PATIENCE = 120.0


@cache
def rsa_key(bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """One key of RSA for all tests: each takes long to make."""
    return rsa.generate_private_key(exponent, bits)


def root(key: PrivateKey | None = None, now: datetime = NOW, lifetime: timedelta = YEAR) -> Issuer:
    """An authority as the first start makes it."""
    key = key or new_key()
    return Issuer(issue_authority(key, name("Root"), now, lifetime), key)


def authority(
    subject: str,
    above: Issuer | None = None,
    *,
    key: PrivateKey | None = None,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = ((x509.BasicConstraints(True, None), True),),
    begin: datetime = NOW - DAY,
    end: datetime = NOW + YEAR,
) -> tuple[x509.Certificate, PrivateKey]:
    """An authority as somebody else makes it, with nothing but these extensions."""
    key = key or new_key()
    builder = x509.CertificateBuilder(
        issuer_name=name(subject) if above is None else above.certificate.subject,
        subject_name=name(subject),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=begin,
        not_valid_after=end,
    )
    for value, is_critical in extensions:
        builder = builder.add_extension(value, is_critical)
    signing = key if above is None else above.key
    return builder.sign(signing, signature_hash(signing)), key


def intermediate(above: Issuer, now: datetime = NOW) -> Issuer:
    """An authority below another, as strict verifiers want it."""
    key = new_key()
    certificate = issue(
        key.public_key(),
        name("Intermediate"),
        above.certificate.subject,
        above.key,
        not_before=now - DAY,
        not_after=now + YEAR,
        issuer=above.certificate,
        path_length=0,
    )
    return Issuer(certificate, key, above.path)


def top(now: datetime = NOW) -> Issuer:
    """A root that may have authorities below it."""
    key = new_key()
    subject = name("Top")
    certificate = issue(
        key.public_key(), subject, subject, key, not_before=now - DAY, not_after=now + YEAR, path_length=1
    )
    return Issuer(certificate, key)


def request(key: Any, **builder: Any) -> bytes:
    """A request in PEM that asks for more than it is given."""
    asked = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([*name("admin", "Evil"), *name("other")])
    )
    asked = asked.add_extension(x509.BasicConstraints(True, None), critical=True)
    asked = asked.add_extension(
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:mainflux:thing:other")]),
        critical=False,
    )
    return asked.sign(key, builder.get("hashed", SHA256())).public_bytes(builder.get("form", Encoding.PEM))


def pkcs8(key: Any) -> bytes:
    """A private key in PEM."""
    encoded: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return encoded


@contextmanager
def full_disk() -> Iterator[None]:
    """Nobody can write a byte into a file meanwhile, root neither."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class FilesCase(SynchronousTestCase):
    """A directory, and programs that read in it."""

    def setUp(self) -> None:
        self.directory = os.path.abspath(self.mktemp())
        os.mkdir(self.directory, 0o700)

    def file(self, name: str, data: bytes) -> str:
        path = os.path.join(self.directory, name)
        with open(path, "wb") as opened:
            opened.write(data)
        return path

    def openssl(self, *arguments: str) -> str:
        """What it prints, if it agrees."""
        code, printed = self.run_openssl(*arguments)
        self.assertEqual(0, code, printed)
        return printed

    def run_openssl(self, *arguments: str) -> tuple[int, str]:
        program = shutil.which("openssl")
        if program is None:
            raise SkipTest("openssl is not installed")
        done = subprocess.run(
            [program, *arguments],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
        )
        return done.returncode, (done.stdout + done.stderr).decode()
