"""The stages score and score_pairs: what they write, and what they say of what could not be scored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gristmill.core.contracts import check_made, check_part
from gristmill.core.engine import Message
from gristmill.core.errors import (
    RecipeError,
    RequestRefusedError,
    RowRejected,
    ServerRefusedError,
    TransientError,
)
from gristmill.core.records import Score, score_of
from gristmill.core.registry import names
from gristmill.core.stages import Context
from gristmill.synth.scorers import (
    Answered,
    PairScorer,
    ScorePairs,
    Scorer,
    ScoreSamples,
    VerifierScore,
    load_scorer,
)
from gristmill.testing import check_row_stage, check_scorer, context, pair, sampled


class Characters(Scorer, frozen=True, kw_only=True):
    """Two scores: characters, and those of the problem."""

    factor: float = 1.0

    def names(self, score: str) -> tuple[str, ...]:
        return (score, f"{score}_problem")

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        return [
            Score(score, self.factor * len(answer.completion)),
            Score(f"{score}_problem", float(len(answer.problem))),
        ]


class Longer(PairScorer, frozen=True, kw_only=True):
    """How many characters the chosen side is longer."""

    async def __call__(
        self, chosen: Answered, rejected: Answered, context: Context, score: str
    ) -> Sequence[Score]:
        return [Score(score, float(len(chosen.completion) - len(rejected.completion)))]


class Raises(Scorer, frozen=True, kw_only=True):
    """Raises what it is told to."""

    error: str = "row"

    async def __call__(self, answer: Answered, context: Context, score: str) -> Sequence[Score]:
        if self.error == "failed":  # as a session says it
            raise RowRejected("request failed", "503 (the last of 6 tries)") from TransientError("503")
        raise {
            "row": RowRejected("not scored", "why"),
            "refused": RequestRefusedError("too long"),
            "server": ServerRefusedError("a wrong key"),
        }[self.error]


def run(stage: Any, record: Any, given: Context | None = None) -> Any:
    [made] = asyncio.run(stage(record, given or context()))
    return made


def values(record: Any) -> dict[str, float | None]:
    return {score.name: score.value for score in record.scores}


def scorer(name: str, **options: Any) -> dict[str, Any]:
    return {"kind": f"{__name__}:{name}", **options}


def test_a_sample_gets_the_scores_under_the_name_that_the_stage_gives() -> None:
    stage = ScoreSamples(scorer=scorer("Characters", factor=2.0), score="size")
    assert values(run(stage, sampled(completion="1234"))) == {"size": 8.0, "size_problem": 14.0}


def test_both_sides_of_a_pair_are_scored_and_a_pair_scorer_scores_the_pair() -> None:
    turns = (Message("assistant", "a"), Message("user", "b"), Message("assistant", "12345"))
    given = pair(chosen=turns, rejected=(Message("assistant", "123"),))
    assert values(run(ScorePairs(scorer=scorer("Characters"), score="n"), given)) == {
        "chosen_n": 5.0,
        "chosen_n_problem": 14.0,
        "rejected_n": 3.0,
        "rejected_n_problem": 14.0,
    }
    assert values(run(ScorePairs(scorer=scorer("Longer"), score="n"), given)) == {"n": 2.0}


def test_a_row_that_cannot_be_scored_is_kept_and_says_why() -> None:
    for error, why in (("row", "not scored"), ("refused", "request refused")):
        made = run(ScoreSamples(scorer=scorer("Raises", error=error), score="x"), sampled())
        found = score_of(made, "x")
        assert found is not None and found.value is None and found.verdict is not None
        assert (found.verdict.rule, found.verdict.decided) == (why, False)
    unanswered = pair(rejected=(Message("user", "hm"),))
    made = run(ScorePairs(scorer=scorer("Characters"), score="n"), unanswered)
    assert set(values(made).values()) == {None}
    assert made.scores[0].verdict.detail == "the rejected side does not end with an assistant turn"


def test_a_request_that_failed_rejects_the_row_so_that_it_is_tried_again() -> None:
    with pytest.raises(RowRejected, match="the last of 6 tries"):
        run(ScoreSamples(scorer=scorer("Raises", error="failed")), sampled())


def test_a_server_that_refuses_everything_is_not_a_score() -> None:
    with pytest.raises(ServerRefusedError):
        run(ScoreSamples(scorer=scorer("Raises", error="server")), sampled())


def test_a_verdict_is_a_score_and_an_undecided_one_has_no_value() -> None:
    check_scorer(VerifierScore(), [sampled(), sampled("p2/0", finish_reason="length")])
    check_row_stage(ScoreSamples(scorer="verifier"), [sampled()])
    assert values(run(ScoreSamples(scorer="verifier"), sampled()))["verifier"] == 1.0
    assert values(run(ScoreSamples(scorer="verifier"), sampled(finish_reason="length"))) == {"verifier": None}
    without = run(ScoreSamples(scorer="verifier"), sampled(answer=None))
    assert without.scores[0].verdict.rule == "no reference"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("verifer", "unknown scorer 'verifer'. Did you mean 'verifier'?"),
        ({"options": 1}, "has no kind"),
        (
            {"kind": "verifier", "verifer": "x"},
            "VerifierScore has no option 'verifer'. Did you mean",
        ),
        ({"kind": f"{__name__}:Longer"}, "scores pairs, not single answers. Use it in the stage score_pairs"),
        ({"kind": "gristmill.core.records:Problem", "id": "1", "problem": ""}, "inherits neither Scorer"),
    ],
)
def test_a_scorer_that_there_is_not_is_an_error_before_anything_runs(given: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said.replace("?", r"\?")):
        ScoreSamples(scorer=given)


REQUIRED: dict[str, dict[str, Any]] = {
    "attributes": {"weights": {"a": 1.0}},
    "density_ratio": {"weak": "w"},
    "ensemble": {"scores": ["a", "b"]},
    "ensemble_pairs": {"scores": ["a", "b"]},
    "features": {"features": {"a": {"measure": "words"}}},
    "implicit": {"reference": "r"},
    "internal_judge": {"reference": "r"},
    "principles": {"by": {"principles": ["Be right."]}},
    "rubric": {"by": {"items": [{"text": "is right"}]}},
}
"""Options without a default, of the scorers that have some."""


def test_every_scorer_says_what_it_needs_costs_and_writes() -> None:
    for name in names("scorers"):
        found = load_scorer({"kind": name, **REQUIRED.get(name, {})})
        check_made("scorers", name, found)
        alone = not isinstance(found, PairScorer)
        stage: Any = (ScoreSamples if alone else ScorePairs)(scorer={"kind": name, **REQUIRED.get(name, {})})
        cost = stage.estimate(sampled() if alone else pair())
        assert cost is not None and cost.rows_max == 1, name
        assert bool(cost.completions_max) == bool(found.needs or found.uses), name
        assert found.names("s")[0].startswith("s"), name


def test_a_scorer_keeps_its_contract() -> None:
    class Plain(Scorer):
        def __call__(self, answer: Answered, context: Context, score: str) -> Any:
            return []

    class Short(Scorer):
        async def __call__(self, answer: Answered, context: Context) -> Any:  # type: ignore[override]
            return []

    for wrong, said in (
        (Plain, "'__call__' is a plain 'def'"),
        (Short, "'__call__' cannot be called with"),
        (Answered, "inherits neither Scorer nor PairScorer"),
    ):
        with pytest.raises(RecipeError, match=f"scorer 'mine' .*{said}"):
            check_part("scorers", "mine", wrong)
    check_part("scorers", "mine", Characters)
    check_part("scorers", "mine", Longer)
