"""Prompt templates: texts with places that are filled from a row (see ``docs/prompts.md``).

A place is ``{name}``: lower-case letters, digits and ``_``, in single braces. Other braces are text, and so
is what LaTeX writes in braces: the arguments of a command (``\\boxed{answer}``, ``\\frac{a}{b}``), and what
is raised or lowered (``x_{i}``). A place as the argument of a command is written in double braces
(``\\boxed{{answer}}``), of which the outer ones stay.

A template that begins with the comment ``{# jinja #}`` is one of Jinja instead, rendered in Jinja's sandbox.
Data are put in as they are: nothing in them is ever read as a template.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from typing import Any, NamedTuple

import msgspec

from gristmill.core.engine import Message
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.passages import passages

Prompt = str | Message | Sequence[str] | Sequence[Message] | None
"""What an option of a stage may hold: one template or several, as texts or as messages."""

_PLACE = re.compile(
    r"\\[A-Za-z]+\*?(?:\[[^\[\]{}\n]*\])?(?:[_^]?\{[^{}]*\})+"  # a LaTeX command with its arguments
    r"|(?<!\})(?:[_^]\{[^{}]*\})+"  # raised and lowered text; behind a place, "_" joins two places
    r"|\{([a-z_][a-z0-9_]*)\}"
)
_JINJA = re.compile(r"\s*\{#-?\s*jinja\s*-?#\}")
_NOTHING: Mapping[str, Any] = {}
_META = msgspec.json.Decoder(dict[str, Any]).decode


def fill(template: str, row: Mapping[str, Any] = _NOTHING, /, **values: Any) -> str:
    """``template`` with its places filled from ``values`` and else from ``row``, in one pass.

    A list is put in one item a line, a mapping as JSON. ``RowRejected`` names a place for which there is no
    value, or null.
    """
    return _read(template).render(lambda name: values[name] if name in values else row.get(name))


def fill_messages(
    messages: Sequence[Message], row: Mapping[str, Any] = _NOTHING, /, **values: Any
) -> tuple[Message, ...]:
    """``messages`` with their places filled; see ``fill``."""
    return tuple(Message(m.role, fill(m.content, row, **values)) for m in messages)


def opening(
    row: Mapping[str, Any], prompt: str, system: str | None = None, examples: Sequence[Message] = ()
) -> tuple[Message, ...]:
    """The turns that ask about ``row``: ``system``, worked ``examples``, which are sent as they are, then
    ``prompt``. See ``fill``."""
    first = () if system is None else (Message("system", fill(system, row)),)
    return (*first, *examples, Message("user", fill(prompt, row)))


def fields(meta: str) -> dict[str, Any]:
    """The fields of a record's ``meta``, by name. ``RowRejected`` unless it is a JSON object."""
    try:
        return _META(meta or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        raise RowRejected("meta is not a JSON object", str(error)[:200]) from error


class RowValues(Mapping[str, Any]):
    """What a prompt can name of a record: its fields, and the fields of its ``meta`` where it has one."""

    def __init__(self, record: Any) -> None:
        self._record = record

    def __getitem__(self, name: str) -> Any:
        if name in self._record.__struct_fields__ and name != "meta":
            return getattr(self._record, name)
        return self._meta[name]

    def __iter__(self) -> Iterator[str]:
        own = [name for name in self._record.__struct_fields__ if name != "meta"]
        return iter([*own, *(name for name in self._meta if name not in own)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @cached_property
    def _meta(self) -> dict[str, Any]:
        return fields(getattr(self._record, "meta", "{}"))


def places(prompt: Prompt) -> list[str]:
    """The names of the places of a prompt, in order. ``RecipeError`` for a template that cannot be read.

    Of Jinja's those that a row must have: not one that has a ``default`` or is tested with ``is defined``.
    """
    if prompt is None:
        return []
    if isinstance(prompt, str):
        return list(_read(prompt).names)
    if isinstance(prompt, Message):
        return places(prompt.content)
    return [name for one in prompt for name in places(one)]


def require(option: str, prompt: Prompt, *wanted: str, known: Collection[str] | None = None) -> None:
    """Raise ``RecipeError`` unless the prompt that ``option`` gives has each place of ``wanted``, and, with
    ``known``, none but ``known`` and ``wanted``."""
    have = places(prompt)
    for place in wanted:
        if place not in have:
            raise RecipeError(
                f"the prompt {option!r} has no place {{{place}}}.",
                remedy=f"Put {{{place}}} where that text belongs.",
            )
    if known is not None:
        for unknown in _unknown({option: have}, {*known, *wanted}):
            raise unknown.error()


class UnknownPlace(NamedTuple):
    """A place of a prompt that no row fills: the stage's option, the place, and the nearest known one."""

    option: str
    place: str
    nearest: str | None
    known: tuple[str, ...]

    def error(self) -> RecipeError:
        """The error that says so."""
        known = ", ".join(f"{{{name}}}" for name in self.known) or "none"
        near = f"Did you mean {{{self.nearest}}}?" if self.nearest else f"Places that are filled: {known}."
        return RecipeError(
            f"the prompt {self.option!r} has the place {{{self.place}}}, which nothing fills.",
            remedy=f"{near} Braces that are text are written as docs/prompts.md says.",
        )


def row_places(own: Iterable[str] = (), **options: Prompt) -> dict[str, frozenset[str]]:
    """For a stage's property ``places``: what the prompt of each option wants of the row, by the option.

    ``own`` are the places that the stage fills itself.
    """
    return {option: frozenset(places(prompt)) - frozenset(own) for option, prompt in options.items()}


def within(option: str, inner: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """``places`` of a part that a stage holds under ``option``, named from the stage."""
    return {f"{option}.{name}": wanted for name, wanted in inner.items()}


def require_row(stage: str, option: str, wanted: Collection[str]) -> None:
    """Raise ``RecipeError`` for a prompt that names nothing of the row: every row would be asked the same."""
    if not wanted:
        raise RecipeError(
            f"{stage}: the prompt {option!r} names nothing of the row: every row would be asked the same.",
            remedy="Put {problem} where the problem's text belongs.",
        )


def unknown_places(stage: Any, columns: Collection[str] | None = None) -> Iterator[UnknownPlace]:
    """The places of a stage's prompts that none of its rows can fill.

    The stage's property ``places`` says what they want of the row (see ``row_places``). ``columns`` are the
    names of the fields of ``meta``, ``None`` where these are not known: then nothing is told of a stage that
    reads records with ``meta``, and a row that lacks a place is rejected when its turn comes.
    """
    wanted: Mapping[str, frozenset[str]] = getattr(stage, "places", {})
    have = set(stage.reads.__struct_fields__)
    if "meta" in have and columns is None:
        return
    yield from _unknown(wanted, (have - {"meta"}) | set(columns or ()))


def _unknown(wanted: Mapping[str, Iterable[str]], known: Collection[str]) -> Iterator[UnknownPlace]:
    for option, named in wanted.items():
        for place in sorted(set(named) - set(known)):
            near = difflib.get_close_matches(place, known, n=1, cutoff=0.6)
            yield UnknownPlace(option, place, near[0] if near else None, tuple(sorted(known)))


class _Template(NamedTuple):
    names: tuple[str, ...]
    render: Callable[[Callable[[str], Any]], str]
    """The text, given what finds the value of a name (``None`` where there is none)."""


@lru_cache(maxsize=1024)
def _read(template: str) -> _Template:
    if _JINJA.match(template):
        return _jinja(template)
    names = tuple(m[1] for m in _PLACE.finditer(template) if m[1])

    def render(find: Callable[[str], Any]) -> str:
        return _PLACE.sub(lambda m: _value(m[1], find(m[1])) if m[1] else m[0], template)

    return _Template(names, render)


def _value(place: str, value: Any) -> str:
    if value is None:
        raise RowRejected(f"has no {place!r}", f"the row has nothing, or null, for the place {{{place}}}")
    return shown(value)


def taken(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """The text of each of ``names``, for a stage that quotes its columns. ``RowRejected`` where one is not
    there."""
    return {name: _value(name, row.get(name)) for name in sorted(names)}


def shown(value: Any) -> str:
    """A value as text: a list one item a line, passages (mappings that all have a ``text``) numbered and with
    their titles, any other mapping (and a list within a list) as JSON."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list) and value and all(isinstance(v, dict) and v.get("text") for v in value):
        return passages(value, always=True)
    if isinstance(value, list | tuple):
        return "\n".join(item if isinstance(item, str) else _json(item) for item in value)
    return _json(value)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


@cache
def _environment() -> Any:
    from jinja2 import StrictUndefined, Undefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def put_in(value: Any) -> Any:
        if value is None:
            raise ValueError("a value that the prompt puts in is null")
        return value if isinstance(value, Undefined) else shown(value)

    # Lines that hold only a block or a comment leave no blank line behind, as in chat templates.
    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        finalize=put_in,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _jinja(template: str) -> _Template:
    from jinja2 import TemplateSyntaxError, UndefinedError, meta, nodes

    environment = _environment()
    try:
        tree = environment.parse(template)
        compiled = environment.from_string(template)
    except TemplateSyntaxError as error:
        raise RecipeError(
            f"line {error.lineno} of the Jinja prompt {template[:60]!r}: {error.message}",
            remedy="Correct that line, or leave out {# jinja #} for a prompt with plain {places}.",
        ) from error
    looked_up = meta.find_undeclared_variables(tree)
    optional = {
        node.node.name
        for node in tree.find_all((nodes.Filter, nodes.Test))
        if node.name in ("default", "d", "defined", "undefined") and isinstance(node.node, nodes.Name)
    }

    def render(find: Callable[[str], Any]) -> str:
        # Null is as if it were not there, so that ``default`` serves for both.
        found = {name: find(name) for name in looked_up}
        given = {name: msgspec.to_builtins(value) for name, value in found.items() if value is not None}
        try:
            return str(compiled.render(given))
        except UndefinedError as error:
            told = str(error.message)
            place = re.fullmatch(r"'(\w+)' is undefined", told)
            raise RowRejected(f"has no {place[1]!r}" if place else "the prompt has no value", told) from error
        except Exception as error:  # the recipe's own expressions, which can fail in any way on a row
            raise RowRejected("the prompt cannot be rendered", f"{type(error).__name__}: {error}") from error

    return _Template(tuple(sorted(looked_up - optional - set(environment.globals))), render)
