"""The public face: what ``__all__`` says, what type checkers see and what is there are the same."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from paths import ROOT

import gristmill

FACES = {
    ".".join(path.parent.relative_to(ROOT).parts): path
    for path in sorted((ROOT / "gristmill").rglob("__init__.py"))
    if "lazily(" in path.read_text()
}
HEAVY = {"torch", "vllm", "datasets", "sympy", "polars", "transformers", "aiohttp", "pyarrow", "yaml"}


def seen_by_type_checkers(path: Path) -> dict[str, str]:
    """Names that a face imports under ``TYPE_CHECKING``, with their modules."""
    names = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for found in ast.walk(node):
                if isinstance(found, ast.ImportFrom):
                    assert found.module and not found.level, f"{path}: import by absolute names"
                    names |= {alias.name: found.module for alias in found.names}
    return names


def homes(path: Path, package: str) -> dict[str, str]:
    """The mapping that a face gives to ``lazily``, with absolute modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazily":
            given: dict[str, str] = ast.literal_eval(node.args[1])
            return {n: package + home if home.startswith(".") else home for n, home in given.items()}
    raise AssertionError(f"{path} calls lazily() with no mapping")


def test_the_face() -> None:
    assert gristmill.__all__ == ["Pipeline", "Recipe", "open_run", "plan", "run"]
    assert gristmill.__version__


def test_every_public_name_is_in_all_and_can_be_imported() -> None:
    wrong = []
    for package, path in FACES.items():
        module: Any = import_module(package)
        listed = module.__all__
        lazy, checked = homes(path, package), seen_by_type_checkers(path)
        if {*listed} != {*lazy} or lazy != checked:
            wrong.append(f"{package}: {set(listed) ^ set(lazy)} {set(lazy.items()) ^ set(checked.items())}")
        wrong += [f"{package} has no {name}" for name in listed if not hasattr(module, name)]
        wrong += [f"{package}.{name} has no doc" for name in listed if not documented(getattr(module, name))]
        if not {*listed} <= {*dir(module)}:
            wrong.append(f"{package}: dir() hides {set(listed) - set(dir(module))}")
    assert wrong == []


def documented(thing: Any) -> bool:
    """Whether a class or function says what it is."""
    return not (isinstance(thing, type) or inspect.isfunction(thing)) or bool(thing.__doc__)


def test_every_registered_part_can_be_imported_from_its_package() -> None:
    """A stage, verifier, engine or export of ours has a short address: ``gristmill.synth.Sample``."""
    from gristmill.core.registry import find, names

    hidden = []
    for group in ("stages", "verifiers", "model_verifiers", "scorers", "engines", "exports", "records"):
        for name in names(group):
            part = find(group, name)
            depth = 3 if group == "exports" else 2
            package: Any = import_module(".".join(part.__module__.split(".")[:depth]))
            if part.__name__ not in package.__all__:
                hidden.append(f"{package.__name__} does not export {part.__name__} ({group} {name})")
    assert hidden == []


def test_importing_the_faces_loads_nothing_heavy() -> None:
    packages = ["gristmill", *(p for p in FACES if p.count(".") == 1 and p != "gristmill.cli")]
    code = f"import json, sys, {', '.join(packages)}; print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(json.loads(ran.stdout))
    assert not loaded & HEAVY
    ours = {m for m in loaded if m.startswith("gristmill") and m not in packages}
    assert ours <= {"gristmill.core", "gristmill.core.lazy", "gristmill.core.version"}


def test_no_face_has_the_name_of_a_module_beside_it() -> None:
    """Such a name is the module as soon as somebody has imported that, and no longer what the face gives."""
    twice = [
        f"{init.parent.name}.{name}"
        for init in (ROOT / "gristmill").rglob("__init__.py")
        for name in re.findall(r'^        "(\w+)": "\.', init.read_text(encoding="utf-8"), re.MULTILINE)
        if (init.parent / f"{name}.py").exists() or (init.parent / name / "__init__.py").exists()
    ]
    assert twice == []
