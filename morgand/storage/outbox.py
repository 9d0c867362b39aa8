"""Messages that wait on this host until the database can be reached: one sealed file each, in the order they came.

A message is acknowledged as kept only when its file is durable. What the database refuses for good is set aside with
the reason and stays readable; a file that is damaged is set aside too. Neither holds up the others.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from morgand.base.errors import Conflict, MorganError, NotFound, Overloaded, Unavailable
from morgand.storage.history import opened_id
from morgand.storage.models import clean
from morgand.storage.rows import new_id
from morgand.storage.sealed import DamagedFile, SealedFolder

log = logging.getLogger("morgand.outbox")

MAX_MESSAGES = 2_000
MAX_BYTES = 64 * 1024 * 1024
FULL_RETRY_S = 30.0
KEPT, REFUSED = ".kept", ".refused"
NUMBER_DIGITS = 12

T = TypeVar("T")


class KeptMessage(msgspec.Struct, frozen=True):
    """A turn as the person sent it. ``reason``: why the database refused it for good."""

    turn: str
    text: str
    conversation: str | None
    answer: bool
    documents: bool
    user: str | None
    created: datetime
    reason: str | None = None

    @property
    def place(self) -> str:
        """The conversation it belongs to: the one it names, or the one it opens."""
        return self.conversation or str(opened_id(new_id(self.turn, "turn")))


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """What is known of a kept message without opening it. ``digest`` is the text's."""

    name: str
    turn: str
    place: str
    digest: bytes
    size: int
    reason: str | None = None

    @property
    def refused(self) -> bool:
        return self.reason is not None


class Outbox:
    """``host`` is this host's name, for people. ``open`` before everything else; nothing here blocks the loop."""

    def __init__(
        self, data_dir: Path, host: str, *, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES
    ) -> None:
        self.host = host
        self.damaged: tuple[Path, ...] = ()
        self._files = SealedFolder(data_dir / "outbox", data_dir / "outbox.key")
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._entries: dict[str, OutboxEntry] = {}  # by turn, oldest first
        self._delivered: set[str] = set()  # turns that are stored, and are being answered
        self._number = 0
        self._changing = asyncio.Lock()
        self._changed = asyncio.Event()

    async def open(self) -> None:
        """Read what waits; damaged files are set aside, unreadable ones are told. Raises StorageFull, Unavailable."""
        unreadable: list[Path] = []
        every = await asyncio.to_thread(self._files.names)
        for name in (one for one in every if one.endswith((KEPT, REFUSED))):
            self._number = max(self._number, _number(name))
            try:
                body = await asyncio.to_thread(self._files.read, name)
                message = _decoded(name, body)
            except DamagedFile as err:
                await self._set_aside(name, err)
                continue
            except Unavailable as err:
                log.warning("kept message cannot be read", extra={"file": name, "reason": err.message})
                unreadable.append(self._files.folder / name)
                continue
            earlier = self._entries.pop(message.turn, None)
            self._entries[message.turn] = _entry(name, message, len(body))
            if earlier is not None:  # the daemon was killed after a file took the place of another
                await asyncio.to_thread(self._files.remove, earlier.name)
        self.damaged = (*await asyncio.to_thread(self._files.damaged), *unreadable)
        if self._entries:
            log.info("messages wait", extra={"waiting": len(self.waiting()), "refused": len(self.refused())})

    def next(self) -> asyncio.Event:
        """Set when something has changed since this call."""
        return self._changed

    def waiting(self) -> list[OutboxEntry]:
        """What is to be delivered, oldest first; what is stored and only waits for its answer included."""
        return [one for one in self._entries.values() if not one.refused]

    @property
    def undelivered(self) -> int:
        """Messages that the database does not have yet."""
        return sum(one.turn not in self._delivered for one in self.waiting())

    def refused(self) -> list[OutboxEntry]:
        return [one for one in self._entries.values() if one.refused]

    def all(self) -> list[OutboxEntry]:
        """Oldest first."""
        return list(self._entries.values())

    def find(self, turn: str) -> OutboxEntry | None:
        """A message that waits, and is not stored yet."""
        found = self._entries.get(turn)
        return None if found is None or found.refused or turn in self._delivered else found

    def holds_up(self, place: str) -> bool:
        """Whether messages of a conversation wait: what comes now must not overtake them."""
        return any(one.place == place and one.turn not in self._delivered for one in self.waiting())

    async def put(self, message: KeptMessage) -> OutboxEntry:
        """Durable when it returns. The same turn again stores nothing twice.

        Raises Conflict (same turn, other content), InvalidInput (an id that is none), Overloaded (the outbox is full),
        StorageFull.
        """
        new_id(message.turn, "turn")
        return await _to_the_end(self._put(msgspec.structs.replace(message, text=clean(message.text))))

    async def read(self, entry: OutboxEntry) -> KeptMessage:
        """Raises Damaged after setting the file aside, Unavailable."""
        try:
            return _decoded(entry.name, await asyncio.to_thread(self._files.read, entry.name))
        except DamagedFile as err:
            await self._set_aside(entry.name, err)
            self._drop(entry)
            raise

    def delivered(self, entry: OutboxEntry) -> None:
        """The database has it; the file stays until the answer is stored too."""
        self._delivered.add(entry.turn)
        self._notify()

    async def remove(self, entry: OutboxEntry) -> None:
        """Forget a message. Raises StorageFull, Unavailable: it may be there again after a restart."""
        try:
            await asyncio.to_thread(self._files.remove, entry.name)
        finally:
            self._drop(entry)

    async def refuse(self, entry: OutboxEntry, reason: str) -> None:
        """Set a message aside. Raises Damaged, StorageFull, Unavailable."""
        message = msgspec.structs.replace(await self.read(entry), reason=reason)
        name = entry.name.removesuffix(KEPT) + REFUSED
        size = await asyncio.to_thread(self._files.write, name, msgspec.msgpack.encode(message))
        self._entries[entry.turn] = replace(entry, name=name, reason=reason, size=size)
        self._notify()
        await asyncio.to_thread(self._files.remove, entry.name)

    async def discard(self, turn: str) -> None:
        """Remove a message that was refused, at a person's wish. Raises NotFound, Conflict while it waits."""
        entry = self._entries.get(turn)
        if entry is None:
            raise NotFound(f"No message '{turn}' is kept on this host.")
        if not entry.refused:
            raise Conflict("The message waits and will be sent.", remedy="Delete its conversation afterwards.")
        await self.remove(entry)

    async def _put(self, message: KeptMessage) -> OutboxEntry:
        body = msgspec.msgpack.encode(message)
        async with self._changing:
            known = self._entries.get(message.turn)
            if known is not None and not known.refused:
                check_same(known, message.text, message.conversation)
                return known
            self._check_room(len(body))
            self._number += 1
            name = f"{self._number:0{NUMBER_DIGITS}d}-{message.turn}{KEPT}"
            size = await asyncio.to_thread(self._files.write, name, body)
            self._entries.pop(message.turn, None)
            entry = self._entries[message.turn] = _entry(name, message, size)
            if known is not None:  # refused before, and sent again
                await asyncio.to_thread(self._files.remove, known.name)
        self._delivered.discard(message.turn)
        self._notify()
        return entry

    def _check_room(self, size: int) -> None:
        used = sum(one.size for one in self._entries.values())
        if len(self._entries) < self._max_messages and used + size <= self._max_bytes:
            return
        raise Overloaded(
            f"{len(self._entries)} messages ({used >> 20} MiB) are kept on {self.host} already: it takes no more.",
            retry_after_s=FULL_RETRY_S,
            remedy="Bring the database back (`morganctl status` says where it is), or discard what was refused "
            "(`morganctl conversations waiting`).",
        )

    async def _set_aside(self, name: str, err: DamagedFile) -> None:
        log.error("kept message damaged", extra={"file": name, "reason": err.message})
        try:
            await asyncio.to_thread(self._files.set_aside, name)
            self.damaged = tuple(await asyncio.to_thread(self._files.damaged))
        except MorganError as fault:  # it stays where it is, and is met again at the next start
            log.warning("damaged file not set aside", extra={"reason": fault.message})

    def _drop(self, entry: OutboxEntry) -> None:
        self._entries.pop(entry.turn, None)
        self._delivered.discard(entry.turn)
        self._notify()

    def _notify(self) -> None:
        told, self._changed = self._changed, asyncio.Event()
        told.set()


def heads(entries: Sequence[OutboxEntry]) -> list[OutboxEntry]:
    """The oldest message of each conversation, oldest first."""
    first: dict[str, OutboxEntry] = {}
    for one in entries:
        first.setdefault(one.place, one)
    return list(first.values())


def check_same(known: OutboxEntry, text: str, conversation: str | None) -> None:
    """Raises Conflict if a turn that is kept came again with other content."""
    if known.digest != _digest(clean(text)) or (conversation is not None and conversation != known.place):
        raise Conflict(
            f"Turn {known.turn} is already kept with other content.", remedy="Give every new message a new id."
        )


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of work that a caller who goes away does not cut short: memory and disk stay in step."""
    doing = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait((doing,))
        doing.exception()
        raise


def _entry(name: str, message: KeptMessage, size: int) -> OutboxEntry:
    return OutboxEntry(name, message.turn, message.place, _digest(message.text), size, message.reason)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _number(name: str) -> int:
    digits = name[:NUMBER_DIGITS]
    return int(digits) if digits.isdecimal() else 0


def _decoded(name: str, body: bytes) -> KeptMessage:
    try:
        return msgspec.msgpack.decode(body, type=KeptMessage)
    except msgspec.MsgspecError as err:
        raise DamagedFile(f"The message in {name} cannot be read: {err}.") from err
