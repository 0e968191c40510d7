"""The server that runs says which build it is."""

import json
import urllib.request

from twisted.trial.unittest import SynchronousTestCase

from mfserver import __version__
from tests.builds import EXPECTED
from tests.interop.running import PATIENCE, RunningServer


class BuildTests(SynchronousTestCase):
    """A process of its own, started as users do."""

    def test_version_and_log(self) -> None:
        """``/version`` has what Mainflux's has, and the build besides; the log has it when all is up."""
        with RunningServer() as server:
            port = server.listening["http"][1]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=PATIENCE) as answer:
                told = json.load(answer)
            log = server.log
        self.assertEqual({"service": "things", "version": __version__, "build": EXPECTED}, told)
        self.assertIn(f"mfserver {__version__} ({EXPECTED}) is ready", log)
