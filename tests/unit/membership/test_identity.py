"""What a data directory may be used for: a table, and a lone host that takes its store over."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from morgand.base.errors import Conflict
from morgand.cluster import codec, keys, member_file
from morgand.cluster.codec import HostRecord
from morgand.cluster.local import LocalStore
from morgand.cluster.member_file import MemberFile
from morgand.cluster.store import Put
from morgand.fingerprint.host_id import HostIdentity, Standing
from morgand.membership.identity import Claim, Purpose, claim, objection, take_over
from morgand.state.roles import Assignment

ROOT = Path("/d")
OF_HOST = MemberFile("c", "home", "h", "192.0.2.1", 7471)
S, P = Standing, Purpose


def lone(root: Path) -> Path:
    (root / "cluster").mkdir(parents=True)
    return root


def member(root: Path) -> Path:
    """A member's, after its first start."""
    lone(root)
    made = claim(root, Purpose.RUN).identity
    found = MemberFile("c", "home", made.id, "192.0.2.1", 7471)
    member_file.write(root / "cluster", found)
    return root


@pytest.mark.parametrize(
    ("of", "id_", "standing", "allowed"),
    [
        (None, "h", S.OWN, {P.RUN, P.JOIN, P.RECOVER}),
        (None, "h", S.RESTORED, {P.RUN, P.JOIN, P.RECOVER}),
        (None, "h", S.COPY, set()),
        (None, "h", S.FOREIGN, set()),
        (OF_HOST, "h", S.OWN, {P.RUN, P.JOIN, P.RECOVER}),
        (OF_HOST, "h", S.RESTORED, {P.JOIN, P.RECOVER}),
        (OF_HOST, "h", S.FOREIGN, {P.JOIN, P.RECOVER}),
        (OF_HOST, "h", S.COPY, set()),
        (OF_HOST, "new", S.OWN, {P.JOIN, P.RECOVER}),
    ],
)
def test_what_a_directory_may_be_used_for(
    of: MemberFile | None, id_: str, standing: Standing, allowed: set[Purpose]
) -> None:
    found = Claim(HostIdentity(id_, "c"), standing, of)
    refusals = {purpose: objection(found, purpose, ROOT) for purpose in Purpose}
    assert {purpose for purpose, refusal in refusals.items() if refusal is None} == allowed
    assert all(refusal.remedy for refusal in refusals.values() if refusal is not None)


def test_a_lone_host_is_at_home_wherever_it_was_put_back(tmp_path: Path) -> None:
    """And from then on: the directory that it was in before is the copy."""
    home = lone(tmp_path / "data")
    made = claim(home, Purpose.RUN).identity
    shutil.copytree(home, tmp_path / "backup")
    home.rename(tmp_path / "gone")
    (tmp_path / "gone" / "host.json").unlink()
    assert claim(tmp_path / "backup", Purpose.RUN).identity == made
    shutil.copytree(tmp_path / "backup", home)
    with pytest.raises(Conflict, match="Use the original"):
        claim(home, Purpose.RUN)


def test_a_copy_without_its_identity_is_a_new_host(tmp_path: Path) -> None:
    """As the refusal says; the original goes on."""
    home, copy = lone(tmp_path / "data"), tmp_path / "copy"
    made = claim(home, Purpose.RUN).identity
    shutil.copytree(home, copy)
    with pytest.raises(Conflict, match=rf"delete {copy}/host\.json and start again"):
        claim(copy, Purpose.RUN)
    (copy / "host.json").unlink()
    assert claim(copy, Purpose.RUN).identity.id != made.id
    assert claim(home, Purpose.RUN).identity == made


def test_a_member_without_its_identity_is_no_other_member(tmp_path: Path) -> None:
    home = member(tmp_path / "data")
    (home / "host.json").unlink()
    for _ in range(2):
        with pytest.raises(Conflict, match="of a new host"):
            claim(home, Purpose.RUN)
    assert claim(home, Purpose.JOIN).renamed


def test_a_refusal_changes_nothing(tmp_path: Path) -> None:
    home = member(tmp_path / "data")
    file = home / "host.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "machine": "another"}))
    before = file.read_bytes()
    with pytest.raises(Conflict, match="another machine"):
        claim(home, Purpose.RUN)
    assert file.read_bytes() == before


async def test_a_store_is_of_its_host_alone(tmp_path: Path) -> None:
    """What an identity of before left in it is gone; what belongs to nobody in particular stays."""
    store = await LocalStore.open(tmp_path)
    for host in ("old", "older", "me"):
        await store.txn(
            [],
            [
                Put(keys.host(host), codec.encode(HostRecord(host, "home", "192.0.2.1"))),
                Put(keys.profile(host), b"{}"), Put(keys.status(host), b"{}"), Put(keys.member(host), b"{}"),
                Put(keys.voter(host), b"{}"), Put(keys.lease(host), b"1"),
                Put(keys.assignment("db", "main", host), codec.encode(Assignment("db", "main", host, "sqlite", 1, ""))),
            ],
        )  # fmt: skip
    await store.txn([], [Put(keys.EPOCH, b"7"), Put(keys.api_key("k"), b"{}"), Put(keys.config("llm.model"), b'"x"')])
    await take_over(store, "me")
    left = {item.key for item in (await store.list("/"))[0]}
    own = {keys.host, keys.profile, keys.status, keys.member, keys.voter, keys.lease}
    assert left == {key("me") for key in own} | {
        keys.assignment("db", "main", "me"), keys.EPOCH, keys.api_key("k"), keys.config("llm.model"),
    }  # fmt: skip
    revision = (await store.list("/"))[1]
    await take_over(store, "me")
    assert (await store.list("/"))[1] == revision
    await store.close()
