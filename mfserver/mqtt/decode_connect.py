"""CONNECT from bytes (MQTT 3.1, 3.1.1 and 5.0, 3.1)."""

from mfserver.mqtt.constants import (
    CLEAN_START_FLAG,
    CONNECT,
    MQTT_3_1,
    MQTT_3_1_1,
    MQTT_5_0,
    PASSWORD_FLAG,
    USER_NAME_FLAG,
    WILL_FLAG,
    WILL_RETAIN_FLAG,
)
from mfserver.mqtt.data import Reader
from mfserver.mqtt.errors import MalformedPacket, UnsupportedProtocolVersion
from mfserver.mqtt.packets import Connect, Will
from mfserver.mqtt.properties import WILL, decode_properties
from mfserver.mqtt.topics import check_topic_name

__all__ = ["decode_protocol", "decode_connect"]


def decode_protocol(reader: Reader) -> int:
    """Read protocol name and level, the part of CONNECT that every version has.

    :return: 3, 4 or 5.
    :raises UnsupportedProtocolVersion: it is none of these. Its ``answer`` is 0 for another name
        [MQTT-3.1.2-1], and else the version in whose form a refusal is understood. A level up to 4, also
        with the bit 0x80 that bridges set, is one of the 3.x family, whose rule is CONNACK 0x01
        (of 3.1.1 [MQTT-3.1.2-2]); a higher one reads CONNACK as 5.0 has it ([MQTT-3.1.2-2]).
    """
    name = reader.binary()
    if name not in (b"MQTT", b"MQIsdp"):
        raise UnsupportedProtocolVersion("not an MQTT protocol name", 0)  # [MQTT-3.1.2-1]
    level = reader.byte()
    if name == b"MQIsdp":
        if level != MQTT_3_1:
            raise UnsupportedProtocolVersion("MQIsdp with another level than 3", MQTT_3_1)
    elif level not in (MQTT_3_1_1, MQTT_5_0):
        answer = MQTT_3_1_1 if level & 0x7F <= MQTT_3_1_1 else MQTT_5_0
        raise UnsupportedProtocolVersion("an unsupported protocol level", answer)  # [MQTT-3.1.2-2]
    return level


def decode_connect(reader: Reader, version: int) -> Connect:
    """Decode what follows the protocol level.

    :raises MQTTError: it breaks a rule.
    """
    flags = reader.byte()
    _check_flags(flags, version)
    keep_alive = reader.two_bytes()
    properties = decode_properties(reader, CONNECT) if version == MQTT_5_0 else None
    client_id = reader.string()  # [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.3-4] [MQTT-3.1.3-5]
    will: Will | None = None
    if flags & WILL_FLAG:  # [MQTT-3.1.2-9]
        will_properties = decode_properties(reader, WILL) if version == MQTT_5_0 else None
        topic = reader.string()  # [MQTT-3.1.3-11], of 3.1.1 [MQTT-3.1.3-10]
        check_topic_name(topic)
        qos = flags >> 3 & 3
        will = Will(topic, reader.binary(), qos, flags & WILL_RETAIN_FLAG != 0, will_properties)
    user_name: str | None = None
    password: bytes | None = None
    # 3.1, "CONNECT": the remaining length takes precedence over the two flags.
    if flags & USER_NAME_FLAG and not (version == MQTT_3_1 and reader.pos == reader.end):
        # [MQTT-3.1.2-17] [MQTT-3.1.3-12], of 3.1.1 [MQTT-3.1.2-19] [MQTT-3.1.3-11]
        user_name = reader.string()
    if flags & PASSWORD_FLAG and not (version == MQTT_3_1 and reader.pos == reader.end):
        password = reader.binary()  # [MQTT-3.1.2-19], of 3.1.1 [MQTT-3.1.2-21]
    # [MQTT-3.1.2-16] [MQTT-3.1.2-18], of 3.1.1 [MQTT-3.1.2-18] [MQTT-3.1.2-20]
    reader.finish()
    clean_start = flags & CLEAN_START_FLAG != 0
    return Connect(version, client_id, clean_start, keep_alive, user_name, password, will, properties)


def _check_flags(flags: int, version: int) -> None:
    """State that these connect flags can stand together (3.1.2.3)."""
    if flags & 0x01 and version != MQTT_3_1:
        raise MalformedPacket("the reserved connect flag is set")  # [MQTT-3.1.2-3]
    if flags & WILL_FLAG:
        if flags & 0x18 == 0x18:
            raise MalformedPacket("will QoS 3")  # [MQTT-3.1.2-12], of 3.1.1 [MQTT-3.1.2-14]
    elif flags & 0x38 and version != MQTT_3_1:
        # [MQTT-3.1.2-11] [MQTT-3.1.2-13], of 3.1.1 [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-15]
        raise MalformedPacket("will QoS or will retain without a will")
    if flags & PASSWORD_FLAG and not flags & USER_NAME_FLAG and version != MQTT_5_0:
        raise MalformedPacket("a password without a user name")  # of 3.1.1 [MQTT-3.1.2-22]
