"""What TLS is spoken, as ``openssl s_client`` sees it from outside."""

import subprocess
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.client_case import client_certificate, deployment_of
from tests.interop.running import PATIENCE, Deployment, RunningServer, needs

REQUEST = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
#: OpenSSL itself speaks these no more unless it is told to.
OLD = ("-cipher", "ALL:@SECLEVEL=0")


def s_client(server: RunningServer, listener: str, *options: str, say: bytes = b"") -> tuple[int, str]:
    """One connection. :return: the exit status, and everything that was printed."""
    until_end = ("-ign_eof",) if say else ()
    done = subprocess.run(
        [
            *("openssl", "s_client", "-connect", f"localhost:{server.port(listener)}"),
            *("-servername", "localhost", "-verify_hostname", "localhost"),
            *("-CAfile", server.ca, "-verify_return_error", *until_end, *options),
        ],
        input=say,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


class OpenSSLTests(SynchronousTestCase):
    """Both TLS listeners, in both modes."""

    timeout = 60

    def setUp(self) -> None:
        needs("openssl")

    def handshake(self, deployment: Deployment, listener: str, *options: str, say: bytes = b"") -> str:
        """A handshake that must succeed. :return: what was printed."""
        status, printed = s_client(deployment.server, listener, *options, say=say)
        self.assertEqual(0, status, printed)
        self.assertIn("Verify return code: 0 (ok)", printed)
        return printed

    def test_versions(self) -> None:
        """1.3 where the client does not choose, 1.2 where it asks for it, and nothing older."""
        deployment = deployment_of("key")
        for listener in "https", "mqtts":
            self.assertIn("New, TLSv1.3, Cipher is TLS_", self.handshake(deployment, listener))
            printed = self.handshake(deployment, listener, "-tls1_2")
            self.assertIn("New, TLSv1.2, Cipher is ECDHE-", printed)
            for version in "-tls1", "-tls1_1":
                status, printed = s_client(deployment.server, listener, version, *OLD)
                self.assertNotEqual(0, status)
                self.assertIn("alert protocol version", printed)

    def test_tls_min(self) -> None:
        """``--tls-min=1.3`` refuses 1.2."""
        with RunningServer("--tls-min=1.3", "--http=off", "--mqtt=off") as server:
            for listener in "https", "mqtts":
                self.assertIn("New, TLSv1.3", s_client(server, listener)[1])
                status, printed = s_client(server, listener, "-tls1_2")
                self.assertNotEqual(0, status)
                self.assertIn("alert protocol version", printed)

    def test_weak_ciphers(self) -> None:
        """No cipher without forward secrecy or without authenticated encryption."""
        deployment = deployment_of("key")
        for cipher in "kRSA", "AES128-SHA", "ECDHE+AES128+SHA1", "DHE", "aNULL", "eNULL":
            chosen = f"{cipher}:@SECLEVEL=0"
            status, printed = s_client(deployment.server, "https", "-tls1_2", "-cipher", chosen)
            self.assertNotEqual(0, status)
            self.assertIn("alert handshake failure", printed, cipher)

    def test_alpn(self) -> None:
        """Each listener names what it speaks; who offers something else goes on without a name."""
        deployment = deployment_of("key")
        for listener, offered, chosen in (
            ("https", "http/1.1", "ALPN protocol: http/1.1"),
            ("https", "h2,http/1.1", "ALPN protocol: http/1.1"),
            ("https", "mqtt", "ALPN protocol: mqtt"),
            ("https", "mqtt,http/1.1", "ALPN protocol: http/1.1"),
            ("https", "h2", "No ALPN negotiated"),
            ("mqtts", "mqtt", "ALPN protocol: mqtt"),
            ("mqtts", "x-amzn-mqtt-ca,mqtt", "ALPN protocol: mqtt"),
            ("mqtts", "http/1.1", "No ALPN negotiated"),
        ):
            self.assertIn(chosen, self.handshake(deployment, listener, "-alpn", offered), (listener, offered))

    def test_resumption(self) -> None:
        """A second handshake takes the first one's session, with 1.2 and 1.3, with a certificate too."""
        for auth in "key", "x509":
            deployment = deployment_of(auth)
            shown: tuple[str, ...] = ()
            if auth == "x509":
                _, key = deployment.thing("sender")
                crt, private = client_certificate(deployment.server, key)
                shown = ("-cert", crt, "-key", private)
            for version in "-tls1_2", "-tls1_3":
                kept = str(Path(tempfile.mkdtemp(dir=deployment.server.data_dir)) / "session")
                options = (version, *shown)
                first = self.handshake(deployment, "https", *options, "-sess_out", kept, say=REQUEST)
                self.assertIn("New, TLSv1", first)
                second = self.handshake(deployment, "https", *options, "-sess_in", kept, say=REQUEST)
                self.assertIn("Reused, TLSv1", second, (auth, version))
                for printed in first, second:
                    self.assertIn("HTTP/1.1 200 OK", printed)

    def test_a_resumed_session_negotiates_anew(self) -> None:
        """A session that began with HTTP goes on with MQTT where that is offered: it binds nobody."""
        deployment = deployment_of("key")
        for version in "-tls1_2", "-tls1_3":
            kept = str(Path(tempfile.mkdtemp(dir=deployment.server.data_dir)) / "session")
            options = (version, "-alpn", "http/1.1", "-sess_out", kept)
            self.assertIn("HTTP/1.1 200 OK", self.handshake(deployment, "https", *options, say=REQUEST))
            options = (version, "-alpn", "mqtt", "-sess_in", kept)
            printed = self.handshake(deployment, "https", *options, say=REQUEST)
            self.assertIn("Reused, TLSv1", printed)
            self.assertIn("ALPN protocol: mqtt", printed)
            self.assertNotIn("HTTP/1.1", printed)

    def test_a_session_of_an_ended_server_is_not_resumed(self) -> None:
        """Another process has other ticket keys: the client is asked for everything again."""
        with RunningServer("--http=off", "--mqtt=off") as server:
            kept = str(server.data_dir / "session")
            s_client(server, "https", "-sess_out", kept, say=REQUEST)
            server.stop()
            server.start()
            status, printed = s_client(server, "https", "-sess_in", kept, say=REQUEST)
        self.assertEqual(0, status, printed)
        self.assertIn("New, TLSv1.3", printed)

    def test_client_certificate_request(self) -> None:
        """Certificate mode asks for one and names its authority; key mode asks for none."""
        for listener in "https", "mqtts":
            for version in "-tls1_2", "-tls1_3":
                printed = self.handshake(deployment_of("x509"), listener, version)
                self.assertIn(
                    "Acceptable client certificate CA names\nO = mfserver, CN = mfserver CA ", printed
                )
                printed = self.handshake(deployment_of("key"), listener, version)
                self.assertIn("No client certificate CA names sent", printed)
                self.assertNotIn("Requested Signature Algorithms", printed)

    def test_strict_verification(self) -> None:
        """The certificate that the first start made satisfies a verifier that is strict."""
        for auth in "key", "x509":
            self.handshake(deployment_of(auth), "https", "-x509_strict")

    def test_renegotiation(self) -> None:
        """A client cannot make the server do the work of a handshake again and again."""
        server = deployment_of("key").server
        command = ["openssl", "s_client", "-tls1_2", "-connect", f"localhost:{server.port('https')}"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"R\n")  # s_client's command for it, while its input is open
            process.stdin.flush()
            printed = process.stdout.read().decode()
        self.assertIn("RENEGOTIATING", printed)
        self.assertIn("no renegotiation", printed)
        self.assertNotEqual(0, process.returncode)
