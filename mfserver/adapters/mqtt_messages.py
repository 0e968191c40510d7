"""What an MQTT packet and a message are to each other."""

from typing import Final

from mfserver import message
from mfserver.message import Message
from mfserver.mqtt import constants as mqtt
from mfserver.mqtt.encode import EncodedPublish, encode_publish_parts
from mfserver.records import ThingId
from mfserver.topic import Topic

__all__ = ["incoming_message", "encoded_publish"]

# The properties of a PUBLISH that its subscribers receive (MQTT 5.0, 3.3.2.3); a topic alias and a
# subscription identifier belong to one network connection.
_TRAVELLING: Final = (
    mqtt.PAYLOAD_FORMAT_INDICATOR,
    mqtt.MESSAGE_EXPIRY_INTERVAL,
    mqtt.CONTENT_TYPE,
    mqtt.RESPONSE_TOPIC,
    mqtt.CORRELATION_DATA,
    mqtt.USER_PROPERTY,
)


def incoming_message(
    topic: Topic,
    publisher: ThingId,
    payload: bytes,
    qos: int,
    properties: dict[int, object] | None,
    now: int,
    origin: object,
) -> Message:
    """The message that a PUBLISH or a will carries.

    :param now: nanoseconds since 1970.
    :param origin: the session that publishes it, for "no local" subscriptions.
    """
    content_type = topic.content_type
    travelling = None
    if properties:
        travelling = {key: properties[key] for key in _TRAVELLING if key in properties} or None
        content_type = str(properties.get(mqtt.CONTENT_TYPE, content_type))
    result = Message(
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
    )
    result.origin = origin
    return result


def encoded_publish(message: Message, version: int, qos: int) -> EncodedPublish:
    """The PUBLISH that takes a message to every subscriber of one version and QoS: encoded once."""
    is_5 = version >= mqtt.VERSION_5
    key = 4 * is_5 + qos
    cached = message.encoded.get(key)
    if isinstance(cached, EncodedPublish):
        return cached
    encoded = encode_publish_parts(
        mqtt.VERSION_5 if is_5 else mqtt.VERSION_311,
        message.topic,
        message.payload,
        qos,
        properties=_properties(message) if is_5 else None,
    )
    message.encoded[key] = encoded
    return encoded


def _properties(message: Message) -> dict[int, object] | None:
    if message.content_type and not (message.properties and mqtt.CONTENT_TYPE in message.properties):
        return {**(message.properties or {}), mqtt.CONTENT_TYPE: message.content_type}
    return message.properties
