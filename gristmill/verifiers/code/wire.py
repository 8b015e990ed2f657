"""How a program and the test that judges it exchange values: data by content, all else by number.

Both ends speak it in processes of their own, in which nothing may be imported but the standard library.
A message is 8 bytes of length and JSON. A value is JSON as far as that goes; what is not is a list that
starts with its kind. Objects that can change (lists, dictionaries, sets, instances of the set-up's classes)
are in a table by number, so that shared and circular ones stay so and the answer to a request can say
which of its objects changed. Reading a message runs no code of the other end: nothing is pickled or
evaluated, and types are taken from a fixed list.
"""

import importlib
import json
import os
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any

_DEEPEST = 100
"""Levels of tuples within tuples; other containers may be nested without limit."""
_LONGEST = 10_000
"""Bits of a whole number that is sent in decimal digits, which take quadratic time; longer ones in hex."""
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (list, dict, set, deque, Counter, OrderedDict)
}
_MADE: dict[str, tuple[Callable[[Any], Any], Callable[..., Any]]] = {
    "builtins.complex": (lambda v: [v.real, v.imag], lambda kind, a: kind(*a)),
    "builtins.bytes": (lambda v: v.hex(), lambda kind, a: kind.fromhex(a)),
    "builtins.bytearray": (lambda v: v.hex(), lambda kind, a: kind.fromhex(a)),
    "builtins.range": (lambda v: [v.start, v.stop, v.step], lambda kind, a: kind(*a)),
    "fractions.Fraction": (str, lambda kind, a: kind(a)),
    "decimal.Decimal": (str, lambda kind, a: kind(a)),
    "datetime.date": (lambda v: v.isoformat(), lambda kind, a: kind.fromisoformat(a)),
    "datetime.time": (lambda v: v.isoformat(), lambda kind, a: kind.fromisoformat(a)),
    "datetime.datetime": (lambda v: v.isoformat(), lambda kind, a: kind.fromisoformat(a)),
    "datetime.timedelta": (lambda v: [v.days, v.seconds, v.microseconds], lambda kind, a: kind(*a)),
}
"""Types of data, and how to take an object of exactly that type apart and to make it again."""


class Wire:
    """Messages to and from the other end. ``most``: the bytes that one may send us, 0 for no limit."""

    def __init__(self, reading: int, writing: int, most: int = 0) -> None:
        self._reading, self._writing, self._most = reading, writing, most

    def send(self, message: dict[str, Any]) -> None:
        """Send one message, all of it; ``OSError`` if the other end is gone."""
        data = json.dumps(message).encode()
        data = len(data).to_bytes(8, "big") + data
        while data:
            data = data[os.write(self._writing, data) :]

    def receive(self) -> dict[str, Any]:
        """The next message; ``EOFError`` if there is none, ``ValueError`` for what is not one."""
        size = int.from_bytes(self._exactly(8), "big")
        if self._most and size > self._most:
            raise ValueError(f"an answer of more than {self._most >> 10} KiB")
        found = json.loads(self._exactly(size))
        if not isinstance(found, dict):
            raise ValueError("an answer that is not a message")
        return found

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                piece = os.read(self._reading, min(size - len(data), 1 << 20))
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise EOFError("the other end is gone")
            data += piece
        return bytes(data)


class SharedObjects:
    """The objects that can change of one request and its answer, by number."""

    def __init__(self) -> None:
        self.objects: dict[int, Any] = {}
        self.order: list[int] = []
        self.numbers: dict[int, int] = {}
        self.sent: dict[int, Any] = {}
        """What the other end knows of each, as it was encoded."""

    def number(self, value: Any) -> int:
        """The number of ``value``, a new one if it has none."""
        found = self.numbers.get(id(value))
        if found is None:
            self.put(found := len(self.objects), value)
        return found

    def put(self, number: int, value: Any) -> None:
        """Enter ``value`` under ``number``; it is kept, so that no other takes its identity."""
        self.objects[number] = value
        self.order.append(number)
        self.numbers[id(value)] = number


class Coder:
    """Values to JSON and back. ``classes`` are those that the set-up defines, by name, at both ends.

    The two ends differ in what they make of other objects: ``other`` encodes one, ``strange`` decodes it.
    """

    def __init__(self) -> None:
        self.classes: dict[str, type] = {}

    def other(self, value: Any, graph: SharedObjects, depth: int) -> Any:
        """The encoding of what is not data."""
        raise NotImplementedError

    def strange(self, kind: str, rest: list[Any], graph: SharedObjects) -> Any:
        """The object that the other end means by an encoding of its own."""
        raise NotImplementedError

    def pack(self, value: Any, graph: SharedObjects) -> dict[str, Any]:
        """``value``, and all that it refers to or that has changed since it was sent."""
        root = self.encode(value, graph)
        table = []
        for number in graph.order:  # it grows meanwhile: an object may bring others with it
            entry = self._contents(graph.objects[number], graph)
            if graph.sent.get(number) != entry:
                graph.sent[number] = entry
                table.append([number, *entry])
        return {"root": root, "table": table}

    def unpack(self, message: dict[str, Any], graph: SharedObjects) -> Any:
        """The value of a message; objects of the request that changed at the other end change here."""
        for number, kind, contents in message["table"]:
            graph.sent[number] = [kind, contents]
            if number not in graph.objects:
                graph.put(int(number), self._empty(kind))
        for number, kind, contents in message["table"]:
            self._fill(graph.objects[number], kind, contents, graph)
        return self.decode(message["root"], graph)

    def encode(self, value: Any, graph: SharedObjects, depth: int = 0) -> Any:
        """One value as JSON, its changeable parts by their numbers."""
        kind = type(value)
        if value is None or kind in (bool, float, str):
            return value
        if kind is int:
            return value if value.bit_length() < _LONGEST else ["int", hex(value)]
        if depth > _DEEPEST:
            raise ValueError(f"tuples nested more than {_DEEPEST} deep")
        if kind in (tuple, frozenset):
            return [kind.__name__, [self.encode(item, graph, depth + 1) for item in value]]
        if _KINDS.get(kind.__name__) is kind or self._shared(value):
            return ["@", graph.number(value)]
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name in _MADE:
            return [name, _MADE[name][0](value)]
        if kind.__module__ == "numpy" and hasattr(value, "tolist"):
            name = str(value.dtype)
            return ["numpy", name if name.isalnum() else "", self.encode(value.tolist(), graph, depth + 1)]
        return self.other(value, graph, depth)

    def decode(self, given: Any, graph: SharedObjects) -> Any:
        """The value that ``given`` stands for."""
        if not isinstance(given, list):
            if isinstance(given, dict):
                raise ValueError("an object of JSON, which stands for no value")
            return given
        kind, *rest = given
        if kind == "@":
            return graph.objects[rest[0]]
        if kind == "int":
            return int(rest[0], 16)
        if kind in ("tuple", "frozenset"):
            items = [self.decode(item, graph) for item in rest[0]]
            return tuple(items) if kind == "tuple" else frozenset(items)
        if kind in _MADE:
            module, _, name = kind.partition(".")
            return _MADE[kind][1](getattr(importlib.import_module(module), name), rest[0])
        if kind == "numpy":
            return _array(rest[0], self.decode(rest[1], graph))
        return self.strange(kind, rest, graph)

    def _shared(self, value: Any) -> bool:
        return type(value).__name__ in self.classes and type(getattr(value, "__dict__", None)) is dict

    def _contents(self, value: Any, graph: SharedObjects) -> list[Any]:
        if isinstance(value, list | set | deque):
            return [type(value).__name__, [self.encode(item, graph) for item in value]]
        if isinstance(value, dict):
            pairs = [[self.encode(k, graph), self.encode(v, graph)] for k, v in value.items()]
            return [type(value).__name__, pairs]
        fields = [[str(k), self.encode(v, graph)] for k, v in vars(value).items()]
        return [f"object {type(value).__name__}", fields]

    def _empty(self, kind: str) -> Any:
        if kind in _KINDS:
            return _KINDS[kind]()
        owner: Any = self.classes[kind.removeprefix("object ")]
        return owner.__new__(owner)

    def _fill(self, value: Any, kind: str, contents: Any, graph: SharedObjects) -> None:
        if kind == "list":
            value[:] = [self.decode(item, graph) for item in contents]
        elif kind == "deque":
            found = [self.decode(item, graph) for item in contents]
            value.clear()
            value.extend(found)
        elif kind == "set":
            items = {self.decode(item, graph) for item in contents}
            value.clear()
            value.update(items)
        elif kind in ("dict", "Counter", "OrderedDict"):
            pairs = [(self.decode(k, graph), self.decode(v, graph)) for k, v in contents]
            value.clear()
            dict.update(value, pairs)  # a counter's own would count the pairs
        else:
            fields = {k: self.decode(v, graph) for k, v in contents}
            for name in fields:
                # A program's function in the place of a method would judge for the test.
                if callable(getattr(type(value), name, None)):
                    raise ValueError(f"an object whose method {name} was replaced")
            vars(value).clear()
            vars(value).update(fields)


def base_of(value: Any) -> Any:
    """The data in an object of a subclass of a type of data (a named tuple, say), ``None`` if it is not one.

    They are read by the type's own methods, whatever the subclass has in their place.
    """
    kinds: tuple[Any, ...] = (str, int, float, tuple, list, set, frozenset, deque)
    for kind in kinds:
        if isinstance(value, kind):
            if kind in (str, int, float):
                return kind.__add__(value, kind())
            return kind(kind.__iter__(value))
    return dict(dict.items(value)) if isinstance(value, dict) else None


def _array(kind: str, value: Any) -> Any:
    """An array or a number of NumPy; its plain list or number where NumPy is not installed."""
    if kind and not kind.isalnum():
        raise ValueError("an array of no known type")
    try:
        import numpy
    except ImportError:
        return value
    found = numpy.array(value, dtype=kind or None)
    return found if isinstance(value, list) else found[()]
