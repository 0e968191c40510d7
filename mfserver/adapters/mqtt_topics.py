"""The topics that an MQTT client publishes on: each is parsed once, as the same few come again and again."""

from collections import OrderedDict
from typing import Final

from mfserver.errors import Invalid
from mfserver.topic import Topic, parse

__all__ = ["Topics"]

#: Characters of a topic name that is parsed anew each time where it is not a usual one: that costs less than
#: it does to receive it.
_SHORT: Final = 256
#: Characters and levels of a usual one. A few of them are kept of each client, and count as part of it.
_USUAL: Final = 128
_LEVELS: Final = 16
_FEW: Final = 4
#: A parsed topic holds its name about three times.
_TIMES: Final = 3


class Topics:
    """Parsed topics by their names: a few usual ones, and the latest long ones, as an alias may repeat one.

    :param maximum: how many long ones there are at most.
    :ivar name: of the usual one that came last; look at these two before you call :meth:`find`.
    :ivar latest: the same, parsed.
    :ivar size: bytes that the long ones hold, about.
    """

    __slots__ = ("_long", "_maximum", "_others", "latest", "name", "size")

    def __init__(self, maximum: int) -> None:
        self.name = ""
        self.latest: Topic | None = None
        self.size = 0
        self._maximum = maximum
        self._long: OrderedDict[str, Topic | None] | None = None
        self._others: dict[str, Topic] | None = None  # most clients have but one

    def find(self, name: str) -> Topic | None:
        """The topic; None where the name is none of ours."""
        if len(name) > _SHORT:
            return self._find_long(name)
        if name == self.name:
            return self.latest
        topic = None if self._others is None else self._others.pop(name, None)
        if topic is None:
            topic = _parse(name)
        if topic is not None and len(name) <= _USUAL and len(topic.levels) <= _LEVELS:
            self._remember(name, topic)
        return topic

    def _remember(self, name: str, topic: Topic) -> None:
        if self.latest is not None:
            if self._others is None or len(self._others) >= _FEW:
                self._others = {}  # whoever has more than a few begins anew
            self._others[self.name] = self.latest
        self.name, self.latest = name, topic

    def _find_long(self, name: str) -> Topic | None:
        known = self._long
        if known is None:
            known = self._long = OrderedDict()
        if name in known:
            return known[name]
        topic = known[name] = _parse(name)
        self.size += _TIMES * len(name)
        if len(known) > self._maximum:
            oldest, _ = known.popitem(last=False)
            self.size -= _TIMES * len(oldest)
        return topic


def _parse(name: str) -> Topic | None:
    try:
        return parse(name)
    except Invalid:
        return None
