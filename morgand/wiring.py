"""What the daemon is made of: ports over this host's engines, the assistant on the ports, services of the roles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morgand.assistant.assistant import Assistant
from morgand.assistant.delivery import Delivery
from morgand.assistant.rag.ingest import Ingestor
from morgand.assistant.rag.reconcile import Reconciler
from morgand.assistant.rag.retrieve import Retriever
from morgand.base.aio import in_order
from morgand.base.clock import Clock
from morgand.base.errors import EngineError
from morgand.cluster.mirror import Mirror
from morgand.cluster.store import ClusterStore
from morgand.cluster.voters import VoterCandidate
from morgand.config import Config
from morgand.host.assignments import Assignments
from morgand.leader.db_primary import PrimaryKeeper, ensure_secrets
from morgand.leader.leadership import Duty
from morgand.leader.voters import VoterKeeper
from morgand.membership.lease import ensure_key
from morgand.membership.place import ClusterPlace
from morgand.peers.client import PeerClient
from morgand.peers.copies import READS, Copies, export_name, with_copies
from morgand.peers.objects import RoutedObjects
from morgand.peers.route import Directory, PortRoute, routed
from morgand.peers.wire import Export
from morgand.process.supervisor import Report
from morgand.roles.base import HostContext, RoleService, ServiceFactory
from morgand.roles.cache.memory import MemoryCache
from morgand.roles.catalog import BY_NAME, ROLES, SPECS
from morgand.roles.core import service as core
from morgand.roles.core.extractor_client import EngineExtractor
from morgand.roles.core.spec import SPEC as CORE
from morgand.roles.db.factory import FILE, DatabaseFactory
from morgand.roles.db.spec import SPEC as DB
from morgand.roles.definition import Perform, RoleDefinition
from morgand.roles.embedder.client import EngineEmbedder
from morgand.roles.embedder.spec import SPEC as EMBEDDER
from morgand.roles.llm.client import LlamaChat
from morgand.roles.llm.spec import FAST as LLM_FAST
from morgand.roles.llm.spec import SPEC as LLM
from morgand.roles.objects import service as objects
from morgand.roles.objects.spec import SPEC as OBJECTS
from morgand.roles.objects.store import FolderObjects
from morgand.roles.process import EngineClient
from morgand.roles.reranker.client import EngineReranker
from morgand.roles.reranker.spec import SPEC as RERANKER
from morgand.roles.vectors import service as vectors
from morgand.roles.vectors.client import EngineVectors
from morgand.roles.vectors.spec import SPEC as VECTORS
from morgand.state.ports import Chat, Embedder, History, Library, Objects, Originals, Reranker, Vectors
from morgand.state.roles import Assignment, Model, RolePreference
from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary

LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The other hosts, as ports are routed to them."""

    directory: Directory
    client: Callable[[], PeerClient | None]
    clock: Clock

    def route(self, role: str, port: str | None = None) -> PortRoute:
        spec = BY_NAME[role]
        return PortRoute(
            role, port or role, self.directory, self.client, self.clock, spec.patience_s,
            single_writer=spec.single_writer, spread=spec.spread,
        )  # fmt: skip

    def of_ingestion(self) -> Hashable:
        """Where the engines are that ingestion fills, in which epoch, and whether they answer."""
        return tuple(tuple(self.directory.holders(spec.name)) for spec in SPECS if spec.feeds_ingestion)


@dataclass(frozen=True, slots=True)
class Local:
    """This host's own engines, whether they run or not."""

    database: Database
    copy: Database  # what a standby here has, for reading only
    history: SqlHistory
    library: SqlLibrary
    copied_history: SqlHistory
    copied_library: SqlLibrary
    objects: FolderObjects
    chat: LlamaChat
    fast: LlamaChat
    embedder: EngineEmbedder
    reranker: EngineReranker
    vectors: EngineVectors
    extractor: EngineExtractor
    clients: tuple[EngineClient, ...]

    def exports(self) -> dict[str, Export]:
        """What other hosts may call, by the name of the port."""
        return {
            "history": Export(DB.name, History, self.history), "library": Export(DB.name, Library, self.library),
            export_name("history"): Export(DB.name, History, self.copied_history, READS[History]),
            export_name("library"): Export(DB.name, Library, self.copied_library, READS[Library]),
            "objects": Export(OBJECTS.name, Objects, self.objects), "llm": Export(LLM.name, Chat, self.chat),
            "llm-fast": Export(LLM_FAST.name, Chat, self.fast),
            "embedder": Export(EMBEDDER.name, Embedder, self.embedder),
            "reranker": Export(RERANKER.name, Reranker, self.reranker),
            "vectors": Export(VECTORS.name, Vectors, self.vectors),
        }  # fmt: skip

    async def close(self) -> None:
        await in_order(self.chat.close, self.fast.close, *(client.close for client in self.clients))


@dataclass(frozen=True, slots=True)
class Parts:
    """The assistant, and the ports it stands on: each answered by whoever holds the role."""

    history: History
    library: Library
    objects: Originals
    vectors: Vectors
    chat: Chat
    embedder: Embedder
    reranker: Reranker
    assistant: Assistant
    ingestor: Ingestor


def build_local(context: HostContext, assignments: Assignments) -> Local:
    """Ports over this host's engines. Nothing is opened or started yet."""
    database = Database(sqlite_url(context.data_dir / DB.name / FILE))
    database.hold()  # until the db role has brought its schema up to date
    copy = Database(sqlite_url(context.data_dir / DB.name / FILE), read_only=True)
    copy.hold()  # until there is a server here
    clients = {
        role: EngineClient(context.socket(role), role)
        for role in (EMBEDDER.name, RERANKER.name, VECTORS.name, core.EXTRACTOR)
    }
    return Local(
        database=database, copy=copy,
        history=SqlHistory(database, context.clock), library=SqlLibrary(database, context.clock),
        copied_history=SqlHistory(copy, context.clock), copied_library=SqlLibrary(copy, context.clock),
        objects=FolderObjects(context.data_dir / OBJECTS.name),
        chat=LlamaChat(context.socket(LLM.name), assignments.chat_info(LLM.name)),
        fast=LlamaChat(context.socket(LLM_FAST.name), assignments.chat_info(LLM_FAST.name)),
        embedder=EngineEmbedder(clients[EMBEDDER.name]), reranker=EngineReranker(clients[RERANKER.name]),
        vectors=EngineVectors(clients[VECTORS.name]), extractor=EngineExtractor(clients[core.EXTRACTOR], context.clock),
        clients=tuple(clients.values()),
    )  # fmt: skip


def build(context: HostContext, local: Local, others: Neighbours, delivery: Delivery) -> Parts:
    """The assistant on ports that are routed to whoever holds their role."""

    def port(protocol: Any, role: str, engine: Any, name: str | None = None) -> Any:
        return routed(protocol, others.route(role, name), engine)

    def of_database(protocol: Any, name: str, live: Any, copied: Any) -> Any:
        copies = Copies(export_name(name), copied, lambda: local.copy.admits, others.directory)
        return with_copies(protocol, others.route(DB.name, name), live, copies)

    history: History = of_database(History, "history", local.history, local.copied_history)
    library: Library = of_database(Library, "library", local.library, local.copied_library)
    chat: Chat = port(Chat, LLM.name, local.chat)
    embeddings: Embedder = port(Embedder, EMBEDDER.name, local.embedder)
    ranking: Reranker = port(Reranker, RERANKER.name, local.reranker)
    index: Vectors = port(Vectors, VECTORS.name, local.vectors)
    originals = RoutedObjects(others.route(OBJECTS.name), local.objects, context.data_dir / "spool")
    assistant = Assistant(
        chat=chat, fast=port(Chat, LLM_FAST.name, local.fast), retriever=Retriever(index, embeddings, ranking, library),
        reranker=ranking, history=history, delivery=delivery, settings=context.config, clock=context.clock,
    )  # fmt: skip
    ingestor = Ingestor(
        library=library, objects=originals, extractor=local.extractor, embedder=embeddings, vectors=index,
        cache=MemoryCache(context.clock), settings=context.config, clock=context.clock,
        engines=others.of_ingestion,
    )  # fmt: skip
    return Parts(
        history=history, library=library, objects=originals, vectors=index, chat=chat, embedder=embeddings,
        reranker=ranking, assistant=assistant, ingestor=ingestor,
    )  # fmt: skip


def services(
    context: HostContext, assignments: Assignments, local: Local, parts: Parts, home: DatabaseFactory,
    *, roles: Sequence[RoleDefinition] = ROLES,
) -> ServiceFactory:  # fmt: skip
    """How each role is performed on this host: as its definition says, or with what only the daemon has."""

    def vectors_service(_context: HostContext, one: Assignment, model: Model | None) -> RoleService:
        standby = Reconciler(parts.library, local.vectors)
        return Beside(vectors.service(context, one, model), lambda: _as_standby(assignments, standby))

    wired: dict[str, Perform] = {
        VECTORS.name: vectors_service,
        DB.name: lambda _context, one, _model: home.service(one.engine, context.log_dir),
        OBJECTS.name: lambda _context, _one, _model: objects.service(
            local.objects, context.data_dir / OBJECTS.name, context.clock
        ),
        CORE.name: lambda _context, _one, _model: core.service(
            context, assignments.tokenizer, lambda: _as_main(assignments, parts.ingestor)
        ),
    }
    perform = {
        (one.spec.name, engine): one.perform.get(engine) or wired[one.spec.name]
        for one in roles
        for engine in one.performed
    }

    def make(one: Assignment) -> RoleService:
        if (found := perform.get((one.role, one.engine))) is None:
            raise EngineError(f"This version cannot perform {one.role} with {one.engine}.")
        return found(context, one, assignments.model(one))

    return make


def leader_duties(
    place: ClusterPlace, store: ClusterStore, mirror: Mirror, clock: Clock, *,
    candidates: Callable[[], Sequence[VoterCandidate]], config: Callable[[], Config],
) -> tuple[Duty, ...]:  # fmt: skip
    """What the leader of a cluster does besides planning; nothing on a lone host."""
    etcd = place.etcd()
    if etcd is None:
        return ()
    voters = VoterKeeper(store, etcd, clock, candidates)
    primary = PrimaryKeeper(
        store, mirror, clock, hosts=lambda: [one.host for one in candidates()],
        preference=lambda: config().preferences().get(DB.name, RolePreference()),
    )  # fmt: skip
    return (
        voters.run, primary.run, lambda held: ensure_key(store, held), lambda held: ensure_secrets(store, held),
    )  # fmt: skip


class Beside:
    """A service with further work that goes on for as long as the role is performed here."""

    def __init__(self, service: RoleService, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._service, self._work = service, work

    async def run(self, report: Report) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._service.run(report))
            group.create_task(self._work())


async def _as_standby(assignments: Assignments, reconciler: Reconciler) -> None:
    """An index that is not written to by ingestion keeps up by itself with the library."""
    await while_part(assignments, VECTORS.name, "standby", reconciler.run)


async def _as_main(assignments: Assignments, ingestor: Ingestor) -> None:
    """Documents are processed on one host of the cluster."""
    await while_part(assignments, CORE.name, "main", ingestor.run)


async def while_part(
    assignments: Assignments, role: str, part: str, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Do ``work`` whenever, and only while, this host holds that part of the role."""
    doing: asyncio.Task[None] | None = None
    try:
        while True:
            wanted = assignments.part(role) == part
            if wanted and doing is None:
                doing = asyncio.create_task(work())
            elif doing is not None and (doing.done() or not wanted):
                doing.cancel()
                await asyncio.wait((doing,))
                if not doing.cancelled():
                    doing.result()
                doing = None
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        if doing is not None:
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)


def context_for(
    config: Callable[[], Config], data_dir: Path, run_dir: Path, clock: Clock, assignments: Assignments
) -> HostContext:
    return HostContext(
        data_dir=data_dir, run_dir=run_dir, log_dir=data_dir / "logs", config=config, clock=clock,
        locate=assignments.files,
    )  # fmt: skip
