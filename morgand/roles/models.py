"""The model catalogue: which models there are, and which are on this host."""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from morgand.base.errors import ConfigError
from morgand.state.roles import Model

SHIPPED = Path(__file__).with_name("models.toml")
OLLAMA_STORES = (Path.home() / ".ollama/models", Path("/usr/share/ollama/.ollama/models"))


class _Entry(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One ``[models."NAME"]`` table."""

    roles: list[str]
    size_mb: int
    ram_mb: int
    vram_mb: int
    context_tokens: int
    prompt_tokens: int
    licence: str
    engines: list[str] = []
    file: str = ""
    gguf: str = ""
    ollama: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class _Source:
    text: str
    engines: tuple[str, ...]


def load_models(file: Path | None = None) -> tuple[Model, ...]:
    """The catalogue, the shipped one without ``file``. Raises ConfigError that lists every fault."""
    path = file or SHIPPED
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise ConfigError(f"The model catalogue {path} cannot be read: {err.strerror}.") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ConfigError(f"The model catalogue {path} is not valid TOML: {err}.") from err
    faults: list[str] = [f'{key}: unknown section; models stand in [models."NAME"]' for key in data if key != "models"]
    tables = data.get("models", {})
    models: list[Model] = []
    if not isinstance(tables, dict) or not tables:
        faults.append("there are no models in it")
        tables = {}
    for name, table in tables.items():
        models += _read(name, table, faults)
    if faults:
        raise ConfigError(f"The model catalogue {path} has faults:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return tuple(models)


def find_model(models: Sequence[Model], name: str, *, engine: str, role: str | None = None) -> Model | None:
    """The entry of an assignment: a model may come from several sources, each for its engines."""
    return next(
        (one for one in models if one.name == name and engine in one.engines and role in (None, one.role)), None
    )


def locate(model: Model, models_dir: Path) -> Path | None:
    """Its file or folder on this host, or None. Packages are looked up, never imported."""
    kind, _, rest = model.source.partition(":")
    if kind == "file":
        package, _, inside = rest.partition("/")
        spec = importlib.util.find_spec(package)
        path = Path(spec.origin).parent / inside if spec is not None and spec.origin else None
    elif kind == "gguf":
        path = target(model, models_dir)
    else:
        path = next((known for store in OLLAMA_STORES if _there(known := ollama_manifest(store, rest))), None)
    return path if path is not None and _there(path) else None


def _there(path: Path) -> bool:
    """What cannot be looked at, say in another user's folder, cannot be used either."""
    try:
        return path.exists()
    except OSError:
        return False


def target(model: Model, models_dir: Path) -> Path:
    """Where a downloaded model lies."""
    return models_dir / f"{model.name}.gguf"


def ollama_manifest(store: Path, tag: str) -> Path:
    """Where Ollama notes that it has a tag."""
    name, _, version = tag.partition(":")
    library = name if "/" in name else f"library/{name}"
    return store / "manifests/registry.ollama.ai" / library / (version or "latest")


def available(models: Sequence[Model], models_dir: Path) -> tuple[str, ...]:
    """Handles of the models on this host: what its profile lists."""
    return tuple(sorted({model.handle for model in models if locate(model, models_dir) is not None}))


def _read(name: str, table: Any, faults: list[str]) -> list[Model]:
    try:
        entry = msgspec.convert(table, _Entry)
    except msgspec.ValidationError as err:
        faults.append(f"{name}: {err}")
        return []
    before = len(faults)
    faults += [f"{name}: {fault}" for fault in _faults(entry)]
    if len(faults) > before:
        return []
    return [
        Model(
            name=name, role=role, source=source.text, size_mb=entry.size_mb, ram_mb=entry.ram_mb,
            vram_mb=entry.vram_mb, context_tokens=entry.context_tokens, prompt_tokens=entry.prompt_tokens,
            licence=entry.licence, sha256=entry.sha256 or None, engines=source.engines,
        )
        for role in entry.roles
        for source in _sources(entry)
    ]  # fmt: skip


def _sources(entry: _Entry) -> list[_Source]:
    found = []
    if entry.file:
        found.append(_Source(f"file:{entry.file}", tuple(entry.engines)))
    if entry.gguf:
        found.append(_Source(f"gguf:{entry.gguf}", ("llama.cpp",)))
    if entry.ollama:
        found.append(_Source(f"ollama:{entry.ollama}", ("ollama",)))
    return found


def _faults(entry: _Entry) -> list[str]:
    numbers: Mapping[str, int] = {
        "size_mb": entry.size_mb, "context_tokens": entry.context_tokens,
    }  # fmt: skip
    checks = [
        (not entry.roles, "it names no role"),
        (not (entry.file or entry.gguf or entry.ollama), "it has no source: file, gguf or ollama"),
        (bool(entry.file) and not entry.engines, "a file needs engines"),
        (bool(entry.file) and ("/" not in entry.file or ".." in entry.file), "file must be PACKAGE/PATH"),
        (
            bool(entry.gguf) and not entry.gguf.startswith(("https://", "http://127.0.0.1:")),
            "gguf must be an https URL",
        ),
        (min(entry.ram_mb, entry.vram_mb, entry.prompt_tokens) < 0, "a size is negative"),
        (entry.ram_mb == entry.vram_mb == 0, "it needs neither RAM nor VRAM, which cannot be"),
        (bool(entry.sha256) and len(entry.sha256) != 64, "sha256 must have 64 hexadecimal digits"),
    ]
    return [text for bad, text in checks if bad] + [f"{key} must be at least 1" for key, n in numbers.items() if n < 1]
