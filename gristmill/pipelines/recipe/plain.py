"""Plain data to option Structs and back: safe YAML, overrides, and errors that name their place.

PyYAML's safe loader keeps the last of two equal keys and expands nested aliases without a bound, so both are
checked here on its nodes; ruamel.yaml refuses duplicate keys but not the aliases. msgspec checks types
and ranges.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from gristmill.core.errors import RecipeError
from gristmill.core.registry import suggest
from gristmill.core.rules import divided, in_words, steps

S = TypeVar("S", bound=Struct)

_MAX_BYTES = 1 << 20
_DEEP = 500
"""Levels that the loader in C, which is ten times as fast, is trusted with: it overruns the stack on more."""
_OPENING = re.compile(r"(?:^|[\n\r\x85\u2028\u2029])[ ?:-]*")
"""What a line begins with, after any break that YAML knows: in a block every level takes up some of it."""
_MAX_VALUES = 100_000
"""Values in a document with its aliases written out; a few lines of nested aliases can stand for 10^9."""
_WANTS_NUMBER = re.compile(r"Expected `(?:float|int)\b.*`, got `str`")
_SCHEMA = "'gristmill schema' prints every key with its type and range."
TRAININGS = "The page docs/training.md lists the options of trainings."
"""What ``convert`` tells of options that are those of a training and not of a recipe."""
_EXPONENT = re.compile(r"[+-]?\d+(?:\.\d*)?[eE][+-]?\d{1,3}")


def document(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ``RecipeError`` with the line for anything else."""
    try:
        if path.is_file() and path.stat().st_size > _MAX_BYTES:
            raise RecipeError(f"{path} has more than {_MAX_BYTES:,} bytes.", remedy="Is it a recipe?")
        text = path.read_bytes().decode()
    except FileNotFoundError as e:
        near = [p.name for p in path.parent.glob("*.y*ml")]
        remedy = suggest(path.name, near) if near else f"There is no recipe in {str(path.parent)!r}."
        raise RecipeError(f"{path}: there is no such recipe.", remedy=remedy) from e
    except UnicodeDecodeError as e:
        raise RecipeError(f"{path}: byte {e.start + 1} is not UTF-8.", remedy="Save it as UTF-8.") from e
    except OSError as e:
        raise RecipeError(f"{path} cannot be read ({e.strerror}).", remedy="Give a YAML file.") from e
    data = _yaml(text, str(path))
    if not isinstance(data, dict):
        what = "is empty" if data is None else "holds no mapping at its top"
        raise RecipeError(f"{path} {what}.", remedy="'gristmill schema' prints what a recipe can hold.")
    return data


def _yaml(text: str, where: str) -> Any:
    """YAML by the safe loader; no duplicate key, no alias bomb, no value that holds itself."""
    import yaml

    if _deepest(text) <= _DEEP and (fast := getattr(yaml, "CSafeLoader", None)):
        try:
            return _read(fast, text, where)
        except RecipeError:
            pass  # the other loader says what is wrong in plainer words
    return _read(yaml.SafeLoader, text, where)


def _deepest(text: str) -> int:
    """What bounds the levels of a document: each opens with a bracket, or further from its line's start (a
    list may stand where its key does: twice as many)."""
    return text.count("[") + text.count("{") + max(len(found) for found in _OPENING.findall(text))


def _read(kind: Any, text: str, where: str) -> Any:
    import yaml

    loader = kind("")
    try:
        loader = kind(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _weigh(node, {}, where) > _MAX_VALUES:
            raise RecipeError(
                f"{where}: its aliases stand for more than {_MAX_VALUES:,} values.",
                remedy="Write out what is needed.",
            )
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as e:
        line = f", line {e.problem_mark.line + 1}" if e.problem_mark else ""
        raise RecipeError(
            f"{where}{line}: {e.problem or e.context}.", remedy="Correct the YAML there."
        ) from e
    except yaml.YAMLError as e:
        first = str(e).splitlines()[0]
        raise RecipeError(f"{where}: {first}.", remedy="Save it as plain UTF-8 text.") from e
    except ValueError as e:  # a date such as 2024-13-45
        raise RecipeError(f"{where}: {e}.", remedy="Put quotes around text that looks like a date.") from e
    except RecursionError as e:
        raise RecipeError(f"{where}: it is nested too deeply.", remedy="Is it a recipe?") from e
    finally:
        loader.dispose()


def _weigh(node: Any, known: dict[int, int | None], where: str) -> int:
    """How many values a YAML node stands for with all aliases written out."""
    if id(node) in known:
        weight = known[id(node)]
        if weight is None:
            line = node.start_mark.line + 1
            raise RecipeError(f"{where}, line {line}: a value holds itself.", remedy="Remove the alias.")
        return weight
    known[id(node)] = None
    children: list[Any] = []
    if isinstance(node.value, list):
        seen = set()
        for item in node.value:
            key, value = item if isinstance(item, tuple) else (None, item)
            children.append(value)
            if key is None or not isinstance(key.value, str):
                continue
            if key.value in seen and key.value != "<<":
                raise RecipeError(
                    f"{where}, line {key.start_mark.line + 1}: the key {key.value!r} occurs twice.",
                    remedy="Remove one of them.",
                )
            seen.add(key.value)
    weight = known[id(node)] = 1 + sum(_weigh(child, known, where) for child in children)
    return weight


def set_value(data: dict[str, Any], override: str) -> None:
    """Apply one ``a.b=value`` to ``data``. A list item is named by its index, or by its stage's name."""
    place, equals, text = override.partition("=")
    steps = [s for s in place.strip().replace("[", ".").replace("]", "").split(".") if s]
    if not equals or not steps:
        raise RecipeError(
            f"--set {override!r} is not an assignment.", remedy="Write it as --set stages.0.attempts=4"
        )
    value = _yaml(text, f"--set {place}")
    target: Any = data
    for i, step in enumerate(steps):
        if isinstance(target, list):
            key: Any = _index(target, step, ".".join(steps[:i]))
        elif isinstance(target, dict):
            key = step
        else:
            raise RecipeError(
                f"--set {place}: {'.'.join(steps[:i])} is {target!r}, which has no parts.",
                remedy="Set that key itself, or check the place.",
            )
        if i == len(steps) - 1:
            target[key] = value
        elif isinstance(target, dict) and target.get(key) is None:
            target[key] = {}
        target = target[key]


def _index(items: list[Any], step: str, place: str) -> int:
    by_name = {
        str(item.get("as") or item.get("stage") or item.get("format") or item.get("name")): i
        for i, item in enumerate(items)
        if isinstance(item, dict)
    }
    if step in by_name:
        return by_name[step]
    if step.isdecimal() and int(step) < len(items):
        return int(step)
    known = [*map(str, range(len(items))), *by_name]
    raise RecipeError(f"--set {place}.{step}: {place} has no item {step!r}.", remedy=suggest(step, known))


def convert(data: Any, kind: type[S], place: str, also: Collection[str] = (), *, see: str = _SCHEMA) -> S:
    """``data`` as a ``kind``. ``place`` is where it stands; ``also`` are keys that are valid beside it.
    ``see`` tells the user where to read what may stand there.

    Raises ``RecipeError`` with the place, the value and the rule.
    """
    from msgspec import inspect

    info = inspect.type_info(kind)
    _check_keys(data, info, place, also)
    while True:
        try:
            return msgspec.convert(data, kind)
        except msgspec.ValidationError as e:
            read = _with_number(str(e), data)
            if read is None:
                raise _explain(_named(str(e), data, kind), data, place, info, see) from e
            data = read


def _with_number(message: str, data: Any) -> Any:
    """``data`` with the text that msgspec complains of as the number that it means: YAML 1.1, which PyYAML
    reads, takes 5e7 for text. ``None`` where the complaint is another."""
    rule, path = divided(message)
    if not _WANTS_NUMBER.match(rule) or "..." in path:
        return None
    places: list[Any] = [int(index) if index else name for name, index in steps(path)]
    if not places:
        return None
    data = copy.deepcopy(data)
    at, last = data, places.pop()
    for place in places:
        at = at[place]
    text = at[last]
    if not (isinstance(text, str) and _EXPONENT.fullmatch(text)):
        return None
    number = float(text)
    at[last] = int(number) if "`int" in rule and number.is_integer() else number
    return data


def _check_keys(data: Any, info: Any, place: str, also: Collection[str]) -> None:
    """Refuse keys that no Struct in ``info`` has, at any depth."""
    from msgspec import inspect

    if isinstance(info, inspect.Metadata):
        info = info.type
    if isinstance(info, inspect.UnionType):
        tagged = {o.tag: o for o in info.types if isinstance(o, inspect.StructType) and o.tag is not None}
        for option in info.types:
            if option not in tagged.values():
                _check_keys(data, option, place, also)
        if tagged and isinstance(data, dict):
            # Of records that a key tells apart only the one that it names.
            key = str(next(iter(tagged.values())).tag_field)
            if data.get(key) not in tagged:
                said = f"{data[key]!r} is not known" if key in data else "it is missing"
                raise RecipeError(
                    f"{place}.{key}: {said}.", remedy=suggest(str(data.get(key, "")), map(str, tagged))
                )
            _check_keys(data, tagged[data[key]], place, also)
    elif isinstance(info, inspect.StructType) and isinstance(data, dict):
        fields = {f.encode_name: f.type for f in info.fields}
        for key, value in data.items():
            if key == info.tag_field:
                continue
            where = f"{place}.{key}" if place else str(key)
            if key not in fields:
                raise RecipeError(f"{where}: unknown key.", remedy=suggest(str(key), [*fields, *also]))
            _check_keys(value, fields[key], where, ())
    elif isinstance(info, (inspect.ListType, inspect.VarTupleType)) and isinstance(data, list):
        for i, item in enumerate(data):
            _check_keys(item, info.item_type, f"{place}[{i}]", ())
    elif isinstance(info, inspect.DictType) and isinstance(data, dict):
        for key, value in data.items():
            if isinstance(info.key_type, inspect.LiteralType) and key not in info.key_type.values:
                raise RecipeError(
                    f"{place}.{key}: unknown key.", remedy=suggest(str(key), map(str, info.key_type.values))
                )
            _check_name(key, info.key_type, place)
            _check_keys(value, info.value_type, f"{place}.{key}", ())


def _check_name(key: Any, info: Any, place: str) -> None:
    """Refuse a name that does not have the form of names there: msgspec does not say which key it is."""
    described = getattr(info, "extra_json_schema", None) or {}
    pattern = getattr(getattr(info, "type", info), "pattern", None)
    if pattern is not None and not re.search(pattern, str(key)):
        form = described.get("description", "a name")
        raise RecipeError(f"{place}: the name {key!r} is refused.", remedy=f"Take {form}.")


def _named(message: str, data: Any, kind: Any) -> str:
    """msgspec's message with the key of a mapping in place of the ``[...]`` that stands for any: the one
    that brings the same complaint alone."""
    before, unnamed, _ = divided(message)[1].partition("[...]")
    whole = _at(data, before) if unnamed else {}
    for key in whole if isinstance(whole, dict) else ():
        alone = copy.deepcopy(data)
        here = _at(alone, before)
        for other in whole.keys() - {key}:
            del here[other]
        try:
            msgspec.convert(alone, kind)
        except msgspec.ValidationError as e:
            if str(e) == message and re.search(r"[.\[\]]", str(key)) is None:
                return message.replace(f"${before}[...]", f"${before}.{key}", 1)
    return message


def _at(data: Any, path: str) -> Any:
    for name, index in steps(path):
        data = data[int(index)] if index else data[name]
    return data


def _explain(message: str, data: Any, place: str, info: Any, see: str) -> RecipeError:
    """msgspec's message with the place in the recipe and the value that it is about."""
    rule, path = divided(message)
    where = f"{place}{path}".lstrip(".") or "the recipe"
    said = in_words(rule, info, path)
    if said.startswith("the key "):
        return RecipeError(f"{where}: {said}.", remedy="Add it.")
    value = data if "..." in path else _at(data, path)
    shown = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    remedy = see
    if "got `date`" in message:
        remedy = 'YAML reads a value like 2024-10-21 as a date: put quotes around it, "2024-10-21".'
    return RecipeError(f"{where}: {shown} is refused: {said}.", remedy=remedy)


def builtins(value: Any) -> Any:
    """Structs as dicts of all their keys, defaults included, by the names that a recipe uses."""
    if isinstance(value, Struct):
        fields = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        made = {key: builtins(getattr(value, name)) for key, name in fields}
        config = value.__struct_config__
        return made if config.tag_field is None else {config.tag_field: config.tag, **made}
    if isinstance(value, dict):
        return {k: builtins(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [builtins(v) for v in value]
    return value.value if isinstance(value, Enum) else value
