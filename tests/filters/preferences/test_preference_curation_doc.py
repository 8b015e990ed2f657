"""The recipes of docs/preference-curation.md work: some are run, the others called over small tables."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
import yaml
from pairs_of import scored, table
from paths import ROOT
from table_rows import out, sample, samples

from gristmill.core.records import Score
from gristmill.core.registry import find
from gristmill.core.stages import Filter
from gristmill.filters import preferences
from gristmill.pipelines import run

TEXT = (ROOT / "docs" / "preference-curation.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
WHOLE = {recipe["name"]: block for block in BLOCKS if "name" in (recipe := yaml.safe_load(block))}
STAGES = [recipe["stages"] for block in BLOCKS if "name" not in (recipe := yaml.safe_load(block))]
BLAME = "Your answer is wrong. It does not address the question."


def completion(response: str, score: float, critique: str) -> dict[str, Any]:
    return {"response": response, "overall_score": score, "critique": critique, "model": "m"}


ULTRAFEEDBACK = [
    {
        "instruction": f"What is {i} plus 2?",
        "completions": [
            completion("Two.", 10 if i == 1 else 1, BLAME),
            completion(f"It is {i + 2}.", 8, "Correct and clear."),
        ],
    }
    for i in range(3)
]
HELPSTEER = [
    {"prompt": f"Name a river of {land}.", "response": text, "helpfulness": help, "correctness": right}
    | {"coherence": 4, "complexity": 1, "verbosity": 2}
    for land, rows in {
        "France": [("The Seine.", 4, 4), ("The Thames.", 1, 0)],
        "Spain": [("The Ebro.", 2, 4), ("The Po, which is long.", 3, 1)],
    }.items()
    for text, help, right in rows
]
REWARDBENCH = [
    {
        "prompt": f"Is {n} even?",
        "chosen": "Yes.",
        "rejected": "No.",
        "subset": "math",
        "chosen_model": "human",
    }
    for n in (2, 4)
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRISTMILL_LOG", str(tmp_path / "log.sqlite"))
    for name, rows in (
        ("ultrafeedback", ULTRAFEEDBACK),
        ("helpsteer", HELPSTEER),
        ("rewardbench", REWARDBENCH),
    ):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name, text in WHOLE.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def exported(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_three_published_layouts_are_read_curated_and_exported_in_under_20_lines(place: Path) -> None:
    assert len(WHOLE["curated"].splitlines()) < 20
    done = run("curated.yaml", quiet=True)
    rows = exported(done.path / "exports" / "curated.jsonl")
    said = {row["chosen"][0]["content"] for row in rows}
    assert said == {"It is 2.", "It is 4.", "The Seine.", "Yes."}
    assert done.rejected("checked").collect()["reason"].to_list() == [
        "contradictions: the critique of the chosen side blames it, and its score is high"
    ]
    assert done.rejected("compared").collect()["reason"].to_list() == [
        "hierarchy: the rejected side is better"
    ]


def test_what_is_disputed_goes_to_a_person_and_comes_back(place: Path) -> None:
    asked = run("ask.yaml", quiet=True).path / "exports" / "questions.jsonl"
    [question] = exported(asked)
    assert {question["first"], question["second"]} == {"The Ebro.", "The Po, which is long."}
    assert question["better"] == ""
    better = "first" if question["first"] == "The Ebro." else "second"
    (place / "questions.jsonl").write_text(json.dumps(question | {"better": better}))
    done = run("settle.yaml", quiet=True)
    rows = exported(done.path / "exports" / "pairs.jsonl")
    assert [row["chosen"][0]["content"] for row in rows] == ["The Seine.", "The Ebro."]


def tables() -> dict[str, pl.LazyFrame]:
    def row(i: int) -> Any:
        rewards = {f"{s}_rm{k}": (i * k + len(s)) % 5 / 2 for k in (1, 2, 3) for s in ("chosen", "rejected")}
        rest = {
            "judge": i % 5 / 4,
            "chosen": 8.0,
            "rejected": 3.0,
            "chosen_length": float(i),
            "rejected_length": 9.0,
        }
        return scored(f"p{i}", rewards | rest, problem_id=f"q{i}")

    votes = [scored(f"v{i}", {f"annotator_{a}": float((i * a) % 2) for a in range(4)}) for i in range(6)]
    both = [
        sample(f"q{i}", j, scores=(Score("now", float(j)), Score("before", float((j * i) % 3))), verdict=None)
        for i in range(12)
        for j in range(3)
    ]
    base = [sample(f"q{i}", 9, completion="two", verdict=None) for i in range(12)]
    return {
        "pairs": table(*(row(i) for i in range(12))),
        "votes": table(*votes),
        "samples": samples(*both),
        "tuned": samples(*both),
        "base": samples(*base),
    }


@pytest.mark.parametrize("stages", STAGES, ids=lambda stages: stages[0]["stage"])
def test_every_block_runs_and_leaves_rows(stages: list[dict[str, Any]]) -> None:
    given = tables()
    for entry in stages:
        kind = find("stages", entry["stage"])
        options = {key: value for key, value in entry.items() if key not in ("stage", "as", "from")}
        stage = msgspec.convert(options, kind)
        names = entry["from"] if isinstance(entry["from"], list) else [entry["from"]]
        assert not out(stage, *(given[name] for name in names)).is_empty()


def test_every_stage_is_in_the_list_and_has_a_row_in_the_table_of_figures() -> None:
    listed = re.findall(r"^\| \[(.*?)\]\(#.*?\) \| (.*?) \|", TEXT, re.MULTILINE)
    named = dict(
        pair
        for names, kinds in listed
        for pair in zip(re.findall(r"`(\w+)`", names), re.findall(r"`(\w+)`", kinds), strict=True)
    )
    stages = {
        name
        for name in preferences.__all__
        if isinstance(kind := getattr(preferences, name), type) and issubclass(kind, Filter.__mro__[1])
    }
    assert set(named.values()) == stages
    assert {name: find("stages", name).__name__ for name in named} == named
    figures = TEXT.partition("<!-- table of")[2].partition("<!-- end")[0]
    rows = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", figures, re.MULTILINE))))
    assert set(named) - rows == {"weak_against_strong"}
