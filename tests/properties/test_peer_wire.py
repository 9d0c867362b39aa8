"""Whatever a port's hints allow travels between hosts and arrives as it was, for every method of every port."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morgand.peers import wire
from morgand.state.ports import Chat, Embedder, History, Library, Reranker, Vectors

METHODS = [
    (protocol, name)
    for protocol in (Chat, Embedder, History, Library, Reranker, Vectors)
    for name in vars(protocol)
    if not name.startswith("_")
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    bytes: st.binary(max_size=8),
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    type(None): st.none(),
    datetime: st.datetimes(timezones=st.just(UTC)),
}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type hint that ports use. An unknown kind of hint fails the test."""
    if hint in PLAIN:
        return PLAIN[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of([values(one) for one in args])
    if origin in (list, Sequence):
        return st.lists(values(args[0]), max_size=2)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(values(args[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, args))
    if origin is dict:
        return st.dictionaries(values(args[0]), values(args[1]), max_size=2)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    assert isinstance(hint, type)
    assert is_dataclass(hint), f"{hint} is not known to travel"
    hints = get_type_hints(hint)
    return st.builds(hint, **{one.name: values(hints[one.name]) for one in fields(hint)})


@pytest.mark.parametrize(("protocol", "method"), METHODS, ids=[f"{one.__name__}.{name}" for one, name in METHODS])
def test_every_call_and_result_arrives_as_it_was(protocol: type, method: str) -> None:
    signature = wire.signature_of(protocol, method)
    arguments = st.fixed_dictionaries({name: values(kind) for name, kind in signature.parameters})

    @settings(max_examples=20, deadline=None, database=None)
    @given(arguments=arguments, result=values(signature.result))
    def travel(arguments: dict[str, Any], result: Any) -> None:
        assert wire.unpack_arguments(signature, wire.pack_arguments(signature, (), arguments)) == arguments
        assert wire.unpack(signature, wire.pack(result)) == result

    travel()
