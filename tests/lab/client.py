"""A person who chats through one host while things break: every turn with a record of its own."""

from __future__ import annotations

import http.client
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from tests.lab.hosts import LabHost

PAUSE_S = 0.2
GIVE_UP_S = 60.0


@dataclass(frozen=True)
class Said:
    """One turn: when it began, how long until it was acknowledged (None: never), how often it was tried."""

    id: str
    text: str
    began: float
    took_s: float | None
    tries: int


class Chatter:
    """Says numbered things until stopped. A turn is repeated under its id, as the command line does, until it is in."""

    def __init__(self, host: LabHost, *, answers: bool) -> None:
        self.host = host
        self._answers = answers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"chat-{host.name}")
        self.conversation: str | None = None
        self.said: list[Said] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> list[Said]:
        self._stop.set()
        self._thread.join(timeout=GIVE_UP_S + 30)
        return self.said

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            self.said.append(self._say(f"Number {number}."))
            time.sleep(PAUSE_S)

    def _say(self, text: str) -> Said:
        turn, began, tries = str(uuid.uuid4()), time.monotonic(), 0
        while time.monotonic() - began < GIVE_UP_S:
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
            status, reply = self.host.request("POST", "/v1/turns", body, timeout_s=GIVE_UP_S)
        except (OSError, http.client.HTTPException):
            return False
        if status != 200:
            return False
        self.conversation = reply["conversation"]
        return True

    def compare(self) -> dict[str, int]:
        """Acknowledged turns that are lost, stored twice or out of order."""
        status, body = self.host.request("GET", f"/v1/conversations/{self.conversation}/messages?limit=10000")
        assert status == 200, body
        stored = [one["text"] for one in body["messages"] if one["role"] == "user"]
        acknowledged = [one.text for one in self.said if one.took_s is not None]
        kept = [text for text in stored if text in set(acknowledged)]
        return {
            "acknowledged": len(acknowledged),
            "lost": len(set(acknowledged) - set(stored)),
            "doubled": len(stored) - len(set(stored)),
            "disordered": sum(one != other for one, other in zip(kept, acknowledged, strict=False)) if kept else 0,
        }
