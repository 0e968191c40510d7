"""The servers: each is started on loopback with the same certificates, and kept on one core."""

import contextlib
import functools
import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.certificates import THING_KEY, Certificates
from bench.compiler import compile_program
from bench.errors import BenchError, Missing
from bench.process import cores, cpu_seconds, memory_kib, pin

__all__ = ["Mfserver", "Mosquitto", "Nats", "Amqtt", "Floor", "Server", "SERVERS"]

_START_SECONDS = 30.0


class Server:
    """A server process.

    :ivar name: what the table calls it.
    :ivar topic: what the topics of the load begin with.
    :ivar login: user name and password that the load shows besides its certificate.
    """

    name = ""
    topic = "channels/3f1c5a8e-58f4-4d5e-9d53-0d3a9e0a7c11/messages"
    login: tuple[str, str] = ("bench", THING_KEY)

    def __init__(self, home: Path, certificates: Certificates) -> None:
        home.mkdir(parents=True)
        self.home = home
        self.certificates = certificates
        self.ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def look(cls) -> None:
        """Look whether it is here.

        :raises Missing: it is not.
        """

    def command(self) -> Sequence[str]:
        """What is to be run, with its settings written."""
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def cpu(self) -> float:
        """Seconds of user and system time so far."""
        return cpu_seconds(self.pid)

    @property
    def memory(self) -> int:
        """KiB that it holds now."""
        return memory_kib(self.pid)

    def start(self) -> None:
        """Start, and return when it listens.

        :raises BenchError: it ended, or does not listen in time.
        """
        command = self.command()
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=functools.partial(pin, cores()[0]),
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self.listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise BenchError(f"{self.name} did not start:\n{self.log[-2000:]}")
            time.sleep(0.05)

    def listens(self) -> bool:
        """Whether it accepts connections."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.ports["mqtts"]), 1):
            return True
        return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait until it is gone; one that does not end is killed."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def log(self) -> str:
        """Everything that it printed."""
        return (self.home / "log").read_text(errors="replace")


class Mfserver(Server):
    """This server, with authentication and per-message authorisation on, and one thing on one channel.

    :param python: the interpreter that runs it.
    :param arguments: further options.
    :param auth: ``x509``, or ``key`` for clients that cannot show a certificate.
    """

    name = "mfserver"

    def __init__(
        self,
        home: Path,
        certificates: Certificates,
        python: str = sys.executable,
        arguments: Sequence[str] = (),
        auth: str = "x509",
    ) -> None:
        super().__init__(home, certificates)
        self._python = python
        self._arguments = arguments
        self._auth = auth
        self._data = home / "data"

    def command(self) -> Sequence[str]:
        """``twistd mainflux`` with bounds that no workload reaches."""
        files = self.certificates
        (self._data / "listening.json").unlink(missing_ok=True)
        bounds = ("connections", "connections-per-address", "connections-per-thing", "sessions-per-thing")
        return [
            *(
                self._python,
                "-c",
                "from twisted.scripts.twistd import run; run()",
                "--nodaemon",
                "--pidfile=",
            ),
            *("mainflux", f"--auth={self._auth}", f"--data-dir={self._data}"),
            *(
                f"--ca={files.ca}",
                f"--ca-key={files.ca_key}",
                f"--cert={files.server}",
                f"--key={files.server_key}",
            ),
            *("--http=off", "--mqtt=off", "--https=127.0.0.1:0"),
            f"--mqtts=127.0.0.1:{self.ports.get('mqtts', 0)}",
            *(f"--max-{bound}=100000" for bound in bounds),
            "--max-queued-messages=10000000",
            "--max-queued-bytes=4294967296",
            *self._arguments,
        ]

    def listens(self) -> bool:
        """It writes its ports when every listener is up."""
        written = self._data / "listening.json"
        if not written.exists():
            return False
        said = json.loads(written.read_text())
        self.ports = {name: int(said[name][1]) for name in ("https", "mqtts")}
        return True

    def start(self) -> None:
        """Start, and make the thing and its channel the first time."""
        fresh = not self._data.exists()
        super().start()
        if fresh:
            self._provision()

    def _provision(self) -> None:
        account = {"email": "bench@example.org", "password": "12345678"}
        self._ask("POST", "/users", account)
        token = self._ask("POST", "/tokens", account)["token"]
        thing = self._ask("POST", "/things", {"name": "bench", "key": THING_KEY}, token)
        channel = self._ask("POST", "/channels", {"name": "bench"}, token)
        self._ask("PUT", f"/channels/{channel}/things/{thing}", None, token)
        self.topic = f"channels/{channel}/messages"
        self.login = thing, THING_KEY

    def _ask(self, method: str, path: str, body: dict[str, str] | None, token: str = "") -> Any:
        trust = ssl.create_default_context(cafile=str(self.certificates.ca))
        connection = http.client.HTTPSConnection("localhost", self.ports["https"], timeout=30, context=trust)
        headers = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            content = response.read()
        if response.status >= 300:
            raise BenchError(f"{method} {path}: {response.status} {content!r}")
        location = response.getheader("Location")
        if location:
            return location.rpartition("/")[2]
        return json.loads(content) if content else None


class _OtherServer(Server):
    """One that cannot choose a port itself.

    :ivar program: what it is called; it may stand where only an administrator's PATH leads.
    """

    program = ""

    @classmethod
    def look(cls) -> None:
        """Look for its program."""
        cls._find()

    @classmethod
    def _find(cls) -> str:
        path = shutil.which(
            cls.program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
        )
        if path is None:
            raise Missing(f"{cls.program} is not installed (Debian: apt-get install {cls.program})")
        return path

    def start(self) -> None:
        """Find a free port, and start there."""
        if not self.ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.ports = {"mqtts": probe.getsockname()[1]}
        super().start()


class Mosquitto(_OtherServer):
    """Eclipse Mosquitto: the certificate is the user; nothing is kept on the disk."""

    name = program = "mosquitto"

    def command(self) -> Sequence[str]:
        """Its settings in a file."""
        files = self.certificates
        (self.home / "mosquitto.conf").write_text(
            f"user root\nlistener {self.ports['mqtts']} 127.0.0.1\n"
            f"cafile {files.ca}\ncertfile {files.server}\nkeyfile {files.server_key}\n"
            "require_certificate true\nuse_identity_as_username true\nset_tcp_nodelay true\n"
            "max_queued_messages 0\nmax_inflight_messages 0\npersistence false\n"
            "log_dest stderr\nlog_type error\n"
        )
        return [self._find(), "-c", str(self.home / "mosquitto.conf")]


class Nats(_OtherServer):
    """NATS with its MQTT, which needs JetStream."""

    name = "nats"
    program = "nats-server"

    def command(self) -> Sequence[str]:
        """Its settings in a file."""
        files = self.certificates
        (self.home / "nats.conf").write_text(
            f'server_name: bench\nlisten: "127.0.0.1:-1"\njetstream {{ store_dir: "{self.home}/store" }}\n'
            f'mqtt {{ listen: "127.0.0.1:{self.ports["mqtts"]}", max_ack_pending: 65535, tls {{\n'
            f'cert_file: "{files.server}", key_file: "{files.server_key}", ca_file: "{files.ca}",\n'
            "verify: true, timeout: 60 } }\n"
        )
        return [self._find(), "-c", str(self.home / "nats.conf")]


class Amqtt(_OtherServer):
    """aMQTT, run by the interpreter that runs this."""

    name = "amqtt"

    @classmethod
    def look(cls) -> None:
        """Look for its package."""
        if importlib.util.find_spec("amqtt") is None:
            raise Missing("the package amqtt is not installed beside this program")

    def command(self) -> Sequence[str]:
        """Its settings in a file."""
        files = self.certificates
        (self.home / "amqtt.yaml").write_text(
            "listeners:\n  default:\n    type: tcp\n"
            f"    bind: 127.0.0.1:{self.ports['mqtts']}\n    ssl: on\n    max_connections: 20000\n"
            f"    cafile: {files.ca}\n    certfile: {files.server}\n    keyfile: {files.server_key}\n"
            "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
        )
        return [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(self.home / "amqtt.yaml")]


class Floor(_OtherServer):
    """One loop in C that only acknowledges and hands on: what no server over OpenSSL can be cheaper than."""

    name = "floor"

    @classmethod
    def look(cls) -> None:
        """Compile it."""
        cls._find()

    @classmethod
    def _find(cls) -> str:
        return str(compile_program("floor", "floor.c"))

    def command(self) -> Sequence[str]:
        """All that it wants to know."""
        files = self.certificates
        return [
            self._find(),
            str(self.ports["mqtts"]),
            *map(str, (files.server, files.server_key, files.ca)),
        ]


SERVERS: dict[str, type[Server]] = {kind.name: kind for kind in (Mfserver, Mosquitto, Nats, Amqtt, Floor)}
