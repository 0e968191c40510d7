"""However much waits in queues, a batch touches only the rows that it names: no statement reads a table."""

import re
import sqlite3
from contextlib import closing
from typing import Any

import sqlalchemy as sa
from twisted.trial.unittest import TestCase

from mfserver.durable import PUBLISHED, RELEASED, Changes, KeptSession, KeptSubscription, KeptWill, SessionKey
from mfserver.records import ThingId
from tests.store.contract_sessions import MUCH, a_batch, a_delivery, a_message
from tests.store.files import a_path, a_store

ONE, TWO, THREE = SessionKey(1), SessionKey(2), SessionKey(3)


class PlanTests(TestCase):
    """What SQLite says of how it finds the rows."""

    def setUp(self) -> None:
        self.path = a_path(self)
        self.store = a_store(self, self.path)
        self.statements: dict[str, Any] = {}
        sa.event.listen(self.store.database.engine, "before_cursor_execute", self._note)

    def _note(
        self, _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        self.statements[statement] = parameters[0] if many else parameters

    def scans(self) -> list[tuple[str, str]]:
        """The statements that read a whole table or index of ours, and SQLite's word for it."""
        with closing(sqlite3.connect(self.path)) as database:
            tables = [
                name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
            ]
            return [
                (detail, statement)
                for statement, parameters in self.statements.items()
                if re.match("SELECT|INSERT|UPDATE|DELETE|WITH", statement)
                for *_, detail in database.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
                if re.match(f"SCAN ({'|'.join(tables)})|SEARCH .*[(]message>", detail)
            ]

    async def test_a_batch_and_a_page(self) -> None:
        """Every kind of change, and reading a queue, costs what itself holds and not what waits."""
        sessions = self.store.sessions
        first = a_batch(*(a_delivery(session, n, n) for session in (1, 2, 3) for n in range(1, 6)))
        for key in (ONE, TWO, THREE):
            first.sessions[key] = KeptSession(key, ThingId("t"), str(key), 60)
        first.subscriptions[ONE, "a/+"] = first.subscriptions[TWO, "b"] = KeptSubscription("a/+", 1)
        first.received[ONE, 1] = first.received[TWO, 2] = True
        first.wills[ONE] = first.wills[TWO] = KeptWill(a_message())
        first.retained["c", ("a",)] = first.retained["c", ("b",)] = a_message()
        await sessions.apply(first)
        second = Changes()
        second.move(ONE, 1, 1, PUBLISHED)
        second.move(ONE, 2, 2, RELEASED)
        second.move(TWO, 2, 2, RELEASED)
        second.finish(TWO, 3, 3)
        second.subscriptions[ONE, "a/+"] = None
        second.received[ONE, 1] = False
        second.wills[ONE] = None
        second.retained["c", ("a",)] = None
        second.channels_gone.add("c")
        second.sessions[THREE] = None
        await sessions.apply(second)
        await sessions.queued(ONE, 1, 100, MUCH)
        self.assertGreater(len(self.statements), 15)
        self.assertEqual([], self.scans())
