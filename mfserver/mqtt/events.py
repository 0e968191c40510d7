"""What a :class:`~.connection.Connection` tells its owner."""

from typing import cast

from mfserver.mqtt.errors import MQTTError
from mfserver.mqtt.packets import Connect, Properties, Publish, Subscribe, Unsubscribe
from mfserver.mqtt.properties import SESSION_EXPIRY_INTERVAL

__all__ = [
    "Event",
    "ConnectReceived",
    "PublishReceived",
    "PublishReleased",
    "PublishAcknowledged",
    "PublishStored",
    "PublishCompleted",
    "SubscribeReceived",
    "UnsubscribeReceived",
    "DisconnectReceived",
    "ConnectionFailed",
]


class Event:
    """The base of all events."""

    __slots__ = ()


class ConnectReceived(Event):
    """The client asks to be let in. Answer with ``send_connack``; nothing else comes before that."""

    __slots__ = ("packet",)

    def __init__(self, packet: Connect) -> None:
        self.packet = packet


class PublishReceived(Event):
    """A message. When it is safe, answer with ``send_puback`` at QoS 1 and with ``send_pubrec`` at QoS 2."""

    __slots__ = ("packet",)

    def __init__(self, packet: Publish) -> None:
        self.packet = packet


class PublishReleased(Event):
    """The client releases what it sent at QoS 2 (PUBREL). Answer with ``send_pubcomp``."""

    __slots__ = ("packet_id",)

    def __init__(self, packet_id: int) -> None:
        self.packet_id = packet_id


class _Answered(Event):
    """What became of a message that was sent to the client, or of nothing that was.

    :ivar reason_code: 0x80 and above refuse.
    """

    __slots__ = ("packet_id", "reason_code")

    def __init__(self, packet_id: int, reason_code: int) -> None:
        self.packet_id = packet_id
        self.reason_code = reason_code


class PublishAcknowledged(_Answered):
    """The client took, or refused, what was sent to it at QoS 1 (PUBACK)."""

    __slots__ = ()


class PublishStored(_Answered):
    """The client took, or refused, what was sent to it at QoS 2 (PUBREC). Answer with ``send_pubrel``."""

    __slots__ = ()


class PublishCompleted(_Answered):
    """The client knows that what it took at QoS 2 was released (PUBCOMP)."""

    __slots__ = ()


class SubscribeReceived(Event):
    """Answer with ``send_suback``: a reason code for every subscription, in their order."""

    __slots__ = ("packet",)

    def __init__(self, packet: Subscribe) -> None:
        self.packet = packet


class UnsubscribeReceived(Event):
    """Answer with ``send_unsuback``: a reason code for every topic filter, in their order."""

    __slots__ = ("packet",)

    def __init__(self, packet: Unsubscribe) -> None:
        self.packet = packet


class DisconnectReceived(Event):
    """The client said good-bye; the connection is closed.

    :ivar session_expiry: the session expiry interval in seconds that it says; None where it says none.
    """

    __slots__ = ("properties", "reason_code", "session_expiry")

    def __init__(self, reason_code: int, properties: Properties | None) -> None:
        self.reason_code = reason_code
        self.properties = properties
        self.session_expiry = cast("int | None", (properties or {}).get(SESSION_EXPIRY_INTERVAL))


class ConnectionFailed(Event):
    """The connection is closed, and the client did not say good-bye.

    :ivar error: what happened.
    :ivar text: the same in words, fit for a log.
    """

    __slots__ = ("error", "text")

    def __init__(self, error: MQTTError) -> None:
        # Its traceback would hold the frames that hold this event: a circle for every hostile packet.
        error.__traceback__ = error.__context__ = None
        self.error = error
        self.text = str(error)
