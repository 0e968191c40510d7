"""What the tests of whole MQTT share: ways into a server, short commands, and a line that can be cut."""

import contextlib
import math
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, Final

from tests.interop.client_case import ClientCase
from tests.interop.clients import Door, Inbox, mark, mosquitto, run_all
from tests.interop.running import PATIENCE, START_SECONDS, wait_until

__all__ = ["MqttCase", "Line", "Way", "LONG", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP"]

PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7

#: Seconds that a session outlives its connection by, where it is to last.
LONG: Final = 600

#: A door, and whether MQTT goes through it in a WebSocket.
Way = tuple[Door, bool]


class MqttCase(ClientCase):
    """Each test has a thing on a channel of its own.

    :ivar way: the door that the thing uses.
    """

    def setUp(self) -> None:
        super().setUp()
        self.way = self.door()
        self.topic = self.way.topic

    def ways(self) -> dict[str, Way]:
        """Every transport of MQTT, by name; ``alpn`` is the one on the HTTPS port."""
        secure = replace(self.way, tls=True)
        return {
            "tcp": (self.way, False),
            "tls": (secure, False),
            "alpn": (replace(secure, alpn=True), False),
            "ws": (self.way, True),
            "wss": (secure, True),
        }

    def restart_server(self) -> None:
        """Stop the server that all tests share, and start it again on its data directory and other ports."""
        self.way.server.stop()
        self.way.server.start()

    def publish(
        self,
        *payloads: str,
        version: str = "mqttv5",
        qos: int = 1,
        place: str = "",
        more: tuple[str, ...] = (),
        door: Door | None = None,
    ) -> None:
        """Publish one after the other, with a mosquitto_pub each, which returns when it is acknowledged."""
        command = [
            *("mosquitto_pub", *mosquitto(door or self.way, version), "-q", str(qos)),
            *("-t", f"{self.topic}{place}", *more),
        ]
        for payload in payloads:
            self.assertEqual([(0, "")], list(run_all([[*command, "-m", payload]])))

    def publish_nothing(self, place: str = "", version: str = "mqttv5") -> None:
        """Clear what is retained."""
        command = ["mosquitto_pub", *mosquitto(self.way, version), "-q", "1", "-t", f"{self.topic}{place}"]
        self.assertEqual([(0, "")], list(run_all([[*command, "-r", "-n"]])))

    def hears(self, inbox: Inbox, *payloads: str) -> None:
        """Wait for messages, and compare all that came with them, in order."""
        expected = [mark(payload.encode()) for payload in payloads]
        with contextlib.suppress(AssertionError):
            inbox.wait(len(expected))
        self.assertEqual(expected, [heard.mark for heard in inbox.heard], inbox.name)

    def check_expiry(self, left: int, interval: int, since: float) -> None:
        """A message that was published after ``since`` expires when it should: it lost the time it waited."""
        waited = math.ceil(time.monotonic() - since)
        self.assertTrue(interval - waited <= left <= interval, f"{left} s are left after at most {waited}")

    @staticmethod
    def delay_of(took: float) -> int:
        """Seconds that are enough to do again, with time to spare, what took so long."""
        return math.ceil(1 + 10 * took)


class Line:
    """A line between clients and an MQTT listener, which is cut at the packet that one names.

    :param server_port: the listener's; it may be set anew while the line is held.
    :ivar port: where clients connect.
    :ivar cuts: how often it was cut.
    """

    def __init__(self, server_port: int) -> None:
        self.cuts = 0
        self.server_port = server_port
        self._cut_at: int | None = None
        self._lock = threading.Lock()
        self._is_free = threading.Event()
        self._is_free.set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone does not wake up who accepts.
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._hang_up(*self._open.copy())

    def cut_at(self, kind: int) -> None:
        """Break the connection instead of handing on the next packet of this kind, whose ever it is."""
        with self._lock:
            self._cut_at = kind

    def wait_for_cuts(self, count: int) -> None:
        """Wait until it has been cut so often in all."""
        wait_until(lambda: self.cuts >= count, f"{count} cuts, after {self.cuts}")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Meanwhile, who connects waits: nobody sees that the server is not there."""
        self._is_free.clear()
        try:
            yield
        finally:
            self._is_free.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        self._is_free.wait(2 * START_SECONDS + PATIENCE)  # a server ends and starts meanwhile
        try:
            server = socket.create_connection(("127.0.0.1", self.server_port))
        except OSError:
            client.close()
            return
        self._open |= {client, server}
        threading.Thread(target=self._hand_on, args=(server, client), daemon=True).start()
        self._hand_on(client, server)

    def _hand_on(self, here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), here.makefile("rb") as reading:
            while True:
                packet = _read_packet(reading)
                if self._is_cut(packet[0] >> 4):
                    break
                there.sendall(packet)
        self._hang_up(here, there)

    def _is_cut(self, kind: int) -> bool:
        with self._lock:
            if kind != self._cut_at:
                return False
            self._cut_at = None
            self.cuts += 1
            return True

    def _hang_up(self, *ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._open.discard(end)


def _read_packet(reading: BinaryIO) -> bytes:
    """One control packet. :raises EOFError: there is no whole one any more."""
    head = _read(reading, 2)
    while head[-1] & 0x80:
        head += _read(reading, 1)
    length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[1:]))
    return head + _read(reading, length)


def _read(reading: BinaryIO, count: int) -> bytes:
    data = reading.read(count)
    if len(data) < count:
        raise EOFError
    return data
