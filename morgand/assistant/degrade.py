"""Every sentence Morgan itself says to people when something is missing, and its notice (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from morgand.assistant.text import bare
from morgand.state.assistant import Passage

NOTHING_FOUND = "I found nothing about that in your documents."
SMALL_TALK_FAILED = "I am here. Ask me something about your documents."
NO_LLM = "The language model is not available right now, so I cannot phrase an answer."
NO_LLM_PASSAGES = "The language model is not available right now. This is what I found in your documents:"

NOTICE_FAST = "The main language model is not available; the smaller one answered."
NOTICE_NO_LLM = "No language model is available; ask again in a moment for a phrased answer."
NOTICE_QUOTED = "Quoted from your documents."
NOTICE_OWN_KNOWLEDGE = "Nothing in your documents matched; answered from the model's own knowledge."
NOTICE_NOTHING_FOUND = "Nothing in your documents matched."
NOTICE_CUT = "The answer reached its length limit and was cut."
NOTICE_STALE = "The database cannot be reached; this was answered from a copy of it and may be stale."
NOTICE_SEARCH = "Your documents could not be searched just now."


def kept_on(host: str) -> str:
    """What the person is told whose message waits."""
    return f"Your message is kept on {host} and will be sent as soon as the database can be reached."


def without_llm(passages: Sequence[Passage]) -> str:
    """The honest sentence, with the passages found, each with its marker."""
    if not passages:
        return NO_LLM
    listed = [
        f"- {bare(' '.join((item.quote or item.text).split()))[:300]} [{n}]" for n, item in enumerate(passages, 1)
    ]
    return "\n".join([NO_LLM_PASSAGES, *listed])
