"""Lists in pages: what a query may ask for, and what of it both the database and a dictionary can answer."""

from typing import Final

from mfserver.certificates import ACTIVE, EXPIRED, REVOKED, CertificateQuery
from mfserver.errors import Invalid
from mfserver.records import MAX_PAGE, Query

__all__ = ["ORDERS", "STATES", "check_certificate_query", "check_query", "fold"]

#: What a list may be ordered by; None is the order of creation.
ORDERS: Final = (None, "name", "id")
#: What a list of certificates may be narrowed to; None is all of them.
STATES: Final = (None, ACTIVE, REVOKED, EXPIRED)


def check_query(query: Query) -> None:
    """Refuse a query that would answer with too much or in no known order.

    :raises Invalid: a negative offset, a limit outside 1 to :data:`MAX_PAGE`, an unknown order.
    """
    _check_part(query.offset, query.limit)
    if query.order not in ORDERS:
        raise Invalid("order must be name or id", "order")


def check_certificate_query(query: CertificateQuery) -> None:
    """Do the same with a query for certificates.

    :raises Invalid: a negative offset, a limit outside 1 to :data:`MAX_PAGE`, an unknown state.
    """
    _check_part(query.offset, query.limit)
    if query.state not in STATES:
        raise Invalid("state must be active, revoked or expired", "state")


def fold(name: str | None) -> str:
    """A name as it is searched and ordered by: without case, and empty where there is none."""
    return (name or "").casefold()


def _check_part(offset: int, limit: int) -> None:
    if offset < 0:
        raise Invalid("offset must not be negative", "offset")
    if not 1 <= limit <= MAX_PAGE:
        raise Invalid(f"limit must be 1 to {MAX_PAGE}", "limit")
