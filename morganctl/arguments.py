"""Arguments checked before anything is sent (pure but for reading a named file)."""

from __future__ import annotations

from uuid import UUID

from morganctl.errors import UsageFault

TEXT_LIMIT = 200_000


def valid_text(text: str) -> str:
    """A question or message as it can be sent. Raises UsageFault when empty, too long or not text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as err:
        raise UsageFault("The text is not valid UTF-8.") from err
    if not text.strip():
        raise UsageFault("The text is empty.", remedy="Write what you want to know.")
    if len(text) > TEXT_LIMIT:
        raise UsageFault(
            f"The text has {len(text)} characters; {TEXT_LIMIT} are accepted.",
            remedy="Put it into a file and use `morganctl ingest`.",
        )
    return text


def whole_id(text: str) -> UUID | None:
    """The id when it is a whole one."""
    try:
        return UUID(text)
    except ValueError:
        return None
