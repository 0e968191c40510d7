"""Which page of a list a request asks for."""

import re
from typing import Any, Final

import msgspec

from mfserver.api.call import Call
from mfserver.errors import Invalid
from mfserver.provisioning.fields import check_metadata, check_name
from mfserver.records import MAX_PAGE, Query

__all__ = ["read_page", "read_part", "read_connected", "PAGE", "PART", "CONNECTED"]

#: The query parameters of a list of things or channels.
PAGE: Final = {
    "offset": "entries to skip; 0 unless given",
    "limit": f"entries to return, 1 to {MAX_PAGE}; 10 unless given",
    "name": "part of the name, in either case",
    "metadata": "a JSON object that the metadata contains",
    "order": "name or id; the order of creation unless given",
    "dir": "asc or desc; asc unless given",
}
#: The query parameters of a list that is neither searched nor ordered.
PART: Final = {"offset": PAGE["offset"], "limit": PAGE["limit"]}
#: The query parameters of a list of what is, or is not, connected.
CONNECTED: Final = {
    **PART,
    "disconnected": "true for what is not connected; false unless given",
}

_NUMBER: Final = re.compile("[0-9]{1,18}")
_METADATA: Final = msgspec.json.Decoder(dict[str, Any])


def read_page(call: Call[Any]) -> Query:
    """The page that a call asks for. :raises Invalid: a parameter is malformed or out of bounds."""
    query = call.query
    offset, limit = read_part(call)
    name = query.get("name") or None
    check_name(name)
    order = query.get("order")
    if order not in (None, "name", "id"):
        raise Invalid("neither name nor id", "order")
    direction = query.get("dir", "asc")
    if direction not in ("asc", "desc"):
        raise Invalid("neither asc nor desc", "dir")
    return Query(offset, limit, name, _metadata(call), order, direction == "desc")


def read_part(call: Call[Any]) -> tuple[int, int]:
    """Offset and limit. :raises Invalid: one is malformed or out of bounds."""
    limit = _number(call, "limit", 10)
    if not 1 <= limit <= MAX_PAGE:
        raise Invalid(f"not between 1 and {MAX_PAGE}", "limit")
    return _number(call, "offset", 0), limit


def read_connected(call: Call[Any]) -> bool:
    """Whether a call asks for what is connected. :raises Invalid: it says neither true nor false."""
    disconnected = call.query.get("disconnected", "false")
    if disconnected not in ("true", "false"):
        raise Invalid("neither true nor false", "disconnected")
    return disconnected == "false"


def _number(call: Call[Any], name: str, default: int) -> int:
    """:raises Invalid: it is no number of at most 18 digits."""
    text = call.query.get(name)
    if text is None:
        return default
    if _NUMBER.fullmatch(text) is None:
        raise Invalid("not a number", name)
    return int(text)


def _metadata(call: Call[Any]) -> dict[str, Any] | None:
    """:raises Invalid: it is no JSON object."""
    text = call.query.get("metadata")
    if not text:
        return None
    try:
        metadata = _METADATA.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid("not a JSON object", "metadata") from error
    check_metadata(metadata)
    return metadata
