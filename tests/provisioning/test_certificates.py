"""The rules for certificates: their order, what is refused before it costs, and the list for others."""

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mfserver.certificates import CertificateRecord
from mfserver.errors import Conflict, Invalid, NotFound, Overloaded, SlowDown
from mfserver.provisioning.certificates import MAX_DAYS, Order, read_days, read_serial
from mfserver.provisioning.revocation_list import KEPT_FOR, RevocationList
from mfserver.records import Change, Thing, ThingId, UserId
from tests.api.house import House
from tests.store.memory import MemoryStore

OWNER = UserId("0c6bff3e-1111-4222-8333-444444444444")
OTHER = UserId("0c6bff3e-1111-4222-8333-555555555555")


class DurationTests(SynchronousTestCase):
    """How long a certificate lives, in everybody's words."""

    def test_read(self) -> None:
        for text, days in (
            ("2160h", 90),
            ("90", 90),
            ("90d", 90),
            (90, 90),
            (0.5, 0.5),
            ("12h", 0.5),
            ("1d12h", 1.5),
            ("1.5h", 1 / 16),
            ("720m", 0.5),
            ("43200s", 0.5),
            ("1d1h1m1s", (86_400 + 3_661) / 86_400),
            (MAX_DAYS, MAX_DAYS),
            ("1s", 1 / 86_400),
        ):
            self.assertAlmostEqual(read_days(text, "valid"), days, msg=text)

    def test_refused(self) -> None:
        """Nothing else; the error names the field."""
        for text in (
            *("", " ", "d", "x", "-1", "1e3", "90 d", "9" * 5000, "12h1d", "1w", "٣", "1.d", "0", "0.5s"),
            *("3651", "NaN", "inf", "1d\n", 0, -1, MAX_DAYS + 1, 10**400, float("nan"), float("inf")),
        ):
            error = self.assertRaises(Invalid, read_days, text, "valid")
            self.assertEqual(error.field, "valid")


class SerialTests(SynchronousTestCase):
    """A serial number as programs print it."""

    def test_read(self) -> None:
        for text in "ab0c", "AB0C", "00ab0c", "AB:0C", "000000ab:0c":
            self.assertEqual(read_serial(text), "ab0c")

    def test_refused(self) -> None:
        """Among them a thing's id, and whatever else has no number of ours."""
        for text in ("", "0", "xyz", "-1", "0x1", "a" * 41, "a" * 5000, OWNER, "ab0c\n", "%61"):
            self.assertRaises(NotFound, read_serial, text)


class OrderTests(SynchronousTestCase):
    """What happens first."""

    def setUp(self) -> None:
        self.house = House()
        self.rules = self.house.certificates
        self.thing = ThingId("7d9b8f1a-1111-4222-8333-444444444444")
        self.successResultOf(self.house.store.things.add([Thing(self.thing, OWNER, "0123456789abcdef")]))

    def run_(self, coroutine: Any) -> Deferred[Any]:
        return Deferred.fromCoroutine(coroutine)

    def issue(self, address: str = "192.0.2.1", **wishes: Any) -> Deferred[Any]:
        return self.run_(self.rules.issue(OWNER, address, Order(self.thing, **wishes)))

    def test_told_between_commit_and_answer(self) -> None:
        """A revocation is committed, then told, then answered; without the commit nobody is told."""
        serial = self.successResultOf(self.issue()).record.serial
        store, heard = self.house.store.certificates, self.house.revocations.heard
        commit: Deferred[CertificateRecord] = Deferred()
        self.patch(store, "revoke", lambda *_: commit)
        revoking = self.run_(self.rules.revoke(OWNER, serial, "keyCompromise"))
        self.assertEqual((revoking.called, heard), (False, []))
        record = self.successResultOf(store.get(OWNER, serial))
        told: list[bool] = []
        self.patch(self.house.revocations, "revoked", lambda records: told.append(revoking.called))
        commit.callback(record)
        self.assertEqual((self.successResultOf(revoking), told), (record, [False]))
        self.patch(store, "revoke", lambda *_: fail(Overloaded("full")))
        self.failureResultOf(self.run_(self.rules.revoke(OWNER, serial, None)), Overloaded)
        self.assertEqual(told, [False])

    def test_kept_before_it_is_handed_out(self) -> None:
        """A certificate that could not be kept is given to nobody: it could not be revoked."""
        self.patch(self.house.store.certificates, "add", lambda *_, **__: fail(Overloaded("full")))
        self.failureResultOf(self.issue(), Overloaded)

    def test_refused_before_it_costs(self) -> None:
        """What is wrong is found before a key is made."""
        for wishes in {"valid": "x"}, {"common_name": "cn"}, {"valid": 0}:
            self.failureResultOf(self.issue(**wishes), Invalid)
        self.failureResultOf(self.run_(self.rules.issue(OTHER, "a", Order(self.thing))), NotFound)
        self.failureResultOf(self.run_(self.rules.issue(OWNER, "a", Order("x"))), NotFound)
        self.assertEqual(self.house.workers.done, 0)

    def test_types_of_keys(self) -> None:
        """Bits that only RSA has mean RSA, as in Mainflux; a type in capitals is one, too."""
        asked: list[Any] = []

        def issue(thing: Thing, **wishes: Any) -> Deferred[None]:
            asked.append(wishes)
            return Deferred()

        self.patch(self.house.signing, "issue", issue)
        for bits, kind in (None, None), (256, None), (521, None), (2048, None), (None, "RSA"), (384, "EC"):
            self.issue(str(bits) + str(kind), key_bits=bits, key_type=kind)
        self.assertEqual([each["key_type"] for each in asked], ["ec", "ec", "ec", "rsa", "rsa", "ec"])

    def test_share(self) -> None:
        """One address cannot fill the queue that all stand in, and its places come back."""
        self.house.workers.held = []
        waiting = [self.issue() for _ in range(4)]
        self.failureResultOf(self.issue(), SlowDown)
        self.assertNoResult(self.issue("198.51.100.1"))
        self.house.workers.go()
        for each in waiting:
            self.successResultOf(each)
        self.successResultOf(self.issue())

    def test_revoked_while_it_is_renewed(self) -> None:
        """Who revokes in between wins, and the new one is never handed out."""
        serial = self.successResultOf(self.issue()).record.serial
        self.house.workers.held = []
        renewing = self.run_(self.rules.renew(OWNER, "a", serial, None, None))
        self.successResultOf(self.run_(self.rules.revoke(OWNER, serial, None)))
        self.house.workers.go()
        self.failureResultOf(renewing, Conflict)

    def test_secrets(self) -> None:
        """Neither passwords nor keys are in what a traceback shows."""
        new = self.successResultOf(self.issue(password="wrong-horse"))
        self.assertNotIn("wrong-horse", repr(Order(self.thing, password="wrong-horse")))
        self.assertNotIn("PRIVATE", repr(new))


class Signer:
    """Makes lists of numbers, when it is told to."""

    def __init__(self) -> None:
        self.made: list[tuple[int, list[str]]] = []
        self.held: list[Deferred[bytes]] | None = None

    def revocation_list(self, records: Any, number: int) -> Deferred[bytes]:
        self.made.append((number, [record.serial for record in records]))
        if self.held is None:
            return succeed(b"%d" % len(self.made))
        self.held.append(Deferred())
        return self.held[-1]


class RevocationListTests(SynchronousTestCase):
    """One list for all who ask."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.signer = Signer()
        signer: Any = self.signer
        self.list = RevocationList(MemoryStore().certificates, signer, self.clock.seconds)

    def test_kept(self) -> None:
        """It is built again when something was revoked, or it is a minute old, or the clock was set back."""
        self.assertEqual(self.successResultOf(self.list.get()), b"1")
        self.clock.advance(KEPT_FOR - 1)
        self.assertEqual(self.successResultOf(self.list.get()), b"1")
        self.clock.advance(1)
        self.assertEqual(self.successResultOf(self.list.get()), b"2")
        self.list.forget()
        self.assertEqual(self.successResultOf(self.list.get()), b"3")
        self.list.changed(Change(things=(ThingId("a"),)))
        self.assertEqual(self.successResultOf(self.list.get()), b"3")
        self.list.changed(Change(things=(ThingId("a"),), deleted=True))
        self.assertEqual(self.successResultOf(self.list.get()), b"4")
        self.clock.rightNow -= 1000
        self.assertEqual(self.successResultOf(self.list.get()), b"5")

    def test_numbers_grow(self) -> None:
        """Within a millisecond, and when the clock is set back."""
        for step in 0, 0, 5, -1000:
            self.clock.rightNow += step
            self.list.forget()
            self.successResultOf(self.list.get())
        numbers = [number for number, _ in self.signer.made]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual(numbers[0], 1_700_000_000_000)

    def test_built_once_for_all(self) -> None:
        self.signer.held = []
        waiting = [self.list.get() for _ in range(5)]
        self.assertEqual(len(self.signer.made), 1)
        self.signer.held[0].callback(b"x")
        self.assertEqual([self.successResultOf(each) for each in waiting], [b"x"] * 5)
        self.assertEqual(self.successResultOf(self.list.get()), b"x")

    def test_revoked_while_it_is_built(self) -> None:
        """Who asks after a revocation never gets the list of before."""
        self.signer.held = []
        before = self.list.get()
        self.list.forget()
        after = self.list.get()
        self.signer.held[0].callback(b"old")
        self.assertEqual(self.successResultOf(before), b"old")
        self.assertNoResult(after)
        self.signer.held[1].callback(b"new")
        self.assertEqual(self.successResultOf(after), b"new")
        self.assertEqual(self.successResultOf(self.list.get()), b"new")

    def test_failed(self) -> None:
        """Everybody who waits hears it, nothing is kept, and the next one tries again."""
        self.signer.held = []
        first, second = self.list.get(), self.list.get()
        self.signer.held[0].errback(Overloaded("full"))
        self.failureResultOf(first, Overloaded)
        self.signer.held[1].errback(Overloaded("full"))
        self.failureResultOf(second, Overloaded)
        self.signer.held = None
        self.assertEqual(self.successResultOf(self.list.get()), b"3")

    def test_gone(self) -> None:
        """One who went away keeps nothing from the others."""
        self.signer.held = []
        first = self.list.get()
        first.addErrback(lambda _: None)
        first.cancel()
        self.signer.held[0].callback(b"x")
        self.assertEqual(self.successResultOf(self.list.get()), b"x")
