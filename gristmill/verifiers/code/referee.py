"""The process of a test's text: the program's functions are here in name only, and called over there.

The program cannot reach into this process: what it sends is data (``wire``) or the number of an object that
it keeps. Such an object can be called, read and walked through, as if by the program's own code; it is never
asked whether it equals something, or what it makes of a number of the test's. A test that would need that
cannot be judged apart from the program and is refused.
"""

import ast
import builtins
import collections.abc
import importlib
import operator
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from gristmill.verifiers.code.guest import OPERATORS, told
from gristmill.verifiers.code.separation import Inseparable, borrowed, check_apart, library
from gristmill.verifiers.code.wire import Coder, SharedObjects, Wire, base_of

_MOST_ITEMS = 100_000
"""Items of an iterator that a test gives to the program, which gets them all at once."""


class _Lost(BaseException):  # not an Exception: a program that ends is not one that raises
    """The program ended, or its answer cannot be read."""


def judge(test: str, setup: str, wire: Wire, report: Wire) -> None:
    """Run a test's text and report ``done``, what it ``raised``, or why it is ``refused``."""
    bench = _Bench(wire)
    raised = ""
    try:
        code = compile(test, "test.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        report.send({"broken": told(error)})
        return
    try:
        _run(test, code, setup, bench)
    except BaseException as error:  # noqa: BLE001 - told
        raised = told(error)
    if bench.refused:
        report.send({"refused": bench.refused})
    elif bench.lost or raised:
        report.send({"raised": bench.lost or raised})
    else:
        report.send({"done": True})


def _run(test: str, code: types.CodeType, setup: str, bench: "_Bench") -> None:
    names = _Names(bench)
    exec(compile(setup, "setup.py", "exec"), names)  # noqa: S102 - the reference's own text
    bench.classes = {n: v for n, v in names.items() if isinstance(v, type) and v.__module__ == "test"}
    bench.greet()
    try:
        tree = ast.parse(test)
        names.borrowed = borrowed(tree, test, set(names))
        check_apart(tree, names.borrowed)
    except Inseparable as error:
        bench.refuse(str(error))
    exec(code, names)  # noqa: S102 - as above


class _Names(dict[str, Any]):
    """The name space of a test, in which the program's names are found when they are looked up."""

    def __init__(self, bench: "_Bench") -> None:
        super().__init__(__name__="test")
        self._bench = bench
        self.borrowed: set[str] = set()

    def __missing__(self, name: str) -> Any:
        if name in self.borrowed:
            try:
                found = self._bench.ask("name", name)
            except KeyError:
                if hasattr(builtins, name):
                    raise
                raise NameError(f"the program does not define {name!r}") from None
        elif not hasattr(builtins, name) and (module := library(name)):
            found = importlib.import_module(module)
        else:
            raise KeyError(name)
        self[name] = found
        return found


class _Bench(Coder):
    """The test's end of the wire."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire
        self._given: list[Any] = []
        self._errors: dict[int, type[BaseException]] = {}
        self.refused = ""
        self.lost = ""

    def greet(self) -> None:
        """Wait until the program has run; what it raised ends the test."""
        hello = self._receive()
        if hello.get("ready") is not True:
            self._lose(str(hello.get("raised", "it answers before it is asked")))

    def refuse(self, why: str) -> NoReturn:
        """End the test, which cannot be judged; nothing that it catches makes that undone."""
        self.refused = self.refused or why
        raise Inseparable(why)

    def ask(self, what: str, *operands: Any) -> Any:
        """What the program answers; raises what it raises."""
        graph = SharedObjects()
        try:
            packed = self.pack(operands, graph)
        except RecursionError:
            self.refuse("an argument is nested too deep to be sent")
        self._send({"do": what, **packed})
        while "call" in (answer := self._receive()):
            self._called(answer)
        if "raised" in answer:
            raise self._error(answer, graph)
        return self._read(answer, graph)

    def _called(self, asked: dict[str, Any]) -> None:
        """The program calls a function of the test's that it was given."""
        graph = SharedObjects()
        arguments = self._read(asked, graph)
        try:
            args, kwargs = arguments
            function = self._given[asked["call"]]
        except (TypeError, ValueError, LookupError) as error:
            self._lose(told(error))
        try:
            found = function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the program that called it is told
            self._send({"raised": str(error), "types": type(error).__name__})
            return
        self._send({"packed": self.pack(found, graph)})

    def _read(self, message: dict[str, Any], graph: SharedObjects) -> Any:
        try:
            return self.unpack(message["packed"], graph)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            self._lose(f"what it returned cannot be read: {told(error)}")

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._wire.send(message)
        except OSError:
            self._lose("it ended before its test did")

    def _receive(self) -> dict[str, Any]:
        try:
            return self._wire.receive()
        except EOFError:
            self._lose("it ended before its test did")
        except (OSError, ValueError, RecursionError) as error:
            self._lose(told(error))

    def _lose(self, why: str) -> NoReturn:
        self.lost = self.lost or why[:300]
        raise _Lost(why)

    def _error(self, answer: dict[str, Any], graph: SharedObjects) -> BaseException:
        """The error that the program raised, of its type or one that stands for it here."""
        try:
            kind = self.decode(answer["type"], graph)
            error = kind.__new__(kind)
        except (AttributeError, LookupError, StopIteration, TypeError, ValueError) as problem:
            self._lose(f"the error that it raised cannot be read: {told(problem)}")
        if not isinstance(error, BaseException):
            self._lose("it raised what is not an error")
        error.args = (str(answer.get("text", "")),)
        return error

    def _error_type(self, name: Any) -> type[BaseException] | None:
        found = self.classes.get(name) or getattr(builtins, str(name), None)
        return found if isinstance(found, type) and issubclass(found, BaseException) else None

    def other(self, value: Any, graph: SharedObjects, depth: int) -> Any:
        """What the program is given of an object that is not data."""
        if isinstance(value, Foreign):
            return ["yours", value._number]
        for number, kind in self._errors.items():
            if value is kind:
                return ["yours", number]
        if isinstance(value, type) and self.classes.get(value.__name__) is value:
            return ["named", "program", value.__name__]
        if place := _public(value):
            return ["named", *place]
        if isinstance(value, collections.abc.Iterator):
            items = [item for item, _ in zip(value, range(_MOST_ITEMS), strict=False)]
            return ["iterator", [self.encode(item, graph, depth + 1) for item in items]]
        if isinstance(value, collections.abc.MappingView):
            return self.encode(list(value), graph, depth)  # type: ignore[call-overload]
        if (base := base_of(value)) is not None:
            return self.encode(base, graph, depth)
        if callable(value):
            self._given.append(value)
            return ["theirs", len(self._given) - 1]
        return self.refuse(f"the test gives the program a {type(value).__name__}, which cannot be sent to it")

    def strange(self, kind: str, rest: list[Any], graph: SharedObjects) -> Any:
        """What the test gets for an object that the program keeps."""
        if kind == "yours":
            return self._given[rest[0]]
        if kind == "setup":
            return self.classes[rest[0]]
        if kind == "builtin":
            found = getattr(builtins, rest[0])
            if not isinstance(found, type):
                raise ValueError(f"{rest[0]} is not a type")
            return found
        if kind == "error":
            number, names = rest
            if number not in self._errors:
                base: Any = next(k for n in names if (k := self._error_type(n)))
                self._errors[number] = type(str(names[0]), (base,), {})
            return self._errors[number]
        if kind != "mine":
            raise ValueError(f"a value of unknown kind {kind!r}")
        number, name, calls, *view = rest
        made = (_Callable if calls else Foreign)(
            self, number, str(name), [self.decode(v, graph) for v in view]
        )
        return _waiting(made) if name == "coroutine" else made


def _public(value: Any) -> tuple[str, str] | None:
    """Where a function or type of Python's own library is found by name; ``None`` for anything else."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return (module, name) if found is value else None


async def _waiting(value: "Foreign") -> Any:
    return value._bench.ask("wait", value)


class Foreign:
    """An object that the program keeps; ``view`` holds its data if its type derives from one of data."""

    def __init__(self, bench: _Bench, number: int, name: str, view: list[Any]) -> None:
        fields = {"_bench": bench, "_number": number, "_name": name, "_view": view}
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    _bench: _Bench
    _number: int
    _name: str
    _view: list[Any]

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # what ``isinstance`` asks about where the type says no
        return type(self._view[0]) if self._view else self._bench.ask("get", self, "__class__")

    def __getattr__(self, name: str) -> Any:
        return self._bench.ask("get", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._bench.ask("set", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._bench.ask("delete", self, name)

    def _same(self, other: Any) -> bool:
        if self._view:
            return bool(self._view[0] == (other._view[0] if _viewed(other) else other))
        if type(other) in (Foreign, _Callable) and not other._view:
            if self._number == other._number:
                return True
            self._bench.refuse(f"the test compares two objects of the program ({self._name}, {other._name})")
        return False

    def __eq__(self, other: object) -> bool:
        return self._same(other)

    def __ne__(self, other: object) -> bool:
        return not self._same(other)

    def __hash__(self) -> int:
        return hash(self._view[0]) if self._view else hash((Foreign, self._number))

    def __contains__(self, item: Any) -> bool:
        return any(item is one or item == one for one in self)

    def __iter__(self) -> Iterator[Any]:
        if self._view:
            return iter(self._view[0])
        found = self._bench.ask("iter", self)
        return found if isinstance(found, Foreign) else iter(found)

    def __next__(self) -> Any:
        for item in self._bench.ask("next", self):
            return item
        raise StopIteration

    def __enter__(self) -> Any:
        return self._bench.ask("enter", self)

    def __exit__(self, *error: object) -> bool:
        return bool(self._bench.ask("exit", self))

    def __instancecheck__(self, value: Any) -> bool:
        if type(value) not in (Foreign, _Callable):
            return False
        return self._bench.refuse(
            f"the test asks whether the program's {value._name} is one of its {self._name}"
        )

    def __str__(self) -> str:
        return str(self._bench.ask("str", self))

    def __repr__(self) -> str:
        return str(self._bench.ask("repr", self))

    def __bool__(self) -> bool:
        return bool(self._bench.ask("bool", self))


class _Callable(Foreign):
    """A function, a class or a method of the program's."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._bench.ask("call", self, list(args), kwargs)


def _viewed(value: Any) -> bool:
    return type(value) in (Foreign, _Callable) and bool(value._view)


def _read(what: str) -> Callable[..., Any]:
    def method(self: Foreign, *operands: Any) -> Any:
        return self._bench.ask(what, self, *operands)

    return method


def _calculated(what: str, swapped: bool, count: int) -> Callable[..., Any]:
    """A calculation or an order: of data here, of two of its own objects by the program, else refused."""

    def method(self: Foreign, *others: Any) -> Any:
        operands = [self, *others]
        if swapped:
            operands.reverse()
        if self._view:
            return getattr(operator, what)(*(o._view[0] if _viewed(o) else o for o in operands))
        if count == 1 and all(type(o) in (Foreign, _Callable) for o in operands):
            return self._bench.ask(what.strip("_"), *operands)
        return self._bench.refuse(f"the test calculates or compares with the program's {self._name}")

    return method


for _name in ("len", "int", "float", "index"):
    setattr(Foreign, f"__{_name}__", _read(_name))
for _name, _what in (("getitem", "item"), ("setitem", "set_item"), ("delitem", "delete_item")):
    setattr(Foreign, f"__{_name}__", _read(_what))
for _name in (_one.strip("_") for _one in OPERATORS):
    setattr(Foreign, f"__{_name}__", _calculated(f"__{_name}__", False, 1))
    setattr(Foreign, f"__r{_name}__", _calculated(f"__{_name}__", True, 1))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Foreign, f"__{_name}__", _calculated(f"__{_name}__", False, 0))
