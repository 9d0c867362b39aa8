"""What people call hosts, and what they may type for one."""

from __future__ import annotations

import pytest

from morgand.base.errors import Conflict, NotFound
from morgand.state.host_names import display_names, find

TWINS = {"3f2a90": "attic", "3f2b17": "attic", "9bc1d2": "cellar"}


def test_a_name_is_enough_where_nobody_else_has_it() -> None:
    assert display_names(TWINS) == {"3f2a90": "attic (3f2a)", "3f2b17": "attic (3f2b)", "9bc1d2": "cellar"}


def test_as_many_letters_as_tell_them_apart() -> None:
    assert display_names({"abcdef1": "a", "abcdef2": "a"}) == {"abcdef1": "a (abcdef1)", "abcdef2": "a (abcdef2)"}


def test_a_host_is_meant_by_name_id_or_the_beginning_of_that() -> None:
    for word in ("3f2a90", "3f2a", "attic (3f2a)"):
        assert find(TWINS, word) == "3f2a90"
    assert find(TWINS, "cellar") == "9bc1d2"


def test_a_word_that_means_several_or_none_names_those_there_are() -> None:
    with pytest.raises(Conflict, match=r"'attic' means 2 hosts: attic \(3f2a\), attic \(3f2b\)"):
        find(TWINS, "attic")
    with pytest.raises(NotFound, match=r"there are attic \(3f2a\), attic \(3f2b\), cellar"):
        find(TWINS, "3f2")
