"""The rights of things that need not be here: what is kept for them waits under the rights they have now."""

from collections.abc import Iterable
from typing import Final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mfserver.cred.changes import RecentChanges
from mfserver.errors import Overloaded
from mfserver.interfaces import IChanges, IConnectionStore, IRights, IThing
from mfserver.records import Change, ChannelId, ThingId

__all__ = ["AbsentThings"]

# How often a look-up is made again because what it found had changed meanwhile.
_TRIES: Final = 10


@implementer(IThing)
class _Held:
    """A thing that something is kept for. ``channels`` stays the same object, and is true to every change.

    :ivar holds: how many holds are not released.
    """

    __slots__ = ("channels", "holds", "id", "is_gone")

    def __init__(self, thing: ThingId, channels: Iterable[ChannelId]) -> None:
        self.id = thing
        self.channels = set(channels)
        self.holds = 0
        self.is_gone = False


@implementer(IRights, IChanges)
class AbsentThings:
    """The channels of every thing that something is kept for, in memory.

    They are read once, when the first one holds the thing, and follow every change from then on. A look-up
    that began before a change of what it found is made again, so that no stale right is ever held.
    """

    def __init__(self, connections: IConnectionStore) -> None:
        self._store = connections
        self._held: dict[ThingId, _Held] = {}
        self._changes = RecentChanges()

    def __len__(self) -> int:
        """How many things are held."""
        return len(self._held)

    def hold(self, thing: ThingId) -> Deferred[IThing]:
        """The thing, with its channels of any moment. A hold that fails or is cancelled needs no release.

        :raises Overloaded: its rights cannot be read, or change faster than they can be.
        """
        return Deferred.fromCoroutine(self._hold(thing))

    async def _hold(self, thing: ThingId) -> IThing:
        if thing in self._held:
            return self.preload(thing, ())
        for _ in range(_TRIES):
            with self._changes.look_up() as look_up:
                channels = await self._store.channels_of(thing)
                if not look_up.is_stale(thing, *channels):
                    return self.preload(thing, channels)
        raise Overloaded("the rights of this thing are changing")

    def preload(self, thing: ThingId, channels: Iterable[ChannelId]) -> IThing:
        """A hold at once, for who knows the thing's channels of this moment: a start.

        :param channels: not looked at where the thing is held already; every change was applied to those.
        """
        held = self._held.get(thing)
        if held is None:
            held = self._held[thing] = _Held(thing, channels)
        held.holds += 1
        return held

    def release(self, thing: ThingId) -> None:
        """After the last one nobody tells the thing of changes any more: it has no channels then.

        :raises KeyError: nobody holds it.
        """
        held = self._held[thing]
        held.holds -= 1
        if not held.holds:
            del self._held[thing]
            held.channels.clear()

    def changed(self, change: Change) -> None:
        """Apply a change at once. Another key changes nothing: what is kept is the thing's, not its key's."""
        self._changes.note(change)
        if not change.things:
            for held in self._held.values():
                held.channels.difference_update(change.channels)
            return
        for held in [self._held[thing] for thing in change.things if thing in self._held]:
            if change.deleted:
                held.is_gone = True
                held.channels.clear()
            elif not change.connected:
                held.channels.difference_update(change.channels)
            elif not held.is_gone:
                held.channels.update(change.channels)
