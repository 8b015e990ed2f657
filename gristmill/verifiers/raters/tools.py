"""What a judge may use: a calculator, Python in the sandbox, and a search in given passages.

A call is a JSON object in the judge's reply. Its input is data: an expression that is calculated by our own
arithmetic, a program for the sandbox, or words to search for. It never names a file, a command or a module of
this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gristmill.core.errors import RecipeError
from gristmill.verifiers.code.place import SandboxLimits
from gristmill.verifiers.grounding.nearest import Rank, by_words
from gristmill.verifiers.raters.base import read_rows
from gristmill.verifiers.rules.arithmetic import calculate

ToolName = Literal["calculator", "code", "search"]
_LONGEST_OUTPUT = 2000
"""Characters of a tool's output that a judge is shown."""


class ToolCall(Struct, frozen=True):
    """A call and what came of it. ``failed`` says that the tool gave no result; ``output`` is then why."""

    tool: str
    input: str
    output: str
    failed: bool = False


class JudgeTools(Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The tools of a judge."""

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
        told = {
            "calculator": "calculator: the value of an expression of numbers with + - * / ^ and brackets",
            "code": "code: what a Python program prints; it has no network and no files",
            "search": "search: the passages that fit the given words best",
        }
        return "\n".join(f"- {told[name]}" for name in self.names)

    def texts(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The passages to search in for a row."""
        own: Any = row.get(self.column) if self.column is not None else ()
        given = [p.get("text") if isinstance(p, dict) else p for p in own or ()]
        kept = [p for p in given if isinstance(p, str) and p.strip()]
        return (*kept, *(read_texts(self.passages) if self.passages is not None else ()))

    async def call(self, tool: str, text: str, passages: tuple[str, ...]) -> ToolCall:
        """Use a tool. What goes wrong with it is said in the result, and never raised for an input."""
        if tool not in self.names:
            return ToolCall(tool, text, f"there is no tool {tool!r}; there are {', '.join(self.names)}", True)
        if tool == "calculator":
            value = calculate(text)
            if value is None:
                return ToolCall(
                    tool, text, "this cannot be calculated: it is not an expression of numbers", True
                )
            return ToolCall(tool, text, _number(value))
        if tool == "search":
            found = search(passages, text, self.results)
            shown = "\n\n".join(f"[{i + 1}] {passages[i][:_LONGEST_OUTPUT]}" for i in found)
            return ToolCall(tool, text, shown or "no passage has any of these words", not found)
        return await asyncio.to_thread(self._run, text)

    def _run(self, program: str) -> ToolCall:
        from gristmill.verifiers.code.trial import ProgramText, ProgramTrial

        limits = SandboxLimits(self.wall_seconds, self.wall_seconds, self.memory_mb)
        with ProgramTrial(ProgramText(program), limits, self._sandbox) as trial:
            ended = trial.script("")
        if ended.over:
            return ToolCall("code", program, f"it met its limit ({ended.over})", True)
        if ended.exit != 0:
            why = ended.stderr.strip() or ended.why or "it printed nothing about it"
            return ToolCall("code", program, f"it failed (exit {ended.exit}): {why[-_LONGEST_OUTPUT:]}", True)
        return ToolCall("code", program, ended.stdout[:_LONGEST_OUTPUT] or "(it printed nothing)")

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
