"""Perform the core role here: the assistant's background work, and the process that reads documents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from morgand.process.nice import DOCUMENTS
from morgand.process.supervisor import Report
from morgand.roles.base import HostContext, ProcessService, RoleService
from morgand.state.roles import RoleState

UNREAD = "Documents cannot be read: {}"
LOADS = "their reader is loading."
EXTRACTOR = "extractor"  # name of the document reader's socket and log


class CoreService:
    """Runs the given background work beside the extractor process; the role is as well as the extractor is."""

    def __init__(self, extractor: RoleService, work: Callable[[], Awaitable[None]]) -> None:
        self._extractor = extractor
        self._work = work

    async def run(self, report: Report) -> None:
        """Ready at once: questions can be answered without a document reader, so its trouble is only told."""

        def relay(state: RoleState, detail: str | None) -> None:
            report(
                RoleState.READY, None if state is RoleState.READY else f"Documents cannot be read: {detail or LOADS}"
            )

        report(RoleState.READY, f"Documents cannot be read: {LOADS}")
        async with asyncio.TaskGroup() as group:
            group.create_task(self._extractor.run(relay), name="extractor")
            group.create_task(_forever(self._work), name="core-work")


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    await work()
    await asyncio.Event().wait()


def service(context: HostContext, tokenizer: Callable[[], str], work: Callable[[], Awaitable[None]]) -> RoleService:
    """``tokenizer`` gives the path of the embedder's tokenizer.json: chunks are measured in its tokens."""

    def options() -> Mapping[str, Any]:
        return {"tokenizer": tokenizer()}

    extractor = ProcessService(context, EXTRACTOR, "morgand.roles.core.extractor_engine", options, priority=DOCUMENTS)
    return CoreService(extractor, work)
