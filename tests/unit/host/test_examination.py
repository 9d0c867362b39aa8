"""A host that looks through itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from morgand import __version__
from morgand.base.clock import SystemClock
from morgand.host.examination import HostExaminer, exposed
from morgand.security import ca, trust
from morgand.state.findings import FindingKind
from tests.fakes.peers import credentials


class CountedUpkeep:
    def __init__(self) -> None:
        self.done: list[str] = []

    async def sweep(self) -> None:
        self.done.append("sweep")

    async def compare(self) -> None:
        self.done.append("compare")


def examiner(root: Path, there: frozenset[str] = frozenset(), upkeep: CountedUpkeep | None = None) -> HostExaminer:
    async def alive(host: str, within_s: float) -> bool:
        assert within_s > 0
        return host in there

    return HostExaminer(root, alive=alive, upkeep=upkeep or CountedUpkeep(), clock=SystemClock())


async def test_a_lone_host_has_nothing_to_hide_and_nobody_to_reach(tmp_path: Path) -> None:
    found = await examiner(tmp_path).examine(())
    assert found.version == __version__
    assert abs((found.now - datetime.now(UTC)).total_seconds()) < 60
    assert (found.certificate_renews, found.certificate_ends, found.unreachable, found.exposed) == (None, None, (), ())


async def test_a_member_tells_how_long_its_certificate_lasts(tmp_path: Path) -> None:
    credentials(tmp_path, "cluster")
    certificate = ca.facts((tmp_path / "cluster" / trust.CERT).read_bytes())
    found = await examiner(tmp_path).examine(())
    assert (found.certificate_renews, found.certificate_ends) == (ca.renew_at(certificate), certificate.not_after)


async def test_whom_it_does_not_reach(tmp_path: Path) -> None:
    found = await examiner(tmp_path, frozenset({"h2"})).examine(("h2", "h3"))
    assert found.unreachable == ("h3",)


@pytest.fixture
def opened(tmp_path: Path) -> Path:
    """A data directory that everybody may go through, with one secret that everybody may read."""
    root = tmp_path / "data"
    for folder in ("cluster", "models", "closed"):
        (root / folder).mkdir(parents=True)
        (root / folder / "secret").write_text("s")
        (root / folder / "secret").chmod(0o644)
        (root / folder).chmod(0o755)
    (root / "closed").chmod(0o700)
    (root / "cluster" / "own").write_text("s")
    (root / "cluster" / "own").chmod(0o640)
    (root / "cluster" / "program").write_text("#!/bin/sh")
    (root / "cluster" / "program").chmod(0o755)
    (root / "cluster" / "link").symlink_to("/etc/passwd")
    root.chmod(0o755)
    return root


def test_what_anybody_can_read_is_found(opened: Path) -> None:
    """But for models and programs, which are no secret; and what lies in a closed folder nobody gets to."""
    assert exposed(opened) == [opened / "cluster" / "secret"]


def test_a_closed_directory_keeps_everything_in_it(opened: Path) -> None:
    opened.chmod(0o700)
    assert exposed(opened) == []


async def test_mending_takes_the_right_away_and_no_more(opened: Path) -> None:
    await examiner(opened).mend(FindingKind.PERMISSIONS)
    assert exposed(opened) == []
    assert (opened / "cluster" / "secret").stat().st_mode & 0o777 == 0o640
    assert (opened / "models" / "secret").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("kind", "done"),
    [(FindingKind.ORPHANS, ["sweep"]), (FindingKind.INDEX, ["compare"]), (FindingKind.CLOCK, [])],
)
async def test_mending_stores_is_their_own_upkeep(tmp_path: Path, kind: FindingKind, done: list[str]) -> None:
    upkeep = CountedUpkeep()
    await examiner(tmp_path, upkeep=upkeep).mend(kind)
    assert upkeep.done == done
