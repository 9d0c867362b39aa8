"""Documents: upload, list, show, versions, delete."""

from __future__ import annotations

from aiohttp import BodyPartReader, web

from morgand.api import schema, upload, views
from morgand.api.body import read_query
from morgand.api.limits import Rate
from morgand.api.routes import ApiRoute, json
from morgand.api.service import KEY, ApiContext, path_id
from morgand.base.errors import InvalidInput, MorganError, NotHereNow
from morgand.state.assistant import Document, DocumentState
from morgand.state.ports import Upload

GROUP_FILES = 32  # handed over together: their originals and rows are made durable at once
GROUP_BYTES = 8 * 1024 * 1024


class DocumentRoutes:
    def __init__(self, service: ApiContext) -> None:
        self._service = service
        self._backend = service.backend

    def routes(self) -> list[ApiRoute]:
        one, tag = "/v1/documents/{id}", "documents"
        return [
            ApiRoute("POST", "/v1/documents", self.upload, "Upload documents", tag, schema.UploadReply, status=202,
                  rate=Rate.INGEST, errors=(413, 415, 503, 507)),
            ApiRoute("GET", "/v1/documents", self.documents, "List documents", tag, schema.DocumentsReply,
                  query=schema.DocumentsPage, may_be_stale=True),
            ApiRoute("GET", one, self.document, "One document", tag, schema.DocumentView, errors=(404,),
                  may_be_stale=True),
            ApiRoute("GET", f"{one}/versions", self.versions, "A document and its earlier versions, newest first", tag,
                  schema.DocumentsReply, errors=(404,), may_be_stale=True),
            ApiRoute(
                "DELETE", one, self.delete, "Delete a document everywhere", tag, schema.Deleted, errors=(404, 507)
            ),
        ]  # fmt: skip

    async def upload(self, request: web.Request) -> web.Response:
        """Parts named ``file``, each preceded by its ``source`` (default: the file's name): what it is known by on the
        ``machine`` that sends it. That is said before the first file; a key is a machine of its own otherwise."""
        key = request.get(KEY)
        taking = _Taking(self._service, "" if key is None else f"key:{key}")
        source: str | None = None
        try:
            async for part in upload.parts(request):
                if part.name == "source":
                    source = upload.identity(await upload.field(part))
                elif part.name == "machine":
                    taking.machine = upload.machine(await upload.field(part))
                elif part.name == "machine_name":
                    taking.machine_name = upload.printable(await upload.field(part))[: upload.NAME_CHARS]
                elif part.name == "file":
                    await taking.take(part, source)
                    source = None
                else:
                    raise InvalidInput(f"{upload.printable(part.name or 'body')}: is not a known field of the form.")
            return json(schema.UploadReply(await taking.end()), status=202)
        finally:
            await taking.clear()

    async def documents(self, request: web.Request) -> web.Response:
        page = read_query(request, schema.DocumentsPage)
        state = None if page.state is None else DocumentState(page.state)
        found = await self._backend.library.documents(state=state, limit=page.limit, offset=page.offset)
        return json(schema.DocumentsReply([views.document(one) for one in found]))

    async def document(self, request: web.Request) -> web.Response:
        return json(views.document(await self._backend.library.document(path_id(request, "document"))))

    async def versions(self, request: web.Request) -> web.Response:
        found = await self._backend.library.versions(path_id(request, "document"))
        return json(schema.DocumentsReply([views.document(one) for one in found]))

    async def delete(self, request: web.Request) -> web.Response:
        return json(schema.Deleted((await self._backend.ingestor.delete(path_id(request, "document"))).id))


class _Taking:
    """The files of one upload: spooled one by one, handed over several at a time."""

    def __init__(self, service: ApiContext, machine: str) -> None:
        self.machine, self.machine_name = machine, ""
        self._ingestor = service.backend.ingestor
        self._folder = service.backend.spool
        self._limit_mb = service.limits().document_mb
        self._results: list[schema.UploadResult] = []
        self._spooled: list[tuple[int, Upload]] = []  # with the place of its result
        self._bytes = 0

    async def take(self, part: BodyPartReader, source: str | None) -> None:
        """One file; its fault refuses only itself, unless nothing at all can be taken now."""
        if len(self._results) >= upload.FILES_MAX:
            raise InvalidInput(f"file: more than {upload.FILES_MAX} files in one upload.")
        name = upload.display_name(part.filename)
        try:
            known_by = source or upload.identity(part.filename or name)
            path, size = await upload.spool(part, self._folder, document_mb=self._limit_mb)
        except MorganError as err:
            if not self._results and isinstance(err, NotHereNow):
                raise
            self._results.append(_refused(name, err))
            return
        self._spooled.append((len(self._results), Upload(path, name, known_by, self.machine, self.machine_name)))
        self._results.append(schema.UploadResult(name, "refused"))  # until it is handed over
        self._bytes += size
        if len(self._spooled) >= GROUP_FILES or self._bytes >= GROUP_BYTES:
            await self._hand_over()

    async def end(self) -> list[schema.UploadResult]:
        """Hand over the rest. Raises InvalidInput when there was no file, NotHereNow when nothing can be taken."""
        if not self._results:
            raise InvalidInput("file: the upload holds no file.")
        if self._spooled:
            await self._hand_over()
        return self._results

    async def clear(self) -> None:
        await upload.clear([one.path for _, one in self._spooled])

    async def _hand_over(self) -> None:
        answers = await self._ingestor.accept([one for _, one in self._spooled])
        first, refusals = self._spooled[0][0] == 0, [one for one in answers if isinstance(one, MorganError)]
        if first and len(refusals) == len(answers) and isinstance(refusals[0], NotHereNow):
            raise refusals[0]
        for (place, one), answer in zip(self._spooled, answers, strict=True):
            self._results[place] = _refused(one.name, answer) if isinstance(answer, MorganError) else _taken(*answer)
        self._spooled, self._bytes = [], 0


def _refused(name: str, err: MorganError) -> schema.UploadResult:
    return schema.UploadResult(name, "refused", error=schema.ErrorBody(err.code, err.message, err.remedy))


def _taken(document: Document, new: bool) -> schema.UploadResult:  # noqa: FBT001 - as the ingestor tells it
    return schema.UploadResult(document.name, "accepted" if new else "unchanged", views.document(document))
