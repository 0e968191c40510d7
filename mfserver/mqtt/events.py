"""What a :class:`~.connection.Connection` tells its owner."""

from mfserver.mqtt.errors import MQTTError
from mfserver.mqtt.packets import Connect, Properties, Publish, Subscribe, Unsubscribe

__all__ = [
    "Event",
    "ConnectReceived",
    "PublishReceived",
    "PublishAcknowledged",
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
    """A message. At QoS 1, answer with ``send_puback`` when it is safe."""

    __slots__ = ("packet",)

    def __init__(self, packet: Publish) -> None:
        self.packet = packet


class PublishAcknowledged(Event):
    """The client took, or with a reason code of 0x80 and above refused, what was sent to it at QoS 1."""

    __slots__ = ("packet_id", "reason_code")

    def __init__(self, packet_id: int, reason_code: int) -> None:
        self.packet_id = packet_id
        self.reason_code = reason_code


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
    """The client said good-bye; the connection is closed."""

    __slots__ = ("properties", "reason_code")

    def __init__(self, reason_code: int, properties: Properties | None) -> None:
        self.reason_code = reason_code
        self.properties = properties


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
