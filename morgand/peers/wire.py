"""Calls of a port on the wire: arguments and results by the type hints of the Protocol. Pure.

A call's body is a msgpack array of all arguments in the order of the signature; its result is one msgpack value. A
stream is items, each a 4-byte length (big endian), a kind byte (``i`` item, ``e`` error, ``z`` end) and its body.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from morgand.errors import EngineError, InvalidInput

HEAD_BYTES = 5
ITEM, ERROR, END = b"i", b"e", b"z"


@dataclass(frozen=True, slots=True)
class Signature:
    """One method of a port. ``result`` is the type of one item when it is ``streamed``."""

    method: str
    call: inspect.Signature
    parameters: tuple[tuple[str, Any], ...]
    result: Any
    streamed: bool


@dataclass(frozen=True, slots=True)
class Export:
    """A port that other hosts may call. ``role`` is the role that must be held here; ``protocol`` says what may be
    called."""

    role: str
    protocol: type
    implementation: Any


@lru_cache(maxsize=256)
def signature_of(protocol: type, method: str) -> Signature:
    """Raises InvalidInput when the port has no such method."""
    function = None if method.startswith("_") else getattr(protocol, method, None)
    if not inspect.isfunction(function):
        raise InvalidInput(f"{protocol.__name__} has no method '{method}'.")
    hints = get_type_hints(function)
    call = inspect.signature(function)
    call = call.replace(parameters=list(call.parameters.values())[1:])
    result = hints.get("return")
    streamed = get_origin(result) is AsyncIterator
    return Signature(
        method, call, tuple((name, hints[name]) for name in call.parameters),
        get_args(result)[0] if streamed else result, streamed,
    )  # fmt: skip


def pack_arguments(signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Raises InvalidInput for what cannot travel: half a character, a number of more than 64 bits."""
    bound = signature.call.bind(*args, **kwargs)
    bound.apply_defaults()
    try:
        return msgspec.msgpack.encode([bound.arguments[name] for name, _ in signature.parameters])
    except (UnicodeEncodeError, OverflowError) as err:
        raise InvalidInput(f"The arguments of {signature.method} cannot be sent to another host: {err}.") from err


def unpack_arguments(signature: Signature, body: bytes) -> dict[str, Any]:
    """Arguments by name. Raises InvalidInput."""
    try:
        values = msgspec.msgpack.decode(body, type=list[msgspec.Raw])
        if len(values) != len(signature.parameters):
            raise InvalidInput(f"{signature.method} takes {len(signature.parameters)} arguments, not {len(values)}.")
        pairs = zip(values, signature.parameters, strict=True)
        return {name: msgspec.msgpack.decode(value, type=kind) for value, (name, kind) in pairs}
    except msgspec.MsgspecError as err:
        raise InvalidInput(f"The arguments of {signature.method} cannot be read: {err}.") from err


def pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def unpack(signature: Signature, body: bytes) -> Any:
    """One result, or one item of a stream. Raises EngineError: the other side is of another version."""
    try:
        return msgspec.msgpack.decode(body, type=signature.result)
    except msgspec.MsgspecError as err:
        raise EngineError(f"The result of {signature.method} cannot be read: {err}.") from err


def frame(kind: bytes, body: bytes = b"") -> bytes:
    return len(body).to_bytes(4, "big") + kind + body


def head(data: bytes) -> tuple[int, bytes]:
    """Length and kind of the frame that begins with these bytes."""
    return int.from_bytes(data[:4], "big"), data[4:HEAD_BYTES]
