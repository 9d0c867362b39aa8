"""Sockets in another host's namespace. A socket belongs to the namespace it was made in, wherever it is used from."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.lab.guardian import NAMES

CLONE_NEWNET = 0x40000000
T = TypeVar("T")


def inside(space: str, call: Callable[[], T]) -> T:
    """Call from within a network namespace: in a thread that enters it and then ends, so this process stays outside."""

    def enter() -> T:
        handle = os.open(NAMES / space, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(handle, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {space}")
        finally:
            os.close(handle)
        return call()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(enter).result()


def connect(space: str, address: str, port: int, *, timeout_s: float = 3.0) -> socket.socket:
    """A TCP connection from within ``space``. Raises OSError."""
    return inside(space, lambda: socket.create_connection((address, port), timeout=timeout_s))


def hears(
    listener: tuple[str, str], speaker: str, *, count: int = 3, group: str = "", port: int = 0, wait_s: float = 0.5
) -> int:
    """How many of ``count`` datagrams from namespace ``speaker`` reach ``listener`` (namespace, address), directly or
    through the multicast ``group``. Port 0: any that is free."""
    space, address = listener
    ear = inside(space, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    mouth = inside(speaker, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with ear, mouth:
        ear.bind(("", port))
        ear.settimeout(wait_s)
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        if group:
            ear.setsockopt(
                socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(address)
            )
        for number in range(count):
            with contextlib.suppress(OSError):  # no route, or the neighbour was not found: it is not heard
                mouth.sendto(number.to_bytes(4, "big"), (group or address, ear.getsockname()[1]))
        heard = 0
        with contextlib.suppress(TimeoutError):
            while heard < count:
                ear.recv(16)
                heard += 1
        return heard


def listening(process: int) -> list[tuple[str, int]]:
    """Address and port of every socket that accepts TCP in the namespace of a process."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                address, _, port = local.partition(":")
                words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
                family = socket.AF_INET if table == "tcp" else socket.AF_INET6
                found.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return sorted(found)
