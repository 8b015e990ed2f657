"""``retrieve``: which passages a question gets, in which order, and what is said of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import called, out, rejected

from gristmill.core.errors import RecipeError
from gristmill.core.passages import passages
from gristmill.core.prompts import RowValues, fill
from gristmill.core.records import Passage, Problem
from gristmill.core.schema import from_frame, to_frame
from gristmill.pipelines.recipe.recipe import load
from gristmill.pipelines.running.runner import run
from gristmill.synth.rag import Retrieve
from gristmill.synth.rag.index import load_encoder
from gristmill.verifiers.grounding import Grounding

TEXTS = {
    "river": "The Harrow flows east for 27 kilometres to the sea.",
    "hill": "Carn Duff is 731 metres high.",
    "port": "Ferries to Corrick leave from the port at noon.",
    "bridge": "A bridge of stone crosses the Harrow at Skeld.",
}


def stock() -> pl.LazyFrame:
    return to_frame([Passage(name, text, name.title()) for name, text in TEXTS.items()], Passage).lazy()


def asked(problem: str, **meta: Any) -> pl.LazyFrame:
    row = Problem("q", problem, "x", meta=msgspec.json.encode(meta).decode())
    return to_frame([row], Problem).lazy()


def sources(stage: Retrieve, questions: pl.LazyFrame, seed: int = 0) -> list[str]:
    return [one["source"] for one in meta_of(stage, questions, seed)["passages"]]


def meta_of(stage: Retrieve, questions: pl.LazyFrame, seed: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(out(stage, questions, stock(), seed=seed)["meta"][0])
    return found


def test_the_nearest_come_first_and_what_shares_no_word_is_left_out() -> None:
    assert sources(Retrieve(), asked("How many kilometres does the Harrow flow?")) == ["river", "bridge"]
    assert sources(Retrieve(top_k=1), asked("How many kilometres does the Harrow flow?")) == ["river"]


def test_a_question_without_a_passage_is_rejected_with_the_reason() -> None:
    reasons = rejected(Retrieve(), asked("Who painted it?"), stock())
    assert reasons == {"q": "retrieve: no passage has a word of the question"}
    reasons = rejected(Retrieve(), asked("The Harrow?", passages=["nowhere"]), stock())
    assert reasons == {"q": "retrieve: names a passage that is not there"}


def test_recall_is_the_share_of_the_questions_own_passages_that_were_found() -> None:
    question = asked("How far does the Harrow flow?", passages=["river", "port"])
    found = meta_of(Retrieve(top_k=2), question)
    assert (found["gold"], found["recall"]) == (["river", "port"], 0.5)
    stage = Retrieve(top_k=2)
    assert stage.measured(out(stage, question, stock())) == {"recall@2 in %": [50]}
    assert stage.measured(out(stage, asked("The Harrow?"), stock())) == {"recall@2 in %": []}


def test_own_passages_are_kept_only_where_that_is_asked_for_and_recall_is_of_what_was_found() -> None:
    question = asked("How high is the Harrow?", passages=["port"])
    assert "port" not in sources(Retrieve(top_k=2), question)
    found = meta_of(Retrieve(top_k=2, keep_gold=True), question)
    assert [one["source"] for one in found["passages"]][-1] == "port"
    assert len(found["passages"]) == 2
    assert found["recall"] == 0


def test_a_second_retrieval_still_knows_the_questions_own_passages() -> None:
    once = out(Retrieve(top_k=1), asked("The Harrow", passages=["port"]), stock())
    assert meta_of(Retrieve(top_k=1), once.lazy())["gold"] == ["port"]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    number=st.integers(0, 6),
    kind=st.sampled_from(["near", "random"]),
    order=st.sampled_from(["rank", "shuffled"]),
)
def test_distractors_are_further_passages_none_of_them_named(
    seed: int, number: int, kind: Any, order: Any
) -> None:
    stage = Retrieve(top_k=1, distractors=number, distractor_kind=kind, order=order)
    found = sources(stage, asked("How far does the Harrow flow to the sea?", passages=["port"]), seed)
    assert "river" in found
    assert "port" not in found
    assert len(set(found)) == len(found)
    assert len(found) == (1 + min(number, 2) if kind == "random" else 1 + min(number, 1))


def test_a_shuffled_order_follows_the_seed_alone() -> None:
    stage = Retrieve(top_k=1, distractors=3, distractor_kind="random", order="shuffled")
    question = asked("How far does the Harrow flow?")
    orders = {tuple(sources(stage, question, seed)) for seed in range(12)}
    assert len(orders) > 1
    assert sources(stage, question, 3) == sources(stage, question, 3)


def test_a_prompt_shows_them_numbered_and_grounding_reads_them() -> None:
    [row] = from_frame(out(Retrieve(), asked("The Harrow at Skeld?"), stock()), Problem)
    shown = fill("{passages}\n\n{problem}", RowValues(row))
    assert shown.startswith(
        "[1] Bridge: A bridge of stone crosses the Harrow at Skeld.\n[2] River: The Harrow"
    )
    reference = msgspec.json.encode(RowValues(row)["passages"]).decode()
    verdict = Grounding()("A bridge of stone crosses the Harrow at Skeld [1].", reference)
    assert verdict.correct


def test_one_passage_alone_has_its_number_in_a_prompt() -> None:
    held = [{"source": "a", "text": "It is big."}]
    assert passages(held, always=True) == "[1] It is big."
    assert passages(held) == "It is big."


def test_any_table_with_a_text_to_search_for_will_do() -> None:
    made = out(Retrieve(query="text"), pl.LazyFrame({"id": ["q"], "text": ["the port"]}), stock())
    assert made.columns == ["id", "text", "meta"]
    with pytest.raises(RecipeError, match="'txt' is not a column"):
        called(Retrieve(query="txt"), pl.LazyFrame({"id": ["q"], "text": ["the port"]}), stock())


def test_tables_in_the_wrong_order_are_an_error_that_says_so() -> None:
    with pytest.raises(RecipeError, match="no column 'text'") as caught:
        called(Retrieve(query="text"), stock(), asked("The Harrow?"))
    assert "questions first" in str(caught.value.remedy)


class _Letters:
    """An embedding model that knows only how often the letters occur."""

    def encode(self, texts: list[str], *, normalize_embeddings: bool) -> Any:
        import numpy as np

        counts = np.array([[text.lower().count(letter) for letter in "abcdefghij"] for text in texts], float)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def test_an_embedding_model_ranks_all_passages_and_both_rankings_are_fused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = SimpleNamespace(SentenceTransformer=lambda name: _Letters())
    monkeypatch.setitem(sys.modules, "sentence_transformers", made)
    load_encoder.cache_clear()
    by_letters = sources(Retrieve(by="embedding", embedding="letters", top_k=4), asked("bridge"))
    assert sorted(by_letters) == sorted(TEXTS)
    fused = sources(Retrieve(by="both", embedding="letters", top_k=4), asked("bridge"))
    assert fused[0] == "bridge"
    load_encoder.cache_clear()


def test_what_cannot_rank_is_an_error_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match="embedding is None"):
        Retrieve(by="embedding")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    load_encoder.cache_clear()
    with pytest.raises(RecipeError, match="not installed"):
        called(Retrieve(by="embedding", embedding="letters"), asked("bridge"), stock())


def test_one_id_names_a_passage_and_a_title_may_be_left_out_of_the_search() -> None:
    named = asked("The Harrow", document="river")
    assert meta_of(Retrieve(gold=("document",)), named)["gold"] == ["river"]
    titled = to_frame([Passage("t", "It leaves at noon.", "The ferry")], Passage).lazy()
    assert out(Retrieve(), asked("When is the ferry?"), titled).height == 1
    assert out(Retrieve(titles=False), asked("When is the ferry?"), titled).is_empty()


def test_a_later_prompt_may_name_what_retrieve_adds(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text('{"id": "q", "problem": "How long is the river?"}\n')
    (tmp_path / "passages.jsonl").write_text('{"id": "r", "text": "The river is long."}\n')
    told = {
        "name": "adds",
        "engine": {"kind": "scripted", "replies": [{"texts": ["It is."]}]},
        "sources": {
            "questions": {"path": str(tmp_path / "questions.jsonl")},
            "passages": {"path": str(tmp_path / "passages.jsonl"), "reads": "passages"},
        },
        "stages": [
            {"stage": "retrieve", "from": ["questions", "passages"]},
            {"stage": "sample", "prompt": "{passages} {problem}"},
        ],
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(told))
    made = run(tmp_path / "recipe.yaml", runs=tmp_path / "runs", log=tmp_path / "log.sqlite", quiet=True)
    assert [(stage.name, stage.rows_out) for stage in made.summary.stages][2:] == [
        ("retrieve", 1),
        ("sample", 1),
    ]
    told["stages"][1]["prompt"] = "{pasages} {problem}"  # type: ignore[index]
    (tmp_path / "recipe.yaml").write_text(json.dumps(told))
    with pytest.raises(RecipeError, match="pasages"):
        load(tmp_path / "recipe.yaml")


def test_a_passage_has_its_score_where_that_is_wanted() -> None:
    question = asked("How many kilometres does the Harrow flow?")
    first, second = meta_of(Retrieve(scores=True), question)["passages"]
    assert first["score"] > second["score"] > 0
    drawn = meta_of(Retrieve(scores=True, distractors=1, distractor_kind="random"), question)["passages"]
    assert ["score" in one for one in drawn] == [True, True, False]
    assert all("score" not in one for one in meta_of(Retrieve(), question)["passages"])
