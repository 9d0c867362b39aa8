"""One host does the whole job, as a person sees it: through morganctl against a real daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Daemon

pytestmark = pytest.mark.engine

EXAMPLES = Path(__file__).parents[2] / "examples"
MIN_CORRECT = 0.8  # of the example questions; the benchmark prints the exact share


def ctl(daemon: Daemon, *arguments: str, code: int = 0) -> Any:
    """Run morganctl with --json; its stdout must be one JSON document."""
    ended = subprocess.run(
        [sys.executable, "-m", "morganctl", "--data-dir", str(daemon.data_dir), "--json", *arguments],
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert ended.returncode == code, (arguments, ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def filled(running: Daemon) -> Daemon:
    """The daemon with the example documents ingested."""
    ctl(running, "ingest", str(EXAMPLES / "documents"))
    return running


def test_ingest_reports_documents_chunks_embeddings(filled: Daemon) -> None:
    """All five formats are completed, with chunks and embeddings; again changes nothing."""
    documents = {one["name"]: one for one in filled.documents()}
    assert {Path(name).suffix for name in documents} >= {".pdf", ".docx", ".html", ".md", ".txt"}
    assert all(one["state"] == "completed" for one in documents.values())
    assert all(one["chunks"] > 3 and one["embeddings"] == one["chunks"] for one in documents.values())
    ctl(filled, "ingest", str(EXAMPLES / "documents"))
    assert len(filled.documents()) == len(documents)


def test_questions_are_answered_with_the_right_source(filled: Daemon) -> None:
    """Answers hold the expected fact and cite the document it stands in."""
    questions = json.loads((EXAMPLES / "questions.json").read_text())
    wrong = []
    for one in questions:
        reply = ctl(filled, "query", one["question"])
        answer = reply["answer"].lower()
        told = all(part.lower() in answer for part in one["answer_contains"])
        cited = any(
            one["document"] in (source["title"], by_id(filled, source["document"])) for source in reply["citations"]
        )
        if not (told and cited):
            wrong.append((one["question"], reply["answer"], [source["title"] for source in reply["citations"]]))
    assert len(wrong) <= (1 - MIN_CORRECT) * len(questions), wrong


def by_id(daemon: Daemon, document: str) -> str:
    status, body = daemon.request("GET", f"/v1/documents/{document}")
    assert status == 200
    return str(body["name"])


def test_every_citation_resolves(filled: Daemon) -> None:
    """The marker in the answer, the quote and the place belong to a stored document."""
    reply = ctl(filled, "query", "What pressure should the boiler show when the system is cold?")
    assert reply["citations"]
    for citation in reply["citations"]:
        assert f"[{citation['number']}]" in reply["answer"]
        assert citation["quote"]
        assert by_id(filled, citation["document"])


def test_search_has_the_shape_of_the_contract(filled: Daemon) -> None:
    """A list of document, title, place, score, text, best first."""
    found = ctl(filled, "search", "notice period of the lease", "--limit", "3")
    assert 1 <= len(found) <= 3
    assert all({"document", "title", "place", "score", "text"} <= set(one) for one in found)
    scores = [one["score"] for one in found]
    assert scores == sorted(scores, reverse=True)


def test_conversation_is_kept(filled: Daemon) -> None:
    """A chat turn is stored with its answer and can be listed, exported and deleted."""
    turn = ctl(filled, "chat", "--message", "Hello, how are you?")
    assert turn["answer"]
    listed = ctl(filled, "conversations", "list")
    assert turn["conversation"] in json.dumps(listed)
    shown = ctl(filled, "conversations", "show", turn["conversation"])
    assert [one["role"] for one in shown["messages"]] == ["user", "assistant"]
    ctl(filled, "feedback", "--rating", "5", "--conversation", turn["conversation"])
    ctl(filled, "conversations", "delete", turn["conversation"])
    ctl(filled, "conversations", "show", turn["conversation"], code=1)


def test_status_has_the_shape_of_the_contract(filled: Daemon) -> None:
    """Cluster, hosts, roles, database and warnings as design and scripts rely on them."""
    status = ctl(filled, "status")
    assert status["cluster"]["quorum"] == {
        "voters": status["cluster"]["quorum"]["voters"], "needed": 1, "healthy": 1, "tolerates": 0,
    }  # fmt: skip
    [host] = status["hosts"]
    assert status["cluster"]["leader"] in (host["id"], host["name"])
    assert host["state"] == "alive"
    assert host["profile"]["ram_mb"] > 0
    ready = {one["role"] for one in status["roles"] if one["state"] == "ready"}
    assert ready >= {"core", "db", "cache", "objects", "vectors", "llm", "embedder", "reranker"}
    assert status["database"]["primary"] == host["id"]
    assert all(0 < one["epoch"] <= status["cluster"]["epoch"] for one in status["roles"])


def test_roles_are_explained(filled: Daemon) -> None:
    """Each role has a reason; what is not placed has one too; a plan without the only host places nothing."""
    explained = ctl(filled, "roles", "explain")
    assert all(one["why"] for one in explained["placements"])
    assert any(one["role"] == "monitor" and one["reason"] for one in explained["refusals"])
    [host] = ctl(filled, "status")["hosts"]
    assert ctl(filled, "roles", "plan", "--without", host["name"])["placements"] == []


def test_settings_are_validated_and_survive_a_restart(daemon: Daemon) -> None:
    """A shared setting holds across a restart; a bad value and an unknown key are refused with the reason."""
    daemon.start(ready=("core", "db"))
    ctl(daemon, "config", "set", "llm.temperature", "0.5")
    refused = ctl(daemon, "config", "set", "llm.temperature", "3", code=1)
    assert "between" in refused["error"]["message"]
    unknown = ctl(daemon, "config", "set", "llm.temprature", "1", code=1)
    assert "llm.temperature" in unknown["error"]["message"]
    daemon.stop()
    daemon.start(ready=("core", "db"))
    assert ctl(daemon, "config", "get", "llm.temperature")["value"] == 0.5
    ctl(daemon, "config", "delete", "llm.temperature", "--yes")
    assert ctl(daemon, "config", "get", "llm.temperature")["value"] == 0.0


def test_update_replaces_and_delete_deletes_everywhere(filled: Daemon, tmp_path: Path) -> None:
    """The same file with new content replaces the old one; deleted text is found nowhere."""
    file = tmp_path / "code.md"
    file.write_text("The alarm code of the shed is quokka-7391, written by Ada.\n")
    ctl(filled, "ingest", str(file))
    file.write_text("The alarm code of the shed is wombat-2846, written by Ada.\n")
    ctl(filled, "ingest", str(file))
    texts = json.dumps(ctl(filled, "search", "alarm code of the shed"))
    assert "wombat-2846" in texts
    assert "quokka-7391" not in texts
    [document] = [one for one in filled.documents() if one["name"].endswith("code.md")]
    ctl(filled, "documents", "delete", document["id"], "--yes")
    assert "wombat-2846" not in json.dumps(ctl(filled, "search", "alarm code of the shed"))
    assert not list((filled.data_dir / "objects").rglob(document["sha256"]))


def test_keys_open_the_tcp_api_and_revoking_closes_it(daemon: Daemon) -> None:
    """Without a key 401, with one 200, after revoking 401 again; the log never shows the key."""
    import urllib.error
    import urllib.request

    daemon.start(ready=("core", "db"))
    port = ctl(daemon, "status")["hosts"][0]["api_port"]
    created = ctl(daemon, "keys", "create", "--owner", "laptop")

    def status(key: str | None) -> int:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/status", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as err:
            err.close()
            return err.code

    assert status(None) == 401
    assert status("mrgn_wrong") == 401
    assert status(created["key"]) == 200
    ctl(daemon, "keys", "revoke", created["id"])
    assert status(created["key"]) == 401
    assert created["key"] not in daemon.log.read_text()


def test_not_running_is_friendly(tmp_path: Path) -> None:
    """Without a daemon: exit code 2 and the command that starts one."""
    ended = subprocess.run(
        [sys.executable, "-m", "morganctl", "--data-dir", str(tmp_path), "status"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "morgand" in ended.stderr
    assert "Traceback" not in ended.stderr
