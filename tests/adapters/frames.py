"""WebSocket frames by hand (RFC 6455, 5.2), and a client that makes its opening handshake by hand."""

from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from tests.adapters.fakes import House, Wire

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "Frame",
    "WSTestCase",
    "close_code",
    "closing",
    "frame",
    "frames",
    "handshake",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
#: RFC 6455, 1.3: what the key above is answered with.
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


class Frame(NamedTuple):
    """One frame of the server's."""

    opcode: int
    payload: bytes


def frame(opcode: int, payload: bytes = b"", final: bool = True) -> bytes:
    """A masked frame, as clients send it."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    mask = b"\x37\xfa\x21\x3d"
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((0x80 * final | opcode,)) + length + mask + masked


def frames(data: bytes) -> list[Frame]:
    """Everything that the server wrote; it must be whole, final and not masked."""
    found = []
    while data:
        assert data[0] & 0x80 and not data[1] & 0x80, "a server's frame is final and not masked"
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10], "big"), 10
        assert len(data) >= start + size, "a frame is not whole"
        found.append(Frame(data[0] & 0x0F, data[start : start + size]))
        data = data[start + size :]
    return found


def closing(code: int = 1000) -> bytes:
    """A client's close frame."""
    return frame(CLOSE, code.to_bytes(2, "big"))


def close_code(data: bytes) -> int | None:
    """The code of the close frame that was written last, None where there is none."""
    codes = [int.from_bytes(one.payload[:2], "big") for one in frames(data) if one.opcode == CLOSE]
    return codes[-1] if codes else None


def handshake(path: str, *headers: str, key: str = KEY, version: str = "13") -> bytes:
    """A client's opening handshake (RFC 6455, 4.1)."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {key}", f"Sec-WebSocket-Version: {version}", *headers, "", ""]
    return "\r\n".join(lines).encode()


class WSTestCase(SynchronousTestCase):
    """A house with two things on one channel, and clients on its web port."""

    def setUp(self) -> None:
        self.house = House()
        self.alice = self.house.thing("alice", "c", "d")
        self.bob = self.house.thing("bob", "c")

    def tearDown(self) -> None:
        for wire in self.house.wires:
            if not wire.lost:
                wire.lose()
        self.assertEqual([], self.house.gate.logged_in)
        self.assertEqual([], self.house.clock.getDelayedCalls())

    def ask(self, path: str, *headers: str, **fields: Any) -> tuple[Wire, int, dict[str, str], bytes]:
        """Make a handshake. :return: the connection, status, headers with lower-case names, what follows."""
        wire = self.house.web_wire()
        return wire, *answer(wire.receive(handshake(path, *headers, **fields)))

    def open(self, name: str, path: str = "/ws/channels/c/messages", *headers: str) -> Wire:
        """An open WebSocket of a thing's."""
        wire, status, answered, rest = self.ask(path, f"Authorization: key-of-{name}", *headers)
        self.assertEqual((101, ACCEPT), (status, answered.get("sec-websocket-accept")))
        self.assertEqual(b"", rest)
        return wire


def answer(data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and what follows of an HTTP answer."""
    head, _, rest = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split(" ")[1]), headers, rest
