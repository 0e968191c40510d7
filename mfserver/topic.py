"""Topics: ``channels/<channel id>/messages[/<subtopic>]``, and how each protocol writes them.

An MQTT topic keeps its exact levels between MQTT clients. Everybody else writes and matches the normal
form: levels separated by ``/`` or ``.``, empty ones dropped. Every message carries both.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from mfserver.errors import Invalid

__all__ = ["Topic", "TopicFilter", "parse", "parse_filter", "parse_path", "parse_path_filter", "MAX_LEVELS"]

#: Levels of a topic or filter; more are refused. It bounds what matching one topic can cost.
MAX_LEVELS: Final = 128
#: A topic is a UTF-8 string of MQTT: at most this many bytes (MQTT 5.0, 1.5.4).
MAX_BYTES: Final = 65_535

_PERCENT: Final = re.compile("%(?![0-9A-Fa-f]{2})")
# What a level that comes from outside MQTT may not hold: MQTT's separator and wildcards, and the control
# characters and non-characters on which an MQTT client may close (MQTT 5.0, 1.5.4).
_NON_CHARACTERS: Final = "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
_FORBIDDEN: Final = re.compile(f"[/+#\x00-\x1f\x7f-\x9f\ufdd0-\ufdef{_NON_CHARACTERS}]")
# NATS' wildcards: never in a published topic, and in a subscription only as a whole level.
_WILDCARD: Final = re.compile("[*>]")


class Topic:
    """Where a message is published.

    :ivar channel: the channel's id, never empty.
    :ivar levels: the exact levels after ``messages``.
    :ivar subtopic: the normal form, levels separated by ``.``.
    :ivar content_type: the media type of an old ``/ct/<content type>`` ending, or ``""``.
    """

    __slots__ = ("channel", "content_type", "levels", "subtopic")

    def __init__(self, channel: str, levels: tuple[str, ...], subtopic: str, content_type: str) -> None:
        self.channel = channel
        self.levels = levels
        self.subtopic = subtopic
        self.content_type = content_type


class TopicFilter:
    """Where somebody listens.

    :ivar channel: the channel's id, always literal.
    :ivar levels: the levels after ``messages``; ``+`` and, at the end, ``#`` are wildcards.
    :ivar share: the group's name of a shared subscription (MQTT 5.0, 4.8.2), or ``""``.
    """

    __slots__ = ("channel", "levels", "share")

    def __init__(self, channel: str, levels: tuple[str, ...], share: str = "") -> None:
        self.channel = channel
        self.levels = levels
        self.share = share

    @property
    def has_wildcard(self) -> bool:
        """Whether it matches more than one topic."""
        return "+" in self.levels or "#" in self.levels


def parse(topic: str) -> Topic:
    """Read the topic name of an MQTT PUBLISH or will.

    :raises Invalid: it is not under ``channels/<channel id>/messages``.
    """
    channel, levels = _split(topic)
    content_type = ""
    if len(levels) >= 2 and levels[-2] == "ct" and levels[-1]:
        content_type = _content_type(levels[-1])
        levels = levels[:-2]
    return Topic(channel, levels, _normalise(levels) if levels else "", content_type)


def parse_filter(topic_filter: str) -> TopicFilter:
    """Read the topic filter of an MQTT SUBSCRIBE, a shared one too.

    :raises Invalid: it is not under ``channels/<channel id>/messages``, its channel is a wildcard, or a
        wildcard is not a whole level, or ``#`` not the last.
    """
    share = ""
    if topic_filter.startswith("$share/"):
        _, share, topic_filter = [*topic_filter.split("/", 2), ""][:3]
        if not share or "+" in share or "#" in share:  # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
            raise Invalid("a shared subscription needs a group name without wildcards", "topic")
    channel, levels = _split(topic_filter)
    if "+" in channel or "#" in channel:
        # so that a filter never begins with one [MQTT-4.7.2-1]
        raise Invalid("the channel of a topic filter cannot be a wildcard", "topic")
    last = len(levels) - 1
    for index, level in enumerate(levels):
        if ("#" in level and (level != "#" or index != last)) or ("+" in level and level != "+"):
            raise Invalid("a wildcard must be a whole level, and # the last", "topic")  # [MQTT-4.7.1-1]
    return TopicFilter(channel, levels, share)


def parse_path(channel: str, subtopic: str) -> Topic:
    """Read where an HTTP, WebSocket or CoAP request publishes.

    :param channel: the path segment between ``channels`` and ``messages``, still percent-encoded.
    :param subtopic: the path after ``messages/``, still percent-encoded; may be empty.
    :raises Invalid: a level is not UTF-8, holds a forbidden character, or the topic is too long.
    """
    segments = [_decode(segment) for segment in subtopic.split("/") if segment]
    if any(_WILDCARD.search(segment) for segment in segments):
        raise Invalid("a wildcard cannot be published to", "subtopic")
    content_type = ""
    if len(segments) >= 2 and segments[-2] == "ct":
        content_type = _content_type(segments[-1])
        del segments[-2:]
    levels = [level for segment in segments for level in segment.split(".") if level]
    return Topic(_bounded(channel, levels), tuple(levels), ".".join(levels), content_type)


def parse_path_filter(channel: str, subtopic: str) -> TopicFilter:
    """Read where a WebSocket or CoAP request listens: as :func:`parse_path`, and ``*`` and ``>`` as levels.

    ``*`` matches one level and ``>``, at the end, one or more, as in NATS.

    :raises Invalid: as :func:`parse_path`, and where a wildcard is only a part of a level.
    """
    levels: list[str] = []
    for segment in subtopic.split("/"):
        for level in _decode(segment).split("."):
            if levels and levels[-1] == "#" and level:
                raise Invalid("> must be the last level of a subtopic", "subtopic")
            if level == "*":
                levels.append("+")
            elif level == ">":
                levels += ["+", "#"]
            elif _WILDCARD.search(level):
                raise Invalid("a wildcard must be a whole level of a subtopic", "subtopic")
            elif level:
                levels.append(level)
    return TopicFilter(_bounded(channel, levels), tuple(levels))


def _split(topic: str) -> tuple[str, tuple[str, ...]]:
    """The channel's id and the levels after ``messages`` of an MQTT topic name or filter."""
    levels = topic.split("/")
    if not levels[0]:
        del levels[0]
    if len(levels) < 3 or levels[0] != "channels" or not levels[1] or levels[2] != "messages":
        raise Invalid("a topic is channels/<channel id>/messages[/<subtopic>]", "topic")
    if len(levels) > MAX_LEVELS or topic.count(".") > MAX_LEVELS:  # which separate levels in the normal form
        raise Invalid(f"a topic has at most {MAX_LEVELS} levels, and as many dots", "topic")
    return levels[1], tuple(levels[3:])


def _normalise(levels: tuple[str, ...]) -> str:
    """The subtopic in normal form: MQTT levels may be empty or hold dots, those of everybody else not."""
    return ".".join([part for level in levels for part in level.split(".") if part])


def _bounded(channel: str, levels: list[str]) -> str:
    """Decode and return the channel, after the bounds of the MQTT topic that it becomes."""
    channel = _decode(channel)
    if not channel or _WILDCARD.search(channel):
        raise Invalid("the channel id is empty or holds a wildcard", "channel")
    if len(levels) + 3 > MAX_LEVELS:
        raise Invalid(f"a topic has at most {MAX_LEVELS} levels", "subtopic")
    if len("/".join(("channels", channel, "messages", *levels)).encode()) > MAX_BYTES:
        raise Invalid(f"a topic has at most {MAX_BYTES} bytes", "subtopic")
    return channel


def _decode(segment: str) -> str:
    """Percent-decode one path segment; what it becomes must stand in an MQTT topic."""
    if _PERCENT.search(segment):
        raise Invalid("a % in the path must be followed by two hexadecimal digits", "subtopic")
    try:
        text = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("the path is not valid UTF-8", "subtopic") from error
    if _FORBIDDEN.search(text):
        raise Invalid("a level cannot hold / + # or control characters", "subtopic")
    return text


def _content_type(level: str) -> str:
    """Mainflux's spelling of a media type in a topic level: ``_`` for ``/`` and ``-`` for ``+``."""
    return level.replace("_", "/").replace("-", "+")
