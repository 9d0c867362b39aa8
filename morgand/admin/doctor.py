"""``morganctl cluster doctor``: look through all hosts and stores, say what is wrong, and mend what is safe to mend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from morgand.admin import diagnosis
from morgand.admin.diagnosis import HostSeen, Stored
from morgand.api.schema import DoctorReply, FindingView, StatusReply
from morgand.assistant.rag.removal import everything
from morgand.base.clock import Clock
from morgand.base.errors import InvalidInput, MorganError, Unavailable
from morgand.peers import wire
from morgand.peers.client import PeerClient
from morgand.peers.directory import ClusterDirectory
from morgand.peers.wire import Export
from morgand.roles.core.spec import SPEC as CORE
from morgand.security.keys import KeyRecord
from morgand.state.findings import Examination, Finding
from morgand.state.hosts import HostState
from morgand.state.ports import Examiner, Library, Objects, Vectors

T = TypeVar("T")

PORT = "examiner"
EXAMINED_S = 8.0  # until a host has looked through itself; it waits for others in turn
STORES_S = 30.0  # until all documents were listed
AGAIN_S = 2.0  # between two looks at what may be on its way


@dataclass(frozen=True, slots=True)
class Stores:
    library: Library
    objects: Objects
    vectors: Vectors


def export(examiner: Examiner) -> Export:
    """How other hosts ask this one: it holds no role for that."""
    return Export("", Examiner, examiner, frozenset({"examine", "mend"}))


class Doctor:
    """Implements ``api.backend.DoctorApi``. ``examiner`` is this host's own, ``client`` the way to the others'."""

    def __init__(
        self, examiner: Examiner, *, directory: ClusterDirectory, client: Callable[[], PeerClient | None],
        stores: Stores, status: Callable[[], Awaitable[StatusReply]], keys: Callable[[], Sequence[KeyRecord]],
        clock: Clock,
    ) -> None:  # fmt: skip
        self._examiner, self._directory, self._client = examiner, directory, client
        self._stores, self._status, self._keys, self._clock = stores, status, keys, clock

    async def look(self, *, mend: bool) -> DoctorReply:
        """Look through everything; ``mend`` what is mendable, and say of each finding whether that was done."""
        status = await self._status()
        skipped: list[str] = []
        hosts, stores = await asyncio.gather(self._hosts(), self._looks(skipped))
        now = self._clock.now()
        names = self._directory.names()
        lags = {names.get(one.host, one.host): one.lag_bytes for one in status.database.standbys}
        found = [
            *diagnosis.of_status(status.warnings),
            *diagnosis.of_hosts(hosts, now),
            *diagnosis.of_copies(lags, status.database.engine, len(status.hosts)),
            *diagnosis.of_stores(stores),
            *diagnosis.of_keys(self._keys(), now),
        ]
        mended = {one: await self._mend(one, skipped) for one in found if mend and one.mendable}
        return DoctorReply(
            findings=[_view(one, names, mended=mended.get(one, False)) for one in found],
            examined=[one.name for one in hosts if one.found is not None],
            skipped=skipped,
        )

    async def _hosts(self) -> list[HostSeen]:
        """Every host that counts as there; one that does not is told by the status."""
        names = self._directory.names()
        there = [host for host, one in self._directory.hosts().items() if one.state is HostState.ALIVE]
        return list(await asyncio.gather(*(self._host(host, names.get(host, host), there) for host in there)))

    async def _host(self, host: str, name: str, there: Sequence[str]) -> HostSeen:
        others = [one for one in there if one != host and self._directory.address_of(one)]
        asked_at, began = self._clock.now(), self._clock.monotonic()
        try:
            async with asyncio.timeout(EXAMINED_S):
                found: Examination = await self._ask(host, "examine", others)
        except InvalidInput:
            return HostSeen(host, name, error="its morgand is older and has no doctor.")
        except MorganError as err:
            return HostSeen(host, name, error=err.message)
        except TimeoutError:
            return HostSeen(host, name, error=f"it has not answered within {EXAMINED_S:.0f} s.")
        took_s = self._clock.monotonic() - began
        skew_s = (found.now - asked_at).total_seconds() - took_s / 2
        return HostSeen(host, name, found, skew_s=skew_s, within_s=took_s / 2)

    async def _ask(self, host: str, method: str, *arguments: object) -> Any:
        if host == self._directory.me:
            return await getattr(self._examiner, method)(*arguments)
        client = self._client()
        if client is None:
            raise Unavailable("This host has no links to others yet.")
        signature = wire.signature_of(Examiner, method)
        return await client.call(host, PORT, signature, wire.pack_arguments(signature, arguments, {}), epoch=0)

    async def _looks(self, skipped: list[str]) -> list[Stored]:
        """Two looks, a moment apart."""
        first = await self._stored(skipped)
        await self._clock.sleep(AGAIN_S)
        return [first, await self._stored([])]

    async def _stored(self, skipped: list[str]) -> Stored:
        """Objects before documents, and the index before the library: what comes in meanwhile is then no surplus."""
        stores = self._stores
        objects = await self._part("originals", stores.objects.keys(), skipped)
        index = await self._part("the index", stores.vectors.counts(), skipped)
        live = await self._part("the documents", stores.library.live(), skipped)
        documents = await self._part("the documents", everything(stores.library, earlier=True), [])
        if documents is None:
            return Stored()
        return Stored(documents, frozenset(objects) if objects is not None else None, live, index)

    async def _part(self, what: str, asking: Awaitable[T], skipped: list[str]) -> T | None:
        try:
            async with asyncio.timeout(STORES_S):
                return await asking
        except MorganError as err:
            skipped.append(f"Of {what} nothing could be seen: {err.message}")
        except TimeoutError:
            skipped.append(f"Of {what} nothing could be seen within {STORES_S:.0f} s.")
        return None

    async def _mend(self, one: Finding, skipped: list[str]) -> bool:
        try:
            async with asyncio.timeout(STORES_S):
                await self._ask(one.host or self._keeper(), "mend", one.kind)
        except MorganError as err:
            skipped.append(f"Not mended: {err.message}")
            return False
        except TimeoutError:
            skipped.append(f"Not mended within {STORES_S:.0f} s; it goes on by itself: {one.text}")
            return False
        return True

    def _keeper(self) -> str:
        """The host that processes documents: it alone knows which are on their way into the index."""
        held = self._directory.holders(CORE.name)
        main = next((one.host for one in held if one.part == CORE.parts[0].name), None)
        if main is None:
            raise Unavailable("Nobody processes documents now.", remedy="See `morganctl roles explain core`.")
        return main


def _view(one: Finding, names: dict[str, str], *, mended: bool) -> FindingView:
    return FindingView(
        kind=one.kind.value, text=one.text, remedy=one.remedy, host=one.host,
        host_name=names.get(one.host, one.host) if one.host is not None else "",
        mendable=one.mendable, mended=mended,
    )  # fmt: skip
