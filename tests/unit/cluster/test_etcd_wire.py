"""What is said to etcd: a transaction that is sent many times is decided once, whatever gets lost or comes late."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morgand.base.errors import Conflict, InvalidInput, MorganError, StorageFull
from morgand.cluster import etcd_wire as wire
from morgand.cluster.etcd_wire import Decided, Gap, Txn, Undecided, Unreached
from morgand.cluster.store import Put, QuietSince, Unchanged

MARKER = "txn/h/0"
EVENTS = ("answered", "answer lost", "late", "somebody writes", "late ones arrive")


class Etcd:
    """As much of etcd as one transaction needs: keys with the revision that wrote them."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[bytes, int]] = {}
        self.revision = 1

    def put(self, key: str, value: bytes) -> None:
        self.revision += 1
        self.keys[key] = (value, self.revision)

    def apply(self, body: dict[str, Any]) -> Txn:
        before = self.revision
        answer = self._apply(body, before + 1)
        self.revision = before + any(mod > before for _, mod in self.keys.values())
        return wire.decode(Txn, json.dumps({**answer, "header": {"revision": str(self.revision)}}).encode())

    def _apply(self, body: dict[str, Any], revision: int) -> dict[str, Any]:
        holds = all(self._holds(one) for one in body["compare"])
        responses: list[dict[str, Any]] = []
        for operation in body["success" if holds else "failure"]:
            ((kind, what),) = operation.items()
            if kind == "request_txn":
                responses.append({"response_txn": self._apply(what, revision)})
                continue
            key = base64.b64decode(what["key"]).decode()
            if kind == "request_put":
                self.keys[key] = (base64.b64decode(what["value"]), revision)
                responses.append({"response_put": {}})
            else:
                found = []
                if key in self.keys:
                    value, mod = self.keys[key]
                    found.append({"key": what["key"], "value": wire.b64(value), "mod_revision": str(mod)})
                responses.append({"response_range": {"kvs": found}})
        return {"succeeded": holds, "responses": responses}

    def _holds(self, one: dict[str, str]) -> bool:
        key, revision = base64.b64decode(one["key"]).decode(), int(one["mod_revision"])
        if one["result"] == "EQUAL":
            return self.keys.get(key, (b"", 0))[1] == revision
        end = base64.b64decode(one["range_end"]).decode()
        return all(mod < revision for name, (_, mod) in self.keys.items() if key <= name < end)


@settings(max_examples=300, deadline=None)
@given(
    stale=st.booleans(),
    network=st.lists(st.sampled_from(EVENTS), max_size=12),
)
def test_a_transaction_is_decided_once(stale: bool, network: list[str]) -> None:
    """Copies are answered, lost on the way back, or come late, between others' writes to the key it compares."""
    etcd = Etcd()
    etcd.put("/count", b"0")
    seen = etcd.revision - stale
    known, late, applied = 0, list[dict[str, Any]](), 0
    outcome: Decided | None = None

    def deliver(body: dict[str, Any]) -> Txn:
        nonlocal applied
        before = etcd.keys["/count"]
        answer = etcd.apply(body)
        applied += etcd.keys["/count"] != before
        return answer

    for event in network:
        puts, compares = [Put("/count", b"1")], [Unchanged("/count", seen)]
        body = wire.txn(MARKER, known, "n1", compares=compares, puts=puts, deletes=[])
        if event == "somebody writes":
            etcd.put("/count", b"other")
        elif event == "late ones arrive":
            for one in late:
                deliver(one)
        elif outcome is not None:
            continue  # what is decided is not sent again
        elif event == "late":
            late.append(body)
        else:
            found = wire.decided(deliver(body), "n1")
            if event == "answered":
                known = found.marker
                outcome = found if isinstance(found, Decided) else None
    for one in late:
        deliver(one)
    assert applied <= 1
    if outcome is not None:
        assert (outcome.revision is not None) == (applied == 1)
        assert etcd.keys[MARKER] == (b"yes n1" if applied else b"no n1", outcome.marker)


def test_a_marker_of_an_earlier_life_is_followed() -> None:
    etcd = Etcd()
    etcd.put(MARKER, b"yes n0")
    body = wire.txn(MARKER, 0, "n1", compares=[QuietSince("/a", 0)], puts=[Put("/a", b"1")], deletes=[])
    first = wire.decided(etcd.apply(body), "n1")
    assert first == Undecided(2)
    body = wire.txn(MARKER, first.marker, "n1", compares=[QuietSince("/a", 0)], puts=[Put("/a", b"1")], deletes=[])
    assert wire.decided(etcd.apply(body), "n1") == Decided(3, 3)
    assert wire.decided(etcd.apply(body), "n1") == Decided(3, 3)


def test_a_key_is_written_once_in_a_transaction() -> None:
    """etcd refuses a transaction that names a key twice."""
    body = wire.txn(
        MARKER, 0, "n", compares=[], puts=[Put("/a", b"1"), Put("/a", b"2")], deletes=["/a", "/b", "/b"]
    )  # fmt: skip
    operations = body["success"][0]["request_txn"]["success"]
    keys = [base64.b64decode(next(iter(one.values()))["key"]).decode() for one in operations]
    assert keys == ["/a", "/b", MARKER]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, {"code": 14, "message": "etcdserver: request timed out"}, Unreached),
        (503, {"code": 14, "message": "etcdserver: rpc not supported for learner"}, Unreached),
        (429, {"code": 8, "message": "etcdserver: mvcc: database space exceeded"}, StorageFull),
        (429, {"code": 8, "message": "etcdserver: too many requests"}, Unreached),
        (400, {"code": 3, "message": "etcdserver: too many operations in txn request"}, InvalidInput),
        (412, {"code": 9, "message": "etcdserver: not leader"}, Conflict),
        (400, {"code": 11, "message": "etcdserver: mvcc: required revision has been compacted"}, Gap),
    ],
)
def test_errors_tell_if_another_voter_may_do_better(status: int, body: dict[str, Any], kind: type[MorganError]) -> None:
    assert type(wire.fault(status, json.dumps(body).encode())) is kind


def test_what_is_no_etcd_is_unreached() -> None:
    assert isinstance(wire.fault(404, b"404 page not found\n"), Unreached)
    with pytest.raises(Unreached):
        wire.decode(Txn, b"<html>")


def test_a_span_holds_all_keys_of_a_prefix() -> None:
    span = {name: base64.b64decode(text) for name, text in wire.span("/hosts/").items()}
    assert span == {"key": b"/hosts/", "range_end": b"/hosts0"}
