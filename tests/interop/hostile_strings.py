"""Random and mutated byte strings: what a port of the server may have to read."""

import json
import random
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.interop.hostile_wire import connect, publish, request, subscribe, ws_frame, ws_opening

__all__ = ["Attacker", "Strings", "client_hello"]

#: What lengths, versions and terminators turn into.
_SPECIAL: Final = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff",
    b"\r\n",
    b"\r\n\r\n",
    b"%00",
    b"%ff",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"{" * 64,
    b"99999999999999999999",
    b"\x10\x00",
    b"\xc0\x00",
    b"\xe0\x00",
)


def client_hello() -> bytes:
    """The first flight of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    trust = ssl.create_default_context()
    half = trust.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        half.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake with nobody")


@dataclass(frozen=True)
class Attacker:
    """A thing with a right to a channel, and its owner's token: mistakes behind these are reached too."""

    thing: str
    key: str
    channel: str
    token: str


class Strings:
    """An endless supply, the same for the same seed.

    Some are noise, most are something valid with a few mistakes in it: either in the whole, or only behind
    a valid beginning, so that the mistake is met by those who trust the sender already.

    :param attacker: whose rights the valid ones carry.
    """

    def __init__(self, attacker: Attacker, seed: int) -> None:
        self._chance = random.Random(seed)
        self._thing, self._key = attacker.thing, attacker.key
        self._channel, self._token = attacker.channel, attacker.token

    def tls(self) -> Iterator[bytes]:
        """For a port that expects a TLS handshake."""
        hello = client_hello()
        return self._mixed([(b"", lambda: hello)])

    def mqtt(self) -> Iterator[bytes]:
        """For a port that expects CONNECT."""
        valid: list[tuple[bytes, Callable[[], bytes]]] = []
        for version in (4, 5):
            opening = connect(self._thing, self._key, version=version, client_id=b"attacker")
            packets = self._packets(version)
            valid += [(b"", lambda o=opening: o), (opening, lambda p=packets: p)]  # type: ignore[misc]
        return self._mixed(valid)

    def http(self) -> Iterator[bytes]:
        """For a port that expects a request, or a WebSocket's."""
        path = f"/channels/{self._channel}/messages"
        json_type = "application/json"
        opening = ws_opening(f"/ws{path}", Authorization=self._key)
        over = ws_opening("/mqtt", Sec_WebSocket_Protocol="mqtt")
        publishing = request("POST", f"/http{path}/a/b", b"{}", Authorization=self._key)
        body = json.dumps([{"name": "x", "metadata": {"a": [1, 2.5, None, {"b": "\u00e9"}]}}]).encode()
        creating = request("POST", "/things/bulk", body, Authorization=self._token, Content_Type=json_type)
        listing = request(
            "GET", "/things?offset=0&limit=10&order=name&dir=asc&metadata=%7B%7D", Authorization=self._token
        )
        chunked = publishing.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked").replace(
            b"\r\n\r\n{}", b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        )
        frames = ws_frame(b'[{"n":"current"}]') + ws_frame(b"\0\xff", opcode=2) + ws_frame(b"ping", opcode=9)
        mqtt = ws_frame(connect(self._thing, self._key) + self._packets(5), opcode=2)
        return self._mixed(
            [
                (b"", lambda: publishing),
                (b"", lambda: chunked),
                (b"", lambda: listing + publishing + listing),
                (b"", lambda: opening),
                (opening, lambda: frames),
                (over, lambda: mqtt),
                (b"", lambda: creating),
                (b"", lambda: self._with_mistaken_body(body, json_type)),
            ]
        )

    def _packets(self, version: int) -> bytes:
        """What follows a CONNECT."""
        topic = f"channels/{self._channel}/messages".encode()
        return (
            subscribe(topic + b"/+/#", version=version)
            + publish(topic + b"/a/b", b"{}", version=version)
            + publish(topic, b"x" * 40, qos=1, packet_id=7, version=version)
            + b"\xc0\0"
        )

    def _with_mistaken_body(self, body: bytes, json_type: str) -> bytes:
        """A request that is right about everything but its JSON."""
        mistaken = self._mutated(body)
        return request("POST", "/things/bulk", mistaken, Authorization=self._token, Content_Type=json_type)

    def _mixed(self, valid: list[tuple[bytes, Callable[[], bytes]]]) -> Iterator[bytes]:
        while True:
            if self._chance.random() < 0.2:
                yield self._chance.randbytes(self._chance.choice((1, 2, 5, 20, 200, 2_000)))
            else:
                opening, make = self._chance.choice(valid)
                yield opening + self._mutated(make())

    def _mutated(self, data: bytes) -> bytes:
        chance, mutated = self._chance, bytearray(data)
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            at = chance.randrange(len(mutated) + 1)
            until = min(len(mutated), at + chance.choice((1, 1, 2, 4, 16)))
            match chance.randrange(6):
                case 0 if at < len(mutated):
                    mutated[at] ^= 1 << chance.randrange(8)
                case 1:
                    mutated[at:until] = chance.randbytes(until - at)
                case 2:
                    del mutated[at:until]
                case 3:
                    mutated[at:at] = chance.choice(_SPECIAL)
                case 4:
                    mutated[at:at] = mutated[at:until] * chance.choice((1, 2, 50))
                case _:
                    del mutated[at:]
        return bytes(mutated)
