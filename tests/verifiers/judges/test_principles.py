"""SALMON's principle scores: the vector of the reference, gaps from a judge, draws."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import pytest

from gristmill.core.engine import Ability, Completion, Request, TokenLogprob, TokenScore
from gristmill.core.errors import RecipeError
from gristmill.engines.scripted import ABILITIES, ScriptedEngine
from gristmill.verifiers.judges.judge import Judge
from gristmill.verifiers.judges.principles import (
    Dominant,
    Gap,
    dominant,
    draw_principles,
    principle_gaps,
    principle_scores,
    principle_variances,
)

GAPS, VARIANCES = [Gap(2, 1), Gap(-3, -1), Gap(0.5, -0.5)], [4.0, 2.0, 1.0]


def test_vectors_of_g11() -> None:
    assert principle_scores(GAPS, VARIANCES) == pytest.approx((0.375, -1.0, 0.0))
    negated = principle_scores(GAPS, VARIANCES, [True, False, False])
    assert negated == pytest.approx((-0.375, -1.0, 0.0))
    assert dominant(negated) == Dominant(1, "second")


def test_dominant_takes_the_first_of_equals_and_none_where_all_are_zero() -> None:
    assert dominant([0.5, -0.5]) == Dominant(0, "first")
    assert dominant([0.0, -0.0]) is dominant([]) is None


def test_gaps_with_a_zero_do_not_agree() -> None:
    assert [Gap(0, 2).agreed, Gap(-2, 0).agreed, Gap(1e-200, 1e-200).agreed] == [0, 0, 1e-200]


def test_variances_are_of_the_population_of_agreed_gaps() -> None:
    found = principle_variances([[Gap(2, 2), Gap(-1, -3)], [Gap(1, 1), Gap(1, -1)]])
    assert found == pytest.approx((4.0, 0.25))


def test_what_cannot_be_scored_is_refused() -> None:
    for variance in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="principle 1 has variance"):
            principle_scores(GAPS, [1.0, variance, 1.0])
    with pytest.raises(ValueError, match="zip"):
        principle_scores(GAPS, [1.0, 1.0])
    with pytest.raises(ValueError, match="zip"):
        principle_scores(GAPS, VARIANCES, [True])


def engine_of(ability: bool = True) -> ScriptedEngine:
    """Finds the honest text better by a logit of 2 (1 where it is shown last), and cannot judge rhymes."""

    def answer(request: Request, index: int) -> Completion:
        text = request.messages[1].content
        if "rhyme" in text:
            return Completion("Hm.")
        ahead = text.index("honest text") < text.index("other text")
        logit = (2.0 if ahead else -1.0) * (-1 if "lies" in text else 1)
        p = 1 / (1 + math.exp(-logit))
        top = TokenScore("A", math.log(p)), TokenScore("B", math.log(1 - p))
        said = top[p < 0.5]
        return Completion(said.token, logprobs=(TokenLogprob(said.token, said.logprob, top),))

    return ScriptedEngine(answer, abilities=ABILITIES | {Ability.LOGPROBS} if ability else ABILITIES)


def gaps(judge: Judge, engine: ScriptedEngine) -> tuple[Gap | None, ...]:
    principles = ("It is true.", "It lies.", "Both rhyme.")
    call = principle_gaps(judge, principles, "honest text", "other text", problem="P", engine=engine, seed=1)
    return asyncio.run(call)


def test_each_principle_is_judged_alone_in_two_orders() -> None:
    engine = engine_of()
    found = gaps(Judge(), engine)
    assert found[0] == pytest.approx(Gap(2.0, 1.0))
    assert found[1] == pytest.approx(Gap(-2.0, -1.0))
    assert found[2] is None
    assert engine.requests == 6


def test_gaps_stay_finite_where_a_word_is_not_listed() -> None:
    sure = Completion("A", logprobs=(TokenLogprob("A", -1e-9),))
    engine = ScriptedEngine(lambda r, i: sure, abilities=ABILITIES | {Ability.LOGPROBS})
    [gap] = asyncio.run(principle_gaps(Judge(), ["p"], "a", "b", problem="P", engine=engine, seed=1))
    assert gap is not None
    assert gap.ahead == pytest.approx(math.log((1 - 1e-6) / 1e-6))
    assert gap.agreed == 0.0


def test_text_has_no_logits() -> None:
    for judge, engine in ((Judge(), engine_of(False)), (Judge(tie=True), engine_of())):
        with pytest.raises(RecipeError, match="token probabilities"):
            gaps(judge, engine)
        assert engine.requests == 0


def test_draws_follow_the_truncated_geometric_and_the_seed() -> None:
    draws = [draw_principles(31, seed) for seed in range(4000)]
    assert draws[7] == draw_principles(31, 7)
    sizes = Counter(len(d) for d in draws)
    assert set(sizes) == set(range(1, 9))
    whole = 1 - 0.8**8
    for k in range(1, 9):
        assert sizes[k] / 4000 == pytest.approx(0.2 * 0.8 ** (k - 1) / whole, abs=0.025)
    assert all(len({p.principle for p in d}) == len(d) for d in draws)
    flags = [p.negated for d in draws for p in d]
    assert sum(flags) / len(flags) == pytest.approx(0.5, abs=0.02)
    assert max(len(draw_principles(3, seed)) for seed in range(200)) == 3
    with pytest.raises(ValueError, match="0 principles"):
        draw_principles(0, 1)
