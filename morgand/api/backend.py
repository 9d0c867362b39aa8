"""What the handlers call, as Protocols: the daemon fills them, tests fill them with fakes.

The assistant speaks values of ``state``; the cluster's view speaks the wire schema, since nothing else needs it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from morgand.api.schema import (
    DoctorReply,
    ExplainReply,
    HealthReply,
    HostsReply,
    HostView,
    InvitationReply,
    PlanReply,
    PlanRequest,
    RolesReply,
    SettingView,
    StatusReply,
)
from morgand.assistant.events import QueryEvent, TurnEvent
from morgand.base.errors import MorganError
from morgand.security.keys import Keys
from morgand.state.assistant import Document, Passage
from morgand.state.ports import Chat, ChatMessage, ChatOptions, Embedder, History, Library, Reranker, Upload
from morgand.storage.outbox import KeptMessage, OutboxEntry


class SearchResult(Protocol):
    """Ranked passages, best first, and what could not be done on the way."""

    @property
    def passages(self) -> Sequence[Passage]: ...

    @property
    def notices(self) -> Sequence[str]: ...


class AssistantApi(Protocol):
    def turn(
        self, turn_id: str, /, text: str, *, conversation: str | None, answer: bool, documents: bool, user: str | None
    ) -> AsyncIterator[TurnEvent]: ...

    def query(self, text: str, *, documents: bool) -> AsyncIterator[QueryEvent]: ...

    async def search(self, text: str, *, limit: int, rerank: bool) -> SearchResult: ...

    def chat_completion(
        self, messages: Sequence[ChatMessage], options: ChatOptions, *, documents: bool
    ) -> AsyncIterator[QueryEvent]: ...


class OutboxApi(Protocol):
    """The messages that this host keeps while the database cannot be reached."""

    @property
    def host(self) -> str:
        """Its name."""
        ...

    def find(self, turn: str) -> OutboxEntry | None:
        """A message that waits, and is not stored yet."""
        ...

    def all(self) -> list[OutboxEntry]:
        """Those that wait and those that were refused, oldest first."""
        ...

    async def read(self, entry: OutboxEntry) -> KeptMessage:
        """Raises Damaged."""
        ...

    async def discard(self, turn: str) -> None:
        """Remove a message that was refused. Raises NotFound, Conflict while it waits."""
        ...


class IngestorApi(Protocol):
    async def accept(self, uploads: Sequence[Upload]) -> Sequence[tuple[Document, bool] | MorganError]:
        """Take over spooled uploads; False: the same content of this source is there already.

        A refusal is InvalidInput, Unsupported, TooLarge, Overloaded or StorageFull.
        """
        ...

    async def delete(self, document: str) -> Document: ...


class ClusterApi(Protocol):
    async def status(self) -> StatusReply: ...

    async def hosts(self) -> HostsReply: ...

    async def roles(self) -> RolesReply: ...

    async def explain(self, role: str | None) -> ExplainReply: ...

    async def plan(self, request: PlanRequest) -> PlanReply: ...

    def health(self) -> HealthReply: ...


class HostsApi(Protocol):
    """What changes who belongs to the cluster. A host is named by its name or id; NotFound names those there are."""

    async def invite(self) -> InvitationReply:
        """Found the cluster if this host is still alone, and make an invitation."""
        ...

    async def drain(self, host: str, *, on: bool) -> HostView:
        """Move everything off a host that can be elsewhere (or let it have roles again)."""
        ...

    async def remove(self, host: str, *, force: bool) -> str:
        """End a host's membership for good and return its id. Raises Conflict, with the remedy."""
        ...


class DoctorApi(Protocol):
    async def look(self, *, mend: bool) -> DoctorReply:
        """Look through all hosts and stores; some seconds."""
        ...


class SettingsApi(Protocol):
    def list(self) -> list[SettingView]: ...

    def get(self, key: str) -> SettingView:
        """Raises NotFound with the nearest known key."""
        ...

    async def set(self, key: str, value: Any) -> SettingView:
        """Raises InvalidInput or ConfigError."""
        ...

    async def delete(self, key: str) -> SettingView: ...


class LogsApi(Protocol):
    async def tail(self, role: str, lines: int) -> list[str]:
        """The last lines of a role's engine log. Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """All of it together. ``spool`` is a folder in the data directory where uploads wait for the ingestor."""

    assistant: AssistantApi
    ingestor: IngestorApi
    history: History
    library: Library
    chat: Chat
    embedder: Embedder
    reranker: Reranker
    cluster: ClusterApi
    members: HostsApi
    doctor: DoctorApi
    settings: SettingsApi
    keys: Keys
    logs: LogsApi
    spool: Path
    outbox: OutboxApi
