"""Every recipe of docs/rag-methods.md runs, with given answers in the place of a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from paths import ROOT

from gristmill.core.engine import Message, Request, TokenLogprob
from gristmill.core.registry import find, names
from gristmill.engines.scripted import Scripted, ScriptedEngine
from gristmill.pipelines import run

TEXT = (ROOT / "docs" / "rag-methods.md").read_text()
SOURCES, *_ = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
RECIPES = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?```yaml\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE))
PAIR = re.compile(r"^ +(?:\S+ +)?(?:chosen|rejected) {2,}(.+?) {2,}(?:\w+ )?(-?\d\.\d\d)$", re.MULTILINE)
HARROW = "hill below which the Harrow rises"


def says(request: Request, index: int) -> str:
    """A model that knows a little about the island, and what each stage asks for."""
    text = request.messages[-1].content
    for words, reply in REPLIES.items():
        if words in text:
            given = reply(text, index) if callable(reply) else reply
            return str(given)
    if text.startswith("Question:"):
        return line(request, index)
    return "It is quite large." if "How large is Vellan" in text else "The passages do not say."


def useful(text: str, index: int) -> str:
    return '{"useful": [1]}'


def ranking(text: str, index: int) -> str:
    numbers = [int(n) for n in re.findall(r"^\[(\d+)\]", text, re.MULTILINE)]
    first = [int(n) for n in re.findall(r"^\[(\d+)\] The island:", text, re.MULTILINE)]
    return f'{{"reason": "The size is asked.", "ranking": {first + [n for n in numbers if n not in first]}}}'


def reworded(text: str, index: int) -> str:
    asked = text.split("]\n")[1].split("\n")[0]
    about = "What area does Vellan have?" if index else "What is the size of Vellan?"
    return about if asked.startswith("How large") else f"{'Say' if index else 'Tell me'}: {asked}"


def parts(text: str, index: int) -> str:
    if HARROW in text:
        first, second = "Below which hill does the Harrow rise?", "How high is Carn Duff?"
        answers = "Carn Duff", "731 metres"
    elif "stone bridge at Skeld" in text:
        first, second = "Which river does the stone bridge at Skeld cross?", "How long is the Harrow?"
        answers = "Harrow", "27 kilometres"
    else:
        return "{}"
    return (
        f'{{"sub_questions": [{{"question": "{first}", "answer": "{answers[0]}"}}, '
        f'{{"question": "{second}", "answer": "{answers[1]}"}}]}}'
    )


def short(text: str, index: int) -> str:
    asked = text.rsplit("\n\n", 1)[1]
    answers = {
        "How high is Carn Duff": "731 metres",
        "Below which hill": "Carn Duff",
        "How long": "27 kilometres",
    }
    return next((a for q, a in {**answers, "Which river": "Harrow"}.items() if q in asked), "900 metres")


def rationale(text: str, index: int) -> str:
    return (
        "Vellan is an island of 412 square kilometres.",
        "Vellan is an island of 900 square kilometres and not of 412 square kilometres.",
        "Skeld is the oldest of them.",
    )[index % 3]


def plan(text: str, index: int) -> str:
    return (
        "<search>the Harrow</search> <search>Carn Duff height</search> Answer: 731 metres",
        "<search>hill of the Harrow</search> Answer: 731 metres",
        "Answer: 900 metres",
    )[index % 3]


def line(request: Request, index: int) -> str:
    if "731 metres high" in request.prefix or "at 731 metres" in request.prefix:
        return "Answer: 731 metres"
    if request.prefix:
        return ("Search: highest point Carn Duff metres", "Answer: 900 metres")[index % 2]
    return ("Search: Harrow rises below", "Search: zzz", "Answer: 900 metres")[index % 3]


REPLIES: dict[str, Any] = {
    "Rewrite the following problem": reworded,
    "Which of the numbered PASSAGES": useful,
    "a few words to search for": lambda text, index: (
        "the hill below the Harrow",
        "Skeld",
        "Carn Duff metres",
    )[index % 3],
    "Take PROBLEM apart": parts,
    "Answer in a few words": short,
    "different short answers": '{"candidates": ["412 square kilometres", "38 kilometres"]}',
    "Suppose that CANDIDATE": lambda text, index: (
        f"The passages give {text.split('BEGIN CANDIDATE')[1].splitlines()[1]}."
    ),
    "Does SUMMARY": lambda text, index: "[[yes]]" if "412" in text.split("CANDIDATE")[1] else "[[no]]",
    "Both responses sum up": lambda text, index: (
        "[[A]]" if text.index("give 412") < text.index("give 38") else "[[B]]"
    ),
    "Put the ": ranking,
    "Write one or two sentences": rationale,
    "Plan: ": plan,
    "RESPONSE answers PROBLEM": "Vellan is an island of 412 square kilometres [1].",
    "questions that PASSAGE answers": (
        '{"pairs": [{"question": "How large is Vellan?", "answer": "412 square kilometres"}, '
        '{"question": "Who owns Vellan?", "answer": "nobody"}]}'
    ),
    "Answer QUESTION from PASSAGE": "412 square kilometres",
    "\n\nHow large is Vellan?": "412 square kilometres",
    "What is the size": "412 square kilometres",
    "What area": "412 square kilometres",
}


def score(messages: tuple[Message, ...], text: str) -> Sequence[TokenLogprob]:
    return [TokenLogprob(text, -0.5 if text in messages[-1].content else -4.0)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRISTMILL_LOG", str(tmp_path / "log.sqlite"))
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.setattr(Scripted, "open", lambda self: ScriptedEngine(says, score=score))
    return tmp_path


def written() -> dict[str, Any]:
    """All recipes as one, whose stages have the number of their section before their names."""
    sources = yaml.safe_load(SOURCES)["sources"]
    stages = []
    for number, block in enumerate(RECIPES.values()):
        for stage in yaml.safe_load(block):
            read = stage.get("from", [])
            read = [
                name if name in sources else f"s{number}_{name}"
                for name in ([read] if isinstance(read, str) else read)
            ]
            stages.append(stage | {"as": f"s{number}_{stage['as']}"} | ({"from": read} if read else {}))
    engine = {"kind": "scripted", "replies": [{"texts": ["not used"]}]}
    kinds = {"engine": engine, "verifier": {"kind": "short_answer"}}
    return {"name": "page", "seed": 0, **kinds, "sources": sources, "stages": stages}


def shown(row: dict[str, Any]) -> list[str]:
    """What the page shows of a pair: its sides, and their scores with two digits."""
    sides = [turn["content"] for side in ("chosen", "rejected") for turn in row.get(side) or ()]
    return [*sides, *(f"{s['value']:.2f}" for s in row.get("scores") or () if s["value"] is not None)]


def test_every_recipe_runs_and_gives_the_pairs_that_the_page_shows(place: Path) -> None:
    (place / "page.yaml").write_text(yaml.safe_dump(written(), sort_keys=False))
    done = run("page.yaml", quiet=True)
    found = {}
    for number, (title, block) in enumerate(RECIPES.items()):
        names = [f"s{number}_{stage['as']}" for stage in yaml.safe_load(block)]
        tables = [done.rows(name).collect() for name in names]
        assert all(len(table) for table in tables), title
        have = {text for table in tables for row in table.to_dicts() for text in shown(row)}
        rows = PAIR.findall(TEXT.split(f"## {title}\n")[1].split("\n## ")[0])
        assert {text for row in rows for text in row} <= have, title
        found[title] = len(rows)
    assert {title: count for title, count in found.items() if count} == {
        "Rewards of rewritten queries": 2,
        "Answers that use the evidence": 2,
        "Search over retrieval steps": 4,
    }
    assert len(found) == 13


def test_the_page_has_every_stage_of_the_package() -> None:
    own = [
        n for n in names("stages") if find("stages", n).__module__.startswith("gristmill.synth.rag_methods")
    ]
    assert len(own) == 16 and not [
        name for name in own if f"`{name}`" not in TEXT and f"`{name}," not in TEXT
    ]
