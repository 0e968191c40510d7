"""A database is made, migrated, kept private, or refused with one line that says what to do."""

import logging
import os
import sqlite3
import stat
from io import StringIO
from shutil import rmtree
from tempfile import mkdtemp

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.exc import CompileError
from sqlalchemy.schema import CreateTable
from twisted.trial.unittest import SynchronousTestCase

from mfserver.errors import ConfigurationError
from mfserver.store.functions import JSONContains, TextContains
from mfserver.store.schema import METADATA, things
from mfserver.store.store import Store
from tests.store.files import REACTOR, a_path, digest


class OpenTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = a_path(self)

    def _open(self, path: str | None = None) -> Store:
        store = Store(f"sqlite:///{path or self.path}", digest, REACTOR)
        store.open()
        return store

    def _refused(self, words: str, path: str | None = None) -> None:
        error = self.assertRaises(ConfigurationError, self._open, path)
        text = str(error)
        self.assertIn(words, text)
        self.assertIn(path or self.path, text)
        self.assertNotIn("\n", text)
        self.assertEqual(error.option, "--database")

    def _execute(self, *statements: str) -> list[tuple[object, ...]]:
        stranger = sqlite3.connect(self.path)
        with stranger:
            rows = [row for statement in statements for row in stranger.execute(statement)]
        stranger.close()
        return rows

    def test_migrations_make_the_schema(self) -> None:
        """What the steps make is what the repositories speak to."""
        engine = self._open().database.engine
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_server_default": True})
            self.assertEqual(compare_metadata(context, METADATA), [])
            found = {
                name: connection.exec_driver_sql(
                    "SELECT sql FROM sqlite_master WHERE name = ?", (name,)
                ).scalar_one()
                for name in METADATA.tables
            }
        engine.dispose()
        for name, table in METADATA.tables.items():
            expected = str(CreateTable(table).compile(engine))
            self.assertEqual(
                sorted(found[name].replace(",", " ").split()), sorted(expected.replace(",", " ").split())
            )

    def test_second_open(self) -> None:
        """A database that is up to date is left as it is."""
        self._open()
        self._execute("INSERT INTO channels (id, owner, name_folded) VALUES ('c', 'o', '')")
        self._open()
        self.assertEqual(self._execute("SELECT id FROM channels"), [("c",)])

    def test_older_version(self) -> None:
        """What an older version kept is there when its database is brought up to date."""
        self._open()
        self._execute("INSERT INTO channels (id, owner, name_folded) VALUES ('c', 'o', '')")
        self._execute("DROP TABLE certificates", "UPDATE alembic_version SET version_num = '0002'")
        self._open()
        self.assertEqual(self._execute("SELECT id FROM channels"), [("c",)])
        self.assertEqual(self._execute("SELECT count(*) FROM certificates"), [(0,)])

    def test_what_sqlite_is_told(self) -> None:
        """Every connection writes ahead, flushes at COMMIT, and minds foreign keys."""
        engine = self._open().database.engine
        for _ in range(2):
            with engine.connect() as connection:
                told = {
                    pragma: connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()
                    for pragma in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
                }
            engine.dispose()
            self.assertEqual(
                told, {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
            )

    def test_files_are_private(self) -> None:
        """Nobody else reads the database, its log or its index, whatever the umask or an old mode says."""
        for name in (self.path, f"{self.path}-wal", f"{self.path}-shm"):
            self.addCleanup(os.umask, os.umask(0))
            engine = self._open().database.engine
            with engine.begin() as connection:
                connection.exec_driver_sql("INSERT OR IGNORE INTO retired_keys VALUES (x'00', 'o')")
                modes = {
                    entry.name: stat.S_IMODE(entry.stat().st_mode)
                    for entry in os.scandir(os.path.dirname(self.path))
                }
            self.assertEqual(modes, dict.fromkeys(("store.db", "store.db-wal", "store.db-shm"), 0o600), name)
            engine.dispose()
            with open(name, "ab"):
                os.chmod(name, 0o666)

    def test_odd_path(self) -> None:
        """A path is taken literally."""
        path = os.path.join(os.path.dirname(self.path), "100% a?b#c&mode=memory ü.db")
        self._open(path)
        self.assertTrue(os.path.isfile(path))

    def test_nothing_is_printed(self) -> None:
        """Alembic's steps are no news to whoever configured Python's logging for warnings."""
        stream = StringIO()
        handler = logging.StreamHandler(stream)
        logging.getLogger().addHandler(handler)
        self.addCleanup(logging.getLogger().removeHandler, handler)
        self._open()
        self.assertEqual(stream.getvalue(), "")

    def test_no_database(self) -> None:
        """A file of something else is refused, and left as it was."""
        text = b"this is a letter to my grandmother, and it is long enough to look like a page" * 20
        with open(self.path, "wb") as file:
            file.write(text)
        self._refused("not a database")
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), text)

    def test_newer_version(self) -> None:
        """A database that a newer version made is not touched."""
        self._open()
        self._execute("UPDATE alembic_version SET version_num = '9999'")
        self._refused("newer version")
        self.assertEqual(self._execute("SELECT * FROM alembic_version"), [("9999",)])

    def test_database_of_another_program(self) -> None:
        """A database with somebody else's tables is not mixed with ours."""
        self._execute("CREATE TABLE users (id)")
        self._refused("another program")
        self.assertEqual(self._execute("SELECT name FROM sqlite_master"), [("users",)])

    def test_missing_directory(self) -> None:
        """A directory that is not there is not made up."""
        self._refused("make its directory", "/nonexistent/directory/store.db")

    def test_directory_instead_of_a_file(self) -> None:
        """A directory is no database."""
        self._refused("is not a file", os.path.dirname(self.path))

    def test_path_that_no_file_can_have(self) -> None:
        """A NUL in a path, or one that is too long, is a line, not a traceback."""
        self._refused("cannot be made", self.path + "\0")
        self._refused("cannot be made", self.path + "x" * 300)

    def test_directory_that_cannot_be_written(self) -> None:
        """A database that could not be made, or not have its log beside it, is refused."""
        directory = mkdtemp()  # reachable for everybody, which trial's own directory need not be
        self.addCleanup(rmtree, directory)
        path = os.path.join(directory, "store.db")
        user = os.geteuid() or 65534
        os.chown(directory, user, -1)
        os.chmod(directory, 0o500)
        self.addCleanup(os.seteuid, os.geteuid())
        os.seteuid(user)
        self._refused("Permission denied", path)
        os.chmod(directory, 0o700)
        self._open(path)
        os.chmod(directory, 0o500)
        self._refused("cannot be written", path)
        os.chmod(directory, 0o700)

    def test_interrupted_migration(self) -> None:
        """A step that fails leaves nothing behind: the next start finds the database as it was."""
        self._execute("CREATE VIEW channels AS SELECT 1")
        self._refused("cannot be used")
        self.assertEqual(self._execute("SELECT name FROM sqlite_master"), [("channels",)])
        self._execute("DROP VIEW channels")
        self._open()

    def test_locked_by_another_program(self) -> None:
        """A database that somebody holds is refused with the reason."""
        self._open()
        stranger = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(stranger.close)
        stranger.execute("BEGIN IMMEDIATE")
        store = Store(f"sqlite:///{self.path}", digest, REACTOR)
        sa.event.listen(
            store.database.engine, "checkout", lambda driver, *_: driver.execute("PRAGMA busy_timeout=20")
        )
        self.assertIn("locked", str(self.assertRaises(ConfigurationError, store.open)))


class DialectTests(SynchronousTestCase):
    """What each database says in its own words."""

    def _compiled(self, dialect: sa.Dialect) -> list[str]:
        text = sa.literal("x", sa.Text())
        questions = JSONContains(things.c.metadata, text), TextContains(things.c.name_folded, text)
        return [str(question.compile(dialect=dialect)).replace("::VARCHAR", "") for question in questions]

    def test_postgresql(self) -> None:
        """PostgreSQL has both by itself."""
        self.assertEqual(
            self._compiled(postgresql.dialect(paramstyle="named")),
            [
                "(things.metadata @> CAST(:param_1 AS JSONB))",
                "(strpos(things.name_folded, :param_1) > 0)",
            ],
        )

    def test_unknown_database(self) -> None:
        """A database that nobody thought of is refused before it answers wrongly."""
        self.assertRaises(CompileError, self._compiled, mysql.dialect())
