"""Which build runs: every test run proves that it is about the one that was asked for."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

import mfserver
from mfserver.build import BUILD, MYPYC, PURE, build_of
from tests.builds import EXPECTED

ROOT = Path(mfserver.__file__).parent
HOT = (
    "message",
    "topic",
    "routing.tree",
    *(f"mqtt.{path.stem}" for path in sorted(ROOT.glob("mqtt/[!_]*.py"))),
)


class BuildTests(SynchronousTestCase):
    """MFSERVER_MYPYC=1 asks for the compiled build."""

    def test_the_build_that_runs_is_the_one_that_was_asked_for(self) -> None:
        """All hot modules are compiled, or none is."""
        self.assertGreater(len(HOT), 15)
        found = {name: build_of(import_module(f"mfserver.{name}")) for name in HOT}
        self.assertEqual(dict.fromkeys(HOT, EXPECTED), found)
        self.assertEqual(EXPECTED, BUILD)

    def test_what_is_not_hot_is_never_compiled(self) -> None:
        for name in ("errors", "routing.router", "adapters.mqtt", "mqtt"):
            self.assertEqual(PURE, build_of(import_module(f"mfserver.{name}")), name)

    def test_where_a_module_was_loaded_from_tells(self) -> None:
        for path, build in (
            ("/x/message.py", PURE),
            ("/x/__pycache__/message.cpython-311.pyc", PURE),
            ("/x/message.cpython-311-x86_64-linux-gnu.so", MYPYC),
        ):
            self.assertEqual(build, build_of(SimpleNamespace(__file__=path)), path)
