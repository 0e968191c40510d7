"""Conversations with a connection, for the tests that hold one."""

from mfserver.mqtt import events
from mfserver.mqtt.connection import Connection, Limits
from mfserver.mqtt.decode import decode
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Connect,
    Packet,
)

VERSIONS = (3, 4, 5)


def split(data: bytes, version: int) -> list[Packet]:
    """The packets that a server sent."""
    found = []
    while data:
        length = 2 + data[1] if data[1] < 128 else 3 + (data[1] & 127) + 128 * data[2]
        found.append(decode(data[:length], version))
        data = data[length:]
    return found


def connected(version: int = 4, limits: Limits | None = None, connect: Connect | None = None) -> Connection:
    """A connection whose CONNECT was accepted at time 0; its CONNACK is taken."""
    connection = Connection(limits or Limits(), 0.0)
    connection.receive_data(encode(connect or Connect(version, "c"), 0), 0.0)
    connection.send_connack(assigned_client_id=None if connection.client_id else "assigned")
    assert not connection.closed
    connection.data_to_send()
    return connection


class Outcome:
    """What came of feeding bytes to a connection."""

    def __init__(self, connection: Connection, happened: list[events.Event]) -> None:
        self.events = [
            (type(event), str(getattr(event, "packet", getattr(event, "text", "")))) for event in happened
        ]
        self.sent = connection.data_to_send()
        self.closed = connection.closed

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))


def feed(connection: Connection, chunks: list[bytes]) -> Outcome:
    """Feed chunk after chunk, accepting every CONNECT."""
    happened: list[events.Event] = []
    for chunk in chunks:
        new = connection.receive_data(chunk, 1.0)
        happened += new
        if new and isinstance(new[-1], events.ConnectReceived):
            connection.send_connack(assigned_client_id="assigned")
            happened += connection.receive_data(b"", 1.0)
    return Outcome(connection, happened)
