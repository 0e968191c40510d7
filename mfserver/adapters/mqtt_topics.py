"""The topics that an MQTT client publishes on: a long one is parsed once, as an alias may repeat it."""

from collections import OrderedDict
from typing import Final

from mfserver.errors import Invalid
from mfserver.topic import Topic, parse

__all__ = ["Topics"]

#: Characters of a topic name that is parsed anew each time: that costs less than it does to receive it.
_SHORT: Final = 256
#: A parsed topic holds its name about three times.
_TIMES: Final = 3


class Topics:
    """Parsed topics by their names; the latest that are long.

    :param maximum: how many there are at most.
    :ivar size: bytes that they hold, about.
    """

    __slots__ = ("_maximum", "_topics", "size")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._topics: OrderedDict[str, Topic | None] = OrderedDict()
        self.size = 0

    def parse(self, name: str) -> Topic | None:
        """The topic; None where the name is none of ours."""
        if len(name) <= _SHORT:
            return _parse(name)
        if name in self._topics:
            return self._topics[name]
        topic = self._topics[name] = _parse(name)
        self.size += _TIMES * len(name)
        if len(self._topics) > self._maximum:
            oldest, _ = self._topics.popitem(last=False)
            self.size -= _TIMES * len(oldest)
        return topic


def _parse(name: str) -> Topic | None:
    try:
        return parse(name)
    except Invalid:
        return None
