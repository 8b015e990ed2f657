"""``dedupe`` keeps one of rows that say the same, by the stated rule, and names it in each of the others."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_rows import RIGHT, WRONG, called, out, rejected, sample, samples

from gristmill.core.contracts.tables import dry_run
from gristmill.core.errors import RecipeError
from gristmill.core.records import Message, Pair, Passage, Problem, Sampled, Score
from gristmill.core.schema import to_frame
from gristmill.core.stages import REJECTED_DETAIL, REJECTED_REASON
from gristmill.filters import Dedupe
from gristmill.pipelines import Pipeline

LONG = "A baker fills forty trays with rolls, sells half of them before noon and gives nine to her brother"
WORDS = LONG.split()


def passages(*texts: str | None) -> pl.LazyFrame:
    return to_frame([Passage(f"p{i}", t or "") for i, t in enumerate(texts)], Passage).lazy()


def details(stage: Dedupe, frame: pl.LazyFrame) -> dict[str, str]:
    made = called(stage, frame).filter(pl.col(REJECTED_REASON).is_not_null())
    return dict(made.select("id", REJECTED_DETAIL).iter_rows())


def test_equal_but_for_case_and_space_is_exact_and_a_power_is_no_digit() -> None:
    rows = passages("Find x² + 1.", "find  x²\n+ 1. ", "Find x2 + 1.", "Find x² − 1.")
    assert rejected(Dedupe(near=None), rows) == {"p1": "dedupe: exact duplicate"}
    assert details(Dedupe(near=None), rows) == {"p1": "duplicates p0 (similarity 1.000)"}


def test_a_near_duplicate_names_the_row_and_the_similarity() -> None:
    rows = passages(LONG, "Something else entirely.", LONG.replace("forty", "fifty"))
    assert rejected(Dedupe(near=0.7, weights="even"), rows) == {"p2": "dedupe: near duplicate"}
    # Without articles both have 18 words, of which 17 are shared: 17 of 19.
    assert details(Dedupe(near=0.7, weights="even"), rows) == {"p2": "duplicates p0 (similarity 0.894)"}
    assert rejected(Dedupe(near=0.9, weights="even"), rows) == {}


def test_questions_of_one_template_stay_unless_all_words_weigh_the_same() -> None:
    places = ("Lima", "Oslo", "Quito", "Lagos", "Hanoi", "Perth", "Dakar", "Cairo")
    rows = passages(*(f"In which country is the old city of {place} located?" for place in places))
    assert rejected(Dedupe(near=0.7), rows) == {}
    assert len(rejected(Dedupe(near=0.7, weights="even"), rows)) == 7


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (None, "b/0"),
        (["verdict", "shortest"], "b/0"),
        (["verdict", "length"], "d/0"),
        (["length"], "d/0"),
        (["shortest"], "b/0"),
        (["first"], "a/0"),
        (["first", "length"], "a/0"),
        (["scores.reward"], "c/0"),
        (["prompt_tokens", "scores.reward"], "c/0"),
    ],
)
def test_the_kept_row_is_the_best_by_the_rules(keep: list[str] | None, kept: str) -> None:
    rows = samples(
        sample("a", completion=LONG + ".", verdict=WRONG, scores=(Score("reward", 0.2),)),
        sample("b", completion=LONG, verdict=RIGHT),
        sample("c", completion=LONG + "!", verdict=None, scores=(Score("reward", 0.9),)),
        sample("d", completion=LONG + "!!!", verdict=RIGHT, scores=(Score("reward", 0.1),)),
    )
    assert out(Dedupe(text="completion", keep=keep), rows)["id"].to_list() == [kept]


def test_rows_are_compared_with_those_of_their_problem_only() -> None:
    rows = samples(sample("a"), sample("a", 1), sample("b"), sample("b", 1, completion="four"))
    assert set(rejected(Dedupe(text="completion", per="problem"), rows)) == {"a/1"}
    assert set(rejected(Dedupe(text="completion"), rows)) == {"a/1", "b/0"}


def test_a_conversation_is_all_of_its_messages_and_what_they_lead_to() -> None:
    rows = samples(sample("a"), sample("b"))
    asked = (
        rows.with_columns(messages=[[Message("user", q).__struct_fields__] for q in "ab"]) if False else rows
    )
    assert set(rejected(Dedupe(), asked)) == {"b/0"}, "without messages the completion is all there is"
    pair = [
        Pair(
            f"{i}",
            "p",
            "k",
            (Message("user", "Go?"),),
            (Message("assistant", c),),
            (Message("assistant", r),),
        )
        for i, (c, r) in enumerate([("yes", "no"), ("yes", "no"), ("no", "yes"), ("yes", "never")])
    ]
    assert set(rejected(Dedupe(near=None), to_frame(pair, Pair).lazy())) == {"1"}
    bare = to_frame([Problem(str(i), q) for i, q in enumerate(["Why?", "why?", "Who?"])], Problem).lazy()
    assert set(rejected(Dedupe(near=None), bare)) == {"1"}


def test_a_row_is_never_dropped_through_a_third() -> None:
    first, last = WORDS[:12], WORDS[6:18]
    chain = [" ".join(first), " ".join(WORDS[3:15]), " ".join(last)]
    assert set(rejected(Dedupe(near=0.55, weights="even"), passages(*chain))) == {"p1"}


def test_null_texts_are_kept() -> None:
    rows = to_frame(
        [Problem("a", "x", None), Problem("b", "y", None), Problem("c", "z", "7")], Problem
    ).lazy()
    assert rejected(Dedupe(text="answer"), rows) == {}


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(RecipeError, match="'complexion' is not a column") as caught:
        dry_run("d", Dedupe(text="complexion"), Sampled)
    assert "'completion'" in str(caught.value.remedy)
    with pytest.raises(RecipeError, match="these rows have no verdict"):
        dry_run("d", Dedupe(keep=["verdict"]), Passage)
    with pytest.raises(RecipeError, match="go together"):
        Dedupe(semantic=0.9)


def test_a_missing_package_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(RecipeError, match="needs the package semhash") as caught:
        called(Dedupe(semantic=0.9, model="somewhere"), passages("a b", "c d"))
    assert "gristmill[semantic]" in str(caught.value.remedy)


def test_texts_that_mean_the_same_by_an_embedding_model(tmp_path: Path) -> None:
    model2vec = pytest.importorskip("model2vec", reason="semhash is an optional extra")
    pytest.importorskip("semhash", reason="semhash is an optional extra")
    tokenizers = pytest.importorskip("tokenizers")
    import numpy as np

    vectors = {
        "car": (1, 0, 0),
        "automobile": (0.95, 0.1, 0),
        "tree": (0, 1, 0),
        "red": (0, 0, 1),
        "[UNK]": (0, 0, 0),
    }
    level = tokenizers.models.WordLevel({word: i for i, word in enumerate(vectors)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(level)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model = model2vec.StaticModel(np.array(list(vectors.values()), np.float32), tokenizer)
    model.save_pretrained(str(tmp_path / "m"))
    rows = passages("red car", "red tree", "red automobile")
    stage = Dedupe(near=None, semantic=0.9, model=str(tmp_path / "m"))
    assert rejected(stage, rows) == {"p2": "dedupe: same meaning"}
    assert details(stage, rows)["p2"].startswith("duplicates p0 (similarity 0.99")


TEXTS = st.lists(
    st.lists(st.sampled_from(WORDS[:9]), max_size=6).map(" ".join)
    | st.sampled_from(["", "!", "¿?", "A a", LONG]),
    max_size=14,
)


@settings(max_examples=40, deadline=None)
@given(texts=TEXTS, near=st.sampled_from([None, 0.3, 0.6, 1.0]), shingle=st.sampled_from([1, 3]))
def test_twice_is_once_and_nothing_is_lost(texts: list[str], near: float | None, shingle: int) -> None:
    stage = Dedupe(near=near, shingle=shingle)
    made = stage(passages(*texts), 0).collect()
    assert made.drop(REJECTED_REASON, REJECTED_DETAIL).equals(passages(*texts).collect())
    dropped = made.filter(pl.col(REJECTED_REASON).is_not_null())
    kept = made.filter(pl.col(REJECTED_REASON).is_null())
    assert dropped[REJECTED_DETAIL].null_count() == 0
    assert set(dropped[REJECTED_DETAIL].str.extract(r"^duplicates (\S+)")) <= set(kept["id"])
    assert rejected(stage, kept.drop(REJECTED_REASON, REJECTED_DETAIL).lazy()) == {}


@settings(max_examples=25, deadline=None)
@given(texts=TEXTS, seed=st.integers(0, 9))
def test_the_order_of_rows_has_no_say_where_a_rule_decides(texts: list[str], seed: int) -> None:
    rows = [Problem(f"p{i}", t, level=i) for i, t in enumerate(texts)]
    moved = rows[:]
    random.Random(seed).shuffle(moved)
    stage = Dedupe(near=0.5, text="problem", keep=["level"])
    one, other = (stage(to_frame(r, Problem).lazy(), 0).collect().sort("id") for r in (rows, moved))
    assert one.equals(other)


def test_a_run_writes_the_detail_of_each_dropped_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"id": name, "problem": LONG, "answer": "1"} for name in ("a", "b")]
    done = Pipeline(rows, [Dedupe(near=None)]).run("runs/x", quiet=True)
    lost = done.rejected().collect()
    assert done.rows().collect()["id"].to_list() == ["a"]
    assert lost.select("id", "reason", "detail").rows() == [
        ("b", "dedupe: exact duplicate", "duplicates a (similarity 1.000)")
    ]


def test_what_is_kept_of_exact_duplicates_is_decided_by_hashes_of_the_texts_as_by_the_texts() -> None:
    rows = samples(
        sample("a", 0, completion="Equal  text", verdict=WRONG),
        sample("a", 1, completion="another"),
        sample("b", 0, completion="equal text"),
        sample("b", 1, completion="EQUAL\ttext", verdict=WRONG),
    )
    for stage in (Dedupe(near=None), Dedupe(near=None, keep=["shortest"]), Dedupe(near=None, per="problem")):
        keys = stage.keyed(rows)
        assert keys is not None
        assert "completion" not in keys.collect_schema()
        said = stage(keys, 0).select(REJECTED_REASON, REJECTED_DETAIL).collect()
        assert said.equals(stage(rows, 0).select(REJECTED_REASON, REJECTED_DETAIL).collect())
    assert Dedupe().keyed(rows) is None
    assert Dedupe(near=None, keep=["index - AVG(index)"]).keyed(rows) is None
