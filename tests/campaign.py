"""Fuzzing for a time: thousands of executions, each of which is a number that repeats it.

``MF_FUZZ_SECONDS``
    How long all of them take together, with numbers that nobody has tried yet. ``make fuzz`` sets an hour,
    and prints what was reached how often. Without it they take 8 seconds and begin with the same number each
    time: a test that fails for one passes for nobody.
``MF_FUZZ_SEED``
    The number of one execution, as a failure tells it: only that is done, once.
"""

import os
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random
from types import FrameType
from typing import Final

__all__ = ["Campaign", "Hang"]

#: Most executions need some thousandths of a second.
_ENDLESS: Final = 30.0


class Hang(BaseException):
    """An execution does not end. No ``except Exception`` of what is tested can swallow it."""


class Campaign:
    """One run.

    :param name: what is fuzzed.
    :param least: executions that are done even when the time is over: so many reach all that there is.
    :param share: of the time of all.
    :param environ: where the variables stand.
    :param endless: seconds of computing after which one execution counts as one that never ends.
    :ivar reached: how often what was reached; an execution counts in it what it sees.
    """

    def __init__(
        self,
        name: str,
        least: int,
        share: float,
        environ: Mapping[str, str] = os.environ,
        endless: float = _ENDLESS,
    ) -> None:
        self.name = name
        self.reached: Counter[str] = Counter()
        self.executions = 0
        self._least = least
        self._endless = endless
        self._only = environ.get("MF_FUZZ_SEED")
        said = environ.get("MF_FUZZ_SECONDS")
        self._tells = bool(said)
        self._seconds = share * float(said or 8)
        self._first = secrets.randbelow(1 << 40) if said else 0

    def run(self, execute: Callable[[Random, Counter[str]], None]) -> None:
        """Execute with one seed after the other.

        :raises AssertionError: an execution failed; its text says with which seed.
        """
        only = self._only
        first = int(only) if only else self._first
        start = time.monotonic()
        before = signal.signal(signal.SIGVTALRM, _hang)
        try:
            while self.executions < self._least or time.monotonic() < start + self._seconds:
                self._once(execute, first + self.executions)
                if only:
                    break
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
        if self._tells or only:
            self._print(time.monotonic() - start)

    def missing(self, *expected: str) -> list[str]:
        """What of this was never reached. One repeated execution reaches little: then nothing is missing."""
        if self._only:
            return []
        return [what for what in expected if not self.reached[what]]

    def _once(self, execute: Callable[[Random, Counter[str]], None], seed: int) -> None:
        signal.setitimer(
            signal.ITIMER_VIRTUAL, self._endless
        )  # of computing: a busy machine makes nothing a hang
        self.executions += 1
        try:
            execute(Random(seed), self.reached)
        except (Exception, Hang) as error:
            raise AssertionError(
                f"{self.name}: MF_FUZZ_SEED={seed} (execution {self.executions}) fails: {error!r}"
            ) from error

    def _print(self, duration: float) -> None:
        sys.stdout.write(f"\n{self.name}: {self.executions} executions in {duration:.0f} s, nothing found\n")
        for what, times in sorted(self.reached.items()):
            sys.stdout.write(f"  {times:10}  {what}\n")


def _hang(_number: int, _frame: FrameType | None) -> None:
    raise Hang("no end after so many seconds of computing")
