"""Stages that weigh all the samples of one problem against each other: ranked, voted, put under rules.

Each holds the options of a ``sample`` stage and draws its samples as that stage would: where one with the
same options ran before, the completion log answers them for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability, Message, Sampling
from gristmill.core.prompts import within
from gristmill.core.records import Pair, Problem, Sampled
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.verdicts import Verdict
from gristmill.synth.agreement.answers import BACKWARD, class_labels
from gristmill.synth.drawing import CHAT, JUDGE_CALL, SEVERAL, drawn_of, engines_used, require_samples, summed
from gristmill.synth.sampling import Sample
from gristmill.verifiers.evidence import decided, unparseable
from gristmill.verifiers.judges import backward
from gristmill.verifiers.judges.base import bounds
from gristmill.verifiers.judges.judge import Judge
from gristmill.verifiers.judges.rubric import Contrast, ContrastiveRubric


class JudgeRanking(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Samples each problem, has a judge put the samples in order, and pairs the best with the worst.

    Cut-off samples are not ranked, nor are answers that say nothing. A problem is rejected with fewer than
    two different answers, an order that could not be read, or one whose first or last place is shared.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Pair

    sample: Sample = SEVERAL
    """The options of the stage ``sample``, which draws what is ranked."""
    judge: Judge = Judge()
    """The options of the judge."""
    judge_engine: str | None = None
    """The name of the engine that judges; ``null`` is the stage's own."""

    def __post_init__(self) -> None:
        require_samples(self.sample, 2)

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat, unless other engines sample and judge."""
        return self.sample.needs | (CHAT if self.judge_engine is None else frozenset())

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are sampled, and the one that judges."""
        return engines_used(self.sample, self.judge_engine)

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("sample", self.sample.places)

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Pair | Rejection]:
        """One pair, or a rejection."""
        samples, dropped = await drawn_of(self.sample, problem, context)
        different = list({s.completion: s for s in samples if s.finish_reason == "stop"}.values())
        if len(different) < 2:
            return [*dropped, Rejection(problem.id, "fewer than two different answers")]
        found = await self.judge.rank(
            [s.completion for s in different],
            problem=problem.problem,
            engine=context.named(self.judge_engine),
            seed=context.seed_for(problem.id, JUDGE_CALL),
        )
        if not found.asked:
            return [
                *dropped,
                Rejection(problem.id, "fewer than two answers that say something", found.detail),
            ]
        if not found.order:
            return [*dropped, Rejection(problem.id, "no order could be read", found.detail)]
        judged = [found.scores[i] for i in found.order]
        worst = min(judged)
        if found.best is None or judged.count(worst) > 1:
            scores = ", ".join(f"{s:.3f}" for s in judged)
            return [*dropped, Rejection(problem.id, "the best or the worst is shared", f"scores {scores}")]
        best, last = different[found.best], different[found.order[-1]]
        chosen, rejected = ((Message("assistant", s.completion, s.reasoning),) for s in (best, last))
        pair = Pair(
            f"{problem.id}/ranking",
            problem.id,
            "judge ranking",
            best.messages,
            chosen,
            rejected,
            meta=problem.meta,
        )
        return [*dropped, pair]

    def estimate(self, problem: Problem) -> Estimate:
        """The samples, and the lists of all of them at their full length."""
        drawn = self.sample.estimate(problem)
        lists = self.judge.estimate_list(["" for _ in range(self.sample.count)], problem=problem.problem)
        return summed(drawn, lists, self.sample.count * drawn.completion_tokens, rows_max=1)


class BackwardVote(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """FOBAR (arXiv 2308.07758): samples each problem and votes, forward and backward, for its answer.

    Answers are classed by mathematical equality. Each sample's verdict says whether its answer is the one
    that won, which is *not* the reference: that has no part in it. The score is P(c) of the sample's own
    answer, ``extracted`` its class, the detail JSON with every candidate's votes and recoveries. A sample
    without an answer, or a tie, is ``unparseable``.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Sampled

    sample: Sample = SEVERAL
    """The options of the stage ``sample``, which draws the candidates."""
    samples: Annotated[int, Meta(ge=1)] = 8
    """The backward samples of each masked number under each candidate answer."""
    max_masked: Annotated[int, Meta(ge=1)] | None = None
    """The most numbers of a problem that are masked, one after the other; ``null``: all."""
    alpha: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """The weight of the forward votes; 1 - alpha is that of the backward ones."""
    sampling: Sampling = Sampling(max_tokens=1024)
    """How the backward samples are drawn."""
    backward_engine: str | None = None
    """The name of the engine that is asked backward; ``null`` is the stage's own."""

    def __post_init__(self) -> None:
        require_samples(self.sample, 2)

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat, unless other engines are asked forward and backward."""
        return self.sample.needs | (CHAT if self.backward_engine is None else frozenset())

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are sampled, and the one that is asked backward."""
        return engines_used(self.sample, self.backward_engine)

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("sample", self.sample.places)

    async def __call__(self, problem: Problem, context: Context) -> Sequence[Sampled | Rejection]:
        """Every sample with its verdict."""
        samples, dropped = await drawn_of(self.sample, problem, context)
        labels = class_labels(samples)
        found = await backward.rank(
            problem.problem,
            labels,
            context.named(self.backward_engine),
            seed=context.seed_for(problem.id, JUDGE_CALL),
            sampling=self.sampling,
            samples=self.samples,
            max_masked=self.max_masked,
            alpha=self.alpha,
        )
        voted = [replace(s, verdict=_vote(found, label)) for s, label in zip(samples, labels, strict=True)]
        for sample in voted:
            assert sample.verdict is not None
            context.count(sample.verdict)
        return [*voted, *dropped]

    def estimate(self, problem: Problem) -> Estimate:
        """The samples; backward at most every number under as many candidates as there are samples."""
        drawn = self.sample.estimate(problem)
        masked = len(backward.maskings(problem.problem, ())[: self.max_masked])
        most = self.sample.count * masked if self.sample.count > 1 else 0
        cost = bounds(most, self.samples, "text", self.sampling.max_tokens, problem.problem)
        return summed(drawn, replace(cost, completions_min=0), rows_max=self.sample.count)


class RubricRow(Struct, frozen=True):
    """A rubric that told right from wrong answers of a problem: what the problem demands, and what makes
    an answer good besides. ``tested`` is the number of held-out pairs whose preference it recovered."""

    id: str
    problem: str
    hard_rules: tuple[str, ...]
    principles: tuple[str, ...]
    tested: int


class ContrastiveRubrics(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """OpenRubrics (arXiv 2510.07743): a rubric for each problem, written from a right and a wrong sample
    and tested on further ones, as ``ContrastiveRubric`` does.

    Samples are right and wrong by the recipe's verifier. The first right with the first wrong one is what
    the rubric is written from; the next ones, in order, are held out. A problem with fewer than two such
    pairs, or a rubric that is not kept, is rejected with the reason.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = RubricRow

    sample: Sample = SEVERAL
    """The options of the stage ``sample``, which draws right and wrong answers."""
    rubric: ContrastiveRubric = ContrastiveRubric()
    """How the rubric is written and tested."""
    held_out: Annotated[int, Meta(ge=1, le=100)] = 3
    """The most pairs on which the rubric is tested."""
    judge_engine: str | None = None
    """The name of the engine that writes and judges; ``null`` is the stage's own."""

    def __post_init__(self) -> None:
        require_samples(self.sample, 4)

    @property
    def needs(self) -> frozenset[Ability]:
        """What the judge needs, unless another engine judges."""
        judged_here = self.judge_engine is None
        return self.sample.needs | (CHAT | self.rubric.judge.needs if judged_here else frozenset())

    @property
    def uses(self) -> dict[str, frozenset[Ability]]:
        """The engines that are sampled, and the one that writes and judges."""
        return engines_used(self.sample, self.judge_engine, self.rubric.judge.needs)

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row, by option."""
        return within("sample", self.sample.places)

    async def __call__(self, problem: Problem, context: Context) -> Sequence[RubricRow | Rejection]:
        """One rubric, or a rejection."""
        given = await self.sample(problem, context)
        samples = [s for s in given if isinstance(s, Sampled) and s.verdict and s.verdict.decided]
        right, wrong = (
            list(dict.fromkeys(s.completion for s in samples if s.verdict and s.verdict.correct is side))
            for side in (True, False)
        )
        pairs = [Contrast(a, b) for a, b in zip(right, wrong, strict=False)]
        dropped = [r for r in given if isinstance(r, Rejection)]
        if len(pairs) < 2:
            detail = f"{len(right)} different right answers, {len(wrong)} wrong ones"
            return [*dropped, Rejection(problem.id, "fewer than two pairs", detail)]
        trial = await self.rubric(
            pairs[0],
            pairs[1 : 1 + self.held_out],
            problem=problem.problem,
            engine=context.named(self.judge_engine),
            seed=context.seed_for(problem.id, JUDGE_CALL),
        )
        if trial.outcome != "kept" or trial.rubric is None:
            return [*dropped, Rejection(problem.id, f"rubric: {trial.outcome}", trial.detail)]
        rules = trial.rubric.hard_rules, trial.rubric.principles
        row = RubricRow(problem.id, problem.problem, *rules, len(trial.comparisons))
        return [*dropped, row]

    def estimate(self, problem: Problem) -> Estimate:
        """The samples; the rubric with one repair, and the held-out pairs in both orders."""
        drawn = self.sample.estimate(problem)
        pair = self.rubric.judge.estimate_pair("", "", problem=problem.problem)
        held_out = min(self.held_out, max(0, self.sample.count // 2 - 1))
        most = held_out * pair.completions_max + 2 if held_out else 0
        tokens = max(pair.completion_tokens, self.rubric.writing.max_tokens)
        cost = replace(pair, completions_min=0, completions_max=most, completion_tokens=tokens)
        return summed(drawn, cost, 2 * drawn.completion_tokens, rows_max=1)


def _vote(found: backward.BackwardRanking, label: str | None) -> Verdict:
    if label is None:
        return unparseable(BACKWARD, "no answer")
    detail = msgspec.json.encode(found).decode()
    if found.best is None:
        return unparseable(f"{BACKWARD}: tie", detail, label)
    [own] = [c for c in found.candidates if c.label == label]
    right = found.best == label
    return decided(right, rule=BACKWARD, score=own.score, extracted=label, detail=detail)
