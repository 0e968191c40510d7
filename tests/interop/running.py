"""A real server in a process of its own, and what a user has at hand to talk to it.

The server is another process, so these tests may block: they read like what a user types.
"""

import contextlib
import fcntl
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from unittest import SkipTest

__all__ = [
    "RunningServer",
    "Deployment",
    "ROOT",
    "PATIENCE",
    "START_SECONDS",
    "fixed_ports",
    "free_data_dir",
    "needs",
    "wait_until",
]

ROOT = Path(__file__).resolve().parents[2]
#: How long a server may take to start, or to end.
START_SECONDS = 30.0
#: Seconds until a test that waits for anything else gives up.
PATIENCE = 60.0


def needs(*programs: str) -> None:
    """Skip a test whose programs are not here; Node's modules count with node.

    Where ``MF_NO_SKIPS`` is set, as in CI, nothing may be missing.
    """
    missing = [program for program in programs if shutil.which(program) is None]
    if "node" in programs and not (ROOT / "tests/interop/node_modules/ws").is_dir():
        missing.append("Node's ws and mqtt (make interop)")
    if missing and os.environ.get("MF_NO_SKIPS"):
        raise AssertionError(f"not installed: {', '.join(missing)}")
    if missing:
        raise SkipTest(f"not installed: {', '.join(missing)}")


def free_data_dir() -> Path:
    """A directory that does not exist yet, in one that does."""
    return Path(tempfile.mkdtemp(prefix="mf-interop-")) / "data"


@contextlib.contextmanager
def fixed_ports() -> Iterator[None]:
    """Let the tests that need the documented ports take turns, also across trial's workers."""
    with open(Path(tempfile.gettempdir()) / "mfserver-fixed-ports.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wait_until(condition: Any, what: str, seconds: float = PATIENCE) -> Any:
    """Poll until something is true, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class RunningServer:
    """``twistd mainflux`` on ports of its own choice.

    :param options: further command line options; they may override the ports.
    :ivar listening: what ``listening.json`` says.
    :ivar log: everything that the server has printed so far.
    """

    def __init__(
        self,
        *options: str,
        auth: str = "key",
        data_dir: Path | None = None,
        environment: dict[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> None:
        self.auth = auth
        self._own_data_dir = data_dir is None
        self.data_dir = data_dir or free_data_dir()
        self._environment = {**os.environ, **(environment or {})}
        plain = () if auth == "x509" else ("--http=127.0.0.1:0", "--mqtt=127.0.0.1:0")
        twistd = str(Path(sys.executable).with_name("twistd"))
        self.command = [
            *(command or (twistd, "--nodaemon", "--pidfile=", "mainflux")),
            f"--auth={auth}",
            f"--data-dir={self.data_dir}",
            "--https=127.0.0.1:0",
            "--mqtts=127.0.0.1:0",
            *plain,
            *options,
        ]
        self.listening: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def __enter__(self) -> "RunningServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._own_data_dir:
            shutil.rmtree(self.data_dir.parent)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        assert self._output is not None
        # Never seek: the server writes where this description stands.
        return os.pread(self._output.fileno(), os.fstat(self._output.fileno()).st_size, 0).decode()

    def start(self) -> None:
        """Start, and return when every listener is up."""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        written = self.data_dir / "listening.json"
        with contextlib.suppress(FileNotFoundError):
            written.unlink()
        self._process = subprocess.Popen(
            self.command, stdout=self._output, stderr=subprocess.STDOUT, cwd=ROOT, env=self._environment
        )

        def is_up() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log}")
            return written.exists()

        wait_until(is_up, "the server listens", START_SECONDS)
        self.listening = json.loads(written.read_text())

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End the server. :return: its exit status, negative for a signal."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(START_SECONDS)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(START_SECONDS)

    def port(self, listener: str) -> int:
        return int(self.listening[listener][1])

    @property
    def ca(self) -> str:
        """The certificate authority that clients must trust."""
        return str(self.data_dir / "pki" / "ca.crt")

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str | None = None,
        listener: str = "https",
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        """One API request. :return: status, headers with lower-case names, body."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["Authorization"] = token
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        connection: http.client.HTTPConnection
        if listener == "https":
            trust = ssl.create_default_context(cafile=self.ca)
            connection = http.client.HTTPSConnection(
                "localhost", self.port("https"), timeout=PATIENCE, context=trust
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port("http"), timeout=PATIENCE)
        try:
            connection.request(method, path, body=data, headers=given)
            response = connection.getresponse()
            content = response.read()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, content
        finally:
            connection.close()

    def json(self, method: str, path: str, body: Any = None, token: str | None = None) -> Any:
        """One API request that must succeed. :return: its JSON, or the id in its Location."""
        status, headers, content = self.request(method, path, body, token)
        if not 200 <= status < 300:
            raise AssertionError(f"{method} {path}: {status} {content!r}")
        if "location" in headers:
            return headers["location"].rsplit("/", 1)[1]
        return json.loads(content) if content else None


@dataclass
class Deployment:
    """A user with things on channels, made through the API of a running server."""

    server: RunningServer
    email: str = "john@example.org"
    password: str = "12345678"
    token: str = ""
    things: dict[str, tuple[str, str]] = field(default_factory=dict)
    channels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        account = {"email": self.email, "password": self.password}
        self.server.json("POST", "/users", account)
        self.token = self.server.json("POST", "/tokens", account)["token"]

    def thing(self, name: str, *channels: str) -> tuple[str, str]:
        """Make a thing and connect it. :return: its id and its key."""
        made = self.server.json("POST", "/things", {"name": name}, self.token)
        key = self.server.json("GET", f"/things/{made}", token=self.token)["key"]
        self.things[name] = made, key
        for channel in channels:
            self.connect(name, channel)
        return made, key

    def channel(self, name: str) -> str:
        """Make a channel. :return: its id."""
        self.channels[name] = self.server.json("POST", "/channels", {"name": name}, self.token)
        return self.channels[name]

    def connect(self, thing: str, channel: str) -> None:
        """Let a thing use a channel."""
        if channel not in self.channels:
            self.channel(channel)
        path = f"/channels/{self.channels[channel]}/things/{self.things[thing][0]}"
        self.server.json("PUT", path, token=self.token)
