"""Bytes on the wire, made by hand: what a hostile client needs and no library would send."""

import base64
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from typing import Final

from tests.interop.running import RunningServer

__all__ = [
    "Wire",
    "connect",
    "publish",
    "puback",
    "subscribe",
    "request",
    "ws_frame",
    "ws_opening",
    "TLS",
]

TLS: Final = ("https", "mqtts")


def _text(value: bytes) -> bytes:
    return struct.pack("!H", len(value)) + value


def _packet(first: int, body: bytes) -> bytes:
    length, encoded = len(body), bytearray()
    while True:
        length, digit = length >> 7, length & 0x7F
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([first]) + bytes(encoded) + body


def connect(thing: str, key: str, *, version: int = 5, client_id: bytes = b"", keep_alive: int = 60) -> bytes:
    """A CONNECT of 3.1.1 or 5.0 with a clean start."""
    properties = b"\0" if version == 5 else b""
    body = _text(b"MQTT") + bytes([version, 0xC2]) + struct.pack("!H", keep_alive) + properties
    return _packet(0x10, body + _text(client_id) + _text(thing.encode()) + _text(key.encode()))


def publish(topic: bytes, payload: bytes, *, qos: int = 0, packet_id: int = 1, version: int = 5) -> bytes:
    """A PUBLISH."""
    identifier = struct.pack("!H", packet_id) if qos else b""
    properties = b"\0" if version == 5 else b""
    return _packet(0x30 | qos << 1, _text(topic) + identifier + properties + payload)


def puback(packet_id: int) -> bytes:
    """A PUBACK."""
    return _packet(0x40, struct.pack("!H", packet_id))


def subscribe(topic_filter: bytes, *, qos: int = 0, packet_id: int = 1, version: int = 5) -> bytes:
    """A SUBSCRIBE with one filter."""
    properties = b"\0" if version == 5 else b""
    return _packet(0x82, struct.pack("!H", packet_id) + properties + _text(topic_filter) + bytes([qos]))


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """An HTTP request; a header's ``_`` is written as ``-``."""
    given = {"Host": "localhost", "Content_Length": str(len(body)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{n.replace('_', '-')}: {v}" for n, v in given.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def ws_opening(path: str, **headers: str) -> bytes:
    """A WebSocket's opening handshake."""
    return request(
        "GET",
        path,
        b"",
        Upgrade="websocket",
        Connection="Upgrade",
        Sec_WebSocket_Key=base64.b64encode(b"0123456789abcdef").decode(),
        Sec_WebSocket_Version="13",
        **headers,
    )


def ws_frame(
    payload: bytes, *, opcode: int = 1, first: int | None = None, length: int | None = None
) -> bytes:
    """A masked frame.

    :param first: the whole first byte, where FIN and opcode are not enough.
    :param length: the length that the frame announces, where that is not the payload's.
    """
    announced = len(payload) if length is None else length
    if announced < 126:
        size = bytes([0x80 | announced])
    elif announced < 65_536:
        size = b"\xfe" + struct.pack("!H", announced)
    else:
        size = b"\xff" + struct.pack("!Q", announced)
    return bytes([0x80 | opcode if first is None else first]) + size + b"\0\0\0\0" + payload


class Wire:
    """A blocking connection to one listener of a server.

    :param source: the loopback address that it comes from.
    :param handshake: False leaves TLS out, also on a TLS listener.
    :param alpn: the names to offer, where they are not the listener's own; none for no ALPN at all.
    :param certificate: files with the client's certificate and its key.
    :ivar opened: when the connection was there, with its TLS handshake.
    """

    def __init__(
        self,
        server: RunningServer,
        listener: str,
        *,
        source: str = "127.0.0.1",
        handshake: bool = True,
        alpn: Sequence[str] | None = None,
        certificate: tuple[str, str] | None = None,
        timeout: float = 15.0,
    ) -> None:
        self.listener = listener
        address = ("127.0.0.1", server.port(listener))
        self.socket = socket.create_connection(address, timeout, (source, 0))
        if listener in TLS and handshake:
            trust = ssl.create_default_context(cafile=server.ca)
            if alpn is None:
                alpn = ["http/1.1" if listener == "https" else "mqtt"]
            if alpn:
                trust.set_alpn_protocols(alpn)
            if certificate is not None:
                trust.load_cert_chain(*certificate)
            self.socket = trust.wrap_socket(self.socket, server_hostname="localhost")
        self.opened = time.monotonic()
        self._read = b""

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def some(self) -> bytes:
        """What comes next; ``b""`` when the server has closed, be it with a reset."""
        try:
            return self.socket.recv(65_536)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            return b""

    def exactly(self, count: int) -> bytes:
        """:raises ConnectionError: the server closed before that much came."""
        while len(self._read) < count:
            more = self.some()
            if not more:
                raise ConnectionError(f"closed after {self._read!r}")
            self._read += more
        data, self._read = self._read[:count], self._read[count:]
        return data

    def rest(self) -> bytes:
        """Everything until the server closes. :raises TimeoutError: it does not."""
        data, self._read = self._read, b""
        while more := self.some():
            data += more
        return data

    def packet(self) -> tuple[int, bytes]:
        """The next control packet of MQTT: its first byte and what follows the fixed header."""
        first, length, shift = self.exactly(1)[0], 0, 0
        while True:
            digit = self.exactly(1)[0]
            length |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return first, self.exactly(length)

    def frame(self) -> tuple[int, bytes]:
        """The next WebSocket frame of the server: opcode and payload."""
        first, length = self.exactly(2)
        if length == 126:
            (length,) = struct.unpack("!H", self.exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.exactly(8))
        return first & 0x0F, self.exactly(length)

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """The next HTTP response: status, headers with lower-case names, body."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.exactly(1)
        status, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = self.exactly(int(headers.get("content-length", 0)))
        return int(status.split()[1]), headers, body

    def is_closed(self) -> bool:
        """Whether the server closes within the timeout, whatever it says before."""
        with contextlib.suppress(TimeoutError):
            self.rest()
            return True
        return False
