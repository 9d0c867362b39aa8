"""The supervisor: arithmetic as a table, and real child processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from morgand.base.clock import SystemClock
from morgand.base.errors import EngineError
from morgand.process.nice import MIXED as STANDS
from morgand.process.nice import Priority
from morgand.process.supervisor import BACKOFF_S, COOL_DOWN_S, Child, ChildSpec, Restart, restart_delay
from morgand.roles.process import EngineClient
from morgand.state.roles import RoleState

ENGINE = """
import sys
sys.path.insert(0, {path!r})
from morgand.roles.process import serve
async def build(options):
    async def echo(body):
        return body
    if options.get("fail"):
        print("cannot load the thing")
        sys.exit(3)
    return {{"echo": echo}}
serve(build)
"""


@pytest.mark.parametrize(
    ("ends", "now", "expected"),
    [
        ([0.0], 0.0, Restart(BACKOFF_S[0], failed=False)),
        ([0.0, 1.0], 1.0, Restart(BACKOFF_S[1], failed=False)),
        ([0.0, 1.0, 2.0, 4.0, 9.0], 9.0, Restart(BACKOFF_S[4], failed=False)),
        ([0.0, 1.0, 2.0, 4.0, 9.0, 10.0], 10.0, Restart(COOL_DOWN_S, failed=True)),
        ([0.0, 1.0, 2.0, 4.0, 9.0, 100.0], 100.0, Restart(BACKOFF_S[0], failed=False)),
    ],
)
def test_restart_delay(ends: list[float], now: float, expected: Restart) -> None:
    """Delays grow with each end in the window; too many ends mean failed and a cool-down; old ends are forgotten."""
    assert restart_delay(ends, now) == expected


class Reports:
    """Collects what a child reports and lets a test wait for a state."""

    def __init__(self) -> None:
        self.seen: list[tuple[RoleState, str | None]] = []
        self._changed = asyncio.Event()

    def __call__(self, state: RoleState, detail: str | None) -> None:
        self.seen.append((state, detail))
        self._changed.set()

    async def until(self, state: RoleState, times: int = 1) -> None:
        async with asyncio.timeout(30):
            while sum(1 for one, _ in self.seen if one is state) < times:
                self._changed.clear()
                await self._changed.wait()


def child(tmp_path: Path, **options: object) -> tuple[Child, EngineClient]:
    program = tmp_path / "engine.py"
    program.write_text(ENGINE.format(path=str(Path(__file__).parents[2])))
    socket = tmp_path / "e.sock"
    client = EngineClient(socket, "toy")
    spec = ChildSpec("toy", (sys.executable, str(program), "--socket", str(socket)), options, tmp_path / "toy.log")
    return Child(spec, client.healthy, SystemClock()), client


def children() -> list[psutil.Process]:
    """The supervised ones: other tests may leave the interpreter a helper process of its own."""
    alive = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in alive if "--socket" in one.cmdline()]


async def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    """A child that is killed comes back, and stops for good when its task is cancelled."""
    one, client = child(tmp_path)
    reports = Reports()
    task = asyncio.create_task(one.run(reports))
    await reports.until(RoleState.READY)
    children()[0].kill()
    await reports.until(RoleState.READY, times=2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()
    assert children() == []


async def test_an_engine_stands_back_where_the_processors_are_busy(tmp_path: Path) -> None:
    """Within its session, and its session among others; not before it is loaded where people wait for that."""
    argv = (sys.executable, "-c", "import time; time.sleep(60)")
    nice = []
    for back, eager, probe in (
        (False, False, at_once),
        (True, False, never),
        (True, True, at_once),
        (True, True, never),
    ):
        priority = STANDS if back else None
        spec = ChildSpec("standing", argv, {}, tmp_path / "log", priority=priority, eager=eager)
        child = Child(spec, probe, SystemClock())
        before = set(psutil.Process().children())
        task = asyncio.create_task(child.run(Reports()))
        while not (started := set(psutil.Process().children()) - before):
            await asyncio.sleep(0.01)
        process = started.pop()
        session = Path(f"/proc/{process.pid}/autogroup")
        deadline = time.monotonic() + (10.0 if back and not (eager and probe is never) else 0.5)
        while time.monotonic() < deadline and not stands_back(process, session):
            await asyncio.sleep(0.05)
        nice.append(stands_back(process, session))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert nice == [False, True, True, False]


async def never() -> bool:
    return False


async def at_once() -> bool:
    return True


def stands_back(process: psutil.Process, session: Path) -> bool:
    at_session = int(session.read_text().split()[-1]) if session.exists() else STANDS.session
    return Priority(process.nice(), at_session) == STANDS


async def test_a_child_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The exit code and the last line of output reach the report and the log file."""
    one, client = child(tmp_path, fail=True)
    reports = Reports()
    task = asyncio.create_task(one.run(reports))
    await reports.until(RoleState.STARTING, times=2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()
    assert any(detail and "exit code 3" in detail and "cannot load" in detail for _, detail in reports.seen)
    assert "cannot load the thing" in (tmp_path / "toy.log").read_text()


async def test_a_frozen_child_is_ended_and_replaced(tmp_path: Path) -> None:
    """SIGSTOP: the child accepts connections and never answers; missed checks end it."""
    one, _ = child(tmp_path)
    probe_client = EngineClient(tmp_path / "e.sock", "toy")

    async def probe() -> bool:
        return await probe_client.healthy(deadline_s=0.3)

    one._probe = probe
    reports = Reports()
    task = asyncio.create_task(one.run(reports))
    await reports.until(RoleState.READY)
    os.kill(children()[0].pid, signal.SIGSTOP)
    await reports.until(RoleState.READY, times=2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await probe_client.close()
    assert any(detail and "stopped answering" in detail for _, detail in reports.seen)


@pytest.mark.parametrize("apart", [True, False])
async def test_what_a_child_gets_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, apart: bool
) -> None:
    """Settings of others in the daemon's environment do not reach a child that is to be apart."""
    monkeypatch.setenv("PGHOST", "elsewhere")
    spec = ChildSpec("env", ("/usr/bin/env",), {}, tmp_path / "env.log", env={"OWN": "1"}, apart=apart)
    await run_once(spec)
    said = spec.log_file.read_text()
    assert ("PGHOST=elsewhere" in said) is not apart
    assert "OWN=1" in said


async def test_what_keeps_a_child_from_being_started_is_told(tmp_path: Path) -> None:
    """Before every start: what is missing may have come meanwhile."""
    tries = 0

    async def prepare() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise EngineError("The folder is closed.", remedy="Open it.")

    async def up() -> bool:
        return True

    reports = Reports()
    spec = ChildSpec("sleeper", ("sleep", "60"), {}, tmp_path / "log")
    task = asyncio.create_task(Child(spec, up, SystemClock(), prepare).run(reports))
    await reports.until(RoleState.READY)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (RoleState.STARTING, "The folder is closed. Open it.") in reports.seen
    assert tries == 2


async def test_a_child_is_ready_when_it_has_done_what_it_is_for(tmp_path: Path) -> None:
    """Not when it says that it is healthy: a model that is read into memory may take long for its first answer."""
    tries: list[list[RoleState]] = []
    reports = Reports()

    async def proof() -> None:
        tries.append([state for state, _ in reports.seen])
        if len(tries) == 1:
            raise EngineError("The first token did not come.")

    spec = ChildSpec("loader", ("sleep", "60"), {}, tmp_path / "log")
    task = asyncio.create_task(Child(spec, at_once, SystemClock(), proof=proof).run(reports))
    await reports.until(RoleState.READY)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert tries == [[RoleState.STARTING], [RoleState.STARTING]]


async def test_a_child_that_never_does_what_it_is_for_is_ended_with_the_reason(tmp_path: Path) -> None:
    async def proof() -> None:
        raise EngineError("The LLM refused the request.")

    spec = ChildSpec("mute", ("sleep", "60"), {}, tmp_path / "log", start_deadline_s=0.1)
    reports = Reports()
    task = asyncio.create_task(Child(spec, at_once, SystemClock(), proof=proof).run(reports))
    await reports.until(RoleState.STARTING, times=2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert reports.seen[1][1] == ("mute loaded, did not answer in time (The LLM refused the request) and was ended.")


async def run_once(spec: ChildSpec) -> str | None:
    """Why a child that ends by itself has ended."""

    async def never() -> bool:
        return False

    reports = Reports()
    task = asyncio.create_task(Child(spec, never, SystemClock()).run(reports))
    await reports.until(RoleState.STARTING, times=2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return reports.seen[1][1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
async def test_a_child_whose_log_meets_a_full_disk_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last words are still known; that the log cannot be written is told once."""
    file = tmp_path / "full.log"
    file.symlink_to("/dev/full")
    reason = await run_once(ChildSpec("toy", ("sh", "-c", "seq 1000; echo last; exit 3"), {}, file))
    assert reason == "toy ended with exit code 3: last"
    assert [one.message for one in caplog.records].count("log cannot be written") == 1
    assert capsys.readouterr().err == ""


async def test_a_child_is_gone_whoever_has_inherited_its_output(tmp_path: Path) -> None:
    """A server that it has started in a session of its own, say, and that stands still."""
    leaves = (
        "import subprocess\n"
        "print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)\n"
        "raise SystemExit(3)"
    )
    log = tmp_path / "leaves.log"
    spec = ChildSpec("leaves", (sys.executable, "-c", leaves), {}, log)
    reports = Reports()
    task = asyncio.create_task(Child(spec, asyncio.Event().wait, SystemClock()).run(reports))
    try:
        await reports.until(RoleState.STARTING, times=3)
        assert (reports.seen[1][1] or "").startswith("leaves ended with exit code 3")
        task.cancel()
        async with asyncio.timeout(30):
            await asyncio.gather(task, return_exceptions=True)
    finally:
        for said in filter(str.isdigit, log.read_text().split()):
            os.kill(int(said), signal.SIGKILL)


async def test_a_child_has_the_grace_it_needs_to_stop(tmp_path: Path) -> None:
    """A stop that takes longer than an engine's is waited for."""
    slow = (
        "import signal, sys, time\n"
        "def stop(*_):\n    time.sleep(0.5)\n    print('stopped well', flush=True)\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    log = tmp_path / "slow.log"
    for grace_s, stopped in ((0.1, False), (10.0, True)):
        log.unlink(missing_ok=True)
        spec = ChildSpec("slow", (sys.executable, "-c", slow), {}, log, stop_grace_s=grace_s)
        task = asyncio.create_task(Child(spec, asyncio.Event().wait, SystemClock()).run(Reports()))
        async with asyncio.timeout(20):
            while not log.exists() or "up" not in log.read_text():
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert ("stopped well" in log.read_text()) is stopped


def test_no_child_survives_a_killed_parent(tmp_path: Path) -> None:
    """SIGKILL of the parent, which can clean up nothing, still ends the engine."""
    program = tmp_path / "engine.py"
    program.write_text(ENGINE.format(path=str(Path(__file__).parents[2])))
    socket = tmp_path / "s"
    script = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, {str(program)!r}, '--socket', {str(socket)!r}], stdin=-1)\n"
        "p.stdin.write(b'{}\\n'); p.stdin.flush(); print(p.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    engine = psutil.Process(int(parent.stdout.readline()))
    deadline = time.monotonic() + 20
    while not socket.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, alive = psutil.wait_procs([engine], timeout=10)
    assert gone
    assert not alive


async def test_a_child_that_is_cancelled_while_it_is_given_its_options_is_ended(tmp_path: Path) -> None:
    """It has been started by then, and nobody else knows of it."""
    program = tmp_path / "deaf.py"
    program.write_text("import time\ntime.sleep(600)\n")  # does not read what it is given
    spec = ChildSpec("deaf", (sys.executable, str(program)), {"much": "x" * 4_000_000}, tmp_path / "deaf.log")
    running = asyncio.create_task(Child(spec, never_healthy, SystemClock()).run(lambda *_: None))
    async with asyncio.timeout(20):
        while not (children := children_of(program)):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running], timeout=20)
    assert running.cancelled()
    assert [one for one in children if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []


async def never_healthy() -> bool:
    return False


def children_of(program: Path) -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if str(program) in one.cmdline()]
