"""A client of one member's Patroni REST API, over mutual TLS.

Source: Patroni 4.1, docs/rest_api.rst. Unsafe calls need a certificate of the cluster, as all calls do.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from morgand.base.errors import Conflict, Unavailable
from morgand.security import ca, trust

DEADLINE_S = 2.0
HANDOVER_S = 30.0  # Patroni answers when the candidate has taken over
ANSWER_LIMIT = 2**20


class _Status(msgspec.Struct):
    role: str = ""
    state: str = ""
    timeline: int | None = None
    replication_state: str | None = None


@dataclass(frozen=True, slots=True)
class PatroniMemberStatus:
    """What a member's Patroni says of its server. ``making``: a copy is on its way, or the first database.
    ``timeline`` grows with every change of the primary.
    """

    primary: bool
    running: bool
    streaming: bool
    making: bool
    timeline: int | None


class Rest:
    """The Patroni at ``url``, which must show the certificate of ``host``. Without an answer: Unavailable."""

    def __init__(self, url: str, host: str, tls: ssl.SSLContext) -> None:
        self._url, self._host, self._tls = url, host, tls

    async def status(self) -> PatroniMemberStatus:
        _, body = await self._ask("GET", "patroni")
        try:
            found = msgspec.json.decode(body, type=_Status)
        except msgspec.MsgspecError as err:
            raise Unavailable(f"Patroni at {self._url} answers something else than a status.") from err
        return PatroniMemberStatus(
            primary=found.role in ("primary", "master"),
            running=found.state == "running",
            streaming=found.replication_state == "streaming",
            making=found.state.startswith(("creating", "initializing")),
            timeline=found.timeline,
        )

    async def leads(self) -> bool:
        """Whether this member runs as the primary and holds the leader key."""
        status, _ = await self._ask("GET", "primary")
        return status == 200

    async def alive(self) -> bool:
        """Whether Patroni answers and its loop goes round."""
        try:
            status, _ = await self._ask("GET", "liveness")
        except Unavailable:
            return False
        return status == 200

    async def reload(self) -> None:
        """Read the configuration and the certificates again, the server's too."""
        await self._done("POST", "reload", {})

    async def configure(self, settings: dict[str, Any]) -> None:
        """Let these settings hold for all members. Raises Conflict.

        Even where they held before Patroni's loop goes round at once, not when its second is over.
        """
        await self._done("PATCH", "config", settings)

    async def switchover(self, leader: str, candidate: str) -> None:
        """Let another member be the primary; returns when it is. Raises Conflict when Patroni refuses."""
        await self._done("POST", "switchover", {"leader": leader, "candidate": candidate}, deadline_s=HANDOVER_S)

    async def reinitialize(self) -> None:
        """Throw this member's copy away and fetch a new one. Raises Conflict on the primary."""
        await self._done("POST", "reinitialize", {"force": True}, deadline_s=HANDOVER_S)

    async def _done(self, method: str, path: str, body: dict[str, Any], *, deadline_s: float = DEADLINE_S) -> None:
        status, answer = await self._ask(method, path, body, deadline_s=deadline_s)
        if status not in (200, 202):
            said = answer.decode(errors="replace").strip()[:200]
            raise Conflict(f"Patroni at {self._url} refuses: {said or f'status {status}'}.")

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, deadline_s: float = DEADLINE_S
    ) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(total=deadline_s)
        try:
            # a session for each: Patroni closes the connection after every answer
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.request(
                    method, f"{self._url}/{path}", json=body, ssl=self._tls, server_hostname=ca.host_name(self._host)
                ) as response,
            ):
                return response.status, await response.content.read(ANSWER_LIMIT)
        except TimeoutError as err:
            raise Unavailable(f"Patroni at {self._url} did not answer within {deadline_s:g} s.") from err
        except aiohttp.ClientConnectorError as err:
            raise Unavailable(f"Patroni at {self._url} cannot be reached: {trust.explain(err.os_error)}.") from err
        except (aiohttp.ClientError, OSError) as err:
            raise Unavailable(
                f"Patroni at {self._url} cannot be reached: {str(err) or 'the connection broke'}."
            ) from err
