"""A person who chats through one host while things break: every turn with a record of its own."""

from __future__ import annotations

import http.client
import math
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.lab.hosts import LabHost

PAUSE_S = 0.2
GIVE_UP_S = 60.0
TIMEOUT_S = 20.0  # of one try
ENDING_S = 10.0  # how long a turn is still tried once there should be no more
PAGE = 10_000


@dataclass(frozen=True)
class Said:
    """One turn: when it began, how long until it was acknowledged (None: never), how often it was tried."""

    id: str
    text: str
    began: float
    took_s: float | None
    tries: int

    @property
    def acknowledged(self) -> float | None:
        return None if self.took_s is None else self.began + self.took_s


@dataclass(frozen=True)
class Record:
    """What one client was told, beside what is stored: turns acknowledged, and of them lost, stored twice, disordered.

    ``lost_at``: when each lost one was acknowledged.
    """

    acknowledged: int
    lost_at: tuple[float, ...]
    doubled: int
    disordered: int

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {len(self.lost_at)} lost, {self.doubled} doubled, "
            f"{self.disordered} disordered"
        )

    @property
    def good(self) -> bool:
        return self.acknowledged > 0 and not (self.lost_at or self.doubled or self.disordered)


def compared(said: Sequence[Said], stored: Sequence[str]) -> Record:
    """``stored``: the texts as the conversation has them, in its order."""
    told = {one.text: one.acknowledged for one in said if one.acknowledged is not None}
    expected = [text for text in told if text in set(stored)]
    kept = list(dict.fromkeys(text for text in stored if text in told))
    return Record(
        len(told), tuple(at for text, at in told.items() if text not in set(stored)),
        len(stored) - len(set(stored)), sum(one != other for one, other in zip(kept, expected, strict=True)),
    )  # fmt: skip


class Chatter:
    """Says numbered things until stopped. A turn is repeated under its id, as the command line does, until it is in."""

    def __init__(self, host: LabHost, *, answers: bool, give_up_s: float = GIVE_UP_S) -> None:
        self.host = host
        self._answers, self._give_up_s = answers, give_up_s
        self._stop = threading.Event()
        self._stop_by = math.inf
        self._thread = threading.Thread(target=self._run, name=f"chat-{host.name}")
        self.conversation: str | None = None
        self.said: list[Said] = []

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Begin no further turn."""
        self._stop_by = time.monotonic() + ENDING_S
        self._stop.set()

    def stop(self) -> list[Said]:
        if not self._stop.is_set():
            self.ask_to_stop()
        self._thread.join(timeout=self._give_up_s + 30)
        return self.said

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            self.said.append(self._say(f"Number {number}."))
            time.sleep(PAUSE_S)

    def _say(self, text: str) -> Said:
        turn, began, tries = str(uuid.uuid4()), time.monotonic(), 0
        while time.monotonic() < min(began + self._give_up_s, self._stop_by):
            tries += 1
            if self._try(turn, text):
                return Said(turn, text, began, time.monotonic() - began, tries)
            time.sleep(PAUSE_S)
        return Said(turn, text, began, None, tries)

    def _try(self, turn: str, text: str) -> bool:
        body: dict[str, Any] = {"id": turn, "text": text, "answer": self._answers, "documents": False}
        if self.conversation:
            body["conversation"] = self.conversation
        try:
            status, reply = self.host.request("POST", "/v1/turns", body, timeout_s=TIMEOUT_S)
        except (OSError, http.client.HTTPException):
            return False
        if status != 200:
            return False
        self.conversation = reply["conversation"]
        return True

    def acknowledgements(self) -> list[float]:
        """When something was acknowledged, so far."""
        return [at for one in list(self.said) if (at := one.acknowledged) is not None]

    def compare(self) -> Record:
        """What was acknowledged beside what is stored now."""
        status, body = self.host.request("GET", f"/v1/conversations/{self.conversation}/messages?limit={PAGE}")
        assert status == 200, body
        assert len(body["messages"]) < PAGE, f"more than {PAGE} messages: play fewer rounds at once"
        return compared(self.said, [one["text"] for one in body["messages"] if one["role"] == "user"])
