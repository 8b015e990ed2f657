from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.engine import Completion
from gristmill.core.errors import RecipeError
from gristmill.core.knowledge import Certainty, Knowledge
from gristmill.core.records import Judged
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.shares import wilson
from gristmill.core.stages import REJECTED_REASON
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.refusal.partition import Partition
from gristmill.synth.refusal.split import RefusalSplit, by_entropy, entropy, tied

UNREAD = Judged(Completion("???"), Verdict(Outcome.UNPARSEABLE))
LATE = Judged(Completion("x"), Verdict(Outcome.TIMEOUT))


def judged(text: str, right: bool = False, extracted: str | None = None) -> Judged:
    outcome = Outcome.CORRECT if right else Outcome.INCORRECT
    return Judged(Completion(text), Verdict(outcome, float(right), extracted))


def known(
    number: int, samples: Sequence[Judged] = (), greedy: Judged | None = None, meta: str = "{}"
) -> Knowledge:
    return Knowledge(f"q{number}", f"What is number {number}?", "g", meta, (), greedy, tuple(samples))


def rated(number: int, right: int, of: int = 10) -> Knowledge:
    return known(number, [judged("g" if i < right else "b", i < right) for i in range(of)])


def split(records: Sequence[Knowledge], seed: int = 0, **options: Any) -> list[Certainty]:
    made = RefusalSplit(**options)(to_frame(records, Knowledge).lazy(), seed).collect()
    kept = made.filter(pl.col(REJECTED_REASON).is_null()).select(Certainty.__struct_fields__)
    return list(from_frame(kept, Certainty))


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ((5,), 0.0),
        ((4, 1), 0.500402),
        ((3, 2), 0.673012),
        ((3, 1, 1), 0.950271),
        ((2, 2, 1), 1.054920),
        ((2, 1, 1, 1), 1.332179),
        ((1, 1, 1, 1, 1), 1.609438),
    ],
)
def test_the_entropies_of_five_samples(counts: tuple[int, ...], wanted: float) -> None:
    assert entropy(tuple(sorted(counts))) == pytest.approx(wanted, abs=5e-7)
    samples = [judged(f"answer {c}") for c, n in enumerate(counts) for _ in range(n)]
    [found] = split([known(0, samples)], rule="entropy")
    assert found.entropy == pytest.approx(wanted, abs=5e-7)
    assert found.share == counts[0] / 5


@pytest.mark.parametrize(("n", "sizes"), [(0, (0, 0)), (1, (0, 1)), (4, (2, 2)), (5, (2, 3))])
def test_the_sizes_of_a_split_at_the_median(n: int, sizes: tuple[int, int]) -> None:
    found = Counter(by_entropy([0.5] * n))
    assert (found["sure"], found["unsure"]) == sizes


def test_ties_keep_the_order_of_the_input_and_are_counted() -> None:
    entropies = [0.7, 0.5, 0.0, 0.5, 0.5, None, 1.1]
    certain = by_entropy(entropies)
    assert certain == ["unsure", "sure", "sure", "sure", "unsure", None, "unsure"]
    assert tied(entropies, certain) == (0.5, 2, 1)
    assert tied([0.1, 0.2], by_entropy([0.1, 0.2])) == (None, 0, 0)


@given(
    st.lists(st.none() | st.sampled_from([0.0, 0.5, 1.0]), max_size=30), st.sampled_from([0, 0.3, 0.5, 1.0])
)
@settings(max_examples=100)
def test_a_split_by_entropy_is_in_order_and_of_its_size(entropies: list[float | None], share: float) -> None:
    certain = by_entropy(entropies, share)
    there = [e for e in entropies if e is not None]
    assert [c is None for c in certain] == [e is None for e in entropies]
    assert certain.count("sure") == math.floor(round(share * 10) * len(there) / 10)
    sure = [e for e, c in zip(there, filter(None, certain), strict=True) if c == "sure"]
    unsure = [e for e, c in zip(there, filter(None, certain), strict=True) if c == "unsure"]
    assert not sure or not unsure or max(sure) <= min(unsure)


def test_by_rate_the_interval_decides_and_the_middle_is_left_out() -> None:
    found = split([rated(i, i) for i in range(11)])
    assert [c.certain for c in found] == ["unsure"] * 2 + [None] * 7 + ["sure"] * 2
    assert [(c.low, c.high) for c in found] == [wilson(i, 10) for i in range(11)]
    assert [(c.correct, c.decided) for c in found] == [(i, 10) for i in range(11)]
    pointed = split([rated(i, i) for i in range(11)], between="point", point=0.3)
    assert [c.certain for c in pointed] == ["unsure"] * 3 + ["sure"] * 8, "3 of 10 is not less than 0.3"


def test_bounds_that_are_met_count() -> None:
    low, high = wilson(5, 10)
    assert split([rated(0, 5)], sure_from=low, unsure_to=0.0)[0].certain == "sure"
    assert split([rated(0, 5)], sure_from=1.0, unsure_to=high)[0].certain == "unsure"
    with pytest.raises(RecipeError, match="overlap"):
        RefusalSplit(sure_from=0.4, unsure_to=0.5)


def test_what_cannot_be_read_is_not_right_and_what_is_undecided_does_not_count() -> None:
    [one, two] = split([known(0, [UNREAD] * 9 + [LATE]), known(1, [LATE] * 3)])
    assert (one.correct, one.decided, one.certain) == (0, 9, "unsure")
    assert (one.classes, one.entropy, one.majority, one.share) == ((-1,) * 10, None, None, 0.0)
    assert (two.decided, two.low, two.high, two.certain) == (0, 0.0, 1.0, None)


def test_by_the_greedy_answer_only_it_decides() -> None:
    greedy = [judged("Oslo", True), judged("Rome"), UNREAD, LATE, None]
    found = split([known(i, greedy=g) for i, g in enumerate(greedy)], rule="greedy")
    assert [c.certain for c in found] == ["sure", "unsure", "unsure", None, None]
    assert [c.greedy_correct for c in found] == [True, False, False, None, None]
    assert [c.greedy for c in found] == ["Oslo", "Rome", None, None, None]
    assert (found[0].classes, found[0].decided, found[0].share) == ((), 0, 0.0)


def test_by_entropy_no_verdict_has_a_say() -> None:
    def rows(right: bool) -> list[Knowledge]:
        return [known(i, [judged(f"{j % (i + 1)}", right) for j in range(5)]) for i in range(5)]

    a, b = split(rows(True), rule="entropy"), split(rows(False), rule="entropy")
    assert [c.certain for c in a] == [c.certain for c in b] == ["sure"] * 2 + ["unsure"] * 3


def test_entropy_by_share_and_by_threshold() -> None:
    rows = [known(i, [judged(f"{j % (i + 1)}") for j in range(5)]) for i in range(5)]
    assert [c.certain for c in split(rows, rule="entropy", sure_share=0.8)].count("sure") == 4
    at = entropy((2, 3))
    assert [c.certain for c in split(rows, rule="entropy", entropy_to=at)].count("sure") == 2, "inclusive"
    with pytest.raises(RecipeError, match="both given"):
        RefusalSplit(sure_share=0.5, entropy_to=1.0)


def test_classes_of_equal_answers() -> None:
    texts = ["The city of Paris.", "city of paris", "1,000", "1000", "1/2", "0.5", "Rome", "Rome "]

    def classes(kind: str) -> tuple[int, ...]:
        [found] = split([known(0, [judged("so", extracted=t) for t in texts])], classes=kind)
        return found.classes

    assert classes("exact") == (0, 1, 2, 3, 4, 5, 6, 6)
    assert classes("short_answer") == (0, 0, 1, 1, 2, 3, 4, 4)
    assert classes("math")[2:6] == (classes("math")[2],) * 2 + (classes("math")[4],) * 2


def test_the_majority_is_the_first_of_the_largest_class_and_a_tie_the_first_seen() -> None:
    texts = ["Rome", "Paris", "paris.", "rome", "Oslo"]
    [found] = split([known(0, [judged(t) for t in texts])])
    assert (found.majority, found.share, found.classes) == ("Rome", 0.4, (0, 1, 1, 0, 2))


def test_answers_are_what_the_verifier_read_and_else_the_text() -> None:
    samples = [judged("I say Rome", extracted="Rome"), judged(" Rome "), UNREAD]
    [found] = split([known(0, samples)])
    assert (found.classes, found.majority) == ((0, 0, -1), "Rome")
    assert found.share == 2 / 3


@pytest.mark.parametrize(
    ("rule", "records", "words"),
    [("greedy", [rated(0, 3)], "greedy answers"), ("rate", [known(0, greedy=UNREAD)], "samples")],
)
def test_a_rule_without_its_answers_is_an_error_that_says_what_to_set(
    rule: str, records: list[Knowledge], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        split(records, rule=rule)


def test_no_questions_make_no_rows() -> None:
    assert split([]) == split([], rule="greedy") == split([], rule="entropy") == []


def test_the_same_input_gives_the_same_table_and_every_row_is_there() -> None:
    rows = [rated(i, i % 11) for i in range(200)]
    rows = [
        Knowledge(r.id, r.problem, r.answer, json.dumps({"r": i % 5}), (), None, r.samples)
        for i, r in enumerate(rows)
    ]
    stage = RefusalSplit(partition=Partition(domain="r", out_share=0.4, test=0.25))
    frame = to_frame(rows, Knowledge).lazy()
    a, b = (stage(frame, 3).collect() for _ in range(2))
    assert a.equals(b)
    assert a["id"].to_list() == [r.id for r in rows]
    assert not a.equals(stage(frame, 4).collect())


def test_a_row_without_the_domain_is_rejected_and_says_so() -> None:
    metas = ['{"relation": "P17"}', "{}", '{"relation": null}', '{"relation": ["x"]}', "no json"]
    rows = [known(i, rated(i, 3).samples, meta=meta) for i, meta in enumerate(metas)]
    stage = RefusalSplit(partition=Partition(domain="relation", out=("P17",)))
    made = stage(to_frame(rows, Knowledge).lazy(), 0).collect()
    assert made["part"][0] == "test_ood"
    assert made[REJECTED_REASON].to_list() == [None] + ["refusal_split: no 'relation' in its meta"] * 4
