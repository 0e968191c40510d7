"""What a change of rights means to who remembers them: which look-ups are stale, and who is told in turn."""

from collections import OrderedDict
from collections.abc import Iterable

from twisted.logger import Logger
from zope.interface import implementer

from mfserver.interfaces import IChanges
from mfserver.records import Change

__all__ = ["ChangeFeed", "LookUp", "RecentChanges"]


class RecentChanges:
    """Which things and channels changed since the oldest look-up under way began; no older ones are kept."""

    def __init__(self) -> None:
        self._generation = 0
        self._at: OrderedDict[str, int] = OrderedDict()  # of each its latest; the oldest first
        self._under_way: dict[LookUp, None] = {}  # in the order of their beginnings

    def look_up(self) -> "LookUp":
        """To be entered where a look-up begins, and left where it ends."""
        return LookUp(self)

    def note(self, change: Change) -> None:
        """This happened just now."""
        self.note_names(change.things or change.channels)

    def note_names(self, names: Iterable[str]) -> None:
        """What goes by these names changed just now."""
        self._generation += 1
        if self._under_way:
            for name in names:
                self._at[name] = self._generation
                self._at.move_to_end(name)

    def __len__(self) -> int:
        return len(self._at)


class LookUp:
    """One look-up in the store, and the generation that it began in."""

    def __init__(self, changes: RecentChanges) -> None:
        self._changes = changes
        self._began = changes._generation

    def __enter__(self) -> "LookUp":
        self._changes._under_way[self] = None
        return self

    def is_stale(self, *names: str) -> bool:
        """Whether one of these things and channels changed since it began."""
        at = self._changes._at
        return any(at.get(name, 0) > self._began for name in names)

    def __exit__(self, *_: object) -> None:
        changes = self._changes
        del changes._under_way[self]
        oldest = next(iter(changes._under_way), None)
        while changes._at:
            name, generation = next(iter(changes._at.items()))
            if oldest is not None and generation > oldest._began:
                break
            del changes._at[name]


@implementer(IChanges)
class ChangeFeed:
    """Hands every change to several who hear of changes, in their order, whatever one of them does."""

    _log = Logger()

    def __init__(self, hearers: Iterable[IChanges]) -> None:
        self._hearers = tuple(hearers)

    def changed(self, change: Change) -> None:
        """Tell them all; who fails is logged, and keeps the news from nobody else."""
        for hearer in self._hearers:
            try:
                hearer.changed(change)
            except Exception:
                self._log.failure("a change of rights was not taken up by {hearer}", hearer=type(hearer))
