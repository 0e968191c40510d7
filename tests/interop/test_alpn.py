"""MQTT on the port of HTTPS, for who offers ``mqtt`` by ALPN: under the same rules, and nobody else's way."""

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.client_case import client_certificate, deployment_of
from tests.interop.hostile_wire import Wire, connect, publish, request, subscribe
from tests.interop.running import Deployment

CONNACK, SUBACK, PUBLISH = 0x20, 0x90, 0x30
SUCCESS, BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED = 0x00, 0x86, 0x87
HEALTH = request("GET", "/health", Connection="close")


class ALPNTests(SynchronousTestCase):
    """The listener ``https`` of running servers, in both modes."""

    timeout = 60

    def wire(
        self,
        deployment: Deployment,
        *alpn: str,
        certificate: tuple[str, str] | None = None,
        on: str = "https",
    ) -> Wire:
        wire = Wire(deployment.server, on, alpn=alpn, certificate=certificate)
        self.addCleanup(wire.socket.close)
        return wire

    def connack(self, wire: Wire, thing: str, key: str) -> int:
        """Connect. :return: the reason code of CONNACK."""
        wire.send(connect(thing, key))
        first, body = wire.packet()
        self.assertEqual(first, CONNACK)
        return body[1]

    def test_messages_both_ways(self) -> None:
        """A client there talks with one on the port of MQTT over TLS."""
        for auth in "key", "x509":
            with self.subTest(auth=auth):
                deployment = deployment_of(auth)
                server, channel = deployment.server, deployment.channel("weather")
                thing, key = deployment.thing("sender", "weather")
                shown = client_certificate(server, key) if auth == "x509" else None
                here = self.wire(deployment, "mqtt", certificate=shown)
                there = self.wire(deployment, "mqtt", certificate=shown, on="mqtts")
                topic = f"channels/{channel}/messages".encode()
                for wire in here, there:
                    self.assertEqual(self.connack(wire, thing, key), SUCCESS)
                    wire.send(subscribe(topic))
                    self.assertEqual(wire.packet()[0], SUBACK)
                for speaker, text in (here, b"from 443"), (there, b"from 8883"):
                    speaker.send(publish(topic, text))
                    for wire in here, there:
                        first, body = wire.packet()
                        self.assertEqual((first, body[-len(text) :]), (PUBLISH, text))

    def test_wrong_keys(self) -> None:
        """Whom the other ports refuse, this one refuses likewise."""
        deployment = deployment_of("key")
        thing, key = deployment.thing("sender")
        other, _ = deployment.thing("other")
        for who, said in ((thing, key[:-1] + "x"), (other, key)):
            codes = [
                self.connack(self.wire(deployment, "mqtt", on=port), who, said) for port in ("https", "mqtts")
            ]
            self.assertIn(codes[0], (BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORIZED))
            self.assertEqual(codes[0], codes[1])

    def test_wrong_certificates(self) -> None:
        """With certificates, none at all and somebody else's are refused, whatever the key."""
        deployment = deployment_of("x509")
        thing, key = deployment.thing("sender")
        _, other = deployment.thing("other")
        mine, others = (client_certificate(deployment.server, name) for name in (key, other))
        for shown, code in ((None, NOT_AUTHORIZED), (others, NOT_AUTHORIZED), (mine, SUCCESS)):
            wire = self.wire(deployment, "mqtt", certificate=shown)
            self.assertEqual(self.connack(wire, thing, key), code)

    def test_the_site_is_everybody_elses(self) -> None:
        """With no ALPN, with HTTP in the list or with a name of nobody's: the API, as ever."""
        for offered in (), ("http/1.1",), ("mqtt", "http/1.1"), ("h2",):
            with self.subTest(offered=offered):
                wire = self.wire(deployment_of("key"), *offered)
                wire.send(HEALTH)
                self.assertTrue(wire.rest().startswith(b"HTTP/1.1 200 OK\r\n"))

    def test_neither_hears_the_other(self) -> None:
        """HTTP to who negotiated MQTT, and MQTT to the site, are no more than bad bytes."""
        deployment = deployment_of("key")
        thing, key = deployment.thing("sender")
        wire = self.wire(deployment, "mqtt")
        wire.send(HEALTH)
        self.assertNotIn(b"HTTP/", wire.rest())
        for offered in (), ("http/1.1",):
            wire = self.wire(deployment, *offered)
            wire.send(connect(thing, key) + b"\r\n\r\n")
            self.assertTrue(wire.rest().startswith(b"HTTP/1.1 400 "))
