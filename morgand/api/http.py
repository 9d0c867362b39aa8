"""The application: routes, keys, limits, errors in one shape, one log line per request.

Two applications serve the same ``ApiContext``: the one on the Unix socket is trusted (the file's mode is the
permission, nothing is counted), the one on TCP wants a key. No CORS header is ever sent and the key is never a
cookie, so a page in a browser can neither read an answer nor borrow a permission.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from uuid import uuid4

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from morgand.api import openai, openapi, schema
from morgand.api.admin import AdminRoutes
from morgand.api.documents import DocumentRoutes
from morgand.api.health import HealthRoutes
from morgand.api.outbox import OutboxRoutes
from morgand.api.routes import STALE, ApiRoute, json
from morgand.api.search import SearchRoutes
from morgand.api.service import KEY, ApiContext
from morgand.api.turns import TurnRoutes
from morgand.base import staleness
from morgand.base.errors import MorganError, NotFound, NotHereNow, RateLimited, Unauthorized

log = logging.getLogger("morgand.api")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SHUTDOWN_S = 10.0
REQUEST_ID = web.RequestKey("request_id", str)
GUARDS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}  # answers are private and are what they say
UNFORESEEN = "Something went wrong here; the log has the details under this request's X-Request-Id."


def make_app(service: ApiContext, *, trusted: bool) -> web.Application:
    """One site's application. ``trusted``: no key, no rates."""
    routes = all_routes(service)
    gate = Gate(service, {(route.method, route.path): route for route in routes}, trusted=trusted)
    app = web.Application(middlewares=[gate.middleware()])
    for route in routes:
        app.router.add_route(route.method, route.path, route.handler)
    return app


def make_runner(app: web.Application) -> web.AppRunner:
    """A runner that cancels a handler whose client is gone: that stops the generation."""
    return web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)


def all_routes(service: ApiContext) -> list[ApiRoute]:
    """Everything that is served, the description included."""
    description = b""

    async def describe(_: web.Request) -> web.Response:
        """The description is made once."""
        return web.Response(body=description, content_type="application/json")

    parts = (
        TurnRoutes(service),
        OutboxRoutes(service),
        DocumentRoutes(service),
        SearchRoutes(service),
        AdminRoutes(service),
        HealthRoutes(service),
    )
    routes = [route for part in parts for route in part.routes()]
    routes += openai.OpenAIRoutes(service).routes()
    routes.append(ApiRoute("GET", openapi.PATH, describe, "This description", "health", open=True))
    description = msgspec.json.encode(openapi.document(routes))
    return routes


class Gate:
    """What every request passes: key, rate, errors, log, figures."""

    def __init__(self, service: ApiContext, routes: dict[tuple[str, str], ApiRoute], *, trusted: bool) -> None:
        self._service = service
        self._routes = routes
        self._trusted = trusted

    def middleware(self) -> Middleware:
        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._pass(request, handler)

        return gate

    async def _pass(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        began_s = self._service.clock.monotonic()
        resource = request.match_info.route.resource
        pattern = resource.canonical if resource is not None else "unknown"
        route = self._routes.get((request.method, pattern))
        request[REQUEST_ID] = uuid4().hex
        status = 499  # what is logged when the client left first
        try:
            response = await self._answer(request, handler, route)
            status = response.status
        finally:
            seconds = self._service.clock.monotonic() - began_s
            self._service.metrics.seen(request.method if route else "other", pattern, status, seconds)
            self._log(request, pattern, status, seconds)
        return response

    async def _answer(self, request: web.Request, handler: Handler, route: ApiRoute | None) -> web.StreamResponse:
        try:
            self._admit(request, route)
            response = await _handled(request, handler, may_be_stale=route is not None and route.may_be_stale)
        except MorganError as err:
            if err.status >= 500 and not isinstance(err, NotHereNow):
                log.exception("request failed", extra={"request": request[REQUEST_ID]})
            response = _refusal(err, openai_shape=route is not None and route.openai)
        except web.HTTPMethodNotAllowed as err:
            response = _error(405, "method", f"{request.method} is not possible here.")
            response.headers["Allow"] = ", ".join(sorted(err.allowed_methods))
        except web.HTTPException as err:
            missing = NotFound("There is nothing at this address.", remedy=f"See {openapi.PATH}.")
            response = _refusal(missing) if err.status == 404 else _error(err.status, "http", err.reason)
        except Exception:  # supervisor of all handlers: a fault of ours costs one request, with a trace
            log.exception("request failed", extra={"request": request[REQUEST_ID]})
            if request.writer.output_size > 0:
                raise  # part of an answer is out: only cutting the connection says that it is not whole
            response = _refusal(MorganError(UNFORESEEN), openai_shape=route is not None and route.openai)
        if not response.prepared:
            response.headers.update(GUARDS)
            response.headers["X-Request-Id"] = request[REQUEST_ID]
        return response

    def _admit(self, request: web.Request, route: ApiRoute | None) -> None:
        """Key and rate. Raises Unauthorized, RateLimited."""
        if self._trusted or (route is not None and route.open):
            return
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        record = self._service.backend.keys.check(key.strip()) if scheme.lower() == "bearer" else None
        if record is None:
            raise Unauthorized(
                "An API key is needed, and it must be valid.",
                remedy="Send 'Authorization: Bearer KEY'; make a key with `morganctl keys create` on the host.",
            )
        request[KEY] = record.id
        if route is not None and route.rate is not None:
            self._service.rates.admit(record.id, route.rate)

    def _log(self, request: web.Request, pattern: str, status: int, seconds: float) -> None:
        # Probes and figures come every few seconds; people's requests are what the log is for.
        quiet = pattern.startswith("/health") or pattern == "/metrics"
        fields = {
            "request": request[REQUEST_ID],
            "method": request.method,
            "route": pattern,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "key": request.get(KEY, "local" if self._trusted else "none"),
        }
        log.log(logging.DEBUG if quiet else logging.INFO, "request", extra=fields)


async def _handled(request: web.Request, handler: Handler, *, may_be_stale: bool) -> web.StreamResponse:
    """The answer, which says whether it may be stale; where it could not say so, nothing stale is read for it."""
    if not may_be_stale:
        return await handler(request)
    with staleness.reading() as reading:
        response = await handler(request)
        if reading.stale and not response.prepared:
            response.headers[STALE] = "true"
        return response


def _refusal(err: MorganError, *, openai_shape: bool = False) -> web.Response:
    """The error as a response; how long to wait goes into Retry-After, whole seconds."""
    if openai_shape:
        response = json(openai.fault(err), status=err.status)
    else:
        response = _error(err.status, err.code, err.message, err.remedy)
    if isinstance(err, RateLimited | NotHereNow):
        response.headers["Retry-After"] = str(max(1, math.ceil(err.retry_after_s)))
    if isinstance(err, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="morgan"'
    return response


def _error(status: int, code: str, message: str, remedy: str | None = None) -> web.Response:
    return json(schema.ErrorReply(schema.ErrorBody(code, message, remedy)), status=status)
