"""Lists in pages: what a query may ask for, and what of it both the database and a dictionary can answer."""

from typing import Final

from mfserver.errors import Invalid
from mfserver.records import MAX_PAGE, Query

__all__ = ["ORDERS", "check_query", "fold"]

#: What a list may be ordered by; None is the order of creation.
ORDERS: Final = (None, "name", "id")


def check_query(query: Query) -> None:
    """Refuse a query that would answer with too much or in no known order.

    :raises Invalid: a negative offset, a limit outside 1 to :data:`MAX_PAGE`, an unknown order.
    """
    if query.offset < 0:
        raise Invalid("offset must not be negative", "offset")
    if not 1 <= query.limit <= MAX_PAGE:
        raise Invalid(f"limit must be 1 to {MAX_PAGE}", "limit")
    if query.order not in ORDERS:
        raise Invalid("order must be name or id", "order")


def fold(name: str | None) -> str:
    """A name as it is searched and ordered by: without case, and empty where there is none."""
    return (name or "").casefold()
