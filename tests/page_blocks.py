"""The blocks of a page, and what a reader would do with them: write files, give commands, run Python."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
import yaml
from markdown_it import MarkdownIt
from msgspec import Struct
from typer.testing import CliRunner

from gristmill.cli.main import app
from gristmill.core import registry
from gristmill.core.errors import GristmillError

COMMANDS = (
    "gristmill",
    "python",
    "pip",
    "make",
    "pytest",
    "export",
    "cat",
    "hf",
    "vllm",
    "ray",
    "accelerate",
    "unzip",
)
"""The first words by which an unmarked block is known as commands."""
WrongUsage: type[Exception] = typer.BadParameter.__bases__[0]
"""Click's error of that kind, or that of the copy of Click which typer brings along."""
_PROGRESS = re.compile(r"^[\d,]+ tok/s, .*\n", re.MULTILINE)
"""What a run says every ten seconds: nothing on a fast machine."""
_TITLE = re.compile(r'title="([^"]+)"')
_FIRST = re.compile(r"# ([\w-]+\.\w+)\n")


class Block(Struct, frozen=True):
    """A block of code: its page, the line it begins in, its language, and the file that it is, if any."""

    page: str
    line: int
    language: str
    title: str
    text: str
    marked: bool

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.page}:{self.line}"


def blocks(page: Path, root: Path) -> list[Block]:
    """All blocks of code of a page, fenced ones and indented ones."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8")):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            marked = bool(token.info.split())
            language = token.info.split()[0] if marked else guessed(token.content)
            title = _TITLE.search(token.info) or _FIRST.match(token.content)
            name = page.relative_to(root).as_posix()
            found.append(
                Block(name, token.map[0] + 1, language, title[1] if title else "", token.content, marked)
            )
    return found


def guessed(text: str) -> str:
    """The language of a block that does not say it: commands, Python, a recipe, or a text to look at."""
    first = text.lstrip().partition("\n")[0]
    if re.search(r"^\$ ", text, re.MULTILINE) or _known((first.split() or [""])[0]):
        return "bash"
    if re.match(r"(import|from) \w|# \w+\.py$", first):
        return "python"
    return "yaml" if re.match(r"(engine|verifier|source|stages):$", first) else "text"


def _known(word: str) -> bool:
    return word in COMMANDS or word.startswith("GRISTMILL_")


def commands(block: Block) -> Iterator[str]:
    """The commands of a block, one a line: continued lines joined, comments and shown output left out.

    Where the block does not say that it is commands, only lines that begin with a known one are.
    """
    text = re.sub(r"\s*\\\n\s*", " ", block.text)
    shown = any(line.startswith("$ ") for line in text.splitlines())
    for line in text.splitlines():
        if not line.strip() or (shown and not line.startswith("$ ")):
            continue
        line = line.removeprefix("$ ")
        # A command is told from what explains it by two spaces, or by a comment.
        line = re.split(r"\s{2,}(?=[^-\s])|\s#", line)[0].strip()
        if line and (block.marked or _known(line.split()[0])):
            yield line


def matches(expected: str, output: str) -> bool:
    """Whether an output is the one shown, in which ``...`` stands for anything, also over several lines."""
    wanted, found = ("\n".join(map(str.rstrip, text.strip().splitlines())) for text in (expected, output))
    parts = [re.escape(part.strip("\n")) for part in wanted.split("...")]
    return re.fullmatch(r"\s*(?:.*?)\s*".join(parts), found, re.DOTALL) is not None


class Reader:
    """Somebody who does all that a page says, in one folder, from top to bottom.

    ``names`` are the words that stand for what the reader has (``RUN``); ``replaced`` changes a command
    before it is given.
    """

    def __init__(
        self,
        folder: Path,
        *,
        names: Mapping[str, str] | None = None,
        replaced: Callable[[list[str]], list[str]] = list,
    ) -> None:
        self.folder = folder
        self.scope: dict[str, Any] = {"__name__": "__main__"}
        self.output = ""
        self._names = names or {}
        self._replaced = replaced
        self._registered: list[tuple[str, str]] = []
        self._path = list(sys.path)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        """Forget the packages that the page had installed."""
        sys.path[:] = self._path
        for group, name in self._registered:
            registry._entries(group).pop(name, None)  # type: ignore[arg-type]
        for name in [
            n for n, m in sys.modules.items() if str(self.folder) in str(getattr(m, "__file__", ""))
        ]:
            del sys.modules[name]

    def write(self, block: Block) -> None:
        """Write the file that a block shows."""
        path = self.folder / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")

    def python(self, block: Block) -> str:
        """Run a block, one of a notebook beside a running loop and with ``await``. Gives what it prints."""
        code = compile(block.text, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)

        async def cell() -> None:
            result = eval(code, self.scope)
            if inspect.isawaitable(result):
                await result

        with contextlib.redirect_stdout(io.StringIO()) as said:
            if code.co_flags & inspect.CO_COROUTINE or "notebook" in block.page:
                asyncio.run(cell())
            else:
                exec(code, self.scope)
        self.output = said.getvalue()
        return self.output

    def command(self, line: str) -> tuple[int, str]:
        """Give a command. Its status and output; ``gristmill`` is called in this process, for speed."""
        words = [self._names.get(word, word) for word in shlex.split(line)]
        if words[0] == "export":
            os.environ.update([words[1].split("=", 1)])
            return 0, ""
        if words[:3] == ["pip", "install", "-e"]:
            self._install(self.folder / words[3])
            return 0, ""
        if words[0] == "gristmill":
            done = CliRunner().invoke(app, self._replaced(words)[1:])
            error = done.exception
            if isinstance(error, GristmillError):
                return 2, f"{done.output}error: {error}"
            if error is not None and not isinstance(error, SystemExit):
                raise error
            return done.exit_code, _PROGRESS.sub("", done.output)
        if words[0] == "pytest":
            return 0, "\n".join(_tested(self.folder / words[1]))
        known = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        ran = subprocess.run(words, capture_output=True, text=True, cwd=self.folder, timeout=60, env=known)
        return ran.returncode, ran.stdout + ran.stderr

    def _install(self, package: Path) -> None:
        """What ``pip install -e`` does for the entry points of a package, until the reader leaves."""
        project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        sys.path.insert(0, str(package))
        for full, entries in project["entry-points"].items():
            group = full.removeprefix("gristmill.")
            for name, target in entries.items():
                registry.register(group, name, target)
                self._registered.append((group, name))


def _tested(package: Path) -> Iterator[str]:
    """Call the tests of a package, which take no fixtures; a failed one raises."""
    for path in sorted(package.rglob("test_*.py")):
        for name, test in runpy.run_path(str(path)).items():
            if name.startswith("test_"):
                test()
                yield f"{name} passed"


def parsed(line: str) -> None:
    """Check the words of a ``gristmill`` command against what it takes, without giving it. ``WrongUsage``."""
    group: Any = typer.main.get_group(app)
    words = shlex.split(line)[1:]
    context = typer.Context(group, info_name="gristmill")
    while words and hasattr(group, "get_command"):
        command = group.get_command(context, words[0])
        if command is None:
            break
        group, words = command, words[1:]
    group.make_context(group.name, words, parent=context)


def documents(block: Block) -> list[Any]:
    """What is in a block of YAML or JSON."""
    if block.language == "yaml":
        return [yaml.safe_load(block.text)]
    try:
        return [json.loads(block.text)]
    except json.JSONDecodeError:  # JSON lines
        return [json.loads(line) for line in block.text.splitlines() if line.strip()]
