"""``python -m morgand.detector.process SOCKET LEASE``: the heartbeats, in a process that does nothing else.

The daemon speaks to it over a Unix socket, one JSON document per line: ``Orders`` as they change, and an empty line as
a sign of life. A daemon that shows none for ``STUCK_S`` does nothing for anybody: its host falls silent. The process
answers with what it sees (``View``), and ends with the daemon.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import selectors
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from morgand.detector.beat import decode, encode
from morgand.detector.detector import Detector
from morgand.detector.lease import LeaseWriter, now_s
from morgand.detector.link import Peer
from morgand.process.nice import BEATS, Priority, set_priority

STUCK_S = 4.0
TELL_EVERY_S = 0.5
DRAINED = 2000  # beats taken between two ticks at most
BEAT_BYTES = 2048
LINE_BYTES = 1024 * 1024


class Process:
    """Everything is done by one thread that waits for sockets and the next tick."""

    def __init__(self, path: Path, lease: Path) -> None:
        self._lease = LeaseWriter(lease)
        self._selector = selectors.DefaultSelector()
        self._listener = _listen(path)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._daemon: socket.socket | None = None
        self._line = b""
        self._air: socket.socket | None = None
        self._bound: tuple[str, int] | None = None
        self._peers: dict[str, Peer] = {}
        self._keys: list[bytes] = []
        self._detector: Detector | None = None
        self._sign_of_life = now_s()
        self._told, self._told_at = "", 0.0

    def run(self) -> None:
        while True:
            due = self._detector.next_tick() if self._detector is not None else math.inf
            for key, _ in self._selector.select(max(0.0, due - now_s()) if due < math.inf else None):
                key.data()
            if self._detector is not None and now_s() >= self._detector.next_tick():
                self._tick()

    # --- beats -----------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._detector is None or self._air is None:
            return
        self._hear()
        now = now_s()  # after a standstill there was much to hear: no beat may come from the future
        beats = self._detector.tick(now, secrets.randbits(63))
        stuck = now - self._sign_of_life > STUCK_S
        self._lease.write(0.0 if stuck else self._detector.leased_until(now), now)
        for beat in beats if not stuck else ():
            peer = self._peers[beat.receiver]
            with contextlib.suppress(
                OSError
            ):  # a host that cannot be reached is silent, and that is all there is to it
                self._air.sendto(encode(beat, self._keys[0]), (peer.address, peer.port))
        self._notify(now)

    def _hear(self) -> None:
        """Whatever has come in."""
        if self._air is None or self._detector is None:
            return
        voted = False
        for _ in range(DRAINED):
            try:
                data = self._air.recv(BEAT_BYTES)
            except OSError:
                break
            beat = decode(data, self._keys)
            if beat is not None:
                self._detector.hear(beat, now_s())
                voted = voted or bool(beat.votes)
        if voted:
            self._notify(now_s())

    # --- the daemon ------------------------------------------------------------------------------

    def _accept(self) -> None:
        daemon, _ = self._listener.accept()
        self._hang_up()
        daemon.setblocking(False)  # noqa: FBT003 - the name of the call says it
        self._daemon, self._line, self._told = daemon, b"", ""
        self._selector.register(daemon, selectors.EVENT_READ, self._listen_to_daemon)

    def _listen_to_daemon(self) -> None:
        assert self._daemon is not None
        try:
            data = self._daemon.recv(LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or len(self._line) > LINE_BYTES:
            self._hang_up()
            return
        self._sign_of_life = now_s()
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            if line:
                self._obey(json.loads(line))

    def _hang_up(self) -> None:
        if self._daemon is not None:
            self._selector.unregister(self._daemon)
            self._daemon.close()
            self._daemon = None

    def _obey(self, orders: dict[str, Any]) -> None:
        """See ``client.Orders``."""
        now = now_s()
        self._keys = [bytes.fromhex(one) for one in orders["keys"]]
        self._peers = {host: Peer(*facts) for host, facts in orders["peers"].items()}
        if self._bound != (orders["address"], orders["port"]):
            self._bind(orders["address"], orders["port"])
        if self._detector is None:
            self._detector = Detector(orders["me"], secrets.randbits(63), now)
        self._detector.configure(self._peers, orders["voters"], now)

    def _bind(self, address: str, port: int) -> None:
        if self._air is not None:
            self._selector.unregister(self._air)
            self._air.close()
        self._air = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self._air.setblocking(False)  # noqa: FBT003 - the name of the call says it
        self._air.bind((address, port))
        self._bound = (address, port)
        self._selector.register(self._air, selectors.EVENT_READ, self._hear)

    def _notify(self, now: float) -> None:
        """Say what is seen: at once when somebody falls silent, is given up or comes back, else twice a second."""
        if self._daemon is None or self._detector is None:
            return
        view = self._detector.view(now)
        telling = json.dumps(
            [view.boot, view.leased, {h: [s.quiet, s.suspect, s.dead] for h, s in view.sights.items()}]
        )
        if telling == self._told and now - self._told_at < TELL_EVERY_S:
            return
        self._told, self._told_at = telling, now
        line = json.dumps(asdict(view)).encode() + b"\n"
        with contextlib.suppress(OSError):  # a daemon that does not read is stuck, or gone
            if self._daemon.send(line) < len(line):
                self._hang_up()


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(4)
    return listener


def main() -> None:
    set_priority(Priority(BEATS, BEATS), os.getpid())  # allowed or not
    Process(Path(sys.argv[1]), Path(sys.argv[2])).run()


if __name__ == "__main__":
    main()
