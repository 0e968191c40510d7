"""Which thing has a key, which channels it may use, and who is logged in as it: from memory.

What is not in memory is looked up in the store once. A change of rights is applied to memory at once; a
look-up that began before a change of what it found is made again, so that no stale answer is ever kept
or acted on.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from mfserver.cred.changes import RecentChanges
from mfserver.cred.expiry import CertificateWatch
from mfserver.cred.thing_keys import digest, same
from mfserver.errors import NotAuthorized, Overloaded
from mfserver.interfaces import IChanges, IConnectionStore, ILiveConnection, IPeer, IThing, IThingStore
from mfserver.records import Change, ChannelId, Thing, ThingId

__all__ = ["Access", "Login", "Presence", "ThingAvatar"]

# How often a look-up is made again because what it found had changed meanwhile.
_TRIES: Final = 10


class Presence:
    """The mind of a thing's avatar, as twisted.cred calls it: how the thing is here.

    :ivar connection: what ends when the thing's right to be here ends; None for a single request.
    :ivar peer: the certificate that it rests on, or None.
    """

    __slots__ = ("connection", "peer")

    def __init__(self, connection: ILiveConnection | None, peer: IPeer | None) -> None:
        self.connection = connection
        self.peer = peer


@implementer(IThing)
class ThingAvatar:
    """A thing that is logged in. Once its login has ended, it has no channels."""

    __slots__ = ("channels", "id")

    def __init__(self, thing: ThingId, channels: AbstractSet[ChannelId]) -> None:
        self.id = thing
        self.channels = channels


class _Known:
    """What is remembered of a thing. ``channels`` stays the same object: avatars share it."""

    __slots__ = ("channels", "connections", "digest", "id", "key", "logins")

    def __init__(self, thing: Thing, key_digest: bytes, channels: AbstractSet[ChannelId]) -> None:
        self.id = thing.id
        self.key = thing.key
        self.digest = key_digest
        self.channels = set(channels)
        self.logins: dict[Login, None] = {}
        self.connections = 0


class Login:
    """One avatar from its login to its logout, whichever comes first: its own, or that we end it."""

    __slots__ = ("_access", "_thing", "avatar", "connection", "peer")

    def __init__(self, access: "Access", thing: _Known, presence: Presence) -> None:
        self._access = access
        self._thing = thing
        self.avatar = ThingAvatar(thing.id, thing.channels)
        self.connection = presence.connection
        self.peer = presence.peer

    def logout(self) -> None:
        """The connection or request is over; again, or after :meth:`end`, nothing happens."""
        self._access._leave(self._thing, self)

    def end(self, reason: str) -> None:
        """Silence the avatar and close its connection."""
        if self._access._leave(self._thing, self):
            self._access._end([self], reason)


@implementer(IChanges)
class Access:
    """The rights of things, in memory.

    :param secret: what the digests of keys are made under, so that a dump of memory's keys tells little
        and their places in a dictionary nothing.
    :param watch: ends logins with their certificates.
    :param size: how many things are remembered besides those that are logged in.
    :param max_connections: live connections of one thing; single requests do not count.
    """

    _log = Logger()

    def __init__(
        self,
        things: IThingStore,
        connections: IConnectionStore,
        secret: bytes,
        watch: CertificateWatch,
        *,
        size: int = 10_000,
        max_connections: int = 100,
    ) -> None:
        self._store = things
        self._connection_store = connections
        self._secret = secret
        self._watch = watch
        self._size = max(1, size)
        self._max_connections = max_connections
        self._things: dict[ThingId, _Known] = {}
        self._digests: dict[bytes, _Known] = {}
        self._idle: OrderedDict[ThingId, None] = OrderedDict()  # nobody logged in; the longest so first
        self._changes = RecentChanges()

    # --- finding ----------------------------------------------------------------------------------------

    async def find(self, key: str) -> ThingId | None:
        """The thing that has this key, which :meth:`login` then knows until the reactor's next turn.

        :param key: any text that :func:`mfserver.records.is_thing_key` takes.
        :raises Overloaded: the thing's rights change faster than they can be read.
        """
        known = self.known(key)
        if known is not None:
            return known
        return await self._look_up(lambda: self._store.by_key(key), lambda thing: same(thing.key, key))

    async def find_by_id(self, thing: ThingId) -> ThingId | None:
        """The thing, if it exists, which :meth:`login` and :meth:`has_key` then know until the next turn.

        :raises Overloaded: the thing's rights change faster than they can be read.
        """
        if self.is_known(thing):
            return thing
        return await self._look_up(lambda: self._store.by_id(thing), lambda found: found.id == thing)

    def known(self, key: str) -> ThingId | None:
        """:meth:`find` in memory alone."""
        known = self._digests.get(digest(self._secret, key))
        if known is None or not same(known.key, key):
            return None
        if known.id in self._idle:
            self._idle.move_to_end(known.id)
        return known.id

    def is_known(self, thing: ThingId) -> bool:
        """:meth:`find_by_id` in memory alone."""
        if thing in self._idle:
            self._idle.move_to_end(thing)
        return thing in self._things

    def has_key(self, thing: ThingId, key: str) -> bool:
        """Whether a thing that was found in this turn of the reactor has this key; in constant time."""
        known = self._things.get(thing)
        return known is not None and same(known.key, key)

    async def _look_up(
        self, ask: Callable[[], Deferred[Thing | None]], is_right: Callable[[Thing], bool]
    ) -> ThingId | None:
        for _ in range(_TRIES):
            with self._changes.look_up() as look_up:
                thing = await ask()
                if thing is None or not is_right(thing):
                    return None
                channels = await self._connection_store.channels_of(thing.id)
                if not look_up.is_stale(thing.id, *channels):
                    return self._remember(thing, channels)
        raise Overloaded("the rights of this thing are changing")

    def _remember(self, thing: Thing, channels: AbstractSet[ChannelId]) -> ThingId:
        key_digest = digest(self._secret, thing.key)
        known = self._things.get(thing.id)
        if known is not None and known.digest != key_digest:
            # The new key has been committed, and we are about to be told.
            self._end(self._forget(known), "the thing's key was changed")
            known = None
        if known is None:  # else another look-up was faster, and every change since was applied
            self._things[thing.id] = self._digests[key_digest] = _Known(thing, key_digest, channels)
            self._idle[thing.id] = None
            while len(self._idle) > self._size:
                self._forget(self._things[next(iter(self._idle))])
        return thing.id

    def _forget(self, known: _Known) -> list[Login]:
        """Drop what is remembered, and silence everybody who rests on it. :return: whom to end."""
        del self._things[known.id]
        del self._digests[known.digest]
        self._idle.pop(known.id, None)
        known.channels.clear()
        logins = list(known.logins)
        for login in logins:
            self._leave(known, login)
        return logins

    # --- being here -------------------------------------------------------------------------------------

    def login(self, thing: ThingId, presence: Presence) -> Login:
        """Let a thing in that was found in this turn of the reactor.

        :raises NotAuthorized: it is gone again.
        :raises Overloaded: it has as many connections as it may.
        """
        known = self._things.get(thing)
        if known is None:
            raise NotAuthorized("the thing is gone")
        if presence.connection is not None:
            if known.connections >= self._max_connections:
                raise Overloaded(f"at most {self._max_connections} connections of one thing")
            known.connections += 1
        self._idle.pop(thing, None)
        login = Login(self, known, presence)
        known.logins[login] = None
        if presence.peer is not None and presence.connection is not None:
            self._watch.add(login, presence.peer)
            presence.peer.rest()
        return login

    def avatar(self, thing: ThingId) -> ThingAvatar:
        """A thing that was found in this turn of the reactor, for nothing that outlasts the turn."""
        return ThingAvatar(thing, self._things[thing].channels)

    def live_things(self) -> int:
        """How many things have a live connection."""
        return sum(1 for known in self._things.values() if known.connections)

    def _leave(self, known: _Known, login: Login) -> bool:
        """Take a login out and silence its avatar. :return: whether it was in."""
        if login not in known.logins:
            return False
        del known.logins[login]
        login.avatar.channels = frozenset()
        if login.connection is not None:
            known.connections -= 1
        self._watch.discard(login)
        if not known.logins and self._things.get(known.id) is known:
            self._idle[known.id] = None
            if len(self._idle) > self._size:
                self._forget(self._things[next(iter(self._idle))])
        return True

    # --- changes ----------------------------------------------------------------------------------------

    def changed(self, change: Change) -> None:
        """Apply a change: first everybody it concerns falls silent, then they are told."""
        self._changes.note(change)
        if not change.things:
            self._channels_lost(list(self._things.values()), change.channels)
            return
        known = [self._things[thing] for thing in change.things if thing in self._things]
        if not change.channels:
            logins = [login for thing in known for login in self._forget(thing)]
            self._end(logins, "the thing was deleted or its key was changed")
        elif change.connected:
            for thing in known:
                thing.channels.update(change.channels)
        else:
            self._channels_lost(known, change.channels)

    def _channels_lost(self, things: Iterable[_Known], channels: tuple[ChannelId, ...]) -> None:
        lost = []
        for thing in things:
            for channel in thing.channels.intersection(channels):
                thing.channels.discard(channel)
                lost += [(login.connection, channel) for login in thing.logins]
        for connection, channel in lost:
            if connection is not None:
                self._tell(connection.channel_lost, channel)

    def _end(self, logins: Iterable[Login], reason: str) -> None:
        for login in logins:
            if login.connection is not None:
                self._tell(login.connection.end, reason)

    def _tell(self, method: Callable[..., None], argument: str) -> None:
        """One connection that fails must not keep the others open."""
        try:
            method(argument)
        except Exception:
            self._log.failure("a live connection failed to hear that its rights ended")
