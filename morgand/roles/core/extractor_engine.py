"""The document reader: parsers are other people's C and see other people's files, so they get a process.

Options: ``tokenizer`` (path of a tokenizer.json), ``time_limit_s`` (120 per file), ``memory_mb`` (4096, address space).
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from morgand.assistant.rag.chunk import CountTokens, chunk
from morgand.assistant.rag.extract import read
from morgand.base.error_wire import to_wire
from morgand.base.errors import EngineError, MorganError, TooLarge, Unreadable
from morgand.roles.core.extractor_wire import ExtractionReading, ExtractReply, ExtractRequest, File
from morgand.roles.process import Handler, serve
from morgand.state.assistant import Extracted

TIME_LIMIT_S = 120.0
MEMORY_MB = 4096
LAST_WORDS_S = 0.5  # to send the failure before the process ends
GRACE_S = 5.0  # a parser that holds the interpreter lock cannot be told; the process is ended from outside it


async def build(options: dict[str, Any]) -> dict[str, Handler]:
    """Load the tokenizer and answer ``extract``. Raises EngineError when it cannot be loaded."""
    _limit_memory(int(options.get("memory_mb", MEMORY_MB)))
    limit_s = float(options.get("time_limit_s", TIME_LIMIT_S))
    count = await asyncio.to_thread(_counter, Path(str(options["tokenizer"])))
    one_at_a_time = ThreadPoolExecutor(max_workers=1)  # PDFium is not thread-safe

    async def extract(body: bytes) -> bytes:
        request = msgspec.msgpack.decode(body, type=ExtractRequest)
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(one_at_a_time, _read_all, request.files, count, limit_s)
        done, _ = await asyncio.wait({work}, timeout=limit_s)
        if not done:
            loop.call_later(LAST_WORDS_S, os._exit, 1)  # a thread cannot be ended, a process can
            raise Unreadable(
                f"'{request.files[0].name}' took longer than {limit_s:g} s to read.",
                remedy="Split it, or save it as plain text.",
            )
        return msgspec.msgpack.encode(ExtractReply(await work))

    return {"extract": extract}


def _read_all(files: Sequence[File], count: CountTokens, limit_s: float) -> tuple[ExtractionReading, ...]:
    faulthandler.dump_traceback_later(limit_s + GRACE_S, exit=True)
    try:
        return tuple(_reading(one, count) for one in files)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _reading(file: File, count: CountTokens) -> ExtractionReading:
    try:
        content = read(Path(file.path), file.name)
        return ExtractionReading(Extracted(title=content.title, mime=content.mime, chunks=chunk(content.blocks, count)))
    except MorganError as err:
        failure = err
    except MemoryError:
        failure = TooLarge(f"'{file.name}' needs too much memory to read.", remedy="Split it.")
    except RecursionError:
        failure = Unreadable(f"'{file.name}' is nested too deeply to read.", remedy="Save it as plain text.")
    return ExtractionReading(error=to_wire(failure))


def _counter(file: Path) -> CountTokens:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # on one document more threads cost more than they gain
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as err:
        raise EngineError(
            f"The tokenizer {file} cannot be loaded: {err}", remedy="Install the embedder again."
        ) from err
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: list[str]) -> list[int]:
        return [len(one.ids) for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    return count


def _limit_memory(memory_mb: int) -> None:
    if sys.platform == "linux":  # elsewhere the limit is not enforced by the kernel
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 1024 * 1024,) * 2)


if __name__ == "__main__":
    serve(build)
