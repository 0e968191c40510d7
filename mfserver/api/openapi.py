"""The route table as OpenAPI 3.1."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from mfserver import __version__
from mfserver.api.call import Call, Reply
from mfserver.route import Route

__all__ = ["Description", "describe"]

_ERROR: Final = "#/components/schemas/Error"
# Every row answers these where they fit: too many attempts, a bug, a full queue.
_COMMON: Final = (429, 500, 503)


class Description:
    """Serves the description of a table, made when it is first asked for."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._described: msgspec.Raw | None = None

    async def serve(self, call: Call[None]) -> Reply:
        if self._described is None:
            self._described = msgspec.Raw(msgspec.json.encode(describe(self._routes)))
        return Reply(self._described)


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document of a route table.

    OpenAPI knows no place that takes several segments: ``{subtopic*}`` is described as ``{subtopic}``. Of
    two rows with the same path and method, an upgrade and a plain one, the plain one is described.
    """
    types = list(
        {repr(kind): kind for route in routes for kind in (route.body, *_replies(route)) if kind}.values()
    )
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in sorted(routes, key=lambda route: route.upgrade is None):
        path = paths.setdefault(route.path.replace("*}", "}"), {})
        path[route.method.lower()] = _operation(route, by_type)
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "mfserver", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": error},
            "securitySchemes": {
                "user": {"type": "http", "scheme": "bearer", "description": "a login token or an API key"},
                "thing": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "a thing key",
                },
            },
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    """One row."""
    success: dict[str, Any] = {"description": HTTPStatus(route.success).phrase}
    content: dict[str, Any] = {media_type: {} for media_type in route.media_types}
    replies = [schemas[repr(kind)] for kind in _replies(route)]
    if replies:
        content["application/json"] = {"schema": replies[0] if len(replies) == 1 else {"anyOf": replies}}
    if content:
        success["content"] = content
    responses = {str(route.success): success}
    for status in sorted({*route.errors, *_COMMON}):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": {"$ref": _ERROR}}},
        }
    operation: dict[str, Any] = {
        "summary": route.summary,
        "parameters": [*_places(route.path), *_query(route)],
        "responses": responses,
        "security": [{route.access: []}] if route.access else [],
    }
    if route.body is not None:
        content = {"application/json": {"schema": schemas[repr(route.body)]}}
        operation["requestBody"] = {"required": True, "content": content}
    elif route.any_body:
        operation["requestBody"] = {"content": {"*/*": {}}}
    return operation


def _replies(route: Route) -> tuple[Any, ...]:
    if isinstance(route.reply, tuple):
        return route.reply
    return () if route.reply is None else (route.reply,)


def _places(path: str) -> list[dict[str, Any]]:
    names = [segment.strip("{*}") for segment in path.split("/") if segment.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in route.parameters.items()
    ]
