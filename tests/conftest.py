"""Workers that run tests side by side share no address: each has a network of its own, as a machine has.

The hosts of a test have fixed addresses of the loopback, and engines take ports that were free a moment ago. Where the
system makes no such networks (Linux does, for root), ``--numprocesses auto`` runs one test after the other.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

import psutil
import pytest
from hypothesis import settings

NEW_NETWORK = 0x40000000  # CLONE_NEWNET
FILLED = """
ip link set lo up
ip link add eth0 type veth peer name veth0
ip link set veth0 up
ip link set eth0 up
ip address add 10.76.0.2/24 dev eth0
"""  # wired, and nobody else is there
settings.register_profile("thorough", max_examples=400)  # `make simulate`; by default there are 100
MEMORY = 5 * 2**30  # for a test that runs some hosts with all their engines


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """As many as there are processors and memory for; ``logical`` is left to the plugin."""
    if config.option.numprocesses != "auto":
        return None
    if not usable():
        return 0
    return max(1, min(os.cpu_count() or 1, psutil.virtual_memory().total // MEMORY))


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") and usable():
        if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "this worker got no network of its own")
        subprocess.run(["sh", "-ec", FILLED], check=True)


def usable() -> bool:
    """Whether a process may have a network of its own here."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run(["unshare", "--net", "sh", "-ec", FILLED], capture_output=True, check=False).returncode == 0
