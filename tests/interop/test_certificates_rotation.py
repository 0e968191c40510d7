"""New certificate files under load: no message and no connection is lost, and who comes sees the new ones.

``MF_ROTATED`` chooses how many connections publish.
"""

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from mfserver.ca.x509 import encode_certificate, encode_key, issue_server, name, new_key
from tests.interop.certificate_lines import Certificate, Line, milliseconds, spread
from tests.interop.identity_certificates import Authority, Identity
from tests.interop.identity_clients import Closed, Stream
from tests.interop.identity_world import HTTPS, MQTTS, Thing, World
from tests.interop.mqtt_figures import add_figures, chosen
from tests.interop.running import wait_until

ROTATIONS: Final = 10
#: How many clients publish at the same moment.
SPEAKERS: Final = 4
#: Seconds that new files may take to be seen without a signal: they are looked at every two.
LOOKED_AT: Final = 8.0


class Speakers:
    """Lets every line publish, one after another and all over again, until it is stopped.

    :ivar took: seconds from each PUBLISH to its PUBACK, or from each request to its answer.
    :ivar wrong: what went wrong.
    """

    def __init__(self, lines: list[Line]) -> None:
        self.took: list[float] = []
        self.wrong: list[str] = []
        self._stop = threading.Event()
        parts = [lines[number::SPEAKERS] for number in range(SPEAKERS)]
        self._threads = [threading.Thread(target=self._speak, args=(part,)) for part in parts]
        for thread in self._threads:
            thread.start()

    def _speak(self, lines: list[Line]) -> None:
        alive = list(lines)
        while alive and not self._stop.is_set():
            for line in list(alive):
                started = time.monotonic()
                try:
                    line.speak()
                except (AssertionError, Closed, OSError) as error:
                    self.wrong.append(f"{line.spoken.name}: {type(error).__name__}: {error}")
                    alive.remove(line)
                self.took.append(time.monotonic() - started)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)


class RotationTests(SynchronousTestCase):
    """Server certificate, key, trust roots and a revocation list, all of them ten times."""

    timeout = 300

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mf-rotation-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.pki = self.directory / "data" / "pki"
        self.old = Authority.new(name("old root"), self.directory, str(self.pki / "ca.crt"))
        self.roots, self.list = self.directory / "roots.pem", self.directory / "list.pem"
        self.revoked: list[Identity] = []
        self.roots.write_bytes(encode_certificate(self.old.certificate))
        self.list.write_bytes(self.revocation_list())
        self.world = World(f"--ca={self.roots}", f"--crl={self.list}", auth="x509", authority=self.old)
        self.addCleanup(self.world.close)
        self.addCleanup(self.world.server.kill)
        self.server = Authority.load(self.pki, self.directory)
        self.shown = (self.pki / "mainflux-server.crt").read_bytes()

    # --- files ---

    def revocation_list(self) -> bytes:
        """What the old root has revoked, by today."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder(
            self.old.certificate.subject, now, now + timedelta(days=1)
        )
        for each in self.revoked:
            assert each.leaf is not None
            one = x509.RevokedCertificateBuilder(each.leaf.serial_number, now).build()
            builder = builder.add_revoked_certificate(one)
        return builder.sign(self.old.key, SHA256()).public_bytes(Encoding.PEM)

    def server_files(self) -> tuple[bytes, bytes]:
        """A fresh certificate of the server, and its key."""
        key, now = new_key(), datetime.now(UTC)
        own = self.server
        certificate = issue_server(
            key.public_key(), name("localhost"), ["localhost"], own.certificate, own.key, now, timedelta(30)
        )
        return encode_certificate(certificate), encode_key(key)

    def replace(self, file: Path, content: bytes) -> None:
        """Put a whole new file in the place of an old one."""
        new = file.with_suffix(".new")
        new.write_bytes(content)
        new.replace(file)

    def hang_up(self) -> None:
        """Ask the server to read its files."""
        os.kill(self.world.server.process.pid, signal.SIGHUP)

    # --- what new handshakes see ---

    def sees(self, thing: Thing) -> set[bytes]:
        """The server's certificate on each TLS listener. :raises Closed: the thing is not let in."""
        seen = set()
        for spoken in HTTPS, MQTTS[2]:
            line = Line(self.world, spoken, Certificate("", thing, "1.3"))
            der = line.stream.tls.getpeercert(binary_form=True)
            line.stream.close()
            assert der is not None
            seen.add(encode_certificate(x509.load_der_x509_certificate(der)))
        return seen

    def is_refused(self, thing: Thing) -> bool:
        """Whether nobody is let in with a certificate."""
        stream = None
        try:
            stream = Stream(self.world.server.port("https"), self.world.source(), thing.identity.tls())
            stream.exchange("GET", "/health")
        except Closed:
            return True
        finally:
            if stream is not None:
                stream.close()
        return False

    def thing_of(self, authority: Authority, thing: Thing) -> Thing:
        """The same thing with a certificate of another authority."""
        return thing._replace(identity=authority.client(thing.key))

    # --- the tests ---

    def test_under_load(self) -> None:
        """No error and no drop; who was revoked or lost its root is gone, and the next handshake is new."""
        count = chosen("MF_ROTATED", 50)
        things = [self.world.thing("weather") for _ in range(10)]
        lines = list(spread(self.world, [Certificate("", thing, "1.3") for thing in things], count))
        speakers = Speakers(lines)
        self.addCleanup(speakers.stop)
        seen: list[float] = []
        refused = 0
        before: Authority | None = None
        for number in range(ROTATIONS):
            new = Authority.new(name(f"root {number}"), self.directory, str(self.pki / "ca.crt"))
            seen.append(self.rotate(new, by_signal=number % 2 == 0))
            refused += before is not None and self.is_refused(self.thing_of(before, self.world.own))
            before = new
            if number % 3 == 0:
                self.spoil(number // 3)
        speakers.stop()
        self.assertEqual([], speakers.wrong)
        self.assertEqual(ROTATIONS - 1, refused, "a root that was taken away is trusted still")
        for line in lines:
            line.speak()
            line.stream.close()
        took = sorted(speakers.took)
        self.assertGreater(len(took), count * 3, "there was no load")
        add_figures(
            f"{ROTATIONS} rotations of server certificate, key, trust roots and revocation list while {count}"
            f" connections publish: {len(took):,} messages, all acknowledged, and no connection dropped",
            *milliseconds(
                "from a message to its acknowledgement, and from new files to a handshake that sees them:",
                {"messages": took, "new files, SIGHUP": seen[::2], "new files, no signal": seen[1::2]},
            ),
        )
        self.assert_quiet()

    def rotate(self, new: Authority, *, by_signal: bool) -> float:
        """Exchange every file, and wait until it is seen. :return: how many seconds that took."""
        stolen = self.thing_of(self.old, self.world.own)
        line = Line(self.world, MQTTS[2], Certificate("", stolen, "1.3"))
        self.revoked.append(stolen.identity)
        self.assertFalse(self.is_refused(stolen))
        of_new = self.thing_of(new, self.world.victim)
        self.assertTrue(self.is_refused(of_new))
        both = encode_certificate(self.old.certificate) + encode_certificate(new.certificate)
        certificate, key = self.server_files()
        self.replace(self.list, self.revocation_list())
        self.replace(self.roots, both)
        self.replace(self.pki / "mainflux-server.key", key)
        self.replace(self.pki / "mainflux-server.crt", certificate)
        since = time.monotonic()
        if by_signal:
            self.hang_up()
        patience = 2.0 if by_signal else LOOKED_AT
        wait_until(lambda: self.sees(self.world.victim) == {certificate}, "the new certificate", patience)
        took = time.monotonic() - since
        self.shown = certificate
        self.assertEqual({certificate}, self.sees(of_new), "the new root's things are not let in")
        wait_until(lambda: self.is_refused(stolen), "the new list counts", patience)
        self.assertEqual("", line.hear_the_end())
        return took

    def spoil(self, which: int) -> None:
        """Put a bad file there, which changes nothing but the log."""
        certificate, key = self.server_files()
        stranger = Authority.new(name("nobody's root"), self.directory, str(self.pki / "ca.crt"))
        now = datetime.now(UTC)
        forged = (
            x509.CertificateRevocationListBuilder(self.old.certificate.subject, now, now + timedelta(1))
            .sign(stranger.key, SHA256())
            .public_bytes(Encoding.PEM)
        )
        kinds: list[tuple[Path, bytes, str]] = [
            (self.pki / "mainflux-server.crt", certificate[: len(certificate) // 2], "TLS stays as it was"),
            (self.pki / "mainflux-server.key", key, "TLS stays as it was"),
            (self.roots, b"", "TLS stays as it was"),
            (self.list, forged, "the revocation lists stay as they were"),
        ]
        file, bad, words = kinds[which]
        good = file.read_bytes()
        told: Callable[[], int] = lambda: self.world.server.log.count(words)  # noqa: E731
        before = told()
        self.replace(file, bad)
        self.hang_up()
        wait_until(lambda: told() > before, f"{file.name}: {words}")
        self.assertEqual({self.shown}, self.sees(self.world.victim))
        self.assertTrue(self.is_refused(self.world.own._replace(identity=self.revoked[-1])))
        self.replace(file, good)
        self.hang_up()

    def assert_quiet(self) -> None:
        log = self.world.server.log
        self.assertNotIn("Traceback", log)
        self.assertNotIn("Unhandled", log)
