"""paho-mqtt with MQTT 3.1, 3.1.1 and 5.0: its sessions outlive connections and servers, and lose nothing."""

from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho

from tests.interop.mqtt_case import LONG, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, Line, MqttCase
from tests.interop.paho_client import Paho, paho_properties

VERSIONS = (3, 4, 5)
SESSION_TAKEN_OVER = 0x8E


class SessionTests(MqttCase):
    """A session outlives its connection."""

    def each_way(self) -> Iterator[tuple[str, Callable[..., Paho]]]:
        """A name, and what opens a client of that name, for every version and transport."""
        for version in VERSIONS:
            for where, (door, websocket) in self.ways().items():
                name = f"paho {version} {where}"

                def opened(
                    clean: bool,
                    expiry: int = LONG,
                    name: str = name,
                    door: Any = door,
                    version: int = version,
                    websocket: bool = websocket,
                ) -> Paho:
                    return self.open(
                        Paho(name, door, version, websocket=websocket, clean=clean, expiry=expiry)
                    )

                yield name, opened

    def test_resumed(self) -> None:
        """What was published while a client was away arrives when it is back, once and in order."""
        away = dict(self.each_way())
        for name, opened in away.items():
            with opened(clean=False) as client:
                self.assertFalse(client.session, name)
                self.assertEqual([2], client.subscribe(f"{self.topic}/#", 2), name)
                if "tls" in name:
                    client.drop()
        for qos in 1, 2:
            self.publish(*(f"{qos} {number}" for number in range(5)), qos=qos, place=f"/{qos}")
        for name, opened in away.items():
            client = opened(clean=False)
            # MQTT 3.1 has no word for it.
            self.assertEqual(" 3 " not in name, client.session, name)
            self.hears(client.inbox, *(f"{qos} {number}" for qos in (1, 2) for number in range(5)))
            self.assertEqual([1] * 5 + [2] * 5, [heard.qos for heard in client.inbox.heard], name)

    def test_clean(self) -> None:
        """A client that wants to begin anew is subscribed to nothing, and nothing waits for it."""
        for name, opened in self.each_way():
            with opened(clean=False) as client:
                client.subscribe(self.topic, 2)
            self.publish("while away")
            with opened(clean=True) as client:
                self.assertFalse(client.session, name)
                client.subscribe(f"{self.topic}/after", 2)
                self.publish("not for it")
                self.publish(name, place="/after")
                self.hears(client.inbox, name)

    def test_expired(self) -> None:
        """A session is gone after its expiry interval, and one without any goes with its connection."""
        listener = self.open(Paho("listener", self.way))
        listener.subscribe(f"{self.topic}/wills")
        # The will of a session that ends earlier than the will's delay tells that it has ended.
        delay = paho_properties("WillMessage", WillDelayInterval=LONG)

        def opened(name: str, expiry: int, clean: bool) -> Paho:
            def with_will(client: paho.Client) -> None:
                client.will_set(f"{self.topic}/wills", name, 1, properties=delay)

            return Paho(name, self.way, clean=clean, expiry=expiry, prepare=with_will)

        for name, expiry in ("none", 0), ("short", 1):
            with opened(name, expiry, True) as client:
                client.subscribe(self.topic, 1)
                client.drop()
        with opened("long", LONG, True) as client:
            client.subscribe(self.topic, 1)
            client.drop()
        self.hears(listener.inbox, "none", "short")
        self.publish("while away")
        for name in "none", "short", "long":
            with opened(name, 0, False) as client:
                self.assertEqual(name == "long", client.session, name)
                if name == "long":
                    self.hears(client.inbox, "while away")

    def test_expiry_changed_by_disconnect(self) -> None:
        """A DISCONNECT may name another expiry interval: 0 ends the session."""
        for expiry, session in (0, False), (LONG, True):
            with Paho("changing", self.way, expiry=LONG) as client:
                client.client.disconnect(
                    properties=paho_properties("Disconnect", SessionExpiryInterval=expiry)
                )
                client.inbox.event("close")
            with Paho("changing", self.way, clean=False) as client:
                self.assertEqual(session, client.session)

    def test_taken_over(self) -> None:
        """A second connection resumes the session of the first, which is told so in 5.0."""
        for version in VERSIONS:
            name = f"one {version}"
            first = self.open(Paho(name, self.way, version, clean=False, expiry=LONG))
            first.subscribe(self.topic, 2)
            first.stay_away()
            second = self.open(Paho(name, self.way, version, clean=False, expiry=LONG))
            code = first.inbox.event("close")["code"]
            if version == 5:
                self.assertEqual(SESSION_TAKEN_OVER, code)
            self.assertEqual(version > 3, second.session)
            self.publish("hello", qos=2)
            self.hears(second.inbox, "hello")
            self.assertEqual([], first.inbox.heard)


class BrokenLineTests(MqttCase):
    """The connection breaks at the worst moments."""

    def behind(self, line: Line, version: int = 5) -> Paho:
        """A client with a session that lasts, which connects through the line."""
        return Paho(f"paho {version}", self.way, version, clean=False, expiry=LONG, port=line.port)

    def test_published_exactly_once(self) -> None:
        """Whichever packet of QoS 2 is lost, a message is published once; of QoS 1 at least once."""
        for version in VERSIONS:
            line = self.open(Line(self.way.port("mqtt")))
            listener = self.open(Paho(f"listener {version}", self.way))
            listener.subscribe(f"{self.topic}/{version}", 2)
            client = self.open(self.behind(line, version))
            cuts = (PUBLISH, PUBREC, PUBREL, PUBCOMP)
            for count, kind in enumerate(cuts, 1):
                line.cut_at(kind)
                client.publish(f"{self.topic}/{version}", str(kind).encode(), 2)
                client.publish(f"{self.topic}/{version}", f"after {kind}".encode(), 2)
                line.wait_for_cuts(count)
                for _ in range(2):
                    client.inbox.event("published")
            self.hears(listener.inbox, *(text for kind in cuts for text in (f"{kind}", f"after {kind}")))

    def test_received_exactly_once(self) -> None:
        """Whichever packet of QoS 2 is lost on the way to a subscriber, it hears the message once."""
        for version in VERSIONS:
            line = self.open(Line(self.way.port("mqtt")))
            client = self.open(self.behind(line, version))
            client.subscribe(f"{self.topic}/{version}", 2)
            cuts = (PUBLISH, PUBREC, PUBREL, PUBCOMP)
            for count, kind in enumerate(cuts, 1):
                line.cut_at(kind)
                self.publish(f"{kind}", f"after {kind}", qos=2, place=f"/{version}")
                line.wait_for_cuts(count)
                client.inbox.event("open")
                client.inbox.wait(2 * count)
            self.hears(client.inbox, *(text for kind in cuts for text in (f"{kind}", f"after {kind}")))

    def test_redelivered_with_dup(self) -> None:
        """What was sent and not acknowledged is sent again, marked as such."""
        line = self.open(Line(self.way.port("mqtt")))
        client = self.open(self.behind(line))
        client.subscribe(self.topic, 1)
        line.cut_at(PUBACK)
        self.publish("again")
        client.inbox.wait(2)
        self.assertEqual([False, True], [heard.dup for heard in client.inbox.heard])
        self.hears(client.inbox, "again", "again")


class RestartTests(MqttCase):
    """Sessions, queues and retained messages outlive the server."""

    def test_what_outlives_the_server(self) -> None:
        """What waits for a client that is away, what it is subscribed to, and what is retained."""
        for version in VERSIONS:
            with Paho(f"away {version}", self.way, version, clean=False, expiry=LONG) as client:
                client.subscribe(f"{self.topic}/#", 2)
        with Paho("short", self.way) as client:
            client.subscribe(f"{self.topic}/#", 2)
        for qos in 1, 2:
            self.publish(
                *(f"{qos} {number}" for number in range(3)),
                qos=qos,
                more=("-D", "publish", "content-type", "a/b"),
            )
        self.publish("kept", qos=2, place="/kept", more=("-r",))
        self.restart_server()
        expected = [*(f"{qos} {number}" for qos in (1, 2) for number in range(3)), "kept"]
        for version in VERSIONS:
            client = self.open(Paho(f"away {version}", self.way, version, clean=False, expiry=LONG))
            self.assertEqual(version > 3, client.session)
            self.hears(client.inbox, *expected)
            self.publish(f"new {version}", qos=2, place="/new")
            expected.append(f"new {version}")
            self.hears(client.inbox, *expected)
            if version == 5:
                self.assertEqual(["a/b"] * 6, [heard.content_type for heard in client.inbox.heard[:6]])
        client = self.open(Paho("short", self.way, clean=False))
        self.assertFalse(client.session)
        client.subscribe(f"{self.topic}/#", 2)
        self.hears(client.inbox, "kept")

    def test_published_through_a_restart(self) -> None:
        """Who keeps publishing at QoS 2 while the server restarts is heard exactly once, in order."""
        # paho forgets in the second of two vain attempts to reconnect that it had released a message.
        line = self.open(Line(self.way.port("mqtt")))
        lasting: dict[str, Any] = {"clean": False, "expiry": LONG, "port": line.port}
        listener, sender = (self.open(Paho(name, self.way, **lasting)) for name in ("listener", "sender"))
        listener.subscribe(self.topic, 2)
        texts = [str(number) for number in range(300)]
        for text in texts[:200]:
            sender.publish(self.topic, text.encode(), 2)
        listener.inbox.wait(10)
        with line.held():
            self.restart_server()
            line.server_port = self.way.port("mqtt")
        for client in sender, listener:
            self.assertTrue(client.inbox.event("open")["session"])
        for text in texts[200:]:
            sender.publish(self.topic, text.encode(), 2)
        self.hears(listener.inbox, *texts)
