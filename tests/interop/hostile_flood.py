"""Sends very many strings, in a process of its own: who measures the others' delay must not be delayed."""

import contextlib
import itertools
import random
import socket
import ssl
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.interop.hostile_strings import Attacker, Strings
from tests.interop.hostile_wire import TLS

__all__ = ["Flood"]

#: Connections that stay open while new ones are made.
_OPEN: Final = 24


@dataclass(frozen=True)
class Flood:
    """Many strings for one listener.

    :ivar ca: the authority to trust, where the strings go inside TLS; None where they go bare.
    """

    listener: str
    port: int
    ca: str | None
    attacker: Attacker
    count: int
    seed: int

    def send(self) -> int:
        """Send each over a connection of its own, from anywhere. :return: how many were sent."""
        chance = random.Random(f"{self.seed} {self.listener} {self.ca is None}")
        trust = None if self.ca is None else ssl.create_default_context(cafile=self.ca)
        connections: deque[socket.socket] = deque()
        for data in itertools.islice(self._strings(), self.count):
            source = f"127.{chance.randint(1, 9)}.{chance.randrange(256)}.{chance.randint(1, 254)}"
            wire = socket.create_connection(("127.0.0.1", self.port), 15, (source, 0))
            if trust is not None:
                wire = trust.wrap_socket(wire, server_hostname="localhost")
            wire.setblocking(False)
            with contextlib.suppress(OSError):
                wire.send(data)
            connections.append(wire)
            if len(connections) > _OPEN:
                _leave(connections.popleft())
        while connections:
            _leave(connections.popleft())
        return self.count

    def _strings(self) -> Iterator[bytes]:
        strings = Strings(self.attacker, self.seed)
        if self.listener in TLS and self.ca is None:
            return strings.tls()
        return strings.http() if self.listener.startswith("http") else strings.mqtt()


def _leave(wire: socket.socket) -> None:
    """Take what the server has answered by now, and go."""
    with wire, contextlib.suppress(OSError):
        wire.recv(65_536)
