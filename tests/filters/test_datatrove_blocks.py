"""datatrove's filters in a recipe, and ours in a datatrove pipeline."""

from __future__ import annotations

import sys

import polars as pl
import pytest
from table_rows import out, rejected

from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.core.records import Passage
from gristmill.core.schema import to_frame
from gristmill.filters import Datatrove, Dedupe, Quality, datatrove_filter
from gristmill.filters.datatrove_blocks import DedupName
from gristmill.filters.quality import LengthLimits

TEXTS = ["a mill by a brook", "the mill of the town", "a mill by a brook", "x"]


def passages(*texts: str) -> pl.LazyFrame:
    return to_frame([Passage(f"p{i}", text) for i, text in enumerate(texts)], Passage).lazy()


def test_a_filter_of_datatrove_rejects_with_its_name() -> None:
    stage = Datatrove(filter="RegexFilter", options={"regex_exp": "town"}, text="text")
    assert rejected(stage, passages(*TEXTS)) == {"p1": "datatrove: RegexFilter"}
    assert rejected(stage, out(stage, passages(*TEXTS)).lazy()) == {}


def test_its_exact_deduplication_keeps_one_of_equal_texts() -> None:
    stage = Datatrove(dedup="exact")
    assert rejected(stage, passages(*TEXTS)) == {"p2": "datatrove: exact duplicate"}
    assert rejected(stage, out(stage, passages(*TEXTS)).lazy()) == {}


class BySpace:
    """A tokenizer of words between spaces, in place of spacy's."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()


@pytest.mark.parametrize("way", ["minhash", "bloom"])
def test_its_ways_to_count_words_find_what_was_there_before(
    way: DedupName, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("bloom_filter", "minhash"):
        name = f"datatrove.pipeline.dedup.{module}.load_word_tokenizer"
        monkeypatch.setattr(name, lambda language: BySpace())
    texts = [" ".join(f"{name}{i}" for i in range(40)) for name in "abcdef"]
    stage = Datatrove(dedup=way)
    assert rejected(stage, passages(*texts, texts[2])) == {"p6": f"datatrove: {way} duplicate"}


def test_a_size_of_which_its_bloom_filter_uses_two_places_is_refused() -> None:
    with pytest.raises(RecipeError, match="m_bytes is 1024, of which"):
        Datatrove(dedup="bloom", options={"m_bytes": 1024})(passages("x"), 0)


def test_what_is_random_follows_the_seed() -> None:
    stage, rows = Datatrove(filter="SamplerFilter", options={"rate": 0.5}), passages(*map(str, range(40)))
    assert rejected(stage, rows, seed=1) == rejected(stage, rows, seed=1)
    assert rejected(stage, rows, seed=1) != rejected(stage, rows, seed=2)


def test_rows_without_text_are_kept() -> None:
    rows = passages("x", "y").with_columns(text=pl.lit(None, pl.String))
    assert rejected(Datatrove(filter="RegexFilter", options={"regex_exp": "."}), rows) == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give either 'filter' or 'dedup'"),
        ({"filter": "RegexFilter", "dedup": "exact"}, "give either 'filter' or 'dedup'"),
        ({"filter": "RegexFiltr"}, "'RegexFiltr' is not a filter of datatrove"),
        ({"filter": "RegexFilter", "options": {"regex": "x"}}, "RegexFilter refuses its options"),
        ({"dedup": "minhash", "options": {"grams": 5}}, "MinhashConfig refuses its options"),
    ],
)
def test_what_cannot_be_run_is_refused_on_an_empty_table(options: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        Datatrove(**options)(passages(), 0)  # type: ignore[arg-type]


def test_a_filter_sees_what_a_row_s_meta_says() -> None:
    rows = to_frame([Passage("p0", "x", meta='{"url": "a"}'), Passage("p1", "x")], Passage).lazy()
    options = {"filter_function": lambda document: document.metadata == {"url": "a"}}
    assert rejected(Datatrove(filter="LambdaFilter", options=options), rows) == {
        "p1": "datatrove: LambdaFilter"
    }


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("no route to the host"), "LambdaFilter cannot read or fetch a file .* no route to the host"),
        (AssertionError("no url"), "LambdaFilter cannot work with these rows and options: no url"),
        (ValueError("language 'x'"), "these rows and options: language 'x'"),
    ],
)
def test_what_datatrove_fails_with_is_an_error_of_the_stage(error: Exception, said: str) -> None:
    def fail(document: object) -> bool:
        raise error

    with pytest.raises(RecipeError, match=said):
        Datatrove(filter="LambdaFilter", options={"filter_function": fail})(passages("x"), 0)


def test_without_datatrove_the_stage_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datatrove.data", None)
    monkeypatch.setitem(sys.modules, "datatrove", None)
    with pytest.raises(MissingExtraError, match="gristmill\\[distributed\\]"):
        Datatrove(dedup="exact")(passages("x"), 0)


def test_a_filter_of_ours_is_a_block_of_a_datatrove_pipeline() -> None:
    from datatrove.data import Document

    def kept(block: object) -> list[str]:
        documents = [Document(text=text, id=f"d{i}", metadata={"n": i}) for i, text in enumerate(TEXTS)]
        return [document.id for document in block.run(iter(documents))]  # type: ignore[attr-defined]

    short = Quality(text="text", length=LengthLimits(min_words=2))
    assert kept(datatrove_filter(short, batch_size=1)) == ["d0", "d1", "d2"]
    assert kept(datatrove_filter(Dedupe(text="text", near=None))) == ["d0", "d1", "d3"]
