"""The package graph: imports only downward, no cycle, no long file or function, links that nothing uses."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from paths import ROOT, TESTS

PACKAGE = ROOT / "gristmill"
ORDER = ["core", "engines", "verifiers", "filters", "synth", "train", "testing", "pipelines", "cli"]
LINKS = ["synth", "filters", "verifiers", "pipelines", "data"]
FILE_LIMIT, FUNCTION_LIMIT = 400, 60
REASON = "longer than"
"""A docstring with these words gives the reason for a file or function over the limit."""
FOLDER_LIMIT = 16
MANY = "more modules than"
"""A package's docstring with these words gives the reason for a folder over the limit."""

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
SOURCES = sorted(
    p for folder in ("gristmill", "tests", "tools", "benchmarks") for p in (ROOT / folder).rglob("*.py")
)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


@cache
def parts(path: Path) -> list[ast.AST]:
    """The imports and functions of a file, however deep: one walk for all tests, since walking is slow."""
    wanted = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree(path)) if isinstance(node, wanted)]


def imports(module: str, path: Path) -> Iterator[str]:
    """The modules of this package that ``module`` imports, also inside functions and for type checking."""
    for node in parts(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = module.split(".")[: -node.level + (path.name == "__init__.py") or None]
                base = ".".join([*parent, *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in MODULES:
                    yield inner
                elif base in MODULES:
                    yield base


def package(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else None


def test_every_package_has_its_place() -> None:
    assert sorted(p.parent.name for p in PACKAGE.glob("*/__init__.py")) == sorted(ORDER)


def test_packages_import_only_downward() -> None:
    wrong = []
    for module, path in MODULES.items():
        own = package(module)
        for imported in imports(module, path):
            theirs = package(imported)
            if own is not None and theirs is not None and ORDER.index(theirs) > ORDER.index(own):
                wrong.append(f"{module} imports {imported}, which is above it")
    assert wrong == []


def test_there_is_no_import_cycle() -> None:
    """Not even one through imports inside functions or for type checking only."""
    graph = {m: set(imports(m, p)) - {m} for m, p in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"cycle: {' -> '.join([*trail, module])}"
        if module not in done:
            for imported in graph[module]:
                visit(imported, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_benchmarks_and_tools_import_what_there_is() -> None:
    """No other test runs them."""
    lost = [
        f"{path.relative_to(ROOT)}: {node.module}.{name.name}"
        for path in sorted([*ROOT.glob("benchmarks/*.py"), *ROOT.glob("tools/*.py")])
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gristmill")
        for name in node.names
        if not _there(node.module or "", name.name)
    ]
    assert not lost


def _there(module: str, name: str) -> bool:
    found = import_module(module)
    return hasattr(found, name) or (hasattr(found, "__path__") and find_spec(f"{module}.{name}") is not None)


def test_files_and_functions_are_short_or_say_why_not() -> None:
    long = []
    for path in SOURCES:
        lines = len(path.read_text().splitlines())
        if lines > FILE_LIMIT and REASON not in (ast.get_docstring(tree(path)) or ""):
            long.append(f"{path} has {lines} lines")
        for node in parts(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                if length > FUNCTION_LIMIT and REASON not in (ast.get_docstring(node) or ""):
                    long.append(f"{path}:{node.lineno} {node.name} has {length} lines")
    assert long == []


def test_no_folder_is_one_to_search_in() -> None:
    crowded = []
    for init in PACKAGE.rglob("__init__.py"):
        modules = [path for path in init.parent.glob("*.py") if path != init]
        if len(modules) > FOLDER_LIMIT and MANY not in (ast.get_docstring(tree(init)) or ""):
            crowded.append(f"{init.parent} has {len(modules)} modules")
    assert crowded == []


def test_no_public_class_has_two_meanings() -> None:
    homes: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_root_links_lead_into_the_package_and_nothing_is_imported_through_them() -> None:
    for name in LINKS:
        link = ROOT / name
        assert link.is_symlink() and link.readlink() == Path("gristmill") / name
        assert link.is_dir() and link.samefile(PACKAGE / name)
    through = []
    for path in SOURCES:
        for node in parts(path):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            through += [f"{path} imports {name}" for name in names if name.split(".")[0] in LINKS]
    assert through == []


def test_tests_are_in_the_folders_of_what_they_test() -> None:
    folders = {path.parent.relative_to(TESTS) for path in TESTS.rglob("test_*.py")}
    assert [folder for folder in sorted(folders) if not (PACKAGE / folder).is_dir()] == []
