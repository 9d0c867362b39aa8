"""Gossip with real Serf agents, each at a loopback address of its own: who is here, who is gone, who is let in."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from morgand.base.clock import SystemClock
from morgand.base.errors import Unavailable
from morgand.gossip.agent import Place
from morgand.gossip.membership import GossipMembership, Probe, Report
from morgand.gossip.serf import SerfClient
from morgand.process.supervisor import Child, ChildSpec
from morgand.state.hosts import Member, MemberStatus

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("serf") is None, reason="serf is not installed (apt-get install serf)"),
]
NETS = itertools.count(os.getpid() % 200 + 10)
PORT = 7472
SEEN_S = 60.0  # the agent reports a dead member after 4.4 to 7.6 s


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass
class Agent:
    """A host's gossip, as the daemon runs it."""

    place: Place
    seeds: Sequence[str]
    membership: GossipMembership = field(init=False)
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.membership = GossipMembership(self.place, self._keep, lambda: self.seeds, SystemClock())

    async def _keep(self, name: str, argv: tuple[str, ...], probe: Probe, report: Report) -> None:
        spec = ChildSpec(name, argv, {}, self.place.folder / "serf.log", start_deadline_s=30.0)
        await Child(spec, probe, SystemClock()).run(report)

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.membership.run())
        await until(lambda: self.place.host in self.membership.members(), "the agent runs")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(), signal.SIGCONT)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    @property
    def gossip(self) -> str:
        return f"{self.place.address}:{self.place.port}"

    def pid(self) -> int:
        """Of the serf that runs with this host's configuration. Raises ProcessLookupError."""
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                argv = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
                if str(self.place.config).encode() in argv and (entry / "exe").resolve().name == "serf":
                    return int(entry.name)
        raise ProcessLookupError(self.place.host)

    def runs_as(self, before: int) -> bool:
        """Whether serf runs, and is another process than before."""
        with contextlib.suppress(ProcessLookupError):
            return self.pid() != before
        return False

    def says(self, other: Agent) -> MemberStatus | None:
        found: Member | None = self.membership.members().get(other.place.host)
        return found.status if found else None

    def rpc(self) -> tuple[int, str]:
        config = json.loads(self.place.config.read_text())
        return int(config["rpc_addr"].rpartition(":")[2]), config["rpc_auth"]

    def keys(self) -> list[str]:
        found: list[str] = json.loads(self.place.keyring.read_text())
        return found


class Town:
    """Makes hosts in a network of their own; they share a key."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.net, self.key = folder, next(NETS), new_key()

    def host(self, number: int, seeds: Sequence[Agent] = (), key: str | None = None) -> Agent:
        folder = self.folder / f"h{number}"
        folder.mkdir()
        keyring = folder / "gossip.keyring"
        keyring.touch(mode=0o600)
        keyring.write_text(json.dumps([key or self.key]))
        place = Place(f"host-{number}", f"127.78.{self.net}.{number}", PORT, folder)
        return Agent(place, [one.gossip for one in seeds])

    @contextlib.asynccontextmanager
    async def of(self, count: int) -> AsyncIterator[list[Agent]]:
        """``count`` hosts that all see each other."""
        async with contextlib.AsyncExitStack() as stack:
            first = await stack.enter_async_context(self.host(1))
            others = [self.host(number, [first]) for number in range(2, count + 1)]
            hosts = [first, *[await stack.enter_async_context(one) for one in others]]
            await until(lambda: all_see(hosts, MemberStatus.ALIVE), "all see all")
            yield hosts


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def all_see(hosts: Sequence[Agent], status: MemberStatus) -> bool:
    return all(one.says(other) is status for one in hosts for other in hosts)


async def until(holds: Callable[[], bool], what: str, timeout_s: float = SEEN_S) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s} s: {what}") from None


async def talking(asker: Agent, hosts: Sequence[Agent]) -> None:
    """Until a question that one asks is answered by all of these."""
    for one in hosts:
        one.membership.answer("here", _constant(b"yes"))
    wanted = {one.place.host for one in hosts}
    async with asyncio.timeout(SEEN_S):
        while not wanted <= (await asker.membership.ask("here", b"", 0.5)).keys():
            pass


async def test_join_and_tags(town: Town) -> None:
    """A host that knows one seed becomes known to all, with its address and what it says of itself."""
    async with town.of(3) as hosts:
        await hosts[2].membership.set_tags({"n": "third", "g": "24576"})
        await until(
            lambda: all(h.membership.members()["host-3"].tags == {"n": "third", "g": "24576"} for h in hosts), ""
        )
        await hosts[2].membership.set_tags({"n": "third"})
        await until(lambda: all(h.membership.members()["host-3"].tags == {"n": "third"} for h in hosts), "a tag goes")
        assert hosts[0].membership.members()["host-3"].address == hosts[2].place.address


async def test_frozen_and_back(town: Town) -> None:
    """A frozen host is failed to the others, and alive again when it goes on."""
    async with town.of(3) as hosts:
        pid = hosts[1].pid()
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: all(h.says(hosts[1]) is MemberStatus.FAILED for h in (hosts[0], hosts[2])), "failed")
        os.kill(hosts[1].pid(), signal.SIGCONT)
        await until(lambda: all(h.says(hosts[1]) is MemberStatus.ALIVE for h in (hosts[0], hosts[2])), "alive again")


async def test_killed_agent_returns_from_its_snapshot(town: Town) -> None:
    """A killed agent is started again, finds the others without a seed, and says its tags again."""
    async with town.of(2) as (first, second):
        second.seeds = ()
        await first.membership.set_tags({"n": "first"})
        await until(lambda: second.membership.members()["host-1"].tags == {"n": "first"}, "tags are known")
        killed = first.pid()
        os.kill(killed, signal.SIGKILL)
        await until(lambda: first.runs_as(killed), "it runs again")
        await talking(second, [first, second])  # until then the lists may be those of before
        await until(lambda: all_see([first, second], MemberStatus.ALIVE), "both see both")
        await until(lambda: second.membership.members()["host-1"].tags == {"n": "first"}, "its tags are there again")


async def test_changes_after_a_restart_are_followed(town: Town) -> None:
    """After an agent was started anew, members that come later are seen as before."""
    async with town.of(2) as (first, second):
        killed = first.pid()
        os.kill(killed, signal.SIGKILL)
        await until(lambda: first.runs_as(killed), "it runs again")
        async with town.host(3, [second]) as third:
            await until(lambda: all_see([first, second, third], MemberStatus.ALIVE), "the third is seen by all")


async def test_leave(town: Town) -> None:
    """A host that says goodbye has left: it is not failed, and its agent does not come back."""
    async with town.of(2) as (first, second):
        await second.membership.leave()
        await until(lambda: first.says(second) is MemberStatus.LEFT, "it has left")
        await until(lambda: not second.runs_as(0), "its agent has ended")
        await asyncio.sleep(2.0)
        assert first.says(second) is MemberStatus.LEFT
        assert not second.runs_as(0)


async def test_forget(town: Town) -> None:
    """A host that was forgotten is no member any more."""
    async with town.of(2) as (first, second):
        assert second.task is not None
        second.task.cancel()
        await asyncio.gather(second.task, return_exceptions=True)
        await until(lambda: first.says(second) in {MemberStatus.FAILED, MemberStatus.LEFT}, "it is gone")
        await first.membership.forget("host-2")
        await until(lambda: first.says(second) is None, "it is forgotten")


async def test_key_rotation(town: Town) -> None:
    """While all run the key is changed on all; the old one then opens nothing."""
    async with town.of(3) as hosts:
        fresh = new_key()
        await hosts[0].membership.rotate_key(fresh)
        assert [one.keys() for one in hosts] == [[fresh]] * 3
        assert [one.place.keyring.stat().st_mode & 0o077 for one in hosts] == [0] * 3
        await talking(hosts[0], hosts)
        async with town.host(4, [hosts[0]], key=town.key) as stale, town.host(5, [hosts[0]], key=fresh) as right:
            await until(lambda: all_see([*hosts, right], MemberStatus.ALIVE), "who has the new key is in")
            assert all(one.says(stale) is None for one in hosts)
            assert set(stale.membership.members()) == {"host-4"}


async def test_wrong_key(town: Town) -> None:
    """Who does not have the key is not let in, and learns nothing."""
    async with town.of(2) as hosts, town.host(3, [hosts[0]], key=new_key()) as stranger:
        await stranger.membership.join([hosts[0].gossip])
        await asyncio.sleep(1.0)  # they gossip five times a second
        assert set(stranger.membership.members()) == {"host-3"}
        assert all(one.says(stranger) is None for one in hosts)


async def test_rpc_wants_its_key(town: Town) -> None:
    """The agent's RPC answers nobody without its key, which is in no command line."""
    async with town.host(1) as host:
        port, key = host.rpc()
        with pytest.raises(Unavailable, match="authentication token"):
            await SerfClient.connect(port, "wrong")
        argv = Path(f"/proc/{host.pid()}/cmdline").read_bytes()
        assert key.encode() not in argv
        assert town.key.encode() not in argv
        assert host.place.config.stat().st_mode & 0o077 == 0


async def test_everybody_answers(town: Town) -> None:
    """A question to the cluster is answered by every member; one that fails or is unknown is not in the answer."""
    async with town.of(3) as hosts:
        for one in hosts:
            one.membership.answer("status", _answer(one.place.host))
        found = await hosts[1].membership.ask("status", b"?", 4.0)
        assert found == {one.place.host: one.place.host.encode() + b" heard ?" for one in hosts}
        assert await hosts[1].membership.ask("unknown", b"", 0.5) == {}


async def test_long_answers(town: Town) -> None:
    """An answer of 900 bytes arrives; one that gossip cannot carry is left out and breaks nothing."""
    async with town.of(2) as (first, second):
        first.membership.answer("long", _constant(b"x" * 900))
        second.membership.answer("long", _constant(b"x" * 2000))
        assert await first.membership.ask("long", b"", 4.0) == {"host-1": b"x" * 900}
        second.membership.answer("long", _constant(b"short"))
        assert await first.membership.ask("long", b"", 4.0) == {"host-1": b"x" * 900, "host-2": b"short"}


async def test_no_agent_outlives_its_daemon(town: Town, tmp_path: Path) -> None:
    """The agent ends with the process that started it, even when that is killed."""
    async with town.host(1) as host:
        config = host.place.config.read_text().replace(host.place.address, f"127.78.{town.net}.9")
    file = tmp_path / "h1" / "other.json"
    file.write_text(config)
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'morgand.process.die_with_parent', "
        "'serf', 'agent', '-config-file', sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(file), stdout=-1)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    await until(lambda: Path(f"/proc/{pid}/exe").resolve().name == "serf", "the program runs")
    parent.kill()
    await parent.communicate()
    await until(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid), "it ends, too")


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def _answer(host: str) -> Callable[[bytes], Awaitable[bytes]]:
    async def answer(payload: bytes) -> bytes:
        return host.encode() + b" heard " + payload

    return answer


def _constant(said: bytes) -> Callable[[bytes], Awaitable[bytes]]:
    async def answer(_payload: bytes) -> bytes:
        return said

    return answer
