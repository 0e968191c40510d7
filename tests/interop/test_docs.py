"""What docs/messages.rst and docs/operation.rst say, asked of a running server."""

import re
import struct
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.client_case import deployment_of
from tests.interop.hostile_wire import Wire, _packet, _text
from tests.interop.running import ROOT, Deployment, RunningServer

CONNACK, PUBACK, SUBACK, DISCONNECT = 0x20, 0x40, 0x90, 0xE0
CLOSED: Final = (0, 0)
TABLE = (ROOT / "docs/messages.rst").read_text().split("What is not there, and how that is said:")[1]

#: A row's name; what 5.0 is answered, then 3.1.1 and 3.1: the first byte of a packet, and its code.
EXPECTED: dict[str, tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = {
    "QoS 2 subscription": ((SUBACK, 1), (SUBACK, 1), (SUBACK, 1)),
    "QoS 2 PUBLISH": ((DISCONNECT, 0x9B), CLOSED, CLOSED),
    "QoS 2 will": ((CONNACK, 0x9B), CLOSED, CLOSED),
    "RETAIN": ((DISCONNECT, 0x9A), CLOSED, CLOSED),
    "Shared subscription": ((DISCONNECT, 0x9E), (SUBACK, 0x80), (SUBACK, 0)),
    "Subscription identifier": ((DISCONNECT, 0xA1), CLOSED, CLOSED),
    "Topic alias": ((DISCONNECT, 0x94), CLOSED, CLOSED),
    "Enhanced authentication": ((CONNACK, 0x8C), CLOSED, CLOSED),
    "PUBLISH where the thing may not": ((PUBACK, 0x87), CLOSED, CLOSED),
    "SUBSCRIBE where the thing may not": ((SUBACK, 0x87), (SUBACK, 0x80), (SUBACK, 0)),
    "A topic filter that is none of ours": ((SUBACK, 0x8F), (SUBACK, 0x80), (SUBACK, 0)),
}
#: Rows that only MQTT 5.0 has words for.
ONLY_5 = ("Subscription identifier", "Topic alias", "Enhanced authentication")


class Client:
    """CONNECT and what follows, in one version, by hand."""

    def __init__(self, deployment: Deployment, version: int) -> None:
        self.version = version
        self.thing, self.key = deployment.thing("asking", "weather")
        self.topic = f"channels/{deployment.channels['weather']}/messages".encode()

    def properties(self, properties: bytes = b"") -> bytes:
        return bytes([len(properties)]) + properties if self.version == 5 else b""

    def connect(self, properties: bytes = b"", will_qos: int | None = None) -> bytes:
        name = b"MQIsdp" if self.version == 3 else b"MQTT"
        flags = 0xC2 if will_qos is None else 0xC6 | will_qos << 3
        head = (
            _text(name) + bytes([self.version, flags]) + struct.pack("!H", 60) + self.properties(properties)
        )
        will = b"" if will_qos is None else self.properties() + _text(self.topic) + _text(b"bye")
        body = head + _text(b"client") + will + _text(self.thing.encode()) + _text(self.key.encode())
        return _packet(0x10, body)

    def publish(self, flags: int, topic: bytes | None = None, properties: bytes = b"") -> bytes:
        body = _text(self.topic if topic is None else topic) + b"\0\1" + self.properties(properties) + b"x"
        return _packet(0x30 | flags, body)

    def subscribe(self, topic_filter: bytes, qos: int = 1, properties: bytes = b"") -> bytes:
        return _packet(0x82, b"\0\1" + self.properties(properties) + _text(topic_filter) + bytes([qos]))

    def asks(self, what: str) -> tuple[bytes, bytes]:
        """The CONNECT that asks for it, and what follows."""
        plain = self.connect()
        return {
            "QoS 2 subscription": (plain, self.subscribe(self.topic, 2)),
            "QoS 2 PUBLISH": (plain, self.publish(0x04)),
            "QoS 2 will": (self.connect(will_qos=2), b""),
            "RETAIN": (plain, self.publish(0x03)),
            "Shared subscription": (plain, self.subscribe(b"$share/group/" + self.topic)),
            "Subscription identifier": (plain, self.subscribe(self.topic, properties=b"\x0b\x07")),
            "Topic alias": (plain, self.publish(0x02, properties=b"\x23\0\1")),
            "Enhanced authentication": (self.connect(b"\x15" + _text(b"SCRAM")), b""),
            "PUBLISH where the thing may not": (plain, self.publish(0x02, b"channels/other/messages")),
            "SUBSCRIBE where the thing may not": (plain, self.subscribe(b"channels/other/messages")),
            "A topic filter that is none of ours": (plain, self.subscribe(b"weather/#")),
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
        """Every row but the session's, which its own test has."""
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
            self.assertIn("granted 1" if code == 1 else f"0x{code:02X}", said, what)
            if first != DISCONNECT and code != 1:
                self.assertIn({CONNACK: "CONNACK", PUBACK: "PUBACK", SUBACK: "SUBACK"}[first], said, what)

    def test_a_session_that_is_kept(self) -> None:
        """5.0 reads in CONNACK that it ends with the connection; 3.1.1 finds none when it comes back."""
        deployment = deployment_of("key")
        new = Client(deployment, 5)
        with Wire(deployment.server, "mqtt") as wire:
            wire.send(new.connect(b"\x11\0\0\x0e\x10"))
            first, body = wire.packet()
            self.assertEqual((CONNACK, 0, 0), (first, body[0], body[1]))
            self.assertIn(b"\x11\0\0\0\0", body)
        old = Client(deployment, 4)
        for _ in range(2):
            with Wire(deployment.server, "mqtt") as wire:
                connect = bytearray(old.connect())
                connect[connect.index(b"MQTT\4\xc2") + 5] = 0xC0
                wire.send(bytes(connect))
                self.assertEqual((CONNACK, b"\0\0"), wire.packet())


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
