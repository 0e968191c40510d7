"""Tells the log which certificates end soon, before somebody finds out in another way."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from twisted.logger import Logger

from mfserver.interfaces import ICertificateStore

__all__ = ["EndingSoon", "BOUNDS"]

#: Days before its end at which a certificate is told of; the first is no more than news.
BOUNDS: Final = (30, 7, 1)

#: Lines of one time; more would be a flood of its own.
_MAX_LINES: Final = 50
_DAY: Final = 86_400


class EndingSoon:
    """Tells of each certificate once for every bound that it comes within.

    :param now: seconds since 1970.
    :ivar counts: each bound to how many certificates of things ended within it at the last look; empty
        before the first.
    """

    _log = Logger()

    def __init__(self, store: ICertificateStore, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self._told: dict[str, int] = {}
        self.counts: dict[int, int] = {}

    async def tell(self, others: Iterable[tuple[str, float]] = ()) -> None:
        """To be called every hour or so.

        :param others: what else may end, by name, and when, in seconds since 1970.
        :raises Overloaded: our records cannot be read now.
        """
        now = int(self._now())
        records = await self._store.ending(now, now + BOUNDS[0] * _DAY)
        self.counts = {days: sum(each.not_after - now <= days * _DAY for each in records) for days in BOUNDS}
        ends = [
            *others,
            *((f"certificate {each.serial} of thing {each.thing}", each.not_after) for each in records),
        ]
        told, lines = {}, []
        for name, end in ends:
            within = [days for days in BOUNDS if end - now <= days * _DAY]
            if within:
                told[name] = within[-1]
                if self._told.get(name) != within[-1]:
                    lines.append((within[-1], name, end))
        self._told = told
        for days, name, end in sorted(lines)[:_MAX_LINES]:
            tell = self._log.info if days == BOUNDS[0] else self._log.warn
            tell(
                "{name} ends within {days} days, on {end}",
                name=name,
                days=days,
                end=datetime.fromtimestamp(end, UTC),
            )
        if len(lines) > _MAX_LINES:
            self._log.warn(
                "{more} more certificates end soon: mfserver certs list --ends-within=30d",
                more=len(lines) - _MAX_LINES,
            )
