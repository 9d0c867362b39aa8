"""Engines this host can run, under their catalogue names, with version and path. Nothing is imported or started,
except programs that are asked for their version, and what looks whether they can be used."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import morgand
from morgand.fingerprint import probe
from morgand.state.hosts import Engine

log = logging.getLogger("morgand.fingerprint")

VERSION = re.compile(r"\d+(?:\.\d+)+[-+.\w]*")


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """An engine that comes with Morgan; of its own version where none is said."""

    engine: str
    version: str | None = None
    how_to_get: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """An engine that is in Python packages: the first distribution gives the version, ``module`` the path."""

    engine: str
    distributions: tuple[str, ...]
    module: str
    how_to_get: str = ""


@dataclass(frozen=True, slots=True)
class Program:
    """An engine that is a program on PATH (the first of its names) or in well-known places.

    ``usable`` looks at what was found, and gives None for what cannot be used. It raises TimeoutError.
    """

    engine: str
    names: tuple[str, ...]
    version: tuple[str, ...] = ("--version",)
    places: tuple[str, ...] = ()  # glob patterns
    usable: Callable[[Engine], Engine | None] | None = None
    how_to_get: str = ""


EngineSource = BuiltIn | Package | Program


def engines(sources: Sequence[EngineSource], before: Sequence[Engine] = ()) -> tuple[Engine, ...]:
    """Those that are here, by name. A program that does not answer in time is what it was ``before``."""
    was = {engine.name: engine for engine in before}
    here = str(Path(morgand.__file__).parent)
    found: list[Engine | None] = []
    programs: list[Program] = []
    for source in sources:
        match source:
            case BuiltIn():
                found.append(Engine(source.engine, source.version or morgand.__version__, here))
            case Package():
                found.append(_package(source))
            case Program():
                programs.append(source)
    with ThreadPoolExecutor(max_workers=max(1, len(programs))) as pool:
        found += pool.map(lambda program: _program(program, was.get(program.engine)), programs)
    return tuple(sorted((engine for engine in found if engine is not None), key=lambda engine: engine.name))


def _package(source: Package) -> Engine | None:
    try:
        versions = [importlib.metadata.version(name) for name in source.distributions]
    except importlib.metadata.PackageNotFoundError:
        return None
    spec = importlib.util.find_spec(source.module)
    return Engine(source.engine, versions[0], str(Path(spec.origin or "").parent)) if spec is not None else None


def _program(program: Program, before: Engine | None) -> Engine | None:
    path = find(program.names, program.places)
    if path is None:
        return None
    try:
        found = Engine(program.engine, parse_version(probe.ask([path, *program.version]) or ""), path)
        return program.usable(found) if program.usable is not None else found
    except TimeoutError as err:
        log.info("engine not asked", extra={"engine": program.engine, "reason": str(err)})
        # where more than the version is to be known before it is used, it is not used
        return before or (None if program.usable is not None else Engine(program.engine, parse_version(""), path))


def find(names: Sequence[str], places: Sequence[str]) -> str | None:
    """The first name on PATH, else the newest of the well-known places."""
    for name in names:
        if (path := shutil.which(name)) is not None:
            return path
    beside = [Path(sys.executable).parent / name for name in names]  # a virtual environment that is not activated
    known = sorted((path for place in places for path in Path("/").glob(place.lstrip("/"))), key=numbers, reverse=True)
    return next((str(path) for path in [*beside, *known] if path.is_file()), None)


def parse_version(text: str) -> str:
    """The first version number in what a program prints, or ``unknown``."""
    match = VERSION.search(text)
    return match.group(0) if match else "unknown"


def numbers(path: Path) -> list[int]:
    """Those in a path or a version, for comparing."""
    return [int(number) for number in re.findall(r"\d+", str(path))]
