"""What real clients may not do, and what they are told: rights, other things, limits, the server's wishes."""

import paho.mqtt.client as paho

from tests.interop.client_case import deployment_of
from tests.interop.clients import Door, Node, mosquitto, run_all
from tests.interop.mqtt_case import LONG, MqttCase
from tests.interop.paho_client import Paho
from tests.interop.running import Deployment, RunningServer

BAD_AUTHENTICATION_METHOD = 0x8C
USE_ANOTHER_SERVER = 0x9C


class RightsTests(MqttCase):
    """What waits for a client waits under the rights that its thing has when it is delivered."""

    def setUp(self) -> None:
        super().setUp()
        self.deployment = deployment_of("key")
        self.second = self.deployment.channel("second")
        self.connection(self.second, "PUT")

    def connection(self, channel: str, method: str) -> None:
        """Connect the thing with a channel, or disconnect it."""
        path = f"/channels/{channel}/things/{self.way.thing}"
        self.way.server.json(method, path, token=self.deployment.token)

    def another(self, name: str) -> Door:
        """The way in of another thing on the same channel."""
        thing, key = self.deployment.thing(name, "weather")
        return Door(self.way.server, thing, key, self.way.channel)

    def test_a_client_identifier_of_two_things(self) -> None:
        """Each has a session of its own: nobody takes over, resumes or ends what is another's."""
        with Paho("same", self.way, expiry=LONG) as away:
            away.subscribe(self.topic, 1)
        for clean in False, True:
            with Paho("same", self.another(f"other {clean}"), clean=clean, expiry=LONG) as other:
                self.assertFalse(other.session)
        self.publish("mine")
        mine = self.open(Paho("same", self.way, clean=False))
        self.assertTrue(mine.session)
        self.hears(mine.inbox, "mine")
        with Paho("same", self.another("third")):
            self.publish("still mine")
        self.hears(mine.inbox, "mine", "still mine")

    def test_disconnected_while_away(self) -> None:
        """What came on a channel that the thing has lost since then is not delivered, retained or not."""
        with Paho("away", self.way, expiry=LONG) as away:
            away.subscribe(f"{self.topic}/#", 2)
            away.subscribe(f"channels/{self.second}/messages", 2)
            away.publish(f"{self.topic}/kept", b"retained", retain=True)
            away.inbox.event("published")
        self.publish("lost", qos=2)
        self.connection(self.way.channel, "DELETE")
        self.topic = f"channels/{self.second}/messages"
        self.publish("kept", qos=2)
        back = self.open(Paho("away", self.way, clean=False, expiry=LONG))
        self.assertTrue(back.session)
        self.hears(back.inbox, "kept")
        self.assertEqual([0x87], back.subscribe(f"{self.way.topic}/#", 2))
        self.publish("next", qos=2)
        self.hears(back.inbox, "kept", "next")

    def test_a_will_without_a_right(self) -> None:
        """A thing that has lost a channel leaves no will there."""
        listener = self.open(Paho("listener", self.another("listener")))
        listener.subscribe(f"{self.topic}/#", 1)

        def with_will(client: paho.Client) -> None:
            client.will_set(f"{self.topic}/wills", "not allowed", 1)

        self.open(Paho("disconnected", self.way, prepare=with_will)).stay_away()
        self.connection(self.way.channel, "DELETE")
        # Whichever way its connection ends.
        with Paho("disconnected", self.way) as again:
            self.assertEqual(0, again.opened)
        self.connection(self.way.channel, "PUT")
        self.publish("next")
        self.hears(listener.inbox, "next")


class RefusalTests(MqttCase):
    """What a client is told."""

    def test_enhanced_authentication(self) -> None:
        """There is no method, and CONNACK says so."""
        inbox = self.open(Node()).mqtt("node", self.way, properties={"authenticationMethod": "SCRAM-SHA-1"})
        self.assertEqual(BAD_AUTHENTICATION_METHOD, inbox.event("error")["code"])

    def test_a_will_where_it_may_not(self) -> None:
        """CONNACK refuses: 5 in MQTT 3, 0x87 in 5.0."""
        for version, code in ("mqttv31", 5), ("mqttv311", 5), ("mqttv5", 0x87):
            will = ("--will-topic", "channels/another/messages", "--will-payload", "x")
            command = ["mosquitto_sub", *mosquitto(self.way, version), "-t", self.topic, "-E", *will]
            ((status, output),) = run_all([command])
            self.assertEqual(code, status, output)

    def test_client_identifier_that_the_server_gives(self) -> None:
        """It is told in CONNACK, and names a session like any other."""
        with Paho("", self.way, expiry=LONG) as first:
            name = first.announced["assigned_client_identifier"]
            first.subscribe(self.topic, 1)
        self.publish("while away")
        again = self.open(Paho(name, self.way, clean=False))
        self.assertTrue(again.session)
        self.hears(again.inbox, "while away")

    def test_silence(self) -> None:
        """A client that says nothing for one and a half times its keep alive leaves its will."""
        listener = self.open(Paho("listener", self.way))
        listener.subscribe(f"{self.topic}/wills", 1)
        node = self.open(Node())
        for version in 4, 5:
            will = {"topic": f"{self.topic}/wills", "payload": str(version), "qos": 1}
            node.mqtt(str(version), self.way, version=version, keepalive=1, will=will).event("open")
        with node.frozen():
            listener.inbox.wait(2)
        self.assertEqual({"b'4'", "b'5'"}, set(listener.inbox.marks))


class OptionTests(MqttCase):
    """A server with narrow limits and wishes of its own."""

    def test_what_clients_are_told_and_lose(self) -> None:
        """How long a session and a silence may last, that too much waits, and where to go."""
        options = (
            *("--queue-qos0=on", "--max-queued-messages=3", "--max-session-expiry=120"),
            *("--max-keep-alive=30", "--server-reference=other.example:8883"),
        )
        server = self.open(RunningServer(*options))
        deployment = Deployment(server)
        channel = deployment.channel("weather")
        self.way = Door(server, *deployment.thing("thing", "weather"), channel)
        self.topic = self.way.topic
        for name in "first", "all at 0":
            with Paho(name, self.way, clean=False, expiry=LONG) as away:
                self.assertEqual(120, away.announced["session_expiry_interval"])
                self.assertEqual(30, away.announced["server_keep_alive"])
                away.subscribe(f"{self.topic}/#" if name == "first" else f"{self.topic}/0", 2)
        for qos in 0, 1, 2:
            self.publish(f"{qos} 1", f"{qos} 2", qos=qos, place=f"/{qos}")
        for name, expected in ("first", ["1 1", "1 2", "2 1"]), ("all at 0", ["0 1", "0 2"]):
            client = self.open(Paho(name, self.way, clean=False, expiry=LONG))
            self.hears(client.inbox, *expected)
            client.stay_away()
        server.stop()
        self.assertEqual(USE_ANOTHER_SERVER, client.inbox.event("close")["code"])
        self.assertEqual(1, server.log.count("the queue of an MQTT session is full"))
