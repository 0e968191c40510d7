"""paho-mqtt: retained messages, wills, MQTT 5.0's properties and shared subscriptions."""

import time
from collections import Counter
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from tests.interop.clients import mark
from tests.interop.mqtt_case import LONG, MqttCase
from tests.interop.paho_client import Paho, paho_properties
from tests.interop.running import wait_until

VERSIONS = (3, 4, 5)
PACKET_IDENTIFIER_NOT_FOUND = 0x92
PAYLOAD_FORMAT_INVALID = 0x99


class RetainedTests(MqttCase):
    """The last retained message of a topic is there for who comes later."""

    def test_retained(self) -> None:
        """A new subscriber of any version gets it, marked; one that is there does not see the mark."""
        for version in VERSIONS:
            place = f"{self.topic}/{version}"
            there = self.open(Paho(f"there {version}", self.way, version))
            there.subscribe(place, 2)
            client = self.open(Paho(f"publisher {version}", self.way, version))
            for text in "first", "last":
                client.publish(place, text.encode(), 2, retain=True)
                client.inbox.event("published")
            self.hears(there.inbox, "first", "last")
            self.assertEqual([False, False], [heard.retain for heard in there.inbox.heard])
            late = self.open(Paho(f"late {version}", self.way, version))
            late.subscribe(f"{self.topic}/{version}/#", 1)
            self.hears(late.inbox, "last")
            self.assertEqual((True, 1), (late.inbox.heard[0].retain, late.inbox.heard[0].qos))
            client.publish(place, b"", 1, retain=True)
            client.inbox.event("published")
            late.subscribe(f"{self.topic}/{version}/#", 1)
            client.publish(place, b"live", 1)
            # What clears is a message like any other to those who are there.
            self.hears(late.inbox, "last", "", "live")

    def test_retain_handling(self) -> None:
        """A 5.0 client says when it wants what is retained: always, when it is new, or never."""
        self.publish("kept", more=("-r",))
        for handling, expected in (0, ["kept", "kept", "0"]), (1, ["kept", "1"]), (2, ["2"]):
            client = self.open(Paho(f"handling {handling}", self.way))
            for _ in range(2):
                self.assertEqual([1], client.subscribe(self.topic, 1, retainHandling=handling))
            self.publish(str(handling))
            self.hears(client.inbox, *expected)

    def test_retain_as_published(self) -> None:
        """A 5.0 client may keep the mark of what is published while it is there."""
        kept, lost = (self.open(Paho(name, self.way)) for name in ("kept", "lost"))
        kept.subscribe(self.topic, 1, retainAsPublished=True)
        lost.subscribe(self.topic, 1, retainAsPublished=False)
        self.publish("retained", more=("-r",))
        self.publish("not")
        for client, marks in (kept, [True, False]), (lost, [False, False]):
            self.hears(client.inbox, "retained", "not")
            self.assertEqual(marks, [heard.retain for heard in client.inbox.heard])


class WillTests(MqttCase):
    """A client that is lost leaves its will."""

    def setUp(self) -> None:
        super().setUp()
        began = time.monotonic()
        self.listener = self.open(Paho("listener", self.way))
        self.listener.subscribe(f"{self.topic}/wills", 2)
        self.delay = self.delay_of(time.monotonic() - began)

    def client(self, name: str, version: int = 5, delay: int = 0, **more: Any) -> Paho:
        """A client whose will is its name."""

        def with_will(client: paho.Client) -> None:
            properties = None
            if version == 5:
                properties = paho_properties(
                    "WillMessage",
                    WillDelayInterval=delay,
                    ContentType="text/plain",
                    ResponseTopic="response/topic",
                    CorrelationData=b"\0\xff",
                    UserProperty=[("a", "1"), ("a", "2")],
                    PayloadFormatIndicator=1,
                    MessageExpiryInterval=60,
                )
            client.will_set(f"{self.topic}/wills", name, 2, True, properties)

        return self.open(Paho(name, self.way, version, prepare=with_will, **more))

    def test_lost(self) -> None:
        """The will comes with its QoS and is retained as it wished; 5.0's has its properties."""
        names = []
        for version in VERSIONS:
            names.append(f"lost {version}")
            self.client(names[-1], version).drop()
            self.listener.inbox.wait(len(names))
        self.hears(self.listener.inbox, *names)
        will = self.listener.inbox.heard[-1]
        self.assertEqual(("text/plain", "a:1 a:2", 2), (will.content_type, will.user_properties, will.qos))
        self.assertLessEqual(will.properties.pop("message_expiry_interval"), 60)
        self.assertEqual(
            {
                "response_topic": "response/topic",
                "correlation_data": b"\0\xff",
                "payload_format_indicator": 1,
            },
            will.properties,
        )
        late = self.open(Paho("late", self.way))
        late.subscribe(f"{self.topic}/wills")
        self.hears(late.inbox, names[-1])
        self.assertTrue(late.inbox.heard[0].retain)

    def test_said_goodbye(self) -> None:
        """A normal DISCONNECT takes the will back, one with 0x04 publishes it."""
        for version in VERSIONS:
            with self.client(f"goodbye {version}", version) as client:
                client.client.disconnect()
                client.inbox.event("close")
        with self.client("with will") as client:
            client.client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
            client.inbox.event("close")
        self.hears(self.listener.inbox, "with will")

    def test_delayed(self) -> None:
        """A will that is delayed is not published when its client is back in time."""
        self.client("back in time", delay=self.delay, expiry=LONG).drop()
        with self.client("back in time", delay=self.delay, expiry=LONG, clean=False) as client:
            self.assertTrue(client.session)
            self.client("too late", delay=self.delay, expiry=LONG).drop()
            # The other one's delay would have ended earlier.
            self.hears(self.listener.inbox, "too late")

    def test_taken_over(self) -> None:
        """Who is taken over leaves its will, unless a session with a delay is resumed."""
        self.client("resumed", delay=LONG, expiry=LONG).stay_away()
        self.client("resumed", delay=LONG, expiry=LONG, clean=False)
        self.client("taken").stay_away()
        self.client("taken")
        self.hears(self.listener.inbox, "taken")


class PropertyTests(MqttCase):
    """What MQTT 5.0 says about messages and subscriptions."""

    def test_every_property_of_a_message(self) -> None:
        """They reach 5.0 clients as they were; the older ones get the message alone."""
        new, old = self.open(Paho("new", self.way)), self.open(Paho("old", self.way, 4))
        for client in new, old:
            client.subscribe(self.topic, 2)
        said = paho_properties(
            "Publish",
            ContentType="application/cbor",
            ResponseTopic=f"{self.topic}/answers",
            CorrelationData=bytes(range(256)),
            UserProperty=[("b", "☃"), ("a", ""), ("b", "2")],
            PayloadFormatIndicator=1,
            MessageExpiryInterval=60,
        )
        since = time.monotonic()
        new.publish(self.topic, "grüße".encode(), 2, said)
        self.hears(new.inbox, "grüße")
        self.hears(old.inbox, "grüße")
        (heard,) = new.inbox.heard
        self.assertEqual(("application/cbor", "b:☃ a: b:2"), (heard.content_type, heard.user_properties))
        self.check_expiry(heard.properties.pop("message_expiry_interval"), 60, since)
        self.assertEqual(
            {
                "response_topic": f"{self.topic}/answers",
                "correlation_data": bytes(range(256)),
                "payload_format_indicator": 1,
            },
            heard.properties,
        )

    def test_message_expiry(self) -> None:
        """A message that waits too long is not delivered; the others say how much time they have left."""
        with Paho("away", self.way, expiry=LONG) as client:
            client.subscribe(f"{self.topic}/#", 1)
        since = time.monotonic()
        for seconds in "1", str(LONG):
            said = ("-D", "publish", "message-expiry-interval", seconds)
            self.publish(f"for {seconds} s", more=said)
            self.publish(f"retained for {seconds} s", place=f"/{seconds}", more=("-r", *said))
        watching = [self.open(Paho(f"late {number}", self.way)) for number in range(40)]

        def is_gone() -> bool:
            late = watching.pop()
            late.subscribe(f"{self.topic}/#", 1)
            late.inbox.wait(1)
            late.subscribe(f"{self.topic}/none")
            return [mark(f"retained for {LONG} s".encode())] == [heard.mark for heard in late.inbox.heard]

        wait_until(is_gone, "a retained message expired")
        client = self.open(Paho("away", self.way, clean=False, expiry=LONG))
        self.hears(client.inbox, f"for {LONG} s", f"retained for {LONG} s")
        for heard in client.inbox.heard:
            self.check_expiry(heard.properties["message_expiry_interval"], LONG, since)
            self.assertLess(heard.properties["message_expiry_interval"], LONG)

    def test_payload_that_is_not_what_it_says(self) -> None:
        """UTF-8 that is none is refused, with the code for it, and reaches nobody."""
        client = self.open(Paho("paho", self.way))
        client.subscribe(self.topic, 2)
        said = paho_properties("Publish", PayloadFormatIndicator=1)
        # paho passes over what PUBREC says and goes on to release what the server does not have.
        for qos, code in (1, PAYLOAD_FORMAT_INVALID), (2, PACKET_IDENTIFIER_NOT_FOUND):
            client.publish(self.topic, b"\xff", qos, said)
            self.assertEqual(code, client.inbox.event("published")["code"])
        client.publish(self.topic, b"well", 2, said)
        self.hears(client.inbox, "well")

    def test_subscription_identifiers(self) -> None:
        """A message names the subscriptions that it comes by."""
        client = self.open(Paho("paho", self.way))
        client.subscribe(f"{self.topic}/a/#", 1, identifier=1)
        client.subscribe(f"{self.topic}/+/b", 1, identifier=268_435_455)
        client.subscribe(f"{self.topic}/none", 1)
        for place in "/a", "/x/b", "/none":
            self.publish(place, place=place)
        self.hears(client.inbox, "/a", "/x/b", "/none")
        said = [heard.properties.get("subscription_identifier") for heard in client.inbox.heard]
        self.assertEqual([[1], [268_435_455], None], said)
        client.inbox.heard.clear()
        self.publish("both", place="/a/b")
        self.publish("next", place="/none")

        def came() -> list[int]:
            heard = [one for one in client.inbox.heard if one.mark == mark(b"both")]
            return sorted(n for one in heard for n in one.properties["subscription_identifier"])

        wait_until(lambda: client.inbox.marks[mark(b"next")], "the next message")
        self.assertEqual([1, 268_435_455], came())

    def test_no_local(self) -> None:
        """A client that does not want its own messages gets only those of others."""
        client = self.open(Paho("paho", self.way))
        client.subscribe(self.topic, 1, noLocal=True)
        client.publish(self.topic, b"mine")
        client.inbox.event("published")
        self.publish("another's")
        self.hears(client.inbox, "another's")

    def test_receive_maximum(self) -> None:
        """A client that takes one message at a time gets all of them, in order."""
        client = self.open(Paho("paho", self.way, properties={"ReceiveMaximum": 1}))
        client.subscribe(self.topic, 2)
        sender = self.open(Paho("sender", self.way))
        texts = [str(number) for number in range(50)]
        for text in texts:
            sender.publish(self.topic, text.encode(), 2)
        self.hears(client.inbox, *texts)

    def test_maximum_packet_size(self) -> None:
        """What is longer than a client can take does not reach it, and what follows does."""
        client = self.open(Paho("small", self.way, properties={"MaximumPacketSize": 200}))
        for qos in range(3):
            client.subscribe(f"{self.topic}/{qos}", qos)
            self.publish("x" * 200, f"after {qos}", qos=qos, place=f"/{qos}")
        self.hears(client.inbox, "after 0", "after 1", "after 2")


class SharedTests(MqttCase):
    """A group shares a subscription: each message comes to one of them."""

    def test_each_message_once(self) -> None:
        """Every member that is there takes its part, whatever its version; others get all."""
        everything = self.open(Paho("everything", self.way))
        everything.subscribe(self.topic, 1)
        members = [self.open(Paho(f"member {version}", self.way, version)) for version in VERSIONS]
        for member in members:
            self.assertEqual([1], member.subscribe(f"$share/group/{self.topic}", 1))
        texts = [str(number) for number in range(30)]
        self.publish(*texts)
        everything.inbox.wait(len(texts))
        heard: Counter[str] = Counter()
        wait_until(lambda: sum(len(member.inbox.heard) for member in members) >= 30, "30 messages")
        for member in members:
            self.assertGreaterEqual(len(member.inbox.heard), 5, member.inbox.name)
            heard += member.inbox.marks
        self.assertEqual(Counter(mark(text.encode()) for text in texts), heard)

    def test_a_member_that_is_away(self) -> None:
        """It is passed over while another is there."""
        with Paho("away", self.way, expiry=LONG) as away:
            away.subscribe(f"$share/group/{self.topic}", 2)
        there = self.open(Paho("there", self.way))
        there.subscribe(f"$share/group/{self.topic}", 2)
        texts = [str(number) for number in range(10)]
        self.publish(*texts, qos=2)
        self.hears(there.inbox, *texts)

    def test_unsubscribe(self) -> None:
        """Who leaves the group gets nothing more."""
        leaving, staying = (self.open(Paho(name, self.way)) for name in ("leaving", "staying"))
        for member in leaving, staying:
            member.subscribe(f"$share/group/{self.topic}", 1)
        leaving.client.unsubscribe(f"$share/group/{self.topic}")
        self.assertEqual([0], leaving.inbox.event("unsubscribed")["codes"])
        self.publish("1", "2", "3")
        self.hears(staying.inbox, "1", "2", "3")
        self.assertEqual([], leaving.inbox.heard)
