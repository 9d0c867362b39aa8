"""Steps that break a host's disk: it is full, it can only be read, it is slow.

Such a host's data directory lies on a file system of its own, an ext4 image on a loop device: what is done to it hurts
nobody else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tests.lab.scenario import Step
from tests.lab.stage import Stage

SHIM = Path(__file__).with_name("slow_fsync.c")
BALLAST = "ballast"
BLOCK = 4096
RELEASED_S = 10.0
MIB = 2**20
ETCD_PORT = 7473  # where a voter listens to clients


class Disk:
    """The file system of one host's data directory. What mounted it is no more: it is unmounted."""

    def __init__(self, folder: Path, size_mb: int) -> None:
        """``folder`` is where it is mounted; the image lies beside it. Raises AssertionError where none can be made."""
        self.folder = folder
        self._image = folder.with_name(f"{folder.name}.img")
        with self._image.open("wb") as file:
            file.truncate(size_mb * MIB)
        _run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0", str(self._image))
        folder.mkdir(mode=0o711, exist_ok=True)
        # hosts are in mount namespaces of their own: what is unmounted on a shared one is gone for all of them
        _run("mount", "--bind", str(folder), str(folder))
        _run("mount", "--make-shared", str(folder))
        # closes its stdin when it ends, however it does
        self._keeper = subprocess.Popen(
            ["sh", "-c", 'trap "" INT TERM HUP; read -r _; umount -l "$0"; umount -l "$0"', str(folder)],
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            self.mount()
        except AssertionError:
            self.close()
            raise

    def mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.folder))
        shutil.rmtree(self.folder / "lost+found", ignore_errors=True)
        self.folder.chmod(0o711)

    def close(self) -> None:
        """Unmount; whatever used it has ended."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(timeout=30)

    def fill(self, left_mb: int = 0) -> None:
        """Leave so much, to the last block when nothing."""
        free = shutil.disk_usage(self.folder).free - left_mb * MIB
        with (self.folder / BALLAST).open("ab") as file, contextlib.suppress(OSError):
            size = file.tell()
            while free >= BLOCK:
                try:
                    os.posix_fallocate(file.fileno(), size, free)
                except OSError:
                    free //= 2
                else:
                    size += free
                    free = min(free, shutil.disk_usage(self.folder).free - left_mb * MIB)

    def empty(self) -> None:
        (self.folder / BALLAST).unlink()

    def break_down(self) -> None:
        """As after an error of the hardware: from now on the kernel only reads it."""
        device = _run("findmnt", "-n", "-o", "SOURCE", str(self.folder)).strip()
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("1")

    def repair(self) -> None:
        """Nothing uses it: what did has been killed, and ends, and its mount namespace with it, a moment later."""
        umount = ("umount", str(self.folder))
        self._released(lambda: not subprocess.run(umount, capture_output=True, check=False).returncode)
        self._released(lambda: not _run("losetup", "-j", str(self._image)))
        _run("e2fsck", "-f", "-y", str(self._image), codes=(0, 1))
        self.mount()

    def _released(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + RELEASED_S
        while not holds():
            assert time.monotonic() < deadline, f"something still uses {self.folder}"
            time.sleep(0.1)


def slowness() -> str | None:
    """Why no disk can be made slow here, or None."""
    return None if shutil.which("gcc") else "a slow disk needs gcc"


def preloaded(folder: Path, delay: Path) -> tuple[str, ...]:
    """How a program is started whose durable writes wait as long as ``delay`` says, and those of whatever it starts.

    A list of what the dynamic loader loads first stands in /etc: the host gets one of its own, over the system's.
    """
    etc, work, library = folder / "etc", folder / "work", folder / "slow_fsync.so"
    for one in (etc, work):
        one.mkdir(parents=True, exist_ok=True)
    _run("gcc", "-shared", "-fPIC", "-O1", f'-DDELAY_FILE="{delay}"', "-o", str(library), str(SHIM), "-ldl")
    (etc / "ld.so.preload").write_text(f"{library}\n")
    mount = f"mount -t overlay overlay -o lowerdir=/etc,upperdir={etc},workdir={work} /etc"
    return ("sh", "-c", f'{mount} && exec "$@"', "sh")


class Disks(Stage):
    """Hosts with a disk of their own."""

    def __init__(self, names: list[str], root: Path, seed: int) -> None:
        super().__init__(names, root, seed)
        self._disks: dict[str, Disk] = {}
        self._sick = ""

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, err, trace)
        finally:
            for disk in self._disks.values():
                disk.close()

    def do_disk(self, step: Step) -> None:
        name, size_mb = step.words
        self._disks[name] = Disk(self.hosts[name].data_dir, int(size_mb))

    def do_slowable(self, step: Step) -> None:
        """From its start on, since what runs cannot be changed any more."""
        reason = slowness()
        assert reason is None, reason
        host = self.hosts[step.words[0]]
        host.prefix += preloaded(self._root / f"{host.name}.slow", self._delay(host.name))

    def do_slow(self, step: Step) -> None:
        self._note_disk(step.words[0])
        self._delay(step.words[0]).write_text(step.words[1])

    def do_swift(self, step: Step) -> None:
        self._struck_at = time.monotonic()
        self._delay(step.words[0]).unlink()

    def do_etcd(self, step: Step) -> None:
        """Whether etcd takes connections on a host."""
        name, down, limit_s = step.words
        argv = [*self.hosts[name].prefix, "bash", "-c", f": </dev/tcp/{self.hosts[name].address}/{ETCD_PORT}"]

        def holds() -> bool:
            return (subprocess.run(argv, capture_output=True, check=False, timeout=30).returncode != 0) == bool(down)

        took = self._until(holds, float(limit_s), f"etcd on {name} {down or 'up'}")
        self._note(f"disk: etcd of {name} {down or 'up'}", took)

    def do_full(self, step: Step) -> None:
        name, left_mb = step.words
        self._note_disk(name)
        self._disks[name].fill(int(left_mb or 0))

    def do_readonly(self, step: Step) -> None:
        self._note_disk(step.words[0])
        self._disks[step.words[0]].break_down()

    def do_repaired(self, step: Step) -> None:
        """The machine is switched off, its disk repaired, and switched on."""
        host = self.hosts[step.words[0]]
        host.power_cut()
        self._disks[host.name].repair()
        self._struck_at = time.monotonic()
        host.power_on()

    def do_emptied(self, step: Step) -> None:
        self._struck_at = time.monotonic()
        self._disks[step.words[0]].empty()

    def do_warned(self, step: Step) -> None:
        """Every host that is asked says it, but for those whose status does not answer."""
        limit_s, words = step.words
        took = self._until(lambda: all(words in host.status() for host in self._alive()), float(limit_s), words)
        self._note(f"status says '{words}'", took)

    def do_away(self, step: Step) -> None:
        """What the host with the sick disk held is ready on another."""
        role, part, limit_s = step.words

        def holds() -> bool:
            held = [(host, state) for one, this, host, state, _ in self._poll().roles if (one, this) == (role, part)]
            return bool(held) and all(host != self._sick and state == "ready" for host, state in held)

        self._until(holds, float(limit_s), f"{role}/{part} away from {self._sick}")
        self._note(f"disk: {role}/{part} elsewhere", time.monotonic() - self._struck_at)

    def do_unwarned(self, step: Step) -> None:
        limit_s, words = step.words
        took = self._until(lambda: all(words not in host.status() for host in self._alive()), float(limit_s), words)
        self._note(f"status no longer says '{words}'", took)

    def _delay(self, name: str) -> Path:
        return self._root / f"{name}.delay"

    def _note_disk(self, name: str) -> None:
        self._before = self._poll()
        self._struck_at = time.monotonic()
        self._sick = name


def _run(*argv: str, codes: tuple[int, ...] = (0,)) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError as err:
        raise AssertionError(f"{argv[0]} is not installed") from err
    if done.returncode not in codes:
        raise AssertionError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout
