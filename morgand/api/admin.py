"""What an administrator asks: status, hosts, roles, settings, keys, logs."""

from __future__ import annotations

from aiohttp import web

from morgand.api import schema
from morgand.api.body import read_query, read_struct
from morgand.api.routes import ApiRoute, json
from morgand.api.service import ApiContext
from morgand.security.keys import KeyRecord


class AdminRoutes:
    def __init__(self, service: ApiContext) -> None:
        self._service = service
        self._backend = service.backend

    def routes(self) -> list[ApiRoute]:
        host = "/v1/hosts/{host}"
        setting, key, tag = "/v1/settings/{key}", "/v1/keys/{id}", "administration"
        return [
            ApiRoute("GET", "/v1/status", self.status, "The cluster at a glance", tag, schema.StatusReply,
                  may_be_stale=True),
            ApiRoute("GET", "/v1/hosts", self.hosts, "List hosts", tag, schema.HostsReply),
            ApiRoute("DELETE", host, self.remove, "Remove a host for good", tag, schema.Deleted,
                     query=schema.RemoveQuery,
                  errors=(404, 409, 507)),
            ApiRoute("POST", f"{host}/drain", self.drain, "Move everything off a host", tag, schema.HostView,
                  errors=(404, 409, 507)),
            ApiRoute("POST", f"{host}/resume", self.resume, "Let a host have roles again", tag, schema.HostView,
                  errors=(404, 409, 507)),
            ApiRoute("POST", "/v1/cluster/invitations", self.invite, "Let another machine join", tag,
                  schema.InvitationReply, status=201, errors=(409, 507)),
            ApiRoute("POST", "/v1/cluster/doctor", self.doctor, "See what is wrong with the cluster", tag,
                  schema.DoctorReply, schema.DoctorRequest),
            ApiRoute("GET", "/v1/roles", self.roles, "List roles", tag, schema.RolesReply),
            ApiRoute("GET", "/v1/roles/explain", self.explain, "Why roles are where they are", tag, schema.ExplainReply,
                  query=schema.ExplainQuery, errors=(404,)),
            ApiRoute("POST", "/v1/roles/plan", self.plan, "What would happen with other hosts", tag, schema.PlanReply,
                  schema.PlanRequest, errors=(404,)),
            ApiRoute("GET", "/v1/settings", self.settings, "List settings", tag, schema.SettingsReply),
            ApiRoute("GET", setting, self.setting, "One setting", tag, schema.SettingView, errors=(404,)),
            ApiRoute("PUT", setting, self.set, "Change a setting", tag, schema.SettingView, schema.SettingRequest,
                  errors=(404, 409, 507)),
            ApiRoute("DELETE", setting, self.reset, "Back to the host's own value", tag, schema.Deleted,
                  errors=(404, 409, 507)),
            ApiRoute("GET", "/v1/keys", self.keys, "List API keys", tag, schema.KeysReply),
            ApiRoute("POST", "/v1/keys", self.create_key, "Create an API key", tag, schema.KeyView, schema.KeyRequest,
                  status=201, errors=(409, 507)),
            ApiRoute("DELETE", key, self.revoke, "Revoke an API key", tag, schema.Deleted, errors=(404, 409, 507)),
            ApiRoute("GET", "/v1/logs/{role}", self.logs, "The log of a role's engine", tag, schema.LogReply,
                  query=schema.LogQuery, errors=(404,)),
        ]  # fmt: skip

    async def status(self, _: web.Request) -> web.Response:
        return json(await self._backend.cluster.status())

    async def hosts(self, _: web.Request) -> web.Response:
        return json(await self._backend.cluster.hosts())

    async def drain(self, request: web.Request) -> web.Response:
        return json(await self._backend.members.drain(request.match_info["host"], on=True))

    async def resume(self, request: web.Request) -> web.Response:
        return json(await self._backend.members.drain(request.match_info["host"], on=False))

    async def remove(self, request: web.Request) -> web.Response:
        force = read_query(request, schema.RemoveQuery).force
        return json(schema.Deleted(await self._backend.members.remove(request.match_info["host"], force=force)))

    async def invite(self, _: web.Request) -> web.Response:
        return json(await self._backend.members.invite(), status=201)

    async def doctor(self, request: web.Request) -> web.Response:
        asked = await read_struct(request, schema.DoctorRequest, body_mb=self._service.limits().body_mb)
        return json(await self._backend.doctor.look(mend=asked.mend))

    async def roles(self, _: web.Request) -> web.Response:
        return json(await self._backend.cluster.roles())

    async def explain(self, request: web.Request) -> web.Response:
        return json(await self._backend.cluster.explain(read_query(request, schema.ExplainQuery).role))

    async def plan(self, request: web.Request) -> web.Response:
        asked = await read_struct(request, schema.PlanRequest, body_mb=self._service.limits().body_mb)
        return json(await self._backend.cluster.plan(asked))

    async def settings(self, _: web.Request) -> web.Response:
        return json(schema.SettingsReply(self._backend.settings.list()))

    async def setting(self, request: web.Request) -> web.Response:
        return json(self._backend.settings.get(request.match_info["key"]))

    async def set(self, request: web.Request) -> web.Response:
        wanted = await read_struct(request, schema.SettingRequest, body_mb=self._service.limits().body_mb)
        return json(await self._backend.settings.set(request.match_info["key"], wanted.value))

    async def reset(self, request: web.Request) -> web.Response:
        return json(schema.Deleted((await self._backend.settings.delete(request.match_info["key"])).key))

    async def keys(self, _: web.Request) -> web.Response:
        return json(schema.KeysReply([_view(record) for record in self._backend.keys.list()]))

    async def create_key(self, request: web.Request) -> web.Response:
        wanted = await read_struct(request, schema.KeyRequest, body_mb=self._service.limits().body_mb)
        record, key = await self._backend.keys.create(wanted.owner, expires_days=wanted.expires_days)
        view = _view(record)
        view.key = key
        return json(view, status=201)

    async def revoke(self, request: web.Request) -> web.Response:
        key_id = request.match_info["id"]
        await self._backend.keys.revoke(key_id)
        return json(schema.Deleted(key_id))

    async def logs(self, request: web.Request) -> web.Response:
        role = request.match_info["role"]
        lines = read_query(request, schema.LogQuery).lines
        return json(schema.LogReply(role, await self._backend.logs.tail(role, lines)))


def _view(record: KeyRecord) -> schema.KeyView:
    return schema.KeyView(record.id, record.owner, record.created, record.expires)
