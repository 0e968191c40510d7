"""Log lines that a stranger can provoke: the first is printed, the following ones are counted."""

from typing import Any, Final

from twisted.logger import Logger

__all__ = ["Repeats"]

#: Seconds between two lines of one kind.
INTERVAL: Final = 60.0
#: Kinds that are told apart; they are our own words, so this is never reached by what a peer sends.
_MAX_KINDS: Final = 100


class _Kind:
    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last = ""


class Repeats:
    """Prints one line a minute of each kind, whatever happens how often.

    :param clock: an ``IReactorTime``.
    """

    _log = Logger()

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}

    def report(self, kind: str, detail: str) -> None:
        """Tell of something that a peer did wrong.

        :param kind: what, in our own words: "an MQTT connection was refused".
        :param detail: who and why, for a line of the log; never a secret.
        """
        known = self._kinds.get(kind)
        if known is not None:
            known.count += 1
            known.last = detail
        elif len(self._kinds) < _MAX_KINDS:
            self._kinds[kind] = _Kind()
            self._log.warn("{kind}: {detail}", kind=kind, detail=detail)
            self._clock.callLater(INTERVAL, self._sum_up, kind)

    def _sum_up(self, kind: str) -> None:
        """A minute later: what came since, or silence."""
        known = self._kinds.pop(kind)
        if known.count:
            self._kinds[kind] = _Kind()
            self._log.warn(
                "{kind}: {count} more in the last minute; the last, {detail}",
                kind=kind,
                count=known.count,
                detail=known.last,
            )
            self._clock.callLater(INTERVAL, self._sum_up, kind)
