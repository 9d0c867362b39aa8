"""The engines of the ``gpu`` extra: sentence-transformers, on a GPU when torch sees one. Blocking."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from morgand.base.errors import EngineError

BATCH_TEXTS = 64


def _missing() -> EngineError:
    return EngineError("sentence-transformers is not installed.", remedy="pip install 'morgan-assistant[gpu]'.")


class SentenceModel:
    """A bi-encoder from a local directory."""

    side_by_side = 1
    overtaken = False

    def __init__(self, model_dir: Path) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as err:
            raise _missing() from err
        try:
            self._model = SentenceTransformer(str(model_dir), local_files_only=True)
        except (OSError, ValueError) as err:
            raise EngineError(f"The model in {model_dir} cannot be loaded: {err}") from err
        self.dimension = int(self.embed(["dimension"]).shape[1])

    def cut(self, texts: Sequence[str]) -> list[list[int]]:
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        return [order[first : first + BATCH_TEXTS] for first in range(0, len(order), BATCH_TEXTS)]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


class SentenceReranker:
    """A cross-encoder from a local directory."""

    def __init__(self, model_dir: Path) -> None:
        try:
            from sentence_transformers import CrossEncoder
        except ImportError as err:
            raise _missing() from err
        try:
            self._model = CrossEncoder(str(model_dir), local_files_only=True)
        except (OSError, ValueError) as err:
            raise EngineError(f"The model in {model_dir} cannot be loaded: {err}") from err

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(score) for score in self._model.predict([(query, text) for text in texts])]
