"""Several verifiers as one: the truth table of every mode, undecided parts among them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.errors import RecipeError
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.verifiers.pool.pool import Pool
from gristmill.verifiers.rules.combine import Combine, Mode, compare, lexicographic, merge

VERDICTS = {
    "+": Verdict(Outcome.CORRECT, score=1.0),
    "-": Verdict(Outcome.INCORRECT, score=0.0),
    "u": Verdict(Outcome.UNPARSEABLE),
    "t": Verdict(Outcome.TIMEOUT),
    "e": Verdict(Outcome.ERROR),
}
OUTCOME = {sign: verdict.outcome for sign, verdict in VERDICTS.items()}


def parts(signs: str) -> dict[str, Verdict]:
    return {f"p{i}": VERDICTS[sign] for i, sign in enumerate(signs)}


@pytest.mark.parametrize(
    ("mode", "signs", "outcome", "score"),
    [
        ("all", "+++", "+", 1.0),
        ("all", "+-+", "-", 0.0),
        ("all", "-ut", "-", 0.0),
        ("all", "+u+", "u", None),
        ("all", "ut", "t", None),
        ("all", "ute", "e", None),
        ("any", "--+", "+", 1.0),
        ("any", "u+e", "+", 1.0),
        ("any", "--", "-", 0.0),
        ("any", "-u", "u", None),
        ("majority", "++-", "+", 2 / 3),
        ("majority", "+-", "-", 0.5),
        ("majority", "++u", "+", 1.0),
        ("majority", "+-u", "u", None),
        ("majority", "--u", "-", 0.0),
        ("majority", "+ue", "e", None),
        ("weighted", "+-", "+", 0.5),
        ("weighted", "+--", "-", 1 / 3),
        ("weighted", "++u", "+", 1.0),
        ("weighted", "+-t", "t", None),
        ("weighted", "+---u", "-", 0.25),
        ("hierarchical", "+--", "+", 4 / 7),
        ("hierarchical", "-++", "-", 3 / 7),
        ("hierarchical", "+uu", "+", 1.0),
        ("hierarchical", "-uu", "-", 0.0),
        ("hierarchical", "u++", "u", None),
    ],
)
def test_modes(mode: Mode, signs: str, outcome: str, score: float | None) -> None:
    verdict = merge(parts(signs), mode)
    assert verdict.outcome is OUTCOME[outcome], verdict
    assert verdict.score == (score if score is None else pytest.approx(score))


@pytest.mark.parametrize("mode", ["all", "any", "majority", "weighted", "hierarchical"])
def test_undecided_parts_never_settle_anything(mode: Mode) -> None:
    """A verdict stands if and only if every way to decide the undecided parts leads to it."""
    for n in (1, 2, 3, 4):
        for signs in itertools.product("+-u", repeat=n):
            ways = itertools.product(*("+-" if s == "u" else s for s in signs))
            ends = {merge(parts("".join(way)), mode).outcome for way in ways}
            found = merge(parts("".join(signs)), mode).outcome
            assert found is (ends.pop() if len(ends) == 1 else Outcome.UNPARSEABLE), signs


def test_weights_and_threshold() -> None:
    scored = {
        "a": Verdict(Outcome.CORRECT, score=0.8),
        "b": Verdict(Outcome.INCORRECT, score=0.2),
        "c": Verdict(Outcome.ERROR),
    }
    verdict = merge(scored, "weighted", weights=[3, 1, 0], threshold=0.6)
    assert (verdict.outcome, verdict.score) == (Outcome.CORRECT, pytest.approx(0.65))
    assert merge(scored, "weighted", weights=[3, 1, 0], threshold=0.7).outcome is Outcome.INCORRECT
    assert merge(scored, "weighted", weights=[3, 1, 1], threshold=0.6).outcome is Outcome.ERROR


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.data())
def test_the_hierarchical_score_orders_as_the_first_difference_does(one: list[int], data: Any) -> None:
    other = data.draw(st.lists(st.integers(0, 4), min_size=len(one), max_size=len(one)))
    scores = [lexicographic([v / 4 for v in values], levels=5) for values in (one, other)]
    assert (scores[0] < scores[1]) == (one < other)
    assert 0 <= scores[0] <= 1


def test_compare_asks_the_next_criterion_where_one_does_not_separate() -> None:
    def answer(*scores: float | None) -> dict[str, Verdict]:
        return {
            f"c{i}": Verdict(Outcome.ERROR) if s is None else Verdict(Outcome.CORRECT, score=s)
            for i, s in enumerate(scores)
        }

    assert compare(answer(1, 0), answer(0, 1)) == ("first", "c0")
    assert compare(answer(1, 0), answer(1, 1)) == ("second", "c1")
    assert compare(answer(0.6, 0), answer(0.5, 1), {"c0": 0.2}) == ("second", "c1")
    assert compare(answer(None, 0.4), answer(1, 0.3)) == ("first", "c1")
    assert compare(answer(1, None), answer(1, 1)) == ("tie", None)


REGISTERED = {
    "mode": "all",
    "parts": [
        {"kind": "short_answer", "metric": "f1"},
        {"kind": "format", "words": [1, 3]},
        {"kind": "format", "pattern": "^P"},
    ],
}


def test_registered_parts_and_their_evidence() -> None:
    verify = msgspec.convert(REGISTERED, Combine)
    verdict = verify("Paris", "paris")
    assert (verdict.outcome, verdict.extracted, verdict.rule) == (Outcome.CORRECT, "Paris", "all")
    kept = json.loads(verify("In old Rome", "Rome").detail)
    assert list(kept) == ["short_answer", "format", "format#2"]
    assert kept["short_answer"]["score"] == pytest.approx(0.5)
    assert kept["format#2"]["outcome"] == "incorrect"
    assert "pattern" in kept["format#2"]["detail"]


def test_callables_and_one_that_raises() -> None:
    def right(completion: str, reference: str) -> Verdict:
        return VERDICTS["+"]

    def broken(completion: str, reference: str) -> Verdict:
        raise KeyError("lost")

    verdict = Combine(parts=(right, broken))("", "")
    assert (verdict.outcome, verdict.rule) == (Outcome.ERROR, "all: undecided parts")
    assert json.loads(verdict.detail)["broken"]["detail"] == "KeyError: 'lost'"
    assert Combine(parts=(right, broken), mode="any")("", "").correct


def test_references_by_part() -> None:
    kinds = ({"kind": "short_answer"}, {"kind": "constraints"})
    verify = Combine(parts=kinds, references="by_part")
    reference = {"short_answer": "Paris", "constraints": [{"check": "count", "of": "words", "max": 1}]}
    assert verify("Paris", json.dumps(reference)).correct
    assert verify("Paris", json.dumps({"short_answer": "Paris"})).outcome is Outcome.ERROR
    for bad in ("Paris", "{", '{"nothing": "x"}'):
        assert verify("Paris", bad).rule == "reference unparseable"


@pytest.mark.parametrize(
    "options",
    [
        {"parts": []},
        {"parts": [{"kind": "nothing"}]},
        {"parts": [{"metric": "f1"}]},
        {"parts": ["math"]},
        {"parts": [{"kind": "short_answer", "metrics": "f1"}]},
        {"parts": [{"kind": "short_answer", "metric": "f2"}]},
        {"parts": [{"kind": "short_answer"}], "weights": [1]},
        {"parts": [{"kind": "short_answer"}], "mode": "weighted", "weights": [0]},
        {"parts": [{"kind": "short_answer"}], "mode": "weighted", "weights": [1, 1]},
    ],
)
def test_options_that_cannot_work(options: dict[str, Any]) -> None:
    with pytest.raises((RecipeError, msgspec.ValidationError)):
        msgspec.convert(options, Combine)


def test_in_a_worker() -> None:
    with Pool("combine", options=REGISTERED, workers=1) as pool:
        assert pool.verify("Paris", "paris").correct
        assert pool.verify("In old Rome", "Rome").outcome is Outcome.INCORRECT


def test_prepare_reaches_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    import gristmill.verifiers.rules.overlap as overlap

    calls: list[str] = []
    monkeypatch.setattr(overlap, "prepare_worker", lambda: calls.append("bleu"))
    Combine(parts=({"kind": "short_answer"}, Combine(parts=({"kind": "bleu"},)))).prepare()
    assert calls == ["bleu"]


@settings(deadline=None)  # the first call imports what it needs
@given(st.text(max_size=100), st.text(max_size=50))
def test_any_text_gets_a_verdict(completion: str, reference: str) -> None:
    verdict = msgspec.convert(REGISTERED, Combine)(completion, reference)
    assert verdict.rule != "raised"
