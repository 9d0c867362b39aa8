"""The wire format of ``/v1``: what clients and the daemon agree on, and the source of the OpenAPI file.

The command line imports this module and nothing else of the daemon. Requests refuse unknown fields.
Times are RFC 3339 in UTC; ids are UUIDs.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

Text = Annotated[str, Meta(min_length=1, max_length=200_000)]
Name = Annotated[str, Meta(min_length=1, max_length=255)]


class Request(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what clients send."""


class Reply(Struct):
    """Base of what the daemon answers."""


# --- errors ------------------------------------------------------------------------------------


class ErrorBody(Reply):
    code: str
    message: str
    remedy: str | None = None


class ErrorReply(Reply):
    error: ErrorBody


# --- query strings -------------------------------------------------------------------------------


class Page(Request):
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0


class MessagesPage(Request):
    after: UUID | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


class DocumentsPage(Request):
    state: Literal["pending", "processing", "completed", "failed"] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    offset: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0


class ExplainQuery(Request):
    role: Name | None = None


class LogQuery(Request):
    lines: Annotated[int, Meta(ge=1, le=10_000)] = 100


# --- turns and conversations ---------------------------------------------------------------------


class TurnRequest(Request):
    """One message. The same ``id`` again returns the stored result and stores nothing twice."""

    id: UUID
    text: Text
    conversation: UUID | None = None
    answer: bool = True
    stream: bool = False
    documents: bool = True
    user: Name | None = None


class CitationView(Reply):
    number: int
    document: str
    title: str
    place: str
    quote: str
    chunk: str


class TurnReply(Reply):
    id: str
    conversation: str
    answer: str | None = None
    citations: list[CitationView] = []
    notices: list[str] = []


class QueuedReply(Reply):
    """The database cannot be reached: the message is kept durably on the host that was asked, which sends it later.

    In a stream it is the event ``queued``, and the last one. The same ``id`` again answers the same until the message
    is stored, and the stored result from then on.
    """

    id: str
    conversation: str
    message: str  # for the person
    queued: bool = True


class KeptView(Reply):
    """A message that waits on this host, or that the database refused for good (with the reason)."""

    id: str
    conversation: str
    text: str
    created: datetime
    state: Literal["waiting", "refused"]
    reason: str | None = None


class OutboxReply(Reply):
    host: str
    messages: list[KeptView]


class MessageView(Reply):
    id: str
    role: Literal["user", "assistant", "system"]
    text: str
    created: datetime
    citations: list[CitationView] = []
    notices: list[str] = []


class MessagesReply(Reply):
    conversation: str
    messages: list[MessageView]


class ConversationView(Reply):
    id: str
    title: str
    created: datetime
    updated: datetime
    messages: int
    user: str | None = None
    summary: str | None = None


class ConversationsReply(Reply):
    conversations: list[ConversationView]


class Deleted(Reply):
    deleted: str


class QueryRequest(Request):
    """One question without history; nothing is stored."""

    text: Text
    documents: bool = True
    stream: bool = False


class QueryReply(Reply):
    answer: str
    citations: list[CitationView] = []
    notices: list[str] = []


# --- search and documents ------------------------------------------------------------------------


class SearchRequest(Request):
    text: Text
    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    rerank: bool = True


class PassageView(Reply):
    document: str
    title: str
    place: str
    score: float
    text: str
    chunk: str
    quote: str | None = None


class SearchReply(Reply):
    passages: list[PassageView]
    notices: list[str] = []


class DocumentView(Reply):
    id: str
    name: str
    source: str
    mime: str
    size_bytes: int
    sha256: str
    state: Literal["pending", "processing", "completed", "failed"]
    created: datetime
    updated: datetime
    chunks: int
    embeddings: int
    title: str | None = None
    error: str | None = None
    machine: str = ""  # where it came from: the machine's stable id, ``key:ID`` of an API key, or nothing
    machine_name: str = ""
    replaced: datetime | None = None  # since when this is an earlier version


class DocumentsReply(Reply):
    documents: list[DocumentView]


class UploadResult(Reply):
    """One file of an upload. ``result``: accepted (will be processed), unchanged (already there), refused."""

    name: str
    result: Literal["accepted", "unchanged", "refused"]
    document: DocumentView | None = None
    error: ErrorBody | None = None


class UploadReply(Reply):
    results: list[UploadResult]


# --- feedback ------------------------------------------------------------------------------------


class FeedbackRequest(Request):
    """At least one of rating and comment. Without a conversation the latest one is meant. The same id again stores
    nothing twice."""

    id: UUID | None = None
    conversation: UUID | None = None
    message: UUID | None = None
    rating: Annotated[int, Meta(ge=1, le=5)] | None = None
    comment: Annotated[str, Meta(min_length=1, max_length=10_000)] | None = None
    kind: Literal["rating", "correction", "preference"] = "rating"


class FeedbackReply(Reply):
    id: str
    conversation: str


# --- status --------------------------------------------------------------------------------------


class VoterView(Reply):
    id: str
    name: str
    healthy: bool


class QuorumView(Reply):
    voters: list[VoterView]
    needed: int
    healthy: int
    tolerates: int


class ClusterView(Reply):
    id: str
    name: str
    leader: str | None
    epoch: int
    quorum: QuorumView


class UsageView(Reply):
    cpu_pct: float
    ram_mb: int
    vram_mb: int


class HostView(Reply):
    id: str
    name: str
    address: str
    state: Literal["alive", "suspect", "fenced", "left"]
    duty: Literal["always", "sometimes"]
    roles: list[str]
    profile: dict[str, Any]
    usage: UsageView
    draining: bool = False
    labels: list[str] = []
    api_port: int = 0  # 0: the API is off, or not told yet
    witness: bool = False  # it votes and does nothing else
    display_name: str = ""  # what people read: the name, and letters of the id where another host has it too


class HostsReply(Reply):
    hosts: list[HostView]


class RemoveQuery(Request):
    force: bool = False  # although it is there, or the only one that has some data


class InvitationReply(Reply):
    """How another machine joins: the command for a terminal, or the code for a person. Shown once."""

    token: str
    code: str
    address: str
    command: str
    expires: datetime


class RoleView(Reply):
    role: str
    part: str
    host: str
    state: Literal["starting", "ready", "failed", "stopping"]
    epoch: int
    why: str
    model: str | None = None
    detail: str | None = None
    host_name: str = ""  # what people read; of an older daemon it is empty


class RolesReply(Reply):
    roles: list[RoleView]


class StandbyView(Reply):
    """``sync``: nothing is acknowledged that is not here too. ``lag_bytes``: what it was behind a moment ago."""

    host: str
    sync: bool
    lag_bytes: int | None


class DatabaseView(Reply):
    primary: str | None
    standbys: list[StandbyView]
    engine: str | None = None


class StatusReply(Reply):
    version: str
    cluster: ClusterView
    hosts: list[HostView]
    roles: list[RoleView]
    database: DatabaseView
    documents: dict[str, int]  # documents per state
    warnings: list[str]


class DoctorRequest(Request):
    """Look through the cluster; ``mend``: and repair what is safe to repair."""

    mend: bool = False


class FindingView(Reply):
    """One thing that is wrong. ``host``: the id of the host that it is wrong with. ``mended``: it was repaired now."""

    kind: str
    text: str
    remedy: str
    host: str | None = None
    host_name: str = ""
    mendable: bool = False
    mended: bool = False


class DoctorReply(Reply):
    """``examined``: the hosts that looked through themselves. ``skipped``: what could not be looked at, and why."""

    findings: list[FindingView]
    examined: list[str]
    skipped: list[str]


class RefusalView(Reply):
    role: str
    part: str
    host: str | None
    reason: str
    host_name: str = ""


class PlacementView(Reply):
    role: str
    part: str
    host: str
    engine: str
    why: str
    model: str | None = None
    host_name: str = ""


class ExplainReply(Reply):
    """Why roles are where they are, and why other hosts were passed over."""

    placements: list[PlacementView]
    refusals: list[RefusalView]


class PlanRequest(Request):
    """What would happen: without some hosts, or with hosts added (each a profile override)."""

    without: list[Name] = []
    with_profiles: list[dict[str, Any]] = []


class PlanReply(Reply):
    added: list[PlacementView]
    removed: list[PlacementView]
    placements: list[PlacementView]
    refusals: list[RefusalView]


# --- configuration, keys, logs, health ------------------------------------------------------------


class SettingView(Reply):
    key: str
    value: Any
    default: Any
    source: Literal["default", "file", "environment", "command line", "cluster"]
    help: str
    shared: bool  # can be set for the whole cluster while it runs


class SettingsReply(Reply):
    settings: list[SettingView]


class SettingRequest(Request):
    value: str | int | float | bool | list[str]


class KeyRequest(Request):
    owner: Name
    expires_days: Annotated[int, Meta(ge=1, le=3650)] | None = None


class KeyView(Reply):
    id: str
    owner: str
    created: datetime
    expires: datetime | None
    key: str | UnsetType = UNSET  # only in the answer that creates it


class KeysReply(Reply):
    keys: list[KeyView]


class LogReply(Reply):
    role: str
    lines: list[str]


class HealthReply(Reply):
    """``ready`` is false while a role that answering needs is not there; ``roles`` says which."""

    status: Literal["ok", "degraded", "starting"]
    roles: dict[str, str]
