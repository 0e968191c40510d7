"""What goes out to one client: in order, bounded in bytes, and within what its CONNECT allows."""

from typing import Final, cast

from mfserver.mqtt.constants import (
    CONNACK,
    MQTT_5_0,
    PACKET_TOO_LARGE,
    QUOTA_EXCEEDED,
    REASON_CODES,
    RETURN_CODES,
    SERVER_MOVED,
    SUCCESS,
    USE_ANOTHER_SERVER,
    VARIABLE_MAXIMUM,
)
from mfserver.mqtt.encode import EncodedPublish, encode
from mfserver.mqtt.packets import Acknowledgement, Connack, Disconnect, Packet, Properties
from mfserver.mqtt.properties import (
    MAXIMUM_PACKET_SIZE,
    REASON_STRING,
    REQUEST_PROBLEM_INFORMATION,
    SERVER_REFERENCE,
    TOPIC_ALIAS_MAXIMUM,
)

__all__ = ["Sender"]

#: Bytes of acknowledgements and the like that may wait for the transport besides messages.
_ANSWER_BYTES: Final = 65_536
#: A PUBACK without reason code and properties, but for its packet identifier.
_PUBACK: Final = 0x4002_0000
#: What waits where nothing does: nothing is ever put here.
_NOTHING: Final[list[bytes | memoryview]] = []
#: Topic aliases that we use to one client, if it takes so many. Each costs the bytes of its topic.
_ALIASES: Final = 32


class Sender:
    """Collects what one network connection is to write.

    :ivar version: of MQTT; 0 until CONNECT told.
    :ivar paused: the transport takes nothing.
    :ivar message_bytes: of messages that wait for the transport.
    :ivar alias_bytes: of the topics that have a topic alias.
    """

    __slots__ = (
        "_alias_maximum",
        "_aliases",
        "_answer_bytes",
        "_explains",
        "_maximum",
        "_out",
        "alias_bytes",
        "message_bytes",
        "paused",
        "version",
    )

    def __init__(self) -> None:
        # First what each message passes: so it lies side by side in a compiled object.
        self.paused = False
        self._out = _NOTHING
        self.message_bytes = 0
        self._answer_bytes = 0
        self._maximum = VARIABLE_MAXIMUM + 5
        self.alias_bytes = 0
        self._alias_maximum = 0
        self._aliases: dict[str, int] = {}
        self._explains = True
        self.version = 0

    def heed(self, asked: Properties) -> None:
        """Keep from now on to what the properties of a CONNECT ask of a sender."""
        self._maximum = cast(int, asked.get(MAXIMUM_PACKET_SIZE, self._maximum))
        self._explains = asked.get(REQUEST_PROBLEM_INFORMATION) != 0
        # [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]
        self._alias_maximum = min(cast(int, asked.get(TOPIC_ALIAS_MAXIMUM, 0)), _ALIASES)

    def take_data(self) -> bytes:
        """Everything that waits for the transport, once."""
        data = b"".join(self._out)
        self._out = _NOTHING
        self.message_bytes = self._answer_bytes = 0
        return data

    def _collect(self) -> list[bytes | memoryview]:
        """What waits for the transport, to be added to."""
        if not self._out:
            self._out = []
        return self._out

    def publish(self, publish: EncodedPublish, packet_id: int, dup: bool) -> bool:
        """Queue a message, with a topic alias for its topic where there is one to have.

        :return: False when it is longer than the client takes [MQTT-3.1.2-24] [MQTT-3.1.2-25].
        """
        if self._alias_maximum and self._publish_aliased(publish, packet_id, dup):
            return True
        if publish.size > self._maximum:
            return False
        head, out = publish.head, self._out
        if not out:
            out = self._out = []
        if publish.qos:
            if dup:
                head = bytes((head[0] | 8,)) + head[1:]
            out.append(head)
            out.append(packet_id.to_bytes(2, "big"))
            out.append(publish.tail)
        else:
            out.append(head)
        self.message_bytes += publish.size
        return True

    def _publish_aliased(self, publish: EncodedPublish, packet_id: int, dup: bool) -> bool:
        """Queue a message with its topic alias. :return: False when that cannot be."""
        topic = publish.topic
        alias = self._aliases.get(topic, 0)
        is_new = not alias
        if is_new:
            alias = len(self._aliases) + 1
            if alias > self._alias_maximum:
                return False
        head, message = publish.aliased(alias, is_new, packet_id, dup)
        size = len(head) + len(message)
        if size > self._maximum:
            return False
        if is_new:
            self._aliases[topic] = alias
            self.alias_bytes += len(topic.encode())
        self._collect().extend((head, message))
        self.message_bytes += size
        return True

    def puback(self, packet_id: int) -> bool:
        """Queue a PUBACK that says nothing but its packet identifier, as nearly all do.

        :return: False where there is a reason to ask :meth:`answer`.
        """
        if self._answer_bytes > _ANSWER_BYTES - 4 or self._maximum < 4 or not 0 < packet_id <= 0xFFFF:
            return False
        self._collect().append((_PUBACK | packet_id).to_bytes(4, "big"))
        self._answer_bytes += 4
        return True

    def answer(self, packet: Packet) -> int:
        """Queue any other packet; none waits for the send quota [MQTT-3.3.4-10] [MQTT-4.9.0-3].

        :return: 0, or why it was not: QUOTA_EXCEEDED or PACKET_TOO_LARGE. As it cannot be left out, the
            connection has to end.
        """
        data = encode(packet, self.version)
        if len(data) > self._maximum:
            return PACKET_TOO_LARGE  # [MQTT-3.1.2-24]
        # A DISCONNECT is the last of all, and short: it is not what makes the difference.
        waiting = self._answer_bytes
        if waiting and waiting + len(data) > _ANSWER_BYTES and type(packet) is not Disconnect:
            return QUOTA_EXCEEDED
        self._collect().append(data)
        self._answer_bytes += len(data)
        return SUCCESS

    def explain(self, packet: Connack | Disconnect | Acknowledgement, reason_string: str | None) -> int:
        """Queue a packet with its reason string, or without where the client wants none or it would not fit.

        User properties are never among it. [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.4.2-2] [MQTT-3.4.2-3]
        [MQTT-3.5.2-2] [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3]
        [MQTT-3.14.2-3] [MQTT-3.14.2-4]

        :return: as :meth:`answer`.
        """
        if not self._explains and isinstance(packet, Acknowledgement):
            reason_string = None  # [MQTT-3.1.2-29]
        if reason_string and self.version == MQTT_5_0:
            bare = packet.properties
            packet.properties = {**(bare or {}), REASON_STRING: reason_string}
            if len(encode(packet, MQTT_5_0)) > self._maximum:
                packet.properties = bare
        return self.answer(packet)

    def refuse(self, reason_code: int, reason_string: str | None, server_reference: str | None) -> None:
        """Queue the CONNACK of a refusal, if CONNACK has a code for it.

        [MQTT-3.2.2-6] [MQTT-3.2.2-8], of 3.1.1 [MQTT-3.2.2-4] [MQTT-3.2.2-6]
        """
        said: Properties | None = None
        if self.version == MQTT_5_0:
            if reason_code not in REASON_CODES[CONNACK]:
                return
            said = _reference(reason_code, server_reference)
        else:
            return_code = RETURN_CODES.get(reason_code)
            if return_code is None:
                return
            reason_code = return_code
        self.explain(Connack(reason_code, False, said), reason_string)

    def disconnect(self, reason_code: int, reason_string: str | None, server_reference: str | None) -> None:
        """Queue a DISCONNECT for 5.0; only there has a server one. It says no session expiry interval.

        [MQTT-3.14.2-2]
        """
        if self.version == MQTT_5_0:
            packet = Disconnect(reason_code, _reference(reason_code, server_reference))
            self.explain(packet, reason_string)

    def clear(self) -> None:
        """Forget the topic aliases: the network connection is over [MQTT-3.3.2-7]."""
        self._aliases.clear()
        self.alias_bytes = 0


def _reference(reason_code: int, server_reference: str | None) -> Properties | None:
    """The server reference, with the two reason codes that have one (4.11)."""
    if server_reference and reason_code in (USE_ANOTHER_SERVER, SERVER_MOVED):
        return {SERVER_REFERENCE: server_reference}
    return None
