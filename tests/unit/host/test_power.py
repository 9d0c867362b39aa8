"""Goodbyes: what logind says, what is done about it, and how long that may take."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import pytest

from morgand.host.power.bus import SIGNALS, as_it_stands, socket_of
from morgand.host.power.events import Back, Leaving
from morgand.host.power.logind import Logind
from morgand.host.power.machine import Unannounced, power_events
from morgand.host.power.steps import LONGEST_S, STEPS, PowerAction, PowerNews, Standing, hand_over_s

LEAVES = (PowerNews.SLEEPS, PowerNews.GOES_DOWN)


@pytest.mark.parametrize(
    ("delay_max_us", "expected_s"),
    [
        (5_000_000, 4.0),
        (30_000_000, 24.0),
        (0, 0.0),
        (2**64 - 1, LONGEST_S),  # how systemd writes infinity
    ],
)
def test_handing_over_takes_four_fifths_of_the_wait_at_most(delay_max_us: int, expected_s: float) -> None:
    """The lock is closed before the machine loses patience, and a machine that would wait for ever is not kept."""
    assert hand_over_s(delay_max_us) == pytest.approx(expected_s)


def test_the_table_knows_every_pair() -> None:
    """Whatever logind says, however the machine stands, something is written about it."""
    assert set(STEPS) == set(itertools.product(Standing, PowerNews))


@pytest.mark.parametrize(
    ("before", "news"),
    [(Standing.HERE, PowerNews.SLEEPS), (Standing.HERE, PowerNews.GOES_DOWN), (Standing.SLEEPING, PowerNews.GOES_DOWN)],
)
def test_leaving_hands_over_and_then_lets_the_machine_go(before: Standing, news: PowerNews) -> None:
    """The lock is released after handing over and never before, also when a sleep turns into a shutdown."""
    step = STEPS[before, news]
    assert step.then is (Standing.SLEEPING if news is PowerNews.SLEEPS else Standing.GOING_DOWN)
    assert step.acts == (PowerAction.HAND_OVER, PowerAction.RELEASE)


@pytest.mark.parametrize(
    ("before", "news"),
    [
        (Standing.SLEEPING, PowerNews.SLEEPS),
        (Standing.GOING_DOWN, PowerNews.GOES_DOWN),
        (Standing.GOING_DOWN, PowerNews.SLEEPS),
    ],
)
def test_what_is_said_twice_is_done_once(before: Standing, news: PowerNews) -> None:
    """A signal and the properties may say the same: handing over is not broken off to begin anew."""
    step = STEPS[before, news]
    assert step.then is before
    assert step.acts == ()


@pytest.mark.parametrize("before", [Standing.SLEEPING, Standing.GOING_DOWN])
def test_coming_back_makes_the_machine_wait_again_before_anyone_is_told(before: Standing) -> None:
    """The next sleep may follow at once: the lock comes first."""
    step = STEPS[before, PowerNews.STAYS]
    assert step.then is Standing.HERE
    assert step.acts == (PowerAction.TAKE, PowerAction.TELL_BACK)


def test_who_was_not_away_does_not_come_back() -> None:
    """At the start, and when logind was restarted, a lock is taken and nobody is told anything."""
    assert STEPS[Standing.HERE, PowerNews.STAYS].acts == (PowerAction.TAKE,)


@pytest.mark.parametrize("before", Standing)
def test_a_logind_that_ends_says_nothing_of_the_machine(before: Standing) -> None:
    """What it gave is released; whether the machine is away stays as it was."""
    step = STEPS[before, PowerNews.SILENT]
    assert step.then is before
    assert step.acts == (PowerAction.RELEASE,)


@pytest.mark.parametrize("kind", LEAVES)
def test_each_departure_is_taken_back_by_its_own_signal(kind: PowerNews) -> None:
    """A shutdown may be called off, as a sleep ends."""
    starts = [member for (member, starting), news in SIGNALS.items() if starting and news is kind]
    assert [SIGNALS[member, False] for member in starts] == [PowerNews.STAYS]


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({}, PowerNews.STAYS),
        ({"PreparingForSleep": False, "PreparingForShutdown": False}, PowerNews.STAYS),
        ({"PreparingForSleep": True, "PreparingForShutdown": False}, PowerNews.SLEEPS),
        ({"PreparingForSleep": False, "PreparingForShutdown": True}, PowerNews.GOES_DOWN),
    ],
)
def test_what_was_missed_is_seen_in_the_properties(properties: dict[str, bool], expected: PowerNews) -> None:
    """A daemon that starts while the machine is on its way down knows it."""
    assert as_it_stands(properties) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("unix:path=/run/dbus/system_bus_socket", Path("/run/dbus/system_bus_socket")),
        ("unix:path=/tmp/a%20b,guid=0123", Path("/tmp/a b")),
        ("unix:abstract=/tmp/a", None),
        ("tcp:host=127.0.0.1,port=4000", None),
        ("unix:path=/a;unix:path=/b", None),
    ],
)
def test_the_socket_of_an_address(address: str, expected: Path | None) -> None:
    """Only where the address is one path can it be seen without connecting whether there is a bus."""
    assert socket_of(address) == expected


async def nobody(news: Leaving | Back) -> None:
    raise AssertionError(news)


async def test_other_systems_announce_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """There it is said once, and the daemon goes on."""
    caplog.set_level(logging.INFO)
    events = power_events("darwin")
    assert isinstance(events, Unannounced)
    await events.run(nobody)
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_linux_asks_logind() -> None:
    assert isinstance(power_events("linux"), Logind)
