"""What a client without a mistake knows of its session, and what it may therefore expect of the server."""

import re
from typing import Final, cast

from mfserver.mqtt.packets import Connack, Connect, Packet, Puback, Pubcomp, Publish, Pubrel
from mfserver.mqtt.properties import RECEIVE_MAXIMUM

__all__ = ["Device", "marked"]

_MARK: Final = re.compile(rb"#(\d+) of (\d+)")


def marked(number: int, publisher: int) -> bytes:
    """The payload of a message that is to come once: each number is used once, and they grow."""
    return b"#%d of %d" % (number, publisher)


class Device:
    """One (thing, client identifier), over all its connections.

    Of messages at QoS 0 and 2 it takes each once, and at QoS 1 twice only with DUP; those of one publisher,
    topic and QoS in their order [MQTT-4.6.0-6].

    :param repeated: payloads of messages that their publisher sent twice at QoS 1, of which nothing is known.
    """

    def __init__(self, repeated: set[bytes]) -> None:
        self._repeated = repeated
        self._unreleased: set[int] = set()  # the client's half of QoS 2 (4.3.3, method A)
        self._taken: set[tuple[int, bytes]] = set()
        self._newest: dict[tuple[bytes, str, int], int] = {}
        self._outstanding: set[int] = set()
        self._receive_maximum = 65_535
        self._wire: object = None

    def sends(self, packet: Packet, wire: object) -> None:
        """It acknowledges on this connection what it got."""
        if wire is self._wire and isinstance(packet, Puback | Pubcomp):
            self._outstanding.discard(packet.packet_id)

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

    def server_was_killed(self) -> None:
        """What it sent at QoS 1 just before, it may not know of, and send again as if it were new."""
        self._taken = {(qos, payload) for qos, payload in self._taken if qos != 1}
        self._newest = {place: number for place, number in self._newest.items() if place[2] != 1}

    def _accepted(self, packet: Connack, connect: Connect) -> None:
        self._outstanding.clear()
        self._receive_maximum = cast(int, (connect.properties or {}).get(RECEIVE_MAXIMUM, 65_535))
        if not packet.session_present:
            self._unreleased.clear()
            self._taken.clear()
            self._newest.clear()

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
