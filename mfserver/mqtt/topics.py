"""Topic names and topic filters (MQTT 5.0 and 3.1.1, 4.7 and 4.8): what MQTT itself allows in them."""

from mfserver.mqtt.constants import MQTT_5_0
from mfserver.mqtt.errors import MalformedPacket

__all__ = ["check_topic_name", "check_topic_filter", "is_shared"]


def check_topic_name(topic: str) -> None:
    """State that this can be published to.

    :raises MalformedPacket: it is empty or holds a wildcard.
    """
    if not topic:
        raise MalformedPacket("a topic name is empty")  # [MQTT-4.7.3-1]
    if "#" in topic or "+" in topic:
        # [MQTT-3.3.2-2] [MQTT-3.3.2-14] [MQTT-4.7.0-1] and of 3.1.1 [MQTT-4.7.1-1]
        raise MalformedPacket("a topic name holds a wildcard")


def check_topic_filter(topic_filter: str, version: int) -> None:
    """State that this can be subscribed to.

    :raises MalformedPacket: it is empty, a wildcard stands where none can, or a shared subscription
        of MQTT 5.0 has no proper share name or no topic filter behind it.
    """
    if version == MQTT_5_0 and is_shared(topic_filter):
        _, share, topic_filter = [*topic_filter.split("/", 2), ""][:3]
        if not share or "#" in share or "+" in share:  # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
            raise MalformedPacket("the share name of a topic filter is empty or holds a wildcard")
    if not topic_filter:
        raise MalformedPacket("a topic filter is empty")  # [MQTT-4.7.3-1] [MQTT-4.8.2-2]
    if "#" in topic_filter[:-1]:
        raise MalformedPacket(
            "# is not at the end of its topic filter"
        )  # [MQTT-4.7.1-1], of 3.1.1 [MQTT-4.7.1-2]
    if topic_filter[-1] == "#" and topic_filter != "#" and topic_filter[-2] != "/":
        # [MQTT-4.7.1-1], of 3.1.1 [MQTT-4.7.1-2]
        raise MalformedPacket("# is not a whole level of its topic filter")
    if "+" in topic_filter and any("+" in level and level != "+" for level in topic_filter.split("/")):
        # [MQTT-4.7.1-2], of 3.1.1 [MQTT-4.7.1-3]
        raise MalformedPacket("+ is not a whole level of its topic filter")


def is_shared(topic_filter: str) -> bool:
    """Whether MQTT 5.0 reads this topic filter as a shared subscription (4.8.2)."""
    return topic_filter.startswith("$share/")
