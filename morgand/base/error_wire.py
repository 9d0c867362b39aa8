"""Errors on the wire, between the daemon and its engines and between hosts: raised again as what they were."""

from __future__ import annotations

import msgspec

from morgand.base.errors import (
    ConfigError,
    Conflict,
    EngineError,
    Fenced,
    InvalidInput,
    MorganError,
    NotFound,
    NotHereNow,
    Overloaded,
    RateLimited,
    StorageFull,
    StoreConflict,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unreadable,
    Unsupported,
)

_RAISED: dict[str, type[MorganError]] = {
    cls.code: cls
    for cls in (
        ConfigError, Conflict, EngineError, Fenced, InvalidInput, MorganError, NotFound, Overloaded, RateLimited,
        StorageFull, StoreConflict, TooLarge, Unauthorized, Unavailable, Unreadable, Unsupported,
    )
}  # fmt: skip


class Failure(msgspec.Struct):
    """An error as msgpack."""

    code: str
    message: str
    remedy: str | None = None
    retry_after_s: float | None = None


def to_wire(err: MorganError, *, at: str | None = None) -> bytes:
    """``at`` names the host that answers to another one: what is wrong with it is to be mended there."""
    retry_after_s = err.retry_after_s if isinstance(err, NotHereNow | RateLimited) else None
    own = isinstance(err, StorageFull | EngineError) or err.status == MorganError.status
    message = f"On {at}: {err.message}" if at is not None and own else err.message
    return msgspec.msgpack.encode(Failure(err.code, message, err.remedy, retry_after_s))


def from_wire(body: bytes, who: str) -> MorganError:
    """The error to raise. ``who`` names the other side where it did not say what is wrong."""
    try:
        failure = msgspec.msgpack.decode(body, type=Failure)
    except msgspec.MsgspecError:
        return EngineError(f"{who} answered something that is not an answer.")
    cls = _RAISED.get(failure.code, EngineError)
    if issubclass(cls, NotHereNow | RateLimited):
        wait_s = 1.0 if failure.retry_after_s is None else failure.retry_after_s
        return cls(failure.message, remedy=failure.remedy, retry_after_s=wait_s)
    return cls(failure.message, remedy=failure.remedy)
