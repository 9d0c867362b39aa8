"""What this host is assigned right now, and the models that go with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from morgand.base.errors import EngineError, Unavailable
from morgand.roles.embedder.spec import SPEC as EMBEDDER
from morgand.roles.models import find_model, locate
from morgand.state.ports import ChatInfo
from morgand.state.roles import Assignment, Model

SMALL_MODEL_MB = 1000  # a model of less is not trusted to phrase freely: its answers are checked sentence by sentence


class Assignments:
    """``hold`` whenever they change."""

    def __init__(self, models: Sequence[Model], models_dir: Path) -> None:
        self._models = tuple(models)
        self._models_dir = models_dir
        self._mine: tuple[Assignment, ...] = ()

    def hold(self, mine: Sequence[Assignment]) -> None:
        self._mine = tuple(mine)

    def part(self, role: str) -> str | None:
        """Which part of a role is this host's."""
        return next((one.part for one in self._mine if one.role == role), None)

    def model(self, assignment: Assignment) -> Model | None:
        """The catalogue's entry for an assignment."""
        if assignment.model is None:
            return None
        return find_model(self._models, assignment.model, engine=assignment.engine, role=assignment.role)

    def files(self, name: str) -> Path:
        """Where a model lies. Raises EngineError with the remedy."""
        for model in self._models:
            if model.name == name and (path := locate(model, self._models_dir)) is not None:
                return path
        raise EngineError(f"The files of model {name} are not on this host.", remedy="See `morgand check`.")

    def tokenizer(self) -> str:
        """Chunks are measured in tokens of the embedder, or of any embedder of the catalogue when none is placed."""
        placed = [one.model for one in self._mine if one.role == EMBEDDER.name and one.model]
        for name in (*placed, *(model.name for model in self._models if model.role == EMBEDDER.name)):
            try:
                return str(self.files(name) / "tokenizer.json")
            except EngineError:
                continue
        raise EngineError("No embedder's tokenizer is on this host.", remedy="See `morgand check`.")

    def chat_info(self, role: str) -> Callable[[], ChatInfo]:
        def info() -> ChatInfo:
            mine = next((one for one in self._mine if one.role == role), None)
            model = self.model(mine) if mine is not None else None
            if model is None:
                raise Unavailable(f"No host performs the {role} role.", remedy="See `morganctl roles explain`.")
            return ChatInfo(model.name, model.context_tokens, model.prompt_tokens, model.size_mb < SMALL_MODEL_MB)

        return info
