"""GET /metrics: what it tells, and whom."""

import re
from collections.abc import Mapping
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from mfserver.api.metrics import FIGURES
from mfserver.message import Message
from tests.api.house import Answer, House, Wire
from tests.api.test_things import HouseTestCase

HERE = IPv4Address("TCP", "127.0.0.1", 4242)


def scrape(
    house: House,
    address: Any = HERE,
    headers: Mapping[str, str] | None = None,
    *,
    line: str = "GET /metrics HTTP/1.1",
    host: str = "localhost:8080",
) -> Answer:
    """Ask as a program at some address."""
    lines = [line, f"Host: {host}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    channel, wire = house.connect(Wire(peerAddress=address))
    channel.dataReceived("\r\n".join(lines).encode() + b"\r\n\r\n")
    return Answer(wire.value())


def figures(answer: Answer) -> dict[str, float]:
    """Each sample that a Prometheus would read."""
    found = {}
    for family in text_string_to_metric_families(answer.entity.decode()):
        for sample in family.samples:
            label = "".join(f"{{{name}={value}}}" for name, value in sample.labels.items())
            found[sample.name + label] = sample.value
    return found


class WhoTests(HouseTestCase):
    """Programs on this machine, and people."""

    def allowed(self, *args: Any, **options: Any) -> bool:
        answer = scrape(self.house, *args, **options)
        self.assertIn(answer.status, (200, 401))
        self.assertEqual(answer.status == 200, b"mfserver_connections" in answer.entity)
        return answer.status == 200

    def test_loopback(self) -> None:
        """Its addresses, in every way of writing them, and its names."""
        for address in (
            HERE,
            IPv4Address("TCP", "127.1.2.3", 1),
            IPv6Address("TCP", "::1", 1),
            IPv6Address("TCP", "::ffff:127.0.0.1", 1),
        ):
            self.assertTrue(self.allowed(address), address)
        for host in "localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.0.1.1", "[::1]:8443", "localhost:":
            self.assertTrue(self.allowed(host=host), host)

    def test_others(self) -> None:
        """401, as everywhere."""
        for address in (
            IPv4Address("TCP", "192.0.2.1", 1),
            IPv4Address("TCP", "0.0.0.0", 1),
            IPv4Address("TCP", "10.0.0.1", 1),
            IPv6Address("TCP", "::", 1),
            IPv6Address("TCP", "::2", 1),
            IPv6Address("TCP", "fe80::1%lo", 1),
            IPv6Address("TCP", "::ffff:192.0.2.1", 1),
            UNIXAddress("/run/socket"),
        ):
            answer = scrape(self.house, address)
            self.assertEqual((answer.status, answer.headers["www-authenticate"]), (401, "Bearer"), address)

    def test_token(self) -> None:
        """A user's, from anywhere; a thing key is none."""
        stranger = IPv4Address("TCP", "192.0.2.1", 1)
        self.create("things", key="k" * 16)
        for token, status in ((self.token, 200), (f"Bearer {self.token}", 200), ("k" * 16, 401), ("x", 401)):
            headers = {"Authorization": token}
            self.assertEqual(scrape(self.house, stranger, headers).status, status)
            proxied = {**headers, "X-Forwarded-For": "192.0.2.9"}
            self.assertEqual(scrape(self.house, HERE, proxied).status, status)

    def test_proxies(self) -> None:
        """Who asks through one is not here, whatever it says of them."""
        for name in (
            *(
                "X-Forwarded-For",
                "x-forwarded-for",
                "X-Forwarded-Host",
                "X-Forwarded-Proto",
                "Forwarded",
                "Via",
            ),
            *("X-Real-IP", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP"),
        ):
            for value in "127.0.0.1", "for=127.0.0.1", "1.1 proxy", "":
                self.assertFalse(self.allowed(headers={name: value}), name)
        self.assertFalse(self.allowed(line="GET /metrics HTTP/1.0"))
        self.assertFalse(self.allowed(line="GET http://localhost:8080/metrics HTTP/1.1"))
        self.assertFalse(self.allowed(IPv4Address("TCP", "192.0.2.1", 1), {"X-Forwarded-For": "127.0.0.1"}))

    def test_pages(self) -> None:
        """A page in a browser on this machine, another site's or one that names us by its own name."""
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://localhost:8080"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            self.assertFalse(self.allowed(headers=headers), headers)
        for host in (
            *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8080"),
            *("localhost:80:80", "localhost evil", "[::1].evil", "192.0.2.1", "127.0.0", ""),
        ):
            self.assertFalse(self.allowed(host=host), host)
        for site in "same-origin", "none":
            self.assertTrue(self.allowed(headers={"Sec-Fetch-Site": site}))

    def test_nothing_else_is_open_here(self) -> None:
        """Of the whole table."""
        for route in self.house.routes:
            if route.access == "user" and route.path != "/metrics":
                path = re.sub("{[a-z]+}", "x", route.path)
                self.assertEqual(scrape(self.house, line=f"{route.method} {path} HTTP/1.1").status, 401, path)


class WhatTests(HouseTestCase):
    """The figures."""

    def test_text(self) -> None:
        """Prometheus's text format, each name with its help, not to be kept."""
        answer = scrape(self.house)
        self.assertEqual(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertEqual(answer.headers["cache-control"], "no-store")
        for figure in FIGURES:
            kind = "counter" if figure.name.endswith("_total") else "gauge"
            self.assertIn(f"# HELP mfserver_{figure.name} {figure.text}\n".encode(), answer.entity)
            self.assertIn(f"# TYPE mfserver_{figure.name} {kind}\n".encode(), answer.entity)
        head = scrape(self.house, line="HEAD /metrics HTTP/1.1")
        self.assertEqual((head.status, head.entity), (200, b""))

    def test_figures(self) -> None:
        """Each is read when it is asked for, and no two from one place."""
        before = figures(scrape(self.house))
        self.assertNotIn("mfserver_certificates_ending{within=30d}", before)
        sources = self.house.sources
        self.house.ending = {30: 12, 7: 5, 1: 2}
        self.house.revocations.heard += ["a", "b", "c"]
        sources.limit.total, sources.limit.unheard = 14, 15
        tls: Any = sources.tls
        tls.generation, tls.not_valid_after, tls.handshakes_failed, tls.peers_refused = 16, 1.8e9, 17, 18
        adapters: Any = sources
        adapters.mqtt.connections += range(19)
        adapters.ws.open += range(20)
        sources.sessions.shared.dropped, sources.mqtt.dropped, sources.ws.dropped = 21, 22, 23
        sources.sessions.retained.dropped = 24
        sources.sessions.retained.keep(a_retained_message())
        sources.sessions.journal.stalled = True
        self.assertTrue(sources.budget.take(25, "192.0.2.1"))
        found = figures(scrape(self.house))
        expected = {
            "certificates_ending{within=30d}": 12,
            "certificates_ending{within=7d}": 5,
            "certificates_ending{within=1d}": 2,
            "certificates_revoked": 3,
            "connections": 14,
            "connections_unheard_total": 15,
            "tls_contexts_total": 16,
            "tls_certificate_end_seconds": 1.8e9,
            "tls_handshakes_failed_total": 17,
            "tls_peers_refused_total": 18,
            "mqtt_connections": 19,
            "mqtt_sessions": 0,
            "websockets": 20,
            "messages_dropped_total{why=no_room}": 21,
            "messages_dropped_total{why=too_long}": 22,
            "messages_dropped_total{why=websocket}": 23,
            "messages_dropped_total{why=retained}": 24,
            "retained_messages": 1,
            "retained_bytes": sources.sessions.retained.size,
            "journal_stalled": 1,
            "held_bytes": 25,
        }
        ours = {
            name.removeprefix("mfserver_"): value for name, value in found.items() if "process" not in name
        }
        self.assertEqual(ours, expected)
        self.assertGreater(found["process_resident_memory_bytes"], 1 << 20)

    def test_nobody_is_named(self) -> None:
        """Whatever is there, no label and no value is an id."""
        thing = self.create("things", name="sender")
        channel = self.create("channels", name="weather")
        message = a_retained_message(channel, thing)
        self.house.sources.sessions.retained.keep(message)
        text = scrape(self.house).entity.decode()
        for secret in thing, channel, "sender", "weather", "a@example.org":
            self.assertNotIn(secret, text)
        words = set(re.findall(r'="([^"]*)"', text))
        self.assertLessEqual(words, {"30d", "7d", "1d", "no_room", "retained", "too_long", "websocket"})


def a_retained_message(channel: str = "c", publisher: str = "alice") -> Message:
    """One that is kept."""
    return Message(channel, ("t",), "t", publisher, "mqtt", b"x", "", 1, 0, True)
