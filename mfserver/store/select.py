"""Questions that several repositories ask: pages, and long lists in pieces that a database can swallow."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from mfserver.errors import NotFound
from mfserver.records import Page, Query, UserId
from mfserver.store.functions import JSONContains, TextContains
from mfserver.store.metadata import encode
from mfserver.store.pages import check_query, fold

__all__ = ["MAX_OFFSET", "PIECE", "check_owned", "is_any_in", "pieces", "select_page"]

T = TypeVar("T")

#: Values of one IN (...): databases bound the variables of a statement.
PIECE: Final = 500
#: The largest offset that fits into a database's integer.
MAX_OFFSET: Final = 2**63 - 1


def pieces(values: Iterable[T], size: int = PIECE) -> Iterator[list[T]]:
    """Cut into lists that fit into one statement."""
    rest = iter(values)
    while piece := list(islice(rest, size)):
        yield piece


def is_any_in(connection: sa.Connection, column: sa.Column[Any], values: Iterable[Any]) -> bool:
    """Whether a column holds any of these values."""
    return any(connection.scalar(sa.select(sa.exists().where(column.in_(piece)))) for piece in pieces(values))


def check_owned(connection: sa.Connection, table: sa.Table, owner: UserId, ids: Sequence[str]) -> None:
    """Make sure that every one of these different ids is a row of this owner's.

    :raises NotFound: one is not.
    """
    found = sum(
        connection.scalar(sa.select(sa.func.count()).where(table.c.owner == owner, table.c.id.in_(piece)))
        or 0
        for piece in pieces(ids)
    )
    if found < len(ids):
        raise NotFound(f"no such {table.name.removesuffix('s')}")


def select_page(
    connection: sa.Connection,
    table: sa.Table,
    where: sa.ColumnElement[bool],
    query: Query,
    make: Callable[[sa.Row[Any]], T],
) -> Page[T]:
    """A page of a table of things or channels.

    :param where: which rows the list is made of.
    :raises Invalid: the query asks for what cannot be answered.
    """
    check_query(query)
    conditions = [where]
    if query.name:
        conditions.append(TextContains(table.c.name_folded, sa.literal(fold(query.name), sa.Text())))
    if query.metadata:
        conditions.append(JSONContains(table.c.metadata, sa.literal(encode(query.metadata), sa.Text())))
    total = connection.scalar(sa.select(sa.func.count()).select_from(table).where(*conditions)) or 0
    columns = {
        None: [table.c.sequence],
        "name": [table.c.name_folded, table.c.sequence],
        "id": [table.c.id],
    }[query.order]
    rows = connection.execute(
        sa.select(table)
        .where(*conditions)
        .order_by(*(column.desc() if query.descending else column.asc() for column in columns))
        .offset(min(query.offset, MAX_OFFSET))
        .limit(query.limit)
    )
    return Page(total, query.offset, query.limit, [make(row) for row in rows])
