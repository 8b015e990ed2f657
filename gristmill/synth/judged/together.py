"""The samples of a problem rated together, and the best of them refined by a checklist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message, Request, Sampling
from gristmill.core.prompts import RowValues, fields, fill_messages, require, within
from gristmill.core.records import Problem, Sampled, Score, with_score
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.synth.drawing import CHAT, JUDGE_CALL, SEVERAL, engines_used, require_samples, summed
from gristmill.synth.sampling import Sample
from gristmill.synth.scorers.base import unscored
from gristmill.synth.scoring import ScoreName
from gristmill.verifiers.evidence import Check
from gristmill.verifiers.judges.base import quoted, with_row
from gristmill.verifiers.judges.content import judged_part
from gristmill.verifiers.judges.replies import Unread
from gristmill.verifiers.judges.rubric import Checklist, share, tally
from gristmill.verifiers.raters.base import ListRater, load_list_rater

_REFINE = Message(
    "user",
    "{problem}\n\n{response}\n\nRESPONSE is an answer to PROBLEM that does not yet meet these demands:\n"
    "{failed}\n\nWrite the whole answer anew so that it meets them and keeps what is good. Write nothing "
    "but the answer, and do not mention the demands.",
)


class SampledTogether(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the stages that draw samples and have them judged."""

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Sampled

    sample: Sample = SEVERAL
    """The options of the stage ``sample``, which draws what is judged."""
    judge_engine: str | None = None
    """The name of the engine that judges; ``null`` is the stage's own."""

    @property
    def judge_needs(self) -> frozenset[Ability]:
        """What is needed of the engine that judges."""
        return CHAT

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat, unless other engines sample and judge."""
        return self.sample.needs | (self.judge_needs if self.judge_engine is None else frozenset())

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are sampled, and the one that judges."""
        return engines_used(self.sample, self.judge_engine, self.judge_needs)

    @property
    def verifies(self) -> bool:
        """Whether the samples are judged by the recipe's verifier too."""
        return self.sample.verify

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("sample", self.sample.places)


class RateTogether(SampledTogether, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Samples each problem and has a judge rate the samples together; every sample keeps its number.

    Equal samples are shown once and get the same number. A sample that was cut off or says nothing is not
    shown, and has a score without a value, as all have where nothing could be read.
    """

    rater: dict[str, Any] = msgspec.field(default_factory=lambda: {"kind": "principle_ranking"})
    """``{kind: NAME, ...options}`` of a model verifier that rates several answers: principle_ranking
    (RewardAnything), critiques (SPCT), bootstrapped (Writing-Zero)."""
    score: ScoreName = "rating"
    """The name of the score, in [0, 1]."""
    evidence: bool = False
    """Whether what the judge wrote is kept in each sample's ``meta``, under ``NAME_evidence``."""

    def __post_init__(self) -> None:
        require_samples(self.sample, 2)
        self.found()  # so that a bad one is an error here and now

    def found(self) -> ListRater:
        """The rater. ``RecipeError`` for one that there is not."""
        options = dict(self.rater)
        return load_list_rater(str(options.pop("kind", "principle_ranking")), options)

    @property
    def judge_needs(self) -> frozenset[Ability]:
        """What the rater needs."""
        return self.found().needs

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Sampled | Rejection]:
        """Every sample with its score. ``RowRejected`` for a problem that lacks what the rater reads."""
        rater = with_row(self.found(), RowValues(problem))
        given = await self.sample(problem, context)
        samples = [s for s in given if isinstance(s, Sampled)]
        shown = {s.id: _shown(s) for s in samples}
        texts = list(dict.fromkeys(part for part in shown.values() if part is not None))
        values: dict[str, float | None] = {}
        detail = f"{len(texts)} different answers that say something"
        if len(texts) > 1:
            rating = await rater.rate_together(
                texts,
                problem=problem.problem,
                engine=context.named(self.judge_engine),
                seed=context.seed_for(problem.id, JUDGE_CALL),
            )
            values, detail = dict(zip(texts, rating.scores, strict=True)), rating.detail
        made: list[Sampled | Rejection] = []
        for one in given:
            if isinstance(one, Sampled):
                value = values.get(shown[one.id] or "")
                none = unscored(self.score, "not rated", detail)
                score = none if value is None else Score(self.score, value)
                one = self._kept(with_score(one, score), detail)
            made.append(one)
        return made

    def _kept(self, sample: Sampled, detail: str) -> Sampled:
        if not self.evidence:
            return sample
        meta = {**fields(sample.meta), f"{self.score}_evidence": detail}
        return replace(sample, meta=msgspec.json.encode(meta).decode())

    def estimate(self, problem: Problem) -> Estimate:
        """The samples, and what the rater says of so many."""
        drawn = self.sample.estimate(problem)
        cost = self.found().estimate_list(["" for _ in range(self.sample.count)], problem=problem.problem)
        cost = replace(cost, completions_min=0)
        return summed(drawn, cost, self.sample.count * drawn.completion_tokens, rows_max=self.sample.count)


class Stick(SampledTogether, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """STICK (arXiv 2410.03608): the best of several samples by a checklist, then refined by what it fails.

    One checklist is written for the problem, and every different finished sample is checked. The one with
    the greatest share of yes is kept, the first of equal ones. In each round it is written anew with the
    questions that it fails, and what is written takes its place only if its share is greater. A sample of
    which a row could not be read is not chosen.
    """

    checklist: Checklist = Checklist()
    """The options of the checklist."""
    rounds: Annotated[int, Meta(ge=0, le=20)] = 2
    """The most refinements, 0 to 20; 0 selects only."""
    score: ScoreName = "checklist"
    """The name of the score: the share of yes, with the questions in its verdict."""
    sampling: Sampling = Sampling(temperature=0.7, max_tokens=1024)
    """How refinements are sampled."""
    refine: tuple[Message, ...] = (_REFINE,)
    """The prompt for a refinement, with ``{problem}``, ``{response}``, ``{failed}`` and ``{fence}``."""

    def __post_init__(self) -> None:
        require("refine", self.refine, "problem", "response", "failed", known=("fence",))

    @property
    def judge_needs(self) -> frozenset[Ability]:
        """What the checklist needs."""
        return self.checklist.needs

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Sampled | Rejection]:
        """The sample that came of it, or a rejection."""
        given = await self.sample(problem, context)
        dropped = [r for r in given if isinstance(r, Rejection)]
        samples: dict[str, Sampled] = {}
        for one in given:
            if isinstance(one, Sampled) and _shown(one) is not None:
                samples.setdefault(one.completion, one)
        if not samples:
            return [*dropped, Rejection(problem.id, "no finished answer that says something")]
        seed, judge = context.seed_for(problem.id, JUDGE_CALL), context.named(self.judge_engine)
        questions = await self.checklist.questions_for(problem.problem, engine=judge, seed=seed)
        if isinstance(questions, Unread):
            return [*dropped, Rejection(problem.id, "no checklist", questions.why)]

        async def check(sample: Sampled) -> tuple[Check, ...]:
            shown = _shown(sample)
            if shown is None:
                return ()
            return await self.checklist.check(
                shown, questions, problem=problem.problem, engine=judge, seed=seed
            )

        checked = [(one, await check(one)) for one in samples.values()]
        told = [one for one in checked if _read(one[1])]
        if not told:
            why = next(c.why for c in checked[0][1] if c.passed is None)
            return [*dropped, Rejection(problem.id, "no answer could be checked", why)]
        best, checks = max(told, key=lambda one: share(one[1]) or 0.0)
        for turn in range(self.rounds):
            failed = [c.name for c in checks if not c.passed]
            new = await self._refined(problem, best, failed, turn, context) if failed else None
            found = () if new is None else await check(new)
            if new is None or not _read(found) or (share(found) or 0) <= (share(checks) or 0):
                best = best if new is None else replace(best, **_paid(new))
                break
            best, checks = new, found
        return [*dropped, await self._kept(problem, best, checks, context)]

    async def _kept(
        self, problem: Problem, best: Sampled, checks: Sequence[Check], context: Context
    ) -> Sampled:
        """The sample with its score, and with the recipe's verdict on what was written anew."""
        if best.verdict is None and self.sample.verify and problem.answer is not None:
            verdict = await context.about(problem).verify(best.completion, problem.answer)
            best = replace(best, verdict=verdict)
        said = tally(checks, self.checklist.accept)
        return with_score(replace(best, id=f"{problem.id}/stick"), Score(self.score, said.score, said))

    async def _refined(
        self, problem: Problem, best: Sampled, failed: Sequence[str], turn: int, context: Context
    ) -> Sampled:
        """``best`` with a new completion, of the engine that wrote it, and what was paid for both."""
        seed = context.seed_for(problem.id, JUDGE_CALL + 1 + turn)
        values = quoted(seed, problem=problem.problem, response=best.completion)
        demands = "\n".join(f"- {question}" for question in failed)
        request = Request(fill_messages(self.refine, **values, failed=demands), self.sampling, seed)
        [answer] = await context.named(best.model).generate(request)
        return replace(
            best,
            completion=answer.text,
            reasoning=answer.reasoning,
            finish_reason=answer.finish_reason,
            prompt_tokens=best.prompt_tokens + answer.prompt_tokens,
            completion_tokens=best.completion_tokens + answer.completion_tokens,
            reasoning_tokens=best.reasoning_tokens + answer.reasoning_tokens,
            verdict=None,
        )

    def estimate(self, problem: Problem) -> Estimate:
        """The samples, the checklist for each, and the refinements with theirs."""
        drawn = self.sample.estimate(problem)
        one = self.checklist.estimate("", "", problem=problem.problem)
        most = one.completions_max * (self.sample.count + self.rounds) + self.rounds
        cost = replace(one, completions_min=0, completions_max=most)
        return summed(drawn, cost, drawn.completion_tokens, rows_max=1)


def _shown(sample: Sampled) -> str | None:
    """What a judge is shown of a finished sample; ``None`` if there is nothing to show."""
    part = judged_part(sample.completion) if sample.finish_reason == "stop" else None
    return part if isinstance(part, str) else None


def _read(checks: Sequence[Check]) -> bool:
    return bool(checks) and all(check.passed is not None for check in checks)


def _paid(sample: Sampled) -> dict[str, int]:
    """The tokens of a sample, as fields."""
    names = ("prompt_tokens", "completion_tokens", "reasoning_tokens")
    return {name: getattr(sample, name) for name in names}
