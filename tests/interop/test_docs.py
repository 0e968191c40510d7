"""What docs/messages.rst and docs/operation.rst say, asked of a running server."""

import re
import struct
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.client_case import deployment_of
from tests.interop.hostile_wire import Wire, _packet, _text
from tests.interop.running import ROOT, Deployment, RunningServer

CONNACK, PUBACK, SUBACK = 0x20, 0x40, 0x90
OTHER: Final = b"channels/other/messages"
CLOSED: Final = (0, 0)
TABLE = (ROOT / "docs/messages.rst").read_text().split("How a refusal is said")[1]

#: A row's name; what 5.0 is answered, then 3.1.1 and 3.1: the first byte of a packet, and its code.
EXPECTED: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "PUBLISH where the thing may not": ((PUBACK, 0x87), CLOSED, CLOSED),
    "SUBSCRIBE where the thing may not": ((SUBACK, 0x87), (SUBACK, 0x80), (SUBACK, 0)),
    "A topic filter that is none of ours": ((SUBACK, 0x8F), (SUBACK, 0x80), (SUBACK, 0)),
    "A payload that is not what it says": ((PUBACK, 0x99), CLOSED, CLOSED),
    "A will where the thing may not": ((CONNACK, 0x87), (CONNACK, 5), (CONNACK, 5)),
    "Enhanced authentication": ((CONNACK, 0x8C), CLOSED, CLOSED),
}
#: Rows that only MQTT 5.0 has words for.
ONLY_5 = ("A payload that is not what it says", "Enhanced authentication")


class Client:
    """CONNECT and what follows, in one version, by hand."""

    def __init__(self, deployment: Deployment, version: int) -> None:
        self.version = version
        self.thing, self.key = deployment.thing("asking", "weather")
        self.topic = f"channels/{deployment.channels['weather']}/messages".encode()

    def properties(self, properties: bytes = b"") -> bytes:
        return bytes([len(properties)]) + properties if self.version == 5 else b""

    def connect(self, properties: bytes = b"", will: bytes | None = None) -> bytes:
        name = b"MQIsdp" if self.version == 3 else b"MQTT"
        flags = 0xC2 if will is None else 0xC6
        head = (
            _text(name) + bytes([self.version, flags]) + struct.pack("!H", 60) + self.properties(properties)
        )
        last = b"" if will is None else self.properties() + _text(will) + _text(b"bye")
        body = head + _text(b"client") + last + _text(self.thing.encode()) + _text(self.key.encode())
        return _packet(0x10, body)

    def publish(self, flags: int, topic: bytes | None = None, properties: bytes = b"") -> bytes:
        body = _text(self.topic if topic is None else topic) + b"\0\1" + self.properties(properties) + b"\xff"
        return _packet(0x30 | flags, body)

    def subscribe(self, topic_filter: bytes, qos: int = 1, properties: bytes = b"") -> bytes:
        return _packet(0x82, b"\0\1" + self.properties(properties) + _text(topic_filter) + bytes([qos]))

    def asks(self, what: str) -> tuple[bytes, bytes]:
        """The CONNECT that asks for it, and what follows."""
        plain = self.connect()
        return {
            "PUBLISH where the thing may not": (plain, self.publish(0x02, OTHER)),
            "SUBSCRIBE where the thing may not": (plain, self.subscribe(OTHER)),
            "A topic filter that is none of ours": (plain, self.subscribe(b"weather/#")),
            "A payload that is not what it says": (plain, self.publish(0x02, properties=b"\x01\x01")),
            "A will where the thing may not": (self.connect(will=OTHER), b""),
            "Enhanced authentication": (self.connect(b"\x15" + _text(b"SCRAM")), b""),
        }[what]


class RefusalTests(SynchronousTestCase):
    """The table of docs/messages.rst is what a client sees."""

    timeout = 60

    def answer(self, deployment: Deployment, version: int, what: str) -> tuple[int, int]:
        """What comes last: the first byte of a packet and its reason code, or CLOSED."""
        client = Client(deployment, version)
        connect, then = client.asks(what)
        with Wire(deployment.server, "mqtt") as wire:
            wire.send(connect)
            try:
                first, body = wire.packet()
                if then:
                    self.assertEqual((CONNACK, 0), (first, body[1]))
                    wire.send(then)
                    first, body = wire.packet()
            except ConnectionError:
                return CLOSED
            if first == CONNACK:
                return first, body[1]
            if first in (SUBACK, PUBACK):
                skipped = 3 if version == 5 and first == SUBACK else 2
                return first, body[skipped]
            self.assertEqual(b"", wire.rest())
            return first, body[0]

    def test_every_row(self) -> None:
        """Every row that one packet tells; bounds and the full disk have tests of their own."""
        deployment = deployment_of("key")
        for what, expected in EXPECTED.items():
            for version, wanted in zip((5, 4, 3), expected, strict=True):
                if version == 5 or what not in ONLY_5:
                    self.assertEqual(wanted, self.answer(deployment, version, what), (what, version))

    def test_the_documentation_says_so(self) -> None:
        """The table has these rows, and these codes in them."""
        documented = {row[0]: row[1] for row in re.findall(r"(?m)^(\S(?:.*?\S)?)  +(\S.*)$", TABLE)}
        for what, ((first, code), *_) in EXPECTED.items():
            said = documented[what]
            self.assertIn(f"0x{code:02X}", said, what)
            if first != PUBACK:
                self.assertIn({CONNACK: "CONNACK", SUBACK: "SUBACK"}[first], said, what)


class DataDirectoryTests(SynchronousTestCase):
    """The table of docs/operation.rst names every file that a server makes."""

    timeout = 60

    def test_every_file(self) -> None:
        """No file that is not described, and none described that is not there."""
        text = (ROOT / "docs/operation.rst").read_text().split("\nThe data directory\n")[1]
        described = set(re.findall(r"(?m)^``([\w./-]+)``  ", text.split("Certificates\n")[0]))
        with RunningServer("--registration=closed") as server:
            found = {str(path.relative_to(server.data_dir)) for path in server.data_dir.rglob("*")}
        database = {"mfserver.db-wal", "mfserver.db-shm"}
        self.assertEqual(described, found - database - {"pki"})
