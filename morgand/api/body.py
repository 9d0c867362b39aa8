"""Bodies and query strings of requests, read under a limit and checked against the schema."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from aiohttp import http_exceptions, web

from morgand.base.errors import InvalidInput, TooLarge

T = TypeVar("T", bound=msgspec.Struct)

_AT = re.compile(r" - at `(?:key in )?\$\.?(.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`")
_MISSING = re.compile(r"^Object missing required field `(.*)`")


async def read_struct(request: web.Request, kind: type[T], *, body_mb: int) -> T:
    """The JSON body as ``kind``. Raises TooLarge and InvalidInput that names the field."""
    content = await read_bytes(request, body_mb=body_mb)
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as err:
        raise InvalidInput(told(err)) from err
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise InvalidInput(f"The body is not valid JSON: {err}.") from err
    except RecursionError as err:
        raise InvalidInput("The body is nested too deeply.") from err


async def read_bytes(request: web.Request, *, body_mb: int) -> bytes:
    """The whole body, decompressed; it is never longer than the limit in memory. Raises TooLarge, InvalidInput."""
    limit = body_mb * 1024 * 1024
    if request.content_length is not None and request.content_length > limit:
        raise _over(body_mb)
    content = bytearray()
    try:
        async for piece in request.content.iter_any():
            content += piece
            if len(content) > limit:
                raise _over(body_mb)
    except (http_exceptions.HttpProcessingError, web.RequestPayloadError) as err:
        raise InvalidInput(f"The body cannot be read: {err}.") from err
    return bytes(content)


def read_query(request: web.Request, kind: type[T]) -> T:
    """The query string as ``kind``; numbers are converted. Raises InvalidInput."""
    values: dict[str, str] = {}
    for name, value in request.query.items():
        if name in values:
            raise InvalidInput(f"{name}: is given twice.")
        values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as err:
        raise InvalidInput(told(err)) from err


def told(err: msgspec.ValidationError) -> str:
    """A validation error that begins with the field: ``documents[0]: expected ...``."""
    text = str(err)
    at = _AT.search(text)
    where = at.group(1) if at else ""
    what = text[: at.start()] if at else text
    for pattern, words in ((_UNKNOWN, "is not a known field"), (_MISSING, "is missing")):
        if found := pattern.match(what):
            name = f"{where}.{found.group(1)}" if where else found.group(1)
            return f"{name}: {words}."
    what = what[:1].lower() + what[1:]
    return f"{where or 'body'}: {what}."


def _over(body_mb: int) -> TooLarge:
    return TooLarge(f"The body is over {body_mb} MiB.", remedy="Send less, or raise limits.body_mb.")
