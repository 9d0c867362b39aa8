"""Transformer encoders on ONNX Runtime: tokenise, pad by length, run.

Blocking; engines call it in a thread. Texts are sorted by length and run in mini-batches so that little is padded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from morgand.base.errors import EngineError

MAX_TOKENS = 512
BATCH_TOKENS = 1024  # padded tokens of a mini-batch: more gains nothing on a CPU, and costs memory and waiting
BATCH_TEXTS = 32


class OnnxEncoder:
    """One model directory with ``model.onnx`` and ``tokenizer.json``. Raises EngineError when it cannot be loaded."""

    def __init__(self, model_dir: Path, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # the arena keeps what the largest mini-batch took, and those are bounded; without it memory goes back to the
        # system after each and is faulted in again for the next: a fifth of the time, and more memory in the end
        options.enable_cpu_mem_arena = True
        options.enable_mem_pattern = False  # it would keep a plan of every shape it ever saw, and saves nothing
        options.log_severity_level = 3
        try:
            self._tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
            self._session = ort.InferenceSession(
                str(model_dir / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as err:  # both libraries raise bare Exception
            raise EngineError(
                f"The model in {model_dir} cannot be loaded: {str(err).splitlines()[0]}",
                remedy="Install it again, or choose another in the catalogue.",
            ) from err
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        self._inputs = {one.name for one in self._session.get_inputs()}

    def encode(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Encoding]:
        """Texts, or pairs of texts, as tokens; at most MAX_TOKENS each."""
        return list(self._tokenizer.encode_batch(list(texts)))

    def run(self, encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        """The model's first output for one mini-batch, padded to its longest member."""
        width = max(len(one.ids) for one in encodings)
        feed: dict[str, Any] = {}
        for name, attribute in (
            ("input_ids", "ids"),
            ("attention_mask", "attention_mask"),
            ("token_type_ids", "type_ids"),
        ):
            if name in self._inputs:
                rows = np.zeros((len(encodings), width), dtype=np.int64)
                for row, one in zip(rows, encodings, strict=True):
                    values = getattr(one, attribute)
                    row[: len(values)] = values
                feed[name] = rows
        output: NDArray[np.float32] = self._session.run(None, feed)[0]
        return output


def mini_batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first, bounded in padded tokens and in number."""
    batch: list[int] = []
    width = 0
    for index in sorted(range(len(lengths)), key=lambda one: (-lengths[one], one)):
        if batch and (len(batch) == BATCH_TEXTS or width * (len(batch) + 1) > BATCH_TOKENS):
            yield batch
            batch = []
        if not batch:
            width = lengths[index]
        batch.append(index)
    if batch:
        yield batch
