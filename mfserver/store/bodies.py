"""A message as bytes, as it is kept. They are read by this and by later versions, never by others."""

from typing import Any, Final

import msgspec

from mfserver.message import Message

__all__ = ["decode_message", "encode_message"]


class _Body(msgspec.Struct, array_like=True):
    """What of a message is kept, as an array. A later version may add to its end, with a default."""

    channel: str
    levels: tuple[str, ...]
    subtopic: str
    publisher: str
    protocol: str
    payload: bytes
    content_type: str
    created: int
    qos: int
    retain: bool
    properties: dict[int, Any] | None
    expires: int


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Body)


def encode_message(message: Message) -> bytes:
    """The message without :attr:`~Message.origin`, :attr:`~Message.key` and :attr:`~Message.encoded`."""
    return _ENCODER.encode(
        _Body(
            message.channel,
            message.levels,
            message.subtopic,
            message.publisher,
            message.protocol,
            message.payload,
            message.content_type,
            message.created,
            message.qos,
            message.retain,
            message.properties,
            message.expires,
        )
    )


def decode_message(body: bytes, key: int = 0) -> Message:
    """The message that :func:`encode_message` was given.

    :param key: of one that stands in a queue.
    """
    kept = _DECODER.decode(body)
    message = Message(
        kept.channel,
        kept.levels,
        kept.subtopic,
        kept.publisher,
        kept.protocol,
        kept.payload,
        kept.content_type,
        kept.created,
        kept.qos,
        kept.retain,
        None if kept.properties is None else {key: _property(it) for key, it in kept.properties.items()},
        expires=kept.expires,
    )
    message.key = key
    return message


def _property(value: Any) -> object:
    # What is kept as a list of lists was a list of pairs: of a user property.
    return [tuple(pair) for pair in value] if type(value) is list else value
