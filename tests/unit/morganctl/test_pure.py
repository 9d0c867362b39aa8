"""Decisions that need no daemon: events, retries, log windows, safe text."""

from __future__ import annotations

import os
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from morganctl.commands.logs import fresh
from morganctl.files import display_name, source_of, text_of
from morganctl.output import clean, one_line
from morganctl.retry import delay_s, parse_retry_after
from morganctl.sse import Event, Parser

STREAM = (
    'event: delta\r\ndata: {"text":"grün"}\r\n\r\n: comment\n\nevent: done\rdata: a\rdata: b\r\rdata: x\n\n'.encode()
)
EVENTS = [Event("delta", '{"text":"grün"}'.encode()), Event("done", b"a\nb"), Event("message", b"x")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_do_not_depend_on_where_the_stream_is_cut(cuts: list[int]) -> None:
    """The same events come out wherever the bytes are split."""
    parser = Parser()
    edges = [0, *sorted(cuts), len(STREAM)]
    found = [event for a, b in pairwise(edges) for event in parser.feed(STREAM[a:b])]
    assert found == EVENTS


def test_events_byte_by_byte() -> None:
    """One byte at a time works too."""
    parser = Parser()
    assert [event for byte in STREAM for event in parser.feed(bytes([byte]))] == EVENTS


def test_delays_grow_and_end() -> None:
    """Three retries, doubling; Retry-After is honoured up to ten seconds."""
    assert [delay_s(n) for n in range(4)] == [0.2, 0.4, 0.8, None]
    assert delay_s(0, 7.0) == 7.0
    assert delay_s(0, 11.0) is None
    assert delay_s(3, 1.0) is None
    assert [parse_retry_after(text) for text in ("3", None, "", "Wed, 21 Oct")] == [3.0, None, None, None]


@given(st.text())
def test_clean_text_is_safe_and_encodable(text: str) -> None:
    """Whatever comes in, what is shown has no escape character and can be written as UTF-8."""
    for shown in (clean(text), one_line(text), one_line(text + "\x1b[2J\u202e\ud800")):
        shown.encode()
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert "\n" not in one_line(text)


def test_names_keep_their_bytes_apart() -> None:
    """What is shown cannot fake another line; what a file is known by is its path to the letter."""
    assert text_of("a\udcff") == "a\\xff"
    assert source_of("/x/two\nlines\udcff%.txt") == "file:/x/two%0Alines%FF%25.txt"
    assert source_of("/x/two\nlines.txt") == "/x/two\nlines.txt"
    assert source_of("/x/two  lines\u202f.txt") == "/x/two  lines\u202f.txt"
    assert display_name("/x/two\nlines\udcff.txt") == "two%0Alines%FF.txt"
    assert display_name("/x/back\\slash at 9\u202fPM.txt") == "back%5Cslash at 9 PM.txt"
    assert len(display_name("/x/" + "n" * 300 + ".txt")) == 255
    assert display_name("/x/" + "n" * 300 + ".txt").endswith(".txt")


@given(st.lists(st.binary(min_size=1, max_size=6).filter(lambda name: b"\0" not in name), unique=True, max_size=8))
def test_distinct_paths_are_distinct_sources(names: list[bytes]) -> None:
    """Whatever bytes they have; each can be sent."""
    sources = [source_of("/" + os.fsdecode(name)) for name in names]
    assert len({one.encode() for one in sources}) == len(names)


def test_following_a_log_shows_each_line_once() -> None:
    """Only lines after the known window are new; a window that lost touch is shown whole."""
    assert fresh(["a", "b"], ["b", "c"]) == ["c"]
    assert fresh([], ["a"]) == ["a"]
    assert fresh(["a", "b"], ["a", "b"]) == []
    assert fresh(["a"], ["x", "y"]) == ["x", "y"]
