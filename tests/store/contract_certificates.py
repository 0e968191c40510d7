"""What every store promises of certificates; see :mod:`tests.store.contract`."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from zope.interface.verify import verifyObject

from mfserver.certificates import (
    ACTIVE,
    EXPIRED,
    REASONS,
    REVOKED,
    CertificateQuery,
    CertificateRecord,
    fingerprint,
)
from mfserver.errors import Conflict, Invalid, NotFound, Overloaded
from mfserver.interfaces import ICertificateStore
from mfserver.records import Thing, ThingId, UserId

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase
else:
    TestCase = object

from tests.store.contract import ANN, BOB, NOW, Promises

__all__ = ["CertificateContract", "a_certificate"]


def a_certificate(thing: Thing, **values: Any) -> CertificateRecord:
    """One that is valid for a thousand seconds from :data:`NOW`."""
    number = uuid4()
    der = number.bytes * 40
    return CertificateRecord(
        **{
            "serial": number.hex,
            "fingerprint": fingerprint(der),
            "thing": thing.id,
            "owner": thing.owner,
            "issuer": b"i" * 32,
            "der": der,
            "not_before": NOW,
            "not_after": NOW + 1000,
            "issued_at": NOW,
            **values,
        }
    )


def outlines(*records: CertificateRecord) -> set[CertificateRecord]:
    return {replace(record, der=b"") for record in records}


class CertificateContract(Promises):
    """Certificates of things: kept, listed, renewed, revoked."""

    async def _certificate(self, thing: Thing, **values: Any) -> CertificateRecord:
        record = a_certificate(thing, **values)
        await self.store.certificates.add(record)
        return record

    async def _revoked(self, record: CertificateRecord, now: int = NOW) -> CertificateRecord:
        result: CertificateRecord = await self.store.certificates.revoke(
            record.owner, record.serial, "unspecified", now
        )
        return result

    async def _page(self, owner: UserId = ANN, **query: Any) -> list[CertificateRecord]:
        page = await self.store.certificates.page(owner, CertificateQuery(**{"now": NOW, **query}))
        self.assertGreaterEqual(page.total, len(page.entries))
        return list(page.entries)

    async def test_interface(self) -> None:
        """The repository is what the page of joints says."""
        verifyObject(ICertificateStore, self.store.certificates)

    async def test_certificate_comes_back(self) -> None:
        """A certificate is found by its fingerprint, and by its owner with its serial, as it was given."""
        (thing,) = await self._things("a")
        store = self.store.certificates
        for values in (
            {},
            {"revoked_at": NOW, "reason": "superseded", "replaced_by": "f" * 32, "not_after": 253402300799},
        ):
            record = await self._certificate(thing, **values)
            self.assertEqual(await store.get(ANN, record.serial), record)
            self.assertEqual(await store.by_fingerprint(record.fingerprint), record)
            await self.assertFailure(store.get(BOB, record.serial), NotFound)
        await self.assertFailure(store.get(ANN, "0"), NotFound)
        for unknown in (b"", b"x" * 32, record.fingerprint[:31], record.fingerprint + b"\0"):
            self.assertIsNone(await store.by_fingerprint(unknown))

    async def test_certificate_needs_a_thing_of_its_owner(self) -> None:
        """A certificate for no thing, or for another's, is not kept."""
        (thing,) = await self._things("a")
        known = a_certificate(thing)
        for record in (replace(known, thing=ThingId("nobody")), replace(known, owner=BOB)):
            await self.assertFailure(self.store.certificates.add(record), NotFound)
            self.assertIsNone(await self.store.certificates.by_fingerprint(record.fingerprint))

    async def test_serial_and_fingerprint_are_taken(self) -> None:
        """No two certificates share a serial number or a fingerprint, whoever's they are."""
        (mine,) = await self._things("a")
        (theirs,) = await self._things("b", owner=BOB)
        known = await self._certificate(mine)
        for thing in (mine, theirs):
            for values in ({"serial": known.serial}, {"fingerprint": known.fingerprint}):
                await self.assertFailure(
                    self.store.certificates.add(a_certificate(thing, **values)), Conflict
                )
        self.assertEqual(await self._page(), [known])
        self.assertEqual(await self._page(BOB), [])

    async def test_renewal_is_noted(self) -> None:
        """A renewed certificate tells by which, stays active, and is renewed once."""
        (thing,) = await self._things("a")
        old, new, late = await self._certificate(thing), a_certificate(thing), a_certificate(thing)
        store = self.store.certificates
        await store.add(new, old.serial)
        renewed = replace(old, replaced_by=new.serial)
        self.assertEqual(await self._page(state=ACTIVE), [new, renewed])
        await self.assertFailure(store.add(late, old.serial), Conflict)
        self.assertIsNone(await store.by_fingerprint(late.fingerprint))
        self.assertEqual(await store.get(ANN, old.serial), renewed)
        await store.add(late, new.serial)

    async def test_what_cannot_be_renewed(self) -> None:
        """Neither an unknown, another's, another thing's nor a revoked certificate is renewed."""
        thing, other = await self._things("a", "b")
        (theirs,) = await self._things("c", owner=BOB)
        revoked = await self._certificate(thing)
        await self._revoked(revoked)
        cases = {
            "0": NotFound,
            (await self._certificate(other)).serial: NotFound,
            (await self._certificate(theirs)).serial: NotFound,
            revoked.serial: Conflict,
        }
        for serial, error in cases.items():
            record = a_certificate(thing)
            await self.assertFailure(self.store.certificates.add(record, serial), error)
            self.assertIsNone(await self.store.certificates.by_fingerprint(record.fingerprint))
        self.assertEqual([it.replaced_by for it in await self._page() + await self._page(BOB)], [None] * 3)

    async def test_failed_renewal_leaves_the_old(self) -> None:
        """When the new certificate is not kept, the old one is not renewed."""
        (thing,) = await self._things("a")
        old, taken = await self._certificate(thing), await self._certificate(thing)
        twin = a_certificate(thing, serial=taken.serial)
        await self.assertFailure(self.store.certificates.add(twin, old.serial), Conflict)
        self.assertEqual(await self.store.certificates.get(ANN, old.serial), old)

    async def test_page(self) -> None:
        """A page is a part of the owner's list, the youngest first, and says how long the whole is."""
        (thing,) = await self._things("a")
        (theirs,) = await self._things("b", owner=BOB)
        records = [await self._certificate(thing) for _ in range(5)][::-1]
        await self._certificate(theirs)
        store = self.store.certificates
        page = await store.page(ANN, CertificateQuery(NOW, offset=1, limit=3))
        self.assertEqual((page.total, page.offset, page.limit, list(page.entries)), (5, 1, 3, records[1:4]))
        for offset in (5, 2**70):
            page = await store.page(ANN, CertificateQuery(NOW, offset=offset))
            self.assertEqual((page.total, page.offset, list(page.entries)), (5, offset, []))

    async def test_filters(self) -> None:
        """A list is narrowed to a thing, a state and an end, and to all of them; edges are exact."""
        one, two = await self._things("a", "b")
        expired = await self._certificate(one, not_after=NOW - 1)
        last = await self._certificate(one, not_after=NOW)
        soon = await self._certificate(two, not_after=NOW + 10)
        late = await self._certificate(one)
        gone = await self._revoked(await self._certificate(one, not_after=NOW - 1))
        bad = await self._revoked(await self._certificate(two, not_after=NOW + 9))
        cases: list[tuple[dict[str, Any], list[CertificateRecord]]] = [
            ({}, [bad, gone, late, soon, last, expired]),
            ({"thing": one.id}, [gone, late, last, expired]),
            ({"thing": ThingId("nobody")}, []),
            ({"state": ACTIVE}, [late, soon, last]),
            ({"state": REVOKED}, [bad, gone]),
            ({"state": EXPIRED}, [expired]),
            ({"ends_before": NOW + 10}, [bad, gone, last, expired]),
            ({"ends_before": NOW + 11, "state": ACTIVE}, [soon, last]),
            ({"ends_before": NOW, "state": EXPIRED}, [expired]),
            ({"ends_before": NOW + 11, "state": ACTIVE, "thing": one.id}, [last]),
            ({"state": REVOKED, "thing": two.id}, [bad]),
            ({"state": EXPIRED, "now": NOW + 1}, [last, expired]),
        ]
        for query, expected in cases:
            self.assertEqual(await self._page(**query), expected, query)
            page = await self.store.certificates.page(
                ANN, CertificateQuery(**{"now": NOW, "limit": 1, **query})
            )
            self.assertEqual((page.total, list(page.entries)), (len(expected), expected[:1]), query)
            self.assertEqual(await self._page(BOB, **query), [], query)

    async def test_unanswerable_query(self) -> None:
        """A query for too much, or for no known state, is refused."""
        bad: tuple[dict[str, Any], ...] = (
            {"offset": -1},
            {"limit": 0},
            {"limit": 101},
            {"state": ""},
            {"state": "Active"},
        )
        for query in bad:
            await self.assertFailure(
                self.store.certificates.page(ANN, CertificateQuery(NOW, **query)), Invalid
            )

    async def test_revocation_is_for_ever(self) -> None:
        """A certificate is revoked by its owner, once: time and reason of the first time stay."""
        (thing,) = await self._things("a")
        known, other = await self._certificate(thing), await self._certificate(thing)
        store = self.store.certificates
        for serial, owner in ((known.serial, BOB), ("0", ANN)):
            await self.assertFailure(store.revoke(owner, serial, "unspecified", NOW), NotFound)
        self.assertEqual(await store.get(ANN, known.serial), known)
        gone = replace(known, revoked_at=NOW + 1, reason="keyCompromise")
        self.assertEqual(await store.revoke(ANN, known.serial, "keyCompromise", NOW + 1), gone)
        self.assertEqual(await store.revoke(ANN, known.serial, "superseded", NOW + 2), gone)
        self.assertEqual(await store.by_fingerprint(known.fingerprint), gone)
        self.assertEqual(await store.get(ANN, other.serial), other)

    async def test_reasons(self) -> None:
        """Every reason that a revocation list can tell is kept, and no other is."""
        (thing,) = await self._things("a")
        for reason in REASONS:
            record = await self._certificate(thing)
            gone = await self.store.certificates.revoke(ANN, record.serial, reason, NOW)
            self.assertEqual(gone.reason, reason)
        record = await self._certificate(thing)
        await self.assertFailure(self.store.certificates.revoke(ANN, record.serial, "boredom", NOW), Invalid)
        self.assertEqual(await self.store.certificates.get(ANN, record.serial), record)

    async def test_revoked(self) -> None:
        """All that is revoked is told without certificates, of all owners, until it has expired."""
        (mine,) = await self._things("a")
        (theirs,) = await self._things("b", owner=BOB)
        await self._certificate(mine)
        await self._revoked(await self._certificate(mine, not_after=NOW - 1))
        last = await self._revoked(await self._certificate(mine, not_after=NOW), NOW - 5)
        late = await self._revoked(await self._certificate(theirs))
        for now, expected in ((NOW, outlines(last, late)), (NOW + 1, outlines(late)), (NOW + 1001, set())):
            found = await self.store.certificates.revoked(now)
            self.assertEqual((set(found), len(found)), (expected, len(expected)))
            found = self.store.certificates.load_revoked(now)
            self.assertEqual((set(found), len(found)), (expected, len(expected)))

    async def test_ending(self) -> None:
        """What is in use and ends soon is told without certificates, of all owners."""
        (mine,) = await self._things("a")
        (theirs,) = await self._things("b", owner=BOB)
        await self._certificate(mine, not_after=NOW - 1)
        await self._certificate(mine, not_after=NOW + 10)
        await self._revoked(await self._certificate(mine, not_after=NOW + 5))
        renewed = await self._certificate(mine, not_after=NOW + 5)
        await self.store.certificates.add(a_certificate(mine), renewed.serial)
        last = await self._certificate(mine, not_after=NOW)
        soon = await self._certificate(theirs, not_after=NOW + 9)
        found = await self.store.certificates.ending(NOW, NOW + 10)
        self.assertEqual((set(found), len(found)), (outlines(last, soon), 2))
        self.assertEqual(await self.store.certificates.ending(NOW + 20, NOW + 10), [])

    async def test_thing_goes(self) -> None:
        """With a thing its certificates are revoked, and stay; those that ended by themselves did so."""
        one, two = await self._things("a", "b")
        expired = await self._certificate(one, not_after=NOW - 1)
        last = await self._certificate(one, not_after=NOW)
        late = await self._certificate(one, not_before=NOW + 5)
        bad = await self._revoked(await self._certificate(one), NOW - 5)
        other = await self._certificate(two)
        self.assertFalse(await self.store.things.remove(BOB, one.id))
        self.assertEqual((await self.store.certificates.get(ANN, late.serial)).state(NOW), ACTIVE)
        self.assertTrue(await self.store.things.remove(ANN, one.id))
        ceased = [replace(it, revoked_at=NOW, reason="cessationOfOperation") for it in (late, last)]
        self.assertEqual(await self._page(), [other, bad, *ceased, expired])
        self.assertEqual(await self._page(thing=one.id), [bad, *ceased, expired])
        self.assertEqual(set(self.store.certificates.load_revoked(NOW)), outlines(bad, *ceased))
        record = a_certificate(one)
        await self.assertFailure(self.store.certificates.add(record), NotFound)
        self.assertFalse(await self.store.things.remove(ANN, one.id))

    async def test_after_close(self) -> None:
        """A closed store takes and changes nothing more."""
        (thing,) = await self._things("a")
        record = await self._certificate(thing)
        await self.store.close()
        store = self.store.certificates
        await self.assertFailure(store.add(a_certificate(thing)), Overloaded)
        await self.assertFailure(store.revoke(ANN, record.serial, "unspecified", NOW), Overloaded)
