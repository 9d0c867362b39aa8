"""Errors keep their kind between hosts and between processes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from morgand.base import errors
from morgand.base.error_wire import from_wire, to_wire
from morgand.base.errors import EngineError, MorganError, NotFound, StorageFull

KINDS = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, MorganError)]
# a root that is only caught, and what is told of without its trace: each comes as the kind that it is called as
AS = {errors.NotHereNow: errors.Unavailable, errors.Unforeseen: MorganError}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_comes_as_what_it_was(kind: Any) -> None:
    """With its remedy, and how long to wait: a damaged database is no engine that may be asked again."""
    more = {"retry_after_s": 7.0} if "retry_after_s" in inspect.signature(kind).parameters else {}
    found = from_wire(to_wire(kind("It is so.", remedy="Do this.", **more)), "Host b")
    assert type(found) is AS.get(kind, kind)
    assert (found.message, found.remedy) == ("It is so.", "Do this.")
    assert getattr(found, "retry_after_s", None) == more.get("retry_after_s")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StorageFull("The disk is full."), "On atlas: The disk is full."),
        (EngineError("The llm engine is not running."), "On atlas: The llm engine is not running."),
        (MorganError("The database file is damaged."), "On atlas: The database file is damaged."),
        (NotFound("There is no document 'x'."), "There is no document 'x'."),
    ],
)
def test_what_is_wrong_with_a_host_is_told_with_its_name(error: MorganError, told: str) -> None:
    """It is to be mended there; what is wrong with a request is the same everywhere."""
    assert from_wire(to_wire(error, at="atlas"), "Host b").message == told


def test_what_is_no_error_names_the_other_side() -> None:
    assert str(from_wire(b"nonsense", "Host b")).startswith("Host b answered")
