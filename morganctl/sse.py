"""Server-sent events, parsed from any cut of the byte stream (pure).

Follows the event stream format of the HTML standard as far as ``/v1`` uses it: ``event`` and ``data`` fields,
comments skipped, lines ended by LF, CR LF or CR.
"""

from __future__ import annotations

from typing import NamedTuple

EVENT_LIMIT_BYTES = 16 * 1024 * 1024


class Event(NamedTuple):
    name: str
    data: bytes


class EventTooLarge(ValueError):
    """One event is over ``EVENT_LIMIT_BYTES``."""


class Parser:
    """Feed bytes, get whole events. A last event without its empty line is not an event."""

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False
        self._name = "message"
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events completed by these bytes. Raises EventTooLarge."""
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        *lines, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        events = [event for line in lines if (event := self._line(line)) is not None]
        if len(self._rest) + self._size > EVENT_LIMIT_BYTES:
            raise EventTooLarge(f"an event is over {EVENT_LIMIT_BYTES} bytes")
        return events

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif field == b"data":
            self._data.append(value)
            self._size += len(value)
        return None

    def _dispatch(self) -> Event | None:
        event = Event(self._name, b"\n".join(self._data)) if self._data else None
        self._name, self._data, self._size = "message", [], 0
        return event
