"""The site of the documentation: every page is in its navigation, and every link leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import PurePosixPath

import build_site
import pytest
import reference
from markdown_it import MarkdownIt
from paths import ROOT

from gristmill.core.registry import GROUPS


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return reference.pages()


@pytest.fixture(scope="module")
def pages(generated: dict[str, str]) -> dict[str, str]:
    return build_site.written(generated)


def test_the_navigation_has_every_page_once(pages: dict[str, str]) -> None:
    """Where this fails, put the page into ``nav`` of mkdocs.yml, or take it out there."""
    listed = [page for _, page in build_site.leaves(build_site.settings()["nav"])]
    assert sorted(listed) == sorted(pages)


@cache  # a page is linked from many
def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as the site and GitHub make them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    found = set()
    for token, inner in pairwise(tokens):
        if token.type == "heading_open":
            words = "".join(part.content for part in inner.children or ())
            found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", words).strip().lower()))
    return found


def links(text: str) -> Iterator[str]:
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for part in token.children or ():
            if part.type == "link_open":
                yield str(part.attrs["href"])


def test_every_link_and_anchor_of_every_page_leads_somewhere(pages: dict[str, str]) -> None:
    wrong = []
    for page, text in pages.items():
        for link in links(text):
            if re.match(r"https?:|mailto:", link):
                continue
            path, _, anchor = link.partition("#")
            target = page if not path else _joined(page, path)
            if target not in pages:
                wrong.append(f"{page}: {link}")
            elif anchor and anchor not in anchors(pages[target]):
                wrong.append(f"{page}: {link} (there is no such heading)")
    assert wrong == []


def _joined(page: str, path: str) -> str:
    parts: list[str] = []
    for part in (PurePosixPath(page).parent / path).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def test_llms_txt_is_that_of_the_pages(pages: dict[str, str]) -> None:
    """Where this fails, run ``python tools/build_site.py --pages`` and commit docs/llms.txt."""
    text = build_site.LLMS.read_text(encoding="utf-8")
    assert text == build_site.llms(pages)
    lines = text.splitlines()
    assert lines[0] == "# Gristmill" and lines[2].startswith("> ")
    entries = [line for line in lines if line.startswith("- ")]
    assert len(entries) == len(pages)
    assert [line for line in entries if not re.fullmatch(r"- \[.+\]\([\w/-]+\.md\): \S.{10,}", line)] == []


def test_the_reference_has_every_part_with_its_options(generated: dict[str, str]) -> None:
    stages = "\n".join(text for name, text in generated.items() if name.startswith("stages-"))
    texts = {group: generated.get(f"{group.replace('_', '-')}.md", stages) for group in GROUPS}
    parts = [(group, name) for group in GROUPS for name in reference.own(group)]
    assert [part for part in parts if f"\n## `{part[1]}`\n" not in texts[part[0]]] == []
    assert len(parts) > 200
    assert "- **`samples`** (whole number, at least 1; default `1`): " in stages
    assert "## `gristmill run`" in generated["commands.md"] and "`--limit" in generated["commands.md"]
    assert "- **`learning_rate`** (number, above 0; default `" in generated["trainings.md"]
    assert "load(path: Path | str, overrides: Sequence[str] = ()) -> Recipe" in generated["api-pipelines.md"]


def test_texts_of_docstrings_are_text(generated: dict[str, str]) -> None:
    assert reference.prose("Says ``<b>`` or <b> of *x* and a_b.") == r"Says `<b>` or \<b> of \*x\* and a\_b."
    assert reference.prose("As these:\n- one\n- two") == "As these:\n\n- one\n- two"
    made = {name: re.findall(r"(?m)^.* at 0x[0-9a-f]{6,}.*$", text) for name, text in generated.items()}
    assert {name: found for name, found in made.items() if found} == {}


def test_nothing_is_loaded_from_elsewhere() -> None:
    settings = build_site.settings()
    assert settings["theme"]["font"] is False
    assert not any("://" in str(settings.get(key, "")) for key in ("extra_css", "extra_javascript"))
    assert (ROOT / "docs" / "site.css").read_text(encoding="utf-8").count("://") == 0
