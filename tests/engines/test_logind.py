"""Goodbyes over a real message bus, with a logind of ours on it that locks, waits and tells as the real one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Self

import pytest

from morgand.base.errors import Unavailable
from morgand.host.power.bus import LOGIND, LOGIND_PATH, MANAGER
from morgand.host.power.events import Back, Leaving, Tell
from morgand.host.power.logind import LOCKS, Logind

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="logind is Linux's"),
    pytest.mark.skipif(
        shutil.which("dbus-daemon") is None, reason="dbus-daemon is not installed (apt-get install dbus)"
    ),
]
if sys.platform == "linux":
    from dbus_fast import Message, MessageFlag, MessageType, NameFlag, SignatureTree, Variant
    from dbus_fast.aio import MessageBus

RETRY_S = 0.1
SEEN_S = 60.0
DELAY_MAX_S = 4.0  # logind's InhibitDelayMaxSec here
AT_ONCE_S = 2.0  # a lock that is not closed holds the machine for DELAY_MAX_S
POLICY = """<busconfig><listen>{address}</listen><auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>"""


@dataclass
class Bus:
    """A message bus; ``start`` and ``stop`` as often as one likes, always at the same address."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"unix:path={self.folder}/bus"

    def start(self) -> None:
        config = self.folder / "bus.conf"
        config.write_text(POLICY.format(address=self.address))
        argv = ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address"]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline()  # it listens from then on

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@dataclass
class FakeLogind:
    """What the operating system does: it hands out pipes as locks and waits, bounded, for them to close."""

    address: str
    refuses: str | None = None  # an error's name
    late_s: float = 0.0  # that a lock is given after it was asked for
    preparing: str | None = None
    locks: dict[int, str] = field(default_factory=dict)  # our ends of the pipes
    asked: list[tuple[str, ...]] = field(default_factory=list)
    bus: MessageBus | None = None

    async def __aenter__(self) -> Self:
        self.bus = await MessageBus(self.address, negotiate_unix_fd=True).connect()
        self.bus.add_message_handler(self._answer)
        await self.bus.request_name(LOGIND, NameFlag.ALLOW_REPLACEMENT | NameFlag.REPLACE_EXISTING)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.bus is not None
        self.bus.disconnect()
        with contextlib.suppress(OSError, EOFError):
            await self.bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        for end in self.locks:
            os.close(end)
        self.locks.clear()

    def held(self) -> set[str]:
        """What is delayed now. A lock whose other end is closed is forgotten."""
        for end in list(self.locks):
            if closed(end):
                os.close(end)
                del self.locks[end]
        return set(self.locks.values())

    async def prepare(self, what: str) -> float:
        """Begin to leave; how long the locks held it up."""
        self.preparing = what
        await self._say(what, starting=True)
        loop = asyncio.get_running_loop()
        began = loop.time()
        while what in self.held() and loop.time() - began < DELAY_MAX_S:
            await asyncio.sleep(0.01)
        return loop.time() - began

    async def resume(self, what: str) -> None:
        self.preparing = None
        await self._say(what, starting=False)

    async def _say(self, what: str, *, starting: bool) -> None:
        assert self.bus is not None
        await self.bus.send(prepare_signal(what, starting=starting))

    def _answer(self, call: Message) -> Message | bool:
        if call.message_type is not MessageType.METHOD_CALL:
            return False
        if call.member == "GetAll":
            return Message.new_method_return(call, "a{sv}", [self._properties()])
        if call.member != "Inhibit":
            return False
        if self.refuses is not None:
            return Message.new_error(call, self.refuses, "It is not allowed.")
        if self.late_s:
            asyncio.get_running_loop().call_later(self.late_s, self._inhibit, call)
            return True
        return self._inhibit(call)

    def _properties(self) -> dict[str, Variant]:
        return {
            "InhibitDelayMaxUSec": Variant("t", round(DELAY_MAX_S * 1e6)),
            "PreparingForSleep": Variant("b", self.preparing == "sleep"),
            "PreparingForShutdown": Variant("b", self.preparing == "shutdown"),
        }

    def _inhibit(self, call: Message) -> Message | bool:
        what = call.body[0]
        self.asked.append(tuple(call.body))
        if self.preparing is not None:
            return Message.new_error(call, "org.freedesktop.login1.OperationInProgress", "It is already running.")
        ours, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.locks[ours] = what
        assert self.bus is not None
        sent = self.bus.send(Message.new_method_return(call, "h", [0], [theirs]))
        sent.add_done_callback(lambda _: os.close(theirs))
        return True


def prepare_signal(what: str, *, starting: bool, to: str | None = None) -> Message:
    member = {"sleep": "PrepareForSleep", "shutdown": "PrepareForShutdown"}[what]
    return Message(
        to, LOGIND_PATH, MANAGER, member, MessageType.SIGNAL, MessageFlag.NO_REPLY_EXPECTED,
        signature="b", body=[starting],
    )  # fmt: skip


@dataclass
class Host:
    """A daemon, as far as goodbyes go: keeps what it was told and takes ``takes_s`` to hand over."""

    takes_s: float = 0.0
    stubborn: bool = False  # does not give up when it is cancelled
    told: list[Leaving | Back] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def tell(self, news: Leaving | Back) -> None:
        self.told.append(news)
        if isinstance(news, Back):
            return
        try:
            await asyncio.sleep(self.takes_s)
            self.done.append(news.kind)
        except asyncio.CancelledError:
            self.done.append("cancelled")
            if self.stubborn:
                await self.release.wait()
            raise

    def kinds(self) -> list[str]:
        return [one.kind if isinstance(one, Leaving) else "back" for one in self.told]


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    # a short path: Unix sockets allow about a hundred bytes
    with tempfile.TemporaryDirectory(prefix="bus") as folder:
        one = Bus(Path(folder))
        one.start()
        yield one
        one.stop()


@pytest.fixture
async def logind(bus: Bus) -> AsyncIterator[FakeLogind]:
    async with FakeLogind(bus.address) as fake:
        yield fake


@contextlib.asynccontextmanager
async def listening(address: str, tell: Tell) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(Logind(address, retry_s=RETRY_S).run(tell))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(SEEN_S):
            while not holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {SEEN_S} s: {what}") from None


@contextlib.asynccontextmanager
async def stranger(bus: Bus) -> AsyncIterator[MessageBus]:
    """Another program on the bus."""
    connection = await MessageBus(bus.address, negotiate_unix_fd=True).connect()
    try:
        yield connection
    finally:
        connection.disconnect()
        await connection.wait_for_disconnect()  # type: ignore[no-untyped-call]


def closed(end: int) -> bool:
    """Whether nobody has the other end of a pipe any more."""
    try:
        return os.read(end, 1) == b""
    except BlockingIOError:
        return False


def locked(fake: FakeLogind) -> Callable[[], bool]:
    return lambda: fake.held() == set(LOCKS)


async def test_locks_are_taken_and_end_with_the_daemon(bus: Bus, logind: FakeLogind) -> None:
    """The machine waits for sleep and shutdown from the start, and for nobody after the daemon."""
    async with listening(bus.address, Host().tell):
        await until(locked(logind), "both are locked")
        assert logind.asked == [(what, "Morgan", "hand over roles", "delay") for what in LOCKS]
    assert logind.held() == set()


@pytest.mark.parametrize("what", ["sleep", "shutdown"])
async def test_the_machine_waits_until_handed_over(bus: Bus, logind: FakeLogind, what: str) -> None:
    """The lock closes when the handler is done: not before, and not much later. The handler knows its time."""
    host = Host(takes_s=0.3)
    async with listening(bus.address, host.tell):
        await until(locked(logind), "both are locked")
        waited_s = await logind.prepare(what)
        [news] = host.told
        assert isinstance(news, Leaving)
        assert news.kind == what
        assert news.within_s == pytest.approx(0.8 * DELAY_MAX_S)
        assert host.done == [what]
        assert 0.3 <= waited_s < AT_ONCE_S
        assert logind.held() == set()


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_handler_that_hangs_is_given_up(bus: Bus, logind: FakeLogind, *, stubborn: bool) -> None:
    """After four fifths of what the machine allows the lock closes, even when the handler does not give up."""
    host = Host(takes_s=60.0, stubborn=stubborn)
    async with listening(bus.address, host.tell):
        await until(locked(logind), "both are locked")
        assert 0.75 * DELAY_MAX_S <= await logind.prepare("sleep") < DELAY_MAX_S
        await until(lambda: host.done == ["cancelled"], "it is cancelled")
        host.release.set()


async def test_a_handler_that_fails_keeps_nothing(bus: Bus, logind: FakeLogind) -> None:
    """Handing over failed: the machine goes at once, and the next goodbye is told as before."""
    told: list[Leaving | Back] = []

    async def fails(news: Leaving | Back) -> None:
        told.append(news)
        raise Unavailable("There is no quorum.")

    async with listening(bus.address, fails) as task:
        await until(locked(logind), "both are locked")
        assert await logind.prepare("sleep") < AT_ONCE_S
        await logind.resume("sleep")
        await until(locked(logind), "both are locked again")
        assert await logind.prepare("sleep") < AT_ONCE_S
        assert len(told) == 3
        assert not task.done()


async def test_a_handler_with_a_defect_ends_the_watch_without_a_lock(bus: Bus, logind: FakeLogind) -> None:
    """What is not an error of ours is not hidden, and does not keep the machine."""

    async def defect(_: Leaving | Back) -> None:
        raise ValueError

    async with listening(bus.address, defect) as task:
        await until(locked(logind), "both are locked")
        assert await logind.prepare("sleep") < AT_ONCE_S
        with pytest.raises(ExceptionGroup):
            await task


async def test_back_from_sleep_it_is_locked_again(bus: Bus, logind: FakeLogind) -> None:
    """Every resume takes new locks and is told, and the next sleep waits again; so does a shutdown called off."""
    host = Host(takes_s=0.05)
    async with listening(bus.address, host.tell):
        for what in ("sleep", "sleep", "shutdown"):
            await until(locked(logind), "both are locked")
            assert await logind.prepare(what) >= 0.05
            await logind.resume(what)
        await until(locked(logind), "both are locked again")
        await until(lambda: len(host.told) == 6, "all is told")
        assert host.kinds() == ["sleep", "back", "sleep", "back", "shutdown", "back"]


async def test_a_sleep_that_comes_while_coming_back_is_not_kept_waiting(bus: Bus, logind: FakeLogind) -> None:
    """Whoever still works on being back gives that up for the next goodbye."""
    order: list[str] = []

    async def slow_return(news: Leaving | Back) -> None:
        if isinstance(news, Leaving):
            order.append("leaving")
            return
        try:
            await asyncio.sleep(60.0)
        finally:
            order.append("gave up")

    async with listening(bus.address, slow_return):
        await until(locked(logind), "both are locked")
        await logind.prepare("sleep")
        await logind.resume("sleep")
        await until(locked(logind), "both are locked again")
        await asyncio.sleep(0.05)
        assert await logind.prepare("sleep") < AT_ONCE_S
        assert order == ["leaving", "gave up", "leaving"]


@pytest.mark.parametrize("gap", [False, True])
async def test_a_restarted_logind_is_locked_again(bus: Bus, *, gap: bool) -> None:
    """logind was updated and restarted: the old locks are closed, new ones are taken, nobody is told to leave."""
    host = Host()
    async with FakeLogind(bus.address) as first, listening(bus.address, host.tell):
        await until(locked(first), "both are locked")
        if gap:
            assert first.bus is not None
            await first.bus.release_name(LOGIND)
            await until(lambda: first.held() == set(), "the old locks are closed")
        async with FakeLogind(bus.address) as second:
            await until(locked(second), "the new one is locked")
            assert first.held() == set()
            assert host.told == []
            await second.prepare("sleep")
            await until(lambda: host.kinds() == ["sleep"], "the new one is heard")


async def test_a_restarted_bus_is_found_again(bus: Bus) -> None:
    """The bus itself went away: goodbyes work again when it is back, and the daemon did not notice."""
    host = Host()
    async with listening(bus.address, host.tell) as task:
        async with FakeLogind(bus.address) as first:
            await until(locked(first), "both are locked")
            bus.stop()
            await until(lambda: first.held() == set(), "they are closed")
        (bus.folder / "bus").unlink()
        bus.start()
        async with FakeLogind(bus.address) as second:
            await until(locked(second), "both are locked again")
            await second.prepare("shutdown")
            assert host.kinds() == ["shutdown"]
        assert not task.done()


async def test_a_resume_that_was_missed_is_told(bus: Bus) -> None:
    """logind ended while the machine slept: that it is awake is seen from the next one."""
    host = Host()
    async with listening(bus.address, host.tell):
        async with FakeLogind(bus.address) as first:
            await until(locked(first), "both are locked")
            await first.prepare("sleep")
        async with FakeLogind(bus.address) as second:
            await until(locked(second), "the new one is locked")
            await until(lambda: host.kinds() == ["sleep", "back"], "it is back")


async def test_a_daemon_that_starts_during_a_shutdown_is_told(bus: Bus) -> None:
    """The signal came before it listened; no lock is to be had then."""
    host = Host()
    async with FakeLogind(bus.address, preparing="shutdown") as fake, listening(bus.address, host.tell):
        await until(lambda: host.kinds() == ["shutdown"], "it is told")
        assert fake.asked == []


async def test_a_refused_lock_is_asked_for_again(
    bus: Bus, logind: FakeLogind, caplog: pytest.LogCaptureFixture
) -> None:
    """Goodbyes are heard without it, it is said once that the machine does not wait, and once that it does."""
    caplog.set_level(logging.INFO, logger="morgand.goodbye")
    logind.refuses = "org.freedesktop.DBus.Error.AccessDenied"
    host = Host()
    async with listening(bus.address, host.tell):
        await until(lambda: bool(caplog.records), "it is refused")
        await asyncio.sleep(5 * RETRY_S)
        await logind.prepare("sleep")
        await until(lambda: host.kinds() == ["sleep"], "it is told")
        await logind.resume("sleep")
        logind.refuses = None
        await until(locked(logind), "both are locked")
    waits = [(one.getMessage(), vars(one).get("reason")) for one in caplog.records if "wait" in one.getMessage()]
    assert waits[0][0] == "the machine does not wait for goodbyes"
    assert waits[-1][0] == "the machine waits for goodbyes"
    assert all(one != other for one, other in pairwise(waits))


async def test_only_logind_is_believed(bus: Bus, logind: FakeLogind) -> None:
    """Any program on the machine can send such a signal to us; it must not make this host give its roles away."""
    host = Host()
    async with listening(bus.address, host.tell):
        await until(locked(logind), "both are locked")
        async with stranger(bus) as connection:
            for number in range(10):
                await connection.send(prepare_signal("sleep", starting=True, to=f":1.{number}"))
        await asyncio.sleep(0.3)
        assert host.told == []
        await logind.prepare("sleep")
        assert host.kinds() == ["sleep"]


async def test_what_strangers_send_along_is_closed(bus: Bus, logind: FakeLogind) -> None:
    """A file descriptor can come with any signal, also with one that is not believed: the daemon collects none."""
    ours, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    async with listening(bus.address, Host().tell):
        await until(locked(logind), "both are locked")
        async with stranger(bus) as connection:
            assert logind.bus is not None
            others = {logind.bus.unique_name, connection.unique_name}
            for name in sorted({f":1.{number}" for number in range(10)} - others):
                signal = prepare_signal("sleep", starting=True, to=name)
                signal.signature, signal.body, signal.unix_fds = "h", [0], [theirs]
                signal.signature_tree = SignatureTree("h")
                await connection.send(signal)
            os.close(theirs)
        await until(lambda: closed(ours), "nobody has it")
    os.close(ours)


async def test_no_bus(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Most containers: it is said once, at info, and that is all."""
    caplog.set_level(logging.INFO)
    await Logind(f"unix:path={tmp_path}/none").run(Host().tell)
    assert [(record.name, record.levelname) for record in caplog.records] == [("morgand.goodbye", "INFO")]


async def test_a_bus_that_is_dead(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """A socket that nobody serves is no bus."""
    caplog.set_level(logging.INFO)
    bus.stop()
    assert (bus.folder / "bus").exists()
    await Logind(bus.address).run(Host().tell)
    assert [(record.name, record.levelname) for record in caplog.records] == [("morgand.goodbye", "INFO")]


async def test_a_bus_without_logind(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once; a logind that is started later is locked all the same."""
    caplog.set_level(logging.INFO, logger="morgand.goodbye")
    async with listening(bus.address, Host().tell):
        await until(lambda: bool(caplog.records), "it is not there")
        await asyncio.sleep(5 * RETRY_S)
        assert [record.levelname for record in caplog.records] == ["INFO"]
        async with FakeLogind(bus.address) as late:
            await until(locked(late), "both are locked")


async def test_a_lock_that_comes_too_late_is_not_kept(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would release it: the connection is closed, which gives it back, and made anew."""
    monkeypatch.setattr("morgand.host.power.bus.CALL_S", 1.0)
    async with FakeLogind(bus.address, late_s=1.5) as fake, listening(bus.address, Host().tell) as task:
        await until(lambda: len(fake.asked) > 1, "it was given, and asked for again")
        fake.late_s = 0.0
        await until(locked(fake), "both are locked")
        await asyncio.sleep(0.5)
        assert fake.held() == set(LOCKS)
        assert len(fake.locks) == len(LOCKS)
        assert not task.done()


async def test_programs_that_are_started_do_not_hold_the_lock(bus: Bus, logind: FakeLogind) -> None:
    """An engine outlives the goodbye; the machine must not wait for it."""
    async with listening(bus.address, Host().tell):
        await until(locked(logind), "both are locked")
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
        try:
            assert await logind.prepare("sleep") < AT_ONCE_S
        finally:
            child.kill()
            child.wait()


def test_the_library_is_not_loaded_without_a_bus(tmp_path: Path) -> None:
    """Where nothing is announced the daemon stays as small as it was."""
    program = (
        "import asyncio, sys; from morgand.host.power.logind import Logind;"
        "asyncio.run(Logind(sys.argv[1]).run(None)); sys.exit('dbus_fast' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, f"unix:path={tmp_path}/none"], check=False).returncode == 0
