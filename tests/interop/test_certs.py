"""The life of a certificate as a device with openssl and curl has it, and its owner at a shell."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.client_case import deployment_of
from tests.interop.running import Deployment, RunningServer, needs

#: What a device types that has a shell, openssl and curl, its owner's token, and nothing of ours.
SIGN = r"""
umask 077
openssl ecparam -name prime256v1 -genkey -noout -out device.key
openssl req -new -key device.key -subj "/CN=device" -out device.csr
CSR=$(awk '{printf "%s\\n", $0}' device.csr)
curl -s -S --fail --cacert ca.crt -H "Authorization: $TOKEN" \
  -H "Content-Type: application/json" \
  "$API/certs/sign" \
  -d "{\"thing_id\":\"$THING\", \"csr\":\"$CSR\"}" > signed.json
sed 's/.*"cert":"\([^"]*\)".*/\1/; s/\\n/\n/g' signed.json > device.crt
sed 's/.*"cert_serial":"\([^"]*\)".*/\1/' signed.json > device.serial
"""
PUBLISH = r"""
curl -s -S -i --fail --cacert ca.crt --cert device.crt --key device.key \
  "$API/http/channels/$CHANNEL/messages" \
  -d '[{"n":"temperature","v":21.5}]'
"""
RENEW = r"""
curl -s -S --fail --cacert ca.crt -H "Authorization: $TOKEN" \
  -H "Content-Type: application/json" \
  "$API/certs/$(cat device.serial)/renew" \
  -d '{}' > signed.json
sed 's/.*"cert":"\([^"]*\)".*/\1/; s/\\n/\n/g' signed.json > renewed.crt
sed 's/.*"cert_serial":"\([^"]*\)".*/\1/' signed.json > device.serial
mv renewed.crt device.crt
"""
REVOKE = r"""
curl -s -S --fail --cacert ca.crt -H "Authorization: $TOKEN" \
  -H "Content-Type: application/json" \
  "$API/certs/$(cat device.serial)/revoke" \
  -d '{"reason":"keyCompromise"}'
"""


class CertificateCase(SynchronousTestCase):
    """A server that wants certificates, a thing, and an empty directory."""

    timeout = 120

    def setUp(self) -> None:
        needs("openssl", "curl", "awk", "sed")
        self.deployment: Deployment = deployment_of("x509")
        self.server: RunningServer = self.deployment.server
        self.thing, self.key = self.deployment.thing(self.id(), "weather")
        self.directory = Path(tempfile.mkdtemp(prefix="mf-certs-"))
        self.addCleanup(shutil.rmtree, self.directory)
        shutil.copy(self.server.ca, self.directory / "ca.crt")
        url = f"https://localhost:{self.server.port('https')}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MF_")},
            "API": url,
            "TOKEN": self.deployment.token,
            "THING": self.thing,
            "CHANNEL": self.deployment.channels["weather"],
            "MF_URL": url,
            "MF_TOKEN": self.deployment.token,
            "MF_CA_FILE": "ca.crt",
        }

    def run_(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=60
        )

    def ok(self, *command: str) -> str:
        done = self.run_(*command)
        self.assertEqual(0, done.returncode, (command, done.stdout, done.stderr))
        return done.stdout


class DeviceTests(CertificateCase):
    """A shell, openssl and curl."""

    def shell(self, block: str) -> str:
        return self.ok("bash", "-euc", block)

    def test_life(self) -> None:
        """Signed, published, renewed, published, revoked, refused; the first one, too, once it is revoked."""
        self.shell(SIGN)
        self.assertEqual(0o600, (self.directory / "device.key").stat().st_mode & 0o777)
        self.assertIn("202 Accepted", self.shell(PUBLISH))
        first = (self.directory / "device.crt").read_text()
        serial = (self.directory / "device.serial").read_text()
        self.ok("openssl", "verify", "-x509_strict", "-CAfile", "ca.crt", "device.crt")
        self.assertNotIn(self.key, self.ok("openssl", "x509", "-in", "device.crt", "-noout", "-text"))
        self.shell(RENEW)
        self.assertNotEqual(first, (self.directory / "device.crt").read_text())
        self.assertIn("202 Accepted", self.shell(PUBLISH))
        self.shell(REVOKE)
        self.assert_refused()
        # What it was renewed from is another certificate: good, until it is revoked as well.
        (self.directory / "device.crt").write_text(first)
        self.assertIn("202 Accepted", self.shell(PUBLISH))
        (self.directory / "device.serial").write_text(serial)
        self.shell(REVOKE)
        self.assert_refused()

    def assert_refused(self) -> None:
        done = self.run_("bash", "-euc", PUBLISH)
        self.assertNotEqual(0, done.returncode, done.stdout)
        self.assertNotIn("HTTP/1.1 2", done.stdout)


class CommandTests(CertificateCase):
    """mfserver certs, over TLS."""

    def mfserver(self, *arguments: str) -> str:
        return self.ok(sys.executable, "-c", "from mfserver.cli.main import main; main()", *arguments)

    def test_walk(self) -> None:
        """What issue writes publishes; openssl agrees with the revocation list, before and after."""
        verify = ("openssl", "verify", "-x509_strict", "-crl_check", "-CAfile", "a-ca.crt")
        publish = (
            *("curl", "-sSi", "--fail", "--cacert", "a-ca.crt", "--cert", "a.crt", "--key", "a.key"),
            *(f"{self.environment['API']}/http/channels/{self.environment['CHANNEL']}/messages", "-d", "x"),
        )
        self.mfserver("certs", "issue", self.thing, "--out", "a")
        self.mfserver("certs", "crl", "--pem", "--out", "a.crl")
        self.ok(*verify, "-CRLfile", "a.crl", "a.crt")
        self.assertIn("202 Accepted", self.ok(*publish))
        serial, thing, state, _ = self.mfserver("certs", "list", "--thing", self.thing).split()
        self.assertEqual((self.thing, "active"), (thing, state))
        self.mfserver("certs", "revoke", serial, "--reason", "keyCompromise")
        self.assertNotEqual(0, self.run_(*publish).returncode)
        self.mfserver("certs", "crl", "--pem", "--out", "a.crl", "--force")
        self.assertIn("certificate revoked", self.run_(*verify, "-CRLfile", "a.crl", "a.crt").stderr)
        self.assertIn("state: revoked", self.mfserver("certs", "show", serial))

    def test_wrong_server(self) -> None:
        """A server that the authority did not certify gets no token, and one line says why."""
        self.ok(
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=x",
            "-keyout",
            "/dev/null",
            "-out",
            "ca.crt",
        )
        done = self.run_(sys.executable, "-c", "from mfserver.cli.main import main; main()", "certs", "list")
        self.assertEqual((1, 1), (done.returncode, len(done.stderr.splitlines())), done.stderr)
        self.assertIn("--ca-file", done.stderr)
