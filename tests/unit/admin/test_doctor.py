"""The doctor over fake stores and hosts: what is asked of whom, and what is said when somebody does not answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from morgand.admin import doctor
from morgand.admin.doctor import Doctor, Stores
from morgand.api.schema import ClusterView, DatabaseView, QuorumView, StatusReply
from morgand.base.errors import InvalidInput, MorganError, Unavailable
from morgand.cluster.codec import HostRecord
from morgand.peers.route import Holder
from morgand.state.assistant import Document, DocumentState
from morgand.state.findings import Examination, FindingKind
from tests.fakes.storage import HandClock

NOW = HandClock().now()
WELL = Examination("1.0", NOW)


@dataclass
class Shelf:
    """Documents, objects and index at once; ``error`` is raised instead of saying anything."""

    documents_: list[Document] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    points: dict[str, int] = field(default_factory=dict)
    error: MorganError | None = None

    async def documents(
        self, *, state: DocumentState | None = None, limit: int, offset: int, earlier: bool = False
    ) -> list[Document]:
        found = [one for one in self.documents_ if earlier or not one.replaced]
        return found[offset : offset + limit]

    async def live(self) -> dict[str, int]:
        return {one.id: 1 for one in self.documents_ if not one.replaced}

    async def keys(self) -> list[str]:
        if self.error is not None:
            raise self.error
        return self.objects

    async def counts(self) -> dict[str, int]:
        return self.points


@dataclass
class Hosts:
    """Two hosts; the second is asked over the wire, and has the main part of core."""

    answer: Examination | MorganError | None = WELL
    asked: list[tuple[str, str, tuple[object, ...]]] = field(default_factory=list)
    me: str = "h1"

    def hosts(self) -> dict[str, HostRecord]:
        return {"h1": HostRecord("h1", "atlas", "", peer="a:1"), "h2": HostRecord("h2", "bolt", "", peer="b:1")}

    def names(self) -> dict[str, str]:
        return {"h1": "atlas", "h2": "bolt"}

    def address_of(self, host: str) -> str:
        return self.hosts()[host].peer

    def holders(self, role: str) -> list[Holder]:
        assert role == "core"
        return [Holder("h1", "standby", 3, ready=True), Holder("h2", "main", 3, ready=True)]

    async def call(self, host: str, port: str, signature: Any, arguments: bytes, *, epoch: int) -> Any:
        assert (host, port, epoch) == ("h2", doctor.PORT, 0)
        self.asked.append((host, signature.method, (arguments,)))
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, MorganError):
            raise self.answer
        return self.answer if signature.method == "examine" else None

    # this host's own examiner

    async def examine(self, hosts: list[str]) -> Examination:
        self.asked.append((self.me, "examine", tuple(hosts)))
        return WELL

    async def mend(self, kind: FindingKind) -> None:
        self.asked.append((self.me, "mend", (kind,)))


async def status() -> StatusReply:
    quorum = QuorumView(voters=[], needed=1, healthy=1, tolerates=0)
    cluster = ClusterView(id="c", name="home", leader=None, epoch=1, quorum=quorum)
    return StatusReply(
        "1.0", cluster, [], [], DatabaseView(primary=None, engine="postgresql", standbys=[]), {}, ["It is so."]
    )


def make(hosts: Hosts, shelf: Shelf) -> Doctor:
    fakes: Any = (hosts, shelf)
    stores = Stores(fakes[1], fakes[1], fakes[1])
    return Doctor(
        fakes[0], directory=fakes[0], client=lambda: fakes[0], stores=stores, status=status, keys=list,
        clock=HandClock(),
    )  # fmt: skip


def document(name: str) -> Document:
    return Document(name, name, f"/{name}", "text/plain", 1, "0" * 64, f"key-{name}", DocumentState.COMPLETED, NOW, NOW)


async def test_every_host_is_asked_whether_it_reaches_the_others() -> None:
    hosts = Hosts()
    reply = await make(hosts, Shelf()).look(mend=False)
    assert sorted(reply.examined) == ["atlas", "bolt"]
    assert ("h1", "examine", ("h2",)) in hosts.asked
    assert [(one.kind, one.text) for one in reply.findings] == [("status", "It is so.")]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Unavailable("Host bolt cannot be reached."), "bolt could not be looked through: Host bolt cannot be reached."),
        (
            InvalidInput("There is no port."),
            "bolt could not be looked through: its morgand is older and has no doctor.",
        ),
        (None, "bolt could not be looked through: it has not answered within"),
    ],
)
async def test_a_host_that_does_not_answer_is_a_finding(
    answer: MorganError | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "EXAMINED_S", 0.05)
    reply = await make(Hosts(answer), Shelf()).look(mend=False)
    assert reply.examined == ["atlas"]
    assert next(one.text for one in reply.findings if one.kind == "host").startswith(words)


async def test_stores_that_are_away_are_left_out_and_said_so() -> None:
    shelf = Shelf([document("a")], points={"a": 1}, error=Unavailable("Host bolt is away."))
    reply = await make(Hosts(), shelf).look(mend=False)
    assert reply.skipped == ["Of originals nothing could be seen: Host bolt is away."]
    assert {one.kind for one in reply.findings} == {"status"}


async def test_an_index_that_lacks_something_is_mended_where_documents_are_processed() -> None:
    """That host alone knows what is on its way into the index."""
    hosts = Hosts()
    reply = await make(hosts, Shelf([document("a")], ["key-a"], {})).look(mend=True)
    assert [(one.text, one.mended) for one in reply.findings if one.kind == "index"] == [
        ("The index lacks 1 document.", True)
    ]
    assert [(host, method) for host, method, _ in hosts.asked if method == "mend"] == [("h2", "mend")]


async def test_the_original_of_an_earlier_version_is_no_orphan() -> None:
    """It is in no list of documents, and one that is missing is missed."""
    shelf = Shelf([document("a"), replace(document("b"), replaced=NOW)], ["key-a", "key-b"], {"a": 1})
    assert {one.kind for one in (await make(Hosts(), shelf).look(mend=False)).findings} == {"status"}


async def test_nothing_is_mended_unasked() -> None:
    hosts = Hosts()
    reply = await make(hosts, Shelf([document("a")], ["key-a", "orphan"], {})).look(mend=False)
    assert {one.kind for one in reply.findings} == {"status", "index", "orphans"}
    assert not any(one.mended for one in reply.findings)
    assert not any(method == "mend" for _, method, _ in hosts.asked)


async def test_what_could_not_be_mended_is_not_told_to_be() -> None:
    hosts = Hosts()
    made = make(hosts, Shelf([document("a")], ["key-a"], {}))
    hosts.answer = Unavailable("It is away.")
    reply = await made.look(mend=True)
    assert not any(one.mended for one in reply.findings)
    assert "Not mended: It is away." in reply.skipped
