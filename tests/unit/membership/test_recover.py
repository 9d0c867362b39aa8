"""``morgand recover`` on a member's data directory: what it writes, what it refuses, and that it can be done again."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from morgand.base import files
from morgand.base.datadir import DataDir
from morgand.base.errors import Conflict, MorganError, Unavailable
from morgand.cluster import codec, keys, member_file
from morgand.cluster.codec import HostRecord
from morgand.cluster.copy import copy_file
from morgand.cluster.member_file import MemberFile
from morgand.cluster.storefile import StoreContent, StoreFile
from morgand.cluster.voters import VoterRecord, VoterState
from morgand.config import Config, load
from morgand.fingerprint.host_id import load_or_create
from morgand.fingerprint.machine import machine_digest
from morgand.membership import registry
from morgand.membership.identity import Purpose, claim
from morgand.membership.recover import recover, story
from morgand.roles.catalog import NAMES
from morgand.security import ca, trust
from morgand.state.roles import Assignment

NOW = datetime.now(UTC)
AUTHORITY = ca.make_authority("cluster-1", NOW)
ADDRESS = "127.0.65.1"  # where nobody answers
GOSSIP = base64.b64encode(b"k" * 32).decode()


class House:
    """A member of a cluster of three; ``truth`` is what it last knew."""

    def __init__(self, root: Path) -> None:
        with DataDir(root) as data:
            self.me = load_or_create(data.root).identity.id
        self.config: Config = load(None, {}, [f"host.data_dir={root}", "host.name=attic"], roles=NAMES)
        self.folder = root / "cluster"
        key = ca.make_key()
        certificate = ca.sign(
            AUTHORITY, ca.make_request(key, self.me), host_id=self.me, cluster_id="cluster-1", addresses=(ADDRESS,),
            now=NOW,
        )  # fmt: skip
        trust.install(self.folder, ca_pem=AUTHORITY.cert_pem, cert_pem=certificate, key_pem=key)
        files.write_private(self.folder / trust.CRL, ca.revocation_list(AUTHORITY, [], NOW))
        member_file.write_keyring(self.folder, (GOSSIP,))
        self.member = MemberFile("cluster-1", "home", self.me, ADDRESS, 7471, ("127.0.65.2:7471",), ("https://x:1",))
        member_file.write(self.folder, self.member)
        self.truth: dict[str, Any] = {keys.AUTHORITY: AUTHORITY, keys.EPOCH: 7, keys.api_key("k"): "digest"}
        for number, (host, name) in enumerate({self.me: "attic", "b": "barn", "c": "cellar"}.items(), 1):
            where = f"https://127.0.65.{number}"
            self.truth |= {
                keys.host(host): HostRecord(host, name, f"127.0.65.{number}", peer=f"127.0.65.{number}:7471"),
                keys.member(host): registry.RegisteredMember(
                    host, name, "m", NOW, (registry.Issued(f"{number:x}", NOW),)
                ),
                keys.voter(host): VoterRecord(host, f"{where}:7474", f"{where}:7473", VoterState.VOTER, "1"),
            }

    def assign(self, role: str, host: str, engine: str) -> None:
        self.truth[keys.assignment(role, "primary", host)] = Assignment(role, "primary", host, engine, 5, "x")

    def items(self) -> dict[str, bytes]:
        return {key: codec.encode(value) for key, value in self.truth.items()}

    def keep(self) -> None:
        """As its daemon did while it ran."""
        copy_file(self.folder).write(StoreContent(9, [(key, value, 1, 1) for key, value in self.items().items()]))

    async def recover(self, *, yes: bool = True) -> str:
        said: list[str] = []
        await recover(self.config, say=said.append, confirmed=lambda: yes)
        return "\n".join(said)

    async def refusal(self, kind: type[MorganError] = Conflict, *, yes: bool = True) -> str:
        with pytest.raises(kind) as caught:
            await self.recover(yes=yes)
        return str(caught.value)

    def stored(self) -> dict[str, bytes]:
        return {row[0]: row[1] for row in StoreFile(self.folder).read().rows}

    def etcd(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "etcd.json").read_text())
        return found


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "m")


async def test_it_begins_anew_with_what_it_knew(house: House) -> None:
    """A store for the next start, a new etcd under another token, and credentials that nobody else has."""
    house.assign("db", house.me, "sqlite")
    house.keep()
    said = await house.recover()
    assert "from its copy of" in said
    assert "Given up for good: barn, cellar." in said
    assert "Lost with" not in said
    kept = house.stored()
    assert {key for key in kept if key.startswith((keys.HOSTS, keys.VOTERS, keys.MEMBERS))} == {
        keys.host(house.me), keys.voter(house.me), keys.member(house.me)
    }  # fmt: skip
    assert codec.decode(int, kept[keys.EPOCH], key="") > 1000
    assert {key for key in kept if key.startswith(keys.REVOKED)} == {keys.revoked(one) for one in "123"}
    listed = (house.folder / trust.CRL).read_bytes()
    assert [ca.revokes(listed, AUTHORITY.cert_pem, serial) for serial in "123"] == [True] * 3
    assert GOSSIP not in (house.folder / member_file.KEYRING).read_text()
    found = member_file.read(house.folder)
    assert found is not None
    assert (found.peers, found.etcd) == ((f"{ADDRESS}:7471",), (f"https://{ADDRESS}:7473",))
    assert house.etcd()["initial-cluster"] == f"{house.me}=https://{ADDRESS}:7474"
    assert house.etcd()["initial-cluster-state"] == "new"
    assert house.etcd()["initial-cluster-token"] not in ("cluster-1", "")
    trust.client_context(house.folder)  # what was written fits together


async def test_a_recovery_that_was_cut_off_is_done_again(house: House) -> None:
    house.keep()
    await house.recover()
    token = house.etcd()["initial-cluster-token"]
    (house.folder / "etcd.json").unlink()
    copy_file(house.folder).path.unlink()
    assert "from what it had begun with of" in await house.recover()
    assert codec.decode(int, house.stored()[keys.EPOCH], key="") > 2000
    assert house.etcd()["initial-cluster-token"] != token


@pytest.mark.parametrize("machine", ["put back on its own", "another one", "host.json is gone"])
async def test_a_directory_that_was_put_back_goes_on_as_the_host_it_was(house: House, machine: str) -> None:
    """Where nobody is left to let it in anew. What its etcd had voted for is not relied on, and replaced."""
    house.keep()
    root = house.config.data_dir
    file = root / "host.json"
    record = json.loads(file.read_text())
    if machine == "host.json is gone":
        file.unlink()
    else:
        file.with_suffix(".other").write_text(json.dumps(record))
        file.with_suffix(".other").replace(file)
        if machine == "another one":
            file.write_text(json.dumps({**record, "machine": machine}))
    with pytest.raises(Conflict, match="`morgand recover`"):
        claim(root, Purpose.RUN)
    assert "goes on alone" in await house.recover()
    found = claim(root, Purpose.RUN)
    assert (found.identity.id, found.trusted) == (house.me, True)
    own = codec.decode(registry.RegisteredMember, house.stored()[keys.member(house.me)], key="")
    assert own.machine == machine_digest()
    assert len(own.certificates) == 1


async def test_nothing_changes_without_a_yes(house: House) -> None:
    house.keep()
    before = {file: file.read_bytes() for file in house.folder.rglob("*")}
    assert "Nothing was changed" in await house.refusal(yes=False)
    assert {file: file.read_bytes() for file in house.folder.rglob("*")} == before


async def test_what_cannot_be_recovered_is_refused_in_words(house: House) -> None:
    assert "knows nothing of the cluster" in await house.refusal(Unavailable)
    own = house.truth.pop(keys.member(house.me))
    house.keep()
    assert "removed from its cluster" in await house.refusal()
    house.truth |= {keys.member(house.me): own, keys.AUTHORITY: ca.make_authority("cluster-1", NOW)}
    house.keep()
    assert "not of the one it belongs to" in await house.refusal()
    (house.folder / member_file.FILE).unlink()
    assert "no member of a cluster" in await house.refusal()
    assert not (house.folder / "etcd.json").exists()


def test_what_is_lost_is_named_and_a_better_host_as_well(house: House) -> None:
    """Only what is stored on one host alone is lost with it; while that host is on, it is the one to recover on."""
    house.assign("db", "b", "sqlite")
    house.assign("objects", "b", "folder")
    house.assign("llm", "c", "llama.cpp")
    told = "\n".join(story(house.items(), "x", house.member, ["c"]))
    assert "Lost with barn: what only it has stored (db, objects)." in told
    assert "cellar: what" not in told
    with pytest.raises(Conflict, match=r"barn is on.*db and objects.*Recover on barn"):
        story(house.items(), "x", house.member, ["b", "c"])
