"""What an MQTT packet and a message are to each other."""

from mfserver import message
from mfserver.message import Message
from mfserver.mqtt.constants import MQTT_3_1_1, MQTT_5_0
from mfserver.mqtt.encode import EncodedPublish, encode_publish_parts
from mfserver.mqtt.packets import Properties
from mfserver.mqtt.properties import CONTENT_TYPE, message_properties
from mfserver.records import ThingId
from mfserver.topic import Topic

__all__ = ["incoming_message", "encoded_publish"]


def incoming_message(
    topic: Topic,
    publisher: ThingId,
    payload: bytes,
    qos: int,
    properties: Properties | None,
    now: int,
    origin: object,
) -> Message:
    """The message that a PUBLISH or a will carries.

    :param now: nanoseconds since 1970.
    :param origin: the session that publishes it, for "no local" subscriptions.
    """
    travelling = message_properties(properties)
    content_type = topic.content_type
    if travelling is not None:
        content_type = str(travelling.get(CONTENT_TYPE, content_type))
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
        properties=travelling,
        origin=origin,
    )


def encoded_publish(message: Message, version: int, qos: int) -> EncodedPublish:
    """The PUBLISH that takes a message to every subscriber of one version and QoS: encoded once."""
    is_5 = version >= MQTT_5_0
    key = 4 * is_5 + qos
    cached = message.encoded.get(key)
    if isinstance(cached, EncodedPublish):
        return cached
    encoded = encode_publish_parts(
        MQTT_5_0 if is_5 else MQTT_3_1_1,
        message.topic,
        message.payload,
        qos,
        properties=_properties(message) if is_5 else None,
    )
    message.encoded[key] = encoded
    return encoded


def _properties(message: Message) -> Properties | None:
    if message.content_type and not (message.properties and CONTENT_TYPE in message.properties):
        return {**(message.properties or {}), CONTENT_TYPE: message.content_type}
    return message.properties
