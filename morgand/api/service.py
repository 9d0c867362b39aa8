"""What all handlers share: the backend, and the limits both sites draw from."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from aiohttp import web

from morgand.api.backend import Backend
from morgand.api.limits import Queue, Rates
from morgand.api.metrics import Metrics
from morgand.base.clock import Clock, SystemClock
from morgand.base.errors import NotFound
from morgand.config import LimitsConfig

KEY = web.RequestKey("key", str)  # the id of the API key that a request came with


class ApiContext:
    """Made once; the Unix site and the TCP site are two applications over the same one.

    ``limits`` is asked on every request, since shared settings change while the daemon runs.
    """

    def __init__(self, backend: Backend, limits: Callable[[], LimitsConfig], clock: Clock | None = None) -> None:
        self.backend = backend
        self.limits = limits
        self.clock = clock or SystemClock()
        self.rates = Rates(limits, self.clock)
        self.queue = Queue(limits, self.clock)
        self.metrics = Metrics()


def path_id(request: web.Request, kind: str) -> str:
    """The ``{id}`` of the path in its canonical form. Raises NotFound: what is no UUID names nothing."""
    raw = request.match_info["id"]
    try:
        return str(UUID(raw))
    except ValueError as err:
        raise NotFound(f"There is no {kind} with this id.", remedy=f"See `morganctl {kind}s list`.") from err
