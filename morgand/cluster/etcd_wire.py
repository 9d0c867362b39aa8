"""What is said to etcd's JSON gateway and what it answers: bytes are base64, integers are text. Pure.

Source: etcd 3.4, Documentation/dev-guide/api_reference_v3.md and api_grpc_gateway.md.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from morgand.base.errors import Conflict, InvalidInput, MorganError, NotFound, StorageFull, Unavailable
from morgand.cluster.store import Change, Changes, Compare, Item, Put, QuietSince, Unchanged

T = TypeVar("T")

INVALID, NOT_FOUND, EXHAUSTED, PRECONDITION, OUT_OF_RANGE = 3, 5, 8, 9, 11  # gRPC status codes
PAGE = 500  # keys in one answer of a list: the gateway refuses answers above 4 MiB


class Unreached(Unavailable):
    """This voter could not answer; another one may."""


class Gap(MorganError):
    """The history that was asked for is no longer there."""


class Header(msgspec.Struct, frozen=True):
    revision: int = 0
    member_id: int = 0
    cluster_id: int = 0


class Kv(msgspec.Struct, frozen=True):
    key: bytes
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0


class Ranged(msgspec.Struct, frozen=True):
    header: Header = Header()
    kvs: tuple[Kv, ...] = ()
    more: bool = False


class TxnAnswer(msgspec.Struct, frozen=True):
    """One operation's answer inside a transaction."""

    response_txn: Txn | None = None
    response_range: Ranged | None = None


class Txn(msgspec.Struct, frozen=True):
    header: Header = Header()
    succeeded: bool = False
    responses: tuple[TxnAnswer, ...] = ()


class WatchEvent(msgspec.Struct, frozen=True):
    kv: Kv
    type: str = "PUT"


class Watched(msgspec.Struct, frozen=True):
    header: Header = Header()
    created: bool = False
    canceled: bool = False
    events: tuple[WatchEvent, ...] = ()


class Line(msgspec.Struct, frozen=True):
    """One line of a watch."""

    result: Watched | None = None
    error: Any = None


_MEMBER = {"id": "ID", "peer_urls": "peerURLs", "client_urls": "clientURLs", "learner": "isLearner"}


class EtcdMember(msgspec.Struct, frozen=True, rename=_MEMBER):
    """A member of etcd's own cluster; it has a name only after it was started once."""

    id: int
    name: str = ""
    peer_urls: tuple[str, ...] = ()
    client_urls: tuple[str, ...] = ()
    learner: bool = False


class MemberList(msgspec.Struct, frozen=True):
    members: tuple[EtcdMember, ...] = ()
    member: EtcdMember | None = None


class EtcdStatus(msgspec.Struct, frozen=True, rename={"applied": "raftAppliedIndex", "term": "raftTerm"}):
    """How a member stands: ``leader`` is 0 when it knows none; ``applied`` counts raft entries, ``term`` elections."""

    header: Header = Header()
    leader: int = 0
    applied: int = 0
    term: int = 0
    version: str = ""


class Nothing(msgspec.Struct, frozen=True):
    """An answer without content."""


class _Fault(msgspec.Struct, frozen=True):
    message: str = ""
    code: int = 0


def decode(kind: type[T], body: bytes) -> T:
    """Raises Unreached for what no etcd says."""
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except msgspec.MsgspecError as err:
        raise Unreached(f"The answer cannot be read: {err}.") from err


def fault(status: int, body: bytes) -> MorganError:
    """An answer that is no success, as an error; Unreached when another voter may do better."""
    try:
        found = msgspec.json.decode(body, type=_Fault, strict=False)
    except msgspec.MsgspecError:
        return Unreached(f"It answered {status}.")
    if found.code == EXHAUSTED and "space" in found.message:
        return StorageFull(
            "The cluster store has reached its size limit.", remedy="Free disk space on the voters, then compact etcd."
        )
    kinds = {INVALID: InvalidInput, NOT_FOUND: NotFound, PRECONDITION: Conflict, OUT_OF_RANGE: Gap}
    return kinds.get(found.code, Unreached)(f"{found.message}.")


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def span(prefix: str) -> dict[str, str]:
    """All keys that begin with the prefix (not empty)."""
    first = prefix.encode()
    return {"key": b64(first), "range_end": b64(first[:-1] + bytes([first[-1] + 1]))}


def page(prefix: str, after: bytes | None, revision: int) -> dict[str, Any]:
    """Up to PAGE keys after ``after``, as they stood at ``revision`` (0: now)."""
    body: dict[str, Any] = {**span(prefix), "limit": str(PAGE), "revision": str(revision)}
    if after is not None:
        body["key"] = b64(after + b"\0")
    return body


def watch(prefix: str, from_revision: int) -> dict[str, Any]:
    return {"create_request": {**span(prefix), "start_revision": str(from_revision + 1)}}


def item(kv: Kv) -> Item:
    return Item(kv.key.decode(), kv.value, kv.create_revision, kv.mod_revision)


def changes(watched: Watched) -> Changes:
    """The events of one answer; etcd never splits a revision over two answers."""
    found = tuple(Change(one.kv.key.decode(), None if one.type == "DELETE" else item(one.kv)) for one in watched.events)
    return Changes(max(one.kv.mod_revision for one in watched.events), found)


# --- transactions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a transaction: its revision, or None when a compare did not hold. ``marker`` as it stands now."""

    revision: int | None
    marker: int


@dataclass(frozen=True, slots=True)
class Undecided:
    """The marker stands at another revision and not for this transaction: it was not applied at the one given."""

    marker: int


def txn(
    marker: str,
    known: int,
    nonce: str,
    *,
    compares: Sequence[Compare],
    puts: Sequence[Put],
    deletes: Sequence[str],
) -> dict[str, Any]:
    """A transaction that can be sent any number of times and is decided at most once.

    ``marker`` is a key of its own that was last written at ``known``. Whichever copy of the request is applied first
    writes the decision there, under ``nonce``; every later copy finds the marker moved and only reads it. So a request
    without an answer can be sent again, to another voter too, and a copy still on its way can never do harm.
    """
    values = {put.key: put.value for put in puts}
    changes = [{"request_put": {"key": b64(key), "value": b64(value)}} for key, value in values.items()]
    changes += [{"request_delete_range": {"key": b64(key)}} for key in dict.fromkeys(deletes) if key not in values]
    decision = {
        "compare": [_compare(one) for one in compares],
        "success": [*changes, _mark(marker, f"yes {nonce}")],
        "failure": [_mark(marker, f"no {nonce}")],
    }
    return {
        "compare": [_compare(Unchanged(marker, known))],
        "success": [{"request_txn": decision}],
        "failure": [{"request_range": {"key": b64(marker)}}],
    }


def decided(answer: Txn, nonce: str) -> Decided | Undecided:
    """Read the answer to ``txn``."""
    first = answer.responses[0] if answer.responses else TxnAnswer()
    if answer.succeeded and first.response_txn is not None:
        held = first.response_txn.succeeded
        return Decided(answer.header.revision if held else None, answer.header.revision)
    kvs = first.response_range.kvs if first.response_range is not None else ()
    if not kvs:
        return Undecided(0)
    if kvs[0].value == f"yes {nonce}".encode():
        return Decided(kvs[0].mod_revision, kvs[0].mod_revision)
    if kvs[0].value == f"no {nonce}".encode():
        return Decided(None, kvs[0].mod_revision)
    return Undecided(kvs[0].mod_revision)


def _mark(marker: str, text: str) -> dict[str, Any]:
    return {"request_put": {"key": b64(marker), "value": b64(text)}}


def _compare(one: Compare) -> dict[str, str]:
    if isinstance(one, Unchanged):  # a key that does not exist has modification revision 0
        return {"key": b64(one.key), "target": "MOD", "result": "EQUAL", "mod_revision": str(one.mod_revision)}
    assert isinstance(one, QuietSince)
    return {**span(one.prefix), "target": "MOD", "result": "LESS", "mod_revision": str(one.revision + 1)}
