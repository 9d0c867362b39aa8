"""The house is held: each import contract breaks when it is violated, and functions stay short."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_FUNCTION_LINES = 70
MAX_FILE_LINES = 500

VIOLATIONS = {
    "layers": ("morgand/state/hosts.py", "import morgand.daemon"),
    "roles": ("morgand/roles/llm/service.py", "import morgand.roles.embedder.service"),
    "assistant": ("morgand/assistant/prompt.py", "import morgand.cluster"),
    "cli": ("morganctl/output.py", "import morgand.config"),
    "pure": ("morgand/assistant/rag/fuse.py", "import random"),
    "light": ("morgand/leader/planner.py", "import numpy"),
}


def lint(root: Path, contract: str | None = None) -> subprocess.CompletedProcess[str]:
    argv = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(
        argv + (["--contract", contract] if contract else []),
        cwd=root, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages and the contracts in a place where they may be violated."""
    for package in ("morgand", "morganctl"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


@pytest.mark.parametrize("contract", sorted(VIOLATIONS))
def test_contract_breaks_when_violated(copy: Path, contract: str) -> None:
    """A contract that cannot fail holds nothing: violate it and see it break."""
    file, line = VIOLATIONS[contract]
    assert lint(copy, contract).returncode == 0
    with (copy / file).open("a") as module:
        module.write(f"\n{line}\n")
    broken = lint(copy, contract)
    assert broken.returncode == 1, broken.stdout
    assert "BROKEN" in broken.stdout


def sources() -> list[Path]:
    folders = ("morgand", "morganctl", "benchmarks", "tests")
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def test_what_a_group_raises_is_caught_in_another_task() -> None:
    """See ``morgand.base.aio.isolated_task``: a task that goes on after it would end at its next timeout, unheard."""
    catching = [
        file
        for file in sources()
        if "morgand" in file.parts and "tests" not in file.parts and "except* " in file.read_text()
    ]
    assert catching
    assert [file.name for file in catching if "await isolated_task(" not in file.read_text()] == []


def test_no_cancellation_is_swallowed() -> None:
    """Who catches one raises it again; ``suppress`` cannot, and ``wait_for`` of Python 3.11 loses one that comes in the
    moment of a result. See ``morgand.base.aio.ended``."""
    caught = ("CancelledError", "BaseException")
    found = []
    for file in sources():
        if file.relative_to(ROOT).parts[0] not in ("morgand", "morganctl"):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.ExceptHandler(type=kind) if kind is None or any(one in ast.unparse(kind) for one in caught):
                    wrong = not any(isinstance(one, ast.Raise) and one.exc is None for one in ast.walk(node))
                    wrong &= kind is None or "Group" not in ast.unparse(kind)
                case ast.Call(func=func, args=args):
                    wrong = ast.unparse(func).endswith("wait_for") or (
                        ast.unparse(func).endswith("suppress")
                        and any(ast.unparse(one).endswith(caught) for one in args)
                    )
                case _:
                    continue
            if wrong:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)[:60]}")
    assert found == []


VIEWED = ("HostRecord", "Profile", "Assignment", "HostStatus", "HostFailures", "VoterRecord")


def decoded_by_hand(text: str) -> list[str]:
    """Calls of ``codec.decode`` for a kind of record that ``morgand.cluster.view`` has."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and node.args]
    return [
        f"{call.lineno}: {ast.unparse(call)[:60]}"
        for call in calls
        if ast.unparse(call.func).endswith("decode") and ast.unparse(call.args[0]).rpartition(".")[2] in VIEWED
    ]


def test_records_of_the_store_are_decoded_in_one_place() -> None:
    """Loops compare the values of a ``cluster.view.View``."""
    assert decoded_by_hand("found = codec.decode(codec.HostRecord, item.value, key=item.key)")
    inside = ROOT / "morgand" / "cluster"
    others = [file for file in sources() if (ROOT / "morgand") in file.parents and inside not in file.parents]
    found = {str(file.relative_to(ROOT)): by_hand for file in others if (by_hand := decoded_by_hand(file.read_text()))}
    assert found == {}


def test_functions_are_short() -> None:
    """No function is over 70 lines, no product file over 500."""
    long: list[str] = []
    for file in sources():
        text = file.read_text()
        if "tests" not in file.parts and text.count("\n") > MAX_FILE_LINES:
            long.append(f"{file.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {lines} lines")
    assert long == []


def read_late(tree: ast.ClassDef) -> set[str]:
    """Fields that ``__init__`` hands on before it sets them: in an argument, a lambda, or a method that reads them."""
    methods = {one.name: one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}

    def fields(part: ast.AST, kind: type[ast.expr_context], through: frozenset[str] = frozenset()) -> set[str]:
        names = {
            one.attr for one in ast.walk(part)
            if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name) and one.value.id == "self"
            and isinstance(one.ctx, kind)
        }  # fmt: skip
        own = {name for name in names if name in methods}
        inner = [fields(methods[name], kind, through | own) for name in own - through]
        return (names - own).union(*inner)

    late: set[str] = set()
    known: set[str] = set()
    for statement in methods["__init__"].body:
        late |= fields(statement, ast.Load) - known
        known |= fields(statement, ast.Store)
    return late


@pytest.mark.parametrize(
    ("body", "late"),
    [
        ("self.a = 1; self.b = f(self.a)", set()),
        ("self.b = f(lambda: self.a); self.a = 1", {"a"}),
        ("self.b = f(self.ask); self.a = 1", {"a"}),
        ("self.b = f(self.through); self.a = 1", {"a"}),
        ("self.a = 1; self.b = f(self.through)", set()),
    ],
)
def test_a_field_that_is_handed_on_too_early_is_found(body: str, late: set[str]) -> None:
    methods = "    def ask(self): return self.a\n    def through(self): return self.ask()\n"
    tree = ast.parse(f"class One:\n    def __init__(self): {body}\n{methods}").body[0]
    assert isinstance(tree, ast.ClassDef)
    assert read_late(tree) == late


def test_the_daemon_passes_values_that_exist() -> None:
    """No lambda and no method that it hands on reads a field that is set later: no circle but by a value made first."""
    tree = ast.parse((ROOT / "morgand/daemon.py").read_text())
    daemon = next(one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "Daemon")
    assert read_late(daemon) == set()
