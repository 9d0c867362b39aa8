"""The ``/v1`` API from memory: a real aiohttp server on a Unix socket, in a thread of its own.

Faults are queued: ``fail_next`` answers with an error, ``drop_next`` closes the connection;
``stall_after`` holds answers back.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import BodyPartReader, web

from morgand.api import schema as s

WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
CITATION = s.CitationView(1, "d1", "Boiler manual", "page 3", "every spring", "c1")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Upload:
    source: str
    name: str
    content: bytes
    machine: str = ""
    machine_name: str = ""


@dataclass
class FakeApi:
    """Start with ``start``, look at ``uploads``, ``turns`` and ``requests`` afterwards."""

    socket: Path
    pieces: tuple[str, ...] = ("Every ", "spring", " [1].")
    uploads: list[Upload] = field(default_factory=list)
    turns: list[s.TurnRequest] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    authorizations: set[str] = field(default_factory=set)
    documents: dict[str, s.DocumentView] = field(default_factory=dict)
    conversations: dict[str, s.ConversationView] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=lambda: {"llm.temperature": 0.0})
    keys: dict[str, s.KeyView] = field(default_factory=dict)
    faults: deque[tuple[str, Callable[[], web.Response] | None]] = field(default_factory=deque)
    stalled: threading.Event = field(default_factory=threading.Event)
    stall_after: int | None = None  # pieces sent before the answer hangs
    break_after: int | None = None  # pieces sent before the connection breaks, once
    keeping: bool = False  # the database is away: turns are kept
    outbox: list[s.KeptView] = field(default_factory=list)
    well: bool = False  # the doctor finds nothing
    stale: bool = False  # what is read comes from a copy of the database

    def start(self) -> None:
        """Serve until ``stop``; can be called again after it."""
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)

    def stop(self) -> None:
        """Break all connections and stop listening."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def fail_next(
        self, status: int, *, path: str = "/v1", code: str = "unavailable", retry_after: int | None = None
    ) -> None:
        """The next request whose path starts with ``path`` gets this error."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        body = msgspec.json.encode(s.ErrorReply(s.ErrorBody(code, f"It is {code}.", "Wait.")))
        self.faults.append((path, lambda: web.Response(status=status, body=body, headers=headers)))

    def drop_next(self, *, path: str = "/v1") -> None:
        """The next request whose path starts with ``path`` loses its connection."""
        self.faults.append((path, None))

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._until_stopped(ready))
        self._loop.close()

    async def _until_stopped(self, ready: threading.Event) -> None:
        self._stopping = asyncio.Event()
        self.socket.unlink(missing_ok=True)
        runner = web.AppRunner(self._app(), shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.UnixSite(runner, str(self.socket)).start()
        ready.set()
        await self._stopping.wait()
        await runner.cleanup()
        self.socket.unlink(missing_ok=True)

    def _app(self) -> web.Application:
        @web.middleware
        async def faults(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.requests.append(f"{request.method} {request.path}")
            self.authorizations.add(request.headers.get("Authorization", ""))
            if self.faults and request.path.startswith(self.faults[0][0]):
                _, make = self.faults.popleft()
                if make is None:
                    assert request.transport is not None
                    request.transport.abort()
                    raise ConnectionResetError("dropped on purpose")
                return make()
            response = await handler(request)
            if self.stale and request.method == "GET":
                response.headers["X-Morgan-Stale"] = "true"
            return response

        app = web.Application(middlewares=[faults], client_max_size=1 << 30)
        route = app.router.add_route
        route("GET", "/health/live", self._live)
        route("POST", "/v1/turns", self._turn)
        route("POST", "/v1/query", self._query)
        route("POST", "/v1/search", self._search)
        route("GET", "/v1/conversations", self._conversations)
        route("*", "/v1/conversations/{id}", self._conversation)
        route("GET", "/v1/conversations/{id}/messages", self._messages)
        route("POST", "/v1/documents", self._upload)
        route("GET", "/v1/documents", self._documents)
        route("*", "/v1/documents/{id}", self._document)
        route("GET", "/v1/documents/{id}/versions", self._versions)
        route("POST", "/v1/feedback", self._feedback)
        route("GET", "/v1/outbox", self._outbox)
        route("DELETE", "/v1/outbox/{id}", self._discard)
        for path in ("status", "hosts", "roles", "roles/explain", "roles/plan"):
            route("*", f"/v1/{path}", self._cluster)
        route("GET", "/v1/settings", self._settings)
        route("*", "/v1/settings/{key}", self._setting)
        route("*", "/v1/keys", self._keys)
        route("POST", "/v1/cluster/doctor", self._doctor)
        route("DELETE", "/v1/keys/{id}", self._revoke)
        route("GET", "/v1/logs/{role}", self._logs)
        return app

    async def _live(self, _request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def _turn(self, request: web.Request) -> web.StreamResponse:
        turn = msgspec.json.decode(await request.read(), type=s.TurnRequest)
        self.turns.append(turn)
        conversation = str(turn.conversation or uuid.uuid4())
        self.conversations.setdefault(
            conversation, s.ConversationView(conversation, turn.text[:20], WHEN, WHEN, 2, user=turn.user)
        )
        if self.keeping:
            kept = s.QueuedReply(str(turn.id), conversation, "Your message is kept on attic.")
            return await _whole_stream(request, _event("queued", kept)) if turn.stream else _json(kept, status=202)
        reply = s.TurnReply(str(turn.id), conversation, "".join(self.pieces), [CITATION], ["no reranker"])
        accepted = {"id": str(turn.id), "conversation": conversation}
        return await self._answer(request, reply, accepted)

    async def _query(self, request: web.Request) -> web.StreamResponse:
        msgspec.json.decode(await request.read(), type=s.QueryRequest)
        return await self._answer(request, s.QueryReply("".join(self.pieces), [CITATION]), None)

    async def _answer(
        self, request: web.Request, reply: s.TurnReply | s.QueryReply, accepted: dict[str, str] | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if accepted is not None:
            await response.write(_event("accepted", accepted))
        for number, piece in enumerate(self.pieces):
            if number == self.stall_after:
                self.stalled.set()
                await self._stopping.wait()
                return response
            if number == self.break_after:
                self.break_after = None
                assert request.transport is not None
                request.transport.close()
                return response
            await response.write(_event("delta", {"text": piece}))
        await response.write(_event("done", reply))
        return response

    async def _search(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=s.SearchRequest)
        passage = s.PassageView(
            "d1", "Boiler \x1b[31mmanual", "page 3", 0.5, "Service it every spring.", "c1", "spring"
        )
        return _json(s.SearchReply([passage] * min(wanted.limit, 2)))

    async def _conversations(self, request: web.Request) -> web.Response:
        return _json(s.ConversationsReply(_page(request, list(self.conversations.values()))))

    async def _conversation(self, request: web.Request) -> web.Response:
        return _one(request, self.conversations)

    async def _messages(self, request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        if wanted not in self.conversations:
            return _missing()
        messages = [s.MessageView("m1", "user", "When?", WHEN), s.MessageView("m2", "assistant", "In spring.", WHEN)]
        return _json(s.MessagesReply(wanted, messages))

    async def _upload(self, request: web.Request) -> web.Response:
        results = []
        source = ""
        machine: dict[str, str] = {}
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            if part.name == "source":
                source = await part.text()
                continue
            if part.name != "file":
                machine[part.name or ""] = await part.text()
                continue
            upload = Upload(source, part.filename or "", bytes(await part.read()), **machine)
            self.uploads.append(upload)
            results.append(self._store(upload))
        return _json(s.UploadReply(results), status=202)

    def _store(self, upload: Upload) -> s.UploadResult:
        if not upload.content:
            return s.UploadResult(upload.name, "refused", error=s.ErrorBody("unreadable", "The file is empty."))
        digest = hashlib.sha256(upload.source.encode() + upload.content).hexdigest()
        identifier = str(uuid.uuid5(uuid.NAMESPACE_OID, digest))
        known = self.documents.get(identifier)
        if known is not None:
            return s.UploadResult(upload.name, "unchanged", known)
        bad = b"bad" in upload.content
        final = s.DocumentView(
            identifier, upload.name, upload.source, "text/plain", len(upload.content), digest,
            "failed" if bad else "completed", WHEN, WHEN, 0 if bad else 2, 0 if bad else 3,
            error="It is encrypted." if bad else None, machine=upload.machine, machine_name=upload.machine_name,
        )  # fmt: skip
        self.documents[identifier] = final
        pending = msgspec.structs.replace(final, state="pending", chunks=0, embeddings=0, error=None)
        return s.UploadResult(upload.name, "accepted", pending)

    async def _documents(self, request: web.Request) -> web.Response:
        state = request.query.get("state")
        found = [item for item in self.documents.values() if state in {None, item.state}]
        return _json(s.DocumentsReply(_page(request, found)))

    async def _document(self, request: web.Request) -> web.Response:
        return _one(request, self.documents)

    async def _versions(self, request: web.Request) -> web.Response:
        """All documents of its path on its machine."""
        one = self.documents[request.match_info["id"]]
        found = [item for item in self.documents.values() if (item.machine, item.source) == (one.machine, one.source)]
        return _json(s.DocumentsReply(found[::-1]))

    async def _feedback(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=s.FeedbackRequest)
        return _json(s.FeedbackReply("f1", str(wanted.conversation or "latest")))

    async def _outbox(self, request: web.Request) -> web.Response:
        return _json(s.OutboxReply("attic", _page(request, self.outbox)))

    async def _discard(self, request: web.Request) -> web.Response:
        self.outbox = [one for one in self.outbox if one.id != request.match_info["id"]]
        return _json(s.Deleted(request.match_info["id"]))

    async def _cluster(self, request: web.Request) -> web.Response:
        return _json(CLUSTER[request.path.removeprefix("/v1/")])

    async def _doctor(self, request: web.Request) -> web.Response:
        """One thing that can be mended, and one that cannot unless ``well`` is set."""
        asked = msgspec.json.decode(await request.read(), type=s.DoctorRequest)
        found = [
            s.FindingView("clock", "The clock of attic is 9 s behind.\x1b[31m", "Set it.", "h1", "attic"),
            s.FindingView("index", "The index lacks 1 document.", "Mend it.", mendable=True, mended=asked.mend),
        ]
        return _json(s.DoctorReply([] if self.well else found, ["attic"], ["Of originals nothing could be seen."]))

    async def _settings(self, _request: web.Request) -> web.Response:
        return _json(s.SettingsReply([self._view(key) for key in self.settings]))

    async def _setting(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if key not in self.settings:
            return _missing(f"{key}: unknown key; did you mean 'llm.temperature'?")
        if request.method == "PUT":
            self.settings[key] = msgspec.json.decode(await request.read(), type=s.SettingRequest).value
        if request.method == "DELETE":
            return _json(s.Deleted(key))
        return _json(self._view(key))

    def _view(self, key: str) -> s.SettingView:
        return s.SettingView(key, self.settings[key], 0.0, "cluster", "Sampling temperature.", shared=True)

    async def _keys(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            return _json(s.KeysReply(list(self.keys.values())))
        wanted = msgspec.json.decode(await request.read(), type=s.KeyRequest)
        identifier = str(uuid.uuid4())
        self.keys[identifier] = s.KeyView(identifier, wanted.owner, WHEN, None)
        return _json(s.KeyView(identifier, wanted.owner, WHEN, None, "mk_secret"), status=201)

    async def _revoke(self, request: web.Request) -> web.Response:
        return _one(request, self.keys)

    async def _logs(self, request: web.Request) -> web.Response:
        return _json(s.LogReply(request.match_info["role"], ["loading", "ready \x1b]0;title\x07"]))


REFUSED_ID = "9bc1d2"
HOST = s.HostView(
    "h1", "attic", "192.0.2.1", "alive", "always", ["core", "llm"],
    {"ram_mb": 8000, "gpus": [{"name": "RTX 3090", "vram_mb": 24576}]}, s.UsageView(12.5, 2000, 0),
)  # fmt: skip
_ROLE = s.RoleView("llm", "llm", HOST.id, "ready", 3, "the most memory", "smollm2", host_name="attic")
_PLACEMENT = s.PlacementView("llm", "llm", HOST.id, "llamacpp", "the most memory", "smollm2", host_name="attic")
_REFUSAL = s.RefusalView("llm", "llm", REFUSED_ID, "too little memory", host_name="cellar")
_QUORUM = s.QuorumView([s.VoterView("h1", "attic", healthy=True)], 1, 1, 0)
CLUSTER: dict[str, msgspec.Struct] = {
    "status": s.StatusReply(
        "0.1.0", s.ClusterView("c1", "home", "h1", 3, _QUORUM), [HOST], [_ROLE], s.DatabaseView("h1", []),
        {"completed": 2}, ["The disk is nearly full."],
    ),
    "hosts": s.HostsReply([HOST]),
    "roles": s.RolesReply([_ROLE]),
    "roles/explain": s.ExplainReply([_PLACEMENT], [_REFUSAL]),
    "roles/plan": s.PlanReply([_PLACEMENT], [], [_PLACEMENT], [_REFUSAL]),
}  # fmt: skip


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def _event(name: str, value: object) -> bytes:
    return f"event: {name}\ndata: ".encode() + msgspec.json.encode(value) + b"\n\n"


async def _whole_stream(request: web.Request, events: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(events)
    return response


def _missing(message: str = "There is no such thing.") -> web.Response:
    return _json(s.ErrorReply(s.ErrorBody("not_found", message)), status=404)


def _page(request: web.Request, items: list[Any]) -> list[Any]:
    offset, limit = int(request.query.get("offset", "0")), min(int(request.query.get("limit", "50")), 100)
    return items[offset : offset + limit]


def _one(request: web.Request, items: dict[str, Any]) -> web.Response:
    wanted = request.match_info["id"]
    if wanted not in items:
        return _missing()
    if request.method == "DELETE":
        del items[wanted]
        return _json(s.Deleted(wanted))
    return _json(items[wanted])
