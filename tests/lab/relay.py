"""Frames that take their time: a relay between a host's port of the switch and the bridge. The kernels of most machines
that run tests have no netem.

``python -m tests.lab.relay PORT TAP DELAY_MS JITTER_MS`` within the switch's namespace. Each frame is held for a time
of its own, so a later one may overtake it. Checksums and segments are left to the kernel, as between virtual machines.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
ETH_P_ALL = 3
FRAME = 10 + 65536 + 64  # the kernel's notes on a frame, and the largest frame
MOST_HELD = 5000  # frames; further ones are lost, as in a full queue
Send = Callable[[bytes], object]


class Held:
    """Frames by the moment they are due. ``delay`` draws seconds."""

    def __init__(self, delay_s: Callable[[], float]) -> None:
        self._delay_s = delay_s
        self._frames: list[tuple[float, int, Send, bytes]] = []
        self._numbers = itertools.count()

    def put(self, now: float, send: Send, frame: bytes) -> None:
        if len(self._frames) < MOST_HELD:
            heapq.heappush(self._frames, (now + self._delay_s(), next(self._numbers), send, frame))

    def wait_s(self, now: float) -> float | None:
        """Until the next one is due; None when nothing is held."""
        return max(0.0, self._frames[0][0] - now) if self._frames else None

    def due(self, now: float) -> list[tuple[Send, bytes]]:
        found = []
        while self._frames and self._frames[0][0] <= now:
            _, _, send, frame = heapq.heappop(self._frames)
            found.append((send, frame))
        return found


def relay(port: str, tap: str, delay_ms: float, jitter_ms: float) -> None:
    """Until it is ended. Says ``ready`` when the TAP device is there."""
    near = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    near.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    near.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    near.bind((port, ETH_P_ALL))
    far = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(far, TUNSETIFF, struct.pack("16sH22x", tap.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    near.setblocking(False)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    chance = random.Random()
    held = Held(lambda: max(0.0, chance.uniform(delay_ms - jitter_ms, delay_ms + jitter_ms)) / 1000)
    ways: dict[int, tuple[Callable[[], bytes], Send]] = {
        near.fileno(): (lambda: near.recv(FRAME), lambda frame: os.write(far, frame)),
        far: (lambda: os.read(far, FRAME), near.send),
    }
    with selectors.DefaultSelector() as selector:
        for handle in ways:
            selector.register(handle, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(held.wait_s(time.monotonic())):
                _take(held, *ways[key.fd])
            for send, frame in held.due(time.monotonic()):
                try:
                    send(frame)
                except OSError:
                    continue  # a port that is down, or a full queue: the frame is lost


def _take(held: Held, read: Callable[[], bytes], send: Send) -> None:
    """Everything that has come."""
    while True:
        try:
            frame = read()
        except OSError:  # nothing more for now, or the port is down
            return
        held.put(time.monotonic(), send, frame)


if __name__ == "__main__":
    relay(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
