"""Other versions of the program: the next one, and the one before, each in a folder from which it can be run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from morgand import __version__
from morgand.storage.migrate import known

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("morganctl", "morgand")
NEXT = "99.0.0"

# a table and a column; what is stored from now on has a mood, whoever stores it
PRE = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "pre_{pre:04}", "pre_{before:04}", None, None

def upgrade():
    op.create_table("moods", sa.Column("name", sa.Text(), primary_key=True))
    op.add_column("messages", sa.Column("mood", sa.Text()))
    op.alter_column("messages", "mood", server_default="calm")
"""

# every message has a mood, there is an index on it, and what the next version does not use is gone
POST = '''
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "post_{post:04}", {after}, {label}, None

FILL = """UPDATE messages SET mood = 'calm'
    WHERE id IN (SELECT id FROM messages WHERE mood IS NULL LIMIT 500 FOR UPDATE SKIP LOCKED)"""

def upgrade():
    with op.get_context().autocommit_block():
        op.execute("SET statement_timeout = '5min'")
        op.execute("SET lock_timeout = '5min'")
        while op.get_bind().execute(sa.text(FILL)).rowcount:
            pass
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS ix_messages_mood")
        op.execute("CREATE INDEX CONCURRENTLY ix_messages_mood ON messages (mood)")
        op.execute("RESET ALL")
        op.execute("ALTER TABLE messages DROP CONSTRAINT IF EXISTS with_mood")
        op.execute("ALTER TABLE messages ADD CONSTRAINT with_mood CHECK (mood IS NOT NULL) NOT VALID")
        op.execute("ALTER TABLE messages VALIDATE CONSTRAINT with_mood")
        op.execute("ALTER TABLE messages ALTER COLUMN mood SET NOT NULL, DROP CONSTRAINT with_mood")
    # in a transaction with the above it would wait for writers that wait for it
    op.drop_column("conversations", "session")
'''
UNUSED = "    session: Mapped[str | None] = mapped_column(PlainText)\n"


def next_release(folder: Path) -> Path:
    """This version with one more migration of each phase, and one column fewer that it uses."""
    for package in PACKAGES:
        shutil.copytree(CHECKOUT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    _replace(folder / "morgand" / "__init__.py", __version__, NEXT)
    _replace(folder / "morgand" / "storage" / "models.py", UNUSED, "")
    now, versions = known(), folder / "morgand" / "storage" / "migrations" / "versions"
    pre, post = now.pre + 1, now.post + 1
    (versions / f"pre_{pre:04}_next.py").write_text(PRE.format(pre=pre, before=now.pre))
    after, label = (f'"post_{now.post:04}"', None) if now.post else (None, ("post",))
    (versions / f"post_{post:04}_next.py").write_text(POST.format(post=post, after=after, label=label))
    return folder


def release_of(revision: str, folder: Path) -> Path:
    """The version that a revision of the repository has. Raises CalledProcessError where there is no such revision."""
    packed = subprocess.run(["git", "-C", CHECKOUT, "archive", revision], check=True, capture_output=True, timeout=60)
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True, timeout=60)
    return folder


def environment(release: Path) -> dict[str, str]:
    """In which Python finds this version, in that folder and in any other but this checkout."""
    return {**os.environ, "PYTHONPATH": str(release), "PYTHONDONTWRITEBYTECODE": "1"}


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{file.name} has '{old.strip()}' {text.count(old)} times"
    file.write_text(text.replace(old, new))
