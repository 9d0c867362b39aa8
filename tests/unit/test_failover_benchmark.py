"""What the comparison with stock Patroni makes of what it sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.failover import table
from benchmarks.stock import HOSTS, Shown, etcd_arguments, leader_of, patroni_config, shared_settings, whole
from benchmarks.writer import outage

ADDRESSES = {name: f"10.77.0.{number}" for number, name in enumerate(HOSTS, start=11)}


def shown(*members: tuple[str, str, str, int]) -> Shown:
    return [dict(zip(("name", "role", "state", "timeline"), one, strict=True)) for one in members]


ONE = ("one", "leader", "running", 2)
TWO = ("two", "sync_standby", "streaming", 2)
THREE = ("three", "replica", "streaming", 2)


@pytest.mark.parametrize(
    ("moments", "struck", "longest"),
    [
        ([1.0, 2.0, 3.0, 25.0, 26.0], 3.5, 22.0),  # from the last acknowledgement before the fault
        ([1.0, 9.0, 10.0, 11.5, 12.0], 9.5, 1.5),  # what happened before does not count
        ([1.0, 2.0, 2.1, 24.0], 2.05, 21.9),  # one that was under way arrived after the fault
        ([1.0, 2.0], 5.0, 0.0),  # nobody wrote again: no gap ended
        ([], 5.0, 0.0),
    ],
)
def test_an_outage_is_the_longest_gap_that_ended_after_the_fault(
    moments: list[float], struck: float, longest: float
) -> None:
    assert outage(moments, struck) == pytest.approx(longest)


def test_the_table_has_both_sides_and_the_ratio_of_medians() -> None:
    lines = table({"power-cut": [22.0, 30.0, 24.0], "freeze": [23.0]}, {"power-cut": [2.0, 1.0, 3.0]}).splitlines()
    assert len(lines) == 2
    assert lines[1].split("  ")[0] == "power-cut"
    assert "22.0 / 24.0 / 30.0" in lines[1]
    assert "1.0 / 2.0 / 3.0" in lines[1]
    assert lines[1].endswith(" 12.0x")


def test_a_cluster_is_whole_when_two_standbys_follow_its_primary() -> None:
    assert whole(shown(ONE, TWO, THREE))
    assert leader_of(shown(TWO, ONE)) == "one"


@pytest.mark.parametrize(
    "members",
    [
        (),
        (ONE, TWO),
        (ONE, ("two", "replica", "streaming", 2), THREE),  # nobody is synchronous
        (ONE, TWO, ("three", "replica", "running", 2)),  # it runs and does not follow
        (ONE, TWO, ("three", "replica", "streaming", 1)),  # on the timeline before the failover
        (TWO, THREE, ("one", "replica", "streaming", 2)),
    ],
)
def test_a_cluster_that_lacks_something_is_not_whole(members: tuple[tuple[str, str, str, int], ...]) -> None:
    assert not whole(shown(*members))


def test_a_primary_that_does_not_run_yet_is_none() -> None:
    assert leader_of(shown(("one", "leader", "starting", 2), TWO, THREE)) is None


def test_stock_is_tuned_as_far_as_patroni_allows_and_no_further() -> None:
    """The same times as Morgan gives its Patroni; every member knows all voters, and is told of nothing of Morgan."""
    folder = Path("/srv/stock")
    config = patroni_config("two", ADDRESSES, folder, folder)
    settings = shared_settings()
    assert (settings["ttl"], settings["loop_wait"], settings["retry_timeout"]) == (20, 1, 3)
    assert settings["synchronous_mode"] is True
    assert config["bootstrap"]["dcs"] == settings
    assert config["etcd3"]["hosts"] == ["10.77.0.11:2379", "10.77.0.12:2379", "10.77.0.13:2379"]
    assert "morgan" not in str(config).lower()
    peers = "one=http://10.77.0.11:2380,two=http://10.77.0.12:2380,three=http://10.77.0.13:2380"
    assert f"--initial-cluster={peers}" in etcd_arguments("two", ADDRESSES, folder)
