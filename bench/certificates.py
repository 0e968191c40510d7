"""Certificates as ``docker/ssl/Makefile`` makes them, and on P-256 where only their number matters."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, Missing

__all__ = ["THING_KEY", "Certificates", "make_certificates"]

_SSL = Path(__file__).resolve().parents[1] / "docker" / "ssl"

#: The key of the thing that all connections belong to: the common name of its certificate.
THING_KEY = "bench-0123456789abcdef"


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: an authority, and what a server and a thing show."""

    ca: Path
    ca_key: Path
    server: Path
    server_key: Path
    thing: Path
    thing_key: Path


def _run(*command: str, cwd: Path) -> None:
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not installed (Debian: apt-get install {command[0]})")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip()}")


def _issue_ec(ssl: Path, name: str, common_name: str, section: str) -> None:
    settings = (ssl / "openssl.cnf").read_text()
    (ssl / "ec.cnf").write_text(settings.replace("$ENV::SAN", "DNS:localhost,IP:127.0.0.1"))
    certs = ssl / "certs"
    _run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key", cwd=certs)
    _run("openssl", "req", "-new", "-key", f"{name}.key", "-subj", f"/CN={common_name}",
         "-config", "../ec.cnf", "-out", f"{name}.csr", cwd=certs)  # fmt: skip
    _run("openssl", "x509", "-req", "-sha256", "-days", "30", "-in", f"{name}.csr", "-CA", "ca.crt",
         "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "../ec.cnf", "-extensions", section,
         "-out", f"{name}.crt", cwd=certs)  # fmt: skip


def make_certificates(home: Path, kind: str) -> Certificates:
    """Make an authority and what it signs in a directory that does not exist yet.

    :param kind: ``rsa``: RSA 4096 by the Makefile itself; ``ec``: P-256.
    """
    shutil.copytree(_SSL, home, ignore=shutil.ignore_patterns("certs"))
    _run("make", "ca", cwd=home)
    if kind == "rsa":
        _run("make", "server_cert", cwd=home)
        _run("make", "thing_cert", f"KEY={THING_KEY}", cwd=home)
    else:
        _issue_ec(home, "mainflux-server", "localhost", "server")
        _issue_ec(home, "thing", THING_KEY, "thing")
    certs = home / "certs"
    return Certificates(
        certs / "ca.crt",
        certs / "ca.key",
        certs / "mainflux-server.crt",
        certs / "mainflux-server.key",
        certs / "thing.crt",
        certs / "thing.key",
    )
