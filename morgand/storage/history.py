"""Conversations and their messages (port ``History``).

A turn is stored once however often and however concurrently it is sent: the person's message has the turn's id, the
answer's id follows from it, and whoever stores locks the conversation first. That lock is an UPDATE on purpose: on a
replicated PostgreSQL a retry must write too, or its commit would not wait for the standby.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID, uuid4, uuid5

import msgspec
from sqlalchemy import case, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from morgand.base.clock import Clock
from morgand.base.errors import Conflict, InvalidInput, NotFound
from morgand.state.assistant import Citation, Conversation, Message, Speaker, Turn
from morgand.storage.database import Database
from morgand.storage.models import ConversationRow, FeedbackRow, MessageRow, UtcTime, clean
from morgand.storage.rows import conversation_of, known_id, message_of, new_id

TITLE_CHARS = 80


def answer_id(turn_id: UUID) -> UUID:
    """The id of a turn's answer."""
    return uuid5(turn_id, "answer")


def opened_id(turn_id: UUID) -> UUID:
    """The id of the conversation that a turn without one opens: a retry finds it again."""
    return uuid5(turn_id, "conversation")


class SqlHistory:
    """Implements ``ports.History``."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def turn(self, turn_id: str) -> Turn | None:
        """What is stored of a turn; None if nothing is (any more)."""
        try:
            message_id = UUID(turn_id)
        except ValueError:
            return None
        async with self._database.read() as session:
            return await _turn(session, message_id)

    async def store_message(
        self, turn_id: str, conversation: str | None, text: str, *, tokens: int, user: str | None,
        created: datetime | None = None,
    ) -> Turn:  # fmt: skip
        """See the port. Raises Conflict for the same id with other content, NotFound for a deleted conversation."""
        message_id, text = new_id(turn_id, "turn"), clean(text)
        said = min(created or self._clock.now(), self._clock.now())  # another host's clock may be ahead
        given = None if conversation is None else new_id(conversation, "conversation")
        async with self._database.write() as session:
            place = given or await _conversation_of_turn(session, message_id)
            position = await self._open_conversation(session, place, text, user, said)
            message = Message(str(message_id), str(place), Speaker.USER, text, tokens, said)
            if not await self._append(session, message, position):
                return await _same_turn(session, message_id, place, text)
        return Turn(message.id, message.conversation, message, None)  # what is new has no answer: no need to look

    async def store_answer(
        self, turn_id: str, text: str, *, tokens: int, citations: Sequence[Citation], notices: Sequence[str]
    ) -> Turn:
        """See the port. Raises NotFound if the turn's message is not stored."""
        message_id = known_id(turn_id, "turn")
        async with self._database.write() as session:
            stored = await session.get(MessageRow, message_id)
            if stored is None or stored.deleted_at or stored.role != Speaker.USER:
                raise NotFound(f"There is no turn '{turn_id}'.")
            position = await _lock(session, stored.conversation_id)
            answer = Message(
                str(answer_id(message_id)), str(stored.conversation_id), Speaker.ASSISTANT, clean(text), tokens,
                self._clock.now(), tuple(citations), tuple(notices),
            )  # fmt: skip
            if await self._append(session, answer, position):
                return Turn(str(message_id), answer.conversation, message_of(stored), answer)
            turn = await _turn(session, message_id)
        assert turn is not None, "it is locked"
        return turn

    async def messages(self, conversation: str, *, after: str | None = None, limit: int = 1000) -> list[Message]:
        """In the order they were stored. Raises NotFound for an unknown conversation or ``after``."""
        async with self._database.read() as session:
            row = await _conversation(session, conversation)
            return await _messages(session, row.id, after, limit)

    async def since_summary(self, conversation: str, *, limit: int = 1000) -> tuple[Conversation, list[Message]]:
        """See the port. Raises NotFound for an unknown conversation."""
        async with self._database.read() as session:
            row = await _conversation(session, conversation)
            through = str(row.summary_through) if row.summary_through else None
            return conversation_of(row), await _messages(session, row.id, through, limit)

    async def conversation(self, conversation: str) -> Conversation:
        async with self._database.read() as session:
            return conversation_of(await _conversation(session, conversation))

    async def conversations(self, *, limit: int = 100, offset: int = 0) -> list[Conversation]:
        """The last used first."""
        async with self._database.read() as session:
            found = await session.scalars(
                select(ConversationRow)
                .where(ConversationRow.deleted_at.is_(None))
                .order_by(ConversationRow.updated_at.desc(), ConversationRow.id)
                .limit(limit)
                .offset(offset)
            )
            return [conversation_of(row) for row in found]

    async def latest_conversation(self, user: str | None) -> Conversation | None:
        """The conversation last used by this user (None: by anybody)."""
        query = select(ConversationRow).where(ConversationRow.deleted_at.is_(None))
        if user is not None:
            query = query.where(ConversationRow.user == user)
        async with self._database.read() as session:
            newest = query.order_by(ConversationRow.updated_at.desc(), ConversationRow.id).limit(1)
            row = await session.scalar(newest)
            return conversation_of(row) if row else None

    async def set_summary(self, conversation: str, summary: str, through: str) -> None:
        """Keep a summary of the messages up to and with ``through``."""
        async with self._database.write() as session:
            row = await _locked(session, conversation)
            row.summary_through = (await _message(session, row.id, through)).id
            row.summary = summary

    async def delete_conversation(self, conversation: str) -> None:
        """Remove what was said, at once; empty rows stay as tombstones so that a late retry cannot bring it back."""
        now = self._clock.now()
        async with self._database.write() as session:
            row = await _locked(session, conversation)
            row.title, row.summary, row.details, row.deleted_at, row.updated_at = "", None, {}, now, now
            for model, emptied in (
                (MessageRow, {"content": "", "citations": [], "notices": []}),
                (FeedbackRow, {"comment": None}),
            ):
                await session.execute(
                    update(model)
                    .where(model.conversation_id == row.id)
                    .values({**emptied, "details": {}, "deleted_at": now, "updated_at": now})
                )

    async def add_feedback(
        self, conversation: str, message: str | None, *, rating: int | None, comment: str | None, kind: str,
        feedback_id: str | None = None,
    ) -> str:  # fmt: skip
        """See the port. Raises InvalidInput for a rating that is not 1 to 5."""
        if rating is not None and not 1 <= rating <= 5:
            raise InvalidInput(f"The rating {rating} is out of range.", remedy="Rate from 1 to 5.")
        now = self._clock.now()
        known = uuid4() if feedback_id is None else new_id(feedback_id, "feedback")
        async with self._database.write() as session:
            row = await _locked(session, conversation)  # else a deletion meanwhile would not see the comment
            about = await _message(session, row.id, message) if message is not None else None
            said = {
                "conversation_id": row.id, "message_id": about.id if about else None, "rating": rating,
                "comment": None if comment is None else clean(comment), "kind": kind,
            }  # fmt: skip
            new = self._database.insert(FeedbackRow).values(
                id=known, user=row.user, created_at=now, updated_at=now, details={}, **said
            )
            kept = new.on_conflict_do_update(index_elements=["id"], set_={"updated_at": FeedbackRow.updated_at})
            stored = await session.execute(kept.returning(*(getattr(FeedbackRow, name) for name in said)))
            if dict(stored.mappings().one()) != said:
                raise Conflict(
                    f"Feedback {known} is already stored with other content.",
                    remedy="Give every new feedback a new id.",
                )
        return str(known)

    async def _open_conversation(
        self, session: AsyncSession, conversation: UUID, text: str, user: str | None, now: datetime
    ) -> int:
        """Make the conversation unless it is there, and lock it; returns the position of the next message."""
        new = self._database.insert(ConversationRow).values(
            id=conversation, user=user, title=_title(text), message_count=0, created_at=now, updated_at=now, details={}
        )
        lock = new.on_conflict_do_update(index_elements=["id"], set_={"updated_at": ConversationRow.updated_at})
        found = await session.execute(lock.returning(ConversationRow.deleted_at, ConversationRow.message_count))
        deleted, position = found.one()
        if deleted is not None:
            _gone(str(conversation))
        return int(position)

    async def _append(self, session: AsyncSession, message: Message, position: int) -> bool:
        """Add a message to a conversation that this transaction has locked; False when its id is taken."""
        conversation = UUID(message.conversation)
        cited: list[Any] = msgspec.to_builtins(list(message.citations))
        new = self._database.insert(MessageRow).values(
            id=UUID(message.id), conversation_id=conversation, position=position, role=message.speaker.value,
            content=message.text, tokens=message.tokens, citations=cited, notices=list(message.notices),
            created_at=message.created, updated_at=message.created, details={},
        )  # fmt: skip
        if await session.scalar(new.on_conflict_do_nothing(index_elements=["id"]).returning(MessageRow.id)) is None:
            return False
        await session.execute(
            update(ConversationRow)
            .where(ConversationRow.id == conversation)
            .values(message_count=position + 1, updated_at=_later(ConversationRow.updated_at, message.created))
            .execution_options(synchronize_session=False)
        )
        return True


def _later(known: Any, new: datetime) -> Any:
    """The later of a column and a time: a message that was kept elsewhere for a while does not turn back the clock."""
    return case((known < new, literal(new, UtcTime())), else_=known)


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= TITLE_CHARS else line[: TITLE_CHARS - 1].rstrip() + "…"


def _gone(conversation: str) -> NoReturn:
    raise NotFound(f"There is no conversation '{conversation}'.", remedy="See `morganctl conversations list`.")


async def _conversation(session: AsyncSession, conversation: str) -> ConversationRow:
    row = await session.get(ConversationRow, known_id(conversation, "conversation"))
    if row is None or row.deleted_at:
        _gone(conversation)
    return row


async def _locked(session: AsyncSession, conversation: str) -> ConversationRow:
    """Read once no other writer can change or delete it any more."""
    await _lock(session, known_id(conversation, "conversation"))
    return await _conversation(session, conversation)


async def _message(session: AsyncSession, conversation: UUID, message: str) -> MessageRow:
    row = await session.get(MessageRow, known_id(message, "message"))
    if row is None or row.conversation_id != conversation:
        raise NotFound(f"There is no message '{message}' in this conversation.")
    return row


async def _messages(session: AsyncSession, conversation: UUID, after: str | None, limit: int) -> list[Message]:
    start = -1 if after is None else (await _message(session, conversation, after)).position
    found = await session.scalars(
        select(MessageRow)
        .where(MessageRow.conversation_id == conversation, MessageRow.position > start)
        .order_by(MessageRow.position)
        .limit(limit)
    )
    return [message_of(message) for message in found]


async def _lock(session: AsyncSession, conversation: UUID) -> int:
    """Keep other writers off a conversation; returns the position of its next message."""
    found = await session.execute(
        update(ConversationRow)
        .where(ConversationRow.id == conversation)
        .values(updated_at=ConversationRow.updated_at)
        .returning(ConversationRow.deleted_at, ConversationRow.message_count)
        .execution_options(synchronize_session=False)
    )
    row = found.one_or_none()
    if row is None or row.deleted_at is not None:
        _gone(str(conversation))
    return int(row.message_count)


async def _turn(session: AsyncSession, message_id: UUID) -> Turn | None:
    rows = await session.scalars(select(MessageRow).where(MessageRow.id.in_([message_id, answer_id(message_id)])))
    found = {row.id: row for row in rows}
    message = found.get(message_id)
    if message is None or message.deleted_at or message.role != Speaker.USER:
        return None
    answer = found.get(answer_id(message_id))
    return Turn(
        id=str(message_id),
        conversation=str(message.conversation_id),
        message=message_of(message),
        answer=message_of(answer) if answer else None,
    )


async def _conversation_of_turn(session: AsyncSession, message_id: UUID) -> UUID:
    """Where a turn that names no conversation belongs: where it is stored already, or in a new one."""
    stored = await session.scalar(select(MessageRow.conversation_id).where(MessageRow.id == message_id))
    return stored or opened_id(message_id)


async def _same_turn(session: AsyncSession, message_id: UUID, conversation: UUID, text: str) -> Turn:
    """A turn that is stored already. Raises Conflict if what came now is something else."""
    stored = await session.get(MessageRow, message_id)
    assert stored is not None, "its id is taken"
    if stored.role != Speaker.USER or stored.conversation_id != conversation or stored.content != text:
        raise Conflict(
            f"Turn {stored.id} is already stored with other content.", remedy="Give every new message a new id."
        )
    turn = await _turn(session, message_id)
    assert turn is not None, "its conversation is live"
    return turn
