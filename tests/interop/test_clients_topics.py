"""One topic, content type and set of properties for a message, however each protocol writes them."""

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.interop.client_case import TEXT, ClientCase
from tests.interop.clients import Inbox, MosquittoSub, Node, curl, mark, mosquitto, run_all
from tests.interop.paho_client import Paho


class TopicTests(ClientCase):
    """One message has one topic, however each protocol writes it."""

    def setUp(self) -> None:
        super().setUp()
        self.way = self.door()
        self.node = self.open(Node())

    def sockets(self, *subtopics: str) -> dict[str, Inbox]:
        inboxes = {subtopic: self.node.ws(subtopic, self.way, f"/{subtopic}") for subtopic in subtopics}
        for inbox in inboxes.values():
            inbox.event("open")
        return inboxes

    def subscribers(self, *filters: str) -> dict[str, Inbox]:
        return {
            one: self.open(MosquittoSub(one, self.way, "mqttv5", f"{self.way.topic}{one}")).inbox
            for one in filters
        }

    def publish(self, published: dict[str, str]) -> None:
        """Publish, one after the other, each payload to its place: a path, or after ``mqtt:`` a topic."""
        for payload, place in published.items():
            if place.startswith("mqtt:"):
                topic = f"{self.way.topic}{place[5:]}"
                command = [
                    "mosquitto_pub",
                    *mosquitto(self.way, "mqttv311"),
                    "-q",
                    "1",
                    "-t",
                    topic,
                    "-m",
                    payload,
                ]
                self.assertEqual([(0, "")], list(run_all([command])))
            else:
                command = curl(self.way, self.payloads.file(payload.encode()), place)
                self.assertEqual([(0, "202")], list(run_all([command])))

    def heard_exactly(self, expected: dict[Inbox | str, str], inboxes: dict[str, Inbox]) -> None:
        """Compare what each inbox heard with the payloads of one letter each."""
        for one, letters in expected.items():
            assert isinstance(one, str)
            inbox = inboxes[one]
            inbox.wait(len(letters))
            self.assertEqual(
                [mark(letter.encode()) for letter in letters], [h.mark for h in inbox.heard], one
            )

    def test_subtopics_and_wildcards(self) -> None:
        """``a/b`` and ``a.b`` are one subtopic, and every wildcard hears what it promises."""
        listening = self.subscribers("", "/a/b", "/a/+", "/+/b", "/#", "/a/#", "/+")
        listening |= self.sockets("", "a/b", "a.b", "a.*", "a/>", ">", "*", "*.b")
        self.publish(
            {
                "1": "",
                "2": "/a",
                "3": "/a/b",
                "4": "/a.b",
                "5": "mqtt:/a/b",
                "6": "/a/b/c",
                "7": "mqtt:/x/b",
                "8": "mqtt:",
                "9": "/last",
            }
        )
        self.heard_exactly(
            {
                "/a/b": "345",
                "/a/+": "345",
                "/+/b": "3457",
                "/#": "123456789",
                "/a/#": "23456",
                "/+": "29",
                "a/b": "345",
                "a.b": "345",
                "a.*": "345",
                "a/>": "3456",
                ">": "2345679",
                "*": "29",
                "*.b": "3457",
            },
            listening,
        )
        self.assertEqual(
            [f"{self.way.topic}{place}" for place in ("", "/a", "/a/b", "/a/b", "/a/b", "/a/b/c")],
            [heard.topic for heard in listening["/#"].heard[:6]],
        )

    def test_mqtt_keeps_its_exact_levels(self) -> None:
        """Empty levels and dots stay between MQTT clients; everybody else sees the normal form."""
        listening = self.subscribers("/a//b.c", "/a/+/b.c", "/a/b/c", "/#") | self.sockets(
            "a/b/c", "a.b.c", ">"
        )
        self.publish(
            {"1": "mqtt:/a//b.c", "2": "/a/b/c", "3": "mqtt:/a/b/c", "4": "mqtt:/.a..b/c/", "5": "/end"}
        )
        self.heard_exactly(
            {
                "/a//b.c": "1",
                "/a/+/b.c": "1",
                "/a/b/c": "23",
                "/#": "12345",
                "a/b/c": "1234",
                "a.b.c": "1234",
                ">": "12345",
            },
            listening,
        )
        exact = [heard.topic.removeprefix(self.way.topic) for heard in listening["/#"].heard]
        self.assertEqual(["/a//b.c", "/a/b/c", "/a/b/c", "/.a..b/c/", "/end"], exact)

    def test_percent_encoded_utf_8(self) -> None:
        """What a URL spells with percent signs is UTF-8 in MQTT, and the other way round."""
        listening = self.subscribers("/été/☃", "/#") | self.sockets("%C3%A9t%C3%A9/%E2%98%83")
        self.publish({"1": "/%C3%A9t%C3%A9/%E2%98%83", "2": "mqtt:/été/☃", "3": "/%c3%a9t%c3%a9.%e2%98%83"})
        self.node.publish("%C3%A9t%C3%A9/%E2%98%83", b"4")
        for inbox in listening.values():
            inbox.wait(4)
            self.assertEqual(
                [mark(letter) for letter in (b"1", b"2", b"3", b"4")], [h.mark for h in inbox.heard]
            )
        self.assertEqual({f"{self.way.topic}/été/☃"}, {heard.topic for heard in listening["/#"].heard})

    def test_refused(self) -> None:
        """A wildcard cannot be published to, and a part of a level is none."""
        for place in "/a/*", "/>", "/a%23", "/%2B", "/a%2Fb", "/%00", "/%FF", "/%zz":
            with self.subTest(place):
                command = curl(self.way, self.payloads.file(b""), place)
                self.assertEqual([(0, "400")], list(run_all([command])))
        for place in "a*", "%3E/a", "%23":
            with self.subTest(place):
                self.assertEqual(400, self.node.ws(place, self.way, f"/{place}").event("refused")["status"])


class PropertyTests(ClientCase):
    """What a message is, besides its bytes."""

    def setUp(self) -> None:
        super().setUp()
        self.way = self.door()
        self.node = self.open(Node())
        self.socket = self.node.ws("ws", self.way)
        self.socket.event("open")
        self.new = self.open(MosquittoSub("5.0", self.way, "mqttv5")).inbox
        self.old = self.open(MosquittoSub("3.1.1", self.way, "mqttv311")).inbox

    def heard(self, count: int) -> None:
        for inbox in self.new, self.old, self.socket:
            inbox.wait(count)

    def test_content_types(self) -> None:
        """HTTP's header is MQTT 5.0's property, and both decide between text and binary frames."""
        cases = (
            ("application/senml+json", b"[]", True),
            ("application/json", b"{}", True),
            ("text/plain; charset=utf-8", TEXT, True),
            ("application/octet-stream", b"text all the same", False),
            ("application/cbor", b"\xa0", False),
            ("text/plain", b"\xff", False),
        )
        for content_type, payload, _ in cases:
            command = curl(self.way, self.payloads.file(payload), "", "-H", f"Content-Type: {content_type}")
            self.assertEqual([(0, "202")], list(run_all([command])))
        for content_type, payload, _ in cases:
            file = self.payloads.file(payload)
            said = ["-D", "publish", "content-type", content_type]
            command = [*mosquitto(self.way, "mqttv5"), "-q", "1", "-t", self.way.topic, "-f", file, *said]
            self.assertEqual([(0, "")], list(run_all([["mosquitto_pub", *command]])))
        self.heard(2 * len(cases))
        self.assertEqual([one[0] for one in cases] * 2, [heard.content_type for heard in self.new.heard])
        self.assertEqual([mark(one[1]) for one in cases] * 2, [heard.mark for heard in self.old.heard])
        self.assertEqual([not one[2] for one in cases] * 2, [heard.binary for heard in self.socket.heard])

    def test_websocket_names_a_content_type_once_for_all_its_frames(self) -> None:
        """In a header or in the query; without one the payload alone decides."""
        ways: list[tuple[str, str, dict[str, str]]] = [
            ("header", "", {"Content-Type": "application/cbor"}),
            ("query", "?content-type=application/cbor", {}),
            ("none", "", {}),
        ]
        for count, (name, place, headers) in enumerate(ways, 1):
            self.node.ws(name, self.way, place, headers=headers).event("open")
            self.node.publish(name, b"text", binary=False)
            self.node.inboxes[name].event("published")
            self.heard(count)
        self.assertEqual([True, True, False], [heard.binary for heard in self.socket.heard])

    def test_content_type_in_a_topic(self) -> None:
        """Mainflux's old spelling, as the last two levels."""
        for ending in "/ct/application_senml-json", "/ct/application_cbor":
            topic = f"{self.way.topic}{ending}"
            command = ["mosquitto_pub", *mosquitto(self.way, "mqttv31"), "-q", "1", "-t", topic, "-m", "[]"]
            self.assertEqual([(0, "")], list(run_all([command])))
        self.heard(2)
        self.assertEqual(
            [("application/senml+json", self.way.topic), ("application/cbor", self.way.topic)],
            [(heard.content_type, heard.topic) for heard in self.new.heard],
        )
        self.assertEqual([False, True], [heard.binary for heard in self.socket.heard])

    def test_user_properties(self) -> None:
        """They go from MQTT 5.0 to MQTT 5.0 in their order, and others get the message without."""
        command = [*mosquitto(self.way, "mqttv5"), "-q", "1", "-t", self.way.topic, "-m", "x"]
        for said in ("b", "2"), ("a", "1"), ("a", "again"):
            command += ["-D", "publish", "user-property", *said]
        self.assertEqual([(0, "")], list(run_all([["mosquitto_pub", *command]])))
        client = self.open(Paho("paho", self.way))
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = [("grüße", "☃")]
        client.publish(self.way.topic, b"y", properties=properties)
        self.heard(2)
        self.assertEqual(["b:2 a:1 a:again", "grüße:☃"], [heard.user_properties for heard in self.new.heard])
        self.assertEqual([mark(b"x"), mark(b"y")], [heard.mark for heard in self.old.heard])
