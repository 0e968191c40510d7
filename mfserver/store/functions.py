"""What each database says in words of its own: one compilation per dialect, and nothing of it elsewhere.

A database that is not named here refuses to compile the expression.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import CompileError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

__all__ = [
    "SQLITE_JSON_CONTAINS",
    "JSONContains",
    "TextContains",
    "add_rows",
    "execute_rows",
    "find_values",
    "insert_missing",
    "put_rows",
]

V = TypeVar("V")

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
    connection.execute(_words(connection.dialect).insert(table).values(**values).on_conflict_do_nothing())


def put_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert many rows; where one with the same primary key is there, it becomes the new one.

    :param rows: the values of all columns, in the order of the table.
    """
    if rows:
        execute_rows(connection, _put(table, connection.dialect), rows)


def add_rows(connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert those of many rows whose primary keys are not there yet. See :func:`put_rows`."""
    if rows:
        execute_rows(connection, _add(table, connection.dialect), rows)


def execute_rows(
    connection: sa.Connection, statement: sa.UpdateBase, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Run a statement once for each of these rows, which may be none.

    It takes a third of the time of :meth:`sqlalchemy.Connection.execute`, and types convert nothing.

    :param statement: a constant: what it compiles to is remembered.
    :param rows: the statement's parameters, in the order in which they stand in it.
    """
    if rows:
        connection.exec_driver_sql(_text(statement, connection.dialect), list(rows))


def find_values(
    connection: sa.Connection, statement: sa.Select[tuple[V]], rows: Iterable[tuple[Any, ...]]
) -> Iterator[V]:
    """The values that a statement finds for each of these rows. See :func:`execute_rows`."""
    text = _text(statement, connection.dialect)
    for row in rows:
        yield from connection.exec_driver_sql(text, row).scalars()


def _words(dialect: sa.Dialect) -> Any:
    return postgresql if dialect.name == "postgresql" else sqlite


@lru_cache
def _put(table: sa.Table, dialect: sa.Dialect) -> sa.Insert:
    insert = _words(dialect).insert(table)
    keys = list(table.primary_key)
    values = {column.name: insert.excluded[column.name] for column in table.c if column not in set(keys)}
    statement: sa.Insert = insert.on_conflict_do_update(index_elements=keys, set_=values)
    return statement


@lru_cache
def _add(table: sa.Table, dialect: sa.Dialect) -> sa.Insert:
    statement: sa.Insert = _words(dialect).insert(table).on_conflict_do_nothing()
    return statement


@lru_cache
def _text(statement: sa.UpdateBase | sa.Select[Any], dialect: sa.Dialect) -> str:
    compiled: Any = statement.compile(dialect=dialect)
    if not compiled.positional:
        raise CompileError(f"parameters have no order in {dialect.paramstyle}")
    return str(compiled)
