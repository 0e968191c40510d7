"""What an MQTT packet and a message are to each other."""

from collections.abc import Callable
from typing import Final

from mfserver import message
from mfserver.message import Message
from mfserver.mqtt.constants import MQTT_3_1_1, MQTT_5_0
from mfserver.mqtt.encode import EncodedPublish, encode_publish_parts
from mfserver.mqtt.packets import Properties
from mfserver.mqtt.properties import (
    CONTENT_TYPE,
    MESSAGE_EXPIRY_INTERVAL,
    SUBSCRIPTION_IDENTIFIER,
    message_properties,
)
from mfserver.records import ThingId
from mfserver.topic import Topic

__all__ = ["incoming_message", "encoded_publish"]

_SECOND: Final = 1_000_000_000


def incoming_message(
    topic: Topic,
    publisher: ThingId,
    payload: bytes,
    qos: int,
    retain: bool,
    properties: Properties | None,
    now: int,
    origin: object,
) -> Message:
    """The message that a PUBLISH or a will carries.

    :param now: nanoseconds since 1970.
    :param origin: the session that publishes it, for "no local" subscriptions.
    """
    travelling = None
    content_type = topic.content_type
    expires = 0
    if properties is not None:
        travelling = message_properties(properties)
    if travelling is not None:
        content_type = str(travelling.get(CONTENT_TYPE, content_type))
        interval = travelling.get(MESSAGE_EXPIRY_INTERVAL)
        if isinstance(interval, int):
            expires = now + interval * _SECOND
    return Message(
        topic.channel,
        topic.levels,
        topic.subtopic,
        publisher,
        message.MQTT,
        payload,
        content_type,
        now,
        qos,
        retain,
        travelling,
        origin,
        expires,
    )


def encoded_publish(
    message: Message,
    qos: int,
    retain: bool,
    identifiers: tuple[int, ...],
    version: int,
    now: Callable[[], int],
) -> EncodedPublish:
    """The PUBLISH that takes a message to a client.

    It is encoded once for all who get it in the same form: those of one version, QoS and RETAIN flag without
    subscription identifiers, while none of the seconds that it may live has passed.

    :param now: nanoseconds since 1970.
    """
    is_5 = version >= MQTT_5_0
    if is_5 and (identifiers or message.expires):
        waited = (now() - message.created) // _SECOND if message.expires else 0
        if identifiers or waited > 0:
            return _encode(message, qos, retain, _properties(message, identifiers, waited), MQTT_5_0)
    key = 8 * is_5 + 4 * retain + qos
    if message.encoded is None:
        message.encoded = {}
    cached = message.encoded.get(key)
    if isinstance(cached, EncodedPublish):
        return cached
    properties = _properties(message, (), 0) if is_5 else None
    encoded = _encode(message, qos, retain, properties, MQTT_5_0 if is_5 else MQTT_3_1_1)
    message.encoded[key] = encoded
    return encoded


def _encode(
    message: Message, qos: int, retain: bool, properties: Properties | None, version: int
) -> EncodedPublish:
    return encode_publish_parts(version, message.topic, message.payload, qos, retain, properties=properties)


def _properties(message: Message, identifiers: tuple[int, ...], waited: int) -> Properties | None:
    """The properties that a message is delivered with.

    :param waited: seconds.
    """
    said = message.properties
    if message.content_type and not (said and CONTENT_TYPE in said):
        said = {**(said or {}), CONTENT_TYPE: message.content_type}
    if waited > 0 and said:
        interval = said.get(MESSAGE_EXPIRY_INTERVAL)
        if isinstance(interval, int):
            said = {**said, MESSAGE_EXPIRY_INTERVAL: max(interval - waited, 0)}  # [MQTT-3.3.2-6]
    if identifiers:
        said = {**(said or {}), SUBSCRIPTION_IDENTIFIER: list(identifiers)}  # [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    return said
