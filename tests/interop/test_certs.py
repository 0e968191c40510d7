"""The life of a certificate as its owner has it at a shell; a device's is in test_device."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.client_case import deployment_of
from tests.interop.running import PATIENCE, Deployment, RunningServer, needs


class CertificateCase(SynchronousTestCase):
    """A server that wants certificates, a thing, and an empty directory."""

    timeout = 120

    def setUp(self) -> None:
        needs("openssl", "curl")
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
            command,
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def ok(self, *command: str) -> str:
        done = self.run_(*command)
        self.assertEqual(0, done.returncode, (command, done.stdout, done.stderr))
        return done.stdout


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


class CertificateOnlyTests(SynchronousTestCase):
    """--certificate-only, --identity and --certificate-days, as mosquitto_pub meets them."""

    timeout = 120

    def publish(self, deployment: Deployment, name: str, *options: str, **order: str) -> int:
        """Have a certificate issued and publish with it. :return: the exit status."""
        thing, _ = deployment.thing(name, "weather")
        server = deployment.server
        status, _, content = server.request("POST", "/certs", {"thing_id": thing, **order}, deployment.token)
        self.assertEqual(201, status, content)
        shown = json.loads(content)
        directory = Path(tempfile.mkdtemp(prefix="mf-certs-"))
        self.addCleanup(shutil.rmtree, directory)
        for ending in "cert", "cert_key":
            (directory / ending).write_text(shown[ending])
        return subprocess.run(
            [
                *("mosquitto_pub", "-V", "mqttv5", "-h", "localhost", "-p", str(server.port("mqtts"))),
                *("--cafile", server.ca, "--cert", directory / "cert", "--key", directory / "cert_key"),
                *("-t", f"channels/{deployment.channels['weather']}/messages", "-q", "1", "-m", "x"),
                *(option.format(thing=thing, key=deployment.things[name][1]) for option in options),
            ],
            capture_output=True,
            timeout=PATIENCE,
        ).returncode

    def test_certificate_only(self) -> None:
        """Off, user name and key must come too; on, the certificate is enough, and a wrong key is none."""
        needs("mosquitto_pub")
        both = ("-u", "{thing}", "-P", "{key}")
        off = deployment_of("x509")
        self.assertNotEqual(0, self.publish(off, self.id()))
        self.assertEqual(0, self.publish(off, self.id() + "-both", *both))
        with RunningServer("--certificate-only", "--certificate-days=3", auth="x509") as server:
            on = Deployment(server)
            self.assertEqual(0, self.publish(on, "alone"))
            self.assertEqual(0, self.publish(on, "both", *both))
            self.assertNotEqual(0, self.publish(on, "wrong", "-u", "{thing}", "-P", "not-its-own-key-at-all"))

    def test_identity(self) -> None:
        """What is not on the list names nobody, though it is there."""
        needs("mosquitto_pub")
        both = ("-u", "{thing}", "-P", "{key}")
        with RunningServer("--identity=cn", auth="x509") as server:
            narrowed = Deployment(server)
            self.assertNotEqual(0, self.publish(narrowed, "by-id", *both))
            self.assertEqual(0, self.publish(narrowed, "by-key", *both, cn="key"))
