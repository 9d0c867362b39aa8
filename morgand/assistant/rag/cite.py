"""Citations: every [n] in an answer leads to a passage the model was given, or it is removed (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from morgand.assistant.ground import STRONG, Fact, best_support
from morgand.assistant.text import bare, content_words, sentences
from morgand.state.assistant import Citation, Passage

_MARKER = re.compile(r"[ \t]*\[(\d{1,9}(?:\s*[,;]\s*\d{1,9})*)\]")
QUOTE_CHARS = 300


def cite(answer: str, passages: Sequence[Passage]) -> tuple[str, tuple[Citation, ...]]:
    """The answer with checked markers, and a citation for every one of them.

    Markers without a passage are removed. A sentence without a marker gets the passage that supports it strongly.
    Numbers stay those of the prompt: [2] is the second passage given.
    """
    known = _without_unknown(answer, len(passages))
    if not passages:
        return known, ()
    sources = [Fact(passage.text, number, passage.place) for number, passage in enumerate(passages, start=1)]
    marked = _with_missing(known, sources)
    order = dict.fromkeys(int(number) for found in _MARKER.findall(marked) for number in re.findall(r"\d+", found))
    return marked, tuple(citation(number, passages[number - 1], marked) for number in sorted(order))


def citation(number: int, passage: Passage, answer: str) -> Citation:
    """The reference for one passage; its quote is the sentence of it that is nearest to the answer."""
    return Citation(
        number=number,
        document=passage.document,
        title=passage.title,
        place=passage.place,
        quote=nearest_sentence(answer, passage),
        chunk=passage.chunk,
    )


def nearest_sentence(answer: str, passage: Passage) -> str:
    """The sentence of a passage that shares most content words with an answer; at most QUOTE_CHARS long."""
    said = content_words(answer)
    candidates = [bare(part) for part in sentences(passage.text)] or [passage.text]
    best = max(candidates, key=lambda part: len(said & content_words(part)))
    if not said & content_words(best) and passage.quote:
        best = passage.quote
    return best if len(best) <= QUOTE_CHARS else best[: QUOTE_CHARS - 1].rstrip() + "…"


def without_markers(text: str) -> str:
    """The text with every [n] removed: what goes back into a prompt as history."""
    return _MARKER.sub("", text)


def _without_unknown(answer: str, count: int) -> str:
    def checked(match: re.Match[str]) -> str:
        kept = [number for number in re.findall(r"\d+", match.group(1)) if 1 <= int(number) <= count]
        space = match.group(0)[: len(match.group(0)) - len(match.group(0).lstrip())]
        return space + "".join(f"[{int(number)}]" for number in dict.fromkeys(kept)) if kept else ""

    return _MARKER.sub(checked, answer)


def _with_missing(answer: str, sources: Sequence[Fact]) -> str:
    """Add the marker of the best source to each sentence that has none and is strongly supported by one."""
    position = 0
    for sentence in sentences(answer):
        start = answer.find(sentence, position)
        if start < 0:  # the split joined a line break into a space: leave that part as it is
            continue
        end = start + len(sentence)
        following = _MARKER.match(answer, end)
        if _MARKER.search(sentence) is None and following is None and len(content_words(sentence)) > 1:
            share, source = best_support(sentence, sources)
            if source is not None and share >= STRONG:
                mark = f" [{source.passage}]"
                answer = answer[:end] + mark + answer[end:]
                end += len(mark)
        position = end
    return answer
