"""docker/ssl/Makefile and docker-compose.yml with real make, openssl and docker-compose."""

import os
import shutil
import stat
import subprocess
from datetime import timedelta
from time import time

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from mfserver.ca.authority import ensure
from mfserver.tls.context import ServerContext
from mfserver.tls.peer import Peer, peer_of
from tests.tls.wire import Listener

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KEY = "0123456789-abc.~_XYZ"
FILES = {"ca.crt", "ca.key", "mainflux-server.crt", "mainflux-server.key", "dev.crt", "dev.key"}


def need(*programs: str) -> None:
    """Skip where a program is missing."""
    for program in programs:
        if shutil.which(program) is None:
            raise SkipTest(f"{program} is not installed")


class MakefileCase(SynchronousTestCase):
    """A copy of docker/ssl in a directory whose name is no help."""

    def setUp(self) -> None:
        need("make", "openssl")
        self.directory = os.path.join(os.path.abspath(self.mktemp()), "a $b 'c")
        os.makedirs(self.directory)
        for file in ("Makefile", "openssl.cnf"):
            shutil.copy(os.path.join(TOP, "docker", "ssl", file), self.directory)
        self.certs = os.path.join(self.directory, "certs")

    def make(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
        return subprocess.run(
            ["make", *arguments],
            cwd=self.directory,
            env=inherited | environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def made(self, *arguments: str) -> str:
        done = self.make(*arguments)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def path(self, file: str) -> str:
        return os.path.join(self.certs, file)

    def certificate(self, file: str) -> x509.Certificate:
        with open(self.path(file), "rb") as opened:
            return x509.load_pem_x509_certificate(opened.read())


class IssueTests(MakefileCase):
    """What the walk-through makes."""

    def test_all_three(self) -> None:
        """MAINFLUX.md's sizes, lifetimes and names; and strict verifiers are content."""
        self.made("all", "HOSTS=mf.example,192.0.2.7,2001:db8::7")
        self.made("thing_cert", f"KEY={KEY}", "CRT_FILE_NAME=dev")
        self.assertEqual(set(os.listdir(self.certs)), FILES)
        for file, bits, days in (
            ("ca.crt", 2048, 1095),
            ("mainflux-server.crt", 4096, 1000),
            ("dev.crt", 4096, 730),
        ):
            certificate = self.certificate(file)
            key = certificate.public_key()
            assert isinstance(key, rsa.RSAPublicKey)
            lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
            self.assertEqual((key.key_size, lifetime), (bits, timedelta(days=days)))
            self.assertIs(certificate.version, x509.Version.v3)
            self.assertGreater(certificate.serial_number, 2**64)
        for file, mode in (("ca.key", 0o600), ("dev.key", 0o600), ("ca.crt", 0o644), ("dev.crt", 0o644)):
            self.assertEqual(stat.S_IMODE(os.stat(self.path(file)).st_mode), mode)
        for file, purpose in (("mainflux-server.crt", "sslserver"), ("dev.crt", "sslclient")):
            verify = ["openssl", "verify", "-x509_strict", "-purpose", purpose]
            subprocess.run(
                [*verify, "-CAfile", self.path("ca.crt"), self.path(file)], check=True, capture_output=True
            )
        names = self.certificate("mainflux-server.crt").extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        self.assertEqual(names.value.get_values_for_type(x509.DNSName), ["localhost", "mf.example"])
        self.assertEqual(
            [str(address) for address in names.value.get_values_for_type(x509.IPAddress)],
            ["127.0.0.1", "::1", "192.0.2.7", "2001:db8::7"],
        )
        self.serve()
        self.again()

    def serve(self) -> None:
        """A server takes these files, and knows the thing by its key."""
        context = ServerContext(
            self.path("mainflux-server.crt"),
            self.path("mainflux-server.key"),
            self.path("ca.crt"),
            request_client_certificates=True,
        )
        context.load()
        leaf = self.certificate("dev.crt")
        context.verify(leaf, (), time())
        self.assertEqual(Peer(leaf, (), "TLSv1.3", context, 1).common_name(), KEY)

    def again(self) -> None:
        """Neither the authority nor a thing's key is overwritten."""
        before = self.certificate("ca.crt"), self.certificate("dev.crt")
        self.assertIn("kept", self.made("ca"))
        refused = self.make("thing_cert", f"KEY={KEY}", "CRT_FILE_NAME=dev")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("certs/dev.crt is there already", refused.stderr)
        self.assertEqual(before, (self.certificate("ca.crt"), self.certificate("dev.crt")))

    def test_authority_alone(self) -> None:
        """The server makes itself a certificate of the authority that make ca made, RSA though it is."""
        self.made("ca")
        data_directory = os.path.dirname(self.certs)
        os.rename(self.certs, os.path.join(data_directory, "pki"))
        self.assertEqual(len(ensure(data_directory, ())), 1)
        verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "pki/ca.crt"]
        subprocess.run(
            [*verify, "pki/mainflux-server.crt"], cwd=data_directory, check=True, capture_output=True
        )

    def test_half_an_authority(self) -> None:
        self.made("ca")
        os.unlink(self.path("ca.crt"))
        refused = self.make("ca")
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("certs/ca.key is there without its other half", refused.stderr)

    def test_from_elsewhere(self) -> None:
        """The files are beside the Makefile, wherever make is called."""
        makefile = os.path.join(self.directory, "Makefile")
        subprocess.run(["make", "-f", makefile, "ca"], cwd="/", check=True, capture_output=True)
        self.assertEqual(set(os.listdir(self.certs)), {"ca.crt", "ca.key"})
        subprocess.run(["make", "-f", makefile, "clean"], cwd="/", check=True, capture_output=True)
        self.assertEqual(os.listdir(self.certs), [])


class MainfluxMakefileTests(SynchronousTestCase):
    """Files of Mainflux's own Makefile: an authority without key usage, leaves of X.509 v1."""

    def openssl(self, command: str, *more: str) -> None:
        subprocess.run(
            ["openssl", *command.split(), *more], cwd=self.directory, check=True, capture_output=True
        )

    def leaf(self, file: str, common_name: str) -> None:
        request = f"req -new -sha256 -newkey rsa:2048 -nodes -keyout {file}.key -out {file}.csr -subj"
        self.openssl(request, f"/CN={common_name}/O=mainflux/OU=mainflux/emailAddress=info@mainflux.com")
        self.openssl(
            f"x509 -req -days 730 -in {file}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {file}.crt"
        )

    def test_thing_is_let_in(self) -> None:
        need("openssl")
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.openssl(
            "req -newkey rsa:2048 -x509 -nodes -sha512 -days 1095 -keyout ca.key -out ca.crt -subj",
            "/CN=localhost/O=Mainflux/OU=IoT/emailAddress=info@mainflux.com",
        )
        self.leaf("server", "localhost")
        self.leaf("thing", "0123456789abcdef")
        paths = [os.path.join(self.directory, file) for file in ("server.crt", "server.key", "ca.crt")]
        context = ServerContext(*paths, request_client_certificates=True)
        context.load()
        client = SSL.Context(SSL.TLS_CLIENT_METHOD)
        client.use_certificate_file(os.path.join(self.directory, "thing.crt"))
        client.use_privatekey_file(os.path.join(self.directory, "thing.key"))
        listener = Listener(context)
        listener.connect(client).handshake()
        [application] = listener.applications.made
        peer = peer_of(application.transport)
        assert peer is not None
        self.assertEqual((peer.common_name(), peer.leaf.version), ("0123456789abcdef", x509.Version.v1))


class RefusalTests(MakefileCase):
    """Whatever is given is looked at, never run, and nothing is left behind."""

    def refuse(self, words: str, *arguments: str, **environment: str) -> None:
        done = self.make(*arguments, **environment)
        self.assertNotEqual(done.returncode, 0, arguments)
        self.assertIn(words, done.stderr)
        self.assertFalse(os.path.exists(os.path.join(self.directory, "pwned")), arguments)
        self.assertEqual(os.listdir(self.certs) if os.path.exists(self.certs) else [], [])

    def test_no_key(self) -> None:
        self.refuse("say which thing", "thing_cert")
        self.refuse("say which thing", "thing_cert", "KEY=", "CRT_FILE_NAME=dev")

    def test_no_thing_key(self) -> None:
        for key in (
            "a/CN=victim",
            "0123456789abcdef/CN=victim",
            "0123456789abcdef,CN=victim",
            "0123456789abcdef+CN=victim",
            "0123456789abcdef\nCN=victim",
            "0123456789abcdef\n",
            "0123456789abcdef victim",
            "0123456789abcdef'; touch pwned; '",
            '0123456789abcdef"; touch pwned; "',
            "0123456789abcdef`touch pwned`",
            "0123456789abcdef$(touch pwned)",
            "0123456789abcdef$(shell touch pwned)",
            "0123456789abcdef$$(touch pwned)",
            "0123456789abcdef${shell touch pwned}",
            "$(shell touch pwned)0123456789abcdef",
            "$(eval $(shell touch pwned))",
            "0123456789abcdef#",
            "0123456789abcdef\\",
            "0123456789abcdef*",
            "0123456789abcd\N{LATIN SMALL LETTER E WITH ACUTE}f",
        ):
            self.refuse("KEY is no thing key", "thing_cert", f"KEY={key}", "CRT_FILE_NAME=dev")
            self.refuse("KEY is no thing key", "thing_cert", "CRT_FILE_NAME=dev", KEY=key)

    def test_length_of_key(self) -> None:
        for length in (1, 15, 65, 1000):
            self.refuse("16 to 64 characters", "thing_cert", f"KEY={'a' * length}")
        for length in (16, 64):  # long enough; what is missing then is the authority
            self.refuse("make ca first", "thing_cert", f"KEY={'a' * length}")

    def test_file_name(self) -> None:
        for file in (
            "../dev",
            "a/b",
            "/tmp/dev",
            "..",
            ".dev",
            "-dev",
            "a b",
            "a'; touch pwned; '",
            "$(shell touch pwned)",
            "`touch pwned`",
            "a\nb",
        ):
            self.refuse("CRT_FILE_NAME is a name", "thing_cert", f"KEY={KEY}", f"CRT_FILE_NAME={file}")
        for file in ("ca", "mainflux-server"):
            self.refuse("belongs to the server", "thing_cert", f"KEY={KEY}", f"CRT_FILE_NAME={file}")

    def test_hosts(self) -> None:
        for hosts in ("a b", "a'; touch pwned; '", "$(shell touch pwned)", "a\nDNS:b", "a;b", "a=b"):
            self.refuse("HOSTS is a list", "server_cert", f"HOSTS={hosts}")

    def test_no_authority(self) -> None:
        self.refuse("make ca first", "server_cert")


class ComposeTests(SynchronousTestCase):
    """Where no Docker engine runs, docker-compose reads the file at least."""

    def config(self, **environment: str) -> str:
        need("docker-compose")
        inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
        done = subprocess.run(
            ["docker-compose", "-f", os.path.join(TOP, "docker", "docker-compose.yml"), "config"],
            env=inherited | environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        )
        self.assertEqual(done.stderr, "")
        return done.stdout

    def test_key(self) -> None:
        """AUTH is key unless it is given."""
        for text in (self.config(), self.config(AUTH=""), self.config(AUTH="key")):
            self.assertIn("MF_AUTH: key", text)

    def test_x509(self) -> None:
        """The four ports of Mainflux, and its certificates, mounted where the server looks for them."""
        text = self.config(AUTH="x509")
        self.assertIn("MF_AUTH: x509", text)
        for published, target in ((80, 8080), (443, 8443), (1883, 1883), (8883, 8883)):
            self.assertRegex(
                text, rf"published: ['\"]?{published}['\"]?\s+target: {target}|{published}:{target}"
            )
        self.assertIn(f"{TOP}/docker/ssl/certs:/var/lib/mfserver/pki", text)
        self.assertIn("--http=8080", text)
        self.assertNotIn("--mqtt", text)
