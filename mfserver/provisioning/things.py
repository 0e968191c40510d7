"""Things: what people may do to theirs, and who a thing key belongs to."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mfserver.address import subject
from mfserver.errors import Conflict, Invalid, NotFound, Unauthenticated
from mfserver.interfaces import IAttempts, IChanges, IThingStore
from mfserver.provisioning.fields import MAX_BULK, check_metadata, check_name, is_id, new_id
from mfserver.records import Change, Metadata, Page, Query, Thing, ThingId, UserId, is_thing_key

__all__ = ["NewThing", "Things"]


@dataclass(frozen=True, slots=True)
class NewThing:
    """A thing to create.

    :ivar key: None for one that the server makes up.
    """

    name: str | None = None
    key: str | None = None
    metadata: Metadata | None = None

    def __repr__(self) -> str:
        return "<NewThing>"  # a key has no place in a log or a traceback


@dataclass(frozen=True, slots=True)
class Things:
    """The rules for things.

    Every ``address`` is the client's, as :func:`mfserver.address.network` names it.

    :ivar attempts: counts by address what helps to guess keys: unknown keys and "key taken". It is the one
        that thing authentication counts in. A success clears nothing, because a guesser has a key too.
    :ivar deleted: told of the owner and the thing after one was deleted, and awaited: its certificates end.
    """

    store: IThingStore
    changes: IChanges
    attempts: IAttempts
    deleted: Callable[[UserId, ThingId], Awaitable[None]] | None = None

    async def create(self, owner: UserId, address: str, new: NewThing) -> Thing:
        """Create one thing.

        :raises Invalid: a field is malformed.
        :raises Conflict: the key is taken.
        """
        _check(new, "")
        return (await self._add(owner, address, [new]))[0]

    async def create_all(self, owner: UserId, address: str, new: Sequence[NewThing]) -> list[Thing]:
        """Create up to :data:`MAX_BULK` things, all or none.

        :raises Invalid: there is none or too many, or a field is malformed; the error names its index.
        :raises Conflict: a key is taken, or stands twice among them.
        """
        if not 0 < len(new) <= MAX_BULK:
            raise Invalid(f"between 1 and {MAX_BULK} things are created at once", "things")
        seen: set[str] = set()
        for index, thing in enumerate(new):
            _check(thing, f"[{index}].")
            if thing.key is not None and thing.key in seen:
                raise Conflict(f"[{index}].key: the same key stands there twice")
            seen.add(thing.key or "")
        return await self._add(owner, address, new)

    async def get(self, owner: UserId, thing: str) -> Thing:
        """:raises NotFound: none of this owner's."""
        return await self.store.get(owner, _id(thing))

    async def page(self, owner: UserId, query: Query) -> Page[Thing]:
        """A page of the owner's things."""
        return await self.store.page(owner, query)

    async def update(self, owner: UserId, thing: str, name: str | None, metadata: Metadata | None) -> None:
        """Replace name and metadata.

        :raises Invalid: a field is malformed.
        :raises NotFound: none of this owner's.
        """
        check_name(name)
        check_metadata(metadata)
        await self.store.update(owner, _id(thing), name, metadata)

    async def change_key(self, owner: UserId, address: str, thing: str, key: str) -> None:
        """Change a thing's key, which ends its live connections.

        :raises Invalid: it cannot be a key.
        :raises NotFound: none of this owner's.
        :raises Conflict: the key is taken.
        """
        _check_key(key, "")
        identity = _id(thing)
        await self.attempts.admit(subject(address))
        try:
            await self.store.set_key(owner, identity, key)
        except Conflict:
            self.attempts.failed(subject(address))
            raise
        self.changes.changed(Change(things=(identity,)))

    async def remove(self, owner: UserId, thing: str) -> None:
        """Delete a thing, which ends its live connections; it may be absent."""
        if not is_id(thing):
            return
        if await self.store.remove(owner, ThingId(thing)):
            self.changes.changed(Change(things=(ThingId(thing),), deleted=True))
        if self.deleted is not None:  # of an absent one, too: it may have failed the first time
            await self.deleted(owner, ThingId(thing))

    async def identify(self, address: str, key: str) -> ThingId:
        """Whose key this is.

        :raises Unauthenticated: no thing's.
        :raises SlowDown: too many failures of this address.
        """
        await self.attempts.admit(subject(address))
        thing = await self.store.by_key(key) if is_thing_key(key) else None
        if thing is None:
            self.attempts.failed(subject(address))
            raise Unauthenticated("no thing has this key")
        return thing.id

    async def _add(self, owner: UserId, address: str, new: Sequence[NewThing]) -> list[Thing]:
        """Store what has been checked, with ids and keys made up."""
        things = [
            Thing(ThingId(new_id()), owner, each.key or new_id(), each.name, each.metadata) for each in new
        ]
        if all(each.key is None for each in new):
            await self.store.add(things)
            return things
        await self.attempts.admit(subject(address))
        try:
            await self.store.add(things)
        except Conflict:
            self.attempts.failed(subject(address))
            raise
        return things


def _check(new: NewThing, where: str) -> None:
    """:raises Invalid: a field is malformed."""
    check_name(new.name, where)
    check_metadata(new.metadata, where)
    if new.key is not None:
        _check_key(new.key, where)


def _check_key(key: str, where: str) -> None:
    """:raises Invalid: it cannot be a thing key."""
    if not is_thing_key(key):
        raise Invalid("a thing key has 16 to 64 characters of A-Z a-z 0-9 . _ ~ -", f"{where}key")


def _id(thing: str) -> ThingId:
    """:raises NotFound: nothing of ours has such an id."""
    if not is_id(thing):
        raise NotFound("no such thing")
    return ThingId(thing)
