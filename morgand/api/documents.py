"""Documents: upload, list, show, delete."""

from __future__ import annotations

from aiohttp import BodyPartReader, web

from morgand.api import schema, upload, views
from morgand.api.body import read_query
from morgand.api.limits import Rate
from morgand.api.routes import Route, json
from morgand.api.service import Service, path_id
from morgand.errors import InvalidInput, MorganError, Unavailable
from morgand.state import DocumentState


class Documents:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._backend = service.backend

    def routes(self) -> list[Route]:
        one, tag = "/v1/documents/{id}", "documents"
        return [
            Route("POST", "/v1/documents", self.upload, "Upload documents", tag, schema.UploadReply, status=202,
                  rate=Rate.INGEST, errors=(413, 415, 503, 507)),
            Route("GET", "/v1/documents", self.documents, "List documents", tag, schema.DocumentsReply,
                  query=schema.DocumentsPage),
            Route("GET", one, self.document, "One document", tag, schema.DocumentView, errors=(404,)),
            Route("DELETE", one, self.delete, "Delete a document everywhere", tag, schema.Deleted, errors=(404, 507)),
        ]  # fmt: skip

    async def upload(self, request: web.Request) -> web.Response:
        """Parts named ``file``, each preceded by its ``source`` (default: the file's name)."""
        results: list[schema.UploadResult] = []
        source: str | None = None
        async for part in upload.parts(request):
            if part.name == "source":
                source = upload.printable(await upload.field(part))[: upload.SOURCE_CHARS]
            elif part.name == "file":
                if len(results) >= upload.FILES_MAX:
                    raise InvalidInput(f"file: more than {upload.FILES_MAX} files in one upload.")
                results.append(await self._take(part, source, first=not results))
                source = None
            else:
                raise InvalidInput(f"{upload.printable(part.name or 'body')}: is not a known field of the form.")
        if not results:
            raise InvalidInput("file: the upload holds no file.")
        return json(schema.UploadReply(results), status=202)

    async def _take(self, part: BodyPartReader, source: str | None, *, first: bool) -> schema.UploadResult:
        """One file; its fault refuses only itself, unless nothing at all can be taken now."""
        name = upload.display_name(part.filename)
        limit_mb = self._service.limits().document_mb
        try:
            async with upload.spooled(part, self._backend.spool, document_mb=limit_mb) as (path, size):
                if size == 0:
                    raise InvalidInput(f"{name}: the file is empty.")
                document, new = await self._backend.ingestor.accept(path, name=name, source=source or name)
        except MorganError as err:
            if first and isinstance(err, Unavailable):
                raise
            error = schema.ErrorBody(err.code, err.message, err.remedy)
            return schema.UploadResult(name, "refused", error=error)
        return schema.UploadResult(name, "accepted" if new else "unchanged", views.document(document))

    async def documents(self, request: web.Request) -> web.Response:
        page = read_query(request, schema.DocumentsPage)
        state = None if page.state is None else DocumentState(page.state)
        found = await self._backend.library.documents(state=state, limit=page.limit, offset=page.offset)
        return json(schema.DocumentsReply([views.document(one) for one in found]))

    async def document(self, request: web.Request) -> web.Response:
        return json(views.document(await self._backend.library.document(path_id(request, "document"))))

    async def delete(self, request: web.Request) -> web.Response:
        return json(schema.Deleted((await self._backend.ingestor.delete(path_id(request, "document"))).id))
