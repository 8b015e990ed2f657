"""What the stages have in common that have a model write one side of a pair: how it is asked, and how it is
found out which side is the better one. Nothing becomes a pair on a writer's word alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from gristmill.core.answers import final_answer
from gristmill.core.engine import Ability, Engine, Message, Request, Sampling
from gristmill.core.errors import RecipeError, RowRejected
from gristmill.core.prompts import fields, within
from gristmill.core.records import Pair, Problem, Sampled, Score
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.drawing import CHAT, JUDGE_CALL, drawn_of
from gristmill.synth.judging import named
from gristmill.synth.sampling import Sample
from gristmill.synth.scorers.base import Answered, PairScorer, Scorer
from gristmill.synth.scorers.loading import Named, kind_of, load_scorer
from gristmill.synth.scorers.stages import scored
from gristmill.verifiers.judges.base import Winner
from gristmill.verifiers.judges.loading import load_comparer

_CHARS_PER_TOKEN = 4
"""For estimates only."""
_ECHO = 0.95
"""An answer that is more like its problem than this repeats it."""
_WHY = {
    "first": "",
    "second": "the other side is better",
    "tie": "neither side is better",
    None: "no verdict",
}


class Authored(NamedTuple):
    """What a model wrote, and what it thought before that."""

    text: str
    reasoning: str = ""

    @property
    def turn(self) -> tuple[Message, ...]:
        """It as an assistant's turn."""
        return (Message("assistant", self.text, self.reasoning),)


async def written(
    engine: Engine, messages: Sequence[Message], sampling: Sampling, seed: int, what: str
) -> Authored:
    """A finished answer without white space around it; ``what`` begins the reason where there is none.

    ``RowRejected`` for one that was cut off, is blank, or whose reasoning was never closed.
    """
    [answer] = await engine.generate(Request(tuple(messages), sampling, seed))
    if not answer.finished:
        raise RowRejected(f"{what}: cut off", f"finish_reason {answer.finish_reason}")
    text = final_answer(answer.text)
    if text is None:
        raise RowRejected(f"{what}: its reasoning is not closed", answer.text[-60:])
    if not text.strip():
        raise RowRejected(f"{what}: nothing was written")
    return Authored(text.strip(), answer.reasoning)


async def first_drawn(sample: Sample, problem: Problem, context: Context, what: str) -> Sampled:
    """The first finished sample of a problem that says something. ``RowRejected`` where there is none."""
    samples, dropped = await drawn_of(sample, problem, context)
    for one in samples:
        if one.finish_reason == "stop" and one.completion.strip():
            return one
    why = [s.finish_reason for s in samples] + [r.reason for r in dropped]
    raise RowRejected(f"{what}: no finished answer", ", ".join(why))


def told(meta: str, **more: Any) -> str:
    """A record's ``meta`` with further keys. ``RowRejected`` where it is not a JSON object."""
    return msgspec.json.encode({**fields(meta), **more}).decode()


def side(record: Problem | Sampled, messages: Sequence[Message], text: str, row: Any, name: str) -> Answered:
    """A text as an answer to ``messages``, to be compared with another one."""
    return Answered(
        id=f"{record.id}/{name}",
        problem_id=record.problem_id if isinstance(record, Sampled) else record.id,
        problem=record.problem,
        messages=tuple(messages),
        completion=text,
        reference=record.answer,
        row=row,
    )


def likeness(first: str, second: str) -> float:
    """How alike two texts are, 0 to 1: rapidfuzz's ratio, the share of characters that stay. Case,
    punctuation and the amount of white space do not count."""
    from rapidfuzz import fuzz, utils

    words = (" ".join(utils.default_process(text).split()) for text in (first, second))
    return fuzz.ratio(*words) / 100


class Weighed(NamedTuple):
    """Which of two answers is better, with the scores of both; ``None`` where it could not be told."""

    winner: Winner | None
    scores: tuple[Score, ...] = ()
    detail: str = ""

    @property
    def why(self) -> str:
        """Why the first is not the better one; empty where it is."""
        return _WHY[self.winner]


class Preferring(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options by which a stage finds out whether one answer is better than another.

    Neither ``judge`` nor ``scorer``: the recipe's verifier, by which a right answer is better than a wrong
    one. An undecided verdict, and a score without a value, decide nothing.
    """

    judge: dict[str, Any] | None = None
    """``{kind: NAME, ...options}`` of a model verifier that compares two answers (judge, checklist, salmon),
    asked in both orders; its strengths are the scores ``chosen_NAME`` and ``rejected_NAME``."""
    judge_engine: str | None = None
    """The name of the engine that ``judge`` asks; ``null`` is the stage's own, which then judges what it
    wrote itself."""
    scorer: Named | None = None
    """``NAME`` or ``{kind: NAME, ...options}`` of a scorer (docs/scorers.md): the higher value is better.
    Instead of ``judge``, not beside it."""
    margin: Annotated[float, Meta(ge=0)] = 0.0
    """The least difference of the two values of ``scorer``; a smaller one makes no pair."""

    def __post_init__(self) -> None:
        if self.judge is not None and self.scorer is not None:
            raise RecipeError(
                "judge and scorer are both given: one of them has to say which side is better.",
                remedy="Leave one out. Scores can be put on the pairs afterwards: see score_pairs.",
            )
        if self.judge is None and self.judge_engine is not None:
            raise RecipeError(
                f"judge_engine is {self.judge_engine!r}, but there is no judge to ask it.",
                remedy="Give one, such as judge: {kind: judge}. A scorer names its engine itself.",
            )
        if self.judge is not None and self.margin > 0:
            raise RecipeError(
                f"margin is {self.margin:g}, but a judge gives no values that could differ by it.",
                remedy="Leave it out, or give a scorer in place of the judge.",
            )
        if self.judge is not None:
            load_comparer(*named(self.judge))
        else:
            self.measure()

    def cautions(self) -> Sequence[str]:
        """A judge that judges its own writing, and what the scorer says."""
        if self.judge is None:
            return self.measure().cautions()
        if self.judge_engine is not None:
            return ()
        return ["The model that writes judges its own writing too. Name another one as judge_engine."]

    def measure(self) -> Scorer:
        """The scorer. ``RecipeError`` for one that compares the two sides itself."""
        found = load_scorer(self.scorer or "verifier")
        if isinstance(found, PairScorer):
            raise RecipeError(
                f"scorer: {kind_of(self.scorer or '')} compares two answers and has no value for one.",
                remedy="Use 'judge' with a model verifier that compares, or a scorer of single answers.",
            )
        return found

    @property
    def asks(self) -> frozenset[Ability]:
        """What the stage itself needs of its engine, to write."""
        return CHAT

    @property
    def needs(self) -> frozenset[Ability]:
        """To write, and what judge or scorer needs of the stage's own engine."""
        if self.judge is None:
            return self.asks | frozenset(self.measure().needs)
        if self.judge_engine is not None:
            return self.asks
        return self.asks | load_comparer(*named(self.judge)).needs

    @property
    def uses(self) -> Mapping[str, frozenset[Ability]]:
        """What judge or scorer needs of further engines."""
        if self.judge is None:
            return dict(self.measure().uses)
        if self.judge_engine is None:
            return {}
        return {self.judge_engine: load_comparer(*named(self.judge)).needs}

    @property
    def verifiers(self) -> tuple[str, ...]:
        """The recipe's further verifiers that the scorer calls."""
        return tuple(self.measure().verifiers) if self.judge is None else ()

    @property
    def verifies(self) -> bool:
        """Whether the recipe's verifier decides, by the row's own answer."""
        return self.judge is None and bool(self.measure().verifies)

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the scorer's prompts want of the row."""
        return within("scorer", dict(self.measure().places)) if self.judge is None else {}

    async def weigh(self, first: Answered, second: Answered, record: Any, context: Context) -> Weighed:
        """Which of two answers to ``record`` is better. Raises what the engines raise."""
        if self.judge is not None:
            kind, options = named(self.judge)
            found = await load_comparer(kind, options).compare(
                first.completion,
                second.completion,
                problem=first.problem,
                engine=context.named(self.judge_engine),
                seed=context.seed_for(first.problem_id, JUDGE_CALL),
            )
            values = (("chosen", found.first), ("rejected", found.second))
            scores = tuple(Score(f"{name}_{kind}", value) for name, value in values if value is not None)
            return Weighed(found.winner, scores, found.detail)
        scorer, kind = self.measure(), kind_of(self.scorer or "verifier")
        one = (await scored(scorer, record, (first,), context, kind))[0]
        other = (await scored(scorer, record, (second,), context, kind))[0]
        scores = (
            Score(f"chosen_{kind}", one.value, one.verdict),
            Score(f"rejected_{kind}", other.value, other.verdict),
        )
        if one.value is None or other.value is None:
            lacking = one if one.value is None else other
            return Weighed(None, scores, lacking.verdict.rule if lacking.verdict is not None else "no value")
        gap = one.value - other.value
        detail = f"{kind} {one.value:g} against {other.value:g}"
        if gap == 0 or abs(gap) < self.margin:
            return Weighed("tie", scores, detail)
        return Weighed("first" if gap > 0 else "second", scores, detail)

    async def pair(
        self, pair: Pair, sides: tuple[Answered, Answered], record: Any, context: Context
    ) -> Pair | Rejection:
        """``pair`` with the scores of its sides where the chosen one is found better, or its rejection.

        A side that only repeats the problem is never the better one, whatever a verifier reads in it: to
        "What is 13 - 5?" the answer "What is 13 - 5?" is 8.
        """
        if likeness(sides[0].problem, sides[0].completion) > _ECHO:
            return Rejection(pair.id, f"{pair.kind}: it repeats the problem", sides[0].completion[:200])
        found = await self.weigh(*sides, record, context)
        if found.why:
            return Rejection(pair.id, f"{pair.kind}: {found.why}", found.detail)
        return msgspec.structs.replace(pair, scores=found.scores)

    def cost(self, answered: Answered, calls: int, weighed: int, tokens: int, rows: int) -> Estimate | None:
        """Bounds on ``calls`` answers of at most ``tokens`` about ``answered``, and so many pairs weighed.

        None at the least, since a reply that serves nothing ends the row.
        """
        if self.judge is not None:
            comparer = load_comparer(*named(self.judge))
            each: Estimate | None = comparer.estimate_pair(
                answered.completion, answered.completion, problem=answered.problem
            )
        else:
            each = self.measure().estimate(answered)
            each = each and msgspec.structs.replace(each, completions_max=2 * each.completions_max)
        if each is None:
            return None
        before = sum(len(m.content) for m in answered.messages) + 2 * len(answered.completion)
        prompt = (len(answered.problem) + before) // _CHARS_PER_TOKEN + 2 * tokens
        return Estimate(
            0,
            calls + weighed * each.completions_max,
            max(prompt, each.prompt_tokens + 2 * tokens if weighed else 0),
            max(tokens, each.completion_tokens),
            rows_max=rows,
        )
