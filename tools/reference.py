"""The reference pages of the site, made of what the code says: docstrings, options, commands and records.

Written into ``docs/reference``, which git ignores: the code is the one place where these texts are kept.
mkdocstrings would do for functions and classes, and knows nothing of options with ranges, of registered names
or of commands, so all pages come from what ``gristmill list`` and ``gristmill schema`` use themselves.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from typing import Any, ForwardRef

import typer
from msgspec import Struct
from typer.cli import get_docs_for_click

from gristmill.cli.main import app
from gristmill.core.options_doc import Option, options, papers
from gristmill.core.registry import GROUPS, Group, find, names
from gristmill.pipelines.recipe.entries import EngineKeys, ExportKeys, Plain, StageKeys

PACKAGES = ("core", "engines", "verifiers", "filters", "synth", "train.merging", "pipelines", "testing")
"""The packages whose public names have a page; ``gristmill`` itself only takes names out of these."""
TITLES: dict[Group, tuple[str, str]] = {
    "engines": ("Engines", "Where completions come from: `engine: {kind: NAME, ...}` in a recipe."),
    "verifiers": (
        "Verifiers",
        "What decides whether an answer is right: `verifier: {kind: NAME, options: {...}}` in a recipe.",
    ),
    "model_verifiers": (
        "Verifiers that ask a model",
        "Judges that work over an engine: `{stage: judge, verifier: {kind: NAME, ...}}` in a recipe.",
    ),
    "scorers": (
        "Scorers",
        "What gives an answer or a pair a number with a name: `{stage: score, scorer: {kind: NAME, ...}}`.",
    ),
    "exports": ("Export formats", "The formats that trainers read: `{format: NAME, ...}` under `exports:`."),
    "records": ("Records", "What a row can be: `reads: NAME` of a source. The fields are columns."),
}
TRAININGS = ("sft", "preference", "reward", "process_reward", "policy", "encoder")
_CODE = re.compile(r"(`[^`]+`)")
_OF_TESTS = re.compile(r"\s*(?:This \w+ is longer than|It has more modules than)[^.]*\.")
"""What a docstring says because a test of this repository asks for it; of no use to a reader."""


def pages() -> dict[str, str]:
    """The text of every reference page by its name, such as ``stages-filters.md``."""
    found = {"commands.md": _commands(), "recipe.md": _recipe(), "trainings.md": _trainings()}
    found |= {f"{group.replace('_', '-')}.md": _parts(group) for group in TITLES}
    found |= _stages()
    found |= {f"api-{package.replace('.', '-')}.md": _api(package) for package in PACKAGES}
    return {name: re.sub(r"\n{3,}", "\n\n", text).strip() + "\n" for name, text in found.items()}


def prose(text: str | None) -> str:
    """A docstring as Markdown: code marked by single backticks, and nothing that becomes markup by chance."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", _OF_TESTS.sub("", inspect.cleandoc(text or ""))):
        if paragraph.startswith("    "):
            paragraphs.append(paragraph)
            continue
        parts = _CODE.split(paragraph.replace("``", "`"))
        parts[::2] = (re.sub(r"([<*_\[])", r"\\\1", part) for part in parts[::2])
        # A list needs an empty line above it, which docstrings do without.
        paragraphs.append(re.sub(r"(?<!^)(?<!\n)\n(?=- )", "\n\n", "".join(parts), count=1))
    return "\n\n".join(paragraphs)


def _option(option: Option) -> str:
    default = re.sub(r"<function (\w+) at 0x\w+>", r"\1", option.default)
    given = f"default `{default}`" if default else "required"
    said = f": {prose(option.description)}" if option.description else ""
    return f"- **`{option.name}`** ({prose(option.type)}; {given}){said}"


def _options(part: Any) -> list[str]:
    return ["\n".join(map(_option, found))] if (found := options(part)) else []


def _part(name: str, part: Any) -> str:
    """The section of one registered part."""
    reads, writes = getattr(part, "reads", None), getattr(part, "writes", None)
    place = f"`{part.__module__}.{part.__qualname__}`"
    if isinstance(reads, type):
        place += f", reads `{reads.__name__}`"
        place += f", writes `{writes.__name__}`" if isinstance(writes, type) else ""
    source = ", ".join(f"[arXiv {paper}](https://arxiv.org/abs/{paper})" for paper in papers(part))
    lines = [f"## `{name}`", prose(part.__doc__), place + (f". Source: {source}" if source else "") + "."]
    return "\n\n".join(lines + _options(part))


def _page(title: str, said: str, sections: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", said, *sections])


@cache
def own(group: Group) -> list[str]:
    """The names of a group that this package registers: a plug-in has pages of its own."""
    return [name for name in names(group) if find(group, name).__module__.startswith("gristmill.")]


def _parts(group: Group) -> str:
    title, said = TITLES[group]
    return _page(title, said, (_part(name, find(group, name)) for name in own(group)))


def _stages() -> dict[str, str]:
    """A page for each package that holds stages, of which it takes the first line of the docstring."""
    homes: dict[str, list[str]] = defaultdict(list)
    for name in own("stages"):
        parts = find("stages", name).__module__.split(".")
        package = ".".join(parts[:3])
        homes[package if hasattr(import_module(package), "__path__") else ".".join(parts[:2])].append(name)
    found = {}
    for package, known in homes.items():
        family = package.removeprefix("gristmill.").replace("_", "-").replace(".", "-")
        title = "Stages of " + package.rpartition(".")[2].replace("_", " ")
        said = prose(import_module(package).__doc__)
        sections = [_part(name, find("stages", name)) for name in known]
        found[f"stages-{family}.md"] = _page(title, said, sections)
    return found


def _commands() -> str:
    group = typer.main.get_group(app)
    context = typer.Context(group)
    text = get_docs_for_click(obj=group, ctx=context, name="gristmill").partition("\n\n")[2]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        whole = command.get_short_help_str(limit=200)
        text = text.replace(
            f"* `{name}`: {command.get_short_help_str()}", f"* [`{name}`](#gristmill-{name}): {whole}", 1
        )
    text = re.sub(r"(?<!`)``(?!`)", "`", text.replace("```console\n$ ", "```text\n"))
    return "# Commands\n\n" + _OF_TESTS.sub("", text)


def _recipe() -> str:
    said = (
        "The keys of a recipe. `gristmill explain KEY` prints the same, and `gristmill schema` a JSON Schema."
    )
    below = {
        "Of every engine": EngineKeys,
        "Of every stage": StageKeys,
        "Of every export": ExportKeys,
    }
    sections = [*_options(Plain)]
    sections += [
        f"## {title}\n\n{prose(part.__doc__)}\n\n" + "\n".join(_options(part))
        for title, part in below.items()
    ]
    return _page("Recipes", said, sections)


def _trainings() -> str:
    said = (
        "What `gristmill train KIND` may be told, by `--set KEY=VALUE` or in a file of these keys. "
        "What each kind reads and does is on [its page](../training.md)."
    )
    sections = []
    for kind in TRAININGS:
        part = import_module(f"gristmill.train.{kind}").OPTIONS
        sections.append(_part(kind.replace("_", "-"), part))
    return _page("Trainings", said, sections)


def _api(package: str) -> str:
    module = import_module(f"gristmill.{package}")
    registered = {id(find(group, name)): (group, name) for group in GROUPS for name in own(group)}
    sections, elsewhere = [], []
    for name in sorted(module.__all__, key=str.lower):
        thing = getattr(module, name)
        if id(thing) in registered and package != "core":
            elsewhere.append(f"`{name}` ({registered[id(thing)][1]})")
        else:
            sections.append(_named(name, thing, f"gristmill.{package}"))
    said = prose(module.__doc__)
    if elsewhere:
        said += "\n\nParts that recipes name are on the pages of their kind: " + ", ".join(elsewhere) + "."
    return _page(f"`gristmill.{package}`", said, sections)


def _named(name: str, thing: Any, module: str) -> str:
    """The section of one public name: how it is called, what it says, its fields and methods."""
    lines = [f"## `{name}`"]
    if not callable(thing) or not hasattr(thing, "__qualname__"):
        lines.append(f"```text\n{module}.{name} = {_short(thing)}\n```")
    elif isinstance(thing, type) and issubclass(thing, Struct):
        lines += [f"Class, `{thing.__module__}`.", prose(thing.__doc__), *_options(thing)]
    else:
        kind = "class " if isinstance(thing, type) else ""
        lines += [f"```text\n{kind}{name}{signature(thing)}\n```", prose(_documented(thing))]
    if isinstance(thing, type) and (found := list(_methods(thing))):
        lines.append("\n".join(found))
    return "\n\n".join(line for line in lines if line)


def _methods(kind: type) -> Iterator[str]:
    for name, member in vars(kind).items():
        member = member.__func__ if isinstance(member, staticmethod | classmethod) else member
        if name.startswith("_") or not inspect.isfunction(member) or not member.__doc__:
            continue
        yield f"- `{name}{signature(member)}`: {prose(member.__doc__.partition(chr(10) * 2)[0])}"


def _documented(thing: Any) -> str | None:
    """The docstring of a thing itself, without what Python says of every type."""
    text = thing.__doc__
    return None if isinstance(thing, type) and text == getattr(thing.__base__, "__doc__", None) else text


class _Bare(str):
    """A text that ``inspect`` shows without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _bare(value: Any) -> Any:
    """An annotation or default as it was written."""
    if isinstance(value, ForwardRef):
        return _Bare(value.__forward_arg__)
    if callable(value) and not isinstance(value, type) and hasattr(value, "__name__"):
        return _Bare(value.__name__)
    return value


def signature(thing: Any) -> str:
    """How a function or class is called, on one line or one line for each parameter."""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):  # some built-in bases tell nothing
        return "(...)"
    parameters = [
        parameter.replace(annotation=_annotation(parameter.annotation), default=_bare(parameter.default))
        for parameter in found.parameters.values()
    ]
    found = found.replace(parameters=parameters, return_annotation=_annotation(found.return_annotation))
    if len(text := str(found)) <= 90:
        return text
    inner = ",\n    ".join(map(str, parameters))
    back = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    return f"(\n    {inner},\n){back}"


def _annotation(value: Any) -> Any:
    return _Bare(value) if isinstance(value, str) else _bare(value)


def _short(thing: Any) -> str:
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(thing))
    return text if len(text) <= 200 else f"{text[:197]}..."
