"""What the documentation says is so: options, numbers, and the names of files and options it mentions."""

import inspect
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mfserver import service, trust
from mfserver.adapters import claims, mqtt, mqtt_client, mqtt_unread, mqtt_ws, websocket
from mfserver.api import call, metrics, server, site
from mfserver.ca import authority, crl, ending, keys
from mfserver.ca.renewal import RENEW_BEFORE
from mfserver.certificates import REASONS
from mfserver.cli.authority import ca
from mfserver.cli.certs import certs
from mfserver.cred import passwords, tokens
from mfserver.cred.attempts import Attempts
from mfserver.mqtt import connection, decode, properties
from mfserver.mqtt.limits import Limits
from mfserver.provisioning import certificates, connections, fields
from mfserver.records import MAX_NAME, MAX_PAGE
from mfserver.routing import router
from mfserver.settings import DEFAULT_PORTS, Settings
from mfserver.store import database
from mfserver.tap import Options
from mfserver.tls import carrier, context, limit, poller, port, transport
from mfserver.tls.listen import listen
from mfserver.topic import MAX_BYTES, MAX_LEVELS

ROOT = Path(__file__).resolve().parents[1]
DOCS = {path.name: path.read_text() for path in [*(ROOT / "docs").glob("*.rst"), ROOT / "README.rst"]}
#: Files that a server or a make target makes; they are in no clone.
MADE = ("mainflux-data/", "docker/ssl/certs", "pki/")


def rows(text: str, title: str) -> list[list[str]]:
    """The rows of the first list-table after a title, each cell on one line."""
    table = text.split(f"\n{title}\n", 1)[1].split(".. list-table::", 1)[1]
    table = re.split(r"\n(?=\S)", table, maxsplit=1)[0]
    found = []
    for row in re.split(r"\n   \* - ", table)[2:]:
        found.append([" ".join(cell.split()) for cell in re.split(r"\n     - ", row)])
    return found


def default(function: object, name: str) -> object:
    """The default of a parameter."""
    assert callable(function)
    return inspect.signature(function).parameters[name].default


class OptionTests(SynchronousTestCase):
    """``docs/operation.rst`` lists the options of ``twistd mainflux``, all and no others."""

    def setUp(self) -> None:
        self.documented = {row[0].strip("`"): row[1:] for row in rows(DOCS["operation.rst"], "Options")}
        options = Options()
        self.known = {f"--{name}" for name in options if name not in ("version", "help")}

    def test_every_option_and_no_other(self) -> None:
        """What ``--help`` lists."""
        self.assertEqual(self.known, set(self.documented))

    def test_environment(self) -> None:
        """``MF_`` and the name in capitals; AUTH besides."""
        for option, (variables, *_) in self.documented.items():
            expected = "MF_" + option[2:].upper().replace("-", "_")
            self.assertIn(f"``{expected}``", variables)
            self.assertEqual(option == "--auth", "``AUTH``" in variables)

    def test_defaults(self) -> None:
        """Those of the settings, and what ``--help`` says."""
        settings = Settings()
        for option, (_, said, _) in self.documented.items():
            name = option[2:]
            value = DEFAULT_PORTS.get(name, getattr(settings, name.replace("-", "_"), None))
            if isinstance(value, bool):
                value = "on" if value else "off"
            if isinstance(value, int | str):
                self.assertIn(f"{value}``", said, option)
        for long, _, _, text in Options.optParameters:
            assert long is not None and text is not None
            found = re.search(r"\[default: ([^,\]]*)", text)
            assert found is not None, long
            first = re.split(" in |DIR/", found[1])
            self.assertIn(first[-1] if "DIR/" in text else first[0], self._plain(f"--{long}"), long)

    def _plain(self, option: str) -> str:
        said = self.documented[option][1].replace("`", "")
        return said + " sqlite" if option == "--database" else said

    def test_others_mentioned(self) -> None:
        """An option that any page mentions is one of ours, or of the program that stands before it."""
        others = {
            "--nodaemon",
            "--logfile",
            "--pidfile",
            "--uid",
            "--gid",
            "--help",
            "--version",
            "--cacert",
            "--cafile",
            "--crlfile",
        }
        commands = [*certs.commands.values(), *ca.commands.values()]
        others |= {each for command in commands for option in command.params for each in option.opts}
        for name, text in DOCS.items():
            prose = re.sub(r"(?m)^    .*(curl|mosquitto|python|docker).*$", "", text)
            for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", prose):
                self.assertIn(option, self.known | others, name)


class NumberTests(SynchronousTestCase):
    """Each row of the table of limits names the numbers that the code has."""

    def test_limits(self) -> None:
        """Every bound, as a number with commas."""
        limits, max_message = Limits(), Settings().max_message
        attempts, hash_pool = inspect.signature(Attempts).parameters, passwords.Passwords
        expected: dict[str, list[object]] = {
            "Payload": [max_message, limits.max_payload],
            "Connections in all": [
                Settings().max_connections,
                Settings().max_connections_per_address,
                limit._HEARD_IN_ALL,
                limit._HEARD_PER_ADDRESS,
            ],
            "Connections of one thing": [Settings().max_connections_per_thing],
            "TLS handshake": [default(listen, "handshake_timeout")],
            "Handshakes that": [poller._MOST_HANDSHAKES, port._MOST, poller._SLICE * 1000],
            "Records of TLS": [carrier._CRUMBS, carrier._AHEAD, context._STEPS],
            "Read of one TLS": [transport._RECORDS_READ, transport._BYTES_READ],
            "Request line": [
                server.BoundedChannel.maxHeaders,
                server.BoundedChannel.totalHeadersSize,
                server.HEADERS,
            ],
            "Body of a request": [server.MAX_BODY, server.BODY, server.BODY_RATE],
            "Body of an API": [call.MAX_JSON],
            "Idle HTTP": [server.IDLE],
            "WebSocket ping": [websocket._PING_INTERVAL, websocket._PING_TIMEOUT],
            "MQTT CONNECT": [limits.max_connect, limits.connect_timeout],
            "MQTT control packet": [limits.max_packet - limits.max_payload],
            "What one MQTT client sent": [
                mqtt._TURN * 1000,
                mqtt_unread.SLICE,
                connection._PACKETS,
                mqtt_unread._MOST,
            ],
            "QoS 1 and 2 messages of": [limits.receive_maximum],
            "QoS 2 messages": [mqtt_client._UNRELEASED * limits.receive_maximum],
            "QoS 1 and 2 messages that": [limits.send_quota],
            "Topic aliases": [limits.topic_alias_maximum],
            "Queue of one": [Settings().max_queued_messages, Settings().max_queued_bytes],
            "Time that": [Settings().max_session_expiry],
            "MQTT sessions": [Settings().max_sessions_per_thing],
            "Retained": [Settings().max_retained_messages, Settings().max_retained_bytes],
            "Bytes that wait": [service._MAX_QUEUED],
            "Subscriptions of": [
                service._MAX_SUBSCRIPTIONS,
                router._MEAN_LEVELS * service._MAX_SUBSCRIPTIONS,
            ],
            "Topic filters": [decode.MAX_TOPIC_FILTERS],
            "User properties": [properties.MAX_USER_PROPERTIES],
            "Topic$": [MAX_LEVELS, MAX_BYTES],
            "Content type": [claims._MAX_CONTENT_TYPE],
            "Requests and packets": [service._MAX_HELD],
            "Failed keys": [attempts["burst"].default, attempts["patience"].default],
            "Keys of RSA": [trust.MADE_WAITING, certificates._MADE_PER_ADDRESS, trust.MADE_AT_ONCE],
            "Passwords": [default(hash_pool, "queue")],
            "Writes and reads": [database.MAX_WAITING, database.MAX_SCANS],
            "One read": [database.READ_SECONDS],
            "Things or channels": [fields.MAX_BULK],
            "Pairs": [connections.MAX_PAIRS],
            "Entries": [MAX_PAGE],
            "Name; metadata": [
                MAX_NAME,
                fields.MAX_METADATA,
                fields.MAX_DEPTH,
                fields.MAX_EMAIL,
                fields.MIN_PASSWORD,
                fields.MAX_PASSWORD,
            ],
            "Login token": [tokens.LOGIN_SECONDS / 3600],
        }
        table = rows(DOCS["operation.rst"], "Limits")
        for begin, numbers in expected.items():
            row = next(row for row in table if re.match(begin, row[0]))
            for number in numbers:
                self.assertRegex(" ".join(row), rf"(?<![\d,]){float(str(number)):,.0f}(?!,?\d)", begin)

    def test_elsewhere(self) -> None:
        """Numbers in the prose."""
        operation, identity, life = DOCS["operation.rst"], DOCS["identity.rst"], DOCS["certificates.rst"]
        for text, said in (
            (operation, f"for {authority.CA_LIFETIME.days:,} days"),
            (operation, f"for {authority.SERVER_LIFETIME.days} days"),
            (operation, f"every {trust.WATCH_FILES:.0f} seconds"),
            (life, f"{certificates.DEFAULT_DAYS} days unless something else"),
            (life, f"at most {certificates.MAX_DAYS:,}"),
            (life, f"within {trust.WATCH_FILES:.0f} seconds"),
            (life, f"within {RENEW_BEFORE.days} days of its end"),
            (life, f"good for {crl.LIFETIME.days} days"),
            (life, "within {} days, {} days and {} day".format(*ending.BOUNDS)),
            (
                life,
                f"RSA ({', '.join(map(str, keys.KEY_BITS['rsa'][:-1]))} or {keys.KEY_BITS['rsa'][-1]} bits)",
            ),
            (life, ", ".join(f"``{reason}``" for reason in REASONS[:-1]) + f" and ``{REASONS[-1]}``"),
            (operation, f"within {RENEW_BEFORE.days} days of its end"),
            (operation, "within {} days, {} days and {} day.".format(*ending.BOUNDS)),
            (operation, f"gives them {service._FAREWELL:.0f} seconds"),
            (operation, f"and {service._OWN_DESCRIPTORS} more"),
            (identity, f"there may be {context._MAX_INTERMEDIATES} others"),
        ):
            self.assertIn(said, " ".join(text.split()))


class NameTests(SynchronousTestCase):
    """What a page names is there."""

    def test_metrics(self) -> None:
        """Every figure of /metrics, in its order, and its words."""
        table = rows(DOCS["operation.rst"], "Metrics")
        named = [re.findall(r"``mfserver_(\w+)", name) for name, _ in table]
        self.assertEqual([[figure.name] for figure in metrics.FIGURES], named)
        labels = [re.findall(r"{(\w+)=", name) for name, _ in table]
        self.assertEqual([[figure.label] if figure.label else [] for figure in metrics.FIGURES], labels)
        (dropped,) = [text for name, text in table if "dropped" in name]
        self.assertEqual(set(metrics.DROPPED), set(re.findall(r"``(\w+)``", dropped)))

    def test_certificate_rows(self) -> None:
        """Every request of /certs."""
        asked = [
            name.strip("`").split(" ", 1) for name, _ in rows(DOCS["certificates.rst"], "What is issued")
        ]
        known = re.findall(r'"(\w+)",\s+"(/certs[^"]*)"', inspect.getsource(site))
        known = [(method, path.replace("{id}", "<serial>")) for method, path in known]
        named = {(method, path.replace("<thing id>", "<serial>")) for method, path in asked}
        self.assertEqual(set(known) - {("DELETE", "/certs/<serial>")}, named)

    def test_files(self) -> None:
        """Every file and directory of ours that is named."""
        for page, text in DOCS.items():
            for name in re.findall(r"``((?:[\w.-]+/)+[\w.-]*)", text):
                if not name.startswith(MADE) and name.split("/")[0] in (
                    "mfserver",
                    "docker",
                    "docs",
                    "tests",
                ):
                    self.assertTrue((ROOT / name).exists(), f"{page} names {name}")

    def test_modules_and_names(self) -> None:
        """Every ``mfserver.module:Class.method`` of README.rst."""
        found = re.findall(r"``(mfserver(?:\.\w+)+)(?::([\w.]+))?``", DOCS["README.rst"])
        self.assertGreater(len(found), 10)
        for module, name in found:
            path = ROOT / module.replace(".", "/")
            self.assertTrue(path.is_dir() or path.with_suffix(".py").is_file(), module)
            text = path.with_suffix(".py").read_text() if path.with_suffix(".py").is_file() else ""
            for part in name.split(".") if name else []:
                self.assertRegex(text, rf"(?m)^ *(async def|def|class) {part}\b", f"{module}:{name}")

    def test_rooms(self) -> None:
        """README's table has every package, and no other."""
        packages = {path.parent.name for path in (ROOT / "mfserver").glob("*/__init__.py")}
        table = DOCS["README.rst"].split("\nThe rooms\n", 1)[1]
        named = set(re.findall(r"(?m)^``(\w+)/``", table)) - {"mfserver"}
        self.assertEqual(packages, named)
        modules = {path.stem for path in (ROOT / "mfserver").glob("*.py")} - {"__init__"}
        row = table.split("``mfserver/``", 1)[1].split("\n``", 1)[0]
        self.assertEqual(modules, set(re.findall(r"\w+", re.sub(r"`: .*?;|\.py", "", row))) & modules)

    def test_paths(self) -> None:
        """Every path of the API that a page mentions is in the route table or an adapter's."""
        paths = set(re.findall(r'"(/[a-z.]+)', inspect.getsource(site) + inspect.getsource(mqtt_ws)))
        for page, text in DOCS.items():
            for path in re.findall(r"``(?:GET |POST |PUT |PATCH )(/[a-z.]+)``", text):
                self.assertIn(path, paths, page)
