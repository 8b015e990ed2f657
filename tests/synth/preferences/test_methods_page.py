"""The recipes of docs/preference-methods.md run, and make what the page says, over scripted models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from paths import ROOT

from gristmill.pipelines import run

TEXT = (ROOT / "docs" / "preference-methods.md").read_text()
RECIPES = {
    title: yaml.safe_load(block)
    for title, block in re.findall(r"\n## ([^\n]+)\n\n```yaml\n(.*?)```", TEXT, re.DOTALL)
}
JUDGED = [
    # A judge that prefers what says "good" (in a comparison, by where it stands) and grades it 5 or 1.
    {"match": r"(?s)BEGIN RESPONSE A(?:(?!END RESPONSE A).)*good", "regex": True, "texts": ["[[A]]"]},
    {"match": r"(?s)BEGIN RESPONSE B(?:(?!END RESPONSE B).)*good", "regex": True, "texts": ["[[B]]"]},
    {"match": r"(?s)BEGIN RESPONSE (?:(?!END RESPONSE).)*good", "regex": True, "texts": ["[[5]]"]},
    {"match": "BEGIN RESPONSE", "texts": ["[[1]]"]},
]
WRITER = [
    {"match": "Review your answer", "texts": ["The sum is wrong."]},
    {"match": "Write the answer again", "texts": ["\\boxed{4}"]},
    {"match": "Change this request", "texts": ["What is 2 + 3?"]},
    {"match": "PROBLEM is a request", "texts": ["Clarity\nTruth"]},
    {"match": "clearly better", "texts": ["A good 5, I say."]},
    {"match": "clearly worse", "texts": ["A 5, they say."]},
    {"match": "You are a tutor", "texts": ["What comes after 3?"]},
    {"match": "Oslo is large.\n\n", "texts": ["Oslo"]},
    {"match": "Which city", "texts": ["Rome"]},
    *JUDGED,
    {"texts": ["A 5, I say."]},
]


def engine(name: str, *replies: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "scripted", "model": name, "replies": [*replies, *WRITER]}


def made(title: str, path: Path, rows: list[dict[str, Any]], own: dict[str, Any], **named: Any) -> Any:
    """The stages' rows of the recipe under a title, run over ``rows``."""
    recipe = RECIPES[title]
    file = next((s["path"] for s in recipe.get("sources", {}).values()), "questions.jsonl")
    (path / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {"name": "page", "engine": own, "source": {"path": file}} | recipe
    if "sources" in recipe:
        del recipe["source"]
    if "engines" in recipe:
        recipe["engines"] = {name: named.get(name, engine(name)) for name in recipe["engines"]}
    (path / "page.yaml").write_text(json.dumps(recipe))
    done = run(path / "page.yaml", quiet=True)
    return lambda stage: pl.concat(
        [pl.read_parquet(p) for p in sorted(next(done.path.glob(f"*-{stage}")).glob("part-*"))]
    )


SUM = [{"id": "p", "problem": "What is 2 + 2?", "answer": "4"}]


def said(rows: pl.DataFrame) -> list[tuple[str, str]]:
    return [(a[0]["content"], b[0]["content"]) for a, b in rows.select("chosen", "rejected").rows()]


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_revisions_and_improvement_rows(tmp_path: Path) -> None:
    rows = made("revise", tmp_path, SUM, engine("own", {"match": "What is", "texts": ["\\boxed{5}"]}))
    assert set(said(rows("revise"))) == {("\\boxed{4}", "\\boxed{5}")}
    assert rows("improvements")["turns"][0][-1]["content"] == "\\boxed{4}"
    exports = tmp_path / "runs" / "page" / "exports"
    assert {p.name for p in exports.iterdir()} == {"trl-dpo.jsonl", "trl-sft.jsonl"}


def test_rewards_of_tokens(tmp_path: Path) -> None:
    policy = engine("policy") | {
        "likelihoods": [{"match": "4", "asked": "as well as", "logprob": -0.2}, {"logprob": -2.0}]
    }
    row = {"prompt": "What is 2 + 2?", "chosen": "It is 4", "rejected": "It is 5"}
    rows = made("token_contrast", tmp_path, [row], policy, policy=policy)("token_contrast")
    assert rows.select("side", "completion").rows() == [("chosen", "It is 4"), ("rejected", "It is 5")]
    assert min(rows["rewards"][0]) > 0 and set(rows["rewards"][1]) == {0.0}


def test_contrast_prompts_and_their_measure(tmp_path: Path) -> None:
    own = engine("own", {"match": "2 + 2", "texts": ["It is 4."]}, {"match": "2 + 3", "texts": ["It is 5."]})
    own["replies"].insert(0, {"match": "Change this request", "texts": ["What is 2 + 3?"]})
    fitting = [
        {
            "match": rf"(?s)2 \+ {n}.*BEGIN RESPONSE {side}(?:(?!END RESPONSE).)*is {n + 2}",
            "regex": True,
            "texts": [f"[[{says}]]"],
        }
        for side, says in (("A", "A"), ("B", "B"), ("", "5"))
        for n in (2, 3)
    ]
    rows = made("contrast_prompts", tmp_path, SUM, own, judge=engine("judge", *fitting))
    assert said(rows("score_pairs")) == [("It is 4.", "It is 5."), ("It is 5.", "It is 4.")]
    assert rows("prompt_consistency").rows() == [("p", 100, 100)]


def test_a_table_without_contrasts_has_no_consistency_and_ends_the_run_as_any_empty_one(
    tmp_path: Path,
) -> None:
    row = {"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    recipe = {
        "name": "page",
        "source": {"path": "pairs.jsonl", "reads": "pairs"},
        "stages": [{"stage": "prompt_consistency", "score": "rm"}],
    }
    (tmp_path / "page.yaml").write_text(json.dumps(recipe))
    summary = run(tmp_path / "page.yaml", quiet=True).summary
    assert not summary.stages[-1].measured


def test_causal_pairs_and_ties(tmp_path: Path) -> None:
    problems = [*SUM, {"id": "q", "problem": "Who wrote Faust, and when was it?", "answer": "-"}]
    rewrites = [one for one in WRITER if "clearly" in one.get("match", "")]
    unsure = {"match": "BEGIN RESPONSE", "texts": ["[[3]]"]}
    rows = made("causal_pairs and neutral_ties", tmp_path, problems, engine("own", *rewrites, unsure))
    assert set(said(rows("causal_pairs"))) == {("A good 5, I say.", "A 5, I say.")}
    assert rows("hard").height == 4 and rows("neutral_ties").height == 4
    lines = (tmp_path / "runs" / "page" / "exports" / "ties.jsonl").read_text().splitlines()
    assert {*json.loads(lines[0])} == {"id", "prompt", "first", "second", "weight"}


def test_a_tutor_guides(tmp_path: Path) -> None:
    own = engine("own", {"match": r"^What is", "regex": True, "texts": ["4"]})
    rows = made("scaffold", tmp_path, SUM, own)
    assert said(rows("scaffold")) == [("What comes after 3?", "4")]


def test_a_long_context_is_needed(tmp_path: Path) -> None:
    context = ["Rome is old.", "Bern is small.", "Oslo is large."]
    asked = [
        {"id": f"q{i}", "problem": "Which city is large?", "answer": "Oslo", "context": context}
        for i in range(4)
    ]
    rows = made("long_context", tmp_path, asked, engine("own"))
    assert set(said(rows("long_context"))) == {("Oslo", "Rome")}


def test_answers_of_a_tree_are_graded_without_a_reference(tmp_path: Path) -> None:
    lines = [f"Roses are {word}. \\boxed{{{i}}}" for i, word in enumerate(("good", "red", "good", "blue"))]
    own = engine("own", {"match": "poem", "texts": lines})
    rows = made("Answers that share beginnings", tmp_path, [{"id": "p", "problem": "A poem?"}], own)
    assert rows("tree_responses").height > 1
    assert all("good" in chosen and "good" not in rejected for chosen, rejected in said(rows("pairs")))


def test_an_action_that_serves_the_task_is_preferred(tmp_path: Path) -> None:
    said_so = ({"role": "user", "content": "page"}, {"role": "assistant", "content": "good click"})
    own = [
        {"match": "Which task", "texts": ["Buy shoes."]},
        {"match": "Write another action", "texts": ["go home"]},
    ]
    rows = made("trajectory_pairs", tmp_path, [{"id": "c", "messages": said_so}], engine("own", *own))
    assert said(rows("trajectory_pairs")) == [("good click", "go home")]


def test_translations_are_compared_with_an_exemplar(tmp_path: Path) -> None:
    ask = [{"id": "s", "problem": "Translate into German: It is a dog."}]
    policy = engine("policy", {"match": "Translate", "texts": ["Ein good Hund.", "Eine Katze."]})
    policy["replies"] = [*JUDGED, *policy["replies"]]
    strong = engine("strong", *JUDGED, {"match": "Translate", "texts": ["Es ist ein good Hund."]})
    rows = made("Translation", tmp_path, ask, engine("own"), policy=policy, strong=strong)
    assert said(rows("pairs")) == [("Ein good Hund.", "Eine Katze.")]
    assert {s["name"] for s in rows("pairs")["scores"][0]} >= {"chosen_beside", "rejected_own"}


def test_a_tuned_models_answer_is_preferred_to_its_bases(tmp_path: Path) -> None:
    base = engine("base", {"match": "2 + 2", "texts": ["I do not say."]})
    rows = made("Weak supervision", tmp_path, SUM, engine("own"), base=base)
    assert said(rows("weak_supervision")) == [("A 5, I say.", "I do not say.")]
