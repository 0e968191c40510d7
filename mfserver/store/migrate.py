"""Brings a database to this version's schema with the steps in ``migrations/``."""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from mfserver.errors import ConfigurationError

__all__ = ["migrate"]


def migrate(connection: Connection, name: str) -> None:
    """Run the steps that are missing, inside the connection's transaction.

    :param name: the database, as the error names it.
    :raises ConfigurationError: the database belongs to a newer version, or to another program.
    """
    config = Config()
    config.set_main_option("script_location", "mfserver.store:migrations")
    known = {step.revision for step in ScriptDirectory.from_config(config).walk_revisions()}
    present = MigrationContext.configure(connection).get_current_heads()
    if not known.issuperset(present):
        text = (
            f"the database {name} belongs to a newer version of mfserver: upgrade mfserver, or name another"
        )
        raise ConfigurationError(text, "--database")
    if not present and inspect(connection).get_table_names():
        text = f"the database {name} belongs to another program: name another file"
        raise ConfigurationError(text, "--database")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
