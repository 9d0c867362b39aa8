"""Facts given by hand: a JSON file that replaces what was detected, for labs and for systems that tell wrong things."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from morgand.base.errors import ConfigError
from morgand.state.hosts import Profile

KEYS = (
    "arch", "cpu_cores", "cpu_model", "disk", "duty", "engines", "gpus", "laptop", "models", "network", "os", "ram_mb",
)  # fmt: skip


def read_override(file: Path) -> Mapping[str, Any]:
    """Raises ConfigError when the file cannot be read or is not a JSON object."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except OSError as err:
        raise ConfigError(f"host.profile_override: {file} cannot be read: {err.strerror}.") from err
    except ValueError as err:
        raise ConfigError(f"host.profile_override: {file} is not valid JSON: {err}.") from err
    if not isinstance(facts, dict):
        raise ConfigError(f'host.profile_override: {file} must hold an object such as {{"ram_mb": 65536}}.')
    return facts


def apply_override(profile: Profile, facts: Mapping[str, Any]) -> Profile:
    """The profile with some facts replaced; ``disk`` and ``network`` may be given in part.

    Raises ConfigError that lists every unknown key and wrong value.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    for key, raw in facts.items():
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)
            hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(KEYS)}"
            faults.append(f"{key}: unknown fact; {hint}")
            continue
        try:
            values[key] = _value(profile, key, raw)
        except msgspec.ValidationError as err:
            faults.append(f"{key}: {err}")
    if faults:
        raise ConfigError("The profile override has faults:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return replace(profile, **values)


def _value(profile: Profile, key: str, raw: Any) -> Any:
    whole = msgspec.to_builtins(profile)
    if key == "engines" and isinstance(raw, list):
        raw = [{"name": one, "version": "given", "path": ""} if isinstance(one, str) else one for one in raw]
    merged = {**whole[key], **raw} if key in ("disk", "network") and isinstance(raw, dict) else raw
    converted = getattr(msgspec.convert({**whole, key: merged}, Profile), key)
    if key in ("ram_mb", "cpu_cores") and converted < 1:
        raise msgspec.ValidationError("must be at least 1")
    return converted
