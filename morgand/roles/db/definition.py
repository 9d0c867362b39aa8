"""The database, as a role."""

from __future__ import annotations

import sqlite3

from morgand.fingerprint.engines import BuiltIn, Program
from morgand.roles.db.patroni import election
from morgand.roles.db.patroni_keys import ENGINE
from morgand.roles.db.spec import SPEC
from morgand.roles.db.usable import usable
from morgand.roles.definition import RoleDefinition

DEFINITION = RoleDefinition(
    SPEC,
    engines=(
        Program(
            ENGINE, ("postgres",), places=("/usr/lib/postgresql/*/bin/postgres",), usable=usable,
            how_to_get="apt install postgresql",
        ),
        BuiltIn("sqlite", sqlite3.sqlite_version),
    ),
    wired=frozenset({ENGINE, "sqlite"}),
    stores=("db",),
    election=election,
)  # fmt: skip
