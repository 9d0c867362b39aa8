"""The wire format of the OpenAI dialect. Unknown fields are ignored: clients send many; wrong types are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from morgand.api.schema import CitationView


class TextPart(Struct):
    text: str
    type: Literal["text"] = "text"


class ChatInput(Struct):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]


class StreamOptions(Struct):
    include_usage: bool = False


class ChatRequest(Struct):
    """``n``, ``tools`` and their like are known so that they can be refused in words."""

    model: Annotated[str, Meta(min_length=1, max_length=255)]
    messages: Annotated[list[ChatInput], Meta(min_length=1, max_length=10_000)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    seed: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    n: int | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = None


class TokenUsage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Spoken(Struct):
    role: Literal["assistant"]
    content: str


class Choice(Struct):
    index: int
    message: Spoken
    finish_reason: Literal["stop", "length"]


class ChatReply(Struct):
    """``citations`` is Morgan's own: present when the model is ``morgan``."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage
    citations: list[CitationView] | UnsetType = UNSET


class DeltaText(Struct, omit_defaults=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChunkChoice(Struct):
    index: int
    delta: DeltaText
    finish_reason: Literal["stop", "length"] | None = None


class ChatChunk(Struct):
    """``answer`` corrects the text when a check took back what was streamed already."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: TokenUsage | UnsetType | None = UNSET
    citations: list[CitationView] | UnsetType = UNSET
    answer: str | UnsetType = UNSET


class ModelCard(Struct):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsReply(Struct):
    object: Literal["list"]
    data: list[ModelCard]


class EmbeddingsRequest(Struct):
    model: Annotated[str, Meta(min_length=1, max_length=255)]
    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1, max_length=2048)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None


class Embedding(Struct):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingsUsage(Struct):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(Struct):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage


class RerankText(Struct):
    text: str


class RerankRequest(Struct):
    model: Annotated[str, Meta(min_length=1, max_length=255)]
    query: Annotated[str, Meta(min_length=1, max_length=200_000)]
    documents: Annotated[list[str | RerankText], Meta(min_length=1, max_length=1000)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool | None = False


class RankedText(Struct, omit_defaults=True):
    index: int
    relevance_score: float
    document: RerankText | UnsetType = UNSET


class RerankReply(Struct):
    model: str
    results: list[RankedText]


class FaultBody(Struct):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class DialectFault(Struct):
    """An error in OpenAI's shape."""

    error: FaultBody
