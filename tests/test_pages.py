"""Every block of code of every page does what it says.

The pages for beginners (the tutorial and ``docs/how-to``) are followed from top to bottom, and what they show
is what comes out. On the others commands are given, Python is run, and recipes are read up to the first
request. What is not done is listed with its reason in ``page_reader.py``, and nowhere else.
"""

from __future__ import annotations

import ast
import tomllib
import traceback
from pathlib import Path
from typing import Any

import pytest
from page_blocks import Block, Reader, WrongUsage, blocks, commands, documents, guessed, matches, parsed
from page_reader import (
    MODEL,
    NAMES,
    NOT_DONE,
    NOT_OURS,
    NOT_RUN,
    lay_out,
    no_models,
    not_done,
    not_run,
    pages,
)
from page_recipes import check
from paths import ROOT

from gristmill.core.errors import GristmillError

__all__ = ["no_models"]
FOLLOWED = [ROOT / "docs" / "tutorial.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
OTHERS = [page for page in pages() if page not in FOLLOWED]
LANGUAGES = {"bash", "python", "yaml", "json", "toml", "text"}


def in_one_process(words: list[str]) -> list[str]:
    """A distributed run of this machine as a run in this process, which gives the same files."""
    return words[: words.index("--executor")] if "--executor" in words else words


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.stem)
def test_a_page_is_followed(
    page: Path,
    tmp_path: Path,
    no_models: None,
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
) -> None:
    monkeypatch.chdir(tmp_path)
    with Reader(tmp_path, replaced=in_one_process) as reader:
        for block in blocks(page, ROOT):
            follow(reader, block)


def follow(reader: Reader, block: Block) -> None:
    """Do what a block says, and compare what is shown with what comes out."""
    if block.title:
        reader.write(block)
    if block.language == "bash":
        reader.output = ""
        for line in commands(block):
            if not_done(line).removeprefix(MODEL):
                words_are_right(line)
                continue
            status, reader.output = reader.command(line)
            assert status in (0, 3), f"{block.place}: {line}\n{reader.output}"
    elif block.language == "python" and "/" not in block.title:
        reader.python(block)
    elif block.language == "yaml":
        check(documents(block)[0], {})
    elif block.language == "text":
        assert matches(block.text, reader.output), (
            f"{block.place} shows another output than this:\n{reader.output}"
        )


def words_are_right(line: str) -> None:
    """Check a command that is not given."""
    if line.startswith("gristmill ") and not any(word.isupper() and word.isalpha() for word in line.split()):
        parsed(line)


@pytest.mark.timeout(400)
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_the_other_pages_show_works(
    tmp_path: Path, no_models: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path)
    wrong: list[str] = []
    with Reader(tmp_path, names=NAMES) as reader:
        for made in ("rated", "math", "before"):
            assert reader.command(f"gristmill run {made}.yaml --quiet")[0] == 0
        for line in (
            "gristmill run preferences -q",
            "gristmill run curate -q",
            "gristmill new recipe preferences",
        ):
            assert reader.command(line)[0] in (0, 3)
        for line in (
            "gristmill run math.yaml -q --set name=after",
            "gristmill export rated --format rows --from measured --out samples.jsonl",
            "gristmill log merge old.sqlite .gristmill/completions.sqlite",
        ):
            assert reader.command(line)[0] == 0
        for page in OTHERS:
            reader.scope = {"__name__": "__main__"}
            before: dict[str, Any] = {}
            found = blocks(page, ROOT)
            for block in found:
                if block.title:
                    reader.write(block)
            for block in found:
                try:
                    wrong += [f"{block.place}: {what}" for what in faults(reader, block, before)]
                except Exception:  # noqa: BLE001, every fault of every page is told
                    wrong.append(f"{block.place}: {traceback.format_exc(limit=-2)}")
    assert not wrong, "\n".join(wrong)


def faults(reader: Reader, block: Block, before: dict[str, Any]) -> list[str]:
    """What is wrong with a block of a page that is not followed."""
    if block.language == "bash":
        return [fault for line in commands(block) if (fault := given(reader, line, block))]
    if block.language == "python":
        if not_run(block):
            compile(block.text, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        else:
            reader.python(block)
    elif block.language == "yaml" and block.page not in NOT_OURS:
        check(documents(block)[0], before)
    elif block.language == "json":
        documents(block)
    elif block.language == "toml":
        tomllib.loads(block.text)
    return []


def given(reader: Reader, line: str, block: Block) -> str:
    """What is wrong with a command; "" where nothing is."""
    if not_done(line):
        try:
            words_are_right(line)
        except (WrongUsage, GristmillError) as error:
            return f"{line}: {error}"
        return ""
    status, output = reader.command(line)
    if block.page == "docs/plugins.md" and line.startswith("gristmill new plugin"):
        reader.command(f"pip install -e {line.split()[3]}")  # which the page says once, for all of them
    return "" if status in (0, 3) else f"{line}: status {status}\n{output}"


def test_every_block_says_what_it_is() -> None:
    wrong = [
        f"{block.place}: {block.language!r}"
        for page in pages()
        for block in blocks(page, ROOT)
        if block.language not in LANGUAGES
    ]
    assert wrong == []


def test_nothing_is_excused_that_is_not_there() -> None:
    found = [block for page in pages() for block in blocks(page, ROOT)]
    lines = [line for block in found if block.language == "bash" for line in commands(block)]
    python, yaml = ({b.page for b in found if b.language == kind} for kind in ("python", "yaml"))
    assert [begin for begin in NOT_DONE if not any(line.startswith(begin) for line in lines)] == []
    assert set(NOT_RUN) <= python and set(NOT_OURS) <= yaml


def test_the_checks_can_fail() -> None:
    assert matches("a\n...\nc", "a\nb\nc\n") and matches("...", "x") and matches("took ... s", "took 3 s")
    assert not matches("a\nc", "a\nb\nc") and not matches("a\n...", "b")
    assert [
        guessed(text) for text in ("$ ls", "gristmill run x", "from x import y", "engine:\n", "a | b")
    ] == ["bash", "bash", "python", "yaml", "text"]
    text = "gristmill run x  what it does\n\ngristmill show x \\\n  -n 1  # why\nno command\n"
    block = Block("p", 1, "bash", "", text, False)
    assert list(commands(block)) == ["gristmill run x", "gristmill show x -n 1"]
    with pytest.raises(WrongUsage):
        parsed("gristmill show x --never")
    with pytest.raises(GristmillError, match="Did you mean 'samples'"):
        check({"stages": [{"stage": "sample", "sampls": 4}]}, {})
    with pytest.raises(AssertionError, match="nothing reads"):
        check({"never": 1}, {})
