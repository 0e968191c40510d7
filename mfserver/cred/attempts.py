"""Guessing is slow: who keeps failing waits longer and longer, up to a bound, and is never locked out."""

from collections import OrderedDict

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mfserver.errors import SlowDown
from mfserver.interfaces import IAttempts

__all__ = ["Attempts"]


class _Record:
    """The failures of one subject, as the time at which all of them are paid off.

    Each failure costs an interval, which passes by itself; with fewer than ``burst`` unpaid nobody waits.
    """

    __slots__ = ("paid_at", "waiting")

    def __init__(self) -> None:
        self.paid_at = 0.0
        self.waiting = 0


@implementer(IAttempts)
class Attempts:
    """A bucket of failures per subject.

    :param clock: its ``seconds`` may begin anywhere.
    :param interval: seconds that one failure costs.
    :param burst: failures that cost nothing when they are the first.
    :param longest: seconds; no attempt is ever further away than this.
    :param patience: seconds that a Deferred of :meth:`admit` waits at most; what is further away is
        refused with ``SlowDown`` at once.
    :param max_waiting: attempts of one subject that wait at the same time.
    :param max_subjects: subjects that are remembered; past it, those that failed least lately are forgotten.
    """

    def __init__(
        self,
        clock: IReactorTime,
        *,
        interval: float = 1.0,
        burst: int = 20,
        longest: float = 30.0,
        patience: float = 5.0,
        max_waiting: int = 10,
        max_subjects: int = 10_000,
    ) -> None:
        self._clock = clock
        self._interval = interval
        self._free = interval * (burst - 1)
        self._longest = longest
        self._patience = patience
        self._max_waiting = max_waiting
        self._max_subjects = max_subjects
        self._records: OrderedDict[str, _Record] = OrderedDict()  # the one that failed last is last

    def admit(self, *subjects: str) -> "Deferred[None]":
        """See :meth:`mfserver.interfaces.IAttempts.admit`. Cancel the Deferred to give the place up.

        Those who wait are let through one interval apart.
        """
        records = [self._records[subject] for subject in subjects if subject in self._records]
        now = self._clock.seconds()
        wait = self._wait(records, now)
        if wait <= 0:
            return succeed(None)
        crowded = any(record.waiting >= self._max_waiting for record in records)
        if crowded or wait > self._patience:
            return fail(SlowDown("too many failed attempts", wait))
        for record in records:
            record.waiting += 1
            self._charge(record, now)
        return self._after(wait, records)

    def is_free(self, *subjects: str) -> bool:
        """See :meth:`mfserver.interfaces.IAttempts.is_free`."""
        records = [self._records[subject] for subject in subjects if subject in self._records]
        return not records or self._wait(records, self._clock.seconds()) <= 0

    def failed(self, *subjects: str) -> None:
        """Count a failed attempt of each."""
        now = self._clock.seconds()
        for subject in subjects:
            record = self._records.get(subject)
            if record is None:
                record = self._records[subject] = _Record()
            self._records.move_to_end(subject)
            self._charge(record, now)
        self._forget_some(now)

    def succeeded(self, *subjects: str) -> None:
        """Forget the failures of each.

        Only for subjects that a guesser cannot succeed as: whoever has one key of his own must not be able
        to wipe out the failures of his address with it.
        """
        for subject in subjects:
            self._records.pop(subject, None)

    def _wait(self, records: list[_Record], now: float) -> float:
        """Seconds until the next attempt may be made."""
        return max((record.paid_at - self._free - now for record in records), default=0.0)

    def _charge(self, record: _Record, now: float) -> None:
        record.paid_at = min(max(record.paid_at, now) + self._interval, now + self._free + self._longest)

    def _after(self, wait: float, records: list[_Record]) -> "Deferred[None]":
        def leave() -> None:
            for record in records:
                record.waiting -= 1

        def go(admitted: "Deferred[None]") -> None:
            leave()
            admitted.callback(None)

        def give_up(_: "Deferred[None]") -> None:
            call.cancel()
            leave()

        admitted: Deferred[None] = Deferred(give_up)
        call = self._clock.callLater(wait, go, admitted)
        return admitted

    def _forget_some(self, now: float) -> None:
        """Drop the oldest that are paid off, and past the bound any."""
        while self._records:
            subject, record = next(iter(self._records.items()))
            if record.paid_at > now and len(self._records) <= self._max_subjects:
                return
            del self._records[subject]
