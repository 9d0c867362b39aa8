"""Health and figures, for people's monitors."""

from __future__ import annotations

from aiohttp import web

from morgand.api import schema
from morgand.api.routes import ApiRoute, json
from morgand.api.service import ApiContext


class HealthRoutes:
    def __init__(self, service: ApiContext) -> None:
        self._service = service

    def routes(self) -> list[ApiRoute]:
        tag = "health"
        return [
            ApiRoute("GET", "/health/live", self.live, "Whether the daemon runs", tag, schema.HealthReply, open=True),
            ApiRoute("GET", "/health/ready", self.ready, "Whether questions can be answered", tag, schema.HealthReply,
                  open=True, also=((503, schema.HealthReply),)),
            ApiRoute("GET", "/metrics", self.metrics, "Figures for Prometheus", tag,
                  content_type="text/plain"),
        ]  # fmt: skip

    async def live(self, _: web.Request) -> web.Response:
        return json(self._service.backend.cluster.health())

    async def ready(self, _: web.Request) -> web.Response:
        """503 only while starting: degraded still answers, and says so in each answer."""
        health = self._service.backend.cluster.health()
        return json(health, status=503 if health.status == "starting" else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        self._service.metrics.waiting.set(self._service.queue.waiting)
        return web.Response(body=self._service.metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})
