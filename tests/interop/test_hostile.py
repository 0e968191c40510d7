"""Strangers send anything, nothing, too much or too slowly: the others do not notice."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Final

from tests.interop.hostile_flood import Flood
from tests.interop.hostile_strings import Attacker, client_hello
from tests.interop.hostile_watch import MEBIBYTE, HostileTestCase
from tests.interop.hostile_wire import TLS, Wire, connect, publish, request, subscribe, ws_frame, ws_opening
from tests.interop.running import RunningServer, wait_until

SEED: Final = 1_883
#: Strings sent to each port.
COUNT: Final = 10_000
#: Those of them that a TLS port gets inside TLS.
INSIDE_TLS: Final = 1_000
#: Strings sent to each port before the memory is looked at for the first time: so many connections leave
#: their cycles to the collector, which comes by only when a good part of the memory is waiting for it.
WARM_UP: Final = 1_500


class FloodTests(HostileTestCase):
    """Random and mutated byte strings."""

    def test_ten_thousand_strings_at_each_port(self) -> None:
        """None of them costs the others anything, and the log hardly grows."""
        self.flood(WARM_UP, WARM_UP // 10, SEED + 1)
        started = time.monotonic()
        with self.unharmed():
            sent = self.flood(COUNT, INSIDE_TLS, SEED)
        print(
            f"\n{sent} strings in {time.monotonic() - started:.0f} s; others waited "
            f"{self.bystanders.worst:.2f} s at most; memory grew by {self.grown / MEBIBYTE:.1f} MiB; "
            f"{len(self.server.log.splitlines())} lines of log"
        )
        self.assertEqual(4 * COUNT, sent)

    def flood(self, bare: int, inside: int, seed: int) -> int:
        """:return: how many strings were sent."""
        attacker = Attacker(self.thing, self.key, self.deployment.channels["attacked"], self.deployment.token)
        floods = []
        for listener in ("https", "mqtts", "http", "mqtt"):
            port, count = self.server.port(listener), bare
            if listener in TLS:
                floods.append(Flood(listener, port, self.server.ca, attacker, inside, seed))
                count -= inside
            floods.append(Flood(listener, port, None, attacker, count, seed))
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            return sum(pool.map(Flood.send, floods))


@dataclass
class Silence:
    """A connection whose client does not go on.

    :ivar handshake: whether TLS is set up.
    :ivar at_once: what is sent at the beginning.
    :ivar drip: what is sent after it, a byte now and then.
    :ivar is_answered: whether what is sent at the beginning has a response.
    """

    name: str
    listener: str
    at_once: bytes = b""
    drip: bytes = b""
    handshake: bool = True
    is_answered: bool = False

    def closed_after(self, server: RunningServer) -> tuple[float, float]:
        """:return: seconds until the server began to close (a WebSocket says so first), and until it had."""
        drops = iter(self.drip)
        with Wire(server, self.listener, source="127.0.7.7", handshake=self.handshake, timeout=5) as wire:
            wire.send(self.at_once)
            if self.is_answered:
                wire.response()
            wire.socket.settimeout(0.5)
            told = None
            while (now := time.monotonic() - wire.opened) < 20:
                try:
                    if not wire.some():
                        now = time.monotonic() - wire.opened
                        return told or now, now
                    if self.is_answered:
                        told = told or time.monotonic() - wire.opened
                except TimeoutError:
                    with contextlib.suppress(OSError):
                        wire.send(bytes(itertools.islice(drops, 1)))
            return now, now


class SilenceTests(HostileTestCase):
    """Who says nothing, stops half way or drips is closed in time."""

    def beginnings(self) -> Iterator["Silence"]:
        hello = client_hello()
        head = request("GET", "/health")
        opening = connect(self.thing, self.key)
        over = ws_opening("/mqtt", Sec_WebSocket_Protocol="mqtt")
        for listener in ("https", "mqtts"):
            yield Silence(f"{listener}: no handshake", listener, handshake=False)
            yield Silence(f"{listener}: half a ClientHello", listener, hello[:100], handshake=False)
            yield Silence(f"{listener}: a ClientHello and no more", listener, hello, handshake=False)
            yield Silence(f"{listener}: a dripping ClientHello", listener, drip=hello, handshake=False)
        for listener in ("http", "https"):
            yield Silence(f"{listener}: no request", listener)
            yield Silence(f"{listener}: half a request", listener, head[:-2])
            yield Silence(f"{listener}: a dripping request", listener, drip=head)
            yield Silence(f"{listener}: half a second request", listener, head + head[:-2], is_answered=True)
            yield Silence(f"{listener}: /mqtt and no CONNECT", listener, over, is_answered=True)
            drops = b"".join(ws_frame(opening[at : at + 1], opcode=2) for at in range(30))
            yield Silence(f"{listener}: /mqtt, a dripping CONNECT", listener, over, drops, is_answered=True)
        for listener in ("mqtt", "mqtts"):
            yield Silence(f"{listener}: no CONNECT", listener)
            yield Silence(f"{listener}: half a CONNECT", listener, opening[:-1])
            yield Silence(f"{listener}: a dripping CONNECT", listener, drip=opening)

    def test_deadlines(self) -> None:
        """TLS handshake, CONNECT and HTTP headers: 10 s each, however the bytes come."""
        cases = list(self.beginnings())
        with self.unharmed(), ThreadPoolExecutor(len(cases)) as pool:
            measured = list(pool.map(lambda case: case.closed_after(self.server), cases))
        for case, (told, ended) in zip(cases, measured, strict=True):
            self.assertTrue(9 < told < 13, f"{case.name}: closed after {told:.1f} s")
            self.assertLess(ended, 17, case.name)
        times = [told for told, _ in measured]
        print(f"\n{len(cases)} silent connections closed after {min(times):.1f} to {max(times):.1f} s")


class RefusalTests(HostileTestCase):
    """Every mistake has its clear refusal, at once."""

    def test_mqtt(self) -> None:
        """What cannot be a control packet is refused with its reason code; 3.1.1 is closed."""
        topic = self.topic.encode()
        huge = b"\x30\xff\xff\xff\x7f"
        cases = [
            ("256 MB announced", huge, 0x95),
            ("300 MB announced", b"\x30\xff\xff\xff\xff\x01", 0x81),
            ("2 MB announced", b"\x30\x80\x80\x80\x01", 0x95),
            ("a topic with NUL", publish(topic + b"/a\0b", b""), 0x81),
            ("a topic that is not UTF-8", publish(topic + b"/\xff\xfe", b""), 0x81),
            ("a topic with a surrogate", publish(topic + b"/\xed\xa0\x80", b""), 0x81),
            ("a topic with a wildcard", publish(topic + b"/+", b""), 0x81),
            ("a filter with NUL", subscribe(topic + b"/\0"), 0x81),
            ("a filter that is not UTF-8", subscribe(topic + b"/\xc3"), 0x81),
            ("QoS 3", b"\x36" + publish(topic, b"", qos=1)[1:], 0x81),
            ("reserved flags", b"\x81\0", 0x81),
            ("packet type 0", b"\0\0", 0x81),
            ("another's channel", publish(b"channels/other/messages", b""), 0x87),
        ]
        with self.unharmed():
            for (name, data, code), listener, version in itertools.product(cases, ("mqtt", "mqtts"), (4, 5)):
                with Wire(self.server, listener, timeout=2) as wire:
                    wire.send(connect(self.thing, self.key, version=version, client_id=b"attacker"))
                    self.assertEqual(0x20, wire.packet()[0])
                    wire.send(data)
                    rest = wire.rest()
                    self.assertEqual(bytes([code]) if version == 5 else b"", rest[2:3], (name, rest))
                    self.assertEqual(b"\xe0" if version == 5 else b"", rest[:1], name)
            for listener in ("mqtt", "mqtts"):
                for data in (b"\x10\xff\xff\xff\x7f", huge, b"\xc0\0", b"GET / HTTP/1.1\r\n\r\n"):
                    with Wire(self.server, listener, timeout=2) as wire:
                        wire.send(data)
                        self.assertEqual(b"", wire.rest(), data)

    def test_nothing_is_kept_of_a_packet_that_is_too_large(self) -> None:
        """What follows a refused fixed header is not kept, and who goes on sending is cut off."""
        with self.unharmed(), ThreadPoolExecutor(8) as pool:
            taken = list(pool.map(self.push, ["mqtt", "mqtts"] * 4))
        self.assertLess(max(taken), 8)
        self.assertLess(self.peak, 20 * MEBIBYTE)

    def push(self, listener: str) -> float:
        """Announce 256 MB and go on sending. :return: seconds until the server has cut us off."""
        with Wire(self.server, listener, source="127.0.7.8") as wire:
            wire.send(connect(self.thing, self.key, client_id=listener.encode()) + b"\x30\xff\xff\xff\x7f")
            with contextlib.suppress(OSError):
                while time.monotonic() - wire.opened < 10:
                    wire.send(bytes(1 << 17))
                    time.sleep(0.02)
            return time.monotonic() - wire.opened

    def test_websocket(self) -> None:
        """The close code says what was wrong; a frame past the bound is refused at its header."""
        over_bound = MEBIBYTE + 1
        half = ws_frame(bytes(600_000), first=0x02)
        cases = [
            ("a frame past the bound", ws_frame(b"", length=over_bound), 1009),
            ("a frame of 2**62 bytes", ws_frame(b"", length=1 << 62), 1009),
            ("fragments past the bound", half + ws_frame(bytes(600_000), first=0x80), 1009),
            ("text that is not UTF-8", ws_frame(b"\xff\xfe"), 1007),
            ("text with a surrogate", ws_frame(b"\xed\xa0\x80"), 1007),
            ("a frame without mask", b"\x81\x01a", 1002),
            ("an unknown opcode", ws_frame(b"", opcode=3), 1002),
            ("reserved bits", ws_frame(b"", first=0xF1), 1002),
            ("a long ping", ws_frame(bytes(126), opcode=9), 1002),
            ("a continuation of nothing", ws_frame(b"", opcode=0), 1002),
        ]
        path = f"/ws/{self.topic}"
        with self.unharmed():
            for (name, data, code), listener in itertools.product(cases, ("http", "https")):
                with Wire(self.server, listener, timeout=2) as wire:
                    wire.send(ws_opening(path, Authorization=self.key))
                    self.assertEqual(101, wire.response()[0])
                    wire.send(data)
                    opcode, payload = wire.frame()
                    self.assertEqual((8, code), (opcode, int.from_bytes(payload[:2], "big")), name)
                    with contextlib.suppress(OSError):
                        wire.send(ws_frame(payload[:2], opcode=8))
                    self.assertTrue(wire.is_closed(), name)
            with Wire(self.server, "http", timeout=2) as wire:
                wire.send(ws_opening("/mqtt", Sec_WebSocket_Protocol="mqtt"))
                self.assertEqual(101, wire.response()[0])
                wire.send(ws_frame(b"text"))
                opcode, payload = wire.frame()
                self.assertEqual((8, 1003), (opcode, int.from_bytes(payload[:2], "big")))

    def test_http(self) -> None:
        """400 and its relatives, with JSON that says why wherever there is a request to answer."""
        path, key, token = f"/http/{self.topic}", self.key, self.deployment.token

        def post(path: str, body: bytes) -> bytes:
            return request("POST", path, body, Authorization=token, Content_Type="application/json")

        deep = b'{"metadata":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001
        cases: list[tuple[str, bytes, int]] = [
            ("a path that is not UTF-8", request("POST", f"{path}/%ff", Authorization=key), 400),
            ("a path with NUL", request("POST", f"{path}/a%00b", Authorization=key), 400),
            ("a path with half an escape", request("POST", f"{path}/%f", Authorization=key), 400),
            ("a key that is not UTF-8", request("POST", path, Authorization="\xff\xfe"), 400),
            ("two Hosts", b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("no Host", b"GET /health HTTP/1.1\r\n\r\n", 400),
            ("deep JSON", post("/things", deep), 400),
            ("deep lists", post("/things/bulk", b"[" * 500_000), 400),
            ("JSON that is not UTF-8", post("/things", b'{"name":"\xff"}'), 400),
            ("a name with NUL", post("/things", b'{"name":"a\\u0000b"}'), 400),
            ("half of a pair", post("/things", b'{"name":"\\ud800"}'), 400),
            ("a number past all bounds", post("/things", b"1" * 5_000), 400),
        ]
        bare: list[tuple[str, bytes, int]] = [
            ("a path that is not ASCII", request("POST", f"{path}/\xe9", Authorization=key), 400),
            ("no HTTP", b"\x16\x03\x01\0\0\r\n\r\n", 400),
            ("a long path", b"GET /" + b"a" * 70_000, 414),
            ("a long header", b"GET / HTTP/1.1\r\nHost: " + b"a" * 70_000, 431),
            ("many headers", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5_000 + b"\r\n", 400),
            ("a length that is none", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
            ("two lengths", b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            (
                "length and chunks",
                b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                400,
            ),
            ("chunks of minus one", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        ]
        with self.unharmed():
            for (name, data, wanted), listener in itertools.product(cases + bare, ("http", "https")):
                with Wire(self.server, listener, timeout=3) as wire:
                    with contextlib.suppress(ConnectionError):
                        wire.send(data)
                    status, headers, body = wire.response()
                    self.assertEqual(wanted, status, (name, body))
                    if (name, data, wanted) in cases:
                        self.assertEqual("application/json", headers.get("content-type"), name)
                        self.assertTrue(body.startswith(b'{"error":"'), (name, body))

    def test_body_that_is_too_large(self) -> None:
        """413 before the body comes; where nobody said how long it is, while it is still coming."""
        paths = ((f"/http/{self.topic}", self.key), ("/things", self.deployment.token))
        with self.unharmed():
            for (path, key), listener in itertools.product(paths, ("http", "https")):
                head = request("POST", path, Authorization=key, Content_Type="application/json")
                self.refuses_body(head, listener)

    def refuses_body(self, head: bytes, listener: str) -> None:
        told = head.replace(b"Content-Length: 0", b"Content-Length: 2097152")
        chunked = head.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        with Wire(self.server, listener, timeout=3) as wire:
            wire.send(told)
            self.assertEqual(413, wire.response()[0], "no byte of the body was sent")
        with Wire(self.server, listener, timeout=3) as wire:
            wire.send(told)
            for _ in range(32):
                wire.send(bytes(65_536))
            self.assertEqual(413, wire.response()[0], "all of it was sent before the answer was read")
        with Wire(self.server, listener, timeout=3) as wire:
            wire.send(chunked)
            for _ in range(17):
                wire.send(b"10000\r\n" + bytes(65_536) + b"\r\n")
            self.assertEqual(413, wire.response()[0], "there was no last chunk")


class SlowReaderTests(HostileTestCase):
    """Who asks for much and reads nothing has a bound on what waits for him."""

    #: Messages, and bytes of each: 40 MB for every subscriber.
    COUNT: Final = 400
    SIZE: Final = 100_000

    def test_subscribers_that_do_not_read(self) -> None:
        """QoS 0 is dropped, QoS 1 ends the connection; who reads gets all of it."""
        topic = self.topic.encode()
        with self.unharmed(), ExitStack() as stack:
            slow: dict[tuple[str, int], Wire] = {}
            for listener, qos in itertools.product(("mqtt", "mqtts"), (0, 1)):
                wire = slow[listener, qos] = stack.enter_context(Wire(self.server, listener))
                name = f"{listener} {qos}".encode()
                wire.send(connect(self.thing, self.key, client_id=name) + subscribe(topic, qos=qos))
                self.assertEqual(0x20, wire.packet()[0])
                self.assertEqual(0x90, wire.packet()[0])
            for listener in ("http", "https"):
                wire = stack.enter_context(Wire(self.server, listener))
                wire.send(ws_opening(f"/ws/{self.topic}", Authorization=self.key))
                self.assertEqual(101, wire.response()[0])
            reader = stack.enter_context(Wire(self.server, "mqtt"))
            reader.send(connect(self.thing, self.key, client_id=b"reader") + subscribe(topic))
            self.assertEqual([0x20, 0x90], [reader.packet()[0], reader.packet()[0]])
            self.publish_all(topic, reader)
            for (_, qos), wire in slow.items():
                self.assertEqual(qos == 1, _ends(wire), "QoS 1 that does not fit ends the connection")
        each = self.COUNT * self.SIZE / MEBIBYTE
        print(f"\nsix slow readers of {each:.0f} MiB: {self.peak / MEBIBYTE:.1f} MiB more memory at the peak")
        self.assertLess(self.peak, 40 * MEBIBYTE)

    def publish_all(self, topic: bytes, reader: Wire) -> None:
        """Publish at QoS 1, and see each message arrive at one who reads."""
        heard: list[bytes] = []

        def read() -> None:
            for _ in range(self.COUNT):
                heard.append(reader.packet()[1][-4:])

        listening = threading.Thread(target=read)
        listening.start()
        with Wire(self.server, "mqtt") as wire:
            wire.send(connect(self.thing, self.key, client_id=b"publisher"))
            self.assertEqual(0x20, wire.packet()[0])
            for number in range(self.COUNT):
                payload = bytes(self.SIZE) + b"%4d" % number
                wire.send(publish(topic, payload, qos=1, packet_id=number + 1))
                self.assertEqual(0x40, wire.packet()[0])
                # One who reads is no slow reader, whatever else the machine has to do.
                wait_until(lambda ahead=number - 8: len(heard) > ahead, "the reader keeps up", 30)
        listening.join(30)
        self.assertEqual([b"%4d" % number for number in range(self.COUNT)], heard)

    def test_requests_whose_answers_nobody_reads(self) -> None:
        """Requests sent ahead wait in the network, not in our memory, and are given up in time."""
        many = request("GET", "/openapi.json") * 500
        with self.unharmed(), ExitStack() as stack:
            for listener in ("http", "https") * 4:
                wire = stack.enter_context(Wire(self.server, listener, timeout=0.5))
                with contextlib.suppress(OSError):
                    for _ in range(20):
                        wire.send(many)
        self.assertLess(self.peak, 20 * MEBIBYTE)


def _ends(wire: Wire) -> bool:
    wire.socket.settimeout(2)
    return wire.is_closed()
