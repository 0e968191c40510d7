"""What each database says in words of its own: one compilation per dialect, and nothing of it elsewhere.

A database that is not named here refuses to compile the expression.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import CompileError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["SQLITE_JSON_CONTAINS", "JSONContains", "TextContains", "insert_missing"]

#: The name under which :mod:`mfserver.store.sqlite` gives SQLite its containment of JSON.
SQLITE_JSON_CONTAINS = "mfserver_json_contains"


class JSONContains(FunctionElement[bool]):
    """Whether a column of metadata contains a JSON text, as :func:`mfserver.store.metadata.contains` says."""

    name = "json_contains"
    type = sa.Boolean()
    inherit_cache = True


class TextContains(FunctionElement[bool]):
    """Whether a text column contains a text, literally and with case."""

    name = "text_contains"
    type = sa.Boolean()
    inherit_cache = True


@compiles(JSONContains)
@compiles(TextContains)
def _refuse(element: FunctionElement[bool], compiler: SQLCompiler, **options: Any) -> str:
    raise CompileError(f"{element.name} is not known to {compiler.dialect.name}")


@compiles(JSONContains, "sqlite")
def _sqlite_json_contains(element: JSONContains, compiler: SQLCompiler, **options: Any) -> str:
    return f"{SQLITE_JSON_CONTAINS}({compiler.process(element.clauses, **options)})"


@compiles(TextContains, "sqlite")
def _sqlite_text_contains(element: TextContains, compiler: SQLCompiler, **options: Any) -> str:
    return f"(instr({compiler.process(element.clauses, **options)}) > 0)"


@compiles(JSONContains, "postgresql")
def _postgresql_json_contains(element: JSONContains, compiler: SQLCompiler, **options: Any) -> str:
    whole, part = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({whole} @> CAST({part} AS JSONB))"


@compiles(TextContains, "postgresql")
def _postgresql_text_contains(element: TextContains, compiler: SQLCompiler, **options: Any) -> str:
    return f"(strpos({compiler.process(element.clauses, **options)}) > 0)"


def insert_missing(connection: sa.Connection, table: sa.Table, **values: Any) -> None:
    """Insert a row unless one with the same primary key is there."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(table).values(**values).on_conflict_do_nothing())
