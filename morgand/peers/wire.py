"""Calls of a port on the wire: arguments and results by the type hints of the Protocol. Pure.

A call's body is a msgpack array of all arguments in the order of the signature; its result is one msgpack value. A
stream is items, each a 4-byte length (big endian), a kind byte (``i`` item, ``e`` error, ``z`` end) and its body.

Between two versions: arguments marked ``LATER`` that have their default are not sent, so that an older host can read
the call; one that is missing at the end has its default. Fields of values that are not known are left out.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from morgand.base.errors import EngineError, InvalidInput
from morgand.state.ports import LATER

HEAD_BYTES = 5
ITEM, ERROR, END = b"i", b"e", b"z"


@dataclass(frozen=True, slots=True)
class Signature:
    """One method of a port. ``result`` is the type of one item when it is ``streamed``; ``later`` are the arguments
    that an older host does not know."""

    method: str
    call: inspect.Signature
    parameters: tuple[tuple[str, Any], ...]
    result: Any
    streamed: bool
    later: frozenset[str]


@dataclass(frozen=True, slots=True)
class Export:
    """A port that other hosts may call. ``role`` is the role that must be held here; ``protocol`` says what may be
    called. Of a copy (``reads``) only these methods, and in no epoch."""

    role: str
    protocol: type
    implementation: Any
    reads: frozenset[str] | None = None


@lru_cache(maxsize=256)
def signature_of(protocol: type, method: str) -> Signature:
    """Raises InvalidInput when the port has no such method."""
    function = None if method.startswith("_") else getattr(protocol, method, None)
    if not inspect.isfunction(function):
        raise InvalidInput(f"{protocol.__name__} has no method '{method}'.")
    hints = get_type_hints(function)
    marked = get_type_hints(function, include_extras=True)
    call = inspect.signature(function)
    call = call.replace(parameters=list(call.parameters.values())[1:])
    result = hints.get("return")
    streamed = get_origin(result) is AsyncIterator
    return Signature(
        method, call, tuple((name, hints[name]) for name in call.parameters),
        get_args(result)[0] if streamed else result, streamed,
        frozenset(name for name, kind in marked.items() if LATER in getattr(kind, "__metadata__", ())),
    )  # fmt: skip


def pack_arguments(signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Raises InvalidInput for what cannot travel: half a character, a number of more than 64 bits."""
    bound = signature.call.bind(*args, **kwargs)
    bound.apply_defaults()
    names = [name for name, _ in signature.parameters]
    while names and names[-1] in signature.later and bound.arguments[names[-1]] == _default(signature, names[-1]):
        names.pop()
    try:
        return msgspec.msgpack.encode([bound.arguments[name] for name in names])
    except (UnicodeEncodeError, OverflowError) as err:
        raise InvalidInput(f"The arguments of {signature.method} cannot be sent to another host: {err}.") from err


def as_before(signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same call as an older host knows it; None if this is one already."""
    given = signature.call.bind(*args, **kwargs).arguments
    left = {name: value for name, value in given.items() if name not in signature.later}
    return None if len(left) == len(given) else left


def unpack_arguments(signature: Signature, body: bytes) -> dict[str, Any]:
    """Arguments by name; an older caller leaves the last ones to their defaults. Raises InvalidInput."""
    known = signature.parameters
    try:
        values = msgspec.msgpack.decode(body, type=list[msgspec.Raw])
        if len(values) > len(known) or any(name not in signature.later for name, _ in known[len(values) :]):
            raise InvalidInput(f"{signature.method} takes {len(known)} arguments, not {len(values)}.")
        found = {name: msgspec.msgpack.decode(value, type=kind) for value, (name, kind) in zip(values, known)}  # noqa: B905 - checked
    except msgspec.MsgspecError as err:
        raise InvalidInput(f"The arguments of {signature.method} cannot be read: {err}.") from err
    return found | {name: _default(signature, name) for name, _ in known[len(values) :]}


def _default(signature: Signature, name: str) -> Any:
    return signature.call.parameters[name].default


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
