"""Every command against the API from memory: what is printed, the exit code, and pure JSON."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from morgand.api.schema import ConversationView, KeptView
from tests.fakes.api import HOST, REFUSED_ID, WHEN, FakeApi
from tests.unit.morganctl.conftest import Run

JSON_COMMANDS = [
    ["query", "when?"],
    ["search", "boiler"],
    ["chat", "--message", "when?"],
    ["documents", "list"],
    ["conversations", "list"],
    ["conversations", "waiting"],
    ["status"],
    ["hosts", "list"],
    ["hosts", "show", "attic"],
    ["roles", "list"],
    ["roles", "explain", "llm"],
    ["roles", "plan", "--without", "attic"],
    ["config", "list"],
    ["config", "get", "llm.temperature"],
    ["config", "set", "llm.temperature", "0.5"],
    ["config", "delete", "llm.temperature", "--yes"],
    ["feedback", "--rating", "4"],
    ["keys", "create", "--owner", "laptop"],
    ["keys", "list"],
    ["logs", "llm"],
    ["completion", "bash"],
]


@pytest.mark.parametrize("command", JSON_COMMANDS, ids=" ".join)
def test_json_is_one_document_and_nothing_else(api: FakeApi, run: Run, command: list[str]) -> None:
    """`--json` before or after the command gives the same single document on stdout."""
    before, after = run("--json", *command), run(*command, "--json")
    assert (before.code, after.code) == (0, 0), before.err
    assert type(before.json) is type(after.json)


@pytest.mark.parametrize("command", JSON_COMMANDS, ids=" ".join)
def test_plain_output_holds_no_control_characters(api: FakeApi, run: Run, command: list[str]) -> None:
    """What is printed for people carries nothing a terminal obeys."""
    ran = run(*command)
    assert ran.code == 0
    assert ran.out
    assert not set(ran.out + ran.err) & {chr(n) for n in range(32) if chr(n) not in "\n\t"}


def test_search_json_is_the_contract(api: FakeApi, run: Run) -> None:
    """`search --json` is an array of exactly document, title, place, score, text."""
    ran = run("search", "boiler", "--limit", "1", "--json")
    assert [sorted(item) for item in ran.json] == [["document", "place", "score", "text", "title"]]


def test_query_prints_answer_and_sources(api: FakeApi, run: Run) -> None:
    """The answer and its sources are on stdout."""
    ran = run("query", "When is the service?")
    assert "Every spring [1]." in ran.out
    assert "[1] Boiler manual, page 3" in ran.out


def test_turn_has_a_client_made_id_and_goes_on(api: FakeApi, run: Run) -> None:
    """`chat --message` sends a UUID; `--conversation` takes the beginning of an id."""
    first = run("chat", "--message", "when?", "--user-id", "ann", "--json")
    second = run("chat", "--message", "and then?", "--conversation", first.json["conversation"][:8], "--json")
    assert second.json["conversation"] == first.json["conversation"]
    assert api.turns[0].id != api.turns[1].id
    assert api.turns[0].user == "ann"
    assert "no reranker" in first.json["notices"]


def test_what_may_be_stale_is_said_beside_the_answer(api: FakeApi, run: Run) -> None:
    """One line for people on stderr; stdout is what it always is."""
    fresh = run("documents", "list", "--json")
    api.stale = True
    ran = run("documents", "list", "--json")
    assert ran.out == fresh.out
    assert ran.err.count("may be stale") == 1
    assert "stale" not in fresh.err


def test_config_error_names_the_nearest_key(api: FakeApi, run: Run) -> None:
    """The server's hint reaches the person, as text and as JSON."""
    assert "did you mean 'llm.temperature'" in run("config", "get", "llm.temprature").err
    ran = run("--json", "config", "get", "llm.temprature")
    assert ran.code == 1
    assert ran.json["error"]["code"] == "not_found"


def test_config_takes_negative_values(api: FakeApi, run: Run) -> None:
    """A value that begins with a minus reaches the daemon, which judges it."""
    assert run("config", "set", "llm.temperature", "-1").code == 0
    assert api.settings["llm.temperature"] == "-1"


def test_a_script_is_not_asked(api: FakeApi, run: Run) -> None:
    """Without a terminal nobody can be asked: the command itself is the decision."""
    assert run("config", "set", "llm.temperature", "0.5").code == 0
    assert run("config", "delete", "llm.temperature").code == 0
    assert any(request.startswith("DELETE") for request in api.requests)


def test_documents_are_found_by_name_and_prefix(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """show and delete take a name, a beginning of an id, or an id; an unknown one is an error."""
    (tmp_path / "lease.txt").write_text("rent")
    run("ingest", str(tmp_path))
    identifier = next(iter(api.documents))
    for wanted in ("lease.txt", identifier[:6], identifier):
        assert run("documents", "show", wanted, "--json").json["id"] == identifier
    assert run("documents", "show", "nothing").code == 1
    assert run("documents", "delete", "lease.txt", "--yes", "--json").json == {"deleted": [identifier]}
    assert not api.documents


def test_ambiguous_conversation_is_refused(api: FakeApi, run: Run) -> None:
    """A beginning that fits two ids names both and changes nothing."""
    for end in ("0", "1"):
        identifier = f"aaaaaaaa-0000-4000-8000-00000000000{end}"
        api.conversations[identifier] = ConversationView(identifier, "talk", WHEN, WHEN, 2)
    ran = run("conversations", "delete", "aaaa", "--yes")
    assert ran.code == 1
    assert "means 2 conversations" in ran.err
    assert len(api.conversations) == 2


def test_conversation_export(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """Export writes Markdown to stdout or JSON to a file."""
    identifier = str(uuid.uuid4())
    api.conversations[identifier] = ConversationView(identifier, "talk", WHEN, WHEN, 2)
    assert "## assistant" in run("conversations", "export", identifier).out
    target = tmp_path / "talk.json"
    assert run("conversations", "export", identifier, "--format", "json", "--output", str(target)).code == 0
    assert json.loads(target.read_text())["conversation"] == identifier


def test_plan_reads_profiles(api: FakeApi, run: Run, tmp_path: Path) -> None:
    """`roles plan --with` sends the profile; a file that is none is a usage error."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('{"ram_mb": 65536}')
    bad.write_text("[")
    assert run("roles", "plan", "--with", str(good)).code == 0
    assert run("roles", "plan", "--with", str(bad)).code == 64


def test_created_key_is_shown_once_on_stdout(api: FakeApi, run: Run) -> None:
    """stdout of `keys create` is the key alone, for scripts."""
    assert run("keys", "create", "--owner", "ci").out == "mk_secret\n"
    assert "mk_secret" not in run("keys", "list").out


def test_one_message_that_is_kept_is_told_and_is_no_error(api: FakeApi, run: Run) -> None:
    """A script that took it for an error would send it twice."""
    api.keeping = True
    ran = run("chat", "--message", "when?")
    assert (ran.code, ran.out) == (0, "")
    assert "Your message is kept on attic." in ran.err
    ran = run("chat", "--message", "when?", "--json")
    assert ran.json["queued"] is True
    assert ran.json["conversation"]


def test_kept_messages_are_listed_and_refused_ones_discarded(api: FakeApi, run: Run) -> None:
    assert "No message waits on attic." in run("conversations", "waiting").out
    waits, refused = str(uuid.uuid4()), str(uuid.uuid4())
    api.outbox = [
        KeptView(waits, "c1", "Where is the key?", WHEN, "waiting"),
        KeptView(refused, "c2", "Is it there?", WHEN, "refused", "The conversation was deleted."),
    ]
    listed = run("conversations", "waiting").out
    assert "Where is the key?" in listed
    assert "The conversation was deleted." in listed
    assert run("conversations", "discard", "zz").code == 1
    assert run("conversations", "discard", refused[:6], "--yes").code == 0
    assert [one.id for one in api.outbox] == [waits]


@pytest.mark.parametrize("command", ["status", "roles list", "roles explain", "roles plan"])
def test_people_read_names_and_programs_get_ids(api: FakeApi, run: Run, command: str) -> None:
    words = command.split()
    shown, data = run(*words).out, run(*words, "--json").out
    assert "attic" in shown
    for identifier in (HOST.id, REFUSED_ID):
        assert identifier not in shown
    assert HOST.id in data


def test_the_doctor_says_what_is_wrong_and_what_to_do(api: FakeApi, run: Run) -> None:
    ran = run("cluster", "doctor")
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "1. The clock of attic is 9 s behind.[31m",
        "   Set it.",
        "2. The index lacks 1 document.",
        "   Mend it.",
        "Left out: Of originals nothing could be seen.",
    ]
    assert "2 things are wrong; looked through attic." in ran.err


def test_the_doctor_says_what_it_mended(api: FakeApi, run: Run) -> None:
    ran = run("cluster", "doctor", "--mend")
    assert ran.code == 1
    assert "2. The index lacks 1 document. Mended." in ran.out.splitlines()
    assert [one["mended"] for one in run("cluster", "doctor", "--mend", "--json").json["findings"]] == [False, True]


def test_the_doctor_of_a_cluster_that_is_well(api: FakeApi, run: Run) -> None:
    api.well = True
    ran = run("cluster", "doctor")
    assert ran.code == 0
    assert "Nothing is wrong; looked through attic." in ran.err
