"""An MQTT client of our own: every packet is in the test's hand, and its session outlives its connections.

It is the client's half of MQTT 5.0, 4.1, 4.3, 4.4 and 4.6 over the project's codec and a plain socket. Any
number of them share one thread: nothing happens but in :meth:`Crowd.turn`, so that a test knows what each
client had sent and read when it pulled the plug.
"""

import contextlib
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from mfserver.mqtt import properties as p
from mfserver.mqtt.constants import MQTT_3_1, MQTT_5_0, PACKET_IDENTIFIER_NOT_FOUND
from mfserver.mqtt.decode import INCOMPLETE, decode, decode_remaining_length
from mfserver.mqtt.encode import encode
from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Properties,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)
from tests.interop.running import PATIENCE

__all__ = ["NEVER", "Client", "Crowd", "Place"]

#: A session expiry interval without an end.
NEVER: Final = 0xFFFF_FFFF
#: Bytes that are read at once; more of them and one client would keep the others waiting.
_READ: Final = 1 << 16

#: Where a server listens: host and port.
Place = tuple[str, int]


class Crowd:
    """Clients that share this thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def turn(self, seconds: float = 0.0) -> bool:
        """Send and read what can be sent and read now.

        :param seconds: how long to wait for the first.
        :return: whether there was anything.
        """
        ready = self._selector.select(seconds)
        for key, events in ready:
            # Who was served before may have closed this one's connection.
            if self._selector.get_map().get(key.fd) is key:
                cast(Client, key.data).serve(events)
        return bool(ready)

    def run(self, seconds: float) -> None:
        """Serve the clients for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.turn(left)

    def until(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Serve the clients until something is true. :raises AssertionError: it never is."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}")
            self.turn(0.05)

    def watch(self, client: "Client", wire: socket.socket, events: int) -> None:
        """Serve a client when its socket is ready for one of these events; 0 for none of them."""
        known = wire.fileno() in self._selector.get_map()
        if events and known:
            self._selector.modify(wire, events, client)
        elif events:
            self._selector.register(wire, events, client)
        elif known:
            self._selector.unregister(wire)

    def close(self) -> None:
        """Let go of the operating system's part."""
        self._selector.close()


class Client:
    """One MQTT client, whose part of the session stays when its connection goes.

    Subclasses say what an application does: :meth:`message_received`, :meth:`publish_acknowledged`,
    :meth:`publish_refused`.

    :param version: 3, 4 or 5.
    :param expiry: seconds that the session outlives the connection by; 3.x knows only 0 and for ever.
    :param receive_maximum: deliveries in flight that the server may have; 0 says nothing. So the others.
    :ivar connack: that of this connection; None until it is there.
    :ivar ended: why the server ended the connection: its DISCONNECT's reason code, or -1 for none.
    :ivar unacknowledged: by packet identifier what waits for PUBACK or PUBREC, in the order of sending.
    :ivar releasing: the packet identifiers that wait for PUBCOMP, in the order of their PUBRECs.
    :ivar received: those of QoS 2 messages that came and are not released.
    :ivar silent: the kinds of packets that are taken in but not answered.
    :ivar granted: SUBACK's reason codes by packet identifier.
    :ivar wrong: what a server must never do and this one did.
    :ivar lost: how often the server had forgotten the session.
    :ivar resent: PUBLISHes and PUBRELs that were sent again.
    :ivar repeats: PUBLISHes of QoS 2 that came again before their release, and were answered again.
    """

    def __init__(
        self,
        crowd: Crowd,
        client_id: str,
        *,
        version: int = MQTT_5_0,
        user: tuple[str, str] | None = None,
        expiry: int = NEVER,
        receive_maximum: int = 0,
        topic_alias_maximum: int = 0,
        maximum_packet_size: int = 0,
    ) -> None:
        self.client_id = client_id
        self.version = version
        self._crowd = crowd
        self._user = user
        self._expiry = expiry
        said = {
            p.SESSION_EXPIRY_INTERVAL: expiry,
            p.RECEIVE_MAXIMUM: receive_maximum,
            p.TOPIC_ALIAS_MAXIMUM: topic_alias_maximum,
            p.MAXIMUM_PACKET_SIZE: maximum_packet_size,
        }
        self._said: Properties = {identifier: value for identifier, value in said.items() if value}
        self._receive_maximum = receive_maximum or 65_535
        self.unacknowledged: dict[int, Publish] = {}
        self.releasing: dict[int, None] = {}
        self.received: set[int] = set()
        self.silent: set[type[Packet]] = set()
        self.granted: dict[int, list[int]] = {}
        self.wrong: list[str] = []
        self.lost = self.resent = self.repeats = 0
        self._sessions = 0
        self._socket: socket.socket | None = None
        self._older: socket.socket | None = None
        self._begin()

    def _begin(self) -> None:
        """What is of one connection only."""
        self.connack: Connack | None = None
        self.ended = -1
        self._reading = True
        self._in, self._out = b"", bytearray()
        self._aliases: dict[int, str] = {}
        self._unanswered: set[int] = set()
        self._awaited: deque[int] = deque()

    # --- what an application does -----------------------------------------------------------------------

    def message_received(self, publish: Publish) -> None:
        """A message came; at QoS 2 once, whatever happens."""

    def publish_acknowledged(self, publish: Publish) -> None:
        """The server has it: PUBACK or PUBREC came."""

    def publish_refused(self, publish: Publish, reason_code: int) -> None:
        """PUBACK or PUBREC came and said no."""

    # --- connections ------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether there is a connection and its CONNACK was good."""
        return self._socket is not None and self.connack is not None and self.connack.reason_code == 0

    @property
    def state(self) -> str:
        """What a person wants to know when it does not get what it waits for."""
        return (
            f"{self.client_id} {self.connack} ended={self.ended:#x} is_closed={self.is_closed} "
            f"in_flight={self.in_flight} unanswered={sorted(self._unanswered)} "
            f"received={sorted(self.received)}"
        )

    @property
    def is_closed(self) -> bool:
        return self._socket is None

    def open(self, place: Place, *, clean_start: bool = False) -> None:
        """Connect and send CONNECT. A connection that is still there is left to the server to end."""
        if self._socket is not None:
            self._crowd.watch(self, self._socket, 0)
            self._older, self._socket = self._socket, None
        self._begin()
        self._socket = socket.create_connection(place, PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        if clean_start or (self.version < MQTT_5_0 and not self._expiry):
            self._forget()
            clean_start = True
        name, password = self._user or (None, "")
        self.send(
            Connect(
                self.version,
                self.client_id,
                clean_start,
                user_name=name,
                password=password.encode() if name else None,
                properties=self._said if self.version == MQTT_5_0 else None,
            )
        )
        self._watch()

    def cut(self) -> None:
        """Be gone without a word."""
        for wire in self._socket, self._older:
            if wire is not None:
                self._crowd.watch(self, wire, 0)
                wire.close()
        self._socket = self._older = None

    def leave(self, reason_code: int = 0) -> None:
        """Send DISCONNECT behind what waits to be sent, and be gone when the server has read it.

        What comes meanwhile is lost, as for a client that ends.
        """
        if self._socket is not None:
            self.send(Disconnect(reason_code))
            self._socket.settimeout(PATIENCE)
            with contextlib.suppress(OSError):
                self._socket.sendall(self._out)
                self._socket.shutdown(socket.SHUT_WR)
                while self._socket.recv(_READ):
                    pass
        self.cut()

    def read(self, wanted: bool) -> None:
        """Stop reading, or go on."""
        self._reading = wanted
        self._watch()

    def serve(self, events: int) -> None:
        """Send and read what the socket can take and has. Called by the crowd."""
        try:
            if events & selectors.EVENT_WRITE:
                self._flush()
            if events & selectors.EVENT_READ and self._socket is not None:
                data = self._socket.recv(_READ)
                if not data:
                    self.cut()
                    return
                self._in += data
                self._take_in()
        except BlockingIOError:
            return
        except OSError:
            self.cut()

    def send(self, packet: Packet) -> None:
        """Send any packet whatever. What the transport does not take now waits."""
        assert self._socket is not None, f"{self.client_id} is not connected"
        waiting = bool(self._out)
        self._out += encode(packet, self.version)
        if not waiting:
            with contextlib.suppress(OSError):  # reading tells that the connection is over
                self._flush()

    def _flush(self) -> None:
        assert self._socket is not None
        waiting = bool(self._out)
        with contextlib.suppress(BlockingIOError):
            del self._out[: self._socket.send(self._out)]
        if waiting or self._out:
            self._watch()

    def _watch(self) -> None:
        if self._socket is not None:
            events = selectors.EVENT_READ if self._reading else 0
            self._crowd.watch(self, self._socket, events | (selectors.EVENT_WRITE if self._out else 0))

    # --- publishing -------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Messages of ours that are on their way."""
        return len(self.unacknowledged) + len(self.releasing)

    @property
    def quota(self) -> int:
        """Messages that the server takes at a time (5.0, 3.2.2.3.3)."""
        said = self.connack.properties if self.connack is not None else None
        return cast(int, (said or {}).get(p.RECEIVE_MAXIMUM, 65_535))

    @property
    def can_publish(self) -> bool:
        """Whether the server takes one more message now."""
        return self.is_open and self.in_flight < self.quota

    def publish(
        self, topic: str, payload: bytes, qos: int = 0, retain: bool = False, said: Properties | None = None
    ) -> Publish:
        """Publish, and resend whenever the session is resumed, until it is acknowledged.

        It takes the lowest identifier that is free: one that a server has not yet let go of hurts it soon.
        """
        publish = Publish(topic, payload, qos, retain=retain, properties=said)
        if qos:
            publish.packet_id = next(
                number
                for number in range(1, 65_536)
                if number not in self.unacknowledged and number not in self.releasing
            )
            self.unacknowledged[publish.packet_id] = publish
            if qos == 1:
                self._awaited.append(publish.packet_id)
        self.send(publish)
        return publish

    def subscribe(self, *subscriptions: Subscription, packet_id: int = 65_535) -> None:
        """Send SUBSCRIBE; :attr:`granted` tells what came of it."""
        self.granted.pop(packet_id, None)
        self.send(Subscribe(packet_id, list(subscriptions)))

    def unsubscribe(self, *topic_filters: str, packet_id: int = 65_534) -> None:
        """Send UNSUBSCRIBE."""
        self.granted.pop(packet_id, None)
        self.send(Unsubscribe(packet_id, list(topic_filters)))

    def ping(self) -> None:
        """Send PINGREQ."""
        self.send(Pingreq())

    # --- what comes -------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        data, pos = self._in, 0
        connection = self._socket
        while pos < len(data) and self._socket is connection is not None:
            length, body = decode_remaining_length(data, pos + 1)
            if length == INCOMPLETE or body + length > len(data):
                break
            packet = decode(data[pos : body + length], self.version)
            pos = body + length
            self._packet_received(packet)
        if self._socket is connection:
            self._in = data[pos:]

    def _packet_received(self, packet: Packet) -> None:
        if isinstance(packet, Connack):
            self._connack_received(packet)
        elif isinstance(packet, Publish):
            self._publish_received(packet)
        elif isinstance(packet, Puback | Pubrec):
            self._answer_received(packet)
        elif isinstance(packet, Pubrel):
            self._pubrel_received(packet)
        elif isinstance(packet, Pubcomp):
            if packet.packet_id not in self.releasing:
                self.wrong.append(f"{packet}: nothing waits for it")
            self.releasing.pop(packet.packet_id, None)
        elif isinstance(packet, Suback | Unsuback):
            self.granted[packet.packet_id] = packet.reason_codes
        elif isinstance(packet, Disconnect):
            self.ended = packet.reason_code

    def _connack_received(self, connack: Connack) -> None:
        self.connack = connack
        if self._older is not None:
            self._older.close()
            self._older = None
        if connack.reason_code:
            return
        # 3.1 says nothing of a session that is there.
        if not connack.session_present and (self.version > MQTT_3_1 or not self._sessions):
            self.lost += self._sessions > 0
            self._forget()
        self._sessions += 1
        # [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.6.0-4]: the same identifiers, in the order of before
        for packet_id in self.releasing:
            self.send(Pubrel(packet_id))
        for publish in self.unacknowledged.values():
            publish.dup = True  # [MQTT-3.3.1-1]
            self.send(publish)
            if publish.qos == 1:
                self._awaited.append(publish.packet_id)
        self.resent += self.in_flight

    def _forget(self) -> None:
        """Begin a session of which nobody knows anything."""
        self._sessions = 0
        self.unacknowledged.clear()
        self.releasing.clear()
        self.received.clear()

    def _publish_received(self, publish: Publish) -> None:
        said = publish.properties or {}
        alias = cast(int, said.get(p.TOPIC_ALIAS, 0))
        if alias > cast(int, self._said.get(p.TOPIC_ALIAS_MAXIMUM, 0)):
            self.wrong.append(f"topic alias {alias}")  # [MQTT-3.1.2-26]
        if alias and publish.topic:
            self._aliases[alias] = publish.topic
        elif alias:
            publish.topic = self._aliases[alias]
        if publish.qos:
            self._unanswered.add(publish.packet_id)
            if len(self._unanswered) > self._receive_maximum:
                self.wrong.append(f"{len(self._unanswered)} deliveries at a time")  # [MQTT-3.3.4-9]
        if publish.qos < 2:
            self.message_received(publish)
            if publish.qos and Publish not in self.silent:
                self._unanswered.discard(publish.packet_id)
                self.send(Puback(publish.packet_id))
            return
        if publish.packet_id not in self.received:
            self.received.add(publish.packet_id)
            self.message_received(publish)
        else:
            self.repeats += 1
            if not publish.dup:
                self.wrong.append(f"identifier {publish.packet_id} came again without DUP")
        if Publish not in self.silent:
            self.send(Pubrec(publish.packet_id))

    def _pubrel_received(self, pubrel: Pubrel) -> None:
        known = pubrel.packet_id in self.received
        self.received.discard(pubrel.packet_id)
        if Pubrel not in self.silent:
            self._unanswered.discard(pubrel.packet_id)
            code = 0 if known or self.version < MQTT_5_0 else PACKET_IDENTIFIER_NOT_FOUND
            self.send(Pubcomp(pubrel.packet_id, code))

    def _answer_received(self, answer: Puback | Pubrec) -> None:
        packet_id, qos = answer.packet_id, 1 if isinstance(answer, Puback) else 2
        publish = self.unacknowledged.get(packet_id)
        if publish is None or publish.qos != qos:
            self.wrong.append(f"{answer}: nothing waits for it")
            return
        del self.unacknowledged[packet_id]
        if qos == 1 and self._awaited.popleft() != packet_id:
            self.wrong.append(f"{answer}: an earlier one waits still")  # [MQTT-4.6.0-2]
        if answer.reason_code >= 0x80:
            self.publish_refused(publish, answer.reason_code)
            return
        if qos == 2:
            self.releasing[packet_id] = None
            if Pubrec not in self.silent:
                self.send(Pubrel(packet_id))
        self.publish_acknowledged(publish)
