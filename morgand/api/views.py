"""From the values of ``state`` to the wire schema."""

from __future__ import annotations

from morgand.api import schema
from morgand.state.assistant import Citation, Conversation, Document, Message, Passage, Turn


def citation(found: Citation) -> schema.CitationView:
    return schema.CitationView(
        number=found.number,
        document=found.document,
        title=found.title,
        place=found.place,
        quote=found.quote,
        chunk=found.chunk,
    )


def turn(stored: Turn) -> schema.TurnReply:
    answer = stored.answer
    if answer is None:
        return schema.TurnReply(stored.id, stored.conversation)
    return schema.TurnReply(
        stored.id,
        stored.conversation,
        answer.text,
        [citation(found) for found in answer.citations],
        list(answer.notices),
    )


def message(stored: Message) -> schema.MessageView:
    return schema.MessageView(
        id=stored.id,
        role=stored.speaker.value,
        text=stored.text,
        created=stored.created,
        citations=[citation(found) for found in stored.citations],
        notices=list(stored.notices),
    )


def conversation(stored: Conversation) -> schema.ConversationView:
    return schema.ConversationView(
        id=stored.id,
        title=stored.title,
        created=stored.created,
        updated=stored.updated,
        messages=stored.messages,
        user=stored.user,
        summary=stored.summary,
    )


def passage(found: Passage) -> schema.PassageView:
    return schema.PassageView(
        document=found.document,
        title=found.title,
        place=found.place,
        score=found.score,
        text=found.text,
        chunk=found.chunk,
        quote=found.quote,
    )


def document(stored: Document) -> schema.DocumentView:
    return schema.DocumentView(
        id=stored.id,
        name=stored.name,
        source=stored.source,
        mime=stored.mime,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
        state=stored.state.value,
        created=stored.created,
        updated=stored.updated,
        chunks=stored.chunks,
        embeddings=stored.embeddings,
        title=stored.title,
        error=stored.error,
        machine=stored.machine,
        machine_name=stored.machine_name,
        replaced=stored.replaced,
    )
