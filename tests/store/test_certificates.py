"""Certificates, in the database alone: what lists cost, one transaction, and the start."""

import sqlite3
from typing import Any

import sqlalchemy as sa
from twisted.trial.unittest import TestCase

from mfserver.certificates import ACTIVE, EXPIRED, REVOKED, CertificateQuery
from mfserver.errors import ConfigurationError, Conflict
from mfserver.records import ThingId
from tests.store.contract import ANN, NOW, a_thing
from tests.store.contract_certificates import a_certificate
from tests.store.files import a_path, a_store, store_threads


class CertificateCase(TestCase):
    def setUp(self) -> None:
        self.others = store_threads()
        self.path = a_path(self)
        self.store = a_store(self, self.path, now=lambda: NOW)
        self.certificates = self.store.certificates

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        stranger = sqlite3.connect(self.path)
        with stranger:
            rows = [row for statement in statements for row in stranger.execute(statement)]
        stranger.close()
        return rows


class CostTests(CertificateCase):
    """However many certificates there are, only those that are asked for are looked at."""

    def setUp(self) -> None:
        super().setUp()
        self._asked: list[tuple[str, Any]] = []
        sa.event.listen(self.store.database.engine, "before_cursor_execute", self._note)

    def _note(
        self, _connection: object, _cursor: object, statement: str, parameters: Any, *_: object
    ) -> None:
        if "certificates" in statement:
            self._asked.append((statement, parameters))

    def _plans(self) -> list[str]:
        """How SQLite answers what was asked since the last time."""
        asked, self._asked = self._asked, []
        stranger = sqlite3.connect(self.path)
        plans = [
            "; ".join(row[3] for row in stranger.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))
            for statement, parameters in asked
        ]
        stranger.close()
        return plans

    async def test_pages(self) -> None:
        """An index alone counts, and gives the youngest without sorting, whatever a list is narrowed to."""
        index, thing = "INDEX ix_certificates_of_", ThingId("a")
        for state in (None, ACTIVE, REVOKED, EXPIRED):
            for ends_before in (None, NOW):
                for whose, narrowed in (("owner (owner=?)", None), ("thing (owner=? AND thing=?)", thing)):
                    query = CertificateQuery(NOW, thing=narrowed, state=state, ends_before=ends_before)
                    await self.certificates.page(ANN, query)
                    expected = [
                        f"SEARCH certificates USING {kind}{index}{whose}" for kind in ("COVERING ", "")
                    ]
                    self.assertEqual(self._plans(), expected, query)

    async def test_lists_of_all_owners(self) -> None:
        """What is revoked, or ends soon, is found among itself alone."""
        await self.certificates.revoked(NOW)
        self.certificates.load_revoked(NOW)
        await self.certificates.ending(NOW, NOW + 1)
        revoked = "SEARCH certificates USING INDEX ix_certificates_revoked (not_after>?)"
        in_use = "SEARCH certificates USING INDEX ix_certificates_in_use (not_after>? AND not_after<?)"
        self.assertEqual(self._plans(), [revoked, revoked, in_use])

    async def test_single_certificates(self) -> None:
        """One certificate, and those of one thing, are found at once."""
        thing = a_thing()
        await self.store.things.add([thing])
        record, renewal = a_certificate(thing), a_certificate(thing)
        await self.certificates.add(record)
        await self.certificates.add(renewal, record.serial)
        await self.certificates.get(ANN, record.serial)
        await self.certificates.by_fingerprint(record.fingerprint)
        await self.certificates.revoke(ANN, record.serial, "unspecified", NOW)
        await self.store.things.remove(ANN, thing.id)
        plans = [plan for plan in self._plans() if plan]  # an INSERT has none
        self.assertEqual(len(plans), 6)
        for plan in plans:
            self.assertRegex(
                plan, r"^SEARCH certificates USING INDEX \S+ \((serial|fingerprint|owner=\? AND thing)=\?"
            )


class TransactionTests(CertificateCase):
    async def test_thing_stays_with_its_certificates(self) -> None:
        """A thing is deleted and its certificates are revoked, or neither."""
        thing = a_thing()
        await self.store.things.add([thing])
        record = a_certificate(thing)
        await self.certificates.add(record)
        refuse = "BEFORE UPDATE ON certificates BEGIN SELECT RAISE(ABORT, 'no'); END"
        self.execute(f"CREATE TRIGGER refuse {refuse}")
        await self.assertFailure(self.store.things.remove(ANN, thing.id), Conflict)
        self.assertEqual(await self.store.things.by_id(thing.id), thing)
        self.assertEqual(await self.certificates.get(ANN, record.serial), record)
        self.execute("DROP TRIGGER refuse")
        await self.store.things.remove(ANN, thing.id)
        self.assertIsNone(await self.store.things.by_id(thing.id))
        self.assertEqual((await self.certificates.get(ANN, record.serial)).state(NOW), REVOKED)


class StartTests(CertificateCase):
    async def test_revocations_outlive_the_process(self) -> None:
        """What was revoked before is known before the reactor runs, without a thread."""
        thing = a_thing()
        await self.store.things.add([thing])
        record = a_certificate(thing)
        await self.certificates.add(record)
        await self.certificates.revoke(ANN, record.serial, "keyCompromise", NOW)
        await self.store.close()
        (found,) = a_store(self, self.path).certificates.load_revoked(NOW)
        self.assertEqual(
            (found.fingerprint, found.revoked_at, found.reason), (record.fingerprint, NOW, "keyCompromise")
        )
        self.assertEqual(store_threads() - self.others, set())

    def test_database_that_cannot_be_read(self) -> None:
        """Nobody is let in by a server that could not read what is revoked."""
        self.execute("DROP TABLE certificates")
        error = self.assertRaises(ConfigurationError, self.certificates.load_revoked, NOW)
        self.assertEqual(error.option, "--database")
