"""Who may import whom: DESIGN's table, held against every import in mfserver.

Arrows only go down. A room is a module or a package; the longest name in the table that begins a module's
name decides. A room may always import itself, ``mfserver`` itself (the version) and the standard library.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

import mfserver

ROOT = Path(mfserver.__file__).parent


class Room(NamedTuple):
    """What a room may import besides itself and the standard library."""

    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()


VOCABULARY = (
    "address",
    "budget",
    "build",
    "certificates",
    "durable",
    "errors",
    "message",
    "ownership",
    "records",
    "route",
    "topic",
)
ROW_0 = (*VOCABULARY, "coap", "mqtt", "routing.tree", "senml")
ROW_1 = (*ROW_0, "interfaces")
#: What row 3 is handed, and may name the types of.
SERVED = (*ROW_1, "cred", "routing.router", "routing.sessions", "tls.peer", "turn")
TWISTED = ("twisted", "zope")

TABLE: dict[str, Room] = {
    # row 0
    "mfserver": Room(),
    **{f"mfserver.{name}": Room(VOCABULARY) for name in VOCABULARY},
    "mfserver.mqtt": Room(),
    "mfserver.coap": Room(),
    "mfserver.senml": Room((), ("cbor2", "msgspec")),
    "mfserver.routing.tree": Room(),
    # row 1
    "mfserver.interfaces": Room(ROW_0, ("zope.interface",)),
    # row 2: they do not know each other
    "mfserver.cred": Room(ROW_1, (*TWISTED, "argon2", "jwt")),
    "mfserver.ca": Room(ROW_1, (*TWISTED, "cryptography")),
    "mfserver.provisioning": Room(ROW_1, (*TWISTED, "msgspec")),
    "mfserver.routing": Room(ROW_1, TWISTED),
    "mfserver.tls": Room((*ROW_1, "turn"), (*TWISTED, "OpenSSL", "cryptography")),
    "mfserver.store": Room(ROW_1, (*TWISTED, "sqlalchemy", "alembic", "msgspec")),
    "mfserver.repeats": Room((), ("twisted",)),
    "mfserver.data_directory": Room(VOCABULARY),
    "mfserver.settings": Room(VOCABULARY),
    "mfserver.turn": Room((), ("twisted",)),
    # row 3
    "mfserver.adapters": Room(SERVED, (*TWISTED, "autobahn")),
    "mfserver.api": Room((*SERVED, "provisioning", "ca"), (*TWISTED, "msgspec", "prometheus_client")),
    "mfserver.console": Room(SERVED, TWISTED),
    # row 4: the wiring
    "mfserver.trust": Room(
        (*ROW_1, "ca", "tls", "data_directory", "settings"),
        TWISTED,
    ),
    "mfserver.service": Room(
        (
            *SERVED,
            *("adapters", "api", "ca", "console", "provisioning", "routing", "store", "tls"),
            *("data_directory", "repeats", "settings", "trust"),
        ),
        TWISTED,
    ),
    # row 5
    "mfserver.tap": Room(("service", "settings", "errors"), ("twisted",)),
    "mfserver.cli": Room(("ca", "errors"), ("click", "treq", "twisted")),
    # row 6
    "twisted.plugins.mainflux": Room((), ("twisted.application.service",)),
}

#: Of the adapters, no protocol imports another's; what is named after none of them they share.
PROTOCOLS = ("coap", "http", "mqtt", "ws")


class Import(NamedTuple):
    """One name that a module imports."""

    line: int
    name: str
    typing_only: bool


def module_name(path: Path) -> str:
    """The dotted name of a file under the root."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str) -> Iterator[Import]:
    """Every import of a module, however deep it stands."""
    tree = ast.parse(source)
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            names = [f"{start}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield Import(node.lineno, name, id(node) in typing_only)


def within(name: str, room: str) -> bool:
    """Whether a dotted name is a room, or in it."""
    return name == room or name.startswith(room + ".")


def room_of(module: str) -> str | None:
    """The room that a module belongs to."""
    return max((room for room in TABLE if within(module, room)), key=len, default=None)


def protocol_of(module: str) -> str | None:
    """The protocol of an adapter's module: of ``mqtt_ws`` it is ``mqtt``."""
    if not module.startswith("mfserver.adapters."):
        return None
    word = module.split(".")[2].split("_")[0]
    return word if word in PROTOCOLS else None


def violation(module: str, imported: Import) -> str | None:
    """What is wrong with an import, or None."""
    name = imported.name
    wrong = f"{module}:{imported.line} may not import {name}"
    room = room_of(module)
    if room is None or name.startswith("."):
        return wrong
    if name in ("twisted.internet.reactor", "twisted.internet") and module != "mfserver.tap":
        return wrong + ": a reactor is an argument"
    if not within(name, "mfserver"):
        allowed = TABLE[room].theirs
        if room == "mfserver.interfaces" and imported.typing_only:
            allowed = (*allowed, "twisted.internet.defer")
        known = name.split(".")[0] in sys.stdlib_module_names or any(within(name, lib) for lib in allowed)
        return None if known else wrong
    protocols = {protocol_of(module), protocol_of(name)} - {None}
    if len(protocols) > 1:
        return wrong
    if name in ("mfserver", "mfserver.__version__"):
        return None
    target = room_of(name)
    if target == room and room != "mfserver":
        return None
    # "routing" allows "routing.tree"; "routing.router" allows nothing else of routing.
    return None if any(within(name, f"mfserver.{ours}") for ours in TABLE[room].ours) else wrong


def violations(module: str, source: str) -> list[str]:
    """Everything that is wrong with a module's imports."""
    return [wrong for imported in imports(source) if (wrong := violation(module, imported)) is not None]


class ImportTests(SynchronousTestCase):
    def test_every_import_stands_in_the_table(self) -> None:
        files = sorted(ROOT.rglob("*.py"))
        self.assertGreater(len(files), 20)
        wrong = [line for path in files for line in violations(module_name(path), path.read_text())]
        plugin = ROOT.parent / "twisted" / "plugins" / "mainflux.py"
        wrong += violations("twisted.plugins.mainflux", plugin.read_text())
        self.assertEqual(wrong, [])

    def test_every_module_has_a_room(self) -> None:
        """A new package at the top needs a row before it needs anything else."""
        tops = [path for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
        homeless = [
            path.name
            for path in tops
            if path.stem != "__init__" and room_of(f"mfserver.{path.stem}") == "mfserver"
        ]
        self.assertEqual(homeless, [])

    def test_wrong_rows_are_found(self) -> None:
        """Each of these, put into the module before it, makes this test fail."""
        for module, source in (
            ("mfserver.topic", "import mfserver.interfaces"),
            ("mfserver.topic", "from mfserver import interfaces"),
            ("mfserver.topic", "import zope.interface"),
            ("mfserver.topic", "from twisted.internet.defer import Deferred"),
            ("mfserver.topic", "from .errors import Invalid"),
            ("mfserver.mqtt.decode", "from mfserver.errors import Invalid"),
            ("mfserver.mqtt.decode", "def f() -> None:\n    import twisted"),
            ("mfserver.routing.tree", "from mfserver.interfaces import ISubscriber"),
            ("mfserver.routing.tree", "from mfserver.routing.router import Router"),
            ("mfserver.interfaces", "from twisted.internet.defer import Deferred"),
            ("mfserver.interfaces", "if True:\n    from twisted.internet.defer import Deferred"),
            ("mfserver.cred.access", "from mfserver.store.things import Things"),
            ("mfserver.cred.access", "from mfserver.tls import peer"),
            ("mfserver.cred.access", "import sqlalchemy"),
            ("mfserver.cred.access", "from twisted.internet import reactor"),
            ("mfserver.routing.router", "import mfserver.cred"),
            ("mfserver.store.things", "from mfserver.provisioning.things import Things"),
            ("mfserver.adapters.http", "from mfserver.store.store import Store"),
            ("mfserver.adapters.http", "from mfserver.tls.context import ServerContext"),
            ("mfserver.adapters.http", "from mfserver.routing.bus import LocalBus"),
            ("mfserver.adapters.http", "from mfserver.adapters.ws import WSAdapter"),
            ("mfserver.adapters.http", "from mfserver.adapters import mqtt"),
            ("mfserver.adapters.http", "from mfserver.api.site import routes"),
            ("mfserver.adapters.mqtt_ws", "from mfserver.adapters.ws import WSAdapter"),
            ("mfserver.api.things", "from mfserver.store.store import Store"),
            ("mfserver.api.things", "from mfserver.adapters.claims import request_claims"),
            ("mfserver.api.things", "from mfserver.service import MainfluxService"),
            ("mfserver.service", "from mfserver.tap import Options"),
            ("mfserver.service", "import sqlalchemy"),
            ("mfserver.tap", "from mfserver.store.store import Store"),
            ("mfserver.cli.main", "from mfserver.service import MainfluxService"),
            ("mfserver.newroom", "from mfserver.errors import Invalid"),
            ("mfserver", "from mfserver.errors import Invalid"),
            ("twisted.plugins.mainflux", "import mfserver.tap"),
        ):
            with self.subTest(module=module, source=source):
                self.assertEqual(len(violations(module, source)), 1)

    def test_right_rows_are_not(self) -> None:
        for module, source in (
            ("mfserver.topic", "import re\nfrom mfserver.errors import Invalid"),
            ("mfserver.mqtt.decode", "from mfserver.mqtt import constants"),
            (
                "mfserver.interfaces",
                "if TYPE_CHECKING:\n    from twisted.internet.defer import Deferred\nimport zope.interface",
            ),
            ("mfserver.cred.access", "from mfserver.interfaces import IThing\nimport jwt"),
            ("mfserver.routing.router", "from mfserver.routing.tree import Options"),
            ("mfserver.adapters.http", "from mfserver.routing.tree import Options"),
            ("mfserver.adapters.mqtt_ws", "from mfserver.adapters.mqtt import MQTTAdapter"),
            ("mfserver.adapters.ws", "from mfserver.adapters.claims import request_claims"),
            ("mfserver.api.things", "from mfserver import __version__"),
            ("mfserver.service", "from mfserver.adapters.ws import WSAdapter"),
            ("mfserver.tap", "def f() -> None:\n    from twisted.internet import reactor"),
        ):
            with self.subTest(module=module, source=source):
                self.assertEqual(violations(module, source), [])
