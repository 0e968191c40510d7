"""The normative statements of MQTT 5.0 and 3.1.1 about what carries it (4.2; 7.0, 7.1), on a real socket."""

import ast
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

import mfserver
from mfserver.adapters.mqtt import MQTTFactory
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import Connect, Disconnect, Publish, Subscribe, Subscription
from tests.adapters.fakes import House
from tests.adapters.mqtt_case import packets
from tests.adapters.statement_case import TOPIC, VERSIONS


class _Collector(Protocol):
    """Collects what comes until the connection is closed."""

    def __init__(self) -> None:
        self.data = b""
        self.closed: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: object = None) -> None:
        self.closed.callback(self.data)


class TransportTests(TestCase):
    """TCP carries it."""

    async def test_tcp(self) -> None:
        """A stream of bytes both ways, in order and whole: of 5.0 [MQTT-4.2.0-1], of 3.1.1
        [MQTT-7.1.1-1]."""
        assert IReactorTCP.providedBy(reactor)
        house = House()
        house.thing("alice", "c")
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(MQTTFactory(house.mqtt))
        try:
            for version in VERSIONS:
                said = [
                    Connect(version, "a", user_name="alice", password=b"key-of-alice"),
                    Subscribe(1, [Subscription(TOPIC)]),
                    *(Publish(TOPIC, number.to_bytes(2, "big") * 400) for number in range(3)),
                ]
                client = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
                collector = await connectProtocol(client, _Collector())
                assert collector.transport is not None
                data = b"".join(encode(one, version) for one in said)
                for start in range(0, len(data), 100):
                    collector.transport.write(data[start : start + 100])
                while len(collector.data) < 3 * 800:
                    await _turn()
                    house.end_turn()
                collector.transport.write(encode(Disconnect(), version))
                answer = packets(await collector.closed, version)
                self.assertEqual(
                    [number.to_bytes(2, "big") * 400 for number in range(3)],
                    [one.payload for one in answer if isinstance(one, Publish)],
                )
        finally:
            await port.stopListening()


def _turn() -> "Deferred[None]":
    """Fires in the next turn of the reactor."""
    later: Deferred[None] = Deferred()
    reactor.callLater(0.01, later.callback, None)
    return later


class DirectionTests(SynchronousTestCase):
    """The server is nobody's client."""

    def test_no_connections_out(self) -> None:
        """It opens no MQTT connection, so that it has no client's duties: of 3.1.1 [MQTT-7.0.0-1]. No module
        of it makes a CONNECT, or asks a reactor for a connection."""
        makers = {"Connect", "connectTCP", "connectSSL", "connectProtocol", "clientFromString"}
        makers |= {"TCP4ClientEndpoint", "TCP6ClientEndpoint", "HostnameEndpoint"}
        found = []
        root = Path(mfserver.__file__).parent
        for path in sorted(root.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                    if name in makers:
                        found.append(f"{path.relative_to(root)}: {name}")
        self.assertEqual(["mqtt/decode_connect.py: Connect"], found)
