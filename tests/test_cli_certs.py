"""``mfserver certs`` and ``mfserver ca``: against the real API in memory, and against odd sockets."""

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from twisted.trial.unittest import SynchronousTestCase

from mfserver.ca.x509 import encode_certificate, encode_key, name, new_key
from mfserver.certificates import REASONS
from mfserver.cli import certs
from mfserver.cli.main import main
from mfserver.cli.server import Reply, Server, is_private, line
from tests.api.house import House
from tests.ca.authorities import root

URL = "https://things.example:8443"


class CommandCase(SynchronousTestCase):
    """A house, its owner's token in the environment, and an empty directory to write into."""

    def setUp(self) -> None:
        self.house = House()
        self.token = self.house.user()
        self.thing = self.house.create(self.token, "things", key="0123456789abcdef")
        self.asked: list[tuple[str, str, str | None]] = []
        here = os.getcwd()
        path = Path(self.mktemp())
        path.mkdir()
        os.chdir(path)
        self.addCleanup(os.chdir, here)

    def send(self, server: Server, method: str, path: str, body: bytes | None) -> Reply:
        """One request, straight into the house."""
        self.asked.append((method, path, server.token))
        answer = self.house.ask(method, path, body, token=server.token)
        return Reply(answer.status, answer.entity)

    def invoke(
        self, *arguments: str, send: Any = None, environment: Mapping[str, str] | None = None
    ) -> Result:
        """A command, whose mistakes are one line and no traceback."""
        given = {"MF_URL": URL, "MF_TOKEN": self.token, "MF_P12_PASSWORD": "", "MF_CA_FILE": ""}
        result = CliRunner().invoke(
            main, list(arguments), obj=send or self.send, env={**given, **(environment or {})}
        )
        self.assertNotIn("Traceback", result.output)
        self.assertIn(type(result.exception), (type(None), SystemExit), result.output)
        return result

    def ok(self, *arguments: str, **more: Any) -> str:
        result = self.invoke("certs", *arguments, **more)
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("Next: ", result.output)
        return result.output

    def refused(self, *arguments: str, **more: Any) -> str:
        """What an error says, on one line."""
        result = self.invoke("certs", *arguments, **more)
        self.assertNotEqual(result.exit_code, 0, result.output)
        (said,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
        self.assertTrue(result.output.rstrip().endswith(said), result.output)
        return said

    def mode(self, path: str) -> int:
        return stat.S_IMODE(os.stat(path).st_mode)

    def leaf(self, path: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(Path(path).read_bytes())

    def serial(self, path: str) -> str:
        return f"{self.leaf(path).serial_number:x}"

    def request(self, path: str) -> Any:
        """A file with a certificate signing request. :return: its key."""
        key = new_key()
        builder = x509.CertificateSigningRequestBuilder().subject_name(name("device"))
        Path(path).write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
        return key


class IssueTests(CommandCase):
    """issue, sign and renew: what they write."""

    def test_issue(self) -> None:
        """A key that only its owner reads, whatever the umask, and what belongs to it."""
        self.addCleanup(os.umask, os.umask(0o077))
        self.ok("issue", self.thing, "--out", "strict")
        self.assertEqual((self.mode("strict.key"), self.mode("strict.crt")), (0o600, 0o644))
        os.umask(0)
        printed = self.ok("issue", self.thing, "--out", "lamp", "--valid", "10d")
        key = load_pem_private_key(Path("lamp.key").read_bytes(), None)
        self.assertEqual(key.public_key(), self.leaf("lamp.crt").public_key())
        self.leaf("lamp.crt").verify_directly_issued_by(self.leaf("lamp-ca.crt"))
        self.assertEqual(
            [self.mode(f"lamp{end}") for end in (".key", ".crt", "-ca.crt")], [0o600, 0o644, 0o644]
        )
        written = {path for path in os.listdir() if not path.startswith("strict")}
        self.assertEqual(written, {"lamp-ca.crt", "lamp.crt", "lamp.key"})
        self.assertIn(self.serial("lamp.crt"), printed)
        self.assertNotIn("PRIVATE", printed)
        self.assertIn("curl --cacert lamp-ca.crt --cert lamp.crt --key lamp.key", printed)

    def test_wishes(self) -> None:
        self.ok("issue", self.thing, "--key-type", "rsa", "--key-bits", "2048", "--cn", "key")
        leaf = self.leaf(f"{self.thing}.crt")
        self.assertEqual([part.value for part in leaf.subject], ["0123456789abcdef"])
        self.assertEqual(leaf.public_key().key_size, 2048)  # type: ignore[union-attr]

    def test_bundle(self) -> None:
        """The password is not on the command line; the key is in the bundle alone."""
        self.ok("issue", self.thing, "--out", "a", "--p12", environment={"MF_P12_PASSWORD": "secret"})
        self.assertIsNotNone(load_pkcs12(Path("a.p12").read_bytes(), b"secret").key)
        self.assertEqual((self.mode("a.p12"), os.path.exists("a.key")), (0o600, False))

    def test_never_overwritten(self) -> None:
        """Without --force nothing that is there is touched, and nothing is asked of the server."""
        for path in "a.key", "a.crt", "a-ca.crt":
            Path(path).write_text("mine")
            self.assertIn(path, self.refused("issue", self.thing, "--out", "a"))
            self.assertEqual(Path(path).read_text(), "mine")
            os.unlink(path)
        os.symlink("nowhere", "a.key")
        self.refused("issue", self.thing, "--out", "a")
        self.assertIn("nowhere", self.refused("issue", self.thing, "--out", "nowhere/a"))
        self.assertEqual(self.asked, [])
        self.ok("issue", self.thing, "--out", "a", "--force")
        self.assertEqual((os.path.islink("a.key"), self.mode("a.key")), (False, 0o600))
        os.chmod("a.key", 0o666)
        self.ok("issue", self.thing, "--out", "a", "--force")
        self.assertEqual(self.mode("a.key"), 0o600)

    def test_taken_meanwhile(self) -> None:
        """What appears while the server works is not overwritten either, and the certificate can be ended."""

        def send(*request: Any) -> Reply:
            Path("a.key").write_text("mine")
            return self.send(*request)

        said = self.refused("issue", self.thing, "--out", "a", send=send)
        self.assertIn("mfserver certs revoke", said)
        self.assertEqual((Path("a.key").read_text(), os.listdir()), ("mine", ["a.key"]))

    def test_sign(self) -> None:
        key = self.request("a.csr")
        self.ok("sign", self.thing, "a.csr", "--out", "a")
        self.assertEqual(self.leaf("a.crt").public_key(), key.public_key())
        self.assertEqual(sorted(os.listdir()), ["a-ca.crt", "a.crt", "a.csr"])
        self.assertIn("absent.csr", self.refused("sign", self.thing, "absent.csr"))
        Path("b.csr").write_bytes(b"\xff")
        self.assertIn("b.csr", self.refused("sign", self.thing, "b.csr"))
        self.assertIn("csr", self.refused("sign", self.thing, "a.crt"))

    def test_renew(self) -> None:
        """The same key, or that of a request; the next step is to revoke the old one."""
        self.ok("issue", self.thing, "--out", "a")
        printed = self.ok("renew", self.serial("a.crt"), "--out", "b")
        self.assertEqual(self.leaf("b.crt").public_key(), self.leaf("a.crt").public_key())
        self.assertIn(f"mfserver certs revoke {self.serial('a.crt')} --reason superseded", printed)
        key = self.request("c.csr")
        self.ok("renew", self.serial("b.crt"), "--csr", "c.csr")
        self.assertEqual(self.leaf(f"{self.serial('b.crt')}-renewed.crt").public_key(), key.public_key())
        self.assertIn("409", self.refused("renew", self.serial("a.crt"), "--out", "d"))

    def test_no_name_of_a_file(self) -> None:
        """What is typed as an id never leads elsewhere."""
        for thing in "../x", "a/b", "", "a\nb":
            self.refused("issue", thing)
            self.refused("renew", thing)
        self.assertEqual((self.asked, os.listdir()), ([], []))


class LookTests(CommandCase):
    """revoke, list, show and crl."""

    def setUp(self) -> None:
        super().setUp()
        self.ok("issue", self.thing, "--out", "a")
        self.number = self.serial("a.crt")

    def test_list(self) -> None:
        self.assertIn(f"{self.number}  {self.thing}  active  20", self.ok("list"))
        self.ok("issue", self.thing, "--out", "b")
        self.assertIn("1 more with --offset 1", self.ok("list", "--limit", "1"))
        self.assertIn("There is none", self.ok("list", "--state", "revoked"))
        self.assertIn("There is none", self.ok("list", "--ends-within", "1d", "--thing", self.thing))
        self.assertIn("ends_within", self.refused("list", "--ends-within", "x"))

    def test_show(self) -> None:
        self.assertIn(f"thing_id: {self.thing}", self.ok("show", self.number))
        pem = self.invoke("certs", "show", self.number, "--format", "pem")
        self.assertEqual(pem.stdout_bytes, Path("a.crt").read_bytes())
        der = self.invoke("certs", "show", self.number, "--format", "der")
        self.assertEqual(x509.load_der_x509_certificate(der.stdout_bytes), self.leaf("a.crt"))
        self.assertIn("404", self.refused("show", "ab"))
        self.assertIn("404", self.refused("show", "../things"))
        self.assertEqual(self.asked[-1][1], "/certs/..%2Fthings")

    def test_revoke(self) -> None:
        """With every reason that the server knows."""
        self.assertEqual(certs._REASONS, REASONS)
        self.assertIn("keyCompromise", self.ok("revoke", self.number, "--reason", "keyCompromise"))
        self.assertEqual(self.house.revocations.heard, [self.number])
        self.assertIn("state: revoked", self.ok("show", self.number))
        self.assertNotEqual(self.invoke("certs", "revoke", self.number, "--reason", "x").exit_code, 0)

    def test_crl(self) -> None:
        """It needs no token, and sends none."""
        self.ok("revoke", self.number)
        self.ok("crl", "--out", "list.crl")
        (entry,) = x509.load_der_x509_crl(Path("list.crl").read_bytes())
        self.assertEqual((f"{entry.serial_number:x}", self.mode("list.crl")), (self.number, 0o644))
        self.assertIn("list.crl", self.refused("crl", "--out", "list.crl"))
        self.ok("crl", "--out", "list.crl", "--pem", "--force")
        x509.load_pem_x509_crl(Path("list.crl").read_bytes())
        printed = self.invoke("certs", "crl").stdout_bytes
        self.assertEqual(len(list(x509.load_der_x509_crl(printed))), 1)
        self.assertEqual({token for _, path, token in self.asked if "crl" in path}, {None})


class ErrorTests(CommandCase):
    """Everything that goes wrong is one line."""

    def test_answers(self) -> None:
        """What a server says that is none of ours, or wants something."""
        for reply, said in (
            (Reply(401, b'{"error":"no"}'), "MF_TOKEN"),
            (Reply(500, b"<html>"), "no reason given"),
            (Reply(400, b'{"error":"a\\u001b[31m\\nb"}'), "a [31m b"),
            (Reply(200, b"x"), "is it an mfserver?"),
            (Reply(200, b"[]"), "is it an mfserver?"),
            (Reply(200, b"{}"), "is it an mfserver?"),
            (Reply(302, b""), "302"),
        ):
            for command in ("issue", self.thing), ("list",), ("revoke", "ab"):
                self.assertIn(said, self.refused(*command, send=lambda *_, reply=reply: reply))
        self.assertEqual(os.listdir(), [])

    def test_urls(self) -> None:
        """A URL that cannot be one is a mistake; one in clear is warned of, unless it is this machine."""
        for url in "things.example", "ftp://a", "https://", "https://user:secret@a":
            self.assertNotEqual(self.invoke("certs", "list", "--url", url).exit_code, 0)
        self.assertIn("warning", self.ok("list", "--url", "http://things.example"))
        self.assertNotIn("warning", self.ok("list", "--url", "http://127.0.0.1:8080"))
        self.assertTrue(all(map(is_private, ("https://a", "http://localhost:1", "http://[::1]"))))
        self.assertFalse(is_private("http://127.0.0.1.example"))

    def test_token_is_no_secret_of_a_repr(self) -> None:
        self.assertNotIn(self.token, repr(Server(URL, self.token)))
        self.assertEqual(line("a\x1b\nb"), "a  b")


class AuthorityTests(CommandCase):
    """ca import."""

    def test_import(self) -> None:
        """Into a directory that may not be there; not over an authority without --force."""
        authority = root(now=datetime.now(UTC))
        pem = encode_certificate(authority.certificate) + encode_key(authority.key)
        Path("mine.pem").write_bytes(pem)
        result = self.invoke("ca", "import", "mine.pem", "--data-dir", "d")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("Next: kill -HUP", result.output)
        self.assertEqual((self.mode("d"), self.mode("d/pki/ca.key")), (0o700, 0o600))
        self.assertEqual(self.leaf("d/pki/ca.crt"), authority.certificate)
        again = self.invoke("ca", "import", "mine.pem", environment={"MF_DATA_DIR": "d"})
        self.assertEqual(again.exit_code, 1)
        self.assertEqual(len(again.output.splitlines()), 1)
        self.assertEqual(self.invoke("ca", "import", "mine.pem", "--data-dir", "d", "--force").exit_code, 0)

    def test_password(self) -> None:
        """Of an encrypted key: from the environment, or asked for; a wrong one is one line."""
        authority = root(now=datetime.now(UTC))
        encryption = BestAvailableEncryption(b"secret")
        key = authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        Path("mine.pem").write_bytes(encode_certificate(authority.certificate) + key)
        command = ("ca", "import", "mine.pem", "--data-dir")
        for password in "", "wrong":
            result = self.invoke(*command, "d", environment={"MF_CA_PASSWORD": password})
            self.assertEqual((result.exit_code, len(result.output.splitlines())), (1, 1), result.output)
        result = self.invoke(*command, "d", environment={"MF_CA_PASSWORD": "secret"})
        self.assertEqual(result.exit_code, 0, result.output)
        asked = CliRunner().invoke(main, [*command, "e", "--password"], input="secret\n")
        self.assertEqual(asked.exit_code, 0, asked.output)
        self.assertNotIn("secret", asked.output)

    def test_no_directory(self) -> None:
        """A data directory that cannot be made is one line, too."""
        authority = root(now=datetime.now(UTC))
        Path("mine.pem").write_bytes(encode_certificate(authority.certificate) + encode_key(authority.key))
        result = self.invoke("ca", "import", "mine.pem", "--data-dir", "absent/d")
        self.assertEqual((result.exit_code, len(result.output.splitlines())), (1, 1), result.output)

    def test_refused(self) -> None:
        for data in b"", b"x", encode_key(new_key()):
            Path("bad.pem").write_bytes(data)
            result = self.invoke("ca", "import", "bad.pem", "--data-dir", "d")
            self.assertEqual((result.exit_code, len(result.output.splitlines())), (1, 1), result.output)
        self.assertEqual(self.invoke("ca", "import", "absent.pem").exit_code, 1)


class WireTests(SynchronousTestCase):
    """The real client: in a process of its own, because a reactor runs once."""

    def run_(self, *arguments: str) -> tuple[int, str]:
        code = "from mfserver.cli.main import main; main()"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MF_")}
        done = subprocess.run(
            [sys.executable, "-c", code, "certs", *arguments],
            capture_output=True,
            timeout=120,
            env=environment,
        )
        return done.returncode, (done.stdout + done.stderr).decode()

    def test_nobody_there(self) -> None:
        """One line, and status 1."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"https://127.0.0.1:{taken.getsockname()[1]}"
            status, said = self.run_("list", "--url", url)
        self.assertEqual((status, len(said.splitlines())), (1, 1), said)
        self.assertIn("cannot be reached", said)

    def test_no_http(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer() -> None:
                connection, _ = server.accept()
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-x\r\n")
                connection.close()

            server.settimeout(120)
            thread = threading.Thread(target=answer)
            thread.start()
            status, said = self.run_("list", "--url", f"http://127.0.0.1:{server.getsockname()[1]}")
            thread.join()
        self.assertEqual((status, len(said.splitlines())), (1, 1), said)

    def test_bad_trust(self) -> None:
        path = self.mktemp()
        Path(path).write_text("x")
        status, said = self.run_("list", "--url", "https://127.0.0.1:1", "--ca-file", path)
        self.assertEqual((status, len(said.splitlines())), (1, 1), said)
        self.assertIn("no certificate", said)
