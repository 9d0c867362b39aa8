"""What programs of different versions in one cluster know of the database, and what may be done by that. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schema:
    """How far a database's schema is, or which one a program knows: the number of the last migration of each phase.

    ``pre`` ones add, and a program that does not know them goes on working; ``post`` ones take away.
    """

    pre: int = 0
    post: int = 0


OLDEST = Schema()  # of a program that says nothing of it


def agreed_post(members: Iterable[str], told: Mapping[str, Schema]) -> int:
    """The last migration after which every member can still use the database, those that are away included; 0 for none.

    ``told``: what each host's program knows. A member that has never said anything may be of any version.
    """
    return min((told.get(one, OLDEST).post for one in {*members, *told}), default=0)
