"""How the server starts, what it says when it cannot, and how it ends."""

import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.trial.unittest import SynchronousTestCase

from bench.process import cpu_seconds
from mfserver import __version__
from tests.interop.hostile_wire import Wire, connect, request, ws_opening
from tests.interop.running import ROOT, Deployment, RunningServer, free_data_dir, wait_until

BIN = Path(sys.executable).parent
TWISTD = (str(BIN / "twistd"), "--nodaemon", "--pidfile=", "mainflux")
ANY_PORT = ("--http=127.0.0.1:0", "--https=127.0.0.1:0", "--mqtt=127.0.0.1:0", "--mqtts=127.0.0.1:0")


def run(*command: str, **environment: str) -> tuple[int, str]:
    """Run a command to its end. :return: its exit status, and everything that it printed."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        text=True,
    )
    return done.returncode, done.stdout


def modes(directory: Path) -> dict[str, int]:
    """The permissions of everything in a data directory, and of itself."""
    entries = [directory, *directory.rglob("*")]
    return {str(entry.relative_to(directory)): stat.S_IMODE(entry.stat().st_mode) for entry in entries}


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


class StartingTestCase(SynchronousTestCase):
    """Data directories that are gone after the test."""

    def data_dir(self) -> Path:
        """One that does not exist yet."""
        data_dir = free_data_dir()
        self.addCleanup(shutil.rmtree, data_dir.parent)
        return data_dir


class FirstStartTests(StartingTestCase):
    """Nothing needs to be prepared, and what is made is nobody else's."""

    def test_everything_is_made_and_closed_to_others(self) -> None:
        """The directory is 0700 and every file 0600 with umask 0; the second start makes nothing."""
        with umask(0):
            with RunningServer(data_dir=self.data_dir()) as server:
                Deployment(server)
                first = modes(server.data_dir)
                listening = json.loads((server.data_dir / "listening.json").read_text())
                self.assertEqual(server.process.pid, listening["pid"])
                self.assertEqual((__version__, "key"), (listening["version"], listening["auth"]))
                for name in ("http", "https", "mqtt", "mqtts"):
                    host, port = listening[name]
                    socket.create_connection((host, port), 5).close()
            self.assertFalse((server.data_dir / "listening.json").exists(), "it is gone after the end")
            self.assertIn("made the data directory", server.log)
            self.assertIn("made a certificate authority", server.log)
            server.start()
            took = cpu_seconds(server.process.pid)
            second = modes(server.data_dir)
            server.stop()
        self.assertLess(took, 3, "seconds of CPU: nothing is made again that takes long")
        self.assertNotIn("made ", server.log)
        self.assertNotIn("Traceback", server.log)
        expected = {
            "mfserver.db",
            "token.secret",
            "thing-key.secret",
            "pki/ca.key",
            "pki/mainflux-server.key",
        }
        self.assertLessEqual(expected, set(first))
        for name, mode in [*first.items(), *second.items()]:
            self.assertEqual(0o700 if name in (".", "pki") else 0o600, mode, name)

    def test_open_file_limit_is_raised(self) -> None:
        """The server raises its own limit as far as it may, and says so where that is too little."""
        limited = ("sh", "-c", 'ulimit -Sn 256 && ulimit -Hn 1024; exec "$0" "$@"', *TWISTD)
        with RunningServer(command=limited) as server:
            limits = Path(f"/proc/{server.process.pid}/limits").read_text()
        (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
        self.assertEqual(["1024", "1024"], line.split()[3:5])
        (said,) = [line for line in server.log.splitlines() if "--max-connections=10000" in line]
        self.assertIn("1024", said)

    def test_environment_says_what_the_command_line_does_not(self) -> None:
        """Each option is also an MF_ variable, and the command line wins."""
        data_dir = self.data_dir()
        environment = {
            "MF_MAX_MESSAGE": "10",
            "MF_DATA_DIR": str(data_dir.parent / "not this one"),
            "MF_MQTT": "off",
            "MF_HTTPS": "off",
            "MF_SERVER_NAME": "broker.example, 192.0.2.7",
        }
        command = ("env", "--unset=AUTH", *TWISTD)
        server = RunningServer(
            "--mqtt=127.0.0.1:0", command=command, data_dir=data_dir, environment=environment
        )
        with server:
            self.assertEqual(
                {"http", "https", "mqtt", "mqtts"},
                {n for n, at in server.listening.items() if n != "pid" and isinstance(at, list)},
            )
            deployment = Deployment(server)
            _, key = deployment.thing("sender", "weather")
            path = f"/http/channels/{deployment.channels['weather']}/messages"
            for size, wanted in ((10, 202), (11, 413)):
                with Wire(server, "http") as wire:
                    wire.send(request("POST", path, b"x" * size, Authorization=key))
                    self.assertEqual(wanted, wire.response()[0])
            certificate = x509.load_pem_x509_certificate((data_dir / "pki/mainflux-server.crt").read_bytes())
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            self.assertIn("broker.example", names.get_values_for_type(x509.DNSName))
            self.assertIn("192.0.2.7", map(str, names.get_values_for_type(x509.IPAddress)))
        self.assertFalse((data_dir.parent / "not this one").exists())

    def test_help_and_version(self) -> None:
        """Who asks for help gets it, from both commands."""
        for command in (list(TWISTD), [str(BIN / "mfserver"), "run"]):
            status, printed = run(*command, "--help")
            self.assertEqual(0, status, printed)
            for option in ("--auth=", "--data-dir=", "--server-name=", "--max-connections-per-thing="):
                self.assertIn(option, printed)
        for command in (list(TWISTD), [str(BIN / "mfserver")]):
            self.assertEqual((0, f"mfserver {__version__}\n"), run(*command, "--version"))
        status, printed = run(str(BIN / "mfserver"), "--help")
        self.assertEqual(0, status)
        self.assertIn("run", printed)


class RefusedStartTests(StartingTestCase):
    """A mistake is one line that names the option, exit status 1, and no traceback."""

    def refused(self, *options: str, naming: Sequence[str], command: Sequence[str] = TWISTD) -> str:
        """Start with a mistake. :return: the line about it."""
        status, printed = run(*command, *options)
        self.assertEqual(1, status, printed)
        for word in ("Traceback", "Unhandled", "is ready"):
            self.assertNotIn(word, printed)
        told = [line for line in printed.splitlines() if all(word in line for word in naming)]
        self.assertEqual(1, len(told), f"one line with {naming} in:\n{printed}")
        return told[0]

    def all_refused(self, cases: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[str]:
        """Make several mistakes, in several starts at the same time: options, and the words of the line."""
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda case: self.refused(*case[0], naming=case[1]), cases))

    def test_second_server_on_a_data_directory(self) -> None:
        """It says that another one runs there, and leaves that one's files alone."""
        with RunningServer() as server:
            before = (server.data_dir / "listening.json").read_text()
            data_dir = f"--data-dir={server.data_dir}"
            told = self.refused(data_dir, *ANY_PORT, naming=("another server runs", "--data-dir"))
            self.assertIn(str(server.data_dir), told)
            self.assertEqual(before, (server.data_dir / "listening.json").read_text())
            self.assertEqual(200, server.request("GET", "/health")[0])

    def test_taken_port(self) -> None:
        """The line names the listener's option; nothing is left listening, and the lock is let go."""
        data_dir = self.data_dir()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            cases: list[tuple[list[str], tuple[str, ...]]] = []
            for name in ("http", "https", "mqtt", "mqtts"):
                own = self.data_dir() if cases else data_dir
                options = [o for o in ANY_PORT if not o.startswith(f"--{name}=")]
                options += [f"--{name}=127.0.0.1:{port}", f"--data-dir={own}"]
                cases.append((options, (f"--{name}", str(port), "in use")))
            self.all_refused(cases)
        with RunningServer(data_dir=data_dir) as server:
            self.assertEqual(200, server.request("GET", "/health")[0])

    def test_options_that_make_no_sense(self) -> None:
        """A value out of bounds, no port, no file: each is named as the user typed it."""
        directory = self.data_dir()
        options = (
            "--auth=certificates",
            "--tls-min=1.1",
            "--registration=maybe",
            "--http=http://localhost",
            "--https=65536",
            "--mqtt=::1:1883",
            "--mqtts=-1",
            "--max-message=1MB",
            "--max-connections=0",
            "--max-connections-per-address=-5",
            "--max-connections-per-thing=many",
        )
        self.all_refused([([f"--data-dir={directory}", o], o.split("=", 1)) for o in options])
        self.assertFalse(directory.exists(), "a mistake makes no data directory")

    def test_unknown_option(self) -> None:
        """twistd's own words, with the option and no traceback."""
        self.refused("--bus=nats://localhost", naming=("--bus",))

    def test_files_that_do_not_fit(self) -> None:
        """Certificate, key and authority: missing, alone, empty, or not a pair."""
        directory = self.data_dir()
        given = directory.parent
        key = ec.generate_private_key(ec.SECP256R1())
        (given / "other.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (given / "empty.crt").write_bytes(b"")
        with RunningServer(data_dir=directory):
            pass
        pki, missing = directory / "pki", given / "missing"
        crt, own = pki / "mainflux-server.crt", pki / "mainflux-server.key"
        cases: list[tuple[list[str], tuple[str, ...]]] = [
            ([f"--cert={crt}"], ("--cert", "--key")),
            ([f"--key={own}"], ("--cert", "--key")),
            ([f"--cert={missing}", f"--key={own}"], ("--cert", str(missing))),
            ([f"--cert={crt}", f"--key={missing}"], ("--key", str(missing))),
            ([f"--cert={crt}", f"--key={given / 'other.key'}"], ("--key", str(given / "other.key"))),
            ([f"--cert={given / 'empty.crt'}", f"--key={own}"], ("--cert", str(given / "empty.crt"))),
            ([f"--ca={missing}", "--auth=x509"], ("--ca", str(missing))),
            ([f"--data-dir={crt}"], ("--data-dir", str(crt))),
        ]
        self.all_refused(
            [([f"--data-dir={self.data_dir()}", *ANY_PORT, *options], naming) for options, naming in cases]
        )

    def test_no_listener(self) -> None:
        """A server that would listen nowhere does not run."""
        off = [f"--{name}=off" for name in ("http", "https", "mqtt", "mqtts")]
        self.refused(f"--data-dir={self.data_dir()}", *off, naming=("listener", "--https"))


class EndTests(StartingTestCase):
    """Who is connected is told that the server goes, and the server goes at once."""

    def ends(self, server: RunningServer, *signals: int) -> None:
        """End a server that serves one client of each kind."""
        deployment = Deployment(server)
        thing, key = deployment.thing("listener", "weather")
        with ExitStack() as stack:
            clients: dict[int | str, Wire] = {}
            for version in (4, 5):
                clients[version] = stack.enter_context(Wire(server, "mqtt"))
                clients[version].send(connect(thing, key, version=version, client_id=b"%d" % version))
                self.assertEqual(0x20, clients[version].packet()[0])
            for name in ("http", "https"):
                clients[name] = web = stack.enter_context(Wire(server, name))
                web.send(
                    ws_opening(f"/ws/channels/{deployment.channels['weather']}/messages", Authorization=key)
                )
                self.assertEqual(101, web.response()[0])
            over = stack.enter_context(Wire(server, "http"))
            over.send(ws_opening("/mqtt", Sec_WebSocket_Protocol="mqtt"))
            self.assertEqual(101, over.response()[0])
            idle = stack.enter_context(Wire(server, "http"))
            half = stack.enter_context(Wire(server, "https", handshake=False))
            half.send(b"\x16\x03")
            for how in signals:
                server.process.send_signal(how)
                time.sleep(0.01)
            first, body = clients[5].packet()
            self.assertEqual((0xE0, 0x8B), (first, body[0]))
            self.assertEqual(b"", clients[4].rest())
            for name in ("http", "https"):
                opcode, payload = clients[name].frame()
                self.assertEqual((8, 1001), (opcode, int.from_bytes(payload[:2], "big")))
            for wire in (over, idle, half):
                self.assertTrue(wire.is_closed())

    def check_end(self, *signals: int, command: Sequence[str] | None = None) -> None:
        server = RunningServer(data_dir=self.data_dir(), command=command)
        self.addCleanup(server.stop)
        server.start()
        started = time.monotonic()
        self.ends(server, *signals)
        status = server.process.wait(15)
        self.assertLess(time.monotonic() - started, 10)
        self.assertIn(status, (0, -signals[0]))
        self.assertIn("everything is committed; goodbye", server.log)
        for word in ("Traceback", "Unhandled"):
            self.assertNotIn(word, server.log)
        self.assertFalse((server.data_dir / "listening.json").exists())

    def test_sigterm(self) -> None:
        """As a service manager ends it."""
        self.check_end(signal.SIGTERM)

    def test_sigint(self) -> None:
        """As Ctrl-C ends it."""
        self.check_end(signal.SIGINT)

    def test_sigterm_twice(self) -> None:
        """A second signal does not make a mess of the first one's work."""
        self.check_end(signal.SIGTERM, signal.SIGTERM)

    def test_twist(self) -> None:
        """Twisted's other runner begins and ends it, too."""
        self.check_end(signal.SIGTERM, command=(sys.executable, "-m", "twisted", "mainflux"))


class DaemonTests(SynchronousTestCase):
    """In the background: a pid file, a log file, and an exit status that tells whether it runs."""

    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="mf-daemon-"))
        self.addCleanup(shutil.rmtree, self.place)
        self.pidfile, self.logfile = self.place / "mf.pid", self.place / "mf.log"

    def daemon(self, *options: str) -> tuple[int, str]:
        return run(
            str(BIN / "twistd"),
            f"--pidfile={self.pidfile}",
            f"--logfile={self.logfile}",
            "mainflux",
            f"--data-dir={self.place / 'data'}",
            *ANY_PORT,
            *options,
        )

    def test_runs_in_the_background_and_ends(self) -> None:
        """Status 0, and a log and pid file; umask or not, nothing in the data directory is open to others."""
        with umask(0):
            status, printed = self.daemon()
        self.assertEqual(0, status, printed)
        listening = self.place / "data/listening.json"
        wait_until(listening.exists, "the daemon listens", 20)
        pid = int(self.pidfile.read_text())
        try:
            said = json.loads(listening.read_text())
            self.assertEqual(pid, said["pid"])
            socket.create_connection(("127.0.0.1", said["mqtt"][1]), 5).close()
            for name, mode in modes(self.place / "data").items():
                self.assertEqual(0o700 if name in (".", "pki") else 0o600, mode, name)
        finally:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not self.pidfile.exists(), "the daemon ended")
        wait_until(lambda: "goodbye" in self.logfile.read_text(), "it said goodbye")
        self.assertFalse(listening.exists())
        self.assertNotIn("Traceback", self.logfile.read_text())

    def test_failed_start_is_told_to_the_caller(self) -> None:
        """A taken port: exit status 1 and one line, though the server was to run in the background."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            status, printed = self.daemon(f"--mqtt=127.0.0.1:{taken.getsockname()[1]}")
        self.assertEqual(1, status, printed)
        log = printed + (self.logfile.read_text() if self.logfile.exists() else "")
        self.assertEqual(1, len([line for line in log.splitlines() if "cannot start: mqtt" in line]), log)
        self.assertNotIn("Traceback", log)
        wait_until(lambda: not self.pidfile.exists(), "the pid file is gone")


class CapTests(SynchronousTestCase):
    """Caps on connections refuse clearly, and open again when somebody leaves."""

    def refused_everywhere(self, server: RunningServer, deployment: Deployment, source: str) -> None:
        thing, key = deployment.things["sender"]
        for listener in ("http", "https"):
            with Wire(server, listener, source=source, timeout=3) as wire:
                wire.send(request("GET", "/health"))
                status, headers, body = wire.response()
                self.assertEqual(503, status)
                self.assertEqual({"error": "too many connections"}, json.loads(body))
                self.assertIn("retry-after", headers)
                self.assertEqual(b"", wire.rest())
        for listener in ("mqtt", "mqtts"):
            with Wire(server, listener, source=source, timeout=3) as wire:
                wire.send(connect(thing, key))
                first, body = wire.packet()
                self.assertEqual((0x20, 0x97), (first, body[1]))
                self.assertEqual(b"", wire.rest())
            with Wire(server, listener, source=source, timeout=3) as wire:
                wire.send(connect(thing, key, version=4, client_id=b"old"))
                self.assertEqual((0x20, b"\0\3"), wire.packet())

    def sit_down(self, wire: Wire, deployment: Deployment, number: int) -> None:
        """Be served, so that the server has surely counted the connection, and stay."""
        if wire.listener.startswith("http"):
            wire.send(request("GET", "/health"))
            self.assertEqual(200, wire.response()[0])
        else:
            wire.send(connect(*deployment.things["sender"], client_id=b"%d" % number))
            self.assertEqual(0, wire.packet()[1][1])

    def accepted(self, server: RunningServer, deployment: Deployment, source: str = "127.0.0.1") -> bool:
        with Wire(server, "mqtt", source=source) as wire:
            wire.send(connect(*deployment.things["sender"]))
            return wire.packet()[1][1] == 0

    def test_per_address(self) -> None:
        """One address too many connections: it is told, its neighbour is served, and it recovers."""
        with RunningServer("--max-connections-per-address=5") as server:
            deployment = Deployment(server)
            deployment.thing("sender")
            mine, other = "127.0.9.1", "127.0.9.2"
            names = ("mqtt", "http", "mqtt", "mqtts", "https")
            with ExitStack() as stack:
                for number, name in enumerate(names):
                    self.sit_down(stack.enter_context(Wire(server, name, source=mine)), deployment, number)
                self.refused_everywhere(server, deployment, mine)
                self.assertTrue(self.accepted(server, deployment, other))
            wait_until(lambda: self.accepted(server, deployment, mine), "the address may come in again")

    def test_in_all(self) -> None:
        """The server is full for everybody, wherever they come from, until somebody leaves."""
        with RunningServer("--max-connections=6") as server:
            deployment = Deployment(server)
            deployment.thing("sender")
            with ExitStack() as stack:
                for number in range(6):
                    wire = stack.enter_context(Wire(server, "mqtt", source=f"127.0.8.{number + 1}"))
                    self.sit_down(wire, deployment, number)
                self.refused_everywhere(server, deployment, "127.0.9.9")
            wait_until(lambda: self.accepted(server, deployment), "there is room again")

    def test_flood_past_the_cap_is_closed_unheard(self) -> None:
        """Far past the cap nobody is heard any more, so that refusing costs no memory."""
        with RunningServer("--max-connections-per-address=5") as server, ExitStack() as stack:
            source = "127.0.9.3"
            wires = [stack.enter_context(Wire(server, "mqtt", source=source)) for _ in range(60)]
            time.sleep(1)
            closed, _, _ = select.select([wire.socket for wire in wires], [], [], 0)
            self.assertEqual(60 - 5 - 16, len(closed))
            self.assertEqual(200, server.request("GET", "/health")[0])

    def test_per_thing(self) -> None:
        """A thing with too many connections gets 0x97; a second thing of the same address does not."""
        with RunningServer("--max-connections-per-thing=3") as server, ExitStack() as stack:
            deployment = Deployment(server)
            thing, key = deployment.thing("sender", "weather")
            deployment.thing("other", "weather")
            path = f"/ws/channels/{deployment.channels['weather']}/messages"
            for number in range(2):
                wire = stack.enter_context(Wire(server, "mqtt"))
                wire.send(connect(thing, key, client_id=b"%d" % number))
                self.assertEqual(0, wire.packet()[1][1])
            web = stack.enter_context(Wire(server, "http"))
            web.send(ws_opening(path, Authorization=key))
            self.assertEqual(101, web.response()[0])
            with Wire(server, "mqtts") as wire:
                wire.send(connect(thing, key, client_id=b"one too many"))
                first, body = wire.packet()
                self.assertEqual((0x20, 0x97), (first, body[1]))
                self.assertEqual(b"", wire.rest())
            with Wire(server, "http") as late:
                late.send(ws_opening(path, Authorization=key))
                self.assertEqual(503, late.response()[0])
            with Wire(server, "mqtt") as wire:
                wire.send(connect(*deployment.things["other"]))
                self.assertEqual(0, wire.packet()[1][1])
            web.socket.close()
            wait_until(lambda: self.accepted(server, deployment), "there is room for the thing again")
