"""Write docs/reference from the code: ``python docs/generate.py``; ``--check`` only says whether it is up to date."""
# ruff: noqa: INP001, T201  # a program, not a module of a package; it prints what it did

from __future__ import annotations

import sys
from dataclasses import Field
from pathlib import Path
from typing import Any

from morganctl.docs import reference
from morgand.config import RoleConfig, field_default, setting_fields
from morgand.roles.catalog import NAMES

REFERENCE = Path(__file__).parent / "reference"

CONFIGURATION_HEAD = """\
# Configuration

Generated from `morgand/config.py` by `python docs/generate.py`; do not edit.

Sources, later ones win: defaults, the TOML file (`/etc/morgan/morgan.toml`, then `morgan.toml` in the user's
configuration directory, or `--config FILE`), `MORGAN_SECTION__KEY` in the environment, `--set section.key=value`.
Shared keys can also be set for the whole cluster while it runs: `morganctl config set KEY VALUE`.

| key | default | range | shared | meaning |
|---|---|---|---|---|
"""

ROLES_HEAD = """
Per role, in a section `[roles.NAME]` (`[roles.llm]`; in the environment `MORGAN_ROLES__LLM__PREFER`; for the whole
cluster `morganctl config set roles.llm.prefer desktop,attic`; no host gets a role it is forbidden, whatever is
preferred):

| key | default | range | shared | meaning |
|---|---|---|---|---|
"""


def configuration() -> str:
    """Every setting in a table."""
    rows = "".join(_row(key, item) for key, item in setting_fields(NAMES) if not key.startswith("roles."))
    roles = "".join(_row(f"roles.NAME.{item.name}", item) for item in RoleConfig.__dataclass_fields__.values())
    return CONFIGURATION_HEAD + rows + ROLES_HEAD + roles


def _row(key: str, item: Field[Any]) -> str:
    low, high, choices = item.metadata["low"], item.metadata["high"], item.metadata["choices"]
    limits = ", ".join(choices) or ("" if low is None and high is None else f"{low} to {high}")
    default = field_default(item)
    shown = (
        str(list(default))
        if isinstance(default, tuple)
        else str(default).lower()
        if isinstance(default, bool)
        else str(default)
    )
    shared = "yes" if item.metadata["shared"] else ""
    return f"| `{key}` | {f'`{shown}`' if shown else 'empty'} | {limits} | {shared} | {item.metadata['help']} |\n"


def main(arguments: list[str]) -> int:
    """Write the files, or compare; 1 when ``--check`` finds one that is out of date."""
    stale = []
    for name, content in (("cli.md", reference()), ("configuration.md", configuration())):
        path = REFERENCE / name
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            print(f"wrote {path}")
    if stale and "--check" in arguments:
        print(f"out of date: {', '.join(stale)}; run `python docs/generate.py`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
