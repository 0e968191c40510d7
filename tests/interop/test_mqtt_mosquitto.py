"""mosquitto_pub and mosquitto_sub with everything that they can be told."""

import time
from collections import Counter

from tests.interop.client_case import VERSIONS
from tests.interop.clients import Door, MosquittoSub, mark, mosquitto, run_all
from tests.interop.mqtt_case import LONG, MqttCase
from tests.interop.running import PATIENCE, wait_until


class MosquittoCase(MqttCase):
    """Short forms of the two commands."""

    def subscriber(
        self,
        name: str,
        version: str = "mqttv5",
        *more: str,
        qos: int = 1,
        place: str = "",
        door: Door | None = None,
    ) -> MosquittoSub:
        """A mosquitto_sub that is subscribed already."""
        topic = f"{self.topic}{place}"
        return self.open(
            MosquittoSub(name, door or self.way, version, topic, qos=qos, more=("-i", name, *more))
        )

    def run_subscriber(self, *more: str, version: str = "mqttv5", place: str = "") -> str:
        """A mosquitto_sub that comes to an end by itself. :return: what it printed."""
        command = ["mosquitto_sub", *mosquitto(self.way, version), "-t", f"{self.topic}{place}"]
        ((ended, output),) = run_all([[*command, "-W", f"{PATIENCE:.0f}", *more]])
        self.assertEqual(0, ended, output)
        return output


class QosTests(MosquittoCase):
    """Every version publishes to every other at every QoS."""

    def test_every_version_and_qos(self) -> None:
        """What comes, comes with the lower QoS of publishing and subscribing."""
        secure, shared_port = (self.ways()[name][0] for name in ("tls", "alpn"))
        subscribers = {
            (version, qos): self.subscriber(f"{version} {qos}", version, qos=qos, door=door)
            for version, door in zip(VERSIONS, (self.way, secure, shared_port), strict=True)
            for qos in range(3)
        }
        for (_, qos), subscriber in subscribers.items():
            self.assertEqual([qos], subscriber.subscribed)
        published = [(version, qos) for version in VERSIONS for qos in range(3)]
        doors = {"": self.way, " tls": secure, " alpn": shared_port}
        for version, qos in published:
            for where, door in doors.items():
                self.publish(f"{version} {qos}{where}", version=version, qos=qos, door=door)
        expected = Counter(
            (mark(f"{version} {qos}{where}".encode()), qos) for version, qos in published for where in doors
        )
        for (version, granted), subscriber in subscribers.items():
            heard = subscriber.inbox.wait(len(published) * len(doors))
            self.assertEqual(
                Counter({(text, min(qos, granted)): count for (text, qos), count in expected.items()}),
                Counter((one.mark, one.qos) for one in heard),
                f"{version} {granted}",
            )


class SessionTests(MosquittoCase):
    """``-c``, ``-i`` and ``-x``."""

    def test_resumed(self) -> None:
        """With ``-c`` messages wait for a client that said goodbye, and for one that was killed."""
        for version in VERSIONS:
            self.run_subscriber("-c", "-i", f"goodbye {version}", "-q", "2", "-E", version=version)
            self.subscriber(f"killed {version}", version, "-c", qos=2).kill()
        self.publish("1", "2", "3", qos=1)
        self.publish("4", "5", "6", qos=2)
        for version in VERSIONS:
            for name in f"goodbye {version}", f"killed {version}":
                inbox = self.subscriber(name, version, "-c", qos=2).inbox
                self.hears(inbox, *"123456")
                self.assertEqual([1, 1, 1, 2, 2, 2], [heard.qos for heard in inbox.heard], name)

    def test_not_resumed(self) -> None:
        """Without ``-c`` nothing waits, also where there had been a session."""
        for version in VERSIONS:
            self.run_subscriber("-c", "-i", version, "-q", "1", "-E", version=version)
            self.run_subscriber("-i", version, "-q", "1", "-E", version=version)
        self.publish("while away")
        for version in VERSIONS:
            subscriber = self.subscriber(version, version, "-c")
            self.publish(version)
            self.hears(subscriber.inbox, version)
            subscriber.kill()

    def test_expired(self) -> None:
        """``-x`` says for how many seconds a session outlives its connection."""
        listener = self.subscriber("listener", place="/wills")
        # The will of a session that ends earlier than the will's delay tells that it has ended.
        will = ("--will-topic", f"{self.topic}/wills", "--will-qos", "1")
        delay = ("-D", "will", "will-delay-interval", str(LONG))
        for seconds in "1", str(LONG):
            more = ("-c", "-x", seconds, *will, "--will-payload", seconds, *delay)
            self.subscriber(f"for {seconds}", "mqttv5", *more).kill()
        by_property = ("-D", "connect", "session-expiry-interval", str(LONG))
        self.subscriber("by property", "mqttv5", *by_property).kill()
        self.hears(listener.inbox, "1")
        self.publish("while away")
        expected = {"for 1": [], f"for {LONG}": ["while away"], "by property": ["while away"]}
        resumed = {name: self.subscriber(name, "mqttv5", "-c", "-x", "0").inbox for name in expected}
        self.publish("next")
        for name, waited in expected.items():
            self.hears(resumed[name], *waited, "next")

    def test_unsubscribed(self) -> None:
        """``-U`` ends a subscription that the session had kept."""
        for version in VERSIONS:
            self.run_subscriber("-c", "-i", version, "-q", "1", "-E", version=version, place="/a")
            self.publish("waiting", place="/a")
            subscriber = self.subscriber(version, version, "-c", "-U", f"{self.topic}/a", place=f"/{version}")
            lines = subscriber.inbox.events
            wait_until(lambda lines=lines: any("UNSUBACK" in event["line"] for event in lines), "UNSUBACK")
            self.publish("not for it", place="/a")
            self.publish(version, place=f"/{version}")
            self.hears(subscriber.inbox, "waiting", version)


class WillTests(MosquittoCase):
    """``--will-*``."""

    def setUp(self) -> None:
        super().setUp()
        began = time.monotonic()
        self.listener = self.subscriber("listener", place="/wills", qos=2).inbox
        self.delay = self.delay_of(time.monotonic() - began)

    def will(self, payload: str, *more: str) -> tuple[str, ...]:
        return ("--will-topic", f"{self.topic}/wills", "--will-payload", payload, *more)

    def test_every_option(self) -> None:
        """A killed client's will comes with its QoS, and stays where it asked for that."""
        expected = []
        for version in VERSIONS:
            for qos in "0", "1", "2":
                expected.append(f"{version} {qos}")
                will = self.will(expected[-1], "--will-qos", qos, "--will-retain")
                self.subscriber(expected[-1], version, *will).kill()
                self.hears(self.listener, *expected)
        self.assertEqual([0, 1, 2] * 3, [heard.qos for heard in self.listener.heard])
        late = self.subscriber("late", place="/wills").inbox
        self.hears(late, expected[-1])
        self.assertTrue(late.heard[0].retain)

    def test_properties(self) -> None:
        """``-D will``: they come with it."""
        said = (
            *("-D", "will", "content-type", "text/plain"),
            *("-D", "will", "response-topic", "a/b"),
            *("-D", "will", "correlation-data", "one"),
            *("-D", "will", "user-property", "a", "1"),
            *("-D", "will", "payload-format-indicator", "1"),
            *("-D", "will", "message-expiry-interval", "60"),
        )
        victim = self.subscriber("victim", "mqttv5", *self.will("grüße", *said))
        since = time.monotonic()
        victim.kill()
        self.hears(self.listener, "grüße")
        (heard,) = self.listener.heard
        self.assertEqual(("text/plain", "a:1"), (heard.content_type, heard.user_properties))
        self.check_expiry(heard.properties.pop("message_expiry_interval"), 60, since)
        self.assertEqual(
            {"response_topic": "a/b", "correlation_data": b"one", "payload_format_indicator": 1},
            heard.properties,
        )

    def test_delay(self) -> None:
        """``will-delay-interval``: who is back in time leaves no will."""
        delay = ("-c", "-D", "will", "will-delay-interval", str(self.delay))
        self.subscriber("back", "mqttv5", *self.will("back", *delay)).kill()
        self.subscriber("back", "mqttv5", *self.will("back", *delay))
        self.subscriber("gone", "mqttv5", *self.will("gone", *delay)).kill()
        # The other one's delay would have ended earlier.
        self.hears(self.listener, "gone")


class RetainedTests(MosquittoCase):
    """``-r``, and what mosquitto_sub makes of it."""

    def test_retained(self) -> None:
        """Every version leaves the last message, and every version finds it."""
        for version in VERSIONS:
            for qos in range(3):
                place = f"/{version}/{qos}"
                self.publish("first", f"{version} {qos}", version=version, qos=qos, place=place, more=("-r",))
        expected = Counter(mark(f"{version} {qos}".encode()) for version in VERSIONS for qos in range(3))
        for version in VERSIONS:
            inbox = self.subscriber(version, version, qos=2, place="/#").inbox
            inbox.wait(9)
            self.assertEqual(expected, inbox.marks)
            self.assertEqual({True}, {heard.retain for heard in inbox.heard})
            self.assertEqual([0, 0, 0, 1, 1, 1, 2, 2, 2], sorted(heard.qos for heard in inbox.heard))

    def test_not_stale(self) -> None:
        """``-R`` shows none that is retained, and ``--retain-as-published`` tells who published so."""
        self.publish("stale", more=("-r",))
        fresh = self.subscriber("fresh", "mqttv5", "-R").inbox
        faithful = self.subscriber("faithful", "mqttv5", "--retain-as-published").inbox
        self.publish("fresh")
        self.publish("retained", more=("-r",))
        self.hears(fresh, "fresh", "retained")
        self.hears(faithful, "stale", "fresh", "retained")
        self.assertEqual([True, False, True], [heard.retain for heard in faithful.heard])

    def test_removed(self) -> None:
        """``--remove-retained`` clears what it finds, and an empty payload does so by itself."""
        for version in VERSIONS:
            for place in "/a", "/b", "/c":
                self.publish("kept", place=place, more=("-r",))
            remover = self.subscriber(f"remover {version}", version, "--remove-retained", place="/a").inbox
            # What clears is a message, too.
            self.hears(remover, "kept", "")
            found = self.run_subscriber("--retained-only", "-C", "2", version=version, place="/#")
            self.assertEqual(["kept", "kept"], found.split())
            for place in "/b", "/c":
                self.publish_nothing(place, version)
            late = self.subscriber(f"late {version}", version, place="/#").inbox
            self.publish("live", place="/c")
            self.hears(late, "live")


class PropertyTests(MosquittoCase):
    """``-D``."""

    def test_every_property_of_a_message(self) -> None:
        """They reach a 5.0 client as they were; the older ones get the message alone."""
        subscribers = {version: self.subscriber(version, version, qos=2).inbox for version in VERSIONS}
        said = (
            *("-D", "publish", "content-type", "application/json"),
            *("-D", "publish", "response-topic", f"{self.topic}/answers"),
            *("-D", "publish", "correlation-data", "one"),
            *("-D", "publish", "user-property", "b", "2"),
            *("-D", "publish", "user-property", "a", "1"),
            *("-D", "publish", "user-property", "b", "grüße"),
            *("-D", "publish", "payload-format-indicator", "1"),
            *("-D", "publish", "message-expiry-interval", "60"),
            *("-D", "publish", "topic-alias", "1"),
        )
        since = time.monotonic()
        for qos in range(3):
            self.publish("{}", qos=qos, more=said)
        for inbox in subscribers.values():
            self.hears(inbox, "{}", "{}", "{}")
        for version in VERSIONS[:2]:
            for heard in subscribers[version].heard:
                self.assertEqual(("", "", {}), (heard.content_type, heard.user_properties, heard.properties))
        for heard in subscribers["mqttv5"].heard:
            self.assertEqual(
                ("application/json", "b:2 a:1 b:grüße"), (heard.content_type, heard.user_properties)
            )
            self.check_expiry(heard.properties.pop("message_expiry_interval"), 60, since)
            self.assertEqual(
                {
                    "response_topic": f"{self.topic}/answers",
                    "correlation_data": b"one",
                    "payload_format_indicator": 1,
                },
                heard.properties,
            )

    def test_topic_alias(self) -> None:
        """What is published under an alias alone has the topic that it stands for."""
        inbox = self.subscriber("subscriber", place="/#").inbox
        for qos in range(3):
            self.publish(
                "again", qos=qos, place=f"/{qos}", more=("-D", "publish", "topic-alias", "7", "--repeat", "3")
            )
        self.hears(inbox, *["again"] * 9)
        self.assertEqual(
            Counter({f"{self.topic}/{qos}": 3 for qos in range(3)}),
            Counter(heard.topic for heard in inbox.heard),
        )

    def test_message_expiry(self) -> None:
        """A message that waits longer than it may is not delivered."""
        self.run_subscriber("-c", "-i", "away", "-q", "1", "-E")
        # That this session has ended tells that more than a second went by.
        will = (
            "--will-topic",
            f"{self.topic}/wills",
            "--will-payload",
            "ended",
            "-D",
            "will",
            "will-delay-interval",
        )
        listener = self.subscriber("listener", place="/wills").inbox
        since = time.monotonic()
        for seconds in "1", str(LONG):
            self.publish(seconds, more=("-D", "publish", "message-expiry-interval", seconds))
        self.subscriber("clock", "mqttv5", "-x", "2", *will, str(LONG)).kill()
        self.hears(listener, "ended")
        inbox = self.subscriber("away", "mqttv5", "-c").inbox
        self.hears(inbox, str(LONG))
        left = inbox.heard[0].properties["message_expiry_interval"]
        self.check_expiry(left, LONG, since)
        self.assertLess(left, LONG)

    def test_what_a_client_can_take(self) -> None:
        """``receive-maximum`` and ``maximum-packet-size``: no more, and no longer ones."""
        said = ("-D", "connect", "receive-maximum", "1", "-D", "connect", "maximum-packet-size", "200")
        inbox = self.subscriber("small", "mqttv5", *said, qos=2).inbox
        self.publish("1", "x" * 200, "2", "3", qos=2)
        self.hears(inbox, "1", "2", "3")

    def test_subscription_identifier(self) -> None:
        """``-D subscribe subscription-identifier``: messages name it."""
        inbox = self.subscriber(
            "subscriber", "mqttv5", "-D", "subscribe", "subscription-identifier", "42"
        ).inbox
        self.publish("hello")
        self.hears(inbox, "hello")
        self.assertEqual([42], inbox.heard[0].properties["subscription_identifier"])


class SharedTests(MosquittoCase):
    """``$share/group/filter``."""

    def shared(self, name: str, version: str) -> MosquittoSub:
        topic = f"$share/group/{self.topic}/#"
        return self.open(MosquittoSub(name, self.way, version, topic, qos=2, more=("-i", name)))

    def test_each_message_once(self) -> None:
        """One member of the group gets each message, and no member gets none; who is killed is left out."""
        members = [self.shared(version, version) for version in VERSIONS]
        texts = [str(number) for number in range(15)]
        self.publish(*texts, qos=2)
        wait_until(lambda: sum(len(member.inbox.heard) for member in members) >= 15, "all of them")
        heard: Counter[str] = Counter()
        for member in members:
            self.assertGreaterEqual(len(member.inbox.heard), 2, member.inbox.name)
            heard += member.inbox.marks
        self.assertEqual(Counter(mark(text.encode()) for text in texts), heard)
        members.pop().kill()
        for member in members:
            member.inbox.heard.clear()
        # The first of them may be on its way to a connection that is not known yet to be dead.
        self.publish(*texts)
        wait_until(lambda: mark(b"14") in [one.mark for m in members for one in m.inbox.heard], "the last")
        wait_until(lambda: sum(len(member.inbox.heard) for member in members) >= 14, "all but one")


class RestartTests(MosquittoCase):
    """The server stops and starts again on the same data directory."""

    def test_what_outlives_the_server(self) -> None:
        """Sessions with what waits in them, and retained messages with their properties."""
        for version in VERSIONS:
            self.run_subscriber("-c", "-i", version, "-q", "2", "-E", version=version, place="/#")
        self.run_subscriber("-i", "clean", "-q", "2", "-E")
        said = (
            "-r",
            "-D",
            "publish",
            "content-type",
            "a/b",
            "-D",
            "publish",
            "message-expiry-interval",
            "600",
        )
        since = time.monotonic()
        self.publish("kept", qos=2, place="/kept", more=said)
        self.publish("1", "2", "3", qos=2)
        self.restart_server()
        for version in VERSIONS:
            subscriber = self.subscriber(version, version, "-c", qos=2, place="/#")
            # Subscribing again brings what is retained once more.
            self.hears(subscriber.inbox, "kept", "1", "2", "3", "kept")
            self.assertEqual([False] * 4 + [True], [heard.retain for heard in subscriber.inbox.heard])
            subscriber.kill()
        late = self.subscriber("clean", "mqttv5", "-c", place="/#").inbox
        self.hears(late, "kept")
        self.assertEqual("a/b", late.heard[0].content_type)
        self.check_expiry(late.heard[0].properties["message_expiry_interval"], 600, since)
