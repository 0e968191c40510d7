"""Every way in which a certificate names its thing, in every state of its life, on every protocol."""

import os
import socket
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.certificates_matrix import MATRICES, expectations
from tests.interop.certificates_rows import SITUATIONS, matrix_rows
from tests.interop.certificates_table import show_matrix
from tests.interop.certificates_world import matrix_world
from tests.interop.identity_world import run_rows


class CertificateMatrixTests(SynchronousTestCase):
    """One server for the whole table; all that went wrong is told at once."""

    def setUp(self) -> None:
        """Failed keys are counted for each address, so every attempt comes from one of its own."""
        try:
            with socket.socket() as probe:
                probe.bind(("127.1.0.1", 0))
        except OSError as error:
            if os.environ.get("MF_NO_SKIPS"):
                raise
            raise SkipTest("this system has only one address of its own (127.0.0.1)") from error

    def test_no_situation_is_left_out(self) -> None:
        """What stands in the tables is tried, and what is tried stands there."""
        stands = {each.situation for option in MATRICES for each in expectations(option)}
        self.assertEqual(set(SITUATIONS), stands)

    def test_matrix(self) -> None:
        """Every situation, with a server that has no option."""
        self.check("")

    def test_certificate_only(self) -> None:
        """On MQTT a certificate in which no key stands is enough, and WSS stays as it is."""
        self.check("--certificate-only")

    def test_fewer_identities(self) -> None:
        """What an option leaves out is as if it were absent, but that what is revoked stays revoked."""
        for option in MATRICES:
            if "identity" in option:
                self.check(option)

    def check(self, option: str) -> None:
        """No wrong cell, nobody heard who should not be, and no secret in the server's log."""
        with matrix_world(*filter(None, [option])) as world:
            expected, rows = zip(*matrix_rows(world, option), strict=True)
            played = run_rows(rows, 100)
            show_matrix(option, zip(expected, (outcome for _, outcome in played), strict=True))
            wrong = [
                f"{row.protocol}: {row.trick}: {outcome!r} and not {row.expected!r}"
                for row, outcome in played
                if outcome != row.expected
            ]
            self.assertEqual([], wrong, f"{len(wrong)} of {len(rows)} attempts\n" + "\n".join(wrong))
            world.hear_all()
            self.assertEqual([], world.ear.forbidden)
            log = world.server.log
            for secret in (*world.secrets(), "PRIVATE KEY", "Traceback", "Unhandled"):
                self.assertNotIn(secret, log)
