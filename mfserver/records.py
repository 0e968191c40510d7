"""What the store keeps, as plain values: users, things, channels, their connections, and pages of them.

Ids are UUIDv4 in their 36-character form. Metadata is a JSON object.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NewType, TypeVar

__all__ = [
    "UserId",
    "ThingId",
    "ChannelId",
    "KeyId",
    "Metadata",
    "User",
    "ApiKey",
    "Thing",
    "Channel",
    "Query",
    "Page",
    "Change",
    "Claims",
    "is_thing_key",
    "MAX_NAME",
    "MAX_PAGE",
]

UserId = NewType("UserId", str)
ThingId = NewType("ThingId", str)
ChannelId = NewType("ChannelId", str)
KeyId = NewType("KeyId", str)
Metadata = Mapping[str, Any]
T_co = TypeVar("T_co", covariant=True)

#: Characters of a thing's or a channel's name.
MAX_NAME: Final = 1024
#: Entries of one page.
MAX_PAGE: Final = 100

# 64 characters are all that a certificate's common name holds (RFC 5280, ub-common-name).
_THING_KEY: Final = re.compile(r"[A-Za-z0-9._~-]{16,64}")


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who owns things and channels.

    :ivar password_hash: argon2's encoded form; never shown.
    :ivar generation: grows with every change of the password, which ends the login tokens made before.
    """

    id: UserId
    email: str
    password_hash: str
    metadata: Metadata | None = None
    generation: int = 0


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A token that a user made for a program. Only its existence is kept, never its value.

    :ivar issued_at: seconds since 1970.
    :ivar expires_at: likewise; None for one that never expires.
    """

    id: KeyId
    owner: UserId
    issued_at: int
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Thing:
    """A device or program that publishes and subscribes.

    :ivar key: its secret, 16 to 64 characters; unique over all owners.
    """

    id: ThingId
    owner: UserId
    key: str
    name: str | None = None
    metadata: Metadata | None = None

    def __repr__(self) -> str:
        return f"<Thing {self.id}>"  # a key has no place in a log or a traceback


@dataclass(frozen=True, slots=True)
class Channel:
    """What things talk on."""

    id: ChannelId
    owner: UserId
    name: str | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """Which page of a list is asked for.

    :ivar offset: entries to skip.
    :ivar limit: entries to return, 1 to :data:`MAX_PAGE`.
    :ivar name: a case-insensitive substring of the name.
    :ivar metadata: a JSON object that the entry's metadata must contain (PostgreSQL's ``@>``).
    :ivar order: ``"name"`` or ``"id"``; None for the order of creation.
    :ivar descending: the other way round.
    """

    offset: int = 0
    limit: int = 10
    name: str | None = None
    metadata: Metadata | None = None
    order: str | None = None
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T_co]):
    """A part of a list.

    :ivar total: entries of the whole list that match the query.
    """

    total: int
    offset: int
    limit: int
    entries: Sequence[T_co]


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to the right of things to speak, told after the commit and before the answer.

    Exactly one of the three shapes:

    * ``things`` alone: these things are gone, with ``deleted``, or their keys are others now;
    * ``things`` and ``channels``: each of these things lost each of these channels, or, with
      ``connected``, may use them from now on;
    * ``channels`` alone: these channels are gone.
    """

    things: tuple[ThingId, ...] = ()
    channels: tuple[ChannelId, ...] = ()
    connected: bool = False
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Claims:
    """Everything a client said about who it is, on whatever protocol. All of it must mean one thing.

    :ivar address: the client's IP address, which is what guessing is slowed down by.
    :ivar keys: every thing key that it sent, from every place that one can stand in.
    :ivar thing_id: MQTT's user name, a thing's id; None where the protocol has none or it was absent.
    :ivar needs_key: a certificate alone is not enough here (WebSocket, MQTT, a browser on another's behalf).
    :ivar needs_thing_id: the thing's id has to be said too (MQTT).
    :ivar by_browser: a page in a browser may have made the connection, and browsers send certificates by
        themselves: one never counts alone here.
    """

    address: str
    keys: tuple[str, ...] = ()
    thing_id: str | None = None
    needs_key: bool = False
    needs_thing_id: bool = False
    by_browser: bool = False

    def __repr__(self) -> str:
        return f"<Claims from {self.address}>"


def is_thing_key(text: str) -> bool:
    """Whether this can be a thing key: 16 to 64 characters of ``[A-Za-z0-9._~-]``."""
    return _THING_KEY.fullmatch(text) is not None
