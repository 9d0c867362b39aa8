"""What the daemon is made of: ports over this host's engines, the assistant on the ports, services of the roles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from morgand.assistant.assistant import Assistant
from morgand.assistant.rag.ingest import Ingestor
from morgand.assistant.rag.retrieve import Retriever
from morgand.clock import Clock
from morgand.config import Config
from morgand.errors import EngineError, Unavailable
from morgand.ports import ChatInfo
from morgand.roles.base import HostContext, Service, ServiceFactory
from morgand.roles.cache import service as cache
from morgand.roles.cache.memory import MemoryCache
from morgand.roles.core import service as core
from morgand.roles.core.extractor_client import EngineExtractor
from morgand.roles.db import service as db
from morgand.roles.embedder import service as embedder
from morgand.roles.embedder.client import EngineEmbedder
from morgand.roles.llm import service as llm
from morgand.roles.llm.client import LlamaChat
from morgand.roles.models import find_model, locate
from morgand.roles.objects import service as objects
from morgand.roles.objects.store import FolderObjects
from morgand.roles.process import EngineClient
from morgand.roles.reranker import service as reranker
from morgand.roles.reranker.client import EngineReranker
from morgand.roles.vectors import service as vectors
from morgand.roles.vectors.client import EngineVectors
from morgand.state import Assignment, Model
from morgand.storage.database import Database, sqlite_url
from morgand.storage.history import SqlHistory
from morgand.storage.library import SqlLibrary

SMALL_MODEL_MB = 1000  # a model of less is not trusted to phrase freely: its answers are checked sentence by sentence


class Assignments:
    """What this host is assigned right now, and the models that go with it."""

    def __init__(self, models: Sequence[Model], models_dir: Path) -> None:
        self._models = tuple(models)
        self._models_dir = models_dir
        self._mine: tuple[Assignment, ...] = ()

    def hold(self, mine: Sequence[Assignment]) -> None:
        self._mine = tuple(mine)

    def model(self, assignment: Assignment) -> Model | None:
        """The catalogue's entry for an assignment."""
        if assignment.model is None:
            return None
        return find_model(self._models, assignment.model, engine=assignment.engine, role=assignment.role)

    def files(self, name: str) -> Path:
        """Where a model lies. Raises EngineError with the remedy."""
        for model in self._models:
            if model.name == name and (path := locate(model, self._models_dir)) is not None:
                return path
        raise EngineError(f"The files of model {name} are not on this host.", remedy="See `morgand check`.")

    def tokenizer(self) -> str:
        """Chunks are measured in tokens of the embedder, or of any embedder of the catalogue when none is placed."""
        placed = [one.model for one in self._mine if one.role == "embedder" and one.model]
        for name in (*placed, *(model.name for model in self._models if model.role == "embedder")):
            try:
                return str(self.files(name) / "tokenizer.json")
            except EngineError:
                continue
        raise EngineError("No embedder's tokenizer is on this host.", remedy="See `morgand check`.")

    def chat_info(self, role: str) -> Callable[[], ChatInfo]:
        def info() -> ChatInfo:
            mine = next((one for one in self._mine if one.role == role), None)
            model = self.model(mine) if mine is not None else None
            if model is None:
                raise Unavailable(f"No host performs the {role} role.", remedy="See `morganctl roles explain`.")
            return ChatInfo(model.name, model.context_tokens, model.prompt_tokens, model.size_mb < SMALL_MODEL_MB)

        return info


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the daemon built; closed in reverse by ``close``."""

    database: Database
    history: SqlHistory
    library: SqlLibrary
    objects: FolderObjects
    chat: LlamaChat
    embedder: EngineEmbedder
    reranker: EngineReranker
    assistant: Assistant
    ingestor: Ingestor
    clients: tuple[EngineClient, ...]

    async def close(self) -> None:
        await self.assistant.close()
        await self.chat.close()
        for client in self.clients:
            await client.close()


def build(context: HostContext, assignments: Assignments) -> Parts:
    """Fill the ports with this host's engines. Nothing is opened or started yet."""
    database = Database(sqlite_url(context.data_dir / "db" / "morgan.db"))
    database.hold()  # until the db role has brought its schema up to date
    history, library = SqlHistory(database, context.clock), SqlLibrary(database, context.clock)
    clients = {
        role: EngineClient(context.socket(role), role) for role in ("embedder", "reranker", "vectors", core.EXTRACTOR)
    }
    chat = LlamaChat(context.socket("llm"), assignments.chat_info("llm"))
    embeddings = EngineEmbedder(clients["embedder"])
    ranking = EngineReranker(clients["reranker"])
    index = EngineVectors(clients["vectors"])
    folder = FolderObjects(context.data_dir / "objects")
    assistant = Assistant(
        chat=chat, fast=None, retriever=Retriever(index, embeddings, ranking, library), reranker=ranking,
        history=history, settings=context.config, clock=context.clock,
    )  # fmt: skip
    ingestor = Ingestor(
        library=library, objects=folder, extractor=EngineExtractor(clients[core.EXTRACTOR], context.clock),
        embedder=embeddings, vectors=index, cache=MemoryCache(context.clock), settings=context.config,
        spool_dir=context.data_dir / "spool", clock=context.clock,
    )  # fmt: skip
    return Parts(
        database=database, history=history, library=library, objects=folder, chat=chat, embedder=embeddings,
        reranker=ranking, assistant=assistant, ingestor=ingestor, clients=tuple(clients.values()),
    )  # fmt: skip


def services(context: HostContext, assignments: Assignments, parts: Parts) -> ServiceFactory:
    """How each role is performed on this host."""
    clock: Clock = context.clock

    def make(one: Assignment) -> Service:
        model = assignments.model(one)
        match one.role, one.engine:
            case "llm", "llama.cpp":
                return llm.service(context, one, model)
            case "embedder", _:
                return embedder.service(context, one, model)
            case "reranker", _:
                return reranker.service(context, one, model)
            case "vectors", "qdrant-edge":
                return vectors.service(context, one, model)
            case "db", "sqlite":
                return db.service(parts.database, clock)
            case "cache", "memory":
                return cache.service(clock)
            case "objects", "folder":
                return objects.service(parts.objects, context.data_dir / "objects", clock)
            case "core", _:
                return core.service(context, assignments.tokenizer, parts.ingestor.run)
        raise EngineError(f"This version cannot perform {one.role} with {one.engine}.")

    return make


# engines that ``services`` knows: a profile lists no other, so that the plan asks for nothing else
PERFORMED = frozenset(
    {"llama.cpp", "onnx", "sentence-transformers", "qdrant-edge", "sqlite", "memory", "folder", "assistant"}
)


def context_for(
    config: Callable[[], Config], data_dir: Path, run_dir: Path, clock: Clock, assignments: Assignments
) -> HostContext:
    return HostContext(
        data_dir=data_dir, run_dir=run_dir, log_dir=data_dir / "logs", config=config, clock=clock,
        locate=assignments.files,
    )  # fmt: skip
