"""Everything that is published with any client is heard by every other: the clients that users have."""

import os
from collections import Counter
from collections.abc import Callable

from tests.interop.client_case import BINARY, MIB, PACKET_TOO_LARGE, TEXT, VERSIONS, ClientCase
from tests.interop.clients import (
    Door,
    Inbox,
    MosquittoSub,
    Node,
    curl,
    mark,
    mosquitto,
    run_all,
)
from tests.interop.paho_client import Paho


class Everybody:
    """One subscriber of every kind at each door, and one publisher of every kind."""

    def __init__(self, case: ClientCase, doors: list[Door]) -> None:
        self._case = case
        self._node = case.open(Node())
        self.inboxes: list[Inbox] = []
        #: Name to what publishes one payload, and returns the command that still has to be run, if any.
        self.publishers: dict[str, Callable[[bytes], list[str] | None]] = {}
        for door in doors:
            self._enter(door, "tls" if door.tls else "plain")

    def _enter(self, door: Door, where: str) -> None:
        for version in VERSIONS:
            self.inboxes.append(self._case.open(MosquittoSub(f"sub {version} {where}", door, version)).inbox)
            for qos in 0, 1:
                self.publishers[f"pub {version} {where} {qos}"] = self._mosquitto(door, version, qos)
        for protocol in 4, 5:
            client = self._case.open(Paho(f"paho {protocol} {where}", door, protocol))
            self._case.assertEqual([1], client.subscribe(door.topic))
            self.inboxes.append(client.inbox)
            self.publishers[client.inbox.name] = self._paho(client, door)
        node = self._node
        opened = [node.ws(f"ws {where}", door)]
        opened += [
            node.mqtt(
                f"node {version} {'ws' if websocket else 'tcp'} {where}",
                door,
                websocket=websocket,
                version=version,
            )
            for version in (3, 4, 5)
            for websocket in (False, True)
        ]
        for inbox in opened:
            inbox.event("open")
            if not inbox.name.startswith("ws"):
                self._case.assertEqual([1], node.subscribe(inbox.name, door.topic), inbox.name)
            self.publishers[inbox.name] = self._by_node(inbox.name, door)
        self.inboxes += opened
        self.publishers[f"curl {where}"] = lambda payload: curl(door, self._case.payloads.file(payload))

    def _mosquitto(self, door: Door, version: str, qos: int) -> Callable[[bytes], list[str]]:
        def publish(payload: bytes) -> list[str]:
            what = ["-f", self._case.payloads.file(payload)] if payload else ["-n"]
            return ["mosquitto_pub", *mosquitto(door, version), "-q", str(qos), "-t", door.topic, *what]

        return publish

    def _paho(self, client: Paho, door: Door) -> Callable[[bytes], None]:
        return lambda payload: client.publish(door.topic, payload)

    def _by_node(self, name: str, door: Door) -> Callable[[bytes], None]:
        def publish(payload: bytes) -> None:
            file = self._case.payloads.file(payload) if len(payload) > 4096 else None
            self._node.publish(name, payload, door.topic, file)

        return publish

    def publish(self, payloads: dict[str, bytes]) -> None:
        """Publish one payload with each client named."""
        commands = {name: self.publishers[name](payload) for name, payload in payloads.items()}
        wanted = {name: command for name, command in commands.items() if command is not None}
        for name, (status, output) in zip(wanted, run_all(list(wanted.values())), strict=True):
            if name.startswith("curl"):
                self._case.assertEqual("202", output, name)
            else:
                self._case.assertEqual((0, ""), (status, output), name)


class MatrixTests(ClientCase):
    """What is published with any client is heard by all, byte for byte."""

    def check_everybody_hears_everybody(self, doors: list[Door]) -> None:
        everybody = Everybody(self, doors)
        expected: Counter[str] = Counter()
        for make in (
            lambda name: name.encode() + BINARY,
            lambda name: name.encode() + TEXT,
            lambda name: b"",
        ):
            payloads = {name: make(name) for name in everybody.publishers}
            everybody.publish(payloads)
            expected += Counter(map(mark, payloads.values()))
            for inbox in everybody.inboxes:
                inbox.wait(expected.total())
        for inbox in everybody.inboxes:
            self.assertEqual(expected, inbox.marks, inbox.name)
        kinds = ("pub mqttv31 tls 1", "pub mqttv5 tls 0", "paho 5 tls", "node 4 ws tls", "ws tls", "curl tls")
        for number, name in enumerate(kinds):
            payload = bytes([number]) + os.urandom(MIB - 1)
            everybody.publish({name: payload})
            expected[mark(payload)] += 1
            for inbox in everybody.inboxes:
                inbox.wait(expected.total())
        for inbox in everybody.inboxes:
            self.assertEqual(expected, inbox.marks, inbox.name)

    def test_with_keys(self) -> None:
        """With keys, on the plain listeners and with TLS at once."""
        secure = self.door(tls=True)
        plain = Door(secure.server, secure.thing, secure.key, secure.channel)
        self.check_everybody_hears_everybody([secure, plain])

    def test_with_client_certificates(self) -> None:
        """With client certificates."""
        self.check_everybody_hears_everybody([self.door("x509")])


class OversizeTests(ClientCase):
    """One byte more than 1 MiB is refused on every protocol, clearly, and reaches nobody."""

    def setUp(self) -> None:
        super().setUp()
        self.way = self.door()
        self.listener = self.open(MosquittoSub("listener", self.way, "mqttv5")).inbox
        self.payload = bytes(MIB + 1)
        self.file = self.payloads.file(self.payload)

    def nobody_heard(self) -> None:
        ((status, output),) = run_all([curl(self.way, self.payloads.file(b"the next one"))])
        self.assertEqual((0, "202"), (status, output))
        self.listener.wait(1)
        self.assertEqual([mark(b"the next one")], [heard.mark for heard in self.listener.heard])

    def test_http(self) -> None:
        """413, whether the length is announced or not."""
        commands = [
            curl(self.way, self.file),
            curl(self.way, self.file, "", "-H", "Transfer-Encoding: chunked"),
        ]
        self.assertEqual([(0, "413")] * 2, list(run_all(commands)))
        self.nobody_heard()

    def test_websocket(self) -> None:
        """The close code says so: 1009."""
        node = self.open(Node())
        for binary in True, False:
            inbox = node.ws("ws", self.way)
            inbox.event("open")
            node.publish("ws", b"", file=self.file, binary=binary)
            self.assertEqual(1009, inbox.event("close")["code"])
        self.nobody_heard()

    def test_mqtt_5(self) -> None:
        """DISCONNECT with 0x95, to every client at QoS 0 and 1."""
        node = self.open(Node())
        for websocket in False, True:
            for qos in 0, 1:
                inbox = node.mqtt("node", self.way, websocket=websocket)
                inbox.event("open")
                node.publish("node", b"", self.way.topic, self.file, qos)
                self.assertEqual(PACKET_TOO_LARGE, inbox.event("disconnect")["code"])
                inbox.event("close")
        with Paho("paho", self.way) as client:
            client.publish(self.way.topic, self.payload)
            self.assertEqual(PACKET_TOO_LARGE, client.inbox.event("close")["code"])
        self.nobody_heard()

    def test_mqtt_3(self) -> None:
        """MQTT 3 has no words for it: the connection is closed, and nothing is acknowledged."""
        node = self.open(Node())
        for version in 3, 4:
            inbox = node.mqtt("node", self.way, version=version)
            inbox.event("open")
            node.publish("node", b"", self.way.topic, self.file)
            inbox.event("close")
            self.assertEqual([], [event for event in inbox.events if event == {"event": "published"}])
        self.nobody_heard()

    def test_mosquitto_pub(self) -> None:
        """The program ends with an error, and does not wait for ever."""
        commands = [
            ["mosquitto_pub", *mosquitto(self.way, version), "-q", "1", "-t", self.way.topic, "-f", self.file]
            for version in VERSIONS
        ]
        for version, (status, output) in zip(VERSIONS, run_all(commands), strict=True):
            self.assertNotEqual(0, status, f"{version}: {output}")
            self.assertIn("Error", output)
        self.nobody_heard()


class SessionTests(ClientCase):
    """What clients do besides publishing."""

    def setUp(self) -> None:
        super().setUp()
        self.way = self.door()
        self.listener = self.open(MosquittoSub("listener", self.way, "mqttv311", f"{self.way.topic}/#"))

    def test_will(self) -> None:
        """A client that is killed leaves its will; one that says goodbye does not."""
        for version in VERSIONS:
            will = ("--will-topic", f"{self.way.topic}/wills", "--will-payload", version, "--will-qos", "1")
            victim = self.open(MosquittoSub(version, self.way, version, more=will))
            victim.kill()
        self.listener.inbox.wait(3)
        self.assertEqual(Counter(mark(v.encode()) for v in VERSIONS), self.listener.inbox.marks)
        self.assertEqual({f"{self.way.topic}/wills"}, {heard.topic for heard in self.listener.inbox.heard})
        command = ["mosquitto_sub", *mosquitto(self.way, "mqttv5"), "-t", self.way.topic, "-E"]
        goodbye = [*command, "--will-topic", f"{self.way.topic}/wills", "--will-payload", "never"]
        self.assertEqual([(0, "")], list(run_all([goodbye])))
        self.assertEqual([(0, "202")], list(run_all([curl(self.way, self.payloads.file(b"next"))])))
        self.assertEqual(mark(b"next"), self.listener.inbox.wait(4)[3].mark)

    def test_takeover(self) -> None:
        """A second connection with the same client id takes over, and the first is told why in 5.0."""
        node = self.open(Node())
        for version in 4, 5:
            first = node.mqtt("first", self.way, version=version, clientId="one")
            first.event("open")
            second = node.mqtt("second", self.way, version=version, clientId="one")
            self.assertFalse(second.event("open")["session"])
            first.event("close")
            if version == 5:
                self.assertEqual(0x8E, first.event("disconnect")["code"])
            with Paho("one", self.way, version) as third:
                second.event("close")
                self.assertEqual([1], third.subscribe(self.way.topic))
                third.publish(self.way.topic, b"hello")
                third.inbox.wait(1)

    def test_reconnect(self) -> None:
        """paho comes back by itself after the server was away, to a session that is new."""
        way = self.door(own_server=True)
        server = way.server
        fixed = f"--mqtt=127.0.0.1:{server.port('mqtt')}"
        with Paho("paho", way) as client:
            client.client.reconnect_delay_set(1, 1)
            client.subscribe(way.topic)
            server.stop()
            client.inbox.event("close")
            server.command.append(fixed)
            server.start()
            self.assertEqual(0, client.inbox.event("open")["code"])
            self.assertEqual([1], client.subscribe(way.topic))
            client.publish(way.topic, b"again")
            self.assertEqual(mark(b"again"), client.inbox.wait(1)[0].mark)

    def test_publish_where_it_may_not(self) -> None:
        """A channel that the thing is not connected to: closed, or a reason code in 5.0's PUBACK."""
        for version, expected in zip(VERSIONS, (7, 7, 0), strict=True):
            command = ["mosquitto_pub", *mosquitto(self.way, version), "-q", "1", "-m", "x"]
            ((status, output),) = run_all([[*command, "-t", "channels/another/messages"]])
            self.assertEqual(expected, status)
            self.assertIn("Not authorized" if version == "mqttv5" else "The connection was lost", output)
