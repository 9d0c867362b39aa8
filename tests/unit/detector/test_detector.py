"""The rules of the detector, told as short stories in virtual time: who is given up, when, and who never is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from morgand.detector.beat import Beat, Stamp
from morgand.detector.detector import BETWEEN_S, Detector
from morgand.detector.link import HOLD_S, STEADY_S, Peer
from morgand.detector.suspicion import BEAT_S, LEASE_S, START_S, WIRED_S
from morgand.state.hosts import PeerHealth

WAY_S = 0.001  # of a beat to the other host


class Town:
    """Hosts named by letters, the first three of which vote; time passes only in ``play``."""

    def __init__(self, names: str = "abcde", voters: str = "abc") -> None:
        self.now = 100.0
        self.names, self.voters = names, voters
        self.boots = 0
        self.hosts: dict[str, Detector] = {}
        self.deaf: set[tuple[str, str]] = set()  # (sender, receiver) that is lost
        self.frozen: set[str] = set()
        self.under_way: list[tuple[float, Beat]] = []
        self.last: dict[tuple[str, str], Beat] = {}
        for name in names:
            self.start(name)

    def start(self, name: str) -> None:
        self.boots += 1
        self.hosts[name] = Detector(name, self.boots, self.now)
        self.hosts[name].configure({one: Peer(one, 0) for one in self.names if one != name}, self.voters, self.now)

    def play(self, seconds: float, until: Callable[[], bool] = lambda: False) -> float:
        """Let time pass; returns how much did."""
        began = self.now
        while self.now - began < seconds - 1e-9 and not until():
            for name, host in self.hosts.items():
                if name not in self.frozen:
                    self.boots += 1
                    self.send(host.tick(self.now, self.boots))
            self.deliver(self.now + WAY_S)
            self.now += BEAT_S
        return self.now - began

    def send(self, beats: list[Beat]) -> None:
        for beat in beats:
            self.last[beat.sender, beat.receiver] = beat
            if (beat.sender, beat.receiver) not in self.deaf:
                self.under_way.append((self.now + WAY_S, beat))

    def deliver(self, now: float) -> None:
        for _, beat in self.under_way:
            if beat.receiver in self.hosts and beat.receiver not in self.frozen:
                self.hosts[beat.receiver].hear(beat, now)
        self.under_way = []

    def cut(self, one: str, others: str) -> None:
        self.deaf |= {(one, other) for other in others} | {(other, one) for other in others}

    def leased(self) -> str:
        return "".join(sorted(name for name, host in self.hosts.items() if host.view(self.now).leased))

    def dead(self, whom: str) -> str:
        """Those for whom it is agreed that ``whom`` is dead."""
        seen = ((name, host.view(self.now).sights.get(whom)) for name, host in self.hosts.items() if name != whom)
        return "".join(sorted(name for name, sight in seen if sight is not None and sight.dead))


@pytest.fixture
def town() -> Town:
    """Everybody is well."""
    found = Town()
    found.play(2.0)
    assert found.leased() == "abcde"
    return found


@pytest.mark.parametrize("who", "abcde")
def test_a_dead_host_is_given_up_by_everybody_within_a_second_and_a_bit(town: Town, who: str) -> None:
    others = "abcde".replace(who, "")
    del town.hosts[who]
    took = town.play(5.0, lambda: town.dead(who) == others)
    assert WIRED_S - BEAT_S <= took <= WIRED_S + 3 * BEAT_S
    assert town.leased() == others


def test_a_vote_is_cast_when_it_is_due_and_does_not_wait_for_the_next_beat(town: Town) -> None:
    del town.hosts["a"]
    town.play(WIRED_S - BEAT_S)
    for voter in "bc":
        ticked = town.now
        town.hosts[voter].tick(ticked, 99)
        due = town.hosts[voter].next_tick()
        assert due == pytest.approx(ticked + BETWEEN_S)  # the last beat came in WAY_S after it was sent
        assert all(beat.votes == ("a",) for beat in town.hosts[voter].tick(due, 99))
        assert town.hosts[voter].next_tick() == pytest.approx(due + BEAT_S)


@pytest.mark.parametrize("who", "abcde")
def test_a_host_that_is_cut_off_loses_its_lease_before_it_is_given_up(town: Town, who: str) -> None:
    others = "abcde".replace(who, "")
    town.cut(who, others)
    lost = town.play(5.0, lambda: who not in town.leased())
    assert lost <= LEASE_S + BEAT_S
    assert town.dead(who) == ""
    town.play(1.0)
    assert town.dead(who) == others
    assert all(town.dead(one) == "" for one in others)


@pytest.mark.parametrize("who", "abcde")
@pytest.mark.parametrize("way", ["mute", "deaf"])
def test_one_way_is_not_enough(town: Town, who: str, way: str) -> None:
    """Whoever hears nobody is given up like whoever is not heard, and as fast, though its beats come in."""
    others = "abcde".replace(who, "")
    town.deaf = {(who, one) if way == "mute" else (one, who) for one in others}
    lost = town.play(5.0, lambda: who not in town.leased())
    assert town.dead(who) == ""
    assert lost + town.play(5.0, lambda: town.dead(who) == others) <= WIRED_S + 3 * BEAT_S
    assert who not in town.leased()


@pytest.mark.parametrize("way", ["gone", "mute", "deaf"])
def test_a_host_is_quiet_before_it_is_suspect(town: Town, way: str) -> None:
    """From when its lease may be over: a moment of silence says nothing, and nobody is given up for it."""
    town.deaf = {("a", one) for one in "bcde" if way != "deaf"} | {(one, "a") for one in "bcde" if way != "mute"}

    def seen(by: str) -> PeerHealth:
        return town.hosts[by].view(town.now).sights["a"]

    town.play(LEASE_S - 2 * BEAT_S)
    assert not seen("b").quiet
    took = town.play(5.0, lambda: all(seen(by).quiet for by in "bcde"))
    assert took <= 4 * BEAT_S + 0.4
    assert not any(seen(by).suspect for by in "bcde")
    town.deaf.clear()
    town.play(10.0)
    assert not any(seen(by).quiet for by in "bcde")


def test_whoever_said_that_its_lease_has_lapsed_takes_no_grant_that_comes_late(town: Town) -> None:
    """Nobody is bound to it by then."""
    town.deaf = {(one, "c") for one in "abde"}
    town.play(4 * BEAT_S)
    late = [town.last[one, "c"] for one in "ab"]
    town.play(5.0, lambda: town.last["c", "a"].lapsed)
    for beat in late:
        assert beat.granted > 0
        town.hosts["c"].hear(beat, town.now)
    assert "c" not in town.leased()
    town.deaf.clear()
    town.play(10.0)
    assert town.leased() == "abcde"


def test_one_bad_link_fences_nobody(town: Town) -> None:
    """An unverified word that a peer is down is only a word."""
    town.cut("a", "b")
    town.play(10.0)
    assert town.leased() == "abcde"
    assert [town.dead(one) for one in "ab"] == ["", ""]
    assert town.hosts["a"].view(town.now).sights["b"].suspect


def test_a_host_that_hears_only_a_minority_of_the_voters_is_given_up(town: Town) -> None:
    """Its link to one voter is well, and yet it has no lease: nothing would ever become of its roles."""
    town.cut("e", "abd")
    town.play(4.0, lambda: town.dead("e") != "")
    assert "a" in town.dead("e")
    assert "e" not in town.leased()


def test_without_a_majority_nobody_is_given_up_and_nobody_acts(town: Town) -> None:
    del town.hosts["a"], town.hosts["b"]
    town.play(5.0)
    assert town.leased() == ""
    assert [town.dead(one) for one in "ab"] == ["", ""]


def test_the_only_voter_decides_alone() -> None:
    town = Town("ab", "a")
    town.play(2.0)
    assert town.leased() == "ab"
    town.cut("a", "b")
    town.play(2.0)
    assert (town.leased(), town.dead("b"), town.dead("a")) == ("a", "a", "")


def test_a_host_that_returns_is_well_again_but_not_at_once(town: Town) -> None:
    """Votes that were made before cannot count any more by the time it holds a lease."""
    town.cut("c", "abde")
    town.play(3.0)
    town.deaf.clear()
    took = town.play(10.0, lambda: "c" in town.leased())
    assert STEADY_S + HOLD_S - 2 * BEAT_S <= took <= STEADY_S + HOLD_S + 1.0
    town.play(1.0)
    assert town.dead("c") == ""
    assert town.hosts["a"].view(town.now).sights["c"].well_s > 1.0


def test_a_host_that_slept_begins_anew(town: Town) -> None:
    boot = town.hosts["c"].view(town.now).boot
    town.frozen.add("c")
    town.play(4.0)
    town.frozen.clear()
    assert "c" not in town.leased()
    town.play(HOLD_S + 1.0)
    assert town.leased() == "abcde"
    assert town.hosts["c"].view(town.now).boot != boot


def test_whoever_stood_still_a_moment_blames_nobody(town: Town) -> None:
    town.frozen.add("a")
    town.play(0.8)
    town.frozen.clear()
    town.play(0.5)
    assert not any(sight.suspect for sight in town.hosts["a"].view(town.now).sights.values())
    assert [town.dead(one) for one in "abcde"] == [""] * 5


def test_a_quick_restart_is_no_death(town: Town) -> None:
    town.start("c")
    town.play(1.0)
    assert town.leased() == "abcde"
    assert town.dead("c") == ""


def test_a_host_that_was_never_heard_is_waited_for() -> None:
    """Programs take a while to start."""
    town = Town("abcd")
    del town.hosts["d"]
    town.play(START_S - 2 * BEAT_S)
    assert town.dead("d") == ""
    town.play(1.0)
    assert town.dead("d") == "abc"


@pytest.mark.parametrize("late_s", [0.5, 2.0, START_S - 3 * BEAT_S])
@pytest.mark.parametrize("voters", ["a", "abc"])
def test_a_host_is_not_missed_for_what_it_took_to_start_once_it_is_heard(late_s: float, voters: str) -> None:
    """Whoever joined is known to the others before its detector runs; its first beat begins what is borne."""
    town = Town("abcd", voters)
    del town.hosts["d"]
    town.play(late_s)
    town.start("d")
    took = town.play(5.0, lambda: "d" in town.leased() or town.dead("d") != "")
    assert town.dead("d") == ""
    assert took <= LEASE_S


def test_a_beat_that_is_played_back_proves_nothing(town: Town) -> None:
    """Neither of this boot nor of one before: a dead host stays dead."""
    old = town.last["c", "a"]
    del town.hosts["c"]
    town.play(1.0)
    for number in range(30):
        town.hosts["a"].hear(old, town.now)
        town.hosts["a"].hear(replace(old, stamp=Stamp(77, number + 1)), town.now)
        town.play(BEAT_S)
    assert "a" in town.dead("c")


def test_a_vote_that_comes_late_does_not_count(town: Town) -> None:
    """Of a voter that was heard last before it took its vote back."""
    town.cut("a", "c")
    town.play(3.0)
    late = replace(town.last["b", "a"], votes=("c",))
    town.cut("b", "a")
    town.play(2.0)
    town.hosts["a"].hear(replace(late, stamp=Stamp(late.stamp.boot, late.stamp.seq + 1000)), town.now)
    assert "a" not in town.dead("c")


def test_whoever_is_given_up_wrongly_again_and_again_is_borne_with_longer(town: Town) -> None:
    took = []
    for _ in range(3):
        town.cut("e", "abcd")
        took.append(town.play(20.0, lambda: town.dead("e") == "abcd"))
        town.deaf.clear()
        town.play(5.0)
    assert took[1] > 1.5 * took[0]
    assert took[2] > 1.5 * took[1]


def test_whoever_was_cut_off_for_long_is_found_as_fast_the_next_time(town: Town) -> None:
    for _ in range(3):
        town.cut("c", "abde")
        assert town.play(20.0, lambda: town.dead("c") == "abde") <= WIRED_S + 3 * BEAT_S
        town.play(1.0)
        town.deaf.clear()
        town.play(6.0)
        assert town.leased() == "abcde"


def test_strangers_are_not_heard(town: Town) -> None:
    town.hosts["a"].hear(Beat("z", "a", Stamp(1, 1)), town.now)
    town.hosts["a"].hear(replace(town.last["b", "a"], receiver="c"), town.now)
    assert "z" not in town.hosts["a"].view(town.now).sights
