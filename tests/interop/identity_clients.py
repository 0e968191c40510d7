"""Blocking clients of every protocol that send exactly the bytes a test wants, from the address it wants."""

import base64
import contextlib
import os
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, cast

from mfserver.mqtt.decode import decode
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import Packet
from tests.interop.running import PATIENCE

__all__ = ["Closed", "HandshakeFailed", "Refused", "Response", "ByteStream", "Stream", "WebSocket", "MQTT"]

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
Headers = Sequence[tuple[str, str]]


class Closed(Exception):
    """The server ended the connection.

    :ivar code: a WebSocket's close code; 0 without one.
    """

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class HandshakeFailed(Closed):
    """The server ended it with a TLS alert. Under TLS 1.3 the first read tells, not the handshake."""


class Refused(Exception):
    """A WebSocket was not opened. :ivar response: what came instead."""

    def __init__(self, response: "Response") -> None:
        super().__init__(str(response.status))
        self.response = response


class Response(NamedTuple):
    """An HTTP response; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class ByteStream(Protocol):
    """What MQTT is spoken over."""

    def send(self, data: bytes) -> None: ...

    def receive(self, count: int) -> bytes: ...

    def close(self) -> None: ...


@contextlib.contextmanager
def _endings() -> Iterator[None]:
    """All the ways in which a socket says that the other end is gone; a timeout stays one."""
    try:
        yield
    except TimeoutError:
        raise
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            raise HandshakeFailed(str(error.reason)) from error
        raise Closed(str(error)) from error
    except OSError as error:
        raise Closed(str(error)) from error


class Stream:
    """A TCP or TLS connection.

    :param source: the address in 127.0.0.0/8 to come from: failed keys are counted for each.
    :param session: a TLS session to resume; ``tls`` must be the context that it was made in.
    """

    def __init__(
        self,
        port: int,
        source: str,
        tls: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        timeout: float = PATIENCE,
    ) -> None:
        self._received = b""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout, source_address=(source, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            try:
                with _endings():
                    self._socket = tls.wrap_socket(self._socket, server_hostname="localhost", session=session)
            except BaseException:
                self._socket.close()
                raise

    @property
    def tls(self) -> ssl.SSLSocket:
        """The socket, where it has TLS."""
        return cast(ssl.SSLSocket, self._socket)

    def send(self, data: bytes) -> None:
        with _endings():
            self._socket.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """Send every byte in a TLS record and, as far as the kernel likes, a segment of its own."""
        for index in range(len(data)):
            self.send(data[index : index + 1])

    def receive(self, count: int) -> bytes:
        """Exactly so many bytes."""
        while len(self._received) < count:
            with _endings():
                data = self._socket.recv(1 << 16)
            if not data:
                raise Closed("end of stream")
            self._received += data
        received, self._received = self._received[:count], self._received[count:]
        return received

    def close(self) -> None:
        """Be gone without a word of farewell."""
        self._socket.close()

    def set_timeout(self, seconds: float) -> None:
        """How long to wait for anything from now on."""
        self._socket.settimeout(seconds)

    # --- HTTP ---

    def send_request(
        self, method: str, target: str, headers: Headers = (), body: bytes | None = None
    ) -> None:
        """Send one HTTP request with exactly these headers, and Host and Content-Length."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *(f"{n}: {v}" for n, v in headers)]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))

    def receive_response(self) -> Response:
        """Read one HTTP response."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.receive(1)
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
        return Response(int(first.split()[1]), headers, self.receive(int(headers.get("content-length", "0"))))

    def exchange(
        self, method: str, target: str, headers: Headers = (), body: bytes | None = None
    ) -> Response:
        """One request and its response."""
        self.send_request(method, target, headers, body)
        return self.receive_response()


class WebSocket:
    """A WebSocket; what comes in binary frames is also a stream of bytes.

    :raises Refused: the server answered with anything but 101.
    """

    def __init__(
        self, stream: Stream, target: str, headers: Headers = (), subprotocol: str | None = None
    ) -> None:
        self.stream = stream
        self._received = b""
        opening = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
        ]
        if subprotocol is not None:
            opening.append(("Sec-WebSocket-Protocol", subprotocol))
        response = stream.exchange("GET", target, [*opening, *headers])
        if response.status != 101:
            raise Refused(response)

    def send_frame(self, opcode: int, payload: bytes) -> None:
        """Send one masked frame that is the whole message."""
        size = len(payload)
        if size < 126:
            length = bytes([0x80 | size])
        elif size < 1 << 16:
            length = bytes([0x80 | 126]) + size.to_bytes(2, "big")
        else:
            length = bytes([0x80 | 127]) + size.to_bytes(8, "big")
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        self.stream.send(bytes([0x80 | opcode]) + length + mask + masked)

    def receive_frame(self) -> bytes:
        """The payload of the next message. :raises Closed: the server sent a Close frame, or is gone."""
        while True:
            first, size = self.stream.receive(2)
            if size >= 126:
                size = int.from_bytes(self.stream.receive(2 if size == 126 else 8), "big")
            payload = self.stream.receive(size)
            match first & 0x0F:
                case 8:
                    code = int.from_bytes(payload[:2], "big")
                    raise Closed(f"close frame {code}", code)
                case 9:
                    self.send_frame(PONG, payload)
                case _:
                    return payload

    def send(self, data: bytes) -> None:
        self.send_frame(BINARY, data)

    def send_bytewise(self, data: bytes) -> None:
        """Send every byte in a frame of its own."""
        for index in range(len(data)):
            self.send(data[index : index + 1])

    def receive(self, count: int) -> bytes:
        while len(self._received) < count:
            self._received += self.receive_frame()
        received, self._received = self._received[:count], self._received[count:]
        return received

    def close(self) -> None:
        self.stream.close()


class MQTT:
    """MQTT packets over bytes.

    :param version: 3, 4 or 5.
    """

    def __init__(self, stream: ByteStream, version: int) -> None:
        self.stream = stream
        self.version = version

    def send(self, *packets: Packet, bytewise: bool = False) -> None:
        """Send packets in one piece, or byte by byte."""
        data = b"".join(encode(packet, self.version) for packet in packets)
        if bytewise:
            cast(Any, self.stream).send_bytewise(data)
        else:
            self.stream.send(data)

    def receive(self) -> Packet:
        """The next packet."""
        data = self.stream.receive(2)
        while data[-1] & 0x80:
            data += self.stream.receive(1)
        length = sum((byte & 0x7F) << 7 * index for index, byte in enumerate(data[1:]))
        return decode(data + (self.stream.receive(length) if length else b""), self.version)

    def receive_kinds(self, kinds: Iterable[type[Packet]]) -> dict[type[Packet], Packet]:
        """Read until a packet of each of these kinds came."""
        wanted = set(kinds)
        found: dict[type[Packet], Packet] = {}
        while wanted - found.keys():
            packet = self.receive()
            found[type(packet)] = packet
        return found
