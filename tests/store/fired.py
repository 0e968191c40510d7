"""Deferreds that have fired already, as the twins in memory answer."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred

__all__ = ["fired"]

P = ParamSpec("P")
T = TypeVar("T")


def fired(method: Callable[P, T]) -> Callable[P, Deferred[T]]:
    """Answer with a Deferred that has fired already."""

    @wraps(method)
    def answer(*args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        return maybeDeferred(method, *args, **kwargs)

    return answer
