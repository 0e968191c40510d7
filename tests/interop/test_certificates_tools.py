"""What others say of our certificates and lists: openssl, curl, and Python as strict as 3.13 by default."""

import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from mfserver.ca.authority import ensure
from mfserver.ca.imported import import_authority
from mfserver.ca.renewal import renew_server_certificate
from mfserver.ca.x509 import encode_certificate
from tests.ca.authorities import pkcs8, root, rsa_key
from tests.interop.certificate_lines import EVERY, Certificate, Line, Owner, milliseconds, watch_ends
from tests.interop.identity_certificates import Authority
from tests.interop.identity_clients import Closed, Stream
from tests.interop.identity_lives import SOON, brief_enough, on_monotonic_clock
from tests.interop.identity_world import Spoken, World
from tests.interop.mqtt_figures import add_figures
from tests.interop.running import PATIENCE, needs, wait_until

#: What becomes of a message that curl sends.
TAKEN, CUT_OFF = "202", "cut off"


class ToolsCase(SynchronousTestCase):
    """A server, its owner and one thing."""

    timeout = 120

    def setUp(self) -> None:
        needs("openssl", "curl")

    def begin(self, authority: Authority | None = None) -> None:
        """Start the server; an authority says in whose directory."""
        self.world = World(auth="x509", authority=authority)
        self.addCleanup(self.world.close)
        self.addCleanup(self.world.server.kill)
        self.owner = Owner(self.world)
        self.addCleanup(self.owner.close)
        ((self.thing, self.key),) = self.owner.things(1)

    def issue(self, tls: str = "1.3", **order: object) -> Certificate:
        """One more certificate of the thing."""
        return self.owner.issue(self.thing, self.key, tls, **order)

    def line(self, spoken: Spoken, shown: Certificate) -> Line:
        """A connection that the test's end closes."""
        line = Line(self.world, spoken, shown)
        self.addCleanup(line.stream.close)
        return line

    def server_certificate(self) -> x509.Certificate:
        """What a new handshake sees."""
        stream = Stream(self.world.server.port("https"), self.world.source(), self.world.nobody.tls())
        der = stream.tls.getpeercert(binary_form=True)
        stream.close()
        assert der is not None
        return x509.load_der_x509_certificate(der)

    def run_tool(self, *command: str) -> tuple[int, str]:
        """Run a program where its files are. :return: its exit status, and all that it printed."""
        done = subprocess.run(
            command,
            cwd=self.world.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout


class RevocationListTests(ToolsCase):
    """What stands on the list is what the server refuses, in everybody's eyes."""

    def fetch(self, path: str, file: str) -> Path:
        """Download something from the API with curl, which knows the list that it has so far."""
        self.curl_succeeds("-o", file, f"{self.url}{path}")
        return self.world.directory / file

    @property
    def url(self) -> str:
        return f"https://localhost:{self.world.server.port('https')}"

    def curl(self, *options: str) -> tuple[int, str]:
        return self.run_tool("curl", "-sS", "--max-time", str(PATIENCE), "--cacert", self.trust, *options)

    def curl_succeeds(self, *options: str) -> str:
        code, printed = self.curl("--fail", *options)
        self.assertEqual(0, code, printed)
        return printed

    def check(self) -> None:
        """Issue, renew and revoke; then ask everybody about every certificate."""
        self.trust = self.world.server.ca
        self.trust = str(self.fetch("/certs/ca", "trust.pem"))
        good, bad, old, removed = (self.issue() for _ in range(4))
        rsa = self.issue(key_type="rsa", key_bits=2048)
        renewed = self.renew(old)
        ((other, other_key),) = self.owner.things(1)
        deleted = self.owner.issue(other, other_key)
        before = self.numbers(self.fetch("/certs/crl", "list.der"))
        self.assertEqual(set(), before[1])
        self.owner.revoke(bad)
        self.owner.revoke(removed, 1)
        self.assertEqual({bad.serial, removed.serial}, self.numbers(self.fetch("/certs/crl", "list.der"))[1])
        self.owner.call("DELETE", f"/things/{other}")

        number, listed = self.numbers(self.fetch("/certs/crl", "list.der"))
        self.fetch("/certs/crl?format=pem", "list.pem")
        self.assertGreater(number, before[0])
        gone = {bad: CUT_OFF, removed: CUT_OFF, deleted: CUT_OFF}
        self.assertEqual({each.serial for each in gone}, listed)
        for form in "der", "pem":
            self.assert_openssl_lists(f"list.{form}", form, {each.serial for each in gone})
        for each in good, old, rsa, bad, removed, deleted:
            with self.subTest(serial=each.serial):
                self.assertEqual(each not in gone, self.is_good_for_openssl(each))
                self.assertEqual(gone.get(each, TAKEN), self.published_by(each))
        self.assertTrue(self.is_good_for_openssl(renewed))

    def renew(self, old: Certificate) -> Certificate:
        """A certificate for the same key."""
        new = self.owner.call("POST", f"/certs/{old.serial}/renew", {})
        return Certificate(new["cert_serial"], old.thing, old.tls)

    def numbers(self, file: Path) -> tuple[int, set[str]]:
        """A list's own number, and the serial numbers on it."""
        revoked = x509.load_der_x509_crl(file.read_bytes())
        number = revoked.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        return number, {f"{each.serial_number:x}" for each in revoked}

    def assert_openssl_lists(self, file: str, form: str, serials: set[str]) -> None:
        """``openssl crl`` finds its signature good, and these numbers on it."""
        authority = str(self.world.directory / "data" / "pki" / "ca.crt")
        code, printed = self.run_tool(
            *("openssl", "crl", "-verify", "-CAfile", authority, "-inform", form, "-in", file),
            *("-noout", "-text"),
        )
        self.assertEqual(0, code, printed)
        self.assertIn("verify OK", printed)
        found = [line.split(": ")[1].lower() for line in printed.splitlines() if "Serial Number: " in line]
        self.assertEqual(serials, {number.lstrip("0") for number in found})

    def is_good_for_openssl(self, shown: Certificate) -> bool:
        """What ``openssl verify`` says of it, by the strictest rules it has."""
        record = self.owner.call("GET", f"/certs/{shown.serial}")
        leaf = self.world.directory / f"{shown.serial}.pem"
        leaf.write_text(record["cert"])
        code, printed = self.run_tool(
            *("openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-crl_check"),
            *("-CRLfile", "list.pem", "-CAfile", self.trust, "-untrusted", leaf.name, leaf.name),
        )
        if code:
            self.assertIn("certificate revoked", printed)
        return code == 0

    def published_by(self, shown: Certificate) -> str:
        """Publish with curl, which looks the server's certificate up on the list. :return: the status."""
        code, printed = self.curl(
            *("--crlfile", "list.pem", "--cert", str(shown.file), "-d", "21.5", "-o", "answer"),
            *("-w", "%{http_code}", "-H", f"Authorization: Thing {shown.thing.key}"),
            f"{self.url}/http/channels/{self.world.channel}/messages",
        )
        if code:
            self.assertIn(code, (35, 52, 55, 56), printed)  # curl's words for a connection that ended
        return CUT_OFF if code else printed

    def test_own_authority(self) -> None:
        """The one that was made at the first start."""
        self.begin()
        self.check()
        self.assert_strict()

    def assert_strict(self) -> None:
        """Python accepts our chain on both listeners as strictly as 3.13 does unless told otherwise."""
        shown = self.issue()
        for listener in "https", "mqtts":
            context = ssl.create_default_context(cafile=self.trust)
            context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
            context.load_cert_chain(str(shown.file))
            with (
                socket.create_connection(("127.0.0.1", self.world.server.port(listener)), PATIENCE) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secured,
            ):
                secured.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if listener == "https":
                    self.assertIn(b"200 OK", secured.recv(4096))

    def test_imported_authority(self) -> None:
        """A root of somebody's own, of RSA, that came as a PKCS #12."""
        directory = Path(tempfile.mkdtemp(prefix="mf-imported-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        issuer = root(rsa_key(), datetime.now(UTC))
        (directory / "root.pem").write_bytes(encode_certificate(issuer.certificate) + pkcs8(issuer.key))
        command = ("openssl", "pkcs12", "-export", "-in", "root.pem", "-passout", "pass:secret")
        bundle = subprocess.check_output(command, cwd=directory, stderr=subprocess.DEVNULL, timeout=PATIENCE)
        import_authority(str(directory / "data"), bundle, "secret")
        trusted = str(directory / "data" / "pki" / "ca.crt")
        self.begin(Authority(issuer.certificate, issuer.key, directory, trusted))
        self.assertEqual(issuer.certificate, Authority.load(Path(trusted).parent, directory).certificate)
        self.check()
        self.assert_strict()


class ServerCertificateTests(ToolsCase):
    """The server looks after its own certificate."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(tempfile.mkdtemp(prefix="mf-renewed-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.data = self.directory / "data"
        # Made long ago, as far as the files tell: its 825 days are about to end.
        ensure(str(self.data), ["mqtt.example.org"], datetime.now(UTC) - timedelta(days=801))
        self.old = self.file()
        pki = self.data / "pki"
        self.authority = Authority.load(pki, self.directory)

    def file(self) -> x509.Certificate:
        """What stands in the data directory."""
        return x509.load_pem_x509_certificate((self.data / "pki" / "mainflux-server.crt").read_bytes())

    def assert_renewed(self, old: x509.Certificate, new: x509.Certificate) -> None:
        """For the same names, for as long as ever, with another key."""
        names = [each.extensions.get_extension_for_class(x509.SubjectAlternativeName) for each in (old, new)]
        self.assertEqual(names[0], names[1])
        self.assertIn("mqtt.example.org", names[1].value.get_values_for_type(x509.DNSName))
        self.assertGreater(new.not_valid_after_utc, datetime.now(UTC) + timedelta(days=824))
        self.assertNotEqual(old.public_key(), new.public_key())
        new.verify_directly_issued_by(self.authority.certificate)

    def test_renewed_at_the_start(self) -> None:
        """A certificate with 24 days left is never shown; the log says that there is a new one."""
        self.begin(self.authority)
        shown = self.server_certificate()
        self.assertEqual(shown, self.file())
        self.assert_renewed(self.old, shown)
        self.assertIn("renewed the server certificate until", self.world.server.log)

    def test_renewed_while_clients_are_connected(self) -> None:
        """The file watch takes it up: whoever is here stays, and whoever comes sees the new one."""
        self.begin(self.authority)
        young, pki = self.file(), self.data / "pki"
        ending = datetime.now(UTC) - timedelta(days=801)
        fresh = self.directory / "fresh"
        (fresh / "pki").mkdir(parents=True)
        for file in "ca.crt", "ca.key":
            shutil.copy(pki / file, fresh / "pki")
        ensure(str(fresh), ["mqtt.example.org"], ending)
        for file in "mainflux-server.key", "mainflux-server.crt":
            shutil.move(fresh / "pki" / file, pki / file)
        old = self.file()
        wait_until(lambda: self.server_certificate() == old, "the old certificate is shown")
        lines = [self.line(spoken, self.issue(tls=tls)) for spoken in EVERY for tls in ("1.2", "1.3")]

        self.assertIsNotNone(renew_server_certificate(str(self.data)))
        wait_until(lambda: self.server_certificate() == self.file() != old, "the new certificate is shown")
        self.assert_renewed(old, self.file())
        self.assertNotEqual(young, self.file())
        self.assertEqual([], watch_ends(lines, lambda _: False, 0.5))
        for line in lines:
            line.speak()
            self.line(line.spoken, line.shown)


class ExpiryTests(ToolsCase):
    """A certificate that the server issued ends its connections with its last second."""

    def test_live_connections(self) -> None:
        """On every protocol, neither early nor late; those of the thing's other certificate stay."""
        self.begin()
        started = time.monotonic()
        stays = [self.line(spoken, self.issue(tls=tls)) for spoken in EVERY for tls in ("1.2", "1.3")]
        lifetime = brief_enough(time.monotonic() - started)
        brief = [self.issue(tls=tls, valid=f"{lifetime}s") for tls in ("1.2", "1.3")]
        gone = [self.line(spoken, each) for spoken in EVERY for each in brief]
        ends = {}
        for each in brief:
            assert each.thing.identity.leaf is not None
            ends[each] = on_monotonic_clock(each.thing.identity.leaf.not_valid_after_utc.timestamp())
        left = max(ends.values()) - time.monotonic() + PATIENCE
        self.assertEqual([], watch_ends([*gone, *stays], lambda ended: ended >= len(gone), left))
        self.assertEqual([], [line.spoken.name for line in stays if line.ended])
        took = defaultdict(list)
        for line in gone:
            late = line.ended - ends[line.shown]
            self.assertGreater(late, -0.05, f"{line.spoken.name} ended too early")
            self.assertLess(late, SOON, f"{line.spoken.name} ended too late")
            took["all protocols"].append(late)
        for line in stays:
            line.speak()
        add_figures("Certificates that end", *milliseconds("from not-valid-after to the end:", dict(took)))
        for line in gone:
            with self.assertRaises(Closed):
                Line(self.world, line.spoken, line.shown, line.opened_with)
