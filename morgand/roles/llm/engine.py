"""The LLM engine: llama.cpp's own HTTP server on a Unix socket, loaded through xllamacpp.

Documentation of the endpoints: llama.cpp, tools/server/README.md. The process serves until its lifeline ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import xllamacpp

from morgand.roles.process import read_options


def parameters(options: dict[str, Any], socket: Path) -> xllamacpp.CommonParams:
    """llama.cpp's settings. Each slot gets the whole context: llama.cpp divides ``n_ctx`` among slots."""
    params = xllamacpp.CommonParams()
    params.model.path = options["model_path"]
    params.hostnames = [str(socket)]
    params.port = 1  # not used on a Unix socket, but it must be a number
    params.n_parallel = options["parallel"]
    params.n_ctx = options["context_tokens"] * options["parallel"]
    params.n_gpu_layers = options["gpu_layers"]
    params.cpuparams.n_threads = options["threads"] or os.cpu_count() or 1
    params.cpuparams_batch.n_threads = params.cpuparams.n_threads
    params.cache_prompt = True
    params.endpoint_slots = False
    params.endpoint_props = False
    params.endpoint_metrics = False
    params.ui = False
    params.warmup = True
    return params


def main() -> None:
    socket, options = read_options()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if not Path(options["model_path"]).is_file():
        sys.exit(
            f"The model file {options['model_path']} is not there. "
            "Put it back, or choose another model with `morganctl config set llm.model NAME`."
        )
    try:
        server = xllamacpp.Server(parameters(options, socket))
    except (RuntimeError, ValueError) as err:
        sys.exit(f"The model {options['model_path']} cannot be loaded: {err}")
    stop.wait()
    del server
    # llama.cpp's worker threads may still compute; nothing of theirs is worth waiting for
    os._exit(0)


if __name__ == "__main__":
    main()
