"""Every export with what it reads, an example row, and the trainer's settings: ``gristmill formats``."""

from __future__ import annotations

import types
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.exports import Export
from gristmill.core.options_doc import summary
from gristmill.core.records import Score, Turn
from gristmill.core.registry import find, names, suggest
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.pipelines.exports.configs import FAMILIES, config_of, config_text

_MARKED = Verdict(Outcome.CORRECT, 1.0, detail='{"segments": []}')
_VALUES: dict[str, Any] = {
    "id": "gsm8k-1",
    "problem_id": "gsm8k-1",
    "problem": "What is 2 + 3?",
    "answer": "5",
    "completion": "2 + 3 = 5.",
    "finish_reason": "stop",
    "said": [{"role": "assistant", "content": "2 + 3 = 5."}],
    "reasoning": "",
    "tool_calls": [],
    "tool_call_id": "",
    "chosen": [{"role": "assistant", "content": "2 + 3 = 5."}],
    "rejected": [{"role": "assistant", "content": "2 + 3 = 6."}],
    "first": [{"role": "assistant", "content": "2 + 3 = 5."}],
    "second": [{"role": "assistant", "content": "It is 5."}],
    "turns": [Turn("user", "What is 2 + 3?", False), Turn("assistant", "2 + 3 = 5.", True)],
    "scores": [Score("chosen", 0.9), Score("rejected", 0.2), Score("segments", verdict=_MARKED)],
    "steps": ["Add 2 and 3.", "So 5."],
    "values": [1.0, 0.5],
    "meta": "{}",
    "role": "user",
    "content": "What is 2 + 3?",
}
"""What the fields of an example record hold; others hold their own names, or a number."""


def formats_text(name: str | None = None) -> str:
    """All formats, or the one called ``name``, as plain text. ``RecipeError`` for an unknown name."""
    known = names("exports")
    if name is not None and name not in known:
        raise RecipeError(f"{name!r} is not a format.", remedy=suggest(name, known))
    return "\n\n".join("\n".join(_format(each)) for each in ([name] if name else known))


def _format(name: str) -> Iterator[str]:
    part: type[Export] = find("exports", name)
    export = part()
    out = Path(f"{name}{export.suffix}")
    yield f"{name}: {summary(part)}"
    yield f"  reads {part.reads.__name__}, writes {out}"
    yield f"  row: {example_row(export)}"
    if files := sorted(export.beside(out)):
        yield f"  beside it: {', '.join(files)}"
    if export.trainer:
        family = FAMILIES[export.trainer]
        [config] = config_of(export, out)
        option = family.option.format(config=config)
        yield f"  {export.trainer} {family.versions}, started by: {part.command} {option}"
        yield from (f"    {line}" for line in config_text(export, out).splitlines())


def example_row(export: Export) -> str:
    """The first row made of an example record, as a line of JSON; or why there is none."""
    record = msgspec.convert(_example(export.reads), export.reads)
    try:
        rows = export.rows(record)
    except RowRejected as e:
        return f"none of the example: {e.reason}"
    return msgspec.json.encode(rows[0]).decode()


def _example(kind: type[Struct]) -> dict[str, Any]:
    """A record of that type as plain data, the same every time."""
    hints = get_type_hints(kind)
    return {name: msgspec.to_builtins(_fitting(name, hints[name])) for name in kind.__struct_fields__}


def _fitting(name: str, hint: Any) -> Any:
    if name == "completion" and hint is not str:
        name = "said"
    if name in _VALUES:
        with suppress(msgspec.ValidationError):  # a field of that name with another type
            return msgspec.convert(msgspec.to_builtins(_VALUES[name]), hint)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _fitting(name, next(a for a in args if a is not type(None)))
    if origin is Literal:
        return args[0]
    if origin is tuple:
        return [_fitting(name.removesuffix("s"), args[0])] * (2 if name in _LONG else 1)
    if isinstance(hint, type) and issubclass(hint, Struct):
        return _example(hint)
    if isinstance(hint, type) and issubclass(hint, Outcome):
        return Outcome.CORRECT
    return {bool: True, int: 1, float: 1.0}.get(hint, name)


_LONG = frozenset({"correct", "decided", "low", "high"})
"""Lists that are as long as a record's steps."""
