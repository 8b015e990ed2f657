from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.filters import words
from gristmill.filters.duplicates import (
    bands,
    feature_sets,
    minhash,
    near_duplicates,
    similar_pairs,
    similarities,
)

PLACES = ["Berlin", "Lagos", "Quito", "Oslo", "Hanoi", "Lima", "Cairo", "Perth", "Bergen", "Dakar"]


def test_case_articles_and_punctuation_make_no_difference() -> None:
    texts = ["Who wrote the Iliad?", "who wrote Iliad", "Who painted Guernica?", "WHO WROTE, the Iliad!"]
    assert near_duplicates(texts, 1.0) == [0, 0, 2, 0]


def test_questions_of_one_template_are_apart_and_about_one_rare_name_together() -> None:
    texts = [f"In which country is the city of {place} located?" for place in PLACES]
    texts += ["In which country is Quito located?", "Who is the head of state of the city of Rome?"]
    found = near_duplicates(texts, 0.6)
    assert found[:10] == list(range(10)), "the words that all of them share weigh next to nothing"
    assert found[10] == PLACES.index("Quito")
    assert found[11] == 11


def test_the_weight_of_a_word_is_its_rarity_in_bits() -> None:
    found = feature_sets([f"where is {place}" for place in [*PLACES, *PLACES[:6]]] + ["where is Quito Lima"])
    weights = found.weights()
    # 17 texts: "where" and "is" are in all (1 bit), Quito and Lima in 3 (3 bits), Oslo in 2 (4).
    assert [int(weights[found.ids[a:b]].sum()) for a, b in pairwise(found.starts[[2, 3, 4]])] == [5, 6]
    quito, lima, both = PLACES.index("Quito"), PLACES.index("Lima"), 16
    shared = similarities(found, weights, np.array([quito, quito]), np.array([lima, both]))
    assert shared.tolist() == [2 / 8, 5 / 8]
    assert set(found.weights(even=True).tolist()) == {1}


def test_copies_of_a_text_weigh_no_less_than_the_text() -> None:
    texts = ["Name the river of Lagos.", "Name the river of Oslo.", "Name the river of Lima.", "Who?"]
    assert near_duplicates(texts * 9, 0.7) == [0, 1, 2, 3] * 9


def test_signs_of_formulas_count_and_other_punctuation_does_not() -> None:
    found = feature_sets(["x+2", "x-2", "x*2", "x 2", "(x, 2)!", "x²", "x2"]).fingerprints()
    marks = [tuple(row) for row in found.tolist()]
    assert len(set(marks[:4])) == 4 and marks[3] == marks[4]
    assert marks[5] != marks[6] == marks[3]


def test_a_script_without_spaces_is_compared_by_characters() -> None:
    texts = ["今天天气很好我们去公园散步吧朋友", "今天天气很好我们去公园散步吧伙伴", "明年他想买一辆新车"]
    assert near_duplicates(texts, 0.6) == [0, 0, 2]


def test_only_texts_of_one_key_are_compared() -> None:
    texts, keys = ["one two three"] * 4, np.array([1, 2, 1, 2], np.uint64)
    found = similar_pairs(feature_sets(texts), 0.9, keys=keys)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(0, 2), (1, 3)]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.75, 0.8, 0.9, 0.99])
def test_bands_find_a_pair_at_the_threshold(threshold: float) -> None:
    chosen = bands(threshold)
    assert chosen.recall(threshold) >= minhash.RECALL
    assert chosen.number * chosen.width <= minhash.HASHES


def test_a_threshold_too_low_for_the_hashes_still_has_the_most_bands() -> None:
    assert bands(0.01) == (minhash.HASHES, 1)


def test_what_is_found_is_what_comparing_every_pair_finds() -> None:
    rng = random.Random(3)
    words = [f"w{i}" for i in range(60)]
    texts = [" ".join(rng.sample(words, 8)) for _ in range(120)]
    texts += [t.replace(t.split()[0], "other") for t in texts[:60]]
    found = near_duplicates(texts, 0.7)
    sets = [frozenset(t.split()) for t in texts]
    weights = {w: (len(set(sets)) // sum(w in s for s in set(sets))).bit_length() for s in sets for w in s}

    def similarity(a: frozenset[str], b: frozenset[str], weights: dict[str, int]) -> float:
        return sum(weights[w] for w in a & b) / sum(weights[w] for w in a | b)

    pairs = [
        (i, j) for j in range(len(sets)) for i in range(j) if similarity(sets[i], sets[j], weights) >= 0.7
    ]
    together = [found[i] == found[j] for i, j in pairs]
    assert len(pairs) > 20
    assert sum(together) >= 0.97 * len(pairs)
    # What is together is linked: each member but the first is near some other member.
    for i in (i for i, first in enumerate(found) if first != i):
        assert any(i in pair for pair in pairs)


def test_the_result_does_not_depend_on_the_size_of_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"What is the capital of {p} and of {q}?" for p in PLACES for q in PLACES]
    whole = near_duplicates(texts, 0.6)
    monkeypatch.setattr(minhash, "_CHUNK", 7)
    for limit, value in (("CHUNK", 7), ("BYTES", 900)):
        monkeypatch.setattr(words, limit, value)
        assert near_duplicates(texts, 0.6) == whole
    monkeypatch.setattr(words, "BYTES", 1)
    assert [len(piece) for piece in words.pieces(words.series(texts[:3]))] == [1, 1, 1]
    assert len(set(whole)) < len(whole)


def test_a_search_among_fewer_texts_finds_what_a_new_one_does() -> None:
    features = feature_sets([f"What is the capital of {p} and of {q}?" for p in PLACES for q in PLACES])
    search = minhash.PairSearch(features, 0.6)
    for step in (1, 2, 3, 7):  # weights change with every step
        left = np.arange(0, len(features), step)
        found, new = search.among(left), similar_pairs(features.taken(left), 0.6)
        assert [part.tolist() for part in found] == [part.tolist() for part in new]
    assert len(search.among(np.arange(0)).first) == 0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(alphabet="ab c?1", max_size=12), max_size=12), st.sampled_from([0.5, 0.8, 1.0]))
def test_every_text_points_to_the_first_of_its_group(texts: list[str], threshold: float) -> None:
    found = near_duplicates(texts, threshold)
    assert len(found) == len(texts)
    assert all(found[first] == first <= i for i, first in enumerate(found))
    assert all(found[i] == found[texts.index(t)] for i, t in enumerate(texts))


def test_shingles_tell_the_order_of_words() -> None:
    texts = ["dog bites man in park", "man bites dog in park", "dog bites man in park today"]
    assert near_duplicates(texts, 0.9)[1] == 0, "as sets of words they are equal"
    assert near_duplicates(texts, 0.4, shingle=2) == [0, 1, 0]
    assert near_duplicates(["one", "One.", "two"], 0.9, shingle=3) == [0, 0, 2]


@pytest.mark.parametrize(("threshold", "shingle"), [(0, 1), (1.1, 1), (0.5, 0)])
def test_settings_out_of_range_are_refused(threshold: float, shingle: int) -> None:
    with pytest.raises(ValueError, match="threshold"):
        near_duplicates(["a"], threshold, shingle=shingle)


def test_nothing_has_no_groups_and_blank_texts_are_one() -> None:
    assert near_duplicates([]) == []
    assert near_duplicates(["", " ", "x"]) == [0, 0, 2]


def test_a_lone_surrogate_is_a_text_like_any() -> None:
    assert near_duplicates(["a \ud800 b", "a \ud800 b", "c d"]) == [0, 0, 2]
