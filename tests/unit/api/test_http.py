"""The application over HTTP: keys, limits, errors, streams, uploads."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from openapi_spec_validator import validate

from morgand.api.http import all_routes, make_app
from morgand.base.errors import Overloaded, StorageFull
from morgand.state.ports import DocumentResult
from morgand.storage.outbox import Outbox
from tests.fakes.backend import MemoryIngestor, ScriptedAssistant
from tests.fakes.server import Served


async def send(api: Served, method: str, path: str, **more: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
    async with api.session.request(method, path, **more) as response:
        text = await response.text()
        is_json = response.content_type == "application/json"
        return response.status, json.loads(text) if is_json else text, response


def turn(**more: Any) -> dict[str, Any]:
    return {"id": str(uuid4()), "text": "What is the pressure?"} | more


async def without_database(api: Served) -> tuple[ScriptedAssistant, Outbox]:
    """From now on messages go to the outbox."""
    assistant, outbox = api.backend.assistant, api.backend.outbox
    assert isinstance(assistant, ScriptedAssistant)
    assert isinstance(outbox, Outbox)
    await outbox.open()
    assistant.away = outbox
    return assistant, outbox


async def test_a_turn_is_stored_and_repeating_it_returns_the_stored_answer(api: Served) -> None:
    """The same id again gives the same answer and one message."""
    body = turn()
    first = await send(api, "POST", "/v1/turns", json=body)
    again = await send(api, "POST", "/v1/turns", json=body)
    assert first[:2] == again[:2]
    assert first[0] == 200
    assert first[1]["answer"] == "The pressure is 1.5 bar [1]."
    assert first[1]["citations"][0]["place"] == "page 3"
    _, listed, _ = await send(api, "GET", f"/v1/conversations/{first[1]['conversation']}/messages")
    assert [one["role"] for one in listed["messages"]] == ["user", "assistant"]


async def test_the_same_feedback_again_is_one(api: Served) -> None:
    """With the id it was given, or with one of its own where it was given none; with other content it is refused."""
    conversation = (await send(api, "POST", "/v1/turns", json=turn()))[1]["conversation"]
    given = {"id": str(uuid4()), "conversation": conversation, "rating": 4}
    for _ in range(2):
        assert (await send(api, "POST", "/v1/feedback", json=given))[1]["id"] == given["id"]
    assert (await send(api, "POST", "/v1/feedback", json=given | {"rating": 1}))[0] == 409
    ids = {(await send(api, "POST", "/v1/feedback", json={"rating": 4}))[1]["id"] for _ in range(2)}
    assert len(ids) == 2


async def test_a_streamed_turn_ends_in_done(api: Served) -> None:
    """Events come in order: accepted, deltas, done."""
    status, text, response = await send(api, "POST", "/v1/turns", json=turn(stream=True))
    assert status == 200
    assert response.content_type == "text/event-stream"
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names == ["accepted", "delta", "delta", "delta", "done"]


async def test_a_turn_that_is_kept_answers_202_until_it_is_stored(api: Served) -> None:
    """Whole and as a stream; listed on the host that keeps it; with the stored result from then on."""
    (assistant, outbox), body = await without_database(api), turn()
    first, again = [(await send(api, "POST", "/v1/turns", json=body))[:2] for _ in range(2)]
    assert first == again
    said = {"id": body["id"], "conversation": first[1]["conversation"], "message": "It waits on atlas.", "queued": True}
    assert first == (202, said)
    _, text, response = await send(api, "POST", "/v1/turns", json=body | {"stream": True})
    assert response.content_type == "text/event-stream"
    assert text.startswith("event: queued\ndata: {")
    assert json.loads(text.splitlines()[1].removeprefix("data: ")) == said
    _, listed, _ = await send(api, "GET", "/v1/outbox")
    assert listed["host"] == "atlas"
    assert [(one["id"], one["text"], one["state"]) for one in listed["messages"]] == [
        (body["id"], body["text"], "waiting")
    ]
    assistant.away = None
    await outbox.remove(outbox.all()[0])
    assert (await send(api, "POST", "/v1/turns", json=body))[0] == 200


async def test_only_what_was_refused_can_be_discarded(api: Served) -> None:
    """A message that waits will be sent; what nobody keeps is not found."""
    (_, outbox), body = await without_database(api), turn()
    await send(api, "POST", "/v1/turns", json=body)
    assert (await send(api, "DELETE", f"/v1/outbox/{body['id']}"))[0] == 409
    await outbox.refuse(outbox.all()[0], "It was deleted.")
    _, listed, _ = await send(api, "GET", "/v1/outbox")
    assert [(one["state"], one["reason"]) for one in listed["messages"]] == [("refused", "It was deleted.")]
    assert (await send(api, "DELETE", f"/v1/outbox/{body['id']}"))[0] == 200
    assert (await send(api, "DELETE", f"/v1/outbox/{body['id']}"))[0] == 404


async def test_a_kept_turn_needs_no_place_in_a_full_line(api: Served) -> None:
    """Who asks whether the message is sent is not told that the LLM is busy."""
    await without_database(api)
    body = turn()
    assert (await send(api, "POST", "/v1/turns", json=body))[0] == 202
    api.limits[0] = replace(api.limits[0], queue=0)
    assert (await send(api, "POST", "/v1/turns", json=body))[0] == 202


async def test_a_failure_in_mid_stream_is_an_error_event_and_before_it_a_status(api: Served) -> None:
    """Once bytes are out only an event can tell; before that the status does."""
    assistant = api.backend.assistant
    assert isinstance(assistant, ScriptedAssistant)
    assistant.error, assistant.fail_after = Overloaded(retry_after_s=7), 2
    _, text, _ = await send(api, "POST", "/v1/query", json={"text": "?", "stream": True})
    assert text.rstrip().splitlines()[-2] == "event: error"
    assistant.fail_after = 0
    status, body, response = await send(api, "POST", "/v1/query", json={"text": "?", "stream": True})
    assert (status, body["error"]["code"], response.headers["Retry-After"]) == (503, "overloaded", "7")


async def test_a_client_that_leaves_stops_the_generation(api: Served) -> None:
    """Disconnecting cancels the assistant."""
    assistant = api.backend.assistant
    assert isinstance(assistant, ScriptedAssistant)
    assistant.hold = asyncio.Event()
    async with api.session.post("/v1/query", json={"text": "?", "stream": True}) as response:
        await response.content.readline()
        response.close()
    await asyncio.wait_for(assistant.stopped.wait(), 30)
    assert api.service.queue.waiting == 0


async def test_a_full_queue_answers_503_with_the_wait(api: Served) -> None:
    """Over limits.queue nobody waits unheard."""
    api.limits[0] = replace(api.limits[0], queue=1)
    assistant = api.backend.assistant
    assert isinstance(assistant, ScriptedAssistant)
    assistant.hold = asyncio.Event()
    waiting = asyncio.create_task(send(api, "POST", "/v1/query", json={"text": "first"}))
    while api.service.queue.waiting == 0:
        await asyncio.sleep(0.01)
    status, body, response = await send(api, "POST", "/v1/query", json={"text": "second"})
    assert (status, body["error"]["code"]) == (503, "overloaded")
    assert int(response.headers["Retry-After"]) >= 1
    assert api.service.queue.full
    assistant.hold.set()
    assert (await waiting)[0] == 200


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "not valid JSON"),
        (b'{"text": "\xff"}', "not valid JSON"),
        (b'{"text": ' + b"[" * 100_000, "text: expected `str`, got `array`"),
        (b'{"text": 1}', "text: expected `str`"),
        (b'{"text": "a", "limit": 0}', "limit: expected `int` >= 1"),
        (b'{"text": "a", "limti": 3}', "limti: is not a known field"),
        (b"{}", "text: is missing"),
        (b"[]", "body: expected `object`"),
    ],
)
async def test_a_wrong_body_is_refused_by_field(api: Served, content: bytes, told: str) -> None:
    """400 and the field's name."""
    status, body, _ = await send(api, "POST", "/v1/search", data=content)
    assert status == 400
    assert told in body["error"]["message"]


async def test_an_oversized_body_is_refused_with_the_limit(api: Served) -> None:
    """413, declared or chunked."""
    for data in (io.BytesIO(b"x" * (1024 * 1024 + 1)), _chunks()):
        status, body, _ = await send(api, "POST", "/v1/search", data=data)
        assert (status, body["error"]["message"]) == (413, "The body is over 1 MiB.")


async def _chunks() -> Any:
    for _ in range(20):
        yield b"x" * 100_000


async def test_unknown_addresses_and_methods_have_the_error_shape(api: Served) -> None:
    """404 and 405 are JSON like every other error; nonsense ids name nothing."""
    assert (await send(api, "GET", "/nothing"))[1]["error"]["code"] == "not_found"
    status, body, response = await send(api, "PATCH", "/v1/turns")
    assert (status, body["error"]["code"], response.headers["Allow"]) == (405, "method", "POST")
    assert (await send(api, "GET", "/v1/documents/%00%FF"))[0] == 404
    assert (await send(api, "GET", "/v1/documents?limit=0"))[1]["error"]["message"].startswith("limit: ")


async def test_tcp_wants_a_key_except_for_health_and_description(api: Served) -> None:
    """401 with WWW-Authenticate; a revoked key is none."""
    async with aiohttp.ClientSession(api.url) as session:
        for path in ("/health/live", "/health/ready", "/v1/openapi.json"):
            assert (await session.get(path)).status == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {api.key}"}):
            response = await session.get("/v1/status", headers=headers)
            assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Bearer realm="morgan"')
        valid = {"Authorization": f"Bearer {api.key}"}
        assert (await session.get("/v1/status", headers=valid)).status == 200
        assert (await session.get("/metrics", headers=valid)).status == 200
        key_id = api.backend.keys.list()[0].id
        assert (await send(api, "DELETE", f"/v1/keys/{key_id}"))[0] == 200
        assert (await session.get("/v1/status", headers=valid)).status == 401


async def test_rates_count_per_key_on_tcp_only(api: Served) -> None:
    """429 with Retry-After over the limit; the socket is not counted."""
    api.limits[0] = replace(api.limits[0], search_per_minute=2)
    async with aiohttp.ClientSession(api.url, headers={"Authorization": f"Bearer {api.key}"}) as session:
        answers = [await session.post("/v1/search", json={"text": "a"}) for _ in range(3)]
    assert [one.status for one in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 30
    assert [(await send(api, "POST", "/v1/search", json={"text": "a"}))[0] for _ in range(3)] == [200] * 3


def form(*files: tuple[str, bytes]) -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    for name, content in files:
        data.add_field("source", f"/home/{name}")
        data.add_field("file", io.BytesIO(content), filename=name)
    return data


async def test_ten_files_are_taken_and_an_oversized_one_refuses_only_itself(api: Served, tmp_path: Path) -> None:
    """Every file gets its own result; no spool file stays."""
    api.limits[0] = replace(api.limits[0], document_mb=1)
    files = [(f"{n}.txt", f"text {n}".encode()) for n in range(8)]
    status, body, _ = await send(
        api, "POST", "/v1/documents", data=form(("big.txt", b"x" * 1_100_000), ("empty", b""), *files, files[0])
    )
    assert status == 202
    assert [one["result"] for one in body["results"]] == ["refused"] * 2 + ["accepted"] * 8 + ["unchanged"]
    assert body["results"][0]["error"]["code"] == "too_large"
    assert body["results"][2]["document"]["source"] == "/home/0.txt"
    assert list((tmp_path / "spool").iterdir()) == []


def raw_form(*files: tuple[bytes | None, bytes]) -> tuple[bytes, dict[str, str]]:
    """Source (None: none is given) and file name, byte for byte."""
    parts = []
    for number, (source, name) in enumerate(files):
        if source is not None:
            parts.append(b'Content-Disposition: form-data; name="source"\r\n\r\n' + source)
        head = b'Content-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
        parts.append(head + b"text %d" % number)
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=b"}


ALIKE = [
    "/h/a b.txt", "/h/a  b.txt", "/h/a b.txt ", " /h/a b.txt", "/h/a\u00a0b.txt", "/h/a\u200b b.txt", "/h/a\tb.txt",
    "/h/a\nb.txt", "/h/a\r\nb.txt", "/h/a b\x7f.txt", "/h/a b\u202e.txt", "/h/A b.txt", "/h/\u00e4 b.txt",
    "/h/a\u0308 b.txt", "/h/a\\nb.txt", "/h/a%0Ab.txt", "/h/a b\ufffd.txt", "/h/" + "a" * 4000 + "1",
    "/h/" + "a" * 4000 + "2",
]  # fmt: skip


async def test_files_whose_paths_differ_in_whatever_letter_are_different_documents(api: Served) -> None:
    """Each comes back to the letter; the same path again is the same document. What is shown is clean."""
    body, headers = raw_form(*((one.encode(), b"a b.txt") for one in ALIKE))
    for expected in ("accepted", "unchanged"):
        status, reply, _ = await send(api, "POST", "/v1/documents", data=body, headers=headers)
        assert status == 202
        assert {one["result"] for one in reply["results"]} == {expected}
        assert [one["document"]["source"] for one in reply["results"]] == ALIKE
    assert len({one["document"]["id"] for one in reply["results"]}) == len(ALIKE)
    for one in reply["results"]:
        status, found, _ = await send(api, "GET", f"/v1/documents/{one['document']['id']}")
        assert (status, found["source"], found["name"]) == (200, one["document"]["source"], "a b.txt")


async def test_without_a_path_the_name_counts_as_it_was_sent(api: Served) -> None:
    """Shown alike, they are different files; bytes that are no UTF-8 too."""
    names = [b"a b.txt", b"a  b.txt", "a\u200b b.txt".encode(), b"x/a b.txt", b"\xffa b.txt", b"\xfea b.txt"]
    body, headers = raw_form(*((None, name) for name in names))
    status, reply, _ = await send(api, "POST", "/v1/documents", data=body, headers=headers)
    assert status == 202
    assert [(one["result"], one["name"]) for one in reply["results"]] == [("accepted", "a b.txt")] * len(names)
    assert len({one["document"]["source"] for one in reply["results"]}) == len(names)


def form_of(machine: str, *files: tuple[str, bytes]) -> aiohttp.FormData:
    """The same files, as a machine sends them."""
    data = aiohttp.FormData(default_to_multipart=True)
    data.add_field("machine", machine)
    data.add_field("machine_name", "the\nattic")
    for name, content in files:
        data.add_field("source", f"/home/{name}")
        data.add_field("file", io.BytesIO(content), filename=name)
    return data


async def test_the_same_path_of_two_machines_is_two_documents(api: Served) -> None:
    """Equal or not; each machine's own is unchanged when it comes again."""
    files = [("a.txt", b"a"), ("b.txt", b"b")]
    found = {}
    for machine in ("laptop-1", "desktop-2"):
        for expected in ("accepted", "unchanged"):
            _, reply, _ = await send(api, "POST", "/v1/documents", data=form_of(machine, *files))
            assert [one["result"] for one in reply["results"]] == [expected] * 2
        found[machine] = [one["document"] for one in reply["results"]]
    assert {(one["machine"], one["machine_name"]) for one in found["laptop-1"]} == {("laptop-1", "the attic")}
    assert len({one["id"] for machine in found.values() for one in machine}) == 4


async def test_a_key_is_a_machine_of_its_own_and_the_socket_is_none(api: Served) -> None:
    """Who says nothing of its machine."""
    _, reply, _ = await send(api, "POST", "/v1/documents", data=form(("a.txt", b"a")))
    assert reply["results"][0]["document"]["machine"] == ""
    headers = {"Authorization": f"Bearer {api.key}"}
    async with (
        aiohttp.ClientSession(api.url, headers=headers) as session,
        session.post("/v1/documents", data=form(("a.txt", b"other"))) as response,
    ):
        one = (await response.json())["results"][0]
    assert (one["result"], one["document"]["machine"]) == ("accepted", f"key:{api.backend.keys.list()[0].id}")


@pytest.mark.parametrize("machine", ["", "short", "key:0123456789", "a" * 65, "with space", "/home/a/b"])
async def test_what_no_machine_is_called_is_refused(api: Served, machine: str) -> None:
    """Above all what would be a key's."""
    status, reply, _ = await send(api, "POST", "/v1/documents", data=form_of(machine, ("a.txt", b"a")))
    assert (status, reply["error"]["message"].startswith("machine: ")) == (400, True)


async def test_versions_are_listed_newest_first(api: Served) -> None:
    """By the id of any of them; an earlier one is still shown, and not in the list of documents."""
    ids = []
    for content in (b"first", b"second"):
        _, reply, _ = await send(api, "POST", "/v1/documents", data=form(("a.txt", content)))
        ids.append(reply["results"][0]["document"]["id"])
        await api.backend.library.complete_many([DocumentResult(ids[-1], None, "text/plain", ())])
    for one in ids:
        status, reply, _ = await send(api, "GET", f"/v1/documents/{one}/versions")
        assert (status, [each["id"] for each in reply["documents"]]) == (200, ids[::-1])
        assert [each["replaced"] is None for each in reply["documents"]] == [True, False]
    assert (await send(api, "GET", f"/v1/documents/{ids[0]}"))[1]["replaced"]
    _, listed, _ = await send(api, "GET", "/v1/documents")
    assert [each["id"] for each in listed["documents"]] == ids[1:]
    assert (await send(api, "GET", f"/v1/documents/{uuid4()}/versions"))[0] == 404


@pytest.mark.parametrize("source", [b"/h/a\x00b", b"/h/" + b"a" * 4096])
async def test_what_no_path_is_is_refused(api: Served, source: bytes) -> None:
    """Not cut and not cleaned: it would be another's."""
    body, headers = raw_form((source, b"a.txt"))
    status, reply, _ = await send(api, "POST", "/v1/documents", data=body, headers=headers)
    assert (status, reply["error"]["code"]) == (400, "invalid")
    assert reply["error"]["message"].startswith("source: ")


async def test_hostile_file_names_are_for_display_only(api: Served) -> None:
    """Path parts and control characters are gone."""
    content = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="../etc/pa\x01ss.txt"\r\n\r\nhi\r\n--b--\r\n'
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    status, body, _ = await send(api, "POST", "/v1/documents", data=content, headers=headers)
    assert status in (202, 400)  # the parser may refuse the header
    if status == 202:
        assert body["results"][0]["name"] == "pass.txt"


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"{}", "application/json"),
        (b"", "multipart/form-data"),
        (b"", "multipart/form-data; boundary=b"),
        (b"garbage", "multipart/form-data; boundary=b"),
        (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf',
            "multipart/form-data; boundary=b",
        ),
        (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n', "multipart/form-data; boundary=b"),
    ],
)
async def test_what_is_no_form_is_refused(api: Served, tmp_path: Path, content: bytes, content_type: str) -> None:
    """400, and nothing is left in the spool."""
    headers = {"Content-Type": content_type}
    status, _, _ = await send(api, "POST", "/v1/documents", data=content, headers=headers)
    assert status == 400
    assert not (tmp_path / "spool").exists() or not list((tmp_path / "spool").iterdir())


async def test_an_aborted_upload_leaves_no_spool_file(api: Served, tmp_path: Path) -> None:
    """The client breaks off in the middle of a file."""
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST /v1/documents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\nContent-Length: 5000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    )
    writer.write(head.encode() + b"x" * 2_000_000)
    await writer.drain()
    spool = tmp_path / "spool"
    async with asyncio.timeout(30):
        while not spool.exists() or not list(spool.iterdir()):
            await asyncio.sleep(0.01)
        writer.transport.abort()
        while list(spool.iterdir()):
            await asyncio.sleep(0.01)
    assert await reader.read() == b""


async def test_a_full_disk_is_507(api: Served) -> None:
    """Nothing can be taken: the whole upload says so."""
    ingestor = api.backend.ingestor
    assert isinstance(ingestor, MemoryIngestor)
    ingestor.error = StorageFull()
    status, body, _ = await send(api, "POST", "/v1/documents", data=form(("a.txt", b"a")))
    assert (status, body["error"]["code"]) == (507, "storage_full")


async def test_the_description_is_valid_and_complete(api: Served) -> None:
    """Every route of the application is described, and nothing else."""
    _, description, _ = await send(api, "GET", "/v1/openapi.json")
    validate(description)
    described = {(method.upper(), path) for path, item in description["paths"].items() for method in item}
    app = make_app(api.service, trusted=True)
    canonical = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}
    assert described == canonical == {(route.method, route.path) for route in all_routes(api.service)}


async def test_openai_errors_have_their_shape(api: Served) -> None:
    """Wrong types and unsupported options are 400 with the parameter's name; unknown fields pass."""
    ask: dict[str, Any] = {"model": "large", "messages": [{"role": "user", "content": "hi"}], "unknown": 1}
    for change, param in (({"n": 2}, "n"), ({"tools": [1]}, "tools"), ({"temperature": "hot"}, "temperature")):
        status, body, _ = await send(api, "POST", "/v1/chat/completions", json=ask | change)
        assert (status, body["error"]["param"], body["error"]["type"]) == (400, param, "invalid_request_error")
    status, body, _ = await send(api, "POST", "/v1/chat/completions", json=ask)
    assert (status, body["choices"][0]["message"]["content"]) == (200, "Hello there.")
    assert (await send(api, "POST", "/v1/chat/completions", json=ask | {"model": "x"}))[0] == 404
