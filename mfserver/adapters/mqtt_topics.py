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
    :ivar known: the usual ones; look here before you call :meth:`parse`.
    :ivar size: bytes that the long ones hold, about.
    """

    __slots__ = ("_long", "_maximum", "known", "size")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._long: OrderedDict[str, Topic | None] | None = None
        self.known: dict[str, Topic] = _NONE
        self.size = 0

    def parse(self, name: str) -> Topic | None:
        """The topic; None where the name is none of ours."""
        if len(name) > _SHORT:
            return self._parse_long(name)
        topic = _parse(name)
        if topic is not None and len(name) <= _USUAL and len(topic.levels) <= _LEVELS:
            if len(self.known) in (0, _FEW):
                self.known = {}  # whoever has more than a few begins anew
            self.known[name] = topic
        return topic

    def _parse_long(self, name: str) -> Topic | None:
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


#: Of all who have published nothing: nothing is ever put here.
_NONE: Final[dict[str, Topic]] = {}


def _parse(name: str) -> Topic | None:
    try:
        return parse(name)
    except Invalid:
        return None
