"""The clients that users have, behind one face: what they hear is collected, what they publish is bytes."""

import base64
import contextlib
import hashlib
import json
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.interop.running import PATIENCE, ROOT, RunningServer, wait_until

__all__ = [
    "Door",
    "Heard",
    "Inbox",
    "Node",
    "MosquittoSub",
    "Payloads",
    "mark",
    "curl",
    "mosquitto",
    "run_all",
    "snake",
]

#: Payloads longer than this are compared by their digest (node_client.js: LONG).
LONG = 4096
_MOSQUITTO_FORMAT = "heard %t|%q|%r|%C|%P|%R|%D|%E|%F|%S|%x"


def mark(payload: bytes) -> str:
    """A payload, short enough to print when a test fails, and different for different bytes."""
    return hashlib.sha256(payload).hexdigest() if len(payload) > LONG else repr(payload)


@dataclass(frozen=True)
class Door:
    """A way into a server: as whom, on which channel, with TLS or without.

    :ivar alpn: MQTT goes to the HTTPS port, where ALPN tells it from HTTP.
    """

    server: RunningServer
    thing: str
    key: str
    channel: str
    tls: bool = False
    certificate: tuple[str, str] | None = None
    alpn: bool = False

    @property
    def topic(self) -> str:
        return f"channels/{self.channel}/messages"

    @property
    def files(self) -> dict[str, str]:
        """The files that a TLS client names."""
        files = {"ca": self.server.ca} if self.tls else {}
        if self.certificate is not None:
            files["cert"], files["key"] = self.certificate
        return files

    def port(self, protocol: str) -> int:
        """The port on which ``http``, ``ws`` or ``mqtt`` is spoken here."""
        if self.alpn and protocol == "mqtt":
            return self.server.port("https")
        return self.server.port({"ws": "http"}.get(protocol, protocol) + "s" * self.tls)

    def url(self, protocol: str) -> str:
        """Where ``http``, ``ws`` or ``mqtt`` is spoken here."""
        return f"{protocol}{'s' * self.tls}://localhost:{self.port(protocol)}"


@dataclass(frozen=True)
class Heard:
    """A message that came to a client. A WebSocket tells no topic.

    :ivar properties: those of MQTT 5.0 that are no fields of their own, by their name in lower case with
        underscores.
    """

    mark: str
    topic: str = ""
    qos: int = 0
    binary: bool = True
    retain: bool = False
    content_type: str = ""
    user_properties: str = ""
    dup: bool = False
    properties: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass
class Inbox:
    """What one client has heard, and what else happened to it."""

    name: str
    heard: list[Heard] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def marks(self) -> Counter[str]:
        return Counter(heard.mark for heard in self.heard)

    def wait(self, count: int, seconds: float = PATIENCE) -> list[Heard]:
        """Wait for that many messages in all."""
        wait_until(
            lambda: len(self.heard) >= count, f"{self.name} heard {count} messages: {self.events}", seconds
        )
        return self.heard

    def event(self, kind: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait for an event, and take it out."""

        def found() -> dict[str, Any] | None:
            return next((event for event in self.events if event["event"] == kind), None)

        try:
            event: dict[str, Any] = wait_until(found, kind, seconds)
        except AssertionError as error:
            raise AssertionError(f"{self.name}: no {kind} came, but {self.events}") from error
        self.events.remove(event)
        return event


class Payloads:
    """Payloads in files, which is how most clients take them."""

    def __init__(self) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="mf-payload-"))
        self._count = 0

    def file(self, payload: bytes) -> str:
        self._count += 1
        path = self._place / str(self._count)
        path.write_bytes(payload)
        return str(path)

    def close(self) -> None:
        shutil.rmtree(self._place)


class _Process(ABC):
    """A client program whose lines are read as they come."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT / "tests/interop",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.line_received(line.decode().rstrip("\n"))

    @abstractmethod
    def line_received(self, line: str) -> None:
        """A line that the program printed."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it without a word to the server."""
        self._process.kill()
        self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for pipe in self._process.stdin, self._process.stdout:
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class Node(_Process):
    """Node's ws and mqtt: any number of clients in one process."""

    def __init__(self) -> None:
        self.inboxes: dict[str, Inbox] = {}
        self.strange: list[str] = []
        super().__init__("node", "node_client.js")

    def line_received(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            self.strange.append(line)
            return
        inbox = self.inboxes[event["name"]]
        if event["event"] == "message":
            inbox.heard.append(_heard_by_node(event))
        else:
            inbox.events.append(event)

    def _tell(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def ws(self, name: str, door: Door, subtopic: str = "", **options: Any) -> Inbox:
        """Begin to open a WebSocket."""
        inbox = self.inboxes[name] = Inbox(name)
        url = f"{door.url('ws')}/ws/{door.topic}{subtopic}"
        options = {"headers": {"Authorization": door.key, **options.pop("headers", {})}, **options}
        self._tell(do="open", name=name, kind="ws", url=url, options=options, files=door.files)
        return inbox

    def mqtt(self, name: str, door: Door, *, websocket: bool = False, version: int = 5, **more: Any) -> Inbox:
        """Begin to open an MQTT connection."""
        inbox = self.inboxes[name] = Inbox(name)
        url = f"{door.url('ws')}/mqtt" if websocket else door.url("mqtt")
        options = {
            "clientId": name,
            "username": door.thing,
            "password": door.key,
            "protocolVersion": version,
            "reconnectPeriod": 0,
            **({"protocolId": "MQIsdp"} if version == 3 else {}),
            **({"ALPNProtocols": ["mqtt"]} if door.alpn else {}),
            **more,
        }
        self._tell(do="open", name=name, kind="mqtt", url=url, options=options, files=door.files)
        return inbox

    def subscribe(self, name: str, *topics: str, qos: int = 1, **options: Any) -> list[int]:
        """Subscribe. :param options: MQTT 5.0's, by Node's names. :return: what was granted."""
        self._tell(do="subscribe", name=name, topics=topics, options={"qos": qos, **options})
        granted: list[int] = self.inboxes[name].event("subscribed")["granted"]
        return granted

    def publish(
        self,
        name: str,
        payload: bytes,
        topic: str = "",
        file: str | None = None,
        qos: int = 1,
        **more: Any,
    ) -> None:
        """Begin to publish; a ``published`` event tells when it is done."""
        if file is None:
            more["payload"] = base64.b64encode(payload).decode()
        self._tell(do="publish", name=name, topic=topic, file=file, qos=qos, **more)

    def close(self, name: str) -> None:
        """Close without a word; a WebSocket says goodbye."""
        self._tell(do="close", name=name)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile, none of its clients does anything."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def end(self, name: str, **options: Any) -> None:
        """Say DISCONNECT and close. :param options: its reason code and properties, by Node's names."""
        self._tell(do="end", name=name, options=options)
        self.inboxes[name].event("close")


class MosquittoSub(_Process):
    """One mosquitto_sub.

    :param version: ``mqttv31``, ``mqttv311`` or ``mqttv5``.
    """

    def __init__(
        self, name: str, door: Door, version: str, *topics: str, qos: int = 1, more: Sequence[str] = ()
    ) -> None:
        self.inbox = Inbox(name)
        chosen = [argument for topic in topics or (door.topic,) for argument in ("-t", topic)]
        super().__init__(
            *("stdbuf", "-oL", "mosquitto_sub", *mosquitto(door, version), "-q", str(qos), "-d"),
            *("-F", _MOSQUITTO_FORMAT, *chosen, *more),
        )
        self.subscribed = [
            int(code) for code in self.inbox.event("subscribed")["line"].split(": ")[-1].split(", ")
        ]

    def line_received(self, line: str) -> None:
        if line.startswith("heard "):
            topic, qos, retain, content_type, user, *others, payload = line[6:].split("|")
            self.inbox.heard.append(
                Heard(
                    mark(bytes.fromhex(payload)),
                    topic,
                    int(qos),
                    retain=retain == "1",
                    content_type=content_type,
                    user_properties=user.strip(),
                    properties=_shown_by_mosquitto(*others),
                )
            )
        else:
            kind = "subscribed" if line.startswith("Subscribed") else "line"
            self.inbox.events.append({"event": kind, "line": line})


def curl(door: Door, file: str, subtopic: str = "", *more: str) -> list[str]:
    """The command that publishes a file over HTTP and prints the status."""
    names = {"ca": "--cacert", "cert": "--cert", "key": "--key"}
    files = [argument for name, path in door.files.items() for argument in (names[name], path)]
    head = ["curl", "-s", "-S", "-m", str(PATIENCE), "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST"]
    url = f"{door.url('http')}/http/{door.topic}{subtopic}"
    return [*head, *files, "-H", f"Authorization: {door.key}", "--data-binary", f"@{file}", *more, url]


def mosquitto(door: Door, version: str) -> list[str]:
    """The arguments that mosquitto_pub and mosquitto_sub share."""
    names = {"ca": "--cafile", "cert": "--cert", "key": "--key"}
    files = [argument for name, path in door.files.items() for argument in (names[name], path)]
    if door.alpn:
        files += ["--tls-alpn", "mqtt"]
    return [
        "-h",
        "localhost",
        "-p",
        str(door.port("mqtt")),
        "-u",
        door.thing,
        "-P",
        door.key,
        "-V",
        version,
        *files,
    ]


def _heard_by_node(event: dict[str, Any]) -> Heard:
    payload = event.get("payload")
    properties = {snake(name): value for name, value in event.get("properties", {}).items()}
    if "correlation_data" in properties:
        properties["correlation_data"] = base64.b64decode(properties["correlation_data"])
    if isinstance(properties.get("subscription_identifier"), int):
        properties["subscription_identifier"] = [properties["subscription_identifier"]]
    user = properties.pop("user_properties", {})
    return Heard(
        event["digest"] if payload is None else mark(base64.b64decode(payload)),
        event.get("topic", ""),
        event.get("qos", 0),
        event.get("binary", True),
        event.get("retain", False),
        properties.pop("content_type", ""),
        " ".join(f"{name}:{value}" for name, value in user.items()),
        event.get("dup", False),
        properties,
    )


def _shown_by_mosquitto(*values: str) -> dict[str, Any]:
    kinds: tuple[tuple[str, Callable[[str], Any]], ...] = (
        ("response_topic", str),
        ("correlation_data", str.encode),
        ("message_expiry_interval", int),
        ("payload_format_indicator", int),
        ("subscription_identifier", lambda value: [int(one) for one in value.split()]),
    )
    return {name: read(value) for (name, read), value in zip(kinds, values, strict=True) if value}


def snake(name: str) -> str:
    """``ContentType`` and ``contentType`` are ``content_type``."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()


def run_all(commands: Sequence[Sequence[str]], at_once: int = 6) -> Iterator[tuple[int, str]]:
    """Run commands, a few at a time. :return: exit status and output of each, in order."""
    for start in range(0, len(commands), at_once):
        running = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for command in commands[start : start + at_once]
        ]
        for process in running:
            output, _ = process.communicate(timeout=2 * PATIENCE)
            yield process.returncode, output
