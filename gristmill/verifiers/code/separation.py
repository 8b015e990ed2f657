"""Whether a test's text can judge a program, told from the text alone before it runs.

Two questions: which of its names are the program's, and whether it compares what the program says with
nothing but what the program says, which any program can make equal.
"""

import ast
import builtins
import symtable
import sys
from collections.abc import Iterator
from itertools import pairwise

_LIBRARIES = {"np": "numpy", "pd": "pandas", "sp": "scipy", "nx": "networkx"} | {
    name: name for name in ("numpy", "pandas", "scipy", "networkx", "sympy", "torch")
}
"""Libraries by the names that tests use them by, often without importing them."""


class Inseparable(BaseException):  # not an Exception: no handler of a test's own is to catch it
    """The test cannot be judged apart from the program."""


def library(name: str) -> str | None:
    """The module that is meant by ``name`` in ``name.function(...)``; ``None`` if it is not a known one."""
    return name if name in sys.stdlib_module_names else _LIBRARIES.get(name)


def borrowed(tree: ast.Module, test: str, known: set[str]) -> set[str]:
    """The names of a test that are the program's: neither its own, nor ``known``, nor Python's.

    A program may have a function of its own by a name of Python's, such as ``sum``. That is what the test
    is about only if it calls nothing else; beside others Python's are meant, so that a program cannot put
    an ``abs`` of its own between its answers and the test. ``Inseparable`` where this cannot be told.
    """
    free = set(_free(symtable.symtable(test, "test.py", "exec"))) - known
    owners = {
        n.value.id for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    }
    called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    pythons = {n for n in free if hasattr(builtins, n) or (library(n) and n in owners and n not in called)}
    if free - pythons:
        return free - pythons
    doubtful = pythons & called
    if len(doubtful) > 1:
        raise Inseparable(
            f"the test calls {', '.join(sorted(doubtful))}, which Python has itself: which of them is the "
            "program's cannot be told"
        )
    return doubtful


def _free(table: symtable.SymbolTable) -> Iterator[str]:
    """The names that are looked up in the module's name space without being bound there by the text."""
    stack, bound, used = [table], set[str](), set[str]()
    while stack:
        one = stack.pop()
        stack += one.get_children()
        for symbol in one.get_symbols():
            top = one is table
            if (top or symbol.is_declared_global()) and (symbol.is_assigned() or symbol.is_imported()):
                bound.add(symbol.get_name())
            if symbol.is_referenced() and (top or symbol.is_global()):
                used.add(symbol.get_name())
    yield from used - bound


def check_apart(tree: ast.Module, names: set[str]) -> None:
    """``Inseparable`` if both sides of a comparison come from the program by different ways.

    Each mention of one of the program's ``names``, and each call of what came of one, is an origin. Origins
    flow through assignments, loops and the parameters of the test's own functions, whatever their order.
    Sides with the same origins are allowed: a test may check a property of one answer.
    """
    flow = _Flow(tree, names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [flow.origins(side) for side in (node.left, *node.comparators)]
            for left, right in pairwise(sides):
                if left and right and left != right:
                    raise Inseparable(
                        f"the comparison in line {node.lineno} has the program on both sides: "
                        "a program could make them equal by itself"
                    )


class _Flow:
    """Where the values of a test's names come from."""

    def __init__(self, tree: ast.Module, names: set[str]) -> None:
        self._names = names
        self._of: dict[str, set[int]] = {}
        functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        steps = [*_steps(tree), *_given(tree, functions)]
        before = -1
        while before != (size := sum(map(len, self._of.values()))):
            before = size
            for source, targets in steps:
                found = self.origins(source)
                for target in targets:
                    self._of.setdefault(target, set()).update(found)

    def origins(self, tree: ast.AST) -> set[int]:
        """The places where the program enters into the value of ``tree``."""
        found = set[int]()
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                found |= {id(node)} if node.id in self._names else self._of.get(node.id, set())
            elif isinstance(node, ast.Call) and self._known(root := _root(node.func)):
                found.add(id(root))
        return found

    def _known(self, root: ast.AST) -> bool:
        return isinstance(root, ast.Name) and (root.id in self._names or bool(self._of.get(root.id)))


def _root(node: ast.AST) -> ast.AST:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node


def _steps(tree: ast.Module) -> Iterator[tuple[ast.AST, list[str]]]:
    """Each expression whose value is given a name, with the names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield node.value, [name for target in node.targets for name in _stored(target)]
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            yield node.value, _stored(node.target)
        elif isinstance(node, ast.For | ast.comprehension):
            yield node.iter, _stored(node.target)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            yield node.context_expr, _stored(node.optional_vars)
        elif isinstance(node, ast.FunctionDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    yield inner.value, [node.name]


def _given(tree: ast.Module, functions: dict[str, ast.FunctionDef]) -> Iterator[tuple[ast.AST, list[str]]]:
    """Each argument that the test gives to a function of its own, with the parameter that takes it."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions):
            continue
        taken = functions[node.func.id].args
        names = [one.arg for one in (*taken.posonlyargs, *taken.args)]
        for argument, name in zip(node.args, names, strict=False):
            yield argument, [name]
        for keyword in node.keywords:
            if keyword.arg is not None:
                yield keyword.value, [keyword.arg]


def _stored(target: ast.AST) -> list[str]:
    return [n.id for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
