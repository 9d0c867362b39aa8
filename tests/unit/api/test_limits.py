"""The arithmetic of limits, of frames and of messages."""

from __future__ import annotations

import pytest

from morgand.api import sse
from morgand.api.limits import Bucket, take
from morgand.api.turns import AcceptedEvent
from morgand.api.upload import display_name


@pytest.mark.parametrize(
    ("bucket", "now_s", "per_minute", "left", "wait_s"),
    [
        (None, 0.0, 60, 59.0, 0.0),
        (Bucket(1.0, 0.0), 0.0, 60, 0.0, 0.0),
        (Bucket(0.0, 0.0), 0.0, 60, 0.0, 1.0),
        (Bucket(0.0, 0.0), 0.5, 60, 0.5, 0.5),
        (Bucket(0.0, 0.0), 1.0, 60, 0.0, 0.0),
        (Bucket(0.0, 0.0), 1000.0, 60, 59.0, 0.0),
        (Bucket(0.0, 0.0), 0.0, 10, 0.0, 6.0),
        (Bucket(100.0, 0.0), 0.0, 10, 9.0, 0.0),  # the limit was lowered
        (Bucket(5.0, 10.0), 0.0, 10, 4.0, 0.0),  # time never runs backwards
    ],
)
def test_a_bucket_gives_a_minutes_worth(
    bucket: Bucket | None, now_s: float, per_minute: int, left: float, wait_s: float
) -> None:
    """Tokens refill evenly and never exceed the limit."""
    after, wait = take(bucket, now_s, per_minute)
    assert (after.tokens, wait) == pytest.approx((left, wait_s))


def test_an_event_is_one_name_one_line_of_data_and_an_empty_line() -> None:
    """Line breaks in the text stay inside the JSON."""
    assert sse.event("accepted", AcceptedEvent("a\nb", "c")) == (
        b'event: accepted\ndata: {"id":"a\\nb","conversation":"c"}\n\n'
    )


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("a.txt", "a.txt"), ("../../etc/passwd", "passwd"), ("C:\\x\\b.pdf", "b.pdf"), ("a\nb\x00.txt", "a b.txt"),
        ("..", "document"), ("", "document"), (None, "document"), ("x" * 300, "x" * 255), ("\udcff.txt", ".txt"),
    ],
)  # fmt: skip
def test_names_are_cleaned_for_display(raw: str | None, shown: str) -> None:
    """No path, no control character, never empty."""
    assert display_name(raw) == shown
