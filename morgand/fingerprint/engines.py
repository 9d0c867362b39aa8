"""Engines this host can run, under their catalogue names, with version and path. Nothing is imported or started,
except programs that are asked for their version, and a child that says whether PostgreSQL's account could run it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import morgand
from morgand.fingerprint import probe
from morgand.process import account
from morgand.state.hosts import Engine

log = logging.getLogger("morgand.fingerprint")

VERSION = re.compile(r"\d+(?:\.\d+)+[-+.\w]*")


@dataclass(frozen=True, slots=True)
class Program:
    """An engine that is a program on PATH (the first of its names) or in well-known places."""

    engine: str
    names: tuple[str, ...]
    version: tuple[str, ...] = ("--version",)
    places: tuple[str, ...] = ()  # glob patterns


PROGRAMS = (
    Program("ollama", ("ollama",)),
    Program("postgresql", ("postgres",), places=("/usr/lib/postgresql/*/bin/postgres",)),
    Program("etcd", ("etcd",)),
    Program("serf", ("serf",), version=("version",)),
    Program("redis", ("redis-server", "valkey-server")),
    Program("qdrant", ("qdrant",)),
    Program("seaweedfs", ("weed",), version=("version",)),
    Program("prometheus", ("prometheus",)),
)
PACKAGES = (  # engine, distributions it needs (the first gives the version), module that shows the path
    ("llama.cpp", ("xllamacpp",), "xllamacpp"),
    ("onnx", ("onnxruntime", "tokenizers"), "onnxruntime"),
    ("sentence-transformers", ("sentence-transformers", "torch"), "sentence_transformers"),
    ("qdrant-edge", ("qdrant-edge-py",), "qdrant_edge"),
)


POSTGRES_MAJOR = 15  # the oldest that is run


def engines(before: Sequence[Engine] = ()) -> tuple[Engine, ...]:
    """Everything found, by name. A program that does not answer in time is what it was ``before``."""
    was = {engine.name: engine for engine in before}
    here = str(Path(morgand.__file__).parent)
    own = [Engine(name, morgand.__version__, here) for name in ("assistant", "memory", "folder")]
    found = [*own, Engine("sqlite", sqlite3.sqlite_version, sys.executable), *_packages()]
    with ThreadPoolExecutor(max_workers=len(PROGRAMS)) as pool:
        asked = pool.map(lambda program: _program(program, was.get(program.engine)), PROGRAMS)
        found += [engine for engine in asked if engine is not None]
    return tuple(sorted(found, key=lambda engine: engine.name))


def _packages() -> list[Engine]:
    found = []
    for engine, distributions, module in PACKAGES:
        try:
            versions = [importlib.metadata.version(name) for name in distributions]
        except importlib.metadata.PackageNotFoundError:
            continue
        spec = importlib.util.find_spec(module)
        if spec is not None:
            found.append(Engine(engine, versions[0], str(Path(spec.origin or "").parent)))
    return found


def _program(program: Program, before: Engine | None) -> Engine | None:
    path = find(program.names, program.places)
    if path is None:
        return None
    try:
        found = Engine(program.engine, parse_version(probe.ask([path, *program.version]) or ""), path)
        return usable_postgres(found) if program.engine == "postgresql" else found
    except TimeoutError as err:
        log.info("engine not asked", extra={"engine": program.engine, "reason": str(err)})
        # of PostgreSQL more than the version is to be known before it is used
        return before or (None if program.engine == "postgresql" else Engine(program.engine, parse_version(""), path))


def usable_postgres(postgres: Engine) -> Engine | None:
    """PostgreSQL is one engine with Patroni. If it cannot be used the log says why. Raises TimeoutError."""
    program = str(Path(postgres.path).resolve())  # the other programs lie beside the real one
    if _numbers(Path(postgres.version))[:1] < [POSTGRES_MAJOR]:
        reason: str | None = f"PostgreSQL {postgres.version} is older than {POSTGRES_MAJOR}."
    elif sys.platform != "linux":
        reason = "PostgreSQL is run on Linux only: elsewhere nothing would end it with the daemon."
    else:
        reason = account.why_not(program)
    if reason is None:
        return replace(postgres, path=program)
    log.info("PostgreSQL is not used", extra={"reason": reason})
    return None


def find(names: Sequence[str], places: Sequence[str]) -> str | None:
    """The first name on PATH, else the newest of the well-known places."""
    for name in names:
        if (path := shutil.which(name)) is not None:
            return path
    beside = [Path(sys.executable).parent / name for name in names]  # a virtual environment that is not activated
    known = sorted((path for place in places for path in Path("/").glob(place.lstrip("/"))), key=_numbers, reverse=True)
    return next((str(path) for path in [*beside, *known] if path.is_file()), None)


def parse_version(text: str) -> str:
    """The first version number in what a program prints, or ``unknown``."""
    match = VERSION.search(text)
    return match.group(0) if match else "unknown"


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]
