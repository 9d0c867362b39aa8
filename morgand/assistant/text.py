"""Words, numbers and sentences of a text (pure): what checking an answer against passages is made of."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

STOP_WORDS = frozenset(
    """a about above after again against all also am an and any are as at be because been before being below
    between both but by can could did do does doing down during each few for from further had has
    have having he her here hers him his how i i'm if in into is it it's its itself just let me more most must my
    no nor not now of off on once only or other our ours out over own per please same shall she should so some such
    than that that's the their theirs them then there these they this those through to too under until up upon us very
    was we were what what's when where which while who whom why will with would yes you you're your yours according
    answer based document documents fact facts following given mention mentioned mentions passage provided question
    say says state stated states text""".split()  # noqa: SIM905 - a list of 160 strings is no easier to read
)
NEGATIONS = frozenset({"no", "not", "never", "none", "without", "cannot"})
ABBREVIATIONS = frozenset("approx art e.g etc fig i.e incl max min mr mrs ms dr nr st tel vs ca resp".split())  # noqa: SIM905 - as above

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")  # noqa: RUF001 - the typographic apostrophe people's files contain
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")
_THOUSANDS = re.compile(r",(?=\d{3}(?:\D|$))")
_BREAK = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_MARKER = re.compile(r"\[\d{1,3}\]")
_HEADING = re.compile(r"^[ ]{0,3}#{1,6}(?:\s.*)?$", re.MULTILINE)
_MARKUP = "`~|<>^"
_LIST_SIGN = re.compile(r"^\s*(?:[-*+•]|\d{1,2}[.)])\s+|^\s*#+\s*|^\s*>\s*|^\s*\|\s*$")


def content_words(text: str) -> frozenset[str]:
    """The words that carry meaning, lower case, endings of plural and tense removed."""
    words = (word.lower() for word in _WORD.findall(_MARKER.sub(" ", text)))
    return frozenset(_stem(word) for word in words if word not in STOP_WORDS and (len(word) > 1 or word.isdigit()))


def numbers(text: str) -> frozenset[str]:
    """Every number as written in digits (``1,880`` is ``1880``, ``1,5`` is ``1.5``), citation markers left out."""
    plain = _THOUSANDS.sub("", _MARKER.sub(" ", text))
    return frozenset(number.replace(",", ".") for number in _NUMBER.findall(plain))


def negated(text: str) -> bool:
    """Whether a text denies something."""
    words = {word.lower().replace("’", "'") for word in _WORD.findall(text)}  # noqa: RUF001
    return bool(words & NEGATIONS) or any(word.endswith("n't") for word in words)


def sentences(text: str) -> list[str]:
    """Sentences and list items in order. Joined by spaces or line breaks they are the text again."""
    return list(_merged(part for part in _BREAK.split(text) if part and part.strip()))


def _merged(parts: Iterator[str]) -> Iterator[str]:
    """Undo splits after abbreviations and list numbers (``approx.``, ``2.``)."""
    held = ""
    for part in parts:
        held = f"{held} {part.strip()}" if held else part.strip()
        last = held.split()[-1].rstrip(".").lstrip("(").lower()
        if held.endswith(".") and (last in ABBREVIATIONS or (last.isdigit() and len(held) <= 3)):
            continue
        yield held
        held = ""
    if held:
        yield held


def bare(sentence: str) -> str:
    """A sentence without list sign, heading mark and emphasis, for quoting."""
    return _LIST_SIGN.sub("", sentence).replace("**", "").replace("`", "").strip(" |\t")


def says_something(text: str) -> bool:
    """Whether an answer has words, or at least a figure or a sign, beside markers, punctuation and headings.

    A heading only announces: it begins as in Markdown, or ends in a colon.
    """
    lines = (bare(line) for line in _HEADING.sub("", _MARKER.sub("", text)).split("\n"))
    said = "".join(line for line in lines if not line.endswith(":"))
    return any(unicodedata.category(char)[0] in "LNS" and char not in _MARKUP for char in said)


def is_finished(sentence: str) -> bool:
    """Whether a sentence ends as sentences do."""
    return _MARKER.sub("", sentence).rstrip().endswith((".", "!", "?", ":", '"', ")", "”", "`"))


def without_loops(text: str, size: int = 4, repeats: int = 3) -> str:
    """Cut a text where a small model began to repeat itself.

    Ends before the second occurrence of a sentence, and where any ``size`` words occur ``repeats`` times.
    """
    seen: set[str] = set()
    kept_to = 0
    for sentence in sentences(text):
        key = " ".join(_WORD.findall(sentence.lower()))
        if key in seen and len(key.split()) > 2:
            return text[:kept_to].rstrip()
        seen.add(key)
        start = text.find(sentence, kept_to)
        kept_to = start + len(sentence) if start >= 0 else kept_to
    counts: dict[tuple[str, ...], int] = {}
    found = [(match.group().lower(), match.start()) for match in _WORD.finditer(text)]
    for index in range(len(found) - size + 1):
        gram = tuple(word for word, _ in found[index : index + size])
        counts[gram] = counts.get(gram, 0) + 1
        if counts[gram] >= repeats:
            return text[: found[index][1]].rstrip()
    return text


def _stem(word: str) -> str:
    word = word.replace("’", "'").removesuffix("'s")  # noqa: RUF001
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word.removesuffix(ending).removesuffix("e")
    return word.removesuffix("e") if len(word) > 3 else word
