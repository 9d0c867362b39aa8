"""Configuration: frozen dataclasses, checked whole at start, all faults reported at once.

Sources, later ones win: defaults, the TOML file, ``MORGAN_SECTION__KEY`` variables, ``--set section.key=value``.
Keys marked ``shared`` can also be set for the whole cluster while it runs; those live in the cluster store.
"""

from __future__ import annotations

import difflib
import json
import re
import socket
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import platformdirs

from morgand.base.errors import ConfigError
from morgand.state.roles import RolePreference

Values = dict[str, dict[str, Any]]


def _key(
    default: Any,
    help_text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    shared: bool = False,
    path: bool = False,
) -> Any:
    """A field with its documentation and bounds (inclusive). A ``path`` is made whole: ~ is the home directory."""
    metadata = {"help": help_text, "low": low, "high": high, "choices": choices, "shared": shared, "path": path}
    if isinstance(default, tuple):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class HostConfig:
    name: str = _key("", "Name of this host; the machine's host name when empty.")
    data_dir: str = _key(
        "", "Where everything this host stores lives; the user's data directory when empty.", path=True
    )
    address: str = _key("", "Address other hosts reach this one by; detected when empty.")
    duty: str = _key("always", "Whether this host is meant to be on all the time.", choices=("always", "sometimes"))
    witness: bool = _key(
        default=False, help_text="Only vote: a small box that is always on, and lets either of two big ones be lost."
    )
    labels: tuple[str, ...] = _key((), "Labels that preferences can name.")
    profile_override: str = _key("", "JSON file that replaces detected hardware facts.", path=True)


@dataclass(frozen=True, slots=True)
class ApiConfig:
    listen: str = _key("127.0.0.1:7470", "Address and port of the HTTP API; port 0 picks a free one, 'off' closes it.")


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    name: str = _key("home", "Name of the cluster, for people.")
    seeds: tuple[str, ...] = _key((), "Addresses of hosts to join through, asked before the local network is searched.")
    port: int = _key(
        7471,
        "First of six ports for other hosts: their API, gossip, etcd's clients, etcd's peers, PostgreSQL, Patroni.",
        low=1,
        high=65_530,
    )


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    chat_per_minute: int = _key(100, "Turns and chats a minute per API key.", low=1, high=1_000_000, shared=True)
    search_per_minute: int = _key(
        50, "Searches, embeddings and rerankings a minute per API key.", low=1, high=1_000_000, shared=True
    )
    ingest_per_minute: int = _key(10, "Uploads a minute per API key.", low=1, high=1_000_000, shared=True)
    body_mb: int = _key(1, "Largest request body that is not an upload, MiB.", low=1, high=1024, shared=True)
    document_mb: int = _key(100, "Largest document, MiB.", low=1, high=10_240, shared=True)
    queue: int = _key(50, "Requests that wait for the LLM before 503 is answered.", low=1, high=10_000, shared=True)
    ingest_queue: int = _key(
        20_000, "Documents that wait for ingestion before 503.", low=1, high=1_000_000, shared=True
    )


@dataclass(frozen=True, slots=True)
class LlmConfig:
    model: str = _key("", "Model name from the catalogue; the largest that fits when empty.", shared=True)
    temperature: float = _key(0.0, "Sampling temperature of answers.", low=0.0, high=2.0, shared=True)
    max_tokens: int = _key(256, "Longest answer, tokens.", low=1, high=32_768, shared=True)
    threads: int = _key(0, "CPU threads of the engine; all cores when 0.", low=0, high=1024)


@dataclass(frozen=True, slots=True)
class RetrievalConfig:
    passages: int = _key(4, "Passages given to the LLM.", low=1, high=50, shared=True)
    rerank_candidates: int = _key(20, "Passages the cross-encoder looks at.", low=0, high=200, shared=True)
    rerank_budget_ms: int = _key(
        2000, "Time the cross-encoder may take for one question.", low=0, high=60_000, shared=True
    )


@dataclass(frozen=True, slots=True)
class DocumentsConfig:
    keep_versions: int = _key(
        5, "Earlier versions of a document that are kept; none when 0.", low=0, high=1000, shared=True
    )
    keep_versions_days: int = _key(
        90, "How long an earlier version is kept after it was replaced, days.", low=0, high=36_500, shared=True
    )


@dataclass(frozen=True, slots=True)
class CatalogConfig:
    file: str = _key("", "Model catalogue (TOML) to use in place of the one that ships.", path=True)
    models_dir: str = _key("", "Where downloaded models are kept; DATA_DIR/models when empty.", path=True)
    download: bool = _key(default=True, help_text="Fetch models that are not on this host when a network exists.")


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: str = _key("info", "Least severe level that is logged.", choices=("debug", "info", "warning", "error"))
    format: str = _key("auto", "Human on a terminal, JSON otherwise.", choices=("auto", "human", "json"))


@dataclass(frozen=True, slots=True)
class RoleConfig:
    prefer: tuple[str, ...] = _key((), "Hosts (or labels) to prefer for this role.", shared=True)
    forbid: tuple[str, ...] = _key((), "Hosts (or labels) that must not get this role.", shared=True)


@dataclass(frozen=True, slots=True)
class Config:
    host: HostConfig = field(default_factory=HostConfig)
    api: ApiConfig = field(default_factory=ApiConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    llm: LlmConfig = field(default_factory=LlmConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    documents: DocumentsConfig = field(default_factory=DocumentsConfig)
    catalog: CatalogConfig = field(default_factory=CatalogConfig)
    log: LogConfig = field(default_factory=LogConfig)
    roles: Mapping[str, RoleConfig] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)  # dotted key -> file | environment | command line

    @property
    def data_dir(self) -> Path:
        return Path(self.host.data_dir or platformdirs.user_data_dir("morgan", appauthor=False))

    @property
    def models_dir(self) -> Path:
        return Path(self.catalog.models_dir) if self.catalog.models_dir else self.data_dir / "models"

    @property
    def catalog_file(self) -> Path | None:
        """None for the catalogue that ships."""
        return Path(self.catalog.file) if self.catalog.file else None

    @property
    def profile_override(self) -> Path | None:
        return Path(self.host.profile_override) if self.host.profile_override else None

    @property
    def host_name(self) -> str:
        return self.host.name or socket.gethostname().split(".")[0] or "host"

    @property
    def listen(self) -> tuple[str, int] | None:
        """Host and port of the TCP API, or None when it is off."""
        return parse_listen(self.api.listen)

    def part(self, section: str) -> Any:
        """The values of one section (``llm``, ``roles.llm``)."""
        if section.startswith("roles."):
            return self.roles.get(section.removeprefix("roles."), RoleConfig())
        return getattr(self, section)

    def preferences(self) -> dict[str, RolePreference]:
        found = {role: RolePreference(prefer=conf.prefer, forbid=conf.forbid) for role, conf in self.roles.items()}
        if self.llm.model:
            found["llm"] = replace(found.get("llm", RolePreference()), model=self.llm.model)
        return found


SECTIONS: dict[str, type] = {
    "host": HostConfig, "api": ApiConfig, "cluster": ClusterConfig, "limits": LimitsConfig, "llm": LlmConfig,
    "retrieval": RetrievalConfig, "documents": DocumentsConfig, "catalog": CatalogConfig, "log": LogConfig,
}  # fmt: skip


def default_config_paths() -> list[Path]:
    """Where ``morgand run`` looks without ``--config``: the first that exists wins."""
    user = Path(platformdirs.user_config_dir("morgan", appauthor=False)) / "morgan.toml"
    return [Path("/etc/morgan/morgan.toml"), user]


def parse_listen(text: str) -> tuple[str, int] | None:
    """``HOST:PORT``, ``[V6]:PORT`` or ``off``. Raises ConfigError."""
    if text == "off":
        return None
    host, separator, port = text.rpartition(":")
    if not separator or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535 or not host:
        raise ConfigError(f"api.listen: '{text}' is not an address and a port, such as 127.0.0.1:7470.")
    return host.strip("[]"), int(port)


def setting_fields(roles: Sequence[str]) -> Iterator[tuple[str, Field[Any]]]:
    """Every dotted key with its field; ``roles.NAME.KEY`` for every role."""
    for section, cls in (*SECTIONS.items(), *((f"roles.{role}", RoleConfig) for role in roles)):
        for item in fields(cls):
            yield f"{section}.{item.name}", item


def field_default(item: Field[Any]) -> Any:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return item.default


def load(
    file: Path | None, environment: Mapping[str, str], settings: Sequence[str] = (), *, roles: Sequence[str],
    must_exist: bool = False,
) -> Config:  # fmt: skip
    """Read all sources and check the whole; ``roles`` are the names of those there are.

    Raises ConfigError that lists every fault.
    """
    faults: list[str] = []
    values: Values = {}
    sources: dict[str, str] = {}
    for source, layer in (
        ("file", _read_file(file, faults, must_exist=must_exist)),
        ("environment", _read_environment(environment)),
        ("command line", _read_settings(settings, faults)),
    ):
        for section, keys in layer.items():
            for key, value in keys.items():
                values.setdefault(section, {})[key] = value
                sources[f"{section}.{key}"] = source
    config = build(values, faults, roles, sources)
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise ConfigError(f"The configuration has {len(faults)} fault{'s'[: len(faults) != 1]}:\n{listed}")
    return config


def build(
    values: Values, faults: list[str], role_names: Sequence[str], sources: Mapping[str, str] | None = None
) -> Config:
    """Make a Config of raw values; faults are appended, never raised."""
    parts: dict[str, Any] = {}
    roles: dict[str, RoleConfig] = {}
    for section, keys in values.items():
        if section.startswith("roles."):
            role = section.removeprefix("roles.")
            if role in role_names:
                roles[role] = _section(section, RoleConfig, keys, faults)
            else:
                faults.append(f"{section}: unknown role{nearest(role, role_names)}")
        elif section in SECTIONS:
            parts[section] = _section(section, SECTIONS[section], keys, faults)
        else:
            known = [*SECTIONS, *(f"roles.{role}" for role in role_names)]
            faults.append(f"{section}: unknown section{nearest(section, known)}")
    config = Config(**parts, roles=roles, sources=dict(sources or {}))
    try:
        parse_listen(config.api.listen)
    except ConfigError as err:
        faults.append(err.message)
    return config


def nearest(word: str, known: Sequence[str]) -> str:
    """``; did you mean 'x'?`` or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(sorted(known))}"


def check_value(key: str, value: Any, roles: Sequence[str]) -> Any:
    """The checked value of one dotted key (``llm.temperature``). Raises ConfigError."""
    section, _, name = key.rpartition(".")
    known = dict(setting_fields(roles))
    if key not in known:
        raise ConfigError(f"{key}: unknown key{nearest(key, list(known))}")
    faults: list[str] = []
    config = build({section: {name: value}}, faults, roles)
    if faults:
        raise ConfigError(faults[0])
    return getattr(config.part(section), name)


def with_shared(config: Config, shared: Mapping[str, Any], roles: Sequence[str]) -> Config:
    """The configuration with the cluster's shared settings laid over the host's own."""
    for key, value in shared.items():
        section, _, name = key.rpartition(".")
        part = replace(config.part(section), **{name: check_value(key, value, roles)})
        if section in SECTIONS:
            config = replace(config, **{section: part})
        else:
            config = replace(config, roles={**config.roles, section.removeprefix("roles."): part})
    return replace(config, sources={**config.sources, **dict.fromkeys(shared, "cluster")})


def _section(section: str, cls: type, keys: Mapping[str, Any], faults: list[str]) -> Any:
    known = {item.name: item for item in fields(cls)}
    hints = get_type_hints(cls)
    kept: dict[str, Any] = {}
    for name, raw in keys.items():
        if name not in known:
            faults.append(f"{section}.{name}: unknown key{nearest(name, list(known))}")
            continue
        key = f"{section}.{name}"
        try:
            kept[name] = _expanded(key, _bounded(key, _typed(key, raw, hints[name]), known[name]), known[name])
        except ConfigError as err:
            faults.append(err.message)
    return cls(**kept)


def _typed(key: str, raw: Any, hint: Any) -> Any:
    """Convert a TOML value or a string to the field's type. Raises ConfigError."""
    if get_origin(hint) is tuple:
        items = [part.strip() for part in raw.split(",") if part.strip()] if isinstance(raw, str) else raw
        if isinstance(items, list) and all(isinstance(item, str) and item.strip() for item in items):
            return tuple(item.strip() for item in items)
        raise ConfigError(f"{key}: {raw!r} is not a list of texts.")
    if hint is str and isinstance(raw, str) and "\0" not in raw:  # no path and no name holds one
        return raw
    if hint is bool:
        return _boolean(key, raw)
    if hint in (int, float) and not isinstance(raw, bool):
        try:
            if not (hint is int and isinstance(raw, float) and raw != int(raw)):
                return hint(raw)
        except (TypeError, ValueError, OverflowError):
            pass
    wanted = {int: "a whole number", float: "a number", str: "a text"}.get(hint, str(hint))
    raise ConfigError(f"{key}: {raw!r} is not {wanted}.")


def _boolean(key: str, raw: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in words:
        return words[raw.lower()]
    raise ConfigError(f"{key}: {raw!r} is neither true nor false.")


def _bounded(key: str, value: Any, item: Field[Any]) -> Any:
    low, high, choices = item.metadata["low"], item.metadata["high"], item.metadata["choices"]
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise ConfigError(f"{key}: {value} is out of range; it must be between {low} and {high}.")
    if choices and value not in choices:
        raise ConfigError(f"{key}: '{value}' is not one of {', '.join(choices)}{nearest(value, choices)}")
    return value


def _expanded(key: str, value: Any, item: Field[Any]) -> Any:
    """A path as everybody uses it: absolute, without ~. Other values as they are."""
    if not item.metadata["path"] or not value:
        return value
    try:
        return str(Path(value).expanduser().absolute())
    except RuntimeError as err:  # ~somebody, and there is no such account
        raise ConfigError(f"{key}: {value}: there is no such home directory.") from err


def _read_file(file: Path | None, faults: list[str], *, must_exist: bool) -> Values:
    if file is None:
        return {}
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if must_exist:
            faults.append(f"{file}: there is no such file.")
        return {}
    except OSError as err:
        faults.append(f"{file}: cannot be read: {err.strerror}.")
        return {}
    except (ValueError, RecursionError) as err:  # ValueError: no TOML, no UTF-8, or a number of thousands of digits
        faults.append(f"{file}: is not valid TOML: {err}.")
        return {}
    values: Values = {}
    for section, content in data.items():
        if not isinstance(content, dict):
            faults.append(f"{section}: a key outside a section; write [section] above it.")
        elif section == "roles":
            for role, keys in content.items():
                if isinstance(keys, dict):
                    values[f"roles.{role}"] = keys
                else:
                    faults.append(f"roles.{role}: a role is a section of its own: [roles.{role}].")
        else:
            values[section] = content
    return values


def _read_environment(environment: Mapping[str, str]) -> Values:
    """``MORGAN_SECTION__KEY=value``; ``MORGAN_ROLES__LLM_FAST__PREFER`` for role ``llm-fast``."""
    values: Values = {}
    for name, raw in environment.items():
        if not name.startswith("MORGAN_") or "__" not in name:
            continue
        *section, key = name.removeprefix("MORGAN_").lower().split("__")
        if section[0] == "roles" and len(section) == 2:
            section[1] = section[1].replace("_", "-")
        values.setdefault(".".join(section), {})[key] = raw
    return values


def _read_settings(settings: Sequence[str], faults: list[str]) -> Values:
    values: Values = {}
    for setting in settings:
        dotted, separator, raw = setting.partition("=")
        section, _, key = dotted.strip().rpartition(".")
        if not separator or not section:
            faults.append(f"--set {setting}: write it as section.key=value.")
            continue
        values.setdefault(section, {})[key] = _json_list(raw)
    return values


def _json_list(raw: str) -> Any:
    """``["a","b"]`` as a list; everything else stays text and is converted by the field's type."""
    if raw.startswith("["):
        try:
            return json.loads(raw)
        except json.JSONDecodeError:
            return raw
    return raw
