"""A host of the laboratory: a real morgand in a namespace, and what can happen to it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.e2e.harness import Daemon
from tests.lab.guardian import strike
from tests.lab.net import Net

BIN = Path(sys.executable).parent
GIB = 1024
PROFILES: dict[str, dict[str, Any]] = {
    "atlas": {"ram_mb": 32 * GIB, "gpus": [{"name": "RTX 3090", "vram_mb": 24 * GIB}]},
    "bolt": {"ram_mb": 32 * GIB, "gpus": [{"name": "RTX 3060", "vram_mb": 12 * GIB}]},
    "comet": {"ram_mb": 16 * GIB, "gpus": [{"name": "RTX 3050", "vram_mb": 8 * GIB}]},
    "delta": {"ram_mb": 64 * GIB, "gpus": []},
    "ember": {"ram_mb": 32 * GIB, "gpus": []},
    "flint": {"ram_mb": 1 * GIB, "gpus": [], "disk": {"total_mb": 8 * GIB, "free_mb": 2 * GIB}},
}


class LabHost(Daemon):
    """``name`` is its name in the cluster and on the switch."""

    def __init__(
        self, net: Net, name: str, root: Path, settings: tuple[str, ...] = (), *, clock_ahead_s: int = 0
    ) -> None:
        (root / f"{name}.json").write_text(json.dumps(PROFILES[name]))
        self.net, self.name = net, name
        own = (f"host.name={name}", f"host.profile_override={root}/{name}.json", *settings)
        inside = ("ip", "netns", "exec", net.namespace(name))
        self._inside = (*inside, *(_ahead(clock_ahead_s) if clock_ahead_s else ()))
        super().__init__(root / name, own, prefix=self._inside)

    def use_release(self, folder: Path) -> None:
        """From its next start on it runs the version of the program that is in this folder."""
        self.prefix = (*self._inside, "env", "-C", str(folder), f"PYTHONPATH={folder}")

    def release(self) -> str:
        """The version that runs, as it says itself."""
        status, body = self.request("GET", "/v1/openapi.json", timeout_s=10)
        assert status == 200, body
        return str(body["info"]["version"])

    @property
    def address(self) -> str:
        return self.net.addresses[self.name]

    def ctl(self, *words: str, timeout_s: float = 60.0) -> Any:
        """``morganctl --json`` on this host; its document. Raises AssertionError with what it said."""
        argv = [str(BIN / "morganctl"), "--json", "--data-dir", str(self.data_dir), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode:
            raise AssertionError(
                f"morganctl {' '.join(words)} on {self.name}: {done.stdout[-500:]}{done.stderr[-500:]}"
            )
        return json.loads(done.stdout)

    def status(self) -> str:
        """``morganctl status`` for people; empty when it fails."""
        argv = [str(BIN / "morganctl"), "--data-dir", str(self.data_dir), "status"]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout

    def join(self, sponsor: LabHost, *, by_code: bool = False) -> None:
        """Be invited by ``sponsor`` and prepare the data directory; ``by_code``: find the cluster by itself."""
        invitation = sponsor.ctl("cluster", "invite")
        self._morgand(
            "join",
            *(["-"] if by_code else [invitation["address"], "-"]),
            said=invitation["code" if by_code else "token"] + "\n",
        )

    def recover(self) -> str:
        """``morgand recover`` on this host, whose daemon is stopped; what it says."""
        return self._morgand("recover", "--yes")

    def ended(self) -> bool:
        """Whether the daemon has ended."""
        assert self.process is not None
        return self.process.poll() is not None

    def _morgand(self, command: str, *words: str, said: str = "") -> str:
        argv = [*self.prefix, sys.executable, "-m", "morgand", command, *words]
        for one in (f"host.data_dir={self.data_dir}", *self.settings):
            argv += ["--set", one]
        done = subprocess.run(argv, input=said, capture_output=True, text=True, timeout=90, check=False)
        if done.returncode:
            raise AssertionError(f"morgand {command} on {self.name}: {done.stderr[-1000:]}")
        return done.stdout

    def power_cut(self) -> None:
        """No packet leaves any more, and everything is gone at once."""
        self.net.unplug(self.name)
        self._signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(timeout=80)

    def power_on(self) -> None:
        self.net.renew(self.name)
        self.start(ready=())

    def freeze(self) -> None:
        """Connections are accepted by the kernel, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """As an update does it: a planned stop, and a start."""
        assert self.stop() == 0, self.log.read_text()[-3000:]
        self.start(ready=())

    def _signal(self, number: signal.Signals) -> None:
        for _ in range(3):  # a process may start another one meanwhile
            strike(self.net.namespace(self.name), number)


def faketime() -> Path | None:
    """The library that shifts a program's wall clock, where it is installed (Debian: libfaketime)."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


def _ahead(seconds: int) -> tuple[str, ...]:
    """Start a program whose wall clock is ahead; the monotonic one is not. Programs in Go (etcd, serf) ask the
    kernel, past any library, and keep the right time."""
    library = faketime()
    if library is None:
        raise AssertionError("a wrong clock needs libfaketime: apt-get install libfaketime")
    return ("env", f"LD_PRELOAD={library}", f"FAKETIME={seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC=1")
