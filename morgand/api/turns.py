"""Turns, questions, conversations and feedback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar
from uuid import uuid4

import msgspec
from aiohttp import web

from morgand.api import schema, sse, views
from morgand.api.body import read_query, read_struct
from morgand.api.limits import Rate
from morgand.api.routes import ApiRoute, json
from morgand.api.service import ApiContext, path_id
from morgand.assistant import degrade
from morgand.assistant.events import Delta, QueryDone, QueryEvent, Queued, Replace, TurnAccepted, TurnDone, TurnEvent
from morgand.base import staleness
from morgand.base.errors import InvalidInput, MorganError, NotFound

S = TypeVar("S", bound=msgspec.Struct)
D = TypeVar("D", bound=TurnDone | Queued | QueryDone)


class AcceptedEvent(schema.Reply):
    """The message is stored; the answer follows."""

    id: str
    conversation: str


class TextEvent(schema.Reply):
    text: str


class TurnRoutes:
    def __init__(self, service: ApiContext) -> None:
        self._service = service
        self._backend = service.backend

    def routes(self) -> list[ApiRoute]:
        tag = "conversations"
        listing, messages = "/v1/conversations", "/v1/conversations/{id}/messages"
        return [
            ApiRoute("POST", "/v1/turns", self.turn, "Say something and get an answer", tag, schema.TurnReply,
                  schema.TurnRequest, rate=Rate.CHAT, stream=True, errors=(404, 409, 507),
                  also=((202, schema.QueuedReply),)),
            ApiRoute("POST", "/v1/query", self.query, "Ask one question without history", tag, schema.QueryReply,
                  schema.QueryRequest, rate=Rate.CHAT, stream=True, may_be_stale=True),
            ApiRoute("GET", listing, self.conversations, "List conversations, the latest first", tag,
                  schema.ConversationsReply, query=schema.Page, may_be_stale=True),
            ApiRoute("GET", "/v1/conversations/{id}", self.conversation, "One conversation", tag,
                  schema.ConversationView, errors=(404,), may_be_stale=True),
            ApiRoute("DELETE", "/v1/conversations/{id}", self.delete, "Delete a conversation", tag, schema.Deleted,
                  errors=(404, 507)),
            ApiRoute("GET", messages, self.messages, "The messages of a conversation", tag, schema.MessagesReply,
                  query=schema.MessagesPage, errors=(404,), may_be_stale=True),
            ApiRoute("POST", "/v1/feedback", self.feedback, "Say how an answer was", tag, schema.FeedbackReply,
                  schema.FeedbackRequest, errors=(404, 409, 507)),
        ]  # fmt: skip

    async def turn(self, request: web.Request) -> web.StreamResponse:
        asked = await self._read(request, schema.TurnRequest)
        with await self._place(asked):
            events = self._backend.assistant.turn(
                str(asked.id),
                asked.text,
                conversation=None if asked.conversation is None else str(asked.conversation),
                answer=asked.answer,
                documents=asked.documents,
                user=asked.user,
            )
            if asked.stream:
                return await sse.respond(request, events, frame, failure)
            done: TurnDone | Queued = await _last(events, TurnDone, Queued)
        return json(_queued(done), status=202) if isinstance(done, Queued) else json(views.turn(done.turn))

    async def _place(self, asked: schema.TurnRequest) -> AbstractContextManager[None]:
        """A place in the line for the LLM; a note, a turn that has its answer, and one that is kept need none."""
        queue = self._service.queue
        if not asked.answer or self._backend.outbox.find(str(asked.id)) is not None:
            return nullcontext()
        stored = await self._backend.history.turn(str(asked.id)) if queue.full else None
        return nullcontext() if stored is not None and stored.answer is not None else queue.place()

    async def query(self, request: web.Request) -> web.StreamResponse:
        asked = await self._read(request, schema.QueryRequest)
        with self._service.queue.place():
            events = self._backend.assistant.query(asked.text, documents=asked.documents)
            if asked.stream:
                return await sse.respond(request, events, frame, failure)
            done = await _last(events, QueryDone)
        return json(_answered(done))

    async def conversations(self, request: web.Request) -> web.Response:
        page = read_query(request, schema.Page)
        found = await self._backend.history.conversations(limit=page.limit, offset=page.offset)
        return json(schema.ConversationsReply([views.conversation(one) for one in found]))

    async def conversation(self, request: web.Request) -> web.Response:
        found = await self._backend.history.conversation(path_id(request, "conversation"))
        return json(views.conversation(found))

    async def messages(self, request: web.Request) -> web.Response:
        page = read_query(request, schema.MessagesPage)
        conversation = (await self._backend.history.conversation(path_id(request, "conversation"))).id
        after = None if page.after is None else str(page.after)
        found = await self._backend.history.messages(conversation, after=after, limit=page.limit)
        return json(schema.MessagesReply(conversation, [views.message(one) for one in found]))

    async def delete(self, request: web.Request) -> web.Response:
        conversation = path_id(request, "conversation")
        await self._backend.history.delete_conversation(conversation)
        return json(schema.Deleted(conversation))

    async def feedback(self, request: web.Request) -> web.Response:
        given = await self._read(request, schema.FeedbackRequest)
        if given.rating is None and given.comment is None:
            raise InvalidInput("rating: give a rating, a comment, or both.")
        history = self._backend.history
        if given.conversation is None:
            latest = await history.latest_conversation(None)
            if latest is None:
                raise NotFound("There is no conversation yet.", remedy="Have one with `morganctl chat`.")
            conversation = latest.id
        else:
            conversation = str(given.conversation)
        message = None if given.message is None else str(given.message)
        stored = await history.add_feedback(
            conversation, message, rating=given.rating, comment=given.comment, kind=given.kind,
            feedback_id=str(given.id or uuid4()),
        )  # fmt: skip
        return json(schema.FeedbackReply(stored, conversation))

    async def _read(self, request: web.Request, kind: type[S]) -> S:
        return await read_struct(request, kind, body_mb=self._service.limits().body_mb)


def frame(event: TurnEvent | QueryEvent) -> bytes:
    """One event of the assistant as a server-sent event."""
    match event:
        case TurnAccepted(turn_id, conversation):
            return sse.event("accepted", AcceptedEvent(turn_id, conversation))
        case Queued():
            return sse.event("queued", _queued(event))
        case Delta(text):
            return sse.event("delta", TextEvent(text))
        case Replace(text):
            return sse.event("replace", TextEvent(text))
        case TurnDone(turn):
            return sse.event("done", views.turn(turn))
        case QueryDone():
            return sse.event("done", _answered(event))


def _queued(event: Queued) -> schema.QueuedReply:
    return schema.QueuedReply(event.id, event.conversation, event.message)


def failure(err: MorganError) -> bytes:
    return sse.event("error", schema.ErrorReply(schema.ErrorBody(err.code, err.message, err.remedy)))


def _answered(done: QueryDone) -> schema.QueryReply:
    notices = [*done.notices, *([degrade.NOTICE_STALE] if staleness.stale() else [])]
    return schema.QueryReply(done.answer, [views.citation(one) for one in done.citations], notices)


async def _last(events: AsyncIterator[TurnEvent] | AsyncIterator[QueryEvent], *kinds: type[D]) -> D:
    """The event that ends the stream."""
    done = None
    async for event in events:
        if isinstance(event, kinds):
            done = event
    if done is None:
        raise MorganError("The answer ended before it was complete.")
    return done
