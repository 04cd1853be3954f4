"""What holds the rooms together: who imports whom, how long a module may be, who may speak to the terminal.

The order of the rooms itself is a contract of import-linter (pyproject.toml), which `make test` checks.
"""

import ast
import re
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

import hf_vec2vec

PACKAGE = Path(hf_vec2vec.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LIBRARY = [path for path in MODULES if "cli" not in path.relative_to(PACKAGE).parts]
LONGEST_MODULE = 400  # lines
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]+")
COMMAND = re.compile(r"hf-vec2vec [a-z]")
OF_PIP = ("--upgrade", "--no-deps")  # flags of another program


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def strings(tree: ast.AST) -> list[str]:
    """Every string that a message could be made of, docstrings and the parts of f-strings included."""
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("hf_vec2vec", cache_dir=None)


def test_no_circle_between_files(graph):
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert sum(map(len, imports.values())) > 100
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_contract_ignores_no_import():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert [contract["type"] for contract in contracts] == ["layers"]
    assert not any("ignore_imports" in contract for contract in contracts)


def test_every_room_is_in_the_contract():
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    named = {room.strip() for layer in contract["layers"] for room in layer.split(":")}
    assert named == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_the_library_knows_nothing_of_the_command_line(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    said = strings(tree)
    assert [text for text in said if set(FLAG.findall(text)) - set(OF_PIP)] == []
    assert [text for text in said if COMMAND.search(text)] == []
    called = [node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    assert "print" not in called


@pytest.mark.parametrize("room", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_a_room_says_what_it_is_for(room):
    assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))


def test_tests_do_not_import_from_one_another():
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(part.startswith("test_") for module in names for part in module.split(".")), path
