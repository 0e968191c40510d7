"""What a peer can do wrong, in MQTT's words. Everything that this package raises is an :class:`MQTTError`.

The text is for logs and for the reason string: short, and never with a topic, a payload, a user name or a
password in it.
"""

from typing import ClassVar

from mfserver.mqtt import constants

__all__ = [
    "MQTTError",
    "MalformedPacket",
    "ProtocolError",
    "PacketTooLarge",
    "UnsupportedProtocolVersion",
    "ClientIdentifierNotValid",
    "BadAuthenticationMethod",
    "ConnectTimeout",
    "ConnectionLost",
    "KeepAliveTimeout",
    "ReceiveMaximumExceeded",
    "TopicAliasInvalid",
    "QuotaExceeded",
]


class MQTTError(Exception):
    """The base of every error of this package.

    :cvar reason_code: the MQTT 5.0 reason code that says it.
    """

    reason_code: ClassVar[int] = constants.UNSPECIFIED_ERROR


class MalformedPacket(MQTTError):
    """The bytes cannot be read as what they claim to be, or what is to be encoded cannot be."""

    reason_code = constants.MALFORMED_PACKET


class ProtocolError(MQTTError):
    """Well-formed, but not allowed, or not now."""

    reason_code = constants.PROTOCOL_ERROR


class PacketTooLarge(MQTTError):
    """A control packet or a payload is longer than our bound."""

    reason_code = constants.PACKET_TOO_LARGE


class UnsupportedProtocolVersion(MQTTError):
    """A protocol name or level that is none of the three.

    :ivar answer: the version in whose form a CONNACK can be understood; 0 for no answer at all.
    """

    reason_code = constants.UNSUPPORTED_PROTOCOL_VERSION

    def __init__(self, text: str, answer: int) -> None:
        super().__init__(text)
        self.answer = answer


class ClientIdentifierNotValid(MQTTError):
    """An empty client identifier where there cannot be one."""

    reason_code = constants.CLIENT_IDENTIFIER_NOT_VALID


class BadAuthenticationMethod(MQTTError):
    """CONNECT asks for an authentication method; we have none."""

    reason_code = constants.BAD_AUTHENTICATION_METHOD


class ConnectTimeout(MQTTError):
    """CONNECT did not come in time. It is never sent to anybody."""


class ConnectionLost(MQTTError):
    """The transport ended without a DISCONNECT. It is never sent to anybody."""


class KeepAliveTimeout(MQTTError):
    """Nothing came for one and a half times the keep alive."""

    reason_code = constants.KEEP_ALIVE_TIMEOUT


class ReceiveMaximumExceeded(MQTTError):
    """More PUBLISH packets wait for their acknowledgement than our receive maximum allows."""

    reason_code = constants.RECEIVE_MAXIMUM_EXCEEDED


class TopicAliasInvalid(MQTTError):
    """A topic alias of 0, or above the maximum that we announced."""

    reason_code = constants.TOPIC_ALIAS_INVALID


class QuotaExceeded(MQTTError):
    """A bound of ours that the specification does not know is exceeded."""

    reason_code = constants.QUOTA_EXCEEDED
