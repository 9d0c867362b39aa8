"""PostgreSQL's files on this host: whose they are, who may read them, what is thrown away."""

from __future__ import annotations

import os
import pwd
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from morgand.base.errors import ConfigError, EngineError
from morgand.process.account import Account
from morgand.roles.db import files
from morgand.roles.db.site import DbSite

ROOT = os.getuid() == 0


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that any account can pass through, which those of pytest are not."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def site(root: Path) -> DbSite:
    data = root / "morgan"
    data.mkdir(mode=0o700)
    credentials = data / "cluster"
    credentials.mkdir(mode=0o700)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (credentials / name).write_text(f"{name} 1")
    return DbSite("h1", "127.0.0.1", 7480, data / "db", credentials, Path("/usr/lib/postgresql/15/bin"), 1024)


def nobody() -> Account:
    found = pwd.getpwnam("nobody")
    return Account("nobody", found.pw_uid, found.pw_gid, (found.pw_gid,))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_an_ordinary_users_files_are_its_own(site: DbSite) -> None:
    files.prepare(site, None)
    files.write_config(site, None, {"secret": 1})
    private = (site.folder, site.tls, site.server, site.folder / "run")
    assert [mode(folder) for folder in private] == [0o700] * 4
    assert [mode(file) for file in (site.config, site.tls / "key.pem")] == [0o600, 0o600]
    assert os.access(site.postgres, os.X_OK)


@pytest.mark.skipif(not ROOT, reason="only root gives files to another account")
def test_another_account_gets_its_way_and_its_files_and_no_more(site: DbSite) -> None:
    """It can pass through Morgan's folders, and finds nothing readable there but what was made for it."""
    account = nobody()
    files.prepare(site, account)
    files.write_config(site, account, {"secret": 1})
    assert [mode(folder) for folder in (site.folder.parent, site.folder, site.tls)] == [0o711] * 3
    assert [folder.stat().st_uid for folder in (site.folder, site.tls)] == [0, 0]
    for own in (site.server, site.folder / "run", site.config, site.tls / "key.pem"):
        assert own.stat().st_uid == account.user
        assert mode(own) & 0o077 == 0
    assert mode(site.credentials) == 0o700


def test_renewed_certificates_are_copied_and_told(site: DbSite) -> None:
    """Once: what has not changed is not written again. A list of revoked ones may come later."""
    files.prepare(site, None)
    assert not files.install_credentials(site, None)
    assert not files.has_revocations(site)
    (site.credentials / "cert.pem").write_text("cert.pem 2")
    (site.credentials / "crl.pem").write_text("crl.pem 1")
    assert files.install_credentials(site, None)
    assert (site.tls / "cert.pem").read_text() == "cert.pem 2"
    assert files.has_revocations(site)
    assert not files.install_credentials(site, None)


def test_a_copy_that_was_broken_off_is_thrown_away(site: DbSite) -> None:
    """Its control file comes last; Patroni would wait for somebody's help for ever."""
    files.prepare(site, None)
    (site.data / "base").mkdir(parents=True)
    files.prepare(site, None)
    assert not site.data.exists()


def test_a_database_is_never_thrown_away(site: DbSite) -> None:
    files.prepare(site, None)
    (site.data / "global").mkdir(parents=True)
    (site.data / "global" / "pg_control").touch()
    (site.data / "postmaster.pid").write_text("1")
    files.prepare(site, None)
    assert (site.data / "global" / "pg_control").exists()


def test_data_that_were_never_whole_are_set_aside_and_others_are_not(site: DbSite) -> None:
    files.prepare(site, None)
    assert not files.in_doubt(site)
    site.data.mkdir()
    assert files.in_doubt(site)
    for content in ("first", "second"):
        site.data.mkdir(exist_ok=True)
        (site.data / "PG_VERSION").write_text(content)
        files.set_aside(site)
        assert not site.data.exists()
    assert (site.server / "data.unfinished" / "PG_VERSION").read_text() == "second"
    site.data.mkdir()
    files.mark_complete(site)
    assert not files.in_doubt(site)
    assert not (site.server / "data.unfinished").exists()


def test_the_socket_has_a_short_path(tmp_path: Path) -> None:
    short, long = Path("/var/lib/morgan/db"), Path("/home") / ("x" * 90) / "db"
    assert files.socket_folder(short) == short / "run"
    assert len(os.fsencode(files.socket_folder(long))) < 60
    assert files.socket_folder(long) != files.socket_folder(long / "other")


def test_a_folder_of_somebody_else_is_not_used(site: DbSite) -> None:
    """Another user may have made it first, where everybody can."""
    site.folder.mkdir(parents=True)
    (site.folder / "elsewhere").mkdir()
    (site.folder / "run").symlink_to(site.folder / "elsewhere")
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        files.prepare(site, None)


def test_a_disk_that_refuses_is_an_error_of_ours(site: DbSite) -> None:
    site.folder.parent.joinpath("db").write_text("a file where the folder is to be")
    with pytest.raises(EngineError, match="cannot be set up in"):
        files.prepare(site, None)
