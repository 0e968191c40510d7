"""A message on its way from one publisher to everybody who listens on its channel."""

from typing import Any, Final

__all__ = ["Message", "HTTP", "WS", "MQTT", "COAP", "text_size"]

HTTP: Final = "http"
WS: Final = "ws"
MQTT: Final = "mqtt"
COAP: Final = "coap"

#: What of a topic everybody expects who counts messages: characters and levels of a subtopic.
_CHARACTERS: Final = 256
_LEVELS: Final = 16
#: Bytes of an object that holds a text, or two.
_OBJECT: Final = 56


class Message:
    """One published message. Treat it as read-only: every subscriber is handed the same object.

    A plain class with slots, because it is made once for every PUBLISH.

    :ivar channel: the channel's id.
    :ivar levels: the exact topic levels after ``messages``, as MQTT clients see them.
    :ivar subtopic: the same in normal form: levels separated by ``.``, empty ones dropped; ``""`` for none.
    :ivar publisher: the id of the thing that published it.
    :ivar protocol: :data:`HTTP`, :data:`WS`, :data:`MQTT` or :data:`COAP`: how it came.
    :ivar payload: any bytes.
    :ivar content_type: a media type, or ``""`` when the publisher named none.
    :ivar created: when it came, in nanoseconds since 1970 (UTC).
    :ivar qos: MQTT's quality of service that it was published with; 1 where the protocol has none.
    :ivar retain: MQTT's RETAIN flag.
    :ivar properties: the MQTT 5 properties that travel with a PUBLISH, by identifier; None when it has none.
    :ivar origin: the subscriber that published it, for MQTT 5's No Local; None where there is none.
    :ivar expires: when it is not worth delivering any more, in nanoseconds since 1970; 0 for never.
    :ivar key: its number on the disk, shared by all queues that it waits in; 0 while it stands in none.
    :ivar encoded: what adapters keep here so that a packet for a thousand subscribers is encoded once; None
        while there is none.
    """

    __slots__ = (
        "_size",
        "channel",
        "content_type",
        "created",
        "encoded",
        "expires",
        "key",
        "levels",
        "origin",
        "payload",
        "properties",
        "protocol",
        "publisher",
        "qos",
        "retain",
        "subtopic",
    )

    def __init__(
        self,
        channel: str,
        levels: tuple[str, ...],
        subtopic: str,
        publisher: str,
        protocol: str,
        payload: bytes,
        content_type: str,
        created: int,
        qos: int = 1,
        retain: bool = False,
        properties: dict[int, object] | None = None,
        origin: Any = None,
        expires: int = 0,
    ) -> None:
        self.channel = channel
        self.levels = levels
        self.subtopic = subtopic
        self.publisher = publisher
        self.protocol = protocol
        self.payload = payload
        self.content_type = content_type
        self.created = created
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.origin = origin
        self.expires = expires
        self.key = 0
        self._size = -1  # until somebody asks: most messages wait nowhere
        self.encoded: dict[int, object] | None = None

    @property
    def size(self) -> int:
        """Bytes of its payload, and of its topic and properties where these are not the usual few: what it
        counts as where messages wait.
        """
        if self._size < 0:
            levels, properties, size = self.levels, self.properties, len(self.payload)
            if properties or len(levels) > _LEVELS or sum(map(len, levels)) > _CHARACTERS:
                size += _extra(levels, properties)
            self._size = size
        return self._size

    @property
    def topic(self) -> str:
        """The topic name as MQTT clients receive it, without a leading ``/``."""
        if not self.levels:
            return f"channels/{self.channel}/messages"
        return f"channels/{self.channel}/messages/{'/'.join(self.levels)}"


def _extra(levels: tuple[str, ...], properties: dict[int, object] | None) -> int:
    """Bytes in memory of a topic's levels and of properties; on a disk they take less."""
    size = sum(map(text_size, levels))
    for value in (properties or {}).values():
        if isinstance(value, list):  # user properties
            size += sum(_OBJECT + text_size(name) + text_size(text) for name, text in value)
        elif isinstance(value, str):
            size += text_size(value)
        else:
            size += _OBJECT + (len(value) if isinstance(value, bytes) else 0)
    return size


def text_size(text: str) -> int:
    """Bytes in memory of a text, about; the same each time, which ``sys.getsizeof`` is not."""
    return _OBJECT + (len(text) if text.isascii() else 4 * len(text))
