"""Which build runs: every test run proves that it is about the one that was asked for."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import ModuleInfo, walk_packages
from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

import mfserver
from mfserver.build import BUILD, MYPYC, PURE, build_of
from tests.builds import EXPECTED

ROOT = Path(mfserver.__file__).parent
#: The whole way of a message.
HOT = {
    "mfserver.budget",
    "mfserver.message",
    "mfserver.topic",
    "mfserver.turn",
    *(f"mfserver.adapters.mqtt{part}" for part in ("", "_adapter", "_answers", "_client")),
    *(f"mfserver.adapters.mqtt_{part}" for part in ("connect", "messages", "topics", "unread")),
    *(f"mfserver.mqtt.{path.stem}" for path in ROOT.glob("mqtt/[!_]*.py")),
    *(f"mfserver.routing.{part}" for part in ("bus", "feeding", "journal", "queue", "reading")),
    *(f"mfserver.routing.{part}" for part in ("router", "session", "shared", "tree")),
    *(f"mfserver.tls.{part}" for part in ("carrier", "poller", "transport")),
}


class BuildTests(SynchronousTestCase):
    """MFSERVER_MYPYC=1 asks for the compiled build."""

    def test_the_build_that_runs_is_the_one_that_was_asked_for(self) -> None:
        """All hot modules are compiled and no other one is, or none is."""
        compiled = {module.name for module in walk_packages([str(ROOT)], "mfserver.") if _is_compiled(module)}
        self.assertEqual(HOT if EXPECTED == MYPYC else set(), compiled)
        self.assertGreater(len(HOT), 35)
        self.assertEqual(EXPECTED, BUILD)

    def test_what_is_compiled_is_what_runs(self) -> None:
        """Each hot module is loaded from what was compiled."""
        found = {name: build_of(import_module(name)) for name in HOT}
        self.assertEqual(dict.fromkeys(HOT, EXPECTED), found)

    def test_where_a_module_was_loaded_from_tells(self) -> None:
        for path, build in (
            ("/x/message.py", PURE),
            ("/x/__pycache__/message.cpython-311.pyc", PURE),
            ("/x/message.cpython-311-x86_64-linux-gnu.so", MYPYC),
        ):
            self.assertEqual(build, build_of(SimpleNamespace(__file__=path)), path)


def _is_compiled(module: ModuleInfo) -> bool:
    """Whether Python would load machine code for it."""
    spec = find_spec(module.name)
    assert spec is not None
    return build_of(SimpleNamespace(__file__=spec.origin)) == MYPYC
