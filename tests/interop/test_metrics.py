"""``GET /metrics`` of a running server: its figures are the server's own, and move."""

import json
import ssl
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.api.house import Answer
from tests.api.test_metrics import figures
from tests.interop.hostile_wire import Wire, connect, publish, request
from tests.interop.running import Deployment, RunningServer, wait_until


def scrape(server: RunningServer) -> dict[str, float]:
    """What a Prometheus on the server's machine reads, by its names without ours before them."""
    with Wire(server, "https") as wire:
        wire.send(request("GET", "/metrics", Connection="close"))
        return {name.removeprefix("mfserver_"): value for name, value in figures(Answer(wire.rest())).items()}


class MetricsTests(SynchronousTestCase):
    """Both modes."""

    timeout = 60

    def test_connections_and_what_is_kept(self) -> None:
        """A client is seen to come, to retain a message, and to go."""
        with RunningServer() as server:
            deployment = Deployment(server)
            thing, key = deployment.thing("sender", "weather")
            topic = f"channels/{deployment.channels['weather']}/messages".encode()
            before = scrape(server)
            with Wire(server, "mqtts") as wire:
                wire.send(connect(thing, key))
                self.assertEqual(0x20, wire.packet()[0])
                retained = bytearray(publish(topic, b"x", qos=1))
                retained[0] |= 1
                wire.send(bytes(retained))
                self.assertEqual(0x40, wire.packet()[0])
                during = scrape(server)
            for name in "mqtt_connections", "mqtt_sessions", "retained_messages":
                self.assertEqual((before[name], during[name]), (0, 1), name)
            self.assertEqual(during["connections"], before["connections"] + 1)
            self.assertEqual((during["journal_stalled"], during["tls_contexts_total"]), (0, 1))
            wait_until(lambda: scrape(server)["mqtt_connections"] == 0, "the client is gone")

    def test_certificates(self) -> None:
        """One is revoked and shown all the same; one that ends soon is told of from the next start on."""
        with RunningServer(auth="x509") as server:
            deployment = Deployment(server)
            thing, _ = deployment.thing("sender")
            issued = [self.issue(deployment, thing) for _ in range(2)]
            revoked = f"/certs/{issued[0]['cert_serial']}"
            self.assertEqual(200, server.request("DELETE", revoked, token=deployment.token)[0])
            shown = Path(server.data_dir, "shown.pem")
            shown.write_text(issued[0]["cert"] + issued[0]["cert_key"])
            before = scrape(server)
            with Wire(server, "https", certificate=(str(shown), str(shown))) as wire:
                wire.rest()
            with (
                self.assertRaises((ssl.SSLError, ConnectionError)),
                Wire(server, "https", handshake=False) as wire,
            ):
                wire.send(b"no TLS\r\n\r\n")
                wire.exactly(100)
            after = scrape(server)
            self.assertEqual((before["tls_peers_refused_total"], after["tls_peers_refused_total"]), (0, 1))
            self.assertEqual(after["tls_handshakes_failed_total"], before["tls_handshakes_failed_total"] + 2)
            self.assertEqual(after["certificates_revoked"], 1)
            server.stop()
            server.start()
            wait_until(lambda: "certificates_ending{within=7d}" in scrape(server), "somebody has looked")
            told = scrape(server)
            within = [told[f"certificates_ending{{within={days}d}}"] for days in (30, 7, 1)]
            self.assertEqual((within, told["certificates_revoked"]), ([1, 1, 0], 1))

    def issue(self, deployment: Deployment, thing: str) -> Any:
        """A certificate of five days."""
        order = {"thing_id": thing, "valid": "5d"}
        status, _, body = deployment.server.request("POST", "/certs", order, deployment.token)
        self.assertEqual(201, status, body)
        return json.loads(body)
