"""The tools that a model may use: a calculator, Python in the sandbox, and a search in given passages.

A call's input is data: an expression that is calculated by our own
arithmetic, a program for the sandbox, or words to search for. It never names a file, a command or a module of
this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import CalledFunction
from gristmill.core.errors import RecipeError
from gristmill.verifiers.code.place import SandboxLimits
from gristmill.verifiers.grounding.nearest import Rank, by_words
from gristmill.verifiers.raters.base import read_rows
from gristmill.verifiers.rules.arithmetic import calculate

ToolName = Literal["calculator", "code", "search"]
_LONGEST_OUTPUT = 2000
"""Characters of a tool's output that a model is shown."""
_TOLD = {
    "calculator": ("expression", "the value of an expression of numbers with + - * / ^ and brackets"),
    "code": ("program", "what a Python program prints; it has no network and no files"),
    "search": ("query", "the passages that fit the given words best"),
}
"""Of each tool the name of its one argument, and what it gives."""
_EXAMPLES = {"calculator": "12 * 7", "code": "print(12 * 7)", "search": "height of the tower"}


class ToolUse(Struct, frozen=True):
    """The input of a call and what came of it. ``failed`` says that the tool gave no result; ``output`` is
    then why."""

    tool: str
    input: str
    output: str
    failed: bool = False


class Toolbox(Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The tools that a model may use, and what they work on."""

    names: tuple[ToolName, ...] = ("calculator",)
    """The tools that it may use: ``calculator`` (numbers with + - * / ^ and brackets, exact), ``code``
    (a Python program in the sandbox of the verifier ``code``, whose output it is shown) and ``search`` (the
    passages that fit words best, by BM25)."""
    passages: str | None = None
    """A JSON Lines file with the passages to search in, each with a ``text`` and perhaps an ``id``."""
    column: str | None = None
    """The column in which a row has its own passages, as texts or objects with ``text``. Searched with those
    of the file."""
    results: Annotated[int, Meta(ge=1, le=20)] = 3
    """The passages that one search gives, 1 to 20."""
    wall_seconds: Annotated[float, Meta(gt=0, le=60)] = 5.0
    """Seconds that a program may take, at most 60."""
    memory_mb: Annotated[int, Meta(ge=64)] = 512
    """Memory of a program in MiB, at least 64."""

    def __post_init__(self) -> None:
        if not self.names:
            raise RecipeError("the tools have no names.", remedy="Name calculator, code or search.")
        if "search" in self.names and self.passages is None and self.column is None:
            raise RecipeError(
                "the tool search has nothing to search in.", remedy="Set tools.passages, or tools.column."
            )
        if self.passages is not None:
            read_texts(self.passages)  # so that a missing file is an error here and now

    def described(self) -> str:
        """The tools in words, for a prompt."""
        return "\n".join(f"- {name}: {_TOLD[name][1]}" for name in self.names)

    @property
    def example(self) -> tuple[str, str]:
        """The first tool with its arguments, as an example of a call."""
        name = self.names[0]
        return name, msgspec.json.encode({_TOLD[name][0]: _EXAMPLES[name]}).decode()

    def schemas(self) -> str:
        """The tools as the OpenAI protocol describes them: the text of a JSON list of functions."""
        made = []
        for name in self.names:
            argument, gives = _TOLD[name]
            parameters = {
                "type": "object",
                "properties": {argument: {"type": "string"}},
                "required": [argument],
            }
            function = {"name": name, "description": gives.capitalize() + ".", "parameters": parameters}
            made.append({"type": "function", "function": function})
        return msgspec.json.encode(made).decode()

    def texts(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The passages to search in for a row."""
        own: Any = row.get(self.column) if self.column is not None else ()
        given = [p.get("text") if isinstance(p, dict) else p for p in own or ()]
        kept = [p for p in given if isinstance(p, str) and p.strip()]
        return (*kept, *(read_texts(self.passages) if self.passages is not None else ()))

    async def run(self, function: CalledFunction, passages: tuple[str, ...]) -> ToolUse:
        """Use a tool with the arguments that a model wrote; see ``call``."""
        if function.name not in self.names:
            return await self.call(function.name, function.arguments, passages)
        name = _TOLD[function.name][0]
        try:
            given = msgspec.json.decode(function.arguments or "{}", type=dict[str, Any], strict=True)
        except (msgspec.DecodeError, RecursionError) as error:
            why = f"the arguments are not a JSON object: {error}"
            return ToolUse(function.name, function.arguments, why, True)
        if not isinstance(given.get(name), str):
            why = f"the arguments must have the text {name!r}; they have: {', '.join(given) or 'nothing'}"
            return ToolUse(function.name, function.arguments, why[:_LONGEST_OUTPUT], True)
        return await self.call(function.name, given[name], passages)

    async def call(self, tool: str, text: str, passages: tuple[str, ...]) -> ToolUse:
        """Use a tool. What goes wrong with it is said in the result, and never raised for an input."""
        if tool not in self.names:
            return ToolUse(tool, text, f"there is no tool {tool!r}; there are {', '.join(self.names)}", True)
        if tool == "calculator":
            value = calculate(text)
            if value is None:
                return ToolUse(
                    tool, text, "this cannot be calculated: it is not an expression of numbers", True
                )
            return ToolUse(tool, text, _number(value))
        if tool == "search":
            found = search(passages, text, self.results)
            shown = "\n\n".join(f"[{i + 1}] {passages[i][:_LONGEST_OUTPUT]}" for i in found)
            return ToolUse(tool, text, shown or "no passage has any of these words", not found)
        return await asyncio.to_thread(self._run, text)

    def _run(self, program: str) -> ToolUse:
        from gristmill.verifiers.code.trial import ProgramText, ProgramTrial

        limits = SandboxLimits(self.wall_seconds, self.wall_seconds, self.memory_mb)
        with ProgramTrial(ProgramText(program), limits, self._sandbox) as trial:
            ended = trial.script("")
        if ended.over:
            return ToolUse("code", program, f"it met its limit ({ended.over})", True)
        if ended.exit != 0:
            why = ended.stderr.strip() or ended.why or "it printed nothing about it"
            return ToolUse("code", program, f"it failed (exit {ended.exit}): {why[-_LONGEST_OUTPUT:]}", True)
        return ToolUse("code", program, ended.stdout[:_LONGEST_OUTPUT] or "(it printed nothing)")

    @cached_property
    def _sandbox(self) -> Any:
        from gristmill.verifiers.code.sandbox import choose

        return choose("auto")


class _Passage(Struct, frozen=True):
    text: str


@lru_cache(maxsize=8)
def read_texts(path: str) -> tuple[str, ...]:
    """The texts of a JSON Lines file of passages. ``InputError`` with the row for what is not one."""
    return tuple(row.text for row in read_rows(path, _Passage, '{"text": "..."}'))


def search(passages: tuple[str, ...], query: str, count: int) -> list[int]:
    """The passages that have words of ``query``, best by BM25 first; equal ones in their own order."""
    return [near.number for near in _index(passages)(query)[:count]]


@lru_cache(maxsize=8)
def _index(passages: tuple[str, ...]) -> Rank:
    return by_words(passages, len(passages))


def _number(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{value} = {float(value):.12g}"
