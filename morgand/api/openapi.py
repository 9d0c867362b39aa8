"""The OpenAPI 3.1 description, generated from the routes the application serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from morgand import __version__
from morgand.api import dialect, schema
from morgand.api.routes import STALE, ApiRoute

PATH = "/v1/openapi.json"
_REF = "#/components/schemas/{name}"
_WORDS = {
    200: "Done", 201: "Created", 202: "Accepted", 400: "The request is not valid", 401: "An API key is needed",
    404: "There is no such thing", 409: "Contradicts what is stored", 413: "Too large", 415: "Cannot be read",
    422: "The content is damaged", 429: "Too many requests", 500: "Something went wrong inside Morgan",
    503: "Not available right now", 507: "The disk is full or read-only",
}  # fmt: skip
_WAIT = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_MAY_BE_STALE = {
    STALE: {
        "description": "There when the database cannot be reached and a copy of it answered, which may be behind.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}
_UPLOAD = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "source": {
            "type": "string",
            "description": "Where the next file comes from, to the letter. The same of the same machine replaces.",
        },
        "machine": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{8,64}$",
            "description": "Stable id of the machine that sends, before its files. The API key counts without it.",
        },
        "machine_name": {"type": "string", "description": "What people call that machine."},
        "file": {"type": "string", "format": "binary"},
    },
}


def document(routes: Sequence[ApiRoute]) -> dict[str, Any]:
    """The whole description; JSON-ready."""
    kinds = {dialect.DialectFault, schema.ErrorReply}
    for route in routes:
        kinds |= {kind for kind in (route.body, route.reply, *(kind for _, kind in route.also)) if kind is not None}
    _, components = msgspec.json.schema_components(sorted(kinds, key=lambda kind: kind.__name__), ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Morgan", "version": __version__, "description": "The HTTP API of morgand."},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


_EVENTS = (
    'event: delta\ndata: {"text":"The pressure "}\n\n: keep-alive\n\n'
    'event: error\ndata: {"error":{"code":"unavailable","message":"The LLM stopped."}}\n\n'
)
_OPENAI_EVENTS = 'data: {"object":"chat.completion.chunk"}\n\n: keep-alive\n\ndata: [DONE]\n\n'


def statuses(route: ApiRoute) -> list[int]:
    """Every error status this route can answer."""
    found = {500, *route.errors}
    if not route.open:
        found.add(401)
    if route.body is not None:
        found |= {400, 413}
    if route.query is not None or route.rate is not None:
        found.add(400)
    if route.rate is not None:
        found |= {429, 503}
    return sorted(found)


def _operation(route: ApiRoute) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__qualname__.replace(".", "_"),
        "summary": route.summary,
        "tags": [route.tag],
        "responses": _responses(route),
    }
    parameters = [_variable(name) for name in route.variables] + _query(route.query)
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = _content("application/json", _ref(route.body)) | {"required": True}
    elif route.path == "/v1/documents" and route.method == "POST":
        operation["requestBody"] = _content("multipart/form-data", _UPLOAD) | {"required": True}
    if route.open:
        operation["security"] = []
    return operation


def _responses(route: ApiRoute) -> dict[str, Any]:
    reply: dict[str, Any] = {"type": "string"}
    if route.reply is not None:
        reply = _ref(route.reply)
    elif route.content_type == "application/json":
        reply = {"type": "object"}
    content: dict[str, Any] = {route.content_type: {"schema": reply}}
    if route.stream:
        # Framing and events are in words: each event has a shape of its own, which a schema of one body cannot say.
        content["text/event-stream"] = {"example": _OPENAI_EVENTS if route.openai else _EVENTS}
    done: dict[str, Any] = {"description": _WORDS[route.status], "content": content}
    if route.may_be_stale:
        done["headers"] = _MAY_BE_STALE
    responses: dict[str, Any] = {str(route.status): done}
    for status, kind in route.also:
        responses[str(status)] = {"description": _WORDS[status]} | _content("application/json", _ref(kind))
    error = _ref(dialect.DialectFault if route.openai else schema.ErrorReply)
    for status in statuses(route):
        response = {"description": _WORDS[status]} | _content("application/json", error)
        if status in {429, 503, 507}:
            response["headers"] = _WAIT
        responses[str(status)] = response
    return responses


def _variable(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query(kind: type[msgspec.Struct] | None) -> list[dict[str, Any]]:
    if kind is None:
        return []
    _, components = msgspec.json.schema_components([kind], ref_template=_REF)
    properties = components[kind.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": _without_null(form)} for name, form in properties.items()]


def _without_null(form: dict[str, Any]) -> dict[str, Any]:
    """A query string has no null: a parameter is left out."""
    kept = [one for one in form.get("anyOf", []) if one != {"type": "null"}]
    if len(kept) == 1:
        return dict(kept[0])
    if "enum" in form:
        return {"enum": [one for one in form["enum"] if one is not None]}
    return form


def _ref(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"$ref": _REF.format(name=kind.__name__)}


def _content(content_type: str, form: dict[str, Any]) -> dict[str, Any]:
    return {"content": {content_type: {"schema": form}}}
