"""What others say of our certificates and lists: openssl, curl, and Python's strict verification."""

import os
import shutil
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate
from twisted.trial.unittest import SkipTest

from mfserver.ca.authority import ensure
from mfserver.ca.crl import build_crl, encode_crl_pem
from mfserver.ca.files import AuthorityFiles, read_issuer
from mfserver.ca.imported import import_authority
from mfserver.ca.issuer import Issued, Issuer, record
from mfserver.ca.x509 import encode_certificate, new_key
from mfserver.certificates import CertificateRecord
from tests.ca.authorities import (
    OWNER,
    PATIENCE,
    THING,
    FilesCase,
    intermediate,
    pkcs8,
    request,
    root,
    rsa_key,
    top,
)


class OpenSSLCase(FilesCase):
    """Now, as these programs have no other clock."""

    def setUp(self) -> None:
        super().setUp()
        self.now = datetime.now(UTC)

    def revoke(self, issued: Issued, reason: str = "keyCompromise") -> CertificateRecord:
        kept = record(issued, OWNER)
        values = {name: getattr(kept, name) for name in kept.__slots__}
        return CertificateRecord(**values | {"revoked_at": int(self.now.timestamp()), "reason": reason})

    def verify(self, leaf: Issued, *options: str) -> tuple[int, str]:
        """As strictly as openssl can, from the files root.crt and, if it is there, crl.pem."""
        file = self.file("leaf.crt", encode_certificate(leaf.certificate))
        self.file("chain.crt", leaf.chain)
        return self.run_openssl(
            *("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "root.crt"),
            *("-untrusted", "chain.crt", *options, file),
        )


class VerifyTests(OpenSSLCase):
    """``openssl verify -x509_strict`` and ``openssl crl``."""

    def test_every_kind(self) -> None:
        """Leaves of every kind of key, under authorities of every kind, by root or by intermediate."""
        keys: tuple[Any, ...] = (new_key(), rsa_key(), ed25519.Ed25519PrivateKey.generate())
        issuers = [root(key, self.now) for key in keys] + [intermediate(top(self.now), self.now)]
        for issuer in issuers:
            self.file("root.crt", issuer.trust)
            for key in (*keys, ec.generate_private_key(ec.SECP521R1())):
                hashed = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
                issued = issuer.sign(request(key, hashed=hashed), THING, now=self.now)
                code, printed = self.verify(issued)
                self.assertEqual(0, code, printed)
                self.refuse_as_server()

    def refuse_as_server(self) -> None:
        code, printed = self.run_openssl(
            *("verify", "-x509_strict", "-purpose", "sslserver"),
            *("-CAfile", "root.crt", "-untrusted", "chain.crt", "leaf.crt"),
        )
        self.assertNotEqual(0, code)
        self.assertIn("purpose", printed)

    def test_revoked(self) -> None:
        """The list is good, and refuses exactly what stands on it."""
        for key in (new_key(), rsa_key(), ed25519.Ed25519PrivateKey.generate()):
            issuer = root(key, self.now)
            good, bad = (issuer.issue(THING, now=self.now) for _ in range(2))
            der = build_crl(issuer, [self.revoke(bad)], 7, self.now)
            self.file("root.crt", issuer.trust)
            self.file("crl.pem", encode_crl_pem(der))
            self.file("crl.der", der)
            for form in ("pem", "der"):
                printed = self.openssl(
                    *("crl", "-verify", "-CAfile", "root.crt", "-inform", form, "-in", f"crl.{form}"),
                    *("-noout", "-text"),
                )
                self.assertIn("verify OK", printed)
                self.assertIn("Version 2", printed)
                self.assertIn("Key Compromise", printed)
                self.assertIn("X509v3 CRL Number: \n                7", printed)
                self.assertIn(bad.serial.upper(), printed.replace(":", ""))
            code, printed = self.verify(good, "-crl_check", "-CRLfile", "crl.pem")
            self.assertEqual(0, code, printed)
            code, printed = self.verify(bad, "-crl_check", "-CRLfile", "crl.pem")
            self.assertNotEqual(0, code)
            self.assertIn("certificate revoked", printed)

    def test_list_of_an_intermediate(self) -> None:
        issuer = intermediate(top(self.now), self.now)
        good, bad = (issuer.issue(THING, now=self.now) for _ in range(2))
        self.file("root.crt", issuer.trust)
        self.file("crl.pem", encode_crl_pem(build_crl(issuer, [self.revoke(bad)], 1, self.now)))
        for leaf, words in ((good, "OK"), (bad, "certificate revoked")):
            _, printed = self.verify(leaf, "-crl_check", "-CRLfile", "crl.pem")
            self.assertIn(words, printed)

    def test_stale_list(self) -> None:
        issuer = root(now=self.now)
        self.file("root.crt", issuer.trust)
        leaf = issuer.issue(THING, now=self.now)
        self.file("crl.pem", encode_crl_pem(build_crl(issuer, [], 1, self.now)))
        late = str(int((self.now + timedelta(days=8)).timestamp()))
        _, printed = self.verify(leaf, "-attime", late, "-crl_check", "-CRLfile", "crl.pem")
        self.assertIn("CRL has expired", printed)

    def test_request_of_openssl(self) -> None:
        """What a device with openssl alone makes."""
        issuer = root(now=self.now)
        self.file("root.crt", issuer.trust)
        for kind in (("EC", "-pkeyopt", "ec_paramgen_curve:P-256"), ("ED25519",)):
            self.openssl("genpkey", "-algorithm", *kind, "-out", "device.key")
            self.openssl("req", "-new", "-key", "device.key", "-subj", "/CN=anything", "-out", "device.csr")
            with open(os.path.join(self.directory, "device.csr"), "rb") as file:
                issued = issuer.sign(file.read(), THING, now=self.now)
            code, printed = self.verify(issued)
            self.assertEqual(0, code, printed)
            public = self.openssl("pkey", "-in", "device.key", "-pubout")
            self.assertEqual(public, self.openssl("x509", "-in", "leaf.crt", "-noout", "-pubkey"))


class ServedTests(OpenSSLCase):
    """A server with our certificate, and clients that are strict."""

    def setUp(self) -> None:
        super().setUp()
        ensure(self.directory, (), self.now)

    def pki(self, file: str) -> str:
        return os.path.join(self.directory, "pki", file)

    def issuer(self) -> Issuer:
        return read_issuer(AuthorityFiles.of(self.directory))

    def serve(self) -> int:
        """Answers one HTTP request after another, as strict with clients as they are with us."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pki("mainflux-server.crt"), self.pki("mainflux-server.key"))
        context.load_verify_locations(self.pki("ca.crt"))
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(PATIENCE)

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.settimeout(PATIENCE)
                try:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        secured.recv(4096)
                        secured.sendall(
                            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
                        )
                except OSError:
                    continue

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()

        def stop() -> None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(PATIENCE)

        self.addCleanup(stop)
        port: int = listener.getsockname()[1]
        return port

    def thing(self, issuer: Issuer) -> None:
        issued = issuer.issue(THING, now=self.now)
        assert issued.private_key is not None
        self.file("thing.crt", issued.chain)
        self.file("thing.key", issued.private_key)

    def curl(self, port: int, *options: str) -> tuple[int, str]:
        program = shutil.which("curl")
        if program is None:
            raise SkipTest("curl is not installed")
        done = subprocess.run(
            [program, "-sS", "--max-time", str(PATIENCE), "--cert", "thing.crt", "--key", "thing.key",
             *options, f"https://localhost:{port}/"],
            cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=2 * PATIENCE,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def test_curl_with_a_list(self) -> None:
        """``curl --crlfile`` takes our list, and refuses a server whose certificate is on it."""
        issuer, port = self.issuer(), self.serve()
        self.thing(issuer)
        self.file("crl.pem", encode_crl_pem(build_crl(issuer, [], 1, self.now)))
        options = ("--cacert", self.pki("ca.crt"), "--crlfile", "crl.pem")
        self.assertEqual((0, "ok"), self.curl(port, *options))
        with open(self.pki("mainflux-server.crt"), "rb") as file:
            server = load_pem_x509_certificate(file.read())
        issued = issuer.issue(THING, now=self.now)
        revoked = self.revoke(issued)
        values = {name: getattr(revoked, name) for name in revoked.__slots__}
        listed = CertificateRecord(**values | {"serial": f"{server.serial_number:x}"})
        self.file("crl.pem", encode_crl_pem(build_crl(issuer, [listed], 2, self.now)))
        code, printed = self.curl(port, *options)
        self.assertEqual(60, code, printed)
        self.assertIn("revoked", printed)

    def connect(self, port: int, trust: str) -> None:
        """A client as Python 3.13 makes one by default."""
        context = ssl.create_default_context(cafile=trust)
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_cert_chain(
            os.path.join(self.directory, "thing.crt"), os.path.join(self.directory, "thing.key")
        )
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secured,
        ):
            secured.sendall(b"GET / HTTP/1.1\r\n\r\n")
            self.assertIn(b"200 OK", secured.recv(4096))

    def test_strict_python(self) -> None:
        """Both ends are strict about each other."""
        port = self.serve()
        self.thing(self.issuer())
        self.connect(port, self.pki("ca.crt"))

    def test_strict_python_with_an_intermediate(self) -> None:
        """The client has the root alone; the server trusts the intermediate alone."""
        above = top(self.now)
        below = intermediate(above, self.now)
        data = b"".join(map(encode_certificate, below.path)) + pkcs8(below.key)
        import_authority(self.directory, data, now=self.now, force=True)
        for file in ("mainflux-server.crt", "mainflux-server.key"):
            os.unlink(self.pki(file))
        ensure(self.directory, (), self.now)
        port = self.serve()
        issuer = self.issuer()
        self.assertEqual(above.trust, issuer.trust)
        self.thing(issuer)
        self.connect(port, self.file("root.crt", above.trust))
