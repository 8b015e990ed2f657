"""Implicit PRM and PRIME: the reference's vectors, tokens and steps, and the stage over two engines."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gristmill.core.engine import Ability, Completion, Message, Request, TokenLogprob
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.records import Sampled
from gristmill.core.stages import Context
from gristmill.core.steps import ProcessRow
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.engines.scripted import ScriptedEngine
from gristmill.synth.step_values.implicit import (
    ImplicitRewards,
    log_ratios,
    outcome_loss,
    process_rloo,
    rloo,
    scaled,
    step_sums,
)
from gristmill.synth.step_values.steps import Split

TEXT = "one two\n\nthree four\n\nfive"
RATIOS = {"one": 0.4, " two\n\n": -0.2, "three": 1.0, " four\n\n": 0.6, "five": -2.0}
GROUP = [[0.2, 0.4], [0.1, -0.1], [0, 0.2], [-0.3, 0.1]]


def engine(offset: dict[str, float] | None = None, tokens: list[str] | None = None) -> ScriptedEngine:
    """Scores every token -3, with ``offset`` on top."""

    def score(messages: tuple[Message, ...], text: str) -> list[TokenLogprob]:
        cut = tokens or list(RATIOS)
        assert "".join(cut) == text
        return [TokenLogprob(t, -3.0 + (offset or {}).get(t, 0.0)) for t in cut]

    return ScriptedEngine(lambda request, index: "", score=score)


def sample(text: str = TEXT, outcome: Outcome | None = Outcome.CORRECT) -> Sampled:
    verdict = None if outcome is None else Verdict(outcome)
    ask = (Message("user", "Count."),)
    return Sampled("p1/0", "p1", 0, "Count.", "5", ask, text, "stop", 3, 5, verdict)


async def unused(completion: str, reference: str) -> Verdict:
    raise AssertionError


def rewarded(stage: ImplicitRewards, given: Sampled, **engines: ScriptedEngine) -> ProcessRow:
    own = engines.pop("own", None) or ScriptedEngine(lambda r, i: "")
    [row] = asyncio.run(stage(given, Context(own, unused, 0, engines)))
    return row


def test_the_vector_of_the_reference() -> None:
    row = rewarded(ImplicitRewards(reference="ref"), sample(), own=engine(RATIOS), ref=engine())
    assert row.values == pytest.approx((0.01, 0.08, -0.1))
    assert (row.kind, row.solved, row.steps) == ("implicit(0.05)", True, tuple(Split()(TEXT)))
    assert (row.correct, row.decided, row.low, row.high) == ((0,) * 3, (0,) * 3, (0.0,) * 3, (1.0,) * 3)
    stage = ImplicitRewards(policy="rl", reference="ref", values="cumulative")
    row = rewarded(stage, sample(outcome=None), rl=engine(RATIOS), ref=engine())
    assert row.values == pytest.approx((0.01, 0.09, -0.01))
    assert (row.kind, row.solved) == ("implicit(0.05), cumulative", None)


def test_the_loss_of_the_outcome() -> None:
    total = sum(RATIOS.values())
    assert outcome_loss(total, True) == pytest.approx(0.69816, abs=1e-5)
    assert outcome_loss(total, False) == pytest.approx(0.68816, abs=1e-5)
    assert outcome_loss(-1e9, True) == pytest.approx(5e7)  # exp(5e7) would overflow
    assert outcome_loss(1e9, True) == 0


@pytest.mark.parametrize(
    ("outcome", "says"),
    [("incorrect", False), ("unparseable", False), ("timeout", None), ("error", None)],
)
def test_what_is_known_of_the_answer(outcome: str, says: bool | None) -> None:
    row = rewarded(ImplicitRewards(reference="r"), sample(outcome=Outcome(outcome)), own=engine(), r=engine())
    assert row.solved is says
    assert row.values == (0, 0, 0)


def test_a_token_over_a_boundary_counts_where_it_begins() -> None:
    tokens = [TokenLogprob("a", 1.0), TokenLogprob("b\n\nc", 10.0), TokenLogprob("d", 100.0)]
    assert step_sums(tokens, ["ab\n\n", "cd"]) == [11.0, 100.0]
    # Tokens that are bytes of the character behind the boundary belong behind it.
    bytes_ = [TokenLogprob("a", 1.0), TokenLogprob("", 10.0), TokenLogprob("é", 100.0)]
    assert step_sums(bytes_, ["a", "é"]) == [1.0, 110.0]


@settings(max_examples=100)
@given(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=8), st.data())
def test_no_tokens_number_is_lost_or_counted_twice(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text)), max_size=4)) | {len(text)})
    steps = [text[a:b] for a, b in zip([0, *cuts], cuts, strict=False)]
    tokens = [TokenLogprob(p, float(2**i)) for i, p in enumerate(parts)]
    assert sum(step_sums(tokens, steps)) == 2 ** len(parts) - 1


def test_other_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="not of the same text"):
        step_sums([TokenLogprob("a", 1.0)], ["b"])


def test_models_of_two_tokenizers_are_refused() -> None:
    other = engine(tokens=["one two", "\n\nthree four\n\nfive"])
    with pytest.raises(RowRejected, match="one tokenizer") as caught:
        rewarded(ImplicitRewards(reference="r"), sample(), own=engine(), r=other)
    assert caught.value.reason == "tokens differ"
    assert log_ratios(Completion("a"), Completion("a")) is None


def test_an_empty_completion_has_no_steps() -> None:
    with pytest.raises(RowRejected) as caught:
        rewarded(ImplicitRewards(reference="r"), sample(""), own=engine(), r=engine())
    assert caught.value.reason == "no steps"


def test_it_says_which_engines_must_score() -> None:
    own = ImplicitRewards(reference="ref")
    assert own.needs == {Ability.SCORE} and own.uses == {"ref": {Ability.SCORE}}
    named = ImplicitRewards(policy="rl", reference="ref")
    assert not named.needs and named.uses == {"rl": {Ability.SCORE}, "ref": {Ability.SCORE}}
    with pytest.raises(RecipeError, match="no engine named 'ref'"):
        rewarded(own, sample(), own=engine())
    with pytest.raises(msgspec.ValidationError, match="beta"):
        msgspec.convert({"reference": "ref", "beta": 0}, ImplicitRewards)


def test_the_estimate_counts_what_is_read_and_nothing_written() -> None:
    estimate = ImplicitRewards(reference="r").estimate(sample())
    assert (estimate.completions_min, estimate.completions_max, estimate.completion_tokens) == (2, 2, 0)
    assert estimate.prompt_tokens == (len("Count.") + len(TEXT)) // 4


def test_both_engines_are_asked_for_the_completion_after_the_samples_messages() -> None:
    asked: list[Request] = []

    class Recorder(ScriptedEngine):
        async def generate(self, request: Request, *, first: int = 0, n: int = 1) -> list[Completion]:
            asked.append(request)
            return await super().generate(request, first=first, n=n)

    def score(messages: tuple[Message, ...], text: str) -> list[TokenLogprob]:
        return [TokenLogprob(text, 0.0)]

    both: list[Any] = [Recorder(lambda r, i: "", score=score) for _ in range(2)]
    rewarded(ImplicitRewards(reference="r"), sample(), own=both[0], r=both[1])
    assert [(r.messages, r.prefix, r.score) for r in asked] == [(sample().messages, TEXT, True)] * 2


def test_rloo_of_outcomes() -> None:
    assert rloo([1, 0, 1, 0]) == pytest.approx([2 / 3, -2 / 3, 2 / 3, -2 / 3])
    with pytest.raises(ValueError, match="no others"):
        rloo([1])


def test_rloo_of_tokens_as_it_should_be_and_as_primes_code_has_it() -> None:
    assert process_rloo(GROUP)[0] == pytest.approx([0.2, 0.4])
    code = process_rloo(GROUP, "prime")
    assert code[0] == pytest.approx([0.166667, 0.433333], abs=1e-6)
    for row, ours, theirs in zip(GROUP, process_rloo(GROUP), code, strict=True):
        mean = sum(row) / len(row)
        for r, a, b in zip(row, ours, theirs, strict=True):
            assert b - a == pytest.approx((r - mean) / 3)


def test_scores_of_one_number_make_the_two_the_same() -> None:
    rows = [[r] for r in (1.0, 0.0, 1.0, 0.0)]
    wanted = rloo([1, 0, 1, 0])
    assert [a for [a] in process_rloo(rows)] == pytest.approx(wanted)
    assert [a for [a] in process_rloo(rows, "prime")] == pytest.approx(wanted)


def test_scaling_is_by_the_greatest_sum_to_the_end() -> None:
    # Sums from each token on: 1, 3 | -4, -1: the greatest is 4.
    found = scaled([[-2.0, 3.0], [-3.0, -1.0]])
    assert found[0] == pytest.approx([-0.5, 0.75], abs=1e-6)
    assert found[1] == pytest.approx([-0.75, -0.25], abs=1e-6)
    assert scaled([[], [0.0]]) == [[], [0.0]]
