"""What judges have written, as training data: traces that agree with what is known, and labels that rules and
a judge agree on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from msgspec import Meta, Struct
from msgspec.structs import replace

from gristmill.core.engine import Ability
from gristmill.core.prompts import RowValues
from gristmill.core.records import Demonstration, Pair, Sampled, Turn, score_of
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.verdicts import Verdict
from gristmill.synth.drawing import CHAT, JUDGE_CALL
from gristmill.synth.scorers.base import of_pair
from gristmill.synth.scoring import VERDICT, ScoreName, cut_off
from gristmill.verifiers.judges.content import judged_part, judged_parts
from gristmill.verifiers.judges.judge import RIGHT, WRONG
from gristmill.verifiers.raters.reasoned import JudgeTrace, ReasonedJudge


class Traces(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the stages that keep a judge's traces."""

    writes: ClassVar[type[Struct]] = Demonstration
    needs: ClassVar[frozenset[Ability]] = CHAT

    judge: ReasonedJudge = ReasonedJudge()
    """How it is judged, and how many traces are drawn."""
    most: Annotated[int, Meta(ge=1)] | None = 1
    """The most traces that are kept of one row, the first ones; ``null``: all that agree."""

    def kept(
        self, record: Sampled | Pair, problem: str, traces: Sequence[JudgeTrace], gold: str
    ) -> Sequence[Demonstration | Rejection]:
        """The traces that come to ``gold``, or the rejection that none does."""
        agree = [t for t in traces if t.said == gold][: self.most]
        if not agree:
            said = [t.said or f"unread ({t.why})" for t in traces]
            reason = "no trace could be read" if all(t.said is None for t in traces) else "no trace agrees"
            return [Rejection(record.id, reason, f"{gold} is known; said: {', '.join(said)}")]
        return [
            Demonstration(
                f"{record.id}/trace/{i}",
                record.problem_id,
                problem,
                gold,
                "judge trace",
                (
                    *(Turn(m.role, m.content, train=False) for m in trace.messages),
                    Turn("assistant", trace.reply, train=True, reasoning=trace.reasoning),
                ),
            )
            for i, trace in enumerate(agree)
        ]


class JudgeTraces(Traces, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Traces of a judge about single answers, kept if they agree with a verdict that is known (RM-R1, arXiv
    2505.02387; critiques with labels as in "Critique Ability of Large Language Models", arXiv 2310.04815).

    The conversation is what the judge was asked and what it wrote, which is trained. ``answer`` is the known
    verdict. An answer whose known verdict is undecided is rejected without a question.
    """

    reads: ClassVar[type[Struct]] = Sampled

    known: ScoreName = VERDICT
    """The name of the score with the verdict that is known; ``verdict`` is the sample's own."""

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[Demonstration | Rejection]:
        """The traces, or a rejection."""
        verdict = verdict_in(sample, self.known)
        if verdict is None or not verdict.decided:
            return [Rejection(sample.id, "no verdict is known", f"{self.known}: {verdict and verdict.rule}")]
        shown = judged_part(sample.completion) if cut_off(sample) is None else cut_off(sample)
        if not isinstance(shown, str):
            return [Rejection(sample.id, "nothing to judge", "" if shown is None else shown.detail)]
        traces = await self.judge.trace(
            shown,
            problem=sample.problem,
            engine=context.engine,
            seed=context.seed_for(sample.id, JUDGE_CALL),
        )
        return self.kept(sample, sample.problem, traces, RIGHT if verdict.correct else WRONG)

    def estimate(self, sample: Sampled) -> Estimate:
        """The traces; nothing for a sample without a known verdict."""
        verdict = verdict_in(sample, self.known)
        if verdict is None or not verdict.decided:
            return Estimate(0, 0, 0, 0, rows_max=0)
        cost = self.judge.estimate(sample.completion, "", problem=sample.problem)
        return replace(cost, rows_max=self.most or self.judge.samples)


class JudgePairTraces(Traces, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As ``judge_traces``, of pairs: traces that come to the chosen side, which is A or B by the seed.

    The places are drawn anew for each row, so that the kept traces do not teach a place.
    """

    reads: ClassVar[type[Struct]] = Pair

    async def __call__(self, pair: Pair, context: Context) -> Sequence[Demonstration | Rejection]:
        """The traces, or a rejection. ``RowRejected`` for a side that does not end with an answer."""
        chosen, rejected = of_pair(pair)
        seed = context.seed_for(pair.id, JUDGE_CALL)
        shown = judged_parts(chosen.completion, rejected.completion)
        if isinstance(shown, str):
            return [Rejection(pair.id, "nothing to judge", shown)]
        gold = "AB"[seed % 2]
        first, second = shown if gold == "A" else shown[::-1]
        traces = await self.judge.trace_pair(
            first, second, problem=chosen.problem, engine=context.engine, seed=seed
        )
        return self.kept(pair, chosen.problem, traces, gold)

    def estimate(self, pair: Pair) -> Estimate:
        """The traces, of one order."""
        text = "".join(m.content for m in (*pair.prompt, *pair.chosen, *pair.rejected))
        cost = self.judge.estimate(text, "", problem="")
        return replace(cost, rows_max=self.most or self.judge.samples)


class VerifierRow(Struct, frozen=True):
    """A row to train a verifier with: whether ``answer`` is right for ``question``, by ``reference``."""

    id: str
    problem_id: str
    question: str
    reference: str
    answer: str
    label: bool


class AgreedLabels(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Labels that rules and a judge agree on (the hybrid annotation of Cooper, arXiv 2508.05613).

    Samples are rejected where the verdicts differ, where one of them is missing or undecided, and without a
    reference.
    """

    reads: ClassVar[type[Struct]] = Sampled
    writes: ClassVar[type[Struct]] = VerifierRow

    verdicts: Annotated[tuple[ScoreName, ...], Meta(min_length=2)] = (VERDICT, "judge")
    """The names of the scores whose verdicts have to agree, two at least; ``verdict`` is the sample's own."""
    reference: str = "answer"
    """The field or column that holds the reference."""

    async def __call__(self, sample: Sampled, context: Context) -> Sequence[VerifierRow | Rejection]:
        """The row, or a rejection."""
        found = {name: verdict_in(sample, name) for name in self.verdicts}
        told = ", ".join(f"{name} {v.outcome if v else 'missing'}" for name, v in found.items())
        decided = [v.correct for v in found.values() if v is not None and v.decided]
        if len(decided) < len(found):
            return [Rejection(sample.id, "a verdict is not decided", told)]
        if len(set(decided)) > 1:
            return [Rejection(sample.id, "the verdicts differ", told)]
        reference = RowValues(sample).get(self.reference)
        if not isinstance(reference, str) or not reference.strip():
            return [Rejection(sample.id, "no reference", f"the row has no text in {self.reference!r}")]
        row = VerifierRow(
            sample.id, sample.problem_id, sample.problem, reference, sample.completion, decided[0]
        )
        return [row]

    def estimate(self, sample: Sampled) -> Estimate:
        """Nothing: no engine is called."""
        return Estimate(0, 0, 0, 0, rows_max=1)


def verdict_in(sample: Sampled, name: str) -> Verdict | None:
    """The verdict under a score's name, or the sample's own; ``None`` where there is none."""
    if name == VERDICT:
        return sample.verdict
    score = score_of(sample, name)
    return None if score is None else score.verdict
