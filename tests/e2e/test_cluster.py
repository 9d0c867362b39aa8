"""Two hosts on addresses of one machine: what is open, who is let in, how hosts come and go."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from morgand.security import ca, trust
from tests.e2e.harness import Daemon

PORT = 27471
BIN = Path(sys.executable).parent


@dataclass
class Home:
    """``first`` founded the cluster; ``second`` joined it."""

    root: Path
    first: Daemon
    second: Daemon

    def ctl(self, daemon: Daemon, *words: str, code: int = 0) -> Any:
        argv = [str(BIN / "morganctl"), "--json", "--data-dir", str(daemon.data_dir), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def host(self, name: str) -> dict[str, Any] | None:
        hosts = self.ctl(self.first, "hosts", "list")["hosts"]
        return next((one for one in hosts if one["name"] == name), None)


def daemon(root: Path, number: int) -> Daemon:
    own = (f"host.name=host{number}", f"host.address=127.0.5.{number}", f"cluster.port={PORT}")
    return Daemon(root / f"h{number}", own)


def join(one: Daemon, where: str, token: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "morgand", "join", where, "-", "--set", f"host.data_dir={one.data_dir}"]
    argv += [word for setting in one.settings for word in ("--set", setting)]
    return subprocess.run(argv, input=token + "\n", capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    root = tmp_path_factory.mktemp("c")
    found = Home(root, daemon(root, 1), daemon(root, 2))
    try:
        found.first.start()
        invitation = found.ctl(found.first, "cluster", "invite")
        done = join(found.second, invitation["address"], invitation["token"])
        assert done.returncode == 0, done.stderr
        found.second.start(ready=("db", "core", "llm"))
        yield found
    finally:
        for one in (found.second, found.first):
            if one.process is not None:
                one.stop()


def listening(pid: int) -> set[tuple[str, int]]:
    """Address and port of everything a daemon and its children listen on, loopback's own 127.0.0.1 aside."""
    found = set()
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile, as those of a database do
            for one in process.net_connections(kind="tcp"):
                if one.status == psutil.CONN_LISTEN and one.laddr.ip != "127.0.0.1":
                    found.add((one.laddr.ip, one.laddr.port))
    return found


def test_hosts_listen_on_their_own_address_only(home: Home) -> None:
    """The ports of a member, two more where PostgreSQL runs, and none of them on every interface."""
    engines = str((home.host("host1") or {})["profile"]["engines"])
    wanted = {("127.0.5.1", PORT + number) for number in range(6 if "postgresql" in engines else 4)}
    home.first.until(lambda: listening(home.first.pid) == wanted, 120, "all ports listened on, and no others")
    assert {address for address, _ in listening(home.second.pid)} == {"127.0.5.2"}


@pytest.mark.parametrize("with_certificate", [False, True], ids=["no certificate", "a foreign certificate"])
def test_every_port_gives_nothing_away(home: Home, tmp_path: Path, with_certificate: bool) -> None:
    """Whoever is no member gets no connection, or a bare refusal: no version, no name, no content."""
    context = trust.blind_context()
    if with_certificate:
        key, foreign = ca.make_key(), ca.make_authority("x", _now())
        certificate = ca.sign(
            foreign, ca.make_request(key, "h"), host_id="h", cluster_id="x", addresses=("127.0.5.9",), now=_now()
        )
        trust.install(tmp_path, ca_pem=foreign.cert_pem, cert_pem=certificate, key_pem=key)
        context.load_cert_chain(tmp_path / trust.CERT, tmp_path / trust.KEY)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    paths = (
        "/peer/v1/alive",
        "/peer/v1/library/documents",
        "/v1/status",
        "/health",
        "/version",
        "/v3/kv/range",
        "/metrics",
    )
    for address, port in sorted(listening(home.first.pid) | listening(home.second.pid)):
        for path in paths:
            said = _ask(address, port, path, context) + _ask(address, port, path, None)
            for word in (b"morgan", b"Morgan", b"etcd", b"host1", b"host2", b"aiohttp", b"Python"):
                assert word not in said, (port, path, said)


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def _ask(address: str, port: int, path: str, tls: ssl.SSLContext | None) -> bytes:
    """Everything the port says to one request, handshake failures being silence."""
    with socket.socket() as plain:
        plain.settimeout(3)
        with tls.wrap_socket(plain) if tls else plain as speaking:
            said = b""
            try:
                speaking.connect((address, port))
                speaking.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                while block := speaking.recv(4096):
                    said += block
            except OSError:
                pass
            return said


def test_a_used_a_tampered_and_an_unknown_invitation_let_nobody_in(home: Home) -> None:
    """Each refusal says why, and what was refused leaves nothing behind."""
    invitation = home.ctl(home.first, "cluster", "invite")
    third = daemon(home.root, 3)
    token = invitation["token"]
    tampered = token[:-6] + ("A" if token[-6] != "A" else "B") + token[-5:]
    for given, words in ((tampered, "not as it was printed"), ("7-not-words", ""), ("MRGN1-AAAA", "")):
        done = join(third, invitation["address"], given)
        assert done.returncode == 1, done.stdout
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert join(third, invitation["address"], token).returncode == 0
    fourth = daemon(home.root, 4)
    again = join(fourth, invitation["address"], token)
    assert again.returncode == 1
    assert "used already" in again.stderr
    assert not (fourth.data_dir / "cluster" / "member.json").exists()


def test_secrets_are_nowhere_to_be_read(home: Home) -> None:
    """Not in a log, not on a command line, not in an environment, not in a file that others can read."""
    invitation = home.ctl(home.first, "cluster", "invite")
    secrets = [
        invitation["token"].encode(),
        invitation["token"].rpartition("-")[2].encode(),
        invitation["code"].encode(),
    ]
    for one in (home.first, home.second):
        folder = one.data_dir / "cluster"
        secrets += (
            json.loads((folder / "gossip.keyring").read_text())[0].encode(),
            json.loads((folder / "serf.json").read_text())["rpc_auth"].encode(),
        )
        secrets.append((folder / "key.pem").read_bytes().splitlines()[1])
    for one in (home.first, home.second):
        logs = [one.log, *(one.data_dir / "logs").glob("*.log")]
        said = b"".join(file.read_bytes() for file in logs if file.exists())
        for process in (psutil.Process(one.pid), *psutil.Process(one.pid).children(recursive=True)):
            said += " ".join(process.cmdline()).encode() + json.dumps(process.environ()).encode()
        for secret in secrets:
            assert secret not in said
        for file in one.data_dir.rglob("*"):
            mode = file.lstat().st_mode
            # a folder may be passed through, and not listed; programs are no secret
            others = 0o066 if stat.S_ISDIR(mode) else 0o022 if mode & 0o111 else 0o077
            assert stat.S_ISLNK(mode) or not mode & others or _under_private(file, one.data_dir), file


def _under_private(file: Path, root: Path) -> bool:
    """Whether a folder on the way keeps others out."""
    return any(not folder.stat().st_mode & 0o077 for folder in file.parents if folder == root or root in folder.parents)


def test_a_drained_host_holds_nothing_and_takes_part_again(home: Home) -> None:
    view = home.ctl(home.second, "hosts", "drain", "host2")
    assert view["draining"] is True
    home.first.until(lambda: not (home.host("host2") or {"roles": []})["roles"], 120, "host2 holds nothing")
    assert home.ctl(home.second, "hosts", "resume", "host2")["draining"] is False
    home.first.until(lambda: bool((home.host("host2") or {"roles": []})["roles"]), 120, "host2 has roles again")


def test_any_host_answers_and_has_the_same_history(home: Home) -> None:
    status, said = home.second.turn("Remember the word tangerine.", answer=False)
    assert status == 200, said
    _, heard = home.first.request("GET", f"/v1/conversations/{said['conversation']}/messages")
    assert [one["text"] for one in heard["messages"]] == ["Remember the word tangerine."]


def test_unknown_hosts_and_hasty_removals_are_refused_in_words(home: Home) -> None:
    said = home.ctl(home.first, "hosts", "drain", "nobody", code=1)
    assert "there are host1, host2" in said["error"]["message"]
    said = home.ctl(home.first, "hosts", "remove", "host2", code=1)
    assert "Drain it first" in said["error"]["remedy"]
    said = home.ctl(home.first, "hosts", "remove", "host1", code=1)
    assert "cannot remove itself" in said["error"]["message"]


def examine(daemon: Daemon, *words: str) -> tuple[dict[str, Any], set[str]]:
    """The report, and what it is about besides the status's warnings. The exit code says whether all is well."""
    argv = [str(BIN / "morganctl"), "--json", "--data-dir", str(daemon.data_dir), "cluster", "doctor", *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == any(not one["mended"] for one in report["findings"]), done.stderr
    assert sorted(report["examined"]) == ["host1", "host2"]
    return report, {one["kind"] for one in report["findings"]} - {"status"}


def test_the_doctor_names_what_is_wrong_and_its_remedies_help(home: Home, tmp_path: Path) -> None:
    """On whichever host it is: a file that others can read, an original that is gone, one that belongs to nobody, a key
    that ends. What is safe it mends itself; the rest is done as it says."""
    note = tmp_path / "boiler.txt"
    note.write_text("The boiler was serviced in March.")
    home.ctl(home.first, "ingest", str(note))
    report, kinds = examine(home.first)
    assert kinds <= {"copies"}, json.dumps(report)
    roles = home.ctl(home.first, "roles", "list")["roles"]
    holder = next(one["host_name"] for one in roles if one["role"] == "objects")
    objects = (home.first if holder == "host1" else home.second).data_dir / "objects"
    original = next(file for file in objects.glob("??/??/*") if file.read_bytes() == note.read_bytes())
    original.unlink()
    orphan = objects / "ab" / "cd" / ("abcd" + "0" * 60)
    orphan.parent.mkdir(parents=True, exist_ok=True)
    orphan.write_text("Nobody's.")
    data = home.second.data_dir
    (data / "cluster" / "copy-of-key.pem").write_text("secret")
    for path, mode in ((data, 0o755), (data / "cluster", 0o755), (data / "cluster" / "copy-of-key.pem", 0o644)):
        path.chmod(mode)
    key = home.ctl(home.first, "keys", "create", "--owner", "guest", "--expires-days", "1")

    found, kinds = examine(home.first)
    assert kinds - {"copies"} == {"permissions", "originals", "orphans", "key"}
    assert {one["host_name"] for one in found["findings"] if one["kind"] == "permissions"} == {"host2"}

    mended, _ = examine(home.first, "--mend")
    assert {one["kind"] for one in mended["findings"] if one["mended"]} == {"permissions", "orphans"}
    assert not orphan.exists()
    assert not (data / "cluster" / "copy-of-key.pem").stat().st_mode & 0o007
    home.ctl(home.first, "ingest", str(note))
    home.ctl(home.first, "keys", "revoke", key["id"])
    assert examine(home.second)[1] <= {"copies"}
    data.chmod(0o700)


def test_z_a_removed_host_is_out_for_good(home: Home) -> None:
    """Its daemon ends and says why; its certificate opens nothing any more; it can be invited again."""
    home.ctl(home.first, "hosts", "drain", "host2")
    home.first.until(lambda: not (home.host("host2") or {"roles": []})["roles"], 120, "host2 holds nothing")
    home.ctl(home.first, "hosts", "remove", "host2")
    assert home.host("host2") is None
    assert home.second.process is not None
    assert home.second.process.wait(timeout=120) == 1
    assert "was removed from its cluster" in home.second.log.read_text()
    context = trust.client_context(home.second.data_dir / "cluster")
    context.check_hostname = False
    assert b"200 OK" not in _ask("127.0.5.1", PORT, "/peer/v1/alive", context)
    invitation = home.ctl(home.first, "cluster", "invite")
    done = join(home.second, invitation["address"], invitation["token"])
    assert done.returncode == 0, done.stderr
    home.second.start(ready=("db",))
    deadline = time.monotonic() + 30
    while (home.host("host2") or {}).get("state") != "alive":
        assert time.monotonic() < deadline
        time.sleep(0.2)
