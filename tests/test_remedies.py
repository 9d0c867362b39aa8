"""Every message that offers a person something to do stands in ``remedies.toml``, with the test that does it.

A remedy is found by its words: it names a command of ours, installs something, or says to delete, start or join anew.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from morganctl.cli import cli as morganctl
from morgand.__main__ import cli as morgand

ROOT = Path(__file__).parents[1]
OFFERS = re.compile(
    r"`(?:morgand|morganctl)\b|\b(?:apt-get|pip) install\b|\bdelete (?:host\.json|\{\}(?! everywhere|\?))"
    r"|\b(?:start|join) (?:again|anew)\b|\bRecover on\b",
    re.IGNORECASE,
)
COMMAND = re.compile(r"`(morgand|morganctl)((?: [^`]+)?)`")
PROGRAMS: dict[str, click.Command] = {"morgand": morgand, "morganctl": morganctl}


def text_of(node: ast.AST) -> str | None:
    """A text as it is written, with {} for what is only known when it is said."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or "{}" for part in node.values)
    return None


def spoken(tree: ast.Module) -> Iterator[str]:
    """The texts of a module, but for docstrings."""
    inside = {id(part) for one in ast.walk(tree) if isinstance(one, ast.JoinedStr) for part in one.values}
    inside |= {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    for one in ast.walk(tree):
        if id(one) not in inside and (text := text_of(one)) is not None:
            yield text


def offered() -> set[str]:
    files = [file for package in ("morgand", "morganctl") for file in (ROOT / package).rglob("*.py")]
    return {text for file in files for text in spoken(ast.parse(file.read_text())) if OFFERS.search(text)}


TABLE = tomllib.loads((Path(__file__).parent / "remedies.toml").read_text())
FOLLOWED: dict[str, str] = TABLE["followed"]
OWED: dict[str, str] = TABLE["owed"]  # each with the reason


def test_every_remedy_is_followed_or_owed() -> None:
    """A new message with a remedy needs a line, and one that is gone takes its line with it."""
    found = offered()
    assert sorted(found - FOLLOWED.keys() - OWED.keys()) == []
    assert sorted((FOLLOWED.keys() | OWED.keys()) - found) == []
    assert FOLLOWED.keys().isdisjoint(OWED.keys())


def test_every_test_that_is_named_is_there() -> None:
    missing = [
        test for test in FOLLOWED.values()
        if f"def {test.partition('::')[2]}(" not in (ROOT / test.partition("::")[0]).read_text()
    ]  # fmt: skip
    assert missing == []


@pytest.mark.parametrize("words", sorted({match.groups() for text in offered() for match in COMMAND.finditer(text)}))
def test_every_command_that_is_named_exists(words: tuple[str, str]) -> None:
    """With its options: whoever types it is not told that there is no such thing."""
    program, rest = words
    command = PROGRAMS[program]
    for word in rest.split():
        if word.startswith("--"):
            assert any(word in option.opts for option in (*command.params, *PROGRAMS[program].params)), words
        elif isinstance(command, click.Group) and word != "{}s":
            command = command.get_command(click.Context(command), word) or pytest.fail(f"no {word}: {words}")
        else:
            break
