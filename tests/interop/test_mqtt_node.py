"""Node's mqtt over TCP, TLS and WebSocket, with MQTT 3.1, 3.1.1 and 5.0, and messages across protocols."""

import base64
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.interop.clients import Heard, Inbox, Node, curl, mark, run_all
from tests.interop.mqtt_case import LONG, PUBCOMP, PUBLISH, PUBREC, PUBREL, Line, MqttCase, Way
from tests.interop.paho_client import Paho
from tests.interop.running import wait_until

VERSIONS = (3, 4, 5)
SESSION_TAKEN_OVER = 0x8E
DISCONNECT_WITH_WILL = 0x04


class NodeCase(MqttCase):
    """One Node for all clients of a test."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.open(Node())

    def client(
        self,
        name: str,
        version: int = 5,
        way: Way | None = None,
        *,
        clean: bool = True,
        expiry: int = 0,
        properties: dict[str, Any] | None = None,
        **more: Any,
    ) -> Inbox:
        """Begin to open a connection; the inbox's ``open`` event tells the rest."""
        door, websocket = way or (self.way, False)
        if version == 5:
            more["properties"] = {"sessionExpiryInterval": expiry, **(properties or {})}
        return self.node.mqtt(name, door, websocket=websocket, version=version, clean=clean, **more)

    def opened(self, name: str, version: int = 5, way: Way | None = None, **more: Any) -> Inbox:
        """A client that is connected."""
        inbox = self.client(name, version, way, **more)
        inbox.event("open")
        return inbox

    def send(self, name: str, *payloads: str, qos: int = 1, place: str = "", **more: Any) -> None:
        """Publish, and wait until all of it is acknowledged."""
        for payload in payloads:
            self.node.publish(name, payload.encode(), f"{self.topic}{place}", qos=qos, **more)
        for _ in payloads:
            published = self.node.inboxes[name].event("published")
            self.assertIsNone(published.get("error"), published)


class SessionTests(NodeCase):
    """A session outlives its connection, on every transport."""

    def each_way(self) -> Iterator[tuple[str, int, Way]]:
        for version in VERSIONS:
            for where, way in self.ways().items():
                yield f"node {version} {where}", version, way

    def test_resumed(self) -> None:
        """What was published while a client was away arrives when it is back, once and in order."""
        sessions = list(self.each_way())
        for name, version, way in sessions:
            inbox = self.client(name, version, way, clean=False, expiry=LONG)
            self.assertFalse(inbox.event("open")["session"], name)
            self.assertEqual([2], self.node.subscribe(name, f"{self.topic}/#", qos=2), name)
            if "tcp" in name or "wss" in name:
                self.node.end(name)
            else:
                self.node.close(name)
                inbox.event("close")
        texts = [f"{qos} {number}" for qos in (1, 2) for number in range(5)]
        for text in texts:
            self.publish(text, qos=int(text[0]))
        for name, version, way in sessions:
            inbox = self.client(name, version, way, clean=False, expiry=LONG)
            # MQTT 3.1 has no word for it.
            self.assertEqual(version > 3, inbox.event("open")["session"], name)
            self.hears(inbox, *texts)
            self.assertEqual([1] * 5 + [2] * 5, [heard.qos for heard in inbox.heard], name)

    def test_everybody_hears_everybody(self) -> None:
        """Each publishes at each QoS, over each transport; each hears all of it."""
        inboxes = [self.opened(*named) for named in self.each_way()]
        for inbox in inboxes:
            self.assertEqual([2], self.node.subscribe(inbox.name, self.topic, qos=2))
        expected = [(f"{inbox.name} {qos}", qos) for inbox in inboxes for qos in range(3)]
        for inbox in inboxes:
            for qos in range(3):
                self.send(inbox.name, f"{inbox.name} {qos}", qos=qos)
        for inbox in inboxes:
            inbox.wait(len(expected))
            self.assertEqual(
                Counter((mark(text.encode()), qos) for text, qos in expected),
                Counter((heard.mark, heard.qos) for heard in inbox.heard),
                inbox.name,
            )

    def test_expired(self) -> None:
        """A session is gone after its expiry interval, one that DISCONNECT shortened at once."""
        listener = self.opened("listener")
        self.node.subscribe("listener", f"{self.topic}/wills")
        # The will of a session that ends earlier than the will's delay tells that it has ended.
        will = {"topic": f"{self.topic}/wills", "qos": 1, "properties": {"willDelayInterval": LONG}}
        for name, expiry in ("short", 1), ("long", LONG), ("shortened", LONG):
            inbox = self.opened(name, expiry=expiry, will={**will, "payload": name})
            self.node.subscribe(name, self.topic)
            if name == "shortened":
                self.node.end(name, properties={"sessionExpiryInterval": 0})
            else:
                self.node.close(name)
                inbox.event("close")
        self.hears(listener, "short")
        self.publish("while away")
        for name in "short", "long", "shortened":
            inbox = self.client(name, clean=False)
            self.assertEqual(name == "long", inbox.event("open")["session"], name)
            if name == "long":
                self.hears(inbox, "while away")

    def test_taken_over(self) -> None:
        """A second connection resumes the session of the first, which is told so in 5.0, on any transport."""
        ways = self.ways()
        for first, second in ("tcp", "wss"), ("wss", "tls"), ("ws", "tcp"):
            name = f"{first} {second}"
            taken = self.opened(name, way=ways[first], expiry=LONG)
            self.node.subscribe(name, self.topic, qos=2)
            taking = self.client(name, way=ways[second], clean=False, expiry=LONG)
            # Both have the same name, and so the second has its inbox from now on.
            self.assertTrue(taking.event("open")["session"])
            self.assertEqual(SESSION_TAKEN_OVER, taking.event("disconnect")["code"])
            self.publish(name, qos=2)
            self.hears(taking, name)
            self.assertEqual([], taken.heard)

    def test_exactly_once(self) -> None:
        """Whichever packet of QoS 2 is lost on the way, a message comes once."""
        for version in VERSIONS:
            line = self.open(Line(self.way.port("mqtt")))
            options: dict[str, Any] = {"port": line.port, "reconnectPeriod": 20, "expiry": LONG}
            sending, hearing = f"sending {version}", f"hearing {version}"
            heard = self.opened(hearing, version, clean=False, **options)
            self.node.subscribe(hearing, f"{self.topic}/{version}", qos=2)
            self.opened(sending, version, clean=False, **options)
            texts = []
            for count, kind in enumerate((PUBLISH, PUBREC, PUBREL, PUBCOMP) * 2, 1):
                line.cut_at(kind)
                texts += [f"{count}", f"after {count}"]
                self.send(sending, *texts[-2:], qos=2, place=f"/{version}")
                line.wait_for_cuts(count)
                heard.wait(len(texts))
            self.hears(heard, *texts)


class MessageTests(NodeCase):
    """Retained messages, wills and MQTT 5.0's properties."""

    def test_retained(self) -> None:
        """A message stays for who comes later, until it is cleared, on every transport."""
        for version in VERSIONS:
            for where, way in self.ways().items():
                name, place = f"{version} {where}", f"/{version}/{where}"
                self.opened(name, version, way)
                self.send(name, "old", name, place=place, retain=True)
                late = self.opened(f"late {name}", version, way)
                self.node.subscribe(late.name, f"{self.topic}{place}", qos=1)
                self.hears(late, name)
                self.assertTrue(late.heard[0].retain)
                self.send(name, "", place=place, retain=True)
                self.node.subscribe(late.name, f"{self.topic}{place}", qos=1)
                self.send(name, "live", place=place)
                self.hears(late, name, "", "live")

    def test_options_of_a_subscription(self) -> None:
        """Retain handling, retain as published and no local."""
        self.publish("kept", more=("-r",))
        inbox = self.opened("node")
        expected = ["kept"]
        for options in {"rh": 0}, {"rh": 1}, {"rh": 2}, {"rh": 2, "nl": True, "rap": True}:
            self.assertEqual([1], self.node.subscribe("node", self.topic, **options))
        self.send("node", "mine", retain=True)
        self.publish("another's", more=("-r",))
        self.hears(inbox, *expected, "another's")
        self.assertEqual([True, True], [heard.retain for heard in inbox.heard])

    def test_wills(self) -> None:
        """They come when a client is lost or asks for it, with their properties, on every transport."""
        listener = self.opened("listener")
        self.node.subscribe("listener", f"{self.topic}/wills", qos=2)
        said = {
            "contentType": "text/plain",
            "userProperties": {"a": "1"},
            "responseTopic": "a/b",
            "messageExpiryInterval": 60,
        }
        expected = []
        for version in VERSIONS:
            for where, way in self.ways().items():
                expected.append(f"{version} {where}")
                will = {"topic": f"{self.topic}/wills", "payload": expected[-1], "qos": 2}
                if version == 5:
                    will["properties"] = said
                lost = self.opened(expected[-1], version, way, will=will)
                since = time.monotonic()
                self.node.close(expected[-1])
                lost.event("close")  # of this connection, and not of the next one of this name
                self.hears(listener, *expected)
                self.opened(expected[-1], version, way, will=will)
                if version < 5:
                    self.node.end(expected[-1])
                    continue
                self.check_will(listener.heard[-1], since)
                since = time.monotonic()
                self.node.end(expected[-1], reasonCode=DISCONNECT_WITH_WILL)
                expected.append(expected[-1])
                self.hears(listener, *expected)
                self.check_will(listener.heard[-1], since)

    def check_will(self, heard: Heard, since: float) -> None:
        """It has the properties that it was given."""
        self.assertEqual(("text/plain", "a:1"), (heard.content_type, heard.user_properties))
        self.assertEqual("a/b", heard.properties["response_topic"])
        self.check_expiry(heard.properties["message_expiry_interval"], 60, since)

    def test_every_property_of_a_message(self) -> None:
        """They come as they were, over every transport."""
        said = {
            "payloadFormatIndicator": True,
            "messageExpiryInterval": 60,
            "contentType": "application/cbor",
            "responseTopic": f"{self.topic}/answers",
            "correlationData": base64.b64encode(bytes(range(256))).decode(),
            "userProperties": {"a": "1", "grüße": "☃"},
        }
        for where, way in self.ways().items():
            inbox = self.opened(where, way=way)
            identifier = {"subscriptionIdentifier": 9}
            self.node.subscribe(where, f"{self.topic}/{where}", qos=2, properties=identifier)
            since = time.monotonic()
            for qos in range(3):
                self.send(where, "{}", qos=qos, place=f"/{where}", properties=said)
            self.hears(inbox, "{}", "{}", "{}")
            for heard in inbox.heard:
                self.assertEqual("application/cbor", heard.content_type)
                self.assertEqual("a:1 grüße:☃", heard.user_properties)
                self.check_expiry(heard.properties.pop("message_expiry_interval"), 60, since)
                self.assertEqual(
                    {
                        "payload_format_indicator": True,
                        "response_topic": f"{self.topic}/answers",
                        "correlation_data": bytes(range(256)),
                        "subscription_identifier": [9],
                    },
                    heard.properties,
                )

    def test_topic_aliases(self) -> None:
        """Both sides may write a number instead of a topic; nobody notices."""
        sender = self.client("sender", autoAssignTopicAlias=True)
        self.assertGreater(sender.event("open")["properties"]["topicAliasMaximum"], 0)
        inbox = self.opened("listener", properties={"topicAliasMaximum": 3})
        self.node.subscribe("listener", f"{self.topic}/#", qos=1)
        places = [f"/{number % 5}" for number in range(25)]
        for place in places:
            self.send("sender", place, place=place)
        self.hears(inbox, *places)
        self.assertEqual([f"{self.topic}{place}" for place in places], [heard.topic for heard in inbox.heard])
        # Three of the five topics have an alias, and each was written out once.
        aliases = Counter(event["alias"] for event in inbox.events if event["event"] == "alias")
        self.assertEqual(Counter({1: 4, 2: 4, 3: 4}), aliases)

    def test_shared(self) -> None:
        """A group over all transports and versions: each message to one of them."""
        inboxes = [
            self.opened(f"{version} {where}", version, way)
            for version in VERSIONS
            for where, way in self.ways().items()
        ]
        for inbox in inboxes:
            self.assertEqual([1], self.node.subscribe(inbox.name, f"$share/group/{self.topic}"))
        texts = [str(number) for number in range(45)]
        for text in texts:
            self.send(inboxes[0].name, text)
        wait_until(lambda: sum(len(inbox.heard) for inbox in inboxes) >= len(texts), "all messages")
        heard: Counter[str] = Counter()
        for inbox in inboxes:
            self.assertGreaterEqual(len(inbox.heard), 1, inbox.name)
            heard += inbox.marks
        self.assertEqual(Counter(mark(text.encode()) for text in texts), heard)

    def test_shared_with_one_that_does_not_answer(self) -> None:
        """Who takes one at a time and does not acknowledge it gets no other while somebody is there."""
        slow = self.opened("slow", properties={"receiveMaximum": 1})
        self.node.subscribe("slow", f"$share/group/{self.topic}")
        ready = self.open(Paho("ready", self.way))
        ready.subscribe(f"$share/group/{self.topic}")
        texts = [str(number) for number in range(10)]
        with self.node.frozen():
            self.publish(*texts)
            ready.inbox.wait(9)
        slow.wait(1)
        self.assertEqual((9, 1), (len(ready.inbox.heard), len(slow.heard)))
        self.assertEqual(Counter(mark(text.encode()) for text in texts), ready.inbox.marks + slow.marks)


class AcrossProtocolsTests(NodeCase):
    """HTTP and WebSocket publish into sessions, and hear what MQTT publishes."""

    def test_http_to_a_client_that_is_away(self) -> None:
        """What HTTP and WebSocket publish waits in a session with its content type."""
        self.opened("away", expiry=LONG)
        self.node.subscribe("away", f"{self.topic}/#", qos=2)
        self.node.end("away")
        for content_type, payload in ("application/cbor", "1"), ("application/senml+json", "2"):
            header = ("-H", f"Content-Type: {content_type}")
            command = curl(self.way, self.payloads.file(payload.encode()), "/a", *header)
            self.assertEqual([(0, "202")], list(run_all([command])))
        self.node.ws("ws", self.way, "/a?content-type=text/x", protocols=[]).event("open")
        self.node.publish("ws", b"3", binary=False)
        self.node.inboxes["ws"].event("published")
        self.node.ws("watch", self.way, "/a").event("open")
        inbox = self.client("away", clean=False, expiry=LONG)
        self.assertTrue(inbox.event("open")["session"])
        self.hears(inbox, "1", "2", "3")
        self.assertEqual(
            [("application/cbor", 1), ("application/senml+json", 1), ("text/x", 1)],
            [(heard.content_type, heard.qos) for heard in inbox.heard],
        )

    def test_mqtt_to_websocket(self) -> None:
        """The content type of a message, a will and a retained message chooses between text and binary."""
        socket = self.node.ws("ws", self.way)
        socket.event("open")
        cases = (("application/json", False), ("application/cbor", True), ("text/plain", False))
        for way in self.ways().values():
            self.opened("node", way=way)
            for qos, (content_type, _) in enumerate(cases):
                self.send("node", "{}", qos=qos, retain=qos == 1, properties={"contentType": content_type})
            will = {"topic": self.topic, "payload": "{}", "properties": {"contentType": "application/cbor"}}
            self.opened("lost", way=way, will=will)
            self.node.close("lost")
            socket.wait(4)
            self.assertEqual([False, True, False, True], [heard.binary for heard in socket.heard])
            socket.heard.clear()
