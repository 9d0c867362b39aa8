"""The OpenAI dialect: chat completions, models, embeddings, rerank.

The model ``morgan`` is the assistant with the documents (retrieval over the last user message, nothing stored);
every other name is the engine itself, asked directly: the path to its first token holds nothing that waits.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

from aiohttp import web
from msgspec import UNSET
from msgspec import json as wire

from morgand.api import dialect, sse
from morgand.api.body import read_struct
from morgand.api.completion import AnswerPiece, ChatCompletion, assistant_pieces, direct_pieces
from morgand.api.limits import Rate
from morgand.api.routes import ApiRoute, json
from morgand.api.service import ApiContext
from morgand.base.errors import InvalidInput, MorganError, NotFound, NotHereNow, Unavailable
from morgand.state.ports import ChatMessage, ChatOptions

ASSISTANT = "morgan"
RERANK_BUDGET_S = 30.0
_DONE = sse.data(b"[DONE]")
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error",
          413: "invalid_request_error", 429: "rate_limit_error"}  # fmt: skip


class OpenAIRoutes:
    def __init__(self, service: ApiContext) -> None:
        self._service = service
        self._backend = service.backend

    def routes(self) -> list[ApiRoute]:
        tag = "OpenAI"
        return [
            ApiRoute("POST", "/v1/chat/completions", self.chat, "Chat completion", tag, dialect.ChatReply,
                  dialect.ChatRequest, rate=Rate.CHAT, stream=True, errors=(404,), openai=True, may_be_stale=True),
            ApiRoute("GET", "/v1/models", self.models, "List models", tag, dialect.ModelsReply, openai=True),
            ApiRoute("POST", "/v1/embeddings", self.embeddings, "Embed texts", tag, dialect.EmbeddingsReply,
                  dialect.EmbeddingsRequest, rate=Rate.SEARCH, errors=(404, 503), openai=True),
            ApiRoute("POST", "/v1/rerank", self.rerank, "Order documents by relevance", tag, dialect.RerankReply,
                  dialect.RerankRequest, rate=Rate.SEARCH, errors=(404, 503), openai=True),
        ]  # fmt: skip

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked = await read_struct(request, dialect.ChatRequest, body_mb=self._service.limits().body_mb)
        _refuse_unsupported(asked)
        messages = [ChatMessage(_role(one.role), _text(one.content)) for one in asked.messages]
        pieces = await self._pieces(asked, messages)
        created = int(self._service.clock.now().timestamp())
        completion = ChatCompletion(f"chatcmpl-{uuid4().hex}", asked.model, created)
        with self._service.queue.place():
            if asked.stream:
                usage = asked.stream_options is not None and asked.stream_options.include_usage
                frames = completion.frames(pieces, include_usage=usage)
                return await sse.respond(request, frames, _frame, failure, last=_DONE)
            return json(await completion.whole(pieces))

    async def _pieces(self, asked: dialect.ChatRequest, messages: Sequence[ChatMessage]) -> AsyncIterator[AnswerPiece]:
        options = _options(asked)
        if asked.model == ASSISTANT:
            if messages[-1].role != "user":
                raise InvalidInput("messages: the last message must be the user's.")
            events = self._backend.assistant.chat_completion(messages, options, documents=True)
            return assistant_pieces(events, self._backend.chat, messages)
        model = (await self._backend.chat.info()).model
        if asked.model != model:
            raise _no_model(asked.model, (ASSISTANT, model))
        return direct_pieces(self._backend.chat.stream(messages, options))

    async def models(self, _: web.Request) -> web.Response:
        names = [ASSISTANT]
        for ask in (self._chat_model, self._backend.embedder.model, self._backend.reranker.model):
            try:
                names.append(await ask())
            except NotHereNow:
                continue  # an engine that is not there has no model to offer
        created = int(self._service.clock.now().timestamp())
        cards = [dialect.ModelCard(name, "model", created, "morgan") for name in dict.fromkeys(names)]
        return json(dialect.ModelsReply("list", cards))

    async def _chat_model(self) -> str:
        return (await self._backend.chat.info()).model

    async def embeddings(self, request: web.Request) -> web.Response:
        asked = await read_struct(request, dialect.EmbeddingsRequest, body_mb=self._service.limits().body_mb)
        given = [asked.input] if isinstance(asked.input, str) else asked.input
        texts = [one for one in given if isinstance(one, str) and one]
        if len(texts) != len(given):
            raise InvalidInput("input: send texts that are not empty; token arrays are not supported.")
        embedder = self._backend.embedder
        model = await embedder.model()
        if asked.model != model:
            raise _no_model(asked.model, (model,))
        vectors = await embedder.embed_passages(texts)
        if asked.dimensions is not None and any(len(vector) != asked.dimensions * 4 for vector in vectors):
            raise InvalidInput(f"dimensions: {model} has one size only; leave it out.")
        coded = asked.encoding_format == "base64"
        data = [dialect.Embedding("embedding", i, _vector(v, coded=coded)) for i, v in enumerate(vectors)]
        # The embedder counts no tokens for us; four characters a token is the usual estimate.
        tokens = sum(-(-len(text) // 4) for text in texts)
        return json(dialect.EmbeddingsReply("list", data, model, dialect.EmbeddingsUsage(tokens, tokens)))

    async def rerank(self, request: web.Request) -> web.Response:
        asked = await read_struct(request, dialect.RerankRequest, body_mb=self._service.limits().body_mb)
        reranker = self._backend.reranker
        model = await reranker.model()
        if asked.model != model:
            raise _no_model(asked.model, (model,))
        texts = [one if isinstance(one, str) else one.text for one in asked.documents]
        scores = await reranker.scores(asked.query, texts, budget_s=RERANK_BUDGET_S)
        if any(score is None for score in scores):
            raise Unavailable(f"The reranker did not finish within {RERANK_BUDGET_S:g} s.", remedy="Send fewer texts.")
        ranked = sorted(((score or 0.0, i) for i, score in enumerate(scores)), key=lambda pair: (-pair[0], pair[1]))
        shown = bool(asked.return_documents)
        results = [
            dialect.RankedText(i, score, dialect.RerankText(texts[i]) if shown else UNSET)
            for score, i in ranked[: asked.top_n]
        ]
        return json(dialect.RerankReply(model, results))


def fault(err: MorganError) -> dialect.DialectFault:
    """An error in OpenAI's shape; ``param`` is the field that the message begins with."""
    head, colon, _ = err.message.partition(":")
    param = head if colon and isinstance(err, InvalidInput) and " " not in head and head != "body" else None
    kind = _TYPES.get(err.status, "server_error" if err.status >= 500 else "invalid_request_error")
    return dialect.DialectFault(dialect.FaultBody(str(err), kind, param, err.code))


def failure(err: MorganError) -> bytes:
    return sse.data(wire.encode(fault(err)))


def _frame(chunk: dialect.ChatChunk) -> bytes:
    return sse.data(wire.encode(chunk))


def _refuse_unsupported(asked: dialect.ChatRequest) -> None:
    for name, used in (
        ("n", asked.n not in (None, 1)),
        ("tools", bool(asked.tools)),
        ("functions", bool(asked.functions)),
        ("logprobs", bool(asked.logprobs)),
    ):
        if used:
            raise InvalidInput(f"{name}: is not supported; leave it out.")


def _options(asked: dialect.ChatRequest) -> ChatOptions:
    defaults = ChatOptions()
    stop = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ())
    return ChatOptions(
        temperature=defaults.temperature if asked.temperature is None else asked.temperature,
        top_p=defaults.top_p if asked.top_p is None else asked.top_p,
        max_tokens=asked.max_completion_tokens or asked.max_tokens or defaults.max_tokens,
        stop=tuple(word for word in stop if word),
        seed=asked.seed,
    )


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _text(content: str | list[dialect.TextPart]) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _vector(vector: bytes, *, coded: bool) -> list[float] | str:
    if coded:
        return base64.b64encode(vector).decode("ascii")
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))


def _no_model(name: str, known: Sequence[str]) -> NotFound:
    return NotFound(f"There is no model '{name}' for this.", remedy=f"Known: {', '.join(known)}; see /v1/models.")
