"""One answer: search, weigh, prompt, generate, check. Nothing is stored here.

A model that can be trusted with passages streams freely and its citations are checked at the end. A small one gets
only the best sentences, says nothing before it was checked, and is replaced by a quotation when it does not hold.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from morgand.assistant import degrade, prompt
from morgand.assistant.events import Delta, Replace
from morgand.assistant.evidence import Evidence, is_question, is_small_talk, search_text, weigh
from morgand.assistant.ground import Fact, quotation, supported_sentences, tidy
from morgand.assistant.history import Window
from morgand.assistant.prompt import Sized, estimate_tokens
from morgand.assistant.rag.cite import citation, cite, without_markers
from morgand.assistant.rag.retrieve import Retrieved
from morgand.assistant.text import bare, says_something
from morgand.base.clock import Clock
from morgand.base.errors import NotFound, NotHereNow, Overloaded
from morgand.config import Config
from morgand.state.assistant import Citation, Passage, Speaker
from morgand.state.ports import Chat, ChatDelta, ChatInfo, ChatOptions, Reranker

log = logging.getLogger("morgand.assistant")

SMALL_TOKENS = 96  # longest answer of a small model: it only gets worse afterwards
FIXED_TOKENS = 200  # instruction, example and chat template beside a message, at most
FACT_BUDGET_S = 1.5
COUNTED_FROM_BYTES = 600  # shorter texts are estimated: asking the engine would cost more than it tells
NO_WINDOW = Window()


class PassageSearch(Protocol):
    """The retriever."""

    async def search(self, text: str, limit: int, *, rerank: bool, candidates: int, budget_s: float) -> Retrieved: ...


class Mode(StrEnum):
    """How a message is answered."""

    PLAIN = "plain"  # by the model alone
    PASSAGES = "passages"  # from passages, streamed
    FACTS = "facts"  # from single sentences, checked before it is shown
    NOTHING = "nothing"  # the documents hold nothing, and the model is too small to be asked instead


def choose_mode(*, small: bool, searched: bool, relevant: bool, asks: bool) -> Mode:
    """``searched``: the documents were looked through; ``asks``: the message asks for information."""
    if relevant:
        return Mode.FACTS if small else Mode.PASSAGES
    return Mode.NOTHING if small and searched and asks else Mode.PLAIN


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """The checked answer. ``ms``: milliseconds per stage; ``passages``: how many the model was given."""

    text: str
    citations: tuple[Citation, ...] = ()
    notices: tuple[str, ...] = ()
    passages: int = 0
    model: str | None = None
    mode: Mode = Mode.PLAIN
    ms: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TurnInput:
    """What is to be answered. ``options`` None: as configured. ``system``: the client's own instruction."""

    question: str
    window: Window = NO_WINDOW
    documents: bool = True
    options: ChatOptions | None = None
    system: str | None = None

    @property
    def searched(self) -> bool:
        return self.documents and not is_small_talk(self.question)

    @property
    def lookup(self) -> str:
        said = [message.text for message in self.window.messages if message.speaker is Speaker.USER]
        return search_text(self.question, said[-1] if said else None)


AnswerEvent = Delta | Replace | CheckedAnswer


class Answerer:
    """Makes answers with what is there: main model, fast model, or none."""

    def __init__(
        self,
        *,
        chat: Chat,
        fast: Chat | None,
        retriever: PassageSearch,
        reranker: Reranker | None,
        settings: Callable[[], Config],
        clock: Clock,
    ) -> None:
        self._chats: list[tuple[Chat, tuple[str, ...]]] = [(chat, ())]
        if fast is not None:
            self._chats.append((fast, (degrade.NOTICE_FAST,)))
        self._retriever = retriever
        self._reranker = reranker
        self._settings = settings
        self._clock = clock

    async def answer(self, request: TurnInput) -> AsyncGenerator[AnswerEvent, None]:
        """Pieces, then the Answer. Raises InvalidInput (too long), Overloaded (the model's queue is full)."""
        begun = self._clock.monotonic()
        evidence, notices = await self._evidence(request)
        searched = self._clock.monotonic()
        shown = False
        overloaded: Overloaded | None = None
        for chat, notice in self._chats:
            try:
                async with aclosing(self._speak(chat, request, evidence)) as speaking:
                    async for event in speaking:
                        if not isinstance(event, CheckedAnswer):
                            shown = True
                            yield event
                            continue
                        ms = {"search": _ms(searched - begun), "answer": _ms(self._clock.monotonic() - searched)}
                        told = tuple(dict.fromkeys((*notices, *notice, *event.notices)))
                        yield replace(event, notices=told, ms=ms)
                        return
            except Overloaded as err:
                overloaded = err
            except NotHereNow as err:
                log.warning("model not available", extra={"reason": err.message})
            if shown:
                yield Replace("")
        if overloaded is not None:
            raise overloaded
        last = self._without_model(evidence)
        yield Replace(last.text) if shown else Delta(last.text)
        yield replace(last, notices=(*notices, *last.notices))

    async def check_length(self, question: str) -> None:
        """Raises InvalidInput for a message that cannot fit into the model's context beside instruction and answer."""
        if not is_long(question):
            return
        for chat, _ in self._chats:
            try:
                info = await chat.info()
                (size,) = await _count(chat, [question])
            except NotHereNow:
                continue
            reserve = self._options(info, TurnInput(question)).max_tokens + FIXED_TOKENS
            if size > info.context_tokens - reserve:
                raise prompt.too_long(size, info.context_tokens - reserve)
            return

    async def search(self, text: str, limit: int, *, rerank: bool) -> Retrieved:
        """Ranked passages, as configured."""
        settings = self._settings().retrieval
        return await self._retriever.search(
            text,
            limit,
            rerank=rerank and settings.rerank_candidates > 0,
            candidates=settings.rerank_candidates,
            budget_s=settings.rerank_budget_ms / 1000,
        )

    async def _evidence(self, request: TurnInput) -> tuple[Evidence, tuple[str, ...]]:
        if not request.searched:
            return Evidence(), ()
        try:
            found = await self.search(request.lookup, self._settings().retrieval.passages, rerank=True)
        except (NotHereNow, NotFound) as err:  # a document can be deleted while it is searched
            log.warning("search failed", extra={"reason": err.message})
            return Evidence(), (degrade.NOTICE_SEARCH,)
        evidence = await weigh(self._reranker, request.lookup, found.passages, budget_s=FACT_BUDGET_S)
        return evidence, tuple(found.notices)

    async def _speak(self, chat: Chat, request: TurnInput, evidence: Evidence) -> AsyncGenerator[AnswerEvent, None]:
        info = await chat.info()
        mode = choose_mode(
            small=info.small,
            searched=request.searched,
            relevant=evidence.relevant,
            asks=is_question(request.question),
        )
        if mode is Mode.NOTHING:
            yield Delta(degrade.NOTHING_FOUND)
            yield CheckedAnswer(
                degrade.NOTHING_FOUND, notices=(degrade.NOTICE_NOTHING_FOUND,), model=info.model, mode=mode
            )
        elif mode is Mode.FACTS:
            answer = await self._from_facts(chat, info, request, evidence)
            yield Delta(answer.text)
            yield answer
        else:
            async with aclosing(self._freely(chat, info, request, evidence, mode)) as events:
                async for event in events:
                    yield event

    async def _freely(
        self, chat: Chat, info: ChatInfo, request: TurnInput, evidence: Evidence, mode: Mode
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Stream what the model says, then check loops, unfinished ends and citations.

        Nothing is streamed before there are words; an answer without any is none, and a quotation stands for it.
        """
        options = self._options(info, request)
        passages = evidence.passages if mode is Mode.PASSAGES else ()
        given = await self._prompt(chat, info, request, passages, options)
        passages = passages[: given.passages]
        said, shown, finish = "", "", None
        async with _closing(chat.stream(given.messages, options)) as deltas:
            async for delta in deltas:
                said += delta.text
                finish = delta.finish or finish
                if delta.text and (shown or says_something(said)):
                    yield Delta(said[len(shown) :])
                    shown = said
        answer = self._checked(info, request, evidence, passages, said, cut=finish == "length", mode=mode)
        if not shown:
            yield Delta(answer.text)
        elif answer.text != shown:
            yield Replace(answer.text)
        yield answer

    def _checked(
        self, info: ChatInfo, request: TurnInput, evidence: Evidence, passages: Sequence[Passage], said: str, *,
        cut: bool, mode: Mode,
    ) -> CheckedAnswer:  # fmt: skip
        """``passages``: those that the model was given; ``cut``: it reached its length limit."""
        text, citations = cite(tidy(said, cut_off=cut) if info.small else said.strip(), passages)
        notices = [degrade.NOTICE_CUT] if cut and not info.small else []
        if not says_something(text):
            if mode is Mode.PASSAGES:
                text, citations = _quoted(request, evidence)
                return CheckedAnswer(text, citations, (degrade.NOTICE_QUOTED,), len(passages), info.model, mode)
            text, citations = degrade.SMALL_TALK_FAILED, ()
        if mode is Mode.PLAIN and request.searched and is_question(request.question):
            notices.append(degrade.NOTICE_OWN_KNOWLEDGE)
        return CheckedAnswer(text, citations, tuple(notices), len(passages), info.model, mode)

    async def _from_facts(self, chat: Chat, info: ChatInfo, request: TurnInput, evidence: Evidence) -> CheckedAnswer:
        """A small model phrases the best sentences; what they do not bear out is replaced by quoting them."""
        (size,) = await _count(chat, [request.lookup])
        room = info.context_tokens - FIXED_TOKENS - SMALL_TOKENS - size
        if room < 0:
            raise prompt.too_long(size, size + room)
        facts = _within(evidence.facts, min(prompt.FACT_TOKENS, room))
        messages = prompt.facts_prompt(request.lookup, [fact.text for fact in facts])
        said, finish = "", None
        async with _closing(chat.stream(messages, self._options(info, request))) as deltas:
            async for delta in deltas:
                said += delta.text
                finish = delta.finish or finish
        own = tidy(without_markers(said), cut_off=finish == "length")
        kept = supported_sentences(own, request.lookup, facts)
        notices: tuple[str, ...] = ()
        if any(fact is facts[0] for _, fact in kept):
            text, citations = _numbered(kept, evidence.passages)
        else:  # a model this small picks worse than the cross-encoder
            text, citations = _quoted(request, evidence)
            notices = (degrade.NOTICE_QUOTED,)
        return CheckedAnswer(text, citations, notices, len(evidence.passages), info.model, Mode.FACTS)

    async def _prompt(
        self, chat: Chat, info: ChatInfo, request: TurnInput, passages: Sequence[Passage], options: ChatOptions
    ) -> prompt.Prompt:
        system = prompt.system_text(small=info.small, passages=bool(passages))
        if request.system:
            system = f"{request.system}\n\n{prompt.WITH_PASSAGES}" if passages else request.system
        rendered = [prompt.render_passage(number, passage) for number, passage in enumerate(passages, start=1)]
        sizes = await _count(chat, [request.question, system, *rendered])
        return prompt.assemble(
            system=Sized(system, sizes[1]),
            question=Sized(request.question, sizes[0]),
            budget=prompt.Budget(info.context_tokens, options.max_tokens, info.prompt_tokens),
            passages=[
                Sized(text, size + prompt.PASSAGE_OVERHEAD) for text, size in zip(rendered, sizes[2:], strict=True)
            ],
            summary=request.window.sized_summary(),
            history=request.window.sized(),
        )

    def _options(self, info: ChatInfo, request: TurnInput) -> ChatOptions:
        llm = self._settings().llm
        options = request.options or ChatOptions(temperature=llm.temperature, max_tokens=llm.max_tokens)
        longest = (
            min(options.max_tokens, SMALL_TOKENS) if info.small and request.options is None else options.max_tokens
        )
        return replace(options, max_tokens=prompt.answer_reserve(info.context_tokens, longest))

    def _without_model(self, evidence: Evidence) -> CheckedAnswer:
        passages = evidence.passages if evidence.relevant else ()
        text = degrade.without_llm(passages)
        citations = tuple(citation(number, passage, passage.text) for number, passage in enumerate(passages, start=1))
        return CheckedAnswer(text, citations, (degrade.NOTICE_NO_LLM,), len(passages))


def is_long(text: str) -> bool:
    """Whether a text's tokens are worth counting."""
    return len(text.encode("utf-8", "replace")) >= COUNTED_FROM_BYTES


async def _count(chat: Chat, texts: Sequence[str]) -> list[int]:
    """Tokens per text; only long ones are worth asking the engine."""
    long = [text for text in texts if is_long(text)]
    counted = iter(await chat.count_tokens(long) if long else [])
    return [next(counted) if is_long(text) else estimate_tokens(text) for text in texts]


@asynccontextmanager
async def _closing(stream: AsyncIterator[ChatDelta]) -> AsyncIterator[AsyncIterator[ChatDelta]]:
    """Close the model's stream however it is left: that is what stops the generation."""
    try:
        yield stream
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


def _within(facts: Sequence[Fact], tokens: int) -> list[Fact]:
    kept: list[Fact] = []
    for fact in facts:
        tokens -= estimate_tokens(fact.text)
        if tokens < 0 and kept:
            break
        kept.append(fact)
    return kept


def _quoted(request: TurnInput, evidence: Evidence) -> tuple[str, tuple[Citation, ...]]:
    """The best sentences of the passages themselves, instead of an answer that does not hold or is none."""
    facts = quotation(evidence.facts, request.lookup)
    return _numbered([(bare(fact.text), fact) for fact in facts], evidence.passages)


def _numbered(kept: Sequence[tuple[str, Fact]], passages: Sequence[Passage]) -> tuple[str, tuple[Citation, ...]]:
    """Sentences with markers counted from 1 in order of appearance, and their citations quoting the facts."""
    numbers = {passage: number for number, passage in enumerate(dict.fromkeys(f.passage for _, f in kept), start=1)}
    quotes: dict[int, Fact] = {}
    for _, fact in kept:
        quotes.setdefault(fact.passage, fact)
    text = " ".join(f"{sentence} [{numbers[fact.passage]}]" for sentence, fact in kept)
    citations = tuple(
        replace(citation(number, passages[passage - 1], text), quote=quotes[passage].text)
        for passage, number in numbers.items()
    )
    return text, citations


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
