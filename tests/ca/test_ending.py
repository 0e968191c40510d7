"""The log tells which certificates end soon, once for each bound."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mfserver.ca.ending import _MAX_LINES, BOUNDS, EndingSoon
from mfserver.certificates import CertificateRecord
from mfserver.records import Thing
from tests.ca.authorities import OWNER, THING, THING_KEY
from tests.store.memory import MemoryStore

DAY = 86_400


class EndingTests(SynchronousTestCase):
    """A store of records, and a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.store = MemoryStore(self.clock.seconds)
        self.successResultOf(self.store.things.add([Thing(THING, OWNER, THING_KEY)]))
        self.ending = EndingSoon(self.store.certificates, self.clock.seconds)
        self.events: list[LogEvent] = []
        observer: Any = self.events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def add(self, serial: str, days: float) -> None:
        begin, end = 1_600_000_000, int(self.clock.seconds() + days * DAY)
        print_ = serial.encode().rjust(32)
        record = CertificateRecord(serial, print_, THING, OWNER, b"i" * 32, b"d", begin, end, begin)
        self.successResultOf(self.store.certificates.add(record))

    def told(self, *others: tuple[str, float]) -> list[tuple[str, str]]:
        """What is told now, with its level."""
        self.events.clear()
        self.successResultOf(Deferred.fromCoroutine(self.ending.tell(others)))
        return [(event["log_level"].name, formatEvent(event)) for event in self.events]

    def test_bounds(self) -> None:
        """Once within each bound; the first is news, the others are warnings."""
        self.add("a", 40)
        self.assertEqual(self.told(), [])
        for days, level in zip(BOUNDS, ("info", "warn", "warn"), strict=True):
            self.clock.rightNow = 1_700_000_000 + (40 - days) * DAY + 1
            ((said, line),) = self.told()
            self.assertEqual(said, level)
            self.assertIn(f"certificate a of thing {THING} ends within {days} days, on 2023-", line)
            self.assertEqual(self.told(), [])
        self.clock.advance(DAY)  # it has ended
        self.assertEqual(self.told(), [])

    def test_counts(self) -> None:
        """How many of things end within each bound, whatever has been told; others are not counted."""
        self.assertEqual(self.ending.counts, {})
        for serial, days in enumerate((0.5, 1, 6.9, 7.1, 30, 31)):
            self.add(f"{serial}", days)
        for _ in range(2):
            self.told(("the authority", self.clock.seconds() + 1))
            self.assertEqual(self.ending.counts, {30: 4, 7: 3, 1: 2})

    def test_not_told(self) -> None:
        """What was revoked or renewed is nobody's worry."""
        self.add("a", 5)
        self.successResultOf(self.store.certificates.revoke(OWNER, "a", "superseded", 1_700_000_000))
        self.assertEqual(self.told(), [])

    def test_others(self) -> None:
        """The server's own ones, too; what ends first comes first."""
        self.add("a", 6)
        lines = [line for _, line in self.told(("the authority", self.clock.seconds() - 1))]
        self.assertTrue(lines[0].startswith("the authority ends within 1 days"))
        self.assertEqual(len(lines), 2)

    def test_flood(self) -> None:
        """Many are summed up, and told by their number."""
        for number in range(_MAX_LINES + 7):
            self.add(f"{number + 1:x}", 20)
        lines = self.told()
        self.assertEqual(len(lines), _MAX_LINES + 1)
        self.assertIn("7 more certificates", lines[-1][1])
