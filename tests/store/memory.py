"""A store of plain dictionaries, for the tests of other rooms: it passes the contract of the real one."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from zope.interface import implementer

from mfserver.errors import Conflict, NotFound, Overloaded
from mfserver.interfaces import IChannelStore, IConnectionStore, IKeyStore, IStore, IThingStore, IUserStore
from mfserver.records import (
    ApiKey,
    Channel,
    ChannelId,
    KeyId,
    Metadata,
    Page,
    Query,
    Thing,
    ThingId,
    User,
    UserId,
)
from mfserver.store import metadata as json_objects
from mfserver.store.pages import check_query, fold
from tests.store.fired import fired
from tests.store.memory_certificates import MemoryCertificates
from tests.store.memory_sessions import MemorySessions

__all__ = ["MemoryStore"]

Owned = TypeVar("Owned", Thing, Channel)


@dataclass
class _Tables:
    """What the repositories share. Dictionaries keep the order of creation."""

    users: dict[UserId, User] = field(default_factory=dict)
    keys: dict[KeyId, ApiKey] = field(default_factory=dict)
    things: dict[ThingId, Thing] = field(default_factory=dict)
    channels: dict[ChannelId, Channel] = field(default_factory=dict)
    connections: set[tuple[ThingId, ChannelId]] = field(default_factory=set)
    retired: dict[str, UserId] = field(default_factory=dict)
    closed: bool = False

    def check_open(self) -> None:
        if self.closed:
            raise Overloaded("the store is closed")


def _copied(metadata: Metadata | None) -> Metadata | None:
    """What the metadata is after a way through the database."""
    text = json_objects.encode(metadata)
    return None if text is None else json_objects.decode(text)


def _owned(table: dict[Any, Owned], owner: UserId, ids: Iterable[Any]) -> list[Owned]:
    entries = [table[id] for id in dict.fromkeys(ids) if id in table and table[id].owner == owner]
    if len(entries) < len(set(ids)):
        raise NotFound("no such thing or channel")
    return entries


def _page(entries: Iterable[Owned], query: Query) -> Page[Owned]:
    check_query(query)
    wanted = _copied(query.metadata)
    found = [
        entry
        for entry in entries
        if fold(query.name) in fold(entry.name)
        and (not wanted or (entry.metadata is not None and json_objects.contains(entry.metadata, wanted)))
    ]
    if query.order == "name":
        found.sort(key=lambda entry: fold(entry.name))
    elif query.order == "id":
        found.sort(key=lambda entry: entry.id)
    if query.descending:
        found.reverse()
    shown = found[query.offset : query.offset + query.limit]
    return Page(len(found), query.offset, query.limit, shown)


@implementer(IUserStore)
class _Users:
    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    @fired
    def add(self, user: User) -> None:
        self._tables.check_open()
        taken = {known.email.casefold() for known in self._tables.users.values()}
        if user.email.casefold() in taken or user.id in self._tables.users:
            raise Conflict("the e-mail address is taken")
        self._tables.users[user.id] = replace(user, metadata=_copied(user.metadata))

    @fired
    def by_id(self, user: UserId) -> User | None:
        return self._tables.users.get(user)

    @fired
    def by_email(self, email: str) -> User | None:
        folded = email.casefold()
        return next((user for user in self._tables.users.values() if user.email.casefold() == folded), None)

    @fired
    def set_metadata(self, user: UserId, metadata: Metadata | None) -> None:
        self._tables.check_open()
        self._tables.users[user] = replace(self._get(user), metadata=_copied(metadata))

    @fired
    def set_password(self, user: UserId, password_hash: str, generation: int) -> None:
        self._tables.check_open()
        known = self._get(user)
        if known.generation != generation:
            raise Conflict("the password was changed meanwhile")
        self._tables.users[user] = replace(known, password_hash=password_hash, generation=generation + 1)

    def _get(self, user: UserId) -> User:
        if user not in self._tables.users:
            raise NotFound("no such user")
        return self._tables.users[user]


@implementer(IKeyStore)
class _Keys:
    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    @fired
    def add(self, key: ApiKey) -> None:
        self._tables.check_open()
        if key.owner not in self._tables.users:
            raise NotFound("no such user")
        if key.id in self._tables.keys:
            raise Conflict("the API key exists already")
        self._tables.keys[key.id] = key

    @fired
    def get(self, owner: UserId, key: KeyId) -> ApiKey:
        found = self._tables.keys.get(key)
        if found is None or found.owner != owner:
            raise NotFound("no such API key")
        return found

    @fired
    def remove(self, owner: UserId, key: KeyId) -> None:
        self._tables.check_open()
        found = self._tables.keys.get(key)
        if found is not None and found.owner == owner:
            del self._tables.keys[key]


@implementer(IThingStore)
class _Things:
    def __init__(self, tables: _Tables, certificates: MemoryCertificates, now: Callable[[], float]) -> None:
        self._tables = tables
        self._certificates = certificates
        self._now = now

    @fired
    def add(self, things: Sequence[Thing]) -> None:
        self._tables.check_open()
        ids = {thing.id for thing in things}
        keys = {thing.key for thing in things}
        live = {thing.key for thing in self._tables.things.values()}
        if len(ids) < len(things) or ids & self._tables.things.keys():
            raise Conflict("the thing exists already")
        if len(keys) < len(things) or keys & live or ids & (live | keys):
            raise Conflict("the key is taken")
        for thing in things:
            self._check_free(thing.owner, thing.key)
        copies = {thing.id: replace(thing, metadata=_copied(thing.metadata)) for thing in things}
        self._tables.things.update(copies)

    @fired
    def get(self, owner: UserId, thing: ThingId) -> Thing:
        return _owned(self._tables.things, owner, [thing])[0]

    @fired
    def by_key(self, key: str) -> Thing | None:
        return next((thing for thing in self._tables.things.values() if thing.key == key), None)

    @fired
    def by_id(self, thing: ThingId) -> Thing | None:
        return self._tables.things.get(thing)

    @fired
    def page(self, owner: UserId, query: Query) -> Page[Thing]:
        return _page((thing for thing in self._tables.things.values() if thing.owner == owner), query)

    @fired
    def update(self, owner: UserId, thing: ThingId, name: str | None, metadata: Metadata | None) -> None:
        self._tables.check_open()
        (known,) = _owned(self._tables.things, owner, [thing])
        self._tables.things[thing] = replace(known, name=name, metadata=_copied(metadata))

    @fired
    def set_key(self, owner: UserId, thing: ThingId, key: str) -> None:
        self._tables.check_open()
        (known,) = _owned(self._tables.things, owner, [thing])
        if known.key == key:
            return
        if any(other.key == key for other in self._tables.things.values()):
            raise Conflict("the key is taken")
        self._check_free(owner, key)
        self._tables.retired[known.key] = owner
        self._tables.things[thing] = replace(known, key=key)

    @fired
    def remove(self, owner: UserId, thing: ThingId) -> bool:
        self._tables.check_open()
        known = self._tables.things.get(thing)
        if known is None or known.owner != owner:
            return False
        self._tables.retired[known.key] = owner
        self._tables.connections -= {pair for pair in self._tables.connections if pair[0] == thing}
        del self._tables.things[thing]
        self._certificates.revoke_all(thing, int(self._now()))
        return True

    def _check_free(self, owner: UserId, key: str) -> None:
        if key in self._tables.things or self._tables.retired.get(key, owner) != owner:
            raise Conflict("the key is taken")


@implementer(IChannelStore)
class _Channels:
    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    @fired
    def add(self, channels: Sequence[Channel]) -> None:
        self._tables.check_open()
        ids = {channel.id for channel in channels}
        if len(ids) < len(channels) or ids & self._tables.channels.keys():
            raise Conflict("the channel exists already")
        copies = {channel.id: replace(channel, metadata=_copied(channel.metadata)) for channel in channels}
        self._tables.channels.update(copies)

    @fired
    def get(self, owner: UserId, channel: ChannelId) -> Channel:
        return _owned(self._tables.channels, owner, [channel])[0]

    @fired
    def page(self, owner: UserId, query: Query) -> Page[Channel]:
        return _page((entry for entry in self._tables.channels.values() if entry.owner == owner), query)

    @fired
    def update(self, owner: UserId, channel: ChannelId, name: str | None, metadata: Metadata | None) -> None:
        self._tables.check_open()
        (known,) = _owned(self._tables.channels, owner, [channel])
        self._tables.channels[channel] = replace(known, name=name, metadata=_copied(metadata))

    @fired
    def remove(self, owner: UserId, channel: ChannelId) -> bool:
        self._tables.check_open()
        known = self._tables.channels.get(channel)
        if known is None or known.owner != owner:
            return False
        self._tables.connections -= {pair for pair in self._tables.connections if pair[1] == channel}
        del self._tables.channels[channel]
        return True


@implementer(IConnectionStore)
class _Connections:
    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    @fired
    def connect(self, owner: UserId, channels: Sequence[ChannelId], things: Sequence[ThingId]) -> None:
        pairs = self._pairs(owner, channels, things)
        if pairs & self._tables.connections:
            raise Conflict("connected already")
        self._tables.connections |= pairs

    @fired
    def disconnect(self, owner: UserId, channels: Sequence[ChannelId], things: Sequence[ThingId]) -> None:
        pairs = self._pairs(owner, channels, things)
        if pairs - self._tables.connections:
            raise NotFound("not connected")
        self._tables.connections -= pairs

    @fired
    def channels_of(self, thing: ThingId) -> frozenset[ChannelId]:
        return frozenset(channel for known, channel in self._tables.connections if known == thing)

    @fired
    def things_on(self, owner: UserId, channel: ChannelId, query: Query, connected: bool) -> Page[Thing]:
        _owned(self._tables.channels, owner, [channel])
        mine = [thing for thing in self._tables.things.values() if thing.owner == owner]
        return _page((one for one in mine if self._is_connected(one.id, channel) == connected), query)

    @fired
    def channels_with(self, owner: UserId, thing: ThingId, query: Query, connected: bool) -> Page[Channel]:
        _owned(self._tables.things, owner, [thing])
        mine = [channel for channel in self._tables.channels.values() if channel.owner == owner]
        return _page((one for one in mine if self._is_connected(thing, one.id) == connected), query)

    def _is_connected(self, thing: ThingId, channel: ChannelId) -> bool:
        return (thing, channel) in self._tables.connections

    def _pairs(
        self, owner: UserId, channels: Sequence[ChannelId], things: Sequence[ThingId]
    ) -> set[tuple[ThingId, ChannelId]]:
        self._tables.check_open()
        _owned(self._tables.channels, owner, channels)
        _owned(self._tables.things, owner, things)
        return {(thing, channel) for thing in things for channel in channels}


@implementer(IStore)
class MemoryStore:
    """An :class:`~mfserver.interfaces.IStore` that forgets everything with itself."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._tables = _Tables()
        self.certificates = MemoryCertificates(self._tables.things, self._tables.check_open)
        self.users = _Users(self._tables)
        self.keys = _Keys(self._tables)
        self.things = _Things(self._tables, self.certificates, now)
        self.channels = _Channels(self._tables)
        self.connections = _Connections(self._tables)
        self.sessions = MemorySessions(
            self._tables.things, self._tables.channels, self._tables.connections, self._tables.check_open
        )

    def open(self) -> None:
        """Nothing to open."""

    @fired
    def close(self) -> None:
        self._tables.closed = True
