"""A backend in memory for the API: real storage underneath, an assistant that answers by a script."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from morgand.api import schema as s
from morgand.api.backend import Backend
from morgand.assistant.events import Delta, QueryDone, QueryEvent, Queued, TurnAccepted, TurnDone, TurnEvent
from morgand.base.clock import SystemClock
from morgand.base.errors import ConfigError, Conflict, InvalidInput, MorganError, NotFound
from morgand.config import check_value, setting_fields
from morgand.roles.catalog import NAMES
from morgand.security.keys import KeyRecord, Keys
from morgand.state.assistant import Citation, Document, DocumentState, Passage
from morgand.state.ports import ChatMessage, ChatOptions, History, Library, Upload
from morgand.storage.outbox import KeptMessage, Outbox
from tests.fakes.assistant import HashEmbedder, ScriptedChat, WordReranker

CITATION = Citation(1, str(uuid4()), "Boiler", "page 3", "1.5 bar", str(uuid4()))


class MemoryKeys:
    def __init__(self) -> None:
        self.records: dict[str, KeyRecord] = {}

    def load(self) -> Mapping[str, KeyRecord]:
        return self.records

    async def put(self, record: KeyRecord) -> None:
        self.records[record.id] = record

    async def remove(self, key_id: str) -> None:
        del self.records[key_id]


@dataclass(frozen=True, slots=True)
class Found:
    passages: tuple[Passage, ...]
    notices: tuple[str, ...] = ()


@dataclass
class ScriptedAssistant:
    """Says ``words``; ``fail_after`` raises after so many of them; ``hold`` is waited for before the second."""

    history: History
    words: tuple[str, ...] = ("The pressure ", "is 1.5 bar ", "[1].")
    fail_after: int | None = None
    error: MorganError | None = None
    hold: asyncio.Event | None = None
    away: Outbox | None = None  # where messages go while the database is away
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def turn(
        self, turn_id: str, /, text: str, *, conversation: str | None, answer: bool, documents: bool, user: str | None
    ) -> AsyncGenerator[TurnEvent, None]:
        if self.away is not None:
            now = datetime.now(UTC)
            kept = await self.away.put(KeptMessage(turn_id, text, conversation, answer, documents, user, now))
            yield Queued(turn_id, kept.place, "It waits on atlas.")
            return
        place = conversation or turn_id
        turn = await self.history.store_message(turn_id, place, text, tokens=1, user=user)
        yield TurnAccepted(turn.id, turn.conversation)
        if answer and turn.answer is None:
            async for delta in self._speak():
                yield delta
            turn = await self.history.store_answer(
                turn_id, "".join(self.words), tokens=3, citations=[CITATION], notices=["no reranker"]
            )
        yield TurnDone(turn)

    async def query(self, text: str, *, documents: bool) -> AsyncGenerator[QueryEvent, None]:
        async for delta in self._speak():
            yield delta
        yield QueryDone("".join(self.words), (CITATION,), ())

    async def search(self, text: str, *, limit: int, rerank: bool) -> Found:
        passage = Passage(CITATION.chunk, CITATION.document, "Boiler", "page 3", "The pressure is 1.5 bar.", 0.9)
        return Found((passage,), () if rerank else ("not reranked",))

    def chat_completion(
        self, messages: Sequence[ChatMessage], options: ChatOptions, *, documents: bool
    ) -> AsyncGenerator[QueryEvent, None]:
        return self.query(messages[-1].content, documents=documents)

    async def _speak(self) -> AsyncGenerator[Delta, None]:
        try:
            for index, word in enumerate(self.words):
                if self.error is not None and index == (self.fail_after or 0):
                    raise self.error
                if self.hold is not None and index == 1:
                    await self.hold.wait()
                yield Delta(word)
        finally:
            self.stopped.set()


class MemoryIngestor:
    """Accepts at once; what was taken is kept by its digest."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self.error: MorganError | None = None

    async def accept(self, uploads: Sequence[Upload]) -> list[tuple[Document, bool] | MorganError]:
        return [self.error or await self._accept(one) for one in uploads]

    async def _accept(self, one: Upload) -> tuple[Document, bool]:
        content = await asyncio.to_thread(one.path.read_bytes)
        await asyncio.to_thread(one.path.unlink)
        now = datetime.now(UTC)
        digest = hashlib.sha256(content).hexdigest()
        new = Document(
            str(uuid4()), one.name, one.source, "text/plain", len(content), digest, digest, DocumentState.PENDING,
            now, now, machine=one.machine, machine_name=one.machine_name,
        )  # fmt: skip
        return (await self._library.add_many([new]))[0]

    async def delete(self, document: str) -> Document:
        return await self._library.delete(document)


class OneHost:
    health_status: s.HealthReply = s.HealthReply("ok", {"llm": "ready"})

    async def status(self) -> s.StatusReply:
        quorum = s.QuorumView([s.VoterView("h1", "atlas", healthy=True)], 1, 1, 0)
        cluster = s.ClusterView("c1", "home", "h1", 1, quorum)
        hosts, roles = (await self.hosts()).hosts, (await self.roles()).roles
        return s.StatusReply("0", cluster, hosts, roles, s.DatabaseView("h1", []), {"completed": 1}, [])

    async def hosts(self) -> s.HostsReply:
        usage = s.UsageView(1.0, 100, 0)
        return s.HostsReply([s.HostView("h1", "atlas", "127.0.0.1", "alive", "always", ["llm"], {"ram_mb": 1}, usage)])

    async def roles(self) -> s.RolesReply:
        return s.RolesReply([s.RoleView("llm", "main", "h1", "ready", 1, "the only host")])

    async def explain(self, role: str | None) -> s.ExplainReply:
        if role not in (None, "llm"):
            raise NotFound(f"There is no role '{role}'.")
        return s.ExplainReply([s.PlacementView("llm", "main", "h1", "llama.cpp", "the only host")], [])

    async def plan(self, request: s.PlanRequest) -> s.PlanReply:
        return s.PlanReply([], [], (await self.explain(None)).placements, [])

    def health(self) -> s.HealthReply:
        return self.health_status


class FewMembers:
    """Two hosts, one of which may go."""

    async def invite(self) -> s.InvitationReply:
        return s.InvitationReply("MRGN1-A-B", "7-coral-walnut", "192.0.2.1:7471", "morgand join ...", datetime.now(UTC))

    async def drain(self, host: str, *, on: bool) -> s.HostView:
        if host != "atlas":
            raise NotFound(f"There is no host '{host}'; there are atlas.")
        found = (await OneHost().hosts()).hosts[0]
        found.draining = on
        return found

    async def remove(self, host: str, *, force: bool) -> str:
        await self.drain(host, on=True)
        if not force:
            raise Conflict("atlas is there.", remedy="Drain it first.")
        return "h1"


class OneFinding:
    """A file that others can read, until it is mended."""

    def __init__(self) -> None:
        self.mended = False

    async def look(self, *, mend: bool) -> s.DoctorReply:
        found = s.FindingView(
            "permissions", "On atlas any user can read 1 file ('/d/a').", "Close it.", "h1", "atlas", mendable=True,
            mended=mend,
        )  # fmt: skip
        self.mended, before = self.mended or mend, self.mended
        return s.DoctorReply([] if before else [found], ["atlas"], [])


class MemorySettings:
    def __init__(self) -> None:
        self._views = {
            key: s.SettingView(key, 1, 1, "default", item.metadata["help"], item.metadata["shared"])
            for key, item in setting_fields(NAMES)
        }

    def list(self) -> list[s.SettingView]:
        return list(self._views.values())

    def get(self, key: str) -> s.SettingView:
        if key not in self._views:
            raise NotFound(f"There is no setting '{key}'.")
        return self._views[key]

    async def set(self, key: str, value: Any) -> s.SettingView:
        view = self.get(key)
        if not view.shared:
            raise Conflict(f"{key} is the host's own.")
        try:
            view.value = check_value(key, value, NAMES)
        except ConfigError as err:
            raise InvalidInput(err.message) from err
        return view

    async def delete(self, key: str) -> s.SettingView:
        return self.get(key)


class MemoryLogs:
    async def tail(self, role: str, lines: int) -> list[str]:
        if role != "llm":
            raise NotFound(f"There is no role '{role}'.")
        return ["loaded"][:lines]


def make_backend(history: History, library: Library, spool: Path) -> Backend:
    return Backend(
        assistant=ScriptedAssistant(history),
        ingestor=MemoryIngestor(library),
        history=history,
        library=library,
        chat=ScriptedChat(*["Hello there."] * 10_000),
        embedder=HashEmbedder(),
        reranker=WordReranker(),
        cluster=OneHost(),
        members=FewMembers(),
        doctor=OneFinding(),
        settings=MemorySettings(),
        keys=Keys(MemoryKeys(), SystemClock()),
        logs=MemoryLogs(),
        spool=spool,
        outbox=Outbox(spool.parent, "atlas"),
    )


def with_assistant(backend: Backend, **changes: Any) -> Backend:
    """The backend with an assistant of another script."""
    return replace(backend, assistant=ScriptedAssistant(backend.history, **changes))
