"""Joining over real TLS: what a joiner is told, what it keeps, and what it never gives away."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from morgand.base import files
from morgand.base.datadir import DataDir
from morgand.base.errors import ConfigError, Conflict, MorganError
from morgand.cluster import codec, keys, member_file
from morgand.cluster.codec import HostRecord
from morgand.cluster.store import Put
from morgand.config import Config, load
from morgand.fingerprint.host_id import HostIdentity, bind, load_or_create
from morgand.membership import registry
from morgand.membership.identity import Purpose, claim
from morgand.membership.join import join
from morgand.roles.catalog import NAMES, STORES
from morgand.security import ca, tokens, trust
from morgand.security.ca import Authority
from morgand.state.hosts import HostState
from tests.fakes.sponsor import GOSSIP_KEY, ServedMember, ShiftedClock, member, serving


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedMember]:
    async with member(tmp_path / "first") as one:
        yield one


def host(tmp_path: Path, name: str = "second", **settings: str) -> Config:
    values = {"host.data_dir": str(tmp_path / name), "host.name": name, "host.address": "127.0.60.2", **settings}
    return load(None, {}, [f"{key}={value}" for key, value in values.items()], roles=NAMES)


async def joined(config: Config, at: str | None, token: str, **more: object) -> list[str]:
    said: list[str] = []
    await join(config, at, token, say=said.append, **more)  # type: ignore[arg-type]
    return said


async def refused(config: Config, at: str | None, token: str, **more: object) -> str:
    with pytest.raises(MorganError) as caught:
        await joined(config, at, token, **more)
    assert not (config.data_dir / "cluster" / member_file.FILE).exists()
    return str(caught.value)


async def test_token_makes_a_member(served: ServedMember, tmp_path: Path) -> None:
    """After joining the host has its own key, the cluster's certificate, gossip key and addresses, all private."""
    config = host(tmp_path)
    token, _ = await served.invite()
    said = await joined(config, served.at, token)
    assert "has joined cluster 'home'" in said[-1]
    folder = config.data_dir / "cluster"
    found = member_file.read(folder)
    identity = load_or_create(config.data_dir).identity
    assert found is not None
    assert (found.cluster, found.host, found.address, found.port) == (
        served.sponsor.cluster_id, identity.id, "127.0.60.2", 7471,
    )  # fmt: skip
    assert (found.peers, found.etcd) == ((served.at,), ("https://127.0.60.1:7473",))
    assert identity.cluster_id == served.sponsor.cluster_id
    assert json.loads((folder / member_file.KEYRING).read_text()) == [GOSSIP_KEY]
    facts = ca.facts((folder / trust.CERT).read_bytes())
    assert (facts.host, facts.cluster) == (identity.id, served.sponsor.cluster_id)
    trust.client_context(folder)
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_code_makes_a_member(served: ServedMember, tmp_path: Path) -> None:
    """The spoken code alone is enough: the authority comes out of the exchange."""
    _, code = await served.invite()
    await joined(host(tmp_path), served.at, code)
    assert {one.name for one in await registry.members(served.store)} == {"first", "second"}


async def test_code_with_two_open_invitations(served: ServedMember, tmp_path: Path) -> None:
    """Two people are invited at once: each code finds its own invitation and costs the other no try."""
    (_, older), (_, newer) = await served.invite(), await served.invite()
    await joined(host(tmp_path, "second"), served.at, older)
    assert [one.tries_left for one in await served.invitations.open()] == [3]
    await joined(host(tmp_path, "third"), served.at, newer)
    assert await served.invitations.open() == []


async def test_invitation_is_good_once(served: ServedMember, tmp_path: Path) -> None:
    """A second host is refused, told by whom it was used, and nothing of it is stored."""
    token, code = await served.invite()
    await joined(host(tmp_path), served.at, token)
    first = load_or_create(tmp_path / "second").identity.id
    assert f"used already, by host {first}" in await refused(host(tmp_path, "third"), served.at, token)
    assert "No invitation is open" in await refused(host(tmp_path, "third"), served.at, code)
    assert len(await registry.members(served.store)) == 2


async def test_two_race_with_one_token(served: ServedMember, tmp_path: Path) -> None:
    """Of two hosts that come with one token at the same time exactly one gets in."""
    token, _ = await served.invite()
    configs = [host(tmp_path, f"host{number}") for number in range(4)]
    outcomes = await asyncio.gather(*(joined(one, served.at, token) for one in configs), return_exceptions=True)
    refusals = [one for one in outcomes if isinstance(one, BaseException)]
    assert len(refusals) == 3
    assert all("used already" in str(one) for one in refusals)
    assert len(await registry.members(served.store)) == 2


async def test_many_join_at_once(served: ServedMember, tmp_path: Path) -> None:
    """Hosts with an invitation each do not get in each other's way."""
    invited = [await served.invite() for _ in range(4)]
    await asyncio.gather(
        *(joined(host(tmp_path, f"host{number}"), served.at, token) for number, (token, _) in enumerate(invited))
    )
    assert len(await registry.members(served.store)) == 5


async def test_expired_invitation(served: ServedMember, tmp_path: Path) -> None:
    """After 15 minutes the owner is told so, by token and by code."""
    served.clock.off = timedelta(minutes=-16)
    token, code = await served.invite()
    served.clock.off = timedelta()
    assert "15 minutes after it was made" in await refused(host(tmp_path), served.at, token)
    assert "No invitation is open" in await refused(host(tmp_path), served.at, code)
    token, _ = await served.invite()
    await joined(host(tmp_path), served.at, token)


async def test_three_wrong_secrets_lock(served: ServedMember, tmp_path: Path) -> None:
    """Three wrong tries lock the invitation, for its owner too."""
    token, _ = await served.invite()
    good = tokens.read(token)
    assert isinstance(good, tokens.Token)
    wrong = tokens.write(tokens.Token(good.digest, good.invitation, "A" * 26))
    config = host(tmp_path)
    assert "2 tries left" in await refused(config, served.at, wrong)
    assert "1 try left" in await refused(config, served.at, wrong)
    assert "now locked" in await refused(config, served.at, wrong)
    assert "is locked" in await refused(config, served.at, token)


async def test_three_wrong_codes_lock(served: ServedMember, tmp_path: Path) -> None:
    """A wrong code burns a try; after three the right one opens nothing."""
    token, code = await served.invite()
    wrong = "7-coral-walnut" if code != "7-coral-walnut" else "8-coral-walnut"
    config = host(tmp_path)
    assert "2 tries left" in await refused(config, served.at, wrong)
    await refused(config, served.at, wrong)
    assert "now locked" in await refused(config, served.at, wrong)
    assert "No invitation is open" in await refused(config, served.at, code)
    assert "is locked" in await refused(config, served.at, token)


async def test_wrong_codes_at_once_are_counted(served: ServedMember, tmp_path: Path) -> None:
    """Guessing in parallel does not buy more than three guesses."""
    _, code = await served.invite()
    wrong = [f"{number}-coral-walnut" for number in range(1, 5)]
    configs = [host(tmp_path, f"host{number}") for number in range(4)]
    pairs = zip(configs, [one for one in wrong if one != code], strict=False)
    await asyncio.gather(*(refused(config, served.at, one) for config, one in pairs))
    assert await served.invitations.open() == []


@pytest.mark.parametrize(("off_s", "words"), [(-45, "s behind"), (3600 * 24 * 400, "ahead of"), (31.5, "ahead of")])
async def test_clock_far_off(served: ServedMember, tmp_path: Path, off_s: float, words: str) -> None:
    """A clock more than 30 s off is refused with the difference and what to do; the invitation stays good."""
    token, _ = await served.invite()
    told = await refused(host(tmp_path), served.at, token, clock=ShiftedClock(timedelta(seconds=off_s)))
    assert words in told
    assert "timedatectl" in told
    await joined(host(tmp_path), served.at, token, clock=ShiftedClock(timedelta(seconds=-20)))


async def test_taken_name(served: ServedMember, tmp_path: Path) -> None:
    """A name in use is refused with how to choose another; the invitation stays good."""
    token, _ = await served.invite()
    told = await refused(host(tmp_path, "second", **{"host.name": "first"}), served.at, token)
    assert "There is a host named first already" in told
    assert "host.name=NAME" in told
    await joined(host(tmp_path), served.at, token)


async def seen(served: ServedMember, host: str, state: HostState) -> None:
    """How the cluster sees a host."""
    record = HostRecord(host, "second", "127.0.60.2", state=state, peer="127.0.60.2:7471")
    await served.store.txn([], [Put(keys.host(host), codec.encode(record))])


async def test_copied_identity(served: ServedMember, tmp_path: Path) -> None:
    """An identity that is there on another machine is refused with how to make a new one, and that ends well."""
    config = host(tmp_path, "third")
    with DataDir(config.data_dir, STORES):
        mine = load_or_create(config.data_dir).identity.id
    await registry.enrol(served.store, registry.RegisteredMember(mine, "second", "another machine", served.clock.now()))
    await seen(served, mine, HostState.ALIVE)
    token, _ = await served.invite()
    told = await refused(config, served.at, token)
    assert "that of second, which is there" in told
    assert "Delete host.json" in told
    (config.data_dir / "host.json").unlink()
    await joined(config, served.at, token)
    assert len(await registry.members(served.store)) == 3


async def away(served: ServedMember, config: Config) -> str:
    """A voter that joined and stopped, and whose directory was put back from a backup; its id."""
    token, _ = await served.invite()
    await joined(config, served.at, token)
    me = load_or_create(config.data_dir).identity.id
    await seen(served, me, HostState.LEFT)
    (config.data_dir / "cluster" / "etcd").mkdir()
    (config.data_dir / "cluster" / "etcd.json").write_text("{}")
    (config.data_dir / "db" / "morgan.db").write_text("what only this host has")
    config.data_dir.rename(config.data_dir.with_name("gone"))
    shutil.copytree(config.data_dir.with_name("gone"), config.data_dir)
    shutil.rmtree(config.data_dir.with_name("gone"))
    (config.data_dir / "host.json.other").write_text((config.data_dir / "host.json").read_text())
    (config.data_dir / "host.json.other").replace(config.data_dir / "host.json")
    return me


def vote(config: Config) -> bool:
    return (config.data_dir / "cluster" / "etcd.json").exists() or (config.data_dir / "cluster" / "etcd").exists()


async def test_a_member_that_was_put_back_is_let_in_anew(served: ServedMember, tmp_path: Path) -> None:
    """It is the same host with all that it stores, but for what etcd had there: that may be older than its vote."""
    config = host(tmp_path)
    me = await away(served, config)
    with pytest.raises(Conflict, match="`morgand join` here"):
        claim(config.data_dir, Purpose.RUN)
    before = trust.read(config.data_dir / "cluster" / trust.CERT)
    token, _ = await served.invite()
    await joined(config, served.at, token)
    found = claim(config.data_dir, Purpose.RUN)
    assert (found.identity.id, found.trusted) == (me, True)
    assert (config.data_dir / "db" / "morgan.db").read_text() == "what only this host has"
    assert not vote(config)
    assert await registry.revoked_serials(served.store) == [ca.facts(before).serial]


async def test_a_member_on_another_machine_takes_its_place(served: ServedMember, tmp_path: Path) -> None:
    """As long as that one is away; it is told that it will be refused."""
    config = host(tmp_path)
    me = await away(served, config)
    bind(config.data_dir, HostIdentity(me, served.sponsor.cluster_id), "another machine")
    token, _ = await served.invite()
    await seen(served, me, HostState.ALIVE)
    with pytest.raises(MorganError, match="which is there"):
        await joined(config, served.at, token)
    assert vote(config)
    await seen(served, me, HostState.FENCED)
    assert any("takes the place" in line for line in await joined(config, served.at, token))
    assert claim(config.data_dir, Purpose.RUN).identity.id == me
    assert not vote(config)


async def test_a_copy_of_a_member_joins_as_a_new_host(served: ServedMember, tmp_path: Path) -> None:
    """With ``host.json`` deleted, as the refusal says. What it has of the member is set aside."""
    config = host(tmp_path)
    me = await away(served, config)
    bind(config.data_dir, HostIdentity(me, served.sponsor.cluster_id))
    await seen(served, me, HostState.ALIVE)
    copy = host(tmp_path, "third")
    shutil.copytree(config.data_dir, copy.data_dir)
    token, _ = await served.invite()
    with pytest.raises(Conflict, match=r"delete .*third/host\.json"):
        await joined(copy, served.at, token)
    (copy.data_dir / "host.json").unlink()
    said = await joined(copy, served.at, token)
    assert any("before-join" in line for line in said)
    found = claim(copy.data_dir, Purpose.RUN)
    assert found.member is not None
    assert found.member.host == found.identity.id != me
    assert not vote(copy)
    assert not (copy.data_dir / "db" / "morgan.db").exists()


async def test_token_of_another_cluster(served: ServedMember, tmp_path: Path) -> None:
    """A token leads only into the cluster it was made in: the host at the address is not believed."""
    async with member(tmp_path / "other", "127.0.60.9") as other:
        token, _ = await other.invite()
        assert "belongs to another cluster than the token" in await refused(host(tmp_path), served.at, token)
        await joined(host(tmp_path), other.at, token)


async def test_member_already(served: ServedMember, tmp_path: Path) -> None:
    """Joining twice says so, changes nothing and spends no invitation."""
    config = host(tmp_path)
    token, _ = await served.invite()
    await joined(config, served.at, token)
    before = (config.data_dir / "cluster" / trust.KEY).read_bytes()
    token, code = await served.invite()
    assert (await joined(config, served.at, token))[-1] == "second is a member of cluster 'home' already."
    assert "already" in (await joined(config, served.at, code))[-1]
    assert (config.data_dir / "cluster" / trust.KEY).read_bytes() == before
    assert len(await served.invitations.open()) == 1


async def test_member_of_another_cluster(served: ServedMember, tmp_path: Path) -> None:
    """A host belongs to one cluster; what to do is said."""
    config = host(tmp_path)
    token, _ = await served.invite()
    await joined(config, served.at, token)
    async with member(tmp_path / "other", "127.0.60.9") as other:
        token, code = await other.invite()
        for given in (token, code):
            with pytest.raises(MorganError, match="a member of another cluster, 'home'"):
                await joined(config, other.at, given)
        await registry.expel(served.store, load_or_create(config.data_dir).identity.id, "6b")
        await joined(host(tmp_path, "elsewhere", **{"host.name": "second"}), other.at, token)
        assert {one.name for one in await registry.members(other.store)} == {"first", "second"}


async def test_removed_host_joins_again(served: ServedMember, tmp_path: Path) -> None:
    """A host that was removed and whose certificate is revoked may come back with a new invitation."""
    config = host(tmp_path)
    token, _ = await served.invite()
    await joined(config, served.at, token)
    mine = load_or_create(config.data_dir).identity.id
    serials = await registry.expel(served.store, mine, "6b")
    assert len(serials) == 1
    assert await registry.revoked_serials(served.store) == list(serials)
    now = served.clock.now() + timedelta(seconds=2)
    files.write_private(served.folder / trust.CRL, ca.revocation_list(served.sponsor.made, serials, now))
    async with serving(served):
        token, _ = await served.invite()
        assert "has joined" in (await joined(config, served.at, token))[-1]
    assert {one.name for one in await registry.members(served.store)} == {"first", "second"}


async def test_data_of_a_lone_host_is_set_aside(served: ServedMember, tmp_path: Path) -> None:
    """What a host stored while alone is moved, said, and complete; models stay."""
    config = host(tmp_path)
    with DataDir(config.data_dir, STORES) as data:
        (data.root / "db" / "morgan.db").write_text("conversations")
        (data.root / "cluster" / "store").write_text("keys")
        (data.root / "models" / "model.gguf").write_text("weights")
    token, _ = await served.invite()
    said = await joined(config, served.at, token)
    aside = config.data_dir / "before-join"
    assert str(aside) in said[0]
    assert (aside / "db" / "morgan.db").read_text() == "conversations"
    assert (aside / "cluster" / "store").read_text() == "keys"
    assert not (config.data_dir / "cluster" / "store").exists()
    assert (config.data_dir / "models" / "model.gguf").exists()


async def test_failure_in_between_leaves_a_lone_host(served: ServedMember, tmp_path: Path) -> None:
    """When the last file cannot be written the host has not joined, and what it stored is where it was."""
    config = host(tmp_path)
    with DataDir(config.data_dir, STORES) as data:
        (data.root / "db" / "morgan.db").write_text("conversations")
        (data.root / "cluster" / "member.json.new").mkdir()  # in the way
    token, _ = await served.invite()
    assert "cannot be written" in await refused(config, served.at, token)
    assert (config.data_dir / "db" / "morgan.db").read_text() == "conversations"


async def test_what_cannot_be_set_aside_is_moved_by_hand(served: ServedMember, tmp_path: Path) -> None:
    config = host(tmp_path)
    with DataDir(config.data_dir, STORES) as data:
        (data.root / "db" / "morgan.db").write_text("conversations")
    (config.data_dir / "before-join").symlink_to(tmp_path / "nowhere" / "at all")  # no folder can be made there
    token, _ = await served.invite()
    told = await refused(config, served.at, token)
    assert f"Move it out of {config.data_dir} by hand, join again." in told
    (config.data_dir / "db").rename(tmp_path / "db")
    token, _ = await served.invite()
    await joined(config, served.at, token)


@pytest.mark.parametrize("name", [member_file.FILE, trust.CA, trust.CERT])
async def test_a_member_with_a_damaged_file_joins_anew(served: ServedMember, tmp_path: Path, name: str) -> None:
    """As it is told to: it is the same host, with what it stores."""
    config = host(tmp_path)
    me = await away(served, config)
    bind(config.data_dir, HostIdentity(me, served.sponsor.cluster_id))
    (config.data_dir / "cluster" / name).write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="`morgand join` here"):
        _started(config)
    token, _ = await served.invite()
    await joined(config, served.at, token)
    assert _started(config) == me
    assert (config.data_dir / "db" / "morgan.db").read_text() == "what only this host has"


def _started(config: Config) -> str:
    """As far as a start reads what a member has; its id."""
    found = claim(config.data_dir, Purpose.RUN)
    trust.client_context(config.data_dir / "cluster")
    return found.identity.id


async def test_authority_with_a_stowaway(served: ServedMember, tmp_path: Path) -> None:
    """Somebody in between who hands out the true authority's certificate and its own after it gains nothing."""
    async with member(tmp_path / "other", "127.0.60.9") as between:
        own, true = between.sponsor.made, served.sponsor.made
        between.sponsor.made = Authority(true.cert_pem + own.cert_pem, own.key_pem)
        token, _ = await served.invite()
        assert "it belongs to another cluster" in await refused(host(tmp_path), between.at, token)
        between.sponsor.made = own
    await joined(host(tmp_path), served.at, token)


async def test_refuses_while_a_daemon_runs(served: ServedMember, tmp_path: Path) -> None:
    """The data directory belongs to the daemon that runs on it."""
    config = host(tmp_path)
    token, _ = await served.invite()
    with DataDir(config.data_dir, STORES):
        assert "morgand stop" in await refused(config, served.at, token)


@dataclass(frozen=True)
class Announced:
    cluster: str
    address: str
    port: int


def announcing(*members: ServedMember) -> Callable[[float], Awaitable[list[Announced]]]:
    async def find(_: float) -> list[Announced]:
        return [Announced("home", one.address, one.port) for one in members]

    return find


async def test_found_on_the_network(served: ServedMember, tmp_path: Path) -> None:
    """Without an address the token picks its cluster among those that announce themselves; a code needs one only."""
    async with member(tmp_path / "other", "127.0.60.9") as other:
        token, code = await served.invite()
        told = await refused(host(tmp_path), None, code, find=announcing(other, served))
        assert "More than one cluster" in told
        await joined(host(tmp_path, "fourth"), served.at, code)
        token, code = await served.invite()
        await joined(host(tmp_path), None, token, find=announcing(other, served))
        _, code = await served.invite()
        await joined(host(tmp_path, "third"), None, code, find=announcing(served))


async def test_seeds_of_the_configuration_are_asked_before_the_network(served: ServedMember, tmp_path: Path) -> None:
    """Those that do not answer do not matter, as long as one does; when none does the network is searched."""

    async def never(_: float) -> list[Announced]:
        raise AssertionError("the network was searched")

    token, _ = await served.invite()
    config = host(tmp_path, **{"cluster.seeds": f'["127.0.60.77:1", "{served.at}"]'})
    assert "has joined" in (await joined(config, None, token, find=never))[-1]
    token, _ = await served.invite()
    astray = host(tmp_path, "third", **{"cluster.seeds": '["127.0.60.77:1"]'})
    told = await refused(astray, None, token, find=announcing())
    assert "No cluster announces itself" in told
    assert "None of cluster.seeds answers: No connection to 127.0.60.77:1" in told
    assert "has joined" in (await joined(astray, None, token, find=announcing(served)))[-1]


async def test_nobody_there(served: ServedMember, tmp_path: Path) -> None:
    """No announcement, no listener and a listener that is no Morgan are told apart."""
    token, _ = await served.invite()
    config = host(tmp_path)
    assert "No cluster announces itself" in await refused(config, None, token, find=announcing())
    assert "No connection to 127.0.60.77:1" in await refused(config, "127.0.60.77:1", token)
    plain = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.60.78", 0)
    async with plain:
        at = f"127.0.60.78:{plain.sockets[0].getsockname()[1]}"
        assert "No connection" in await refused(config, at, token)


async def test_secrets_stay_secret(served: ServedMember, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No log line and no stored value has a secret, a code or a key in it."""
    caplog.set_level(logging.DEBUG)
    token, code = await served.invite()
    parsed = tokens.read(token)
    assert isinstance(parsed, tokens.Token)
    config = host(tmp_path)
    await refused(config, served.at, "7-coral-walnut" if code != "7-coral-walnut" else "8-coral-walnut")
    await joined(config, served.at, code)
    key = (config.data_dir / "cluster" / trust.KEY).read_text().splitlines()[1]
    items, _ = await served.store.list("/")
    stored = b"".join(item.value for item in items).decode()
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    for secret in (parsed.secret, code, key, GOSSIP_KEY):
        assert secret not in logged
        assert secret not in stored
    assert "host joined" in logged


async def command(*words: str, typed: str = "") -> tuple[int, str, str]:
    """``morgand join`` as a person runs it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "morgand", "join", *words, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complained = await process.communicate(typed.encode())
    assert process.returncode is not None
    return process.returncode, said.decode(), complained.decode()


async def test_command(served: ServedMember, tmp_path: Path) -> None:
    """Exit codes and words of ``morgand join``; a token on standard input is in nobody's process list."""
    settings = [part for word in (f"host.data_dir={tmp_path / 'second'}", "host.name=second", "host.address=127.0.60.2")
                for part in ("--set", word)]  # fmt: skip
    token, _ = await served.invite()
    code, said, complained = await command(served.at, token[:-1], *settings)
    assert (code, said) == (1, "")
    assert complained.startswith("morgand: The token is cut off: 96 of 97 characters. Copy the whole line")
    code, said, _ = await command(served.at, "-", *settings, typed=token + "\n")
    assert (code, said) == (
        0, "second has joined cluster 'home'. Start it: `morgand start` (or `morgand run`).\n",
    )  # fmt: skip
    code, said, _ = await command(served.at, token, *settings)
    assert (code, said) == (0, "second is a member of cluster 'home' already.\n")
    assert (await command("one", "two", "three"))[0] == 64
    assert (await command(token, "--set", "host.nonsense=1"))[0] == 78
