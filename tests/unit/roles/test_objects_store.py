"""The folder of objects: whole files under the digest of their content."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from morgand.base.errors import NotFound, StorageFull, Unreadable
from morgand.roles.objects.store import FolderObjects

FULL = """
import asyncio, resource, sys
from pathlib import Path
from morgand.base.errors import StorageFull
from morgand.roles.objects.store import FolderObjects
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    asyncio.run(FolderObjects(Path(sys.argv[1])).put_file(Path(sys.argv[2])))
except StorageFull as err:
    print(err)
"""


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def test_content_comes_back_under_its_digest(tmp_path: Path) -> None:
    """The key is the sha256; the file and its folders are private; the original stays."""
    source = tmp_path / "in.txt"
    source.write_bytes(b"boiler")
    objects = FolderObjects(tmp_path / "objects")
    key = await objects.put_file(source)
    digest = hashlib.sha256(b"boiler").hexdigest()
    assert key == f"{digest[:2]}/{digest[2:4]}/{digest}"
    file = await objects.path(key)
    assert file.read_bytes() == source.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert all(stat.S_IMODE(folder.stat().st_mode) == 0o700 for folder in list(file.parents)[:3])


async def test_the_same_content_is_stored_once(tmp_path: Path) -> None:
    """Concurrent calls too, and no temporary file is left."""
    sources = [tmp_path / f"{n}.txt" for n in range(20)]
    for source in sources:
        source.write_bytes(b"same")
    objects = FolderObjects(tmp_path / "objects")
    assert len(set(await asyncio.gather(*map(objects.put_file, sources)))) == 1
    assert len(files(tmp_path / "objects")) == 1


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(tmp_path: Path) -> None:
    """Deleting is idempotent."""
    source = tmp_path / "in"
    source.write_bytes(b"")
    objects = FolderObjects(tmp_path / "objects")
    key = await objects.put_file(source)
    for _ in range(2):
        await objects.delete(key, await objects.mark([key]))
    with pytest.raises(NotFound):
        await objects.path(key)


@pytest.mark.parametrize("since", ["stored", "kept", "marked anew", "started anew", "never marked"])
async def test_only_what_still_bears_the_mark_is_removed(tmp_path: Path, since: str) -> None:
    """Whoever marked it looked before, and did not see what came since."""
    source = tmp_path / "in"
    source.write_bytes(b"x")
    objects = FolderObjects(tmp_path / "objects")
    key = await objects.put_file(source)
    mark = await objects.mark([key]) if since != "never marked" else ""
    match since:
        case "stored":
            await objects.put_file(source)
        case "kept":
            assert await objects.keep([key]) == []
        case "marked anew":
            await objects.mark([key])
        case "started anew":
            objects = FolderObjects(tmp_path / "objects")
    await objects.delete(key, mark)
    assert (await objects.path(key)).read_bytes() == b"x"


async def test_what_is_kept_and_not_there_is_named(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"x")
    objects = FolderObjects(tmp_path / "objects")
    key, lost = await objects.put_file(source), f"00/00/{'0' * 64}"
    assert await objects.keep([lost, key]) == [lost]


async def test_storing_and_removing_at_the_same_moment_ends_in_one_of_the_two(tmp_path: Path) -> None:
    """What ``keep`` says is there, is there: however the threads that write and remove meet."""
    source = tmp_path / "in"
    source.write_bytes(b"x")
    objects = FolderObjects(tmp_path / "objects")
    key = await objects.put_file(source)
    for _ in range(50):
        mark = await objects.mark([key])
        _, _, missing = await asyncio.gather(objects.put_file(source), objects.delete(key, mark), objects.keep([key]))
        if not missing:
            await objects.delete(key, mark)
            assert await objects.keep([key]) == []
        else:
            await objects.put_file(source)


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "ab/cd/../../x", "/etc/passwd", "ab/cd/" + "0" * 64, "a\x00",
                                 f"00/00/{'0' * 64}\n", f"00/00/{'0' * 63}/"])  # fmt: skip
async def test_no_key_leads_out_of_the_folder(tmp_path: Path, key: str) -> None:
    """Whatever is not exactly a key names nothing."""
    objects = FolderObjects(tmp_path)
    with pytest.raises(NotFound):
        await objects.path(key)
    with pytest.raises(NotFound):
        await objects.delete(key, await objects.mark([key]))
    with pytest.raises(NotFound):
        await objects.keep([key])


async def test_a_source_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file is the caller's fault, not the disk's."""
    with pytest.raises(Unreadable, match=r"gone\.txt"):
        await FolderObjects(tmp_path / "objects").put_file(tmp_path / "gone.txt")


async def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """Writing stops in the middle: a clear error, no object, no leftover."""
    source = tmp_path / "in"
    source.write_bytes(b"x" * 300_000)
    root = tmp_path / "objects"
    ran = subprocess.run([sys.executable, "-c", FULL, root, source], capture_output=True, text=True, check=True)
    assert "Free some space" in ran.stdout
    assert files(root) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000, "the limit was the child's"


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The error names the place."""
    (tmp_path / "objects").write_text("a file in the way")
    source = tmp_path / "in"
    source.write_bytes(b"x")
    with pytest.raises(StorageFull, match="objects"):
        await FolderObjects(tmp_path / "objects").put_file(source)


async def test_leftovers_of_a_killed_daemon_are_removed(tmp_path: Path) -> None:
    """Only those: objects stay."""
    source = tmp_path / "in"
    source.write_bytes(b"x")
    objects = FolderObjects(tmp_path / "objects")
    key = await objects.put_file(source)
    (tmp_path / "objects" / ".new-abc").write_bytes(b"half")
    await objects.clear_leftovers()
    assert files(tmp_path / "objects") == [await objects.path(key)]


async def test_a_disk_that_does_not_give_an_original_is_told_in_words(tmp_path: Path) -> None:
    """Whoever asks for one of them goes on with the others."""
    objects = FolderObjects(tmp_path / ("x" * 300))  # longer than any file system takes
    with pytest.raises(Unreadable, match=r"The original cannot be read: File name too long\."):
        await objects.path(f"aa/bb/aabb{'0' * 60}")


async def test_a_role_that_begins_again_takes_nothing_from_who_writes(tmp_path: Path) -> None:
    """It was ended and performed anew while a file came in."""
    objects = FolderObjects(tmp_path / "objects")
    (tmp_path / "objects").mkdir()
    await objects.clear_leftovers()
    (tmp_path / "objects" / ".new-abc").write_bytes(b"half")
    await objects.clear_leftovers()
    assert [file.name for file in files(tmp_path / "objects")] == [".new-abc"]
