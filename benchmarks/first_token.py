"""Our own delay before the first token, over asking the LLM engine directly.

Pairs of the same messages (no retrieval) in one run: straight to llama.cpp's socket, and through the daemon's OpenAI
dialect and its turns. Both add an instruction: the engine is asked with it too. The order within a pair alternates.
The engine's own prompt cache makes the prompt's cost equal. Target: at most 15 ms.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from morgand.assistant.prompt import SYSTEM_SMALL
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


def measure(daemon: Daemon) -> dict[str, list[tuple[float, float]]]:
    """Per way, pairs of milliseconds: the engine alone, and through the daemon."""
    status, listed = daemon.request("GET", "/v1/models")
    assert status == 200
    roles = daemon.request("GET", "/v1/roles")[1]["roles"]
    model = next(one["model"] for one in roles if one["role"] == "llm")
    assert any(one["id"] == model for one in listed["data"])
    said = {"role": "user", "content": PROMPT}
    chat = {"messages": [said], "stream": True, "max_tokens": 4, "temperature": 0}
    instructed = {**chat, "messages": [{"role": "system", "content": SYSTEM_SMALL}, said]}

    def turn() -> dict[str, object]:
        return {"id": str(uuid.uuid4()), "text": PROMPT, "stream": True, "documents": False}

    api = daemon.data_dir / "morgand.sock"
    engine = daemon.data_dir / "run" / "llm.sock"
    ways: dict[str, Callable[[], float]] = {
        "openai dialect": lambda: first_piece_ms(api, "/v1/chat/completions", {**chat, "model": model}),
        "turn (stored)": lambda: first_piece_ms(api, "/v1/turns", turn()),
    }

    def direct() -> float:
        return first_piece_ms(engine, "/v1/chat/completions", instructed)

    return {name: [pair(direct, ours, number) for number in range(ROUNDS + 3)][3:] for name, ours in ways.items()}


def pair(direct: Callable[[], float], ours: Callable[[], float], number: int) -> tuple[float, float]:
    """Both ways, the order by the number's parity."""
    if number % 2:
        first = direct()
        return first, ours()
    second = ours()
    return direct(), second


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        daemon = Daemon(Path(folder) / "data")
        daemon.start(ready=("core", "llm", "db"))
        try:
            seen = measure(daemon)
        finally:
            daemon.stop()
    print(f"first token, {ROUNDS} pairs; target at most +{TARGET_MS:g} ms")
    for name, pairs in seen.items():
        base = statistics.median(direct for direct, _ in pairs)
        added = statistics.median(ours - direct for direct, ours in pairs)
        print(f"  {name}: median +{added:.1f} ms over the engine's {base:.1f} ms")


if __name__ == "__main__":
    main()
