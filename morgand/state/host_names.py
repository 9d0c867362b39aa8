"""What people call a host: its name, and the first letters of its id where another host has the same name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from morgand.base.errors import Conflict, NotFound

LETTERS = 4  # of an id, at least


def suffixes(names: Mapping[str, str]) -> dict[str, str]:
    """Of hosts (id to name): as many letters of the id as tell it from others of its name; none for all the others."""
    shared = Counter(names.values())
    twins = [host for host, name in names.items() if shared[name] > 1]
    return {host: _letters(host, twins) for host in twins}


def display_names(names: Mapping[str, str]) -> dict[str, str]:
    """Id to what people read."""
    more = suffixes(names)
    return {host: display_name(name, more.get(host, "")) for host, name in names.items()}


def display_name(name: str, suffix: str) -> str:
    return f"{name} ({suffix})" if suffix else name


def find(names: Mapping[str, str], word: str) -> str:
    """The id of the one host that is meant by its name, its id or the beginning of that.

    Raises NotFound that names those there are, Conflict when several are meant.
    """
    shown = display_names(names)
    found = [host for host in names if word == host]
    found = found or [host for host, name in names.items() if word in (name, shown[host])]
    found = found or [host for host in names if len(word) >= LETTERS and host.startswith(word)]
    if not found:
        raise NotFound(f"There is no host '{word}'; there are {', '.join(sorted(shown.values()))}.")
    if len(found) > 1:
        told = ", ".join(sorted(shown[host] for host in found))
        raise Conflict(f"'{word}' means {len(found)} hosts: {told}.", remedy="Name one by the letters of its id.")
    return found[0]


def _letters(host: str, others: list[str]) -> str:
    count = LETTERS
    while count < len(host) and any(one != host and one.startswith(host[:count]) for one in others):
        count += 1
    return host[:count]
