"""When a standby's copy goes for a new one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from morgand.roles.db.refetch import REFUSED_S, STUCK_S, CopyReading, doubtful, refetch

NOW = 1000.0
LATE = NOW - STUCK_S
COPY = CopyReading(behind_s=0.0, counted_on=False, making=False, sick=False, led=None, now=NOW)
REFUSED = replace(COPY, behind_s=REFUSED_S)


@pytest.mark.parametrize(("seen", "since", "found"), [
    (COPY, None, (NOW, False)),
    (COPY, LATE + 0.1, (LATE + 0.1, False)),
    (COPY, LATE, (LATE, True)),
    (replace(REFUSED, led=True), None, (NOW, True)),  # it asks for what the primary no longer has
    (replace(REFUSED, led=False), None, (NOW, False)),
    (replace(REFUSED, led=False), LATE, (LATE, True)),
    (REFUSED, LATE, (LATE, False)),  # the primary does not answer
    (replace(COPY, counted_on=True), LATE, (None, False)),
    (replace(COPY, making=True), LATE, (None, False)),
    (replace(COPY, sick=True), LATE, (None, False)),
    (replace(REFUSED, led=True, counted_on=True), LATE, (None, False)),
])  # fmt: skip
def test_a_copy_goes_when_it_leads_nowhere_and_nobody_counts_on_it(
    seen: CopyReading, since: float | None, found: tuple[float | None, bool]
) -> None:
    assert refetch(seen, since) == found


@pytest.mark.parametrize(("behind_s", "ready", "found"), [
    (0.0, True, False),
    (0.0, False, True),
    (REFUSED_S, True, True),  # one that is refused says between times that it streams
])  # fmt: skip
def test_nothing_is_asked_of_a_copy_that_is_well(behind_s: float, ready: bool, found: bool) -> None:
    assert doubtful(behind_s, ready=ready) is found
