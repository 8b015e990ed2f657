from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.filters import duplicates
from gristmill.filters.duplicates import bands, near_duplicates, similarity

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
    weights = {"where": 1, "is": 1, "quito": 5, "lima": 5}
    a, b = frozenset(("where", "is", "quito")), frozenset(("where", "is", "lima"))
    assert similarity(a, b, weights) == 2 / 12
    assert similarity(a, a | {"lima"}, weights) == 7 / 12
    assert similarity(frozenset(), frozenset(), {}) == 1.0


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.6, 0.75, 0.8, 0.9, 0.99])
def test_bands_find_a_pair_at_the_threshold(threshold: float) -> None:
    chosen = bands(threshold)
    assert chosen.recall(threshold) >= duplicates.RECALL
    assert chosen.number * chosen.width <= duplicates.HASHES


def test_a_threshold_too_low_for_the_hashes_still_has_the_most_bands() -> None:
    assert bands(0.01) == (duplicates.HASHES, 1)


def test_what_is_found_is_what_comparing_every_pair_finds() -> None:
    rng = random.Random(3)
    words = [f"w{i}" for i in range(60)]
    texts = [" ".join(rng.sample(words, 8)) for _ in range(120)]
    texts += [t.replace(t.split()[0], "other") for t in texts[:60]]
    found = near_duplicates(texts, 0.7)
    sets = [frozenset(t.split()) for t in texts]
    weights = {w: (len(set(sets)) // sum(w in s for s in set(sets))).bit_length() for s in sets for w in s}
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
    monkeypatch.setattr(duplicates, "_CHUNK", 7)
    assert near_duplicates(texts, 0.6) == whole
    assert len(set(whole)) < len(whole)


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
