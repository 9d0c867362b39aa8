"""Steps for what is left when half of a small cluster is lost: it answers what it can, and keeps what is said."""

from __future__ import annotations

import time
import uuid
from typing import Any

from tests.lab.hosts import LabHost
from tests.lab.scenario import Step
from tests.lab.stage import Stage

STATUS_S = 3.0
READS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/v1/conversations", None),
    ("GET", "/v1/documents", None),
    ("POST", "/v1/search", {"text": "number", "limit": 3}),
)


class Halves(Stage):
    def __init__(self, names: list[str], root: Any, seed: int) -> None:
        super().__init__(names, root, seed)
        self._kept: list[str] = []  # texts, in the order they were said
        self._talk: str | None = None  # the conversation they belong to
        self._asked: LabHost | None = None

    def do_witness(self, step: Step) -> None:
        name = step.words[0]
        self.hosts[name] = LabHost(self.net, name, self._root, ("host.witness=true",))

    def do_copied(self, step: Step) -> None:
        """Conversations, documents and search, and that they may be stale; ``morganctl status`` is prompt meanwhile."""
        host, limit_s = self.hosts[step.words[0]], float(step.words[1])
        for method, path, body in READS:
            began = time.monotonic()
            status, reply = host.request(method, path, body, timeout_s=60)
            took = time.monotonic() - began
            self._note(f"read {path.removeprefix('/v1/')}", took)
            assert status == 200, reply
            assert took <= limit_s, f"{path} took {took:.1f} s"
            if "notices" in reply:
                assert any("may be stale" in one for one in reply["notices"]), reply["notices"]
        began = time.monotonic()
        said = host.status()
        self._note("morganctl status", time.monotonic() - began)
        assert time.monotonic() - began <= STATUS_S, said

    def do_queued(self, step: Step) -> None:
        """Two messages of one conversation, each acknowledged as kept."""
        self._asked = self.hosts[step.words[0]]
        for _ in range(2):
            text = f"Kept {len(self._kept) + 1}."
            began = time.monotonic()
            status, reply = self._say_to(self._asked, text)
            assert status == 202, reply
            self._note("kept", time.monotonic() - began)
            self._talk = reply["conversation"]
            self._kept.append(text)

    def do_sent(self, step: Step) -> None:
        """Each once, in order."""
        took = self._until(lambda: self._stored() == self._kept, float(step.words[0]), "what was kept is stored")
        self._note("what was kept is stored", took)

    def do_stored(self, step: Step) -> None:
        host = self.hosts[step.words[0]]
        text = f"Stored by {host.name}."
        turn = str(uuid.uuid4())
        took = self._until(
            lambda: self._say_to(host, text, turn)[0] == 200, float(step.words[1]), f"{host.name} stores what is said"
        )
        self._note("stored again", took)

    def do_on(self, step: Step) -> None:
        """The database's primary is there, and another has everything."""
        name = step.words[0]

        def holds() -> bool:
            found = self._poll()
            there = any(one[:4] == ("db", "primary", name, "ready") for one in found.roles)
            return there and any(found.copies)

        self._note("primary", self._until(holds, float(step.words[1]), f"the primary on {name}"))

    def _say_to(self, host: LabHost, text: str, turn: str | None = None) -> tuple[int, Any]:
        body = {"id": turn or str(uuid.uuid4()), "text": text, "answer": False, "documents": False}
        if self._talk is not None and turn is None:
            body["conversation"] = self._talk
        return host.request("POST", "/v1/turns", body, timeout_s=60)

    def _stored(self) -> list[str]:
        assert self._asked is not None
        status, reply = self._asked.request("GET", f"/v1/conversations/{self._talk}/messages")
        return [one["text"] for one in reply["messages"]] if status == 200 else []
