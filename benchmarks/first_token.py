"""Our own delay before the first token, over asking the LLM engine directly.

Pairs of the same request (no retrieval) in one run: straight to llama.cpp's socket, and through the daemon's OpenAI
dialect and its turns. The order within a pair alternates. The engine's own prompt cache makes the prompt's cost equal.
Target: at most 15 ms.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.e2e.harness import Daemon, UnixConnection

ROUNDS = 40
TARGET_MS = 15.0
PROMPT = "Name one colour."


def first_piece_ms(socket: Path, path: str, body: dict[str, object]) -> float:
    """Milliseconds from sending to the first piece of text; the rest is read and thrown away."""
    connection = UnixConnection(socket, 60)
    started = time.perf_counter()
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    elapsed = 0.0
    for line in response:
        if not elapsed and (b'"content":"' in line or b'"text":"' in line) and b'"content":""' not in line:
            elapsed = (time.perf_counter() - started) * 1000
    connection.close()
    return elapsed


def measure(daemon: Daemon) -> dict[str, list[float]]:
    status, listed = daemon.request("GET", "/v1/models")
    assert status == 200
    roles = daemon.request("GET", "/v1/roles")[1]["roles"]
    model = next(one["model"] for one in roles if one["role"] == "llm")
    assert any(one["id"] == model for one in listed["data"])
    chat = {"messages": [{"role": "user", "content": PROMPT}], "stream": True, "max_tokens": 4, "temperature": 0}

    def turn() -> dict[str, object]:
        return {"id": str(uuid.uuid4()), "text": PROMPT, "stream": True, "documents": False}

    api = daemon.data_dir / "morgand.sock"
    ways: dict[str, Callable[[], float]] = {
        "engine": lambda: first_piece_ms(daemon.data_dir / "run" / "llm.sock", "/v1/chat/completions", chat),
        "openai dialect": lambda: first_piece_ms(api, "/v1/chat/completions", {**chat, "model": model}),
        "turn (stored)": lambda: first_piece_ms(api, "/v1/turns", turn()),
    }
    seen: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 3):
        order = list(ways) if number % 2 else list(reversed(ways))
        for name in order:
            took = ways[name]()
            if number >= 3:
                seen[name].append(took)
    return seen


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder) / "data")
        daemon.start(ready=("core", "llm", "db"))
        try:
            seen = measure(daemon)
        finally:
            daemon.stop()
    base = statistics.median(seen["engine"])
    print(f"first token, {ROUNDS} pairs; engine alone: median {base:.1f} ms")
    for name in ("openai dialect", "turn (stored)"):
        added = [ours - direct for ours, direct in zip(seen[name], seen["engine"], strict=True)]
        print(f"  {name}: median +{statistics.median(added):.1f} ms (target at most {TARGET_MS:g} ms), "
              f"ratio {statistics.median(seen[name]) / base:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
