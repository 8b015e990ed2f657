"""The program's own process: it runs the program and answers requests for its functions.

Everything here may be in the program's hands once it runs. So nothing here knows what a test expects, or
judges anything: an answer is what the program says, in whatever way. Of the tests it learns the arguments
of the calls that it must answer, one after another, and what it prints on.
"""

import builtins
import importlib
import operator
import sys
import types
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from gristmill.verifiers.code.wire import Coder, SharedObjects, Wire, base_of

OPERATORS = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"),
    *("and_", "or_", "xor", "lshift", "rshift", "neg", "pos", "invert", "abs"),
)
_DONE: dict[str, Callable[..., Any]] = {name.strip("_"): getattr(operator, name) for name in OPERATORS} | {
    "len": len,
    "bool": bool,
    "str": str,
    "repr": repr,
    "int": int,
    "float": float,
    "index": operator.index,
    "iter": iter,
    "item": operator.getitem,
    "set_item": operator.setitem,
    "delete_item": operator.delitem,
    "get": getattr,
    "set": setattr,
    "delete": delattr,
}


def checked(job: dict[str, Any], report: Wire) -> None:
    """Say whether the set-up runs and the program compiles, before any of the program has run."""
    names: dict[str, Any] = {"__name__": "program"}
    try:
        exec(compile(job["setup"], "setup.py", "exec"), names)  # noqa: S102 - what this process is for
    except BaseException as error:  # noqa: BLE001 - told, as all below
        report.send({"setup": told(error)})
        return
    report.send({"setup": ""})
    try:
        compiled(job)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        report.send({"compile": told(error)})
        return
    report.send({"compile": ""})


def compiled(job: dict[str, Any]) -> types.CodeType:
    """The program's code; ``SyntaxError`` for what is none, as a text that only names values."""
    if not job["fenced"]:
        import ast

        body = ast.parse(job["program"]).body
        if all(
            isinstance(s, ast.Expr) and not any(isinstance(n, ast.Call) for n in ast.walk(s)) for s in body
        ):
            raise SyntaxError("no program: nothing is defined, called or assigned")
    return compile(job["program"], "program.py", "exec")


def told(error: BaseException) -> str:
    """The type and text of an error, 300 characters at most."""
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except BaseException as worse:  # noqa: BLE001 - the program's own __str__ may do anything
        return f"{type(error).__name__}, whose text raised {type(worse).__name__}"


def serve(job: dict[str, Any], wire: Wire) -> None:
    """Run set-up and program in one name space, then answer requests until there are no more."""
    module = types.ModuleType("program")
    sys.modules["program"] = module
    names = module.__dict__
    try:
        exec(compile(job["setup"], "setup.py", "exec"), names)  # noqa: S102 - as above
        host = _Host(wire, names)
        exec(compiled(job), names)  # noqa: S102
    except BaseException as error:  # noqa: BLE001 - also SystemExit: leaving early is no success
        wire.send({"raised": told(error)})
        return
    wire.send({"ready": True})
    try:
        while True:
            host.answer(wire.receive())
    except EOFError:  # the test is over
        return


class _Host(Coder):
    """What answers: it holds the objects that the other end knows by number."""

    def __init__(self, wire: Wire, names: dict[str, Any]) -> None:
        super().__init__()
        self.wire, self.names = wire, names
        self.classes = {n: v for n, v in names.items() if isinstance(v, type) and v.__module__ == "program"}
        self.held: list[Any] = []
        self.numbers: dict[int, int] = {}

    def answer(self, asked: dict[str, Any]) -> None:
        """Do what is asked, and say what came of it."""
        graph = SharedObjects()
        answer: dict[str, Any]
        try:
            if asked["do"] == "plain":
                function = _named(self.names, asked["function"])
                answer = {"value": plain(function(*asked["args"], **asked["kwargs"]), 0)}
            else:
                found = self._done(asked["do"], self.unpack(asked, graph))
                answer = {"packed": self.pack(found, graph)}
        except BaseException as error:  # noqa: BLE001 - it is the other end's to judge
            kind = self.other(type(error), graph, 0)
            answer = {"raised": told(error), "type": kind, "text": _text(error)}
        self.wire.send(answer)

    def _done(self, what: str, operands: list[Any]) -> Any:
        first, *rest = operands
        if what == "name":
            return self.names[first]
        if what == "call":
            return first(*rest[0], **rest[1])
        if what == "next":
            try:
                return (next(first),)
            except StopIteration:
                return ()
        if what == "enter":
            return type(first).__enter__(first)
        if what == "exit":
            return bool(type(first).__exit__(first, None, None, None))
        if what == "wait":
            import asyncio  # slow to import

            return asyncio.run(_waited(first))
        return _DONE[what](*operands)

    def other(self, value: Any, graph: SharedObjects, depth: int) -> Any:
        if isinstance(value, _Theirs):
            return ["yours", value.number]
        if type(value) is defaultdict:
            return self.encode(dict(value), graph, depth)
        if isinstance(value, type) and value is not type(None):
            names = [base.__name__ for base in value.__mro__]
            if self.classes.get(names[0]) is value:
                return ["setup", names[0]]
            if getattr(builtins, names[0], None) is value:
                return ["builtin", names[0]]
            if issubclass(value, BaseException):
                return ["error", self._number(value), names]
        base = base_of(value)
        view = [] if base is None else [self.encode(base, graph, depth + 1)]
        return ["mine", self._number(value), type(value).__name__, callable(value), *view]

    def strange(self, kind: str, rest: list[Any], graph: SharedObjects) -> Any:
        if kind == "yours":
            return self.held[rest[0]]
        if kind == "named":
            found: Any = importlib.import_module(rest[0])
            for part in rest[1].split("."):
                found = getattr(found, part)
            return found
        if kind == "iterator":
            return iter([self.decode(item, graph) for item in rest[0]])
        return _Theirs(self, rest[0])

    def _number(self, value: Any) -> int:
        found = self.numbers.get(id(value))
        if found is None:
            self.held.append(value)
            found = self.numbers[id(value)] = len(self.held) - 1
        return found


class _Theirs:
    """A function of the test's, which is called over there."""

    def __init__(self, host: _Host, number: int) -> None:
        self._host, self.number = host, number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        host, graph = self._host, SharedObjects()
        host.wire.send({"call": self.number, "packed": host.pack((args, kwargs), graph)})
        while "do" in (answer := host.wire.receive()):  # their function may call ours
            host.answer(answer)
        if "raised" in answer:
            kind = getattr(builtins, answer["types"], RuntimeError)
            raise kind(answer["raised"])
        return host.unpack(answer["packed"], graph)


async def _waited(value: Any) -> Any:
    return await value


def _text(error: BaseException) -> str:
    try:
        return str(error)[:2000]
    except BaseException:  # noqa: BLE001 - the program's own __str__ may do anything; ``told`` names it
        return ""


def _named(names: dict[str, Any], path: str) -> Any:
    """What ``path`` names: ``f``, ``Class.method`` (of a new object, if it takes one), ``Class().method``."""
    found: Any = None
    for i, part in enumerate(path.split(".")):
        name = part.removesuffix("()")
        if i == 0:
            found = names[name]
        else:
            if isinstance(found, type) and isinstance(_unbound(found, name), types.FunctionType):
                found = found()
            found = getattr(found, name)
        if name != part:
            found = found()
    return found


def _unbound(owner: type, name: str) -> Any:
    """An attribute of a class as it was written there, static and class methods unlike functions."""
    return next((vars(base)[name] for base in owner.__mro__ if name in vars(base)), None)


def plain(value: Any, depth: int) -> Any:
    """``value`` as JSON has it: tuples are lists, keys strings, arrays lists; anything else is an error."""
    if depth > 50:
        raise ValueError("the value is nested more than 50 deep")
    if type(value) in (bool, int, float, str, type(None)):
        return value
    if type(value) in (list, tuple):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return plain(value.tolist(), depth + 1)
    raise TypeError(f"a {type(value).__name__} was returned, which no expected value in JSON equals")


def alone(job: dict[str, Any]) -> None:
    """Run the program as a script, to its end and past it: its threads and exit functions have their say."""
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compiled(job), module.__dict__)  # noqa: S102 - what this process is for
