"""What a client without a mistake knows of its session, and what it may therefore expect of the server."""

import re
from collections.abc import Callable, Iterable
from typing import Final, cast

from mfserver.mqtt.packets import (
    Connack,
    Connect,
    Packet,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsubscribe,
)
from mfserver.mqtt.properties import RECEIVE_MAXIMUM

__all__ = ["Device", "Promises", "marked"]

_REFUSED: Final = 0x80
_MARK: Final = re.compile(rb"#(\d+) of (\d+)")


def marked(number: int, publisher: int) -> bytes:
    """The payload of a message that is to come once: each number is used once, and they grow."""
    return b"#%d of %d" % (number, publisher)


class Device:
    """One (thing, client identifier), over all its connections.

    Of messages at QoS 0 and 2 it takes each once, and at QoS 1 twice only with DUP; those of one publisher,
    topic and QoS in their order [MQTT-4.6.0-6].

    :param session: asks the server for the number of the session that it has now; 0 for none that is kept.
    :param repeated: payloads of messages that their publisher sent twice at QoS 1, of which nothing is known.
    :ivar promises: messages that it was to get for sure, and that were acknowledged.
    """

    def __init__(self, session: Callable[[], int], repeated: set[bytes]) -> None:
        self._session = session
        self._repeated = repeated
        self._unreleased: set[int] = set()  # the client's half of QoS 2 (4.3.3, method A)
        self._taken: set[tuple[int, bytes]] = set()
        self._newest: dict[tuple[bytes, str, int], int] = {}
        self._outstanding: set[int] = set()
        self._receive_maximum = 65_535
        self._wire: object = None
        # Topic filters that were granted at QoS 1 or 2, each with a number of its own and the session's; and
        # what was asked for.
        self._granted: dict[str, tuple[int, int]] = {}
        self._asked: dict[int, list[tuple[str, bool]]] = {}
        self._grants = 0
        self._got: set[bytes] = set()
        self._promised: dict[bytes, int] = {}
        self.promises = 0

    def sends(self, packet: Packet, wire: object) -> None:
        """It acknowledges on this connection what it got, or subscribes."""
        if isinstance(packet, Unsubscribe):
            self._gives_up(packet.topic_filters)
        elif isinstance(packet, Subscribe):
            asked = [(one.topic_filter, one.qos > 0 and not one.no_local) for one in packet.subscriptions]
            self._gives_up([topic_filter for topic_filter, _ in asked])
            self._asked[packet.packet_id] = asked
        elif wire is self._wire and isinstance(packet, Puback | Pubcomp):
            self._outstanding.discard(packet.packet_id)

    @property
    def due(self) -> set[bytes]:
        """Messages that its session was promised by their publishers' acknowledgements, and does not have."""
        session = self._session()
        return {payload for payload, number in self._promised.items() if number == session}

    def grants(self, topic: str) -> dict[str, tuple[int, int]]:
        """The topic filters that match, which it was granted at QoS 1 or 2."""
        levels = topic.split("/")
        return {one: grant for one, grant in self._granted.items() if _matches(one.split("/"), levels)}

    def promised(self, grants: dict[str, tuple[int, int]], payload: bytes) -> None:
        """A message was acknowledged to its publisher that matched these when it was sent."""
        session = self._session()
        is_granted = any(
            self._granted.get(one) == grant == (grant[0], session) for one, grant in grants.items()
        )
        if session and is_granted:
            self.promises += 1
            if payload not in self._got:
                self._promised[payload] = session

    def receives(self, packet: Packet, wire: object, connect: Connect) -> None:
        """The server sent this on this connection, which began with this CONNECT."""
        if isinstance(packet, Connack) and not packet.reason_code:
            self._accepted(packet, connect)
            self._wire = wire
        elif wire is not self._wire:
            return  # the client did not come to read it: another connection took over
        elif isinstance(packet, Pubrel):
            self._unreleased.discard(packet.packet_id)
        elif isinstance(packet, Publish):
            self._publish(packet)
        elif isinstance(packet, Suback):
            asked = self._asked.pop(packet.packet_id, [])
            for (topic_filter, is_reliable), code in zip(asked, packet.reason_codes, strict=False):
                self._granted.pop(topic_filter, None)  # the same may stand there twice: the last counts
                if is_reliable and code in (1, 2):
                    self._grants += 1
                    self._granted[topic_filter] = (self._grants, self._session())

    def server_was_killed(self) -> None:
        """What it sent at QoS 1 just before, it may not know of, and send again as if it were new."""
        self._taken = {(qos, payload) for qos, payload in self._taken if qos != 1}
        self._newest = {place: number for place, number in self._newest.items() if place[2] != 1}

    def _gives_up(self, topic_filters: list[str]) -> None:
        """What is granted of these ends, also where the SUBACK of it is still to come."""
        for topic_filter in topic_filters:
            self._granted.pop(topic_filter, None)
        for packet_id, asked in self._asked.items():
            self._asked[packet_id] = [(one, is_new and one not in topic_filters) for one, is_new in asked]

    def _accepted(self, packet: Connack, connect: Connect) -> None:
        self._outstanding.clear()
        self._asked.clear()
        self._receive_maximum = cast(int, (connect.properties or {}).get(RECEIVE_MAXIMUM, 65_535))
        if not packet.session_present:
            self._unreleased.clear()
            self._taken.clear()
            self._newest.clear()
            self._granted.clear()
            self._got.clear()
            self._promised.clear()

    def _publish(self, packet: Publish) -> None:
        packet_id, qos = packet.packet_id, packet.qos
        if qos:
            assert packet_id not in self._outstanding, f"packet identifier {packet_id} is in use"
            self._outstanding.add(packet_id)
            assert len(self._outstanding) <= self._receive_maximum, "the receive maximum is exceeded"
        if qos == 2 and packet_id in self._unreleased:
            assert packet.dup, "sent again without DUP"
            return
        if qos == 2:
            self._unreleased.add(packet_id)
        self._got.add(packet.payload)
        self._promised.pop(packet.payload, None)
        mark = _MARK.fullmatch(packet.payload)
        if mark is None or packet.payload in self._repeated:
            return
        number, place = int(mark[1]), (mark[2], packet.topic, qos)
        if (qos, packet.payload) in self._taken:
            assert qos == 1 and packet.dup, f"{packet.payload!r} came twice at QoS {qos}"
            return
        self._taken.add((qos, packet.payload))
        assert number > self._newest.get(place, 0), f"{packet.payload!r} came too late"
        self._newest[place] = number


class Promises:
    """What one connection published at QoS 1 and 2, and who is to have it once that is acknowledged."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[bytes, list[tuple[Device, dict[str, tuple[int, int]]]]]] = {}

    def published(self, packet: Publish, devices: Iterable[Device]) -> None:
        """A message is about to be sent."""
        if packet.qos and _MARK.fullmatch(packet.payload) and packet.topic:
            listeners = [(device, device.grants(packet.topic)) for device in devices]
            self._made[packet.packet_id] = (packet.payload, listeners)

    def receives(self, packet: Packet) -> None:
        """The server answered, perhaps that it has a message: then nobody may miss it."""
        if isinstance(packet, Puback | Pubrec):
            payload, listeners = self._made.pop(packet.packet_id, (b"", []))
            for device, grants in listeners if packet.reason_code < _REFUSED else ():
                device.promised(grants, payload)


def _matches(levels: list[str], topic: list[str]) -> bool:
    """MQTT 5.0, 4.7.1, read aloud."""
    if levels == ["#"]:
        return True
    if not levels or not topic:
        return levels == topic
    return levels[0] in ("+", topic[0]) and _matches(levels[1:], topic[1:])
