"""What docs/certificates.rst prints, run word for word: by curl, by ``mfserver certs``, and by a device.

And what README.rst prints of certificates.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.client_case import deployment_of
from tests.interop.running import PATIENCE, ROOT, needs

TEXT = (ROOT / "docs/certificates.rst").read_text()
README = (ROOT / "README.rst").read_text()


def script(title: str, page: str = TEXT) -> str:
    """The one code block of a section."""
    section = re.split(r"(?m)^[~-]{3,}$", page.split(f"\n{title}\n", 1)[1])[1]
    (block,) = re.findall(r"^\.\. code:: sh\n\n((?:    .*\n|\n)+)", section, re.M)
    return re.sub(r"^    ", "", block, flags=re.M)


class CertificatesTests(SynchronousTestCase):
    """Each block in a directory of its own, in a shell that stops at the first mistake."""

    timeout = 100

    def setUp(self) -> None:
        needs("awk", "curl", "openssl")
        self.deployment = deployment_of("x509")
        self.thing, self.key = self.deployment.thing("device", "weather")
        self.directory = Path(tempfile.mkdtemp(prefix="mf-device-"))
        self.addCleanup(shutil.rmtree, self.directory)

    def run_block(self, title: str, path: str, page: str = TEXT) -> tuple[str, str]:
        """Run a section's block. :return: what it printed, and its errors."""
        server = self.deployment.server
        environment = {
            "PATH": path,
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "API": f"https://localhost:{server.port('https')}",
            "CA": server.ca,
            "TOKEN": self.deployment.token,
            "THING": self.thing,
            "SENDER": self.thing,
            "MF_URL": f"https://localhost:{server.port('https')}",
            "CHANNEL": self.deployment.channels["weather"],
        }
        done = subprocess.run(
            ["/bin/sh", "-eu", "-c", script(title, page)],
            cwd=self.directory,
            env=environment,
            capture_output=True,
            text=True,
            timeout=5 * PATIENCE,
        )
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        return done.stdout, done.stderr

    def states(self) -> list[str]:
        """The thing's certificates, the youngest first."""
        page = self.deployment.server.json("GET", f"/certs/{self.thing}", token=self.deployment.token)
        return [f"{one['state']} {one.get('reason', '')}".strip() for one in page["certs"]]

    def check_secret(self, *names: str) -> None:
        """Keys are nobody else's to read."""
        for name in names:
            self.assertEqual(0o600, (self.directory / name).stat().st_mode & 0o777, name)

    def test_device(self) -> None:
        """With nothing on its PATH but openssl, curl and awk."""
        programs = self.directory / "bin"
        programs.mkdir()
        for name in "awk", "curl", "openssl":
            found = shutil.which(name)
            assert found is not None
            (programs / name).symlink_to(found)
        title = "A device that has only openssl and curl"
        printed, errors = self.run_block(title, str(programs))
        answers = ["202", "202", "202", "000", "refused: it is revoked", "000", "refused: it is revoked"]
        self.assertEqual(answers, printed.splitlines()[:7], printed + errors)
        self.assertEqual("and openssl agrees", printed.splitlines()[-1])
        self.assertIn("certificate revoked", printed + errors)
        self.assertEqual(["revoked keyCompromise", "revoked unspecified"], self.states())
        self.check_secret("device.key", "renewed.key")
        leaf = x509.load_pem_x509_certificates((self.directory / "renewed.crt").read_bytes())[0]
        self.assertEqual(f"CN={self.thing}", leaf.subject.rfc4514_string())
        self.assertNotIn(self.key.encode(), leaf.public_bytes(Encoding.DER))

    def test_curl(self) -> None:
        """Issued, used, listed, renewed, revoked."""
        printed, _ = self.run_block("With curl", os.environ["PATH"])
        self.assertIn('"total":1,', printed)
        self.assertIn('"reason":"superseded"', printed)
        self.assertEqual(["active", "revoked superseded"], self.states())
        self.check_secret("sender.key", "issued.json")

    def test_commands(self) -> None:
        """The same, with ``mfserver certs``."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        printed, _ = self.run_block("With ``mfserver certs``", path)
        serial = x509.load_pem_x509_certificate((self.directory / "sender.crt").read_bytes()).serial_number
        self.assertIn(f"{serial:x}  {self.thing}  active", printed)
        self.assertIn(f"Serial Number: {serial:032X}", printed.split("Revoked Certificates:")[1])
        self.assertGreaterEqual(printed.count("Next: "), 4)
        self.assertEqual(["active", "revoked superseded"], self.states())
        self.check_secret("sender.key")

    def test_readme(self) -> None:
        """The beginning, where somebody runs a clone."""
        (self.directory / ".venv").symlink_to(sys.prefix)
        (self.directory / "mainflux-data").symlink_to(self.deployment.server.data_dir)
        printed, _ = self.run_block("Certificates", os.environ["PATH"], README)
        self.assertIn(f"{self.thing}  active", printed)
        self.check_secret("sender.key")
