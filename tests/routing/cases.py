"""Things, subscribers and messages for the tests of routing."""

from collections.abc import Set as AbstractSet

from zope.interface import implementer

from mfserver import message
from mfserver.interfaces import ISubscriber, IThing
from mfserver.message import Message
from mfserver.records import ChannelId, ThingId
from mfserver.topic import parse, parse_path

__all__ = ["Thing", "Subscriber", "mqtt", "http"]


@implementer(IThing)
class Thing:
    def __init__(self, *channels: str) -> None:
        self.id = ThingId("t")
        self.channels: AbstractSet[ChannelId] = {ChannelId(channel) for channel in channels}


@implementer(ISubscriber)
class Subscriber:
    """Keeps what it is given, and may fail at it.

    :ivar ready: what it answers, which may be an error to raise.
    :ivar asked: how often it was asked whether it is ready.
    """

    def __init__(self, trouble: Exception | None = None) -> None:
        self.thing: IThing = Thing("c")
        self.trouble = trouble
        self.ready: bool | Exception = True
        self.asked = 0
        self.got: list[tuple[Message, int]] = []
        self.flags: list[tuple[bool, tuple[int, ...]]] = []

    def deliver(self, message: Message, qos: int, retain: bool, identifiers: tuple[int, ...]) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.got.append((message, qos))
        self.flags.append((retain, identifiers))

    def is_ready(self) -> bool:
        self.asked += 1
        if isinstance(self.ready, Exception):
            raise self.ready
        return self.ready


def mqtt(
    topic: str,
    qos: int = 1,
    origin: object = None,
    payload: bytes = b"",
    *,
    retain: bool = False,
    properties: dict[int, object] | None = None,
    expires: int = 0,
) -> Message:
    """A message as an MQTT client publishes it."""
    parsed = parse(topic)
    channel, levels, subtopic = parsed.channel, parsed.levels, parsed.subtopic
    return Message(
        channel, levels, subtopic, "p", message.MQTT, payload, "", 0, qos, retain, properties, origin, expires
    )


def http(subtopic: str) -> Message:
    """A message as an HTTP client publishes it."""
    parsed = parse_path("c", subtopic)
    return Message(parsed.channel, parsed.levels, parsed.subtopic, "p", message.HTTP, b"", "", 0)
