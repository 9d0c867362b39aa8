"""Exit codes, errors, keys, start-up time and documentation."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from morganctl import docs
from morganctl.app import Group
from morgand.config import setting_fields
from morgand.roles.catalog import NAMES
from tests.fakes.api import FakeApi
from tests.unit.morganctl.conftest import Run

ROOT = Path(docs.__file__).parents[1]


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["query"], ["search", "x", "--limit", "0"], ["--url", "ftp://x", "status"], ["query", " "],
     ["--url", "http://h:1", "--data-dir", "x", "status"], ["status", "--key", "secret"], ["feedback"], [],
     ["chat", "--json"], ["status", "--watch", "--json"], ["documents"]],
)  # fmt: skip
def test_usage_errors_exit_64(run: Run, arguments: list[str]) -> None:
    """A command line that makes no sense ends with 64, and with --json in a document."""
    assert run(*arguments).code == 64
    ran = run("--json", *arguments)
    assert ran.code == 64
    assert ran.json["error"]["code"] == "usage"


def test_no_daemon_is_a_friendly_message(run: Run, home: Path) -> None:
    """Without a daemon: exit 2, what to do next, no traceback; as JSON too."""
    ran = run("status")
    assert ran.code == 2
    assert "morgand is not running" in ran.err
    assert "`morgand run`" in ran.err
    assert not ran.out
    ran = run("status", "--json")
    assert ran.code == 2
    assert ran.json["error"]["code"] == "unavailable"


def test_stale_socket_is_no_daemon(run: Run, api: FakeApi, home: Path) -> None:
    """A socket file nobody listens on reads like no daemon."""
    api.stop()
    (home / "morgand.sock").touch()
    assert run("hosts", "list").code == 2
    api.start()


def test_unreachable_url_names_it(run: Run) -> None:
    """A closed TCP port gives the address and exit 2."""
    ran = run("--url", "http://127.0.0.1:9", "status")
    assert ran.code == 2
    assert "http://127.0.0.1:9" in ran.err


def test_503_is_retried_with_retry_after(run: Run, api: FakeApi) -> None:
    """A busy daemon is asked again after the time it names."""
    api.fail_next(503, retry_after=1)
    started = time.monotonic()
    assert run("status").code == 0
    assert time.monotonic() - started >= 1.0


def test_503_to_the_end_exits_2(run: Run, api: FakeApi) -> None:
    """After three retries, or when the wait asked for is too long, the command gives up with 2."""
    for _ in range(4):
        api.fail_next(503, retry_after=0)
    assert run("status").code == 2
    assert api.requests.count("GET /v1/status") == 4
    api.fail_next(503, retry_after=60)
    assert run("status").code == 2


def test_lost_answer_repeats_only_what_may_be_repeated(run: Run, api: FakeApi) -> None:
    """A dropped connection is survived by reading and by a turn of the same id, and ends feedback."""
    api.drop_next()
    assert run("status").code == 0
    api.drop_next(path="/v1/turns")
    assert run("chat", "--message", "when?").code == 0
    assert len(api.turns) == 1
    api.drop_next()
    assert run("feedback", "--rating", "3").code == 2


def test_answer_broken_in_the_middle_is_asked_for_again(run: Run, api: FakeApi) -> None:
    """The same turn is repeated, and its text appears once."""
    api.break_after = 2
    ran = run("chat", "--message", "when?")
    assert ran.code == 0
    assert ran.out.count("Every") == 1
    assert len({turn.id for turn in api.turns}) == 1
    assert len(api.turns) == 2


def test_argument_that_is_not_utf8_is_a_usage_error(run: Run, api: FakeApi) -> None:
    """Bytes that are no text cannot be sent, and say so."""
    for arguments in (["keys", "create", "--owner", "\udcff"], ["query", "\udcff"]):
        assert run("--json", *arguments).code == 64


def test_key_comes_from_environment_or_file(
    run: Run, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is sent as a bearer token; a key file others can read is warned about."""
    monkeypatch.setenv("MORGAN_API_KEY", "from-env")
    run("status")
    assert "Bearer from-env" in api.authorizations
    file = tmp_path / "key"
    file.write_text("from-file\n")
    file.chmod(0o644)
    ran = run("--key-file", str(file), "status", "--json")
    assert "Bearer from-file" in api.authorizations
    assert "chmod 600" in ran.err
    assert ran.json["version"]
    file.chmod(0o600)
    assert "chmod" not in run("--key-file", str(file), "status").err
    file.write_bytes(b"\xff\n")
    assert run("--key-file", str(file), "status").code == 64


def test_unexpected_error_is_one_line_and_logged(home: Path) -> None:
    """An error nobody expected prints one line, exits 1 and leaves its traceback in the log."""
    program = (
        "import sys\nfrom morganctl import cli\n"
        "def broken(arguments, app): raise ZeroDivisionError('boom')\n"
        "cli._guarded = broken\nsys.exit(cli.main(['status', '--json']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1
    assert '"internal"' in done.stdout
    assert not done.stderr
    log = home / "state" / "morgan" / "morganctl.log"
    if sys.platform == "linux":
        assert "ZeroDivisionError" in log.read_text()


def test_help_is_quick() -> None:
    """`--help` loads no heavy library, which is what keeps it under 0.3 s."""
    program = (
        "import sys; from morganctl.cli import main; main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert "Commands:" in done.stdout
    for heavy in ("aiohttp", "rich", "prompt_toolkit", "sqlalchemy", "morgand.config"):
        assert f"'{heavy}'" not in done.stderr


def test_reference_is_complete_and_up_to_date() -> None:
    """The generated files are what the code says, and hold every command and setting."""
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    commands = (ROOT / "docs/reference/cli.md").read_text()
    for path, _ in docs.commands():
        assert f"## {path}\n" in commands
    settings = (ROOT / "docs/reference/configuration.md").read_text()
    for key, _ in setting_fields(NAMES):
        name = key.rpartition(".")[2] if key.startswith("roles.") else ""  # one row for all roles
        assert f"`{f'roles.NAME.{name}' if name else key}`" in settings


@pytest.mark.parametrize(("path", "command"), list(docs.commands()), ids=str)
def test_every_command_has_help_and_examples(path: str, command: click.Command) -> None:
    """`--help` of each command says what it does and shows its use."""
    assert command.help
    examples = getattr(command, "examples", ())
    assert examples
    assert isinstance(command, Group) or all(path in line for line in examples)
    assert all(option.help for option in command.params if isinstance(option, click.Option))
