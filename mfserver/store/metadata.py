"""Metadata: JSON objects as text, and whether one contains another as PostgreSQL's ``@>`` understands it."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from mfserver.errors import Invalid
from mfserver.records import Metadata

__all__ = ["MAX_DEPTH", "MAX_STEPS", "contains", "decode", "encode", "text_contains"]

#: Levels of objects and arrays within each other.
MAX_DEPTH: Final = 64
#: Comparisons that one look at one entry's metadata may take; arrays of arrays would cost their product.
MAX_STEPS: Final = 100_000


def encode(metadata: Metadata | None) -> str | None:
    """The JSON text of metadata; None for None.

    :raises Invalid: it is no JSON object, or is nested deeper than :data:`MAX_DEPTH`.
    """
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise Invalid("metadata must be a JSON object", "metadata")
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid("metadata must be a JSON object", "metadata") from error
    _check_depth(metadata)
    return text


def decode(text: str) -> Any:
    """The value of a JSON text that :func:`encode` wrote."""
    return json.loads(text)


def contains(whole: Any, part: Any) -> bool:
    """Whether one JSON value contains another: PostgreSQL's ``whole @> part`` for objects and arrays.

    An object contains another when it has all its members and each contains the other's; an array when each
    element of the other is contained in one of its own; numbers are equal by value and are never booleans.

    :raises Invalid: nested too deeply, or more than :data:`MAX_STEPS` comparisons.
    """
    return _contains(whole, part, MAX_DEPTH, iter(range(MAX_STEPS)))


def text_contains(whole: str | None, part: str) -> bool:
    """:func:`contains` for two JSON texts; nothing contains anything. The SQL function of SQLite."""
    return whole is not None and contains(json.loads(whole), _parsed(part))


@lru_cache(maxsize=16)  # a query asks every row about the same part
def _parsed(text: str) -> Any:
    return json.loads(text)


def _check_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child for parent in level for child in _children(parent) if isinstance(child, dict | list | tuple)
        ]
        if not level:
            return
    raise Invalid(f"metadata is nested more than {MAX_DEPTH} levels deep", "metadata")


def _children(value: Any) -> Any:
    return value.values() if isinstance(value, Mapping) else value


def _contains(whole: Any, part: Any, depth: int, steps: Iterator[int]) -> bool:
    if depth < 0 or next(steps, None) is None:
        raise Invalid("the metadata filter costs too much", "metadata")
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            name in whole and _contains(whole[name], value, depth - 1, steps) for name, value in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and _array_contains(whole, part, depth, steps)
    return _kind(whole) is _kind(part) and bool(whole == part)


def _array_contains(whole: list[Any], part: list[Any], depth: int, steps: Iterator[int]) -> bool:
    scalars = {(_kind(value), value) for value in whole if not isinstance(value, dict | list)}
    nested = [value for value in whole if isinstance(value, dict | list)]
    return all(
        any(_contains(candidate, value, depth - 1, steps) for candidate in nested)
        if isinstance(value, dict | list)
        else (_kind(value), value) in scalars
        for value in part
    )


def _kind(value: Any) -> type:
    """The JSON type: 1 and 1.0 are both numbers, True is none."""
    return float if type(value) is int else type(value)
