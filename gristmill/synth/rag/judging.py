"""``judge_metrics``: which of two answers over passages is the better one, by four metrics and a majority."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message
from gristmill.core.errors import RecipeError
from gristmill.core.passages import passages
from gristmill.core.prompts import fields
from gristmill.core.records import Pair, Score, with_score
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.verdicts import Verdict
from gristmill.synth.rag.metrics import (
    METRICS,
    Metric,
    PassageAnswer,
    answerable,
    by_abstention,
    by_conflict,
    by_rule,
    majority,
    read_answer,
    references_of,
)
from gristmill.synth.rag.retrieve import PASSAGES, listed
from gristmill.synth.scoring import said
from gristmill.verifiers.grounding.verifier import Grounding
from gristmill.verifiers.judges.base import Winner
from gristmill.verifiers.judges.judge import SYSTEM, Judge

ABSTENTION, CONFLICT, GROUNDING = "abstention", "conflict", "grounding"
"""The names of scores: who won by abstaining, or by telling more of a conflict, and the verdicts of the rules
on both sides."""
_VALUES = {"first": 1.0, "second": 0.0, "tie": 0.5, None: None}
_CRITERIA: dict[Metric, str] = {
    "hallucination": "The better answer is the one with fewer statements that the passages do not support. "
    "Whether a statement is true in the world does not matter, nor how much is said.",
    "comprehensiveness": "The better answer is the one that gives more of what the passages say on the "
    "question. Matters that the question does not ask for do not count.",
    "verbosity": "The better answer is the one that needs fewer words for what it tells of the question: "
    "no repetition, no preamble, nothing beside the point. An answer that tells less is not better by that.",
    "attribution": "The better answer is the one whose statements are tied to the right passages, by numbers "
    "such as [1] or by name. A wrong number is worse than none.",
}
_PROMPT = Message(
    "user",
    "{reference}\n\n{problem}\n\n{response_a}\n\n{response_b}\n\n{criteria}\n\nREFERENCE holds the passages "
    "on which both responses are meant to rest, numbered. Compare the two by CRITERIA alone, as if nothing "
    "else mattered; the order in which they stand does not. {answer_with}",
)


class JudgeMetrics(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Puts the better of two answers over passages on the chosen side (RAG-Reward, arXiv 2501.13264).

    Four metrics compare the two: ``hallucination``, ``comprehensiveness``, ``verbosity`` and
    ``attribution``. Those in ``judged`` are put to the stage's engine in both orders, and orders that
    disagree make a tie; the others are decided by rules, from the verdicts of ``grounding`` and the
    reference answers.
    The majority of the metrics that are not tied wins, by weight; a pair without one is rejected: ``a tie``,
    or ``no metric could tell``. Where just one of the two abstains and it is known whether the passages can
    answer, that alone decides; where the passages conflict, it is which answer tells more of what they say.

    The scores of the pair are the metrics by their names, 1 where the chosen side is better, 0 where the
    rejected one is, 0.5 for a tie and null where it could not be told; ``abstention`` or ``conflict`` where
    that decided; and ``chosen_grounding`` and ``rejected_grounding``, the rules' verdicts, whose detail has
    the spans that no passage supports. The summary says how often each metric decided for the longer answer
    (50 %: length has no part in it), and how often the two orders disagreed.
    """

    reads: ClassVar[type[Struct]] = Pair
    writes: ClassVar[type[Struct]] = Pair

    judged: tuple[Metric, ...] = METRICS
    """The metrics that the engine judges; ``[]``: none, and no engine is asked."""
    weights: dict[Metric, Annotated[float, Meta(ge=0, le=1e6)]] = msgspec.field(default_factory=dict)
    """The weight of each metric's vote, 1 where it has none; 0 leaves a metric out."""
    judge: Judge = Judge(tie=True, pairwise=(SYSTEM, _PROMPT))
    """The options of the judge; ``pairwise`` is the prompt, with the passages as ``{reference}`` and the
    metric's text as ``{criteria}``."""
    criteria: dict[Metric, str] = msgspec.field(default_factory=dict)
    """What a judge is told of a metric, in place of this project's own text."""
    grounding: Grounding = Grounding(citations="report")
    """The options of the rules that read claims and citations. A wrong citation is a matter of
    ``attribution``; with ``citations: check`` it makes a claim unsupported besides."""
    passages: str = PASSAGES
    """The key of ``meta`` that holds the passages, as ``retrieve`` writes them."""
    references: tuple[str, ...] = ("answers", "answer")
    """The keys of ``meta`` that may hold reference answers, a text or a list; the first that does is read."""
    abstention: bool = True
    """Whether one that abstains beats one that answers where the passages hold no answer, and loses where
    they do."""
    answerable: str = "answerable"
    """The key of ``meta`` that says, true or false, whether the passages hold the answer. Without it the
    passages that the question names and its reference answers tell."""

    def __post_init__(self) -> None:
        if all(self.weights.get(metric, 1) == 0 for metric in METRICS):
            raise RecipeError(
                "judge_metrics: all weights are 0, so that no metric can decide.",
                remedy="Leave out 'weights', or give a metric a weight above 0.",
            )

    @property
    def _asked(self) -> list[Metric]:
        """The metrics that are put to the engine."""
        return [metric for metric in dict.fromkeys(self.judged) if self.weights.get(metric, 1) > 0]

    @property
    def needs(self) -> frozenset[Ability]:
        """What the judge needs, where a metric is judged."""
        return frozenset({Ability.CHAT}) | self.judge.needs if self._asked else frozenset()

    async def __call__(self, pair: Pair, context: Context) -> Sequence[Pair | Rejection]:
        """The pair with the better side chosen, or its rejection."""
        meta = fields(pair.meta)
        reference = self._reference(meta)
        texts = said(pair.chosen), said(pair.rejected)
        wanted = references_of(meta, self.references)
        verdicts = [self.grounding(text, reference) for text in texts]
        try:
            first, second = (read_answer(t, v, wanted) for t, v in zip(texts, verdicts, strict=True))
        except ValueError as error:
            return [Rejection(pair.id, "judge_metrics: an answer cannot be read", str(error))]
        known = answerable(meta, wanted, self.answerable) if self.abstention else None
        found: dict[Metric, Winner | None] = {}
        kind, winner = ABSTENTION, by_abstention(first, second, known)
        if winner is None:
            kind, winner = CONFLICT, by_conflict(first, second, wanted, meta.get("answer"))
        if winner is None:
            found = await self._metrics(pair, texts, (first, second), meta, context)
            _measure_length(found, first.words, second.words, context)
            kind, winner = "metrics", majority(found, self.weights)
        if winner == "tie":
            told = any(one is not None for one in found.values())
            detail = ", ".join(f"{metric} {one or 'not told'}" for metric, one in found.items())
            return [Rejection(pair.id, "a tie" if told else "no metric could tell", detail)]
        return [_turned(pair, kind, winner, found, verdicts)]

    def _reference(self, meta: Mapping[str, Any]) -> str:
        return msgspec.json.encode(listed(meta, self.passages)).decode()

    async def _metrics(
        self,
        pair: Pair,
        texts: tuple[str, str],
        answers: tuple[PassageAnswer, PassageAnswer],
        meta: Mapping[str, Any],
        context: Context,
    ) -> dict[Metric, Winner | None]:
        """Every metric that has a weight."""
        asked = self._asked
        question = next((m.content for m in reversed(pair.prompt) if m.role == "user"), "")
        shown = passages(meta[self.passages], always=True)
        compared = await asyncio.gather(
            *(
                self.judge.compare(
                    *texts,
                    problem=question,
                    engine=context.engine,
                    seed=context.seed_for(pair.problem_id, METRICS.index(metric)),
                    reference=shown,
                    criteria=self.criteria.get(metric, _CRITERIA[metric]),
                )
                for metric in asked
            )
        )
        found: dict[Metric, Winner | None] = {}
        for metric, one in zip(asked, compared, strict=True):
            found[metric] = one.winner
            if one.orders is not None:
                differ = (one.orders[0] > 0.5) != (one.orders[1] > 0.5)
                context.measure(f"{metric}: the two orders disagree, in %", 100 * differ)
        rest = [m for m in METRICS if m not in found and self.weights.get(m, 1) > 0]
        return found | {metric: by_rule(metric, *answers) for metric in rest}

    def estimate(self, pair: Pair) -> Estimate:
        """Both orders of each judged metric; nothing where an abstention may decide."""
        asked = self._asked
        if not asked:
            return Estimate(0, 0, 0, 0, rows_max=1)
        shown = passages(fields(pair.meta).get(self.passages) or [], always=True)
        question = next((m.content for m in reversed(pair.prompt) if m.role == "user"), "")
        cost = self.judge.estimate_pair(said(pair.chosen), said(pair.rejected), problem=question + shown)
        return replace(cost, completions_min=0, completions_max=len(asked) * cost.completions_max, rows_max=1)


def _measure_length(found: Mapping[Metric, Winner | None], first: int, second: int, context: Context) -> None:
    """How often a metric decides for the longer answer: what length has to do with it."""
    if first == second:
        return
    longer = "first" if first > second else "second"
    for metric, winner in found.items():
        if winner in ("first", "second"):
            context.measure(f"{metric}: decided for the longer answer, in %", 100 * (winner == longer))


def _turned(
    pair: Pair, kind: str, winner: Winner, found: Mapping[Metric, Winner | None], verdicts: Sequence[Verdict]
) -> Pair:
    """The pair with the winner on the chosen side, and what was found among its scores."""
    kept = winner == "first"
    values = {metric: _VALUES[one] for metric, one in found.items()}
    scores: dict[str, float | None] = {
        metric: value if kept or value is None else 1 - value for metric, value in values.items()
    }
    if not found:
        scores[kind] = 1.0
    if not kept:
        pair = _swapped(pair)
    for name, value in scores.items():
        pair = with_score(pair, Score(name, value))
    for side, verdict in zip(("chosen", "rejected"), verdicts if kept else reversed(verdicts), strict=True):
        pair = with_score(pair, Score(f"{side}_{GROUNDING}", verdict.score, verdict))
    return replace(pair, kind=kind)


def _swapped(pair: Pair) -> Pair:
    """The pair the other way round, with the scores and the engines of its sides."""
    other = {"chosen": "rejected", "rejected": "chosen"}

    def renamed(name: str) -> str:
        side, _, rest = name.partition("_")
        return f"{other[side]}_{rest}" if side in other and rest else name

    meta = {renamed(name): value for name, value in fields(pair.meta).items()}
    return replace(
        pair,
        chosen=pair.rejected,
        rejected=pair.chosen,
        scores=tuple(replace(score, name=renamed(score.name)) for score in pair.scores),
        meta=msgspec.json.encode(meta).decode(),
    )
