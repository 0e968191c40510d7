"""The two packets of which nearly all traffic is, read in one go: PUBLISH without properties, and PUBACK.

Only what is sure to be right is taken here. What is not - another packet, one that is not all there, one that
breaks a rule or a bound - is left where it stands, for :mod:`.framing` and :mod:`.decode` to find out.
"""

from typing import Final

from mfserver.mqtt.constants import MQTT_5_0
from mfserver.mqtt.events import Event, PublishAcknowledged, PublishReceived
from mfserver.mqtt.packets import Publish
from mfserver.mqtt.receiving import Receiver

__all__ = ["take_common"]

#: The first byte of a PUBACK.
_PUBACK: Final = 0x40
#: The first six bits of a PUBLISH of QoS 0 or 1 without DUP; the other two are QoS and RETAIN.
_PUBLISH: Final = 0x30 >> 2


def take_common(data: bytes, pos: int, version: int, receiver: Receiver, happened: list[Event]) -> int:
    """Take in the common packets that stand at ``pos``, one after the other.

    :param receiver: whose client sent them.
    :param happened: gets an event for each.
    :return: where that ends: at the end of the data, or where a packet begins that is not one of them.
    """
    end = len(data)
    is_5_0 = version == MQTT_5_0
    max_packet, max_payload = receiver.max_packet, receiver.max_payload
    while pos + 4 <= end:
        first = data[pos]
        length = data[pos + 1]
        start = pos + 2
        if first == _PUBACK:
            packet_id = data[start] << 8 | data[start + 1]
            if length != 2 or not packet_id or max_packet < 4:
                break
            happened.append(PublishAcknowledged(packet_id, 0))
            pos += 4
            continue
        if first >> 2 != _PUBLISH:
            break
        if length > 0x7F:
            more = data[start]
            if not 0 < more < 0x80:
                break
            length += (more << 7) - 0x80
            start += 1
        stop = start + length
        if stop > end or stop - pos > max_packet:
            break
        pos_name = start + 2
        start = pos_name + (data[start] << 8 | data[start + 1])
        qos = first >> 1 & 1
        payload = start + 2 * qos + is_5_0
        if payload > stop or stop - payload > max_payload or (is_5_0 and data[payload - 1]):
            break
        packet_id = 0
        if qos:
            packet_id = data[start] << 8 | data[start + 1]
            if not packet_id:
                break
        name = data[pos_name:start]
        topic = receiver.topic if name == receiver.topic_bytes else receiver.topic_of(name)
        if not topic or (qos and is_5_0 and not receiver.count_qos_1()):
            break
        publish = Publish(topic, data[payload:stop], qos, False, first & 1 == 1, packet_id)
        happened.append(PublishReceived(publish))
        pos = stop
    return pos
