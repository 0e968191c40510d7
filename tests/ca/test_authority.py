"""What a first start makes, and what it leaves alone."""

import os
import stat
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from twisted.trial.unittest import SynchronousTestCase

from mfserver.ca.authority import CA_LIFETIME, SERVER_LIFETIME, ensure
from mfserver.ca.x509 import encode_certificate, encode_key, issue_authority, name, new_key
from mfserver.errors import ConfigurationError
from tests.ca.authorities import authority, full_disk

FILES = ("ca.crt", "ca.key", "mainflux-server.crt", "mainflux-server.key")
NOW = datetime(2026, 6, 1, tzinfo=UTC)


class AuthorityCase(SynchronousTestCase):
    """An empty data directory."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory, 0o700)

    def path(self, file: str) -> str:
        return os.path.join(self.directory, "pki", file)

    def read(self, file: str) -> bytes:
        with open(self.path(file), "rb") as opened:
            return opened.read()

    def write(self, file: str, data: bytes) -> None:
        os.makedirs(os.path.dirname(self.path(file)), exist_ok=True)
        with open(self.path(file), "wb") as opened:
            opened.write(data)

    def contents(self) -> dict[str, bytes]:
        return {file: self.read(file) for file in sorted(os.listdir(self.path("")))}

    def certificate(self, file: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.read(file))

    def verify(self, host: str) -> None:
        """As strictly as the Web's verifiers do."""
        subject = x509.DNSName(host) if host[-1].isalpha() else x509.IPAddress(ip_address(host))
        store = Store([self.certificate("ca.crt")])
        verifier = PolicyBuilder().store(store).time(NOW).build_server_verifier(subject)
        verifier.verify(self.certificate("mainflux-server.crt"), [])

    def refuse(self, option: str, *words: str) -> None:
        error = self.assertRaises(ConfigurationError, ensure, self.directory, (), NOW)
        self.assertEqual(error.option, option)
        for word in words:
            self.assertIn(word, str(error))


class FirstStartTests(AuthorityCase):
    """Nothing is there."""

    def test_all_four(self) -> None:
        """A line for the log about each pair, and nothing but the four files."""
        lines = ensure(self.directory, ["mf.example", "192.0.2.7", "2001:db8::7", "*.mf.example"], NOW)
        self.assertEqual(len(lines), 2)
        self.assertIn(self.path("ca.crt"), lines[0])
        self.assertIn("mf.example, 192.0.2.7", lines[1])
        self.assertEqual(tuple(self.contents()), FILES)
        for host in (
            "localhost",
            "127.0.0.1",
            "::1",
            "mf.example",
            "192.0.2.7",
            "2001:db8::7",
            "a.mf.example",
        ):
            self.verify(host)
        self.assertRaises(VerificationError, self.verify, "other.example")

    def test_modes(self) -> None:
        """Only the owner may read, whatever the umask."""
        for umask in (0o000, 0o777):
            self.directory = self.mktemp()
            os.mkdir(self.directory, 0o700)
            before = os.umask(umask)
            try:
                ensure(self.directory, (), NOW)
            finally:
                os.umask(before)
            self.assertEqual(stat.S_IMODE(os.stat(self.path("")).st_mode), 0o700)
            for file in FILES:
                self.assertEqual(stat.S_IMODE(os.stat(self.path(file)).st_mode), 0o600)

    def test_lifetimes(self) -> None:
        ensure(self.directory, (), NOW)
        self.assertEqual(self.certificate("ca.crt").not_valid_after_utc, NOW + CA_LIFETIME)
        self.assertEqual(self.certificate("mainflux-server.crt").not_valid_after_utc, NOW + SERVER_LIFETIME)

    def test_serial_numbers_are_random(self) -> None:
        ensure(self.directory, (), NOW)
        serials = {self.certificate(file).serial_number for file in FILES if file.endswith("crt")}
        self.assertEqual(len(serials), 2)
        self.assertTrue(all(2**64 < serial <= 2**128 for serial in serials))

    def test_bad_name(self) -> None:
        """A name that no certificate can have is said so before anything of the server is made."""
        for bad in ("", "a b", "-", "a..b", "x" * 64, "a/b", "a\0", "1.2.3.4/8", ".".join(["a" * 60] * 5)):
            error = self.assertRaises(ConfigurationError, ensure, self.directory, [bad], NOW)
            self.assertEqual(error.option, "--server-name")
            self.assertFalse(os.path.exists(self.path("mainflux-server.key")))

    def test_international_name(self) -> None:
        ensure(self.directory, ["b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example"], NOW)
        self.verify("xn--bcher-kva.example")

    def test_names_once(self) -> None:
        [_, line] = ensure(self.directory, ["mf.example", "localhost", "mf.example"], NOW)
        self.assertEqual(1, line.count("mf.example"))
        self.assertEqual(1, line.count(" localhost"))

    def test_full_disk(self) -> None:
        with full_disk():
            self.refuse("--data-dir", "cannot make", "pki")
        self.assertEqual({}, self.contents())

    def test_directory_that_cannot_be_made(self) -> None:
        self.directory = os.path.join(self.directory, "file")
        with open(self.directory, "wb"):
            pass
        self.refuse("--data-dir", self.directory, "Not a directory")


class LaterStartTests(AuthorityCase):
    """Some or all is there."""

    def setUp(self) -> None:
        super().setUp()
        ensure(self.directory, (), NOW)

    def test_nothing_is_made_twice(self) -> None:
        before = self.contents()
        self.assertEqual(ensure(self.directory, ["new.example"], NOW), [])
        self.assertEqual(self.contents(), before)

    def test_each_missing_file(self) -> None:
        """What is missing is made of what is there, and that stays; or the way out is said."""
        before = self.contents()
        os.unlink(self.path("mainflux-server.crt"))
        self.assertEqual(len(ensure(self.directory, (), NOW)), 1)
        self.assertEqual(self.read("mainflux-server.key"), before["mainflux-server.key"])
        self.verify("localhost")
        os.unlink(self.path("mainflux-server.key"))
        self.refuse("--key", "mainflux-server.key is missing", "remove")
        os.unlink(self.path("ca.crt"))
        self.write("mainflux-server.key", before["mainflux-server.key"])
        self.assertEqual(len(ensure(self.directory, (), NOW)), 1)
        self.verify("localhost")  # the same key: what was issued under it is still good

    def test_authority_without_key(self) -> None:
        """It signs nothing, and need not where the server has its certificate."""
        os.unlink(self.path("ca.key"))
        self.assertEqual(ensure(self.directory, (), NOW), [])
        os.unlink(self.path("mainflux-server.crt"))
        self.refuse("--ca-key", "ca.key is missing", "--cert")

    def test_files_that_are_no_good(self) -> None:
        key = new_key()
        locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        cannot_sign = x25519.X25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        before = self.contents()
        for file, data, option, words in (
            ("ca.crt", b"hello", "--ca", "no certificate in PEM"),
            ("ca.crt", before["ca.key"], "--ca", "no certificate in PEM"),
            ("ca.key", b"", "--ca-key", "no private key"),
            ("ca.key", locked, "--ca-key", "encrypted"),
            ("ca.key", cannot_sign, "--ca-key", "signs"),
            ("ca.key", encode_key(key), "--ca-key", "does not belong"),
        ):
            self.write(file, data)
            self.write("mainflux-server.key", before["mainflux-server.key"])
            if os.path.exists(self.path("mainflux-server.crt")):
                os.unlink(self.path("mainflux-server.crt"))
            self.refuse(option, self.path(file), words)
            self.write(file, before[file])

    def test_authority_elsewhere(self) -> None:
        """With a certificate and a key of its own it signs, and none is made."""
        ca, ca_key = os.path.join(self.directory, "their.crt"), os.path.join(self.directory, "their.key")
        before = self.contents()
        os.rename(self.path("ca.crt"), ca)
        os.rename(self.path("ca.key"), ca_key)
        os.unlink(self.path("mainflux-server.crt"))
        [line] = ensure(self.directory, (), NOW, ca=ca, ca_key=ca_key)
        self.assertIn("server certificate", line)
        self.assertEqual(["mainflux-server.crt", "mainflux-server.key"], sorted(self.contents()))
        self.write("ca.crt", before["ca.crt"])
        self.verify("localhost")

    def test_authority_s_key_elsewhere(self) -> None:
        """Its certificate is then where it always is; one that only clients are trusted by signs nothing."""
        ca_key = os.path.join(self.directory, "their.key")
        os.rename(self.path("ca.key"), ca_key)
        os.unlink(self.path("mainflux-server.crt"))
        self.assertEqual(1, len(ensure(self.directory, (), NOW, ca_key=ca_key)))
        self.verify("localhost")
        os.unlink(self.path("mainflux-server.crt"))
        error = self.assertRaises(ConfigurationError, ensure, self.directory, (), NOW, ca=self.path("ca.crt"))
        self.assertEqual("--ca-key", error.option)

    def test_no_authority(self) -> None:
        """A leaf with its own key signs nothing."""
        leaf, key = authority("Leaf", extensions=())
        self.write("ca.crt", encode_certificate(leaf))
        self.write("ca.key", encode_key(key))
        os.unlink(self.path("mainflux-server.crt"))
        self.refuse("--ca", "ca.crt", "no certificate of an authority")

    def test_server_key_that_is_none(self) -> None:
        os.unlink(self.path("mainflux-server.crt"))
        self.write("mainflux-server.key", b"hello")
        self.refuse("--key", "mainflux-server.key", "no private key")

    def test_expired_authority(self) -> None:
        """No key is made that no certificate would follow."""
        os.unlink(self.path("mainflux-server.crt"))
        os.unlink(self.path("mainflux-server.key"))
        error = self.assertRaises(
            ConfigurationError, ensure, self.directory, (), NOW + CA_LIFETIME + timedelta(days=1)
        )
        self.assertIn("expired", str(error))
        self.assertEqual(["ca.crt", "ca.key"], list(self.contents()))

    def test_never_beyond_the_authority(self) -> None:
        os.unlink(self.path("mainflux-server.crt"))
        ensure(self.directory, (), NOW + CA_LIFETIME - timedelta(days=5))
        self.assertEqual(
            self.certificate("mainflux-server.crt").not_valid_after_utc,
            self.certificate("ca.crt").not_valid_after_utc,
        )

    def test_dangling_link(self) -> None:
        """A link to a place that is not mounted is not replaced by something new."""
        os.unlink(self.path("mainflux-server.key"))
        os.unlink(self.path("mainflux-server.crt"))
        os.symlink("/nowhere/server.key", self.path("mainflux-server.key"))
        self.refuse("--key", "mainflux-server.key", "No such file")
        self.assertTrue(os.path.islink(self.path("mainflux-server.key")))


class OtherAuthorityTests(AuthorityCase):
    """An authority that somebody else made, of any kind of key."""

    def test_kinds(self) -> None:
        keys = (rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate())
        for key in keys:
            self.directory = self.mktemp()
            certificate = issue_authority(key, name("Other CA"), NOW, timedelta(days=1095))
            self.write("ca.crt", encode_certificate(certificate))
            self.write("ca.key", encode_key(key))
            self.assertEqual(len(ensure(self.directory, (), NOW)), 1)
            leaf = self.certificate("mainflux-server.crt")
            leaf.verify_directly_issued_by(certificate)
            if isinstance(key, rsa.RSAPrivateKey):
                self.verify("localhost")
