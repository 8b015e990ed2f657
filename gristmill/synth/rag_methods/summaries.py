"""``candidate_summaries``: candidate answers, each with a summary of the passages that argues for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta, Struct

from gristmill.core.engine import Ability, Completion, Message, Sampling
from gristmill.core.prompts import require, row_places
from gristmill.core.records import Problem, Sampled, Score
from gristmill.core.stages import Context, Estimate, Rejection, RowStage
from gristmill.core.verdicts import Outcome, Verdict
from gristmill.synth.rag_methods.base import WRITER, asked_json, asked_text, cost, held, numbered
from gristmill.verifiers.judges.asking import Asking
from gristmill.verifiers.judges.base import needs_of, quoted
from gristmill.verifiers.judges.judge import SYSTEM, Judge
from gristmill.verifiers.judges.replies import Unread
from gristmill.verifiers.rules.short_answer import tokens

VALIDITY, RANK, TOTAL = "validity", "rank", "sure"
_CANDIDATES = Message(
    "user",
    "{passages}\n\n{problem}\n\nGive {count} different short answers to PROBLEM that PASSAGES make the most "
    'likely, the best first. Reply with one JSON object and nothing else: {"candidates": ["..."]}.',
)
_SUMMARY = Message(
    "user",
    "{passages}\n\n{problem}\n\n{candidate}\n\nSuppose that CANDIDATE is the answer to PROBLEM. Write in two "
    "or three sentences what PASSAGES say for it, and nothing that they do not say. Write the summary alone.",
)
_VALID = Message(
    "user",
    "{problem}\n\n{candidate}\n\n{summary}\n\nDoes SUMMARY give a reason to take CANDIDATE for the answer to "
    "PROBLEM? {answer_with}",
)
_BETTER = Message(
    "user",
    "{problem}\n\n{response_a}\n\n{response_b}\n\nBoth responses sum up what was found on PROBLEM. Which of "
    "the two tells more that helps to answer it? Neither length nor order matters. {answer_with}",
)
_CALL = 3_300_000
_WORTH = {"first": (1.0, 0.0), "second": (0.0, 1.0), "tie": (0.5, 0.5)}


class CandidatesReply(Struct, frozen=True):
    """Candidate answers, the best first."""

    candidates: tuple[str, ...]


class CandidateSummaries(RowStage, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers a question over passages by summaries for each of several candidates (SuRe, arXiv 2404.13081).

    The model names candidates; sums up the passages in favour of each; says whether that summary supports its
    candidate (``validity``, 1 or 0); and compares every two summaries in both orders (``rank``: the sum over
    the others of 1 for better, 0.5 for a tie, 0 for worse). ``sure`` is validity + rank, and its greatest
    value is the paper's answer. Each candidate comes out as a sample with these scores, its summary as the
    reasoning and, where the question has a reference, a verdict; ``pairs`` makes pairs of them.

    A question is rejected if fewer than two candidates can be told apart, or a reply cannot be read.
    """

    reads: ClassVar[type[Struct]] = Problem
    writes: ClassVar[type[Struct]] = Sampled
    verifies: ClassVar[bool] = True

    count: Annotated[int, Meta(ge=2, le=10)] = 2
    """The candidates of a question; the paper's is 2."""
    asking: Asking = Asking(read="json")
    """How candidates are asked for: ``sampling``. The reply is always JSON."""
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=256)
    """How summaries are written."""
    judge: Judge = Judge(tie=True, pairwise=(SYSTEM, _BETTER))
    """How summaries are compared; its ``asking`` also asks whether one is valid."""
    candidates: tuple[Message, ...] = (WRITER, _CANDIDATES)
    """The prompt for candidates, with ``{passages}``, ``{problem}`` and ``{count}``."""
    summary: tuple[Message, ...] = (WRITER, _SUMMARY)
    """The prompt for a summary, with ``{passages}``, ``{problem}`` and ``{candidate}``."""
    valid: tuple[Message, ...] = (SYSTEM, _VALID)
    """The prompt for validity, with ``{problem}``, ``{candidate}``, ``{summary}`` and ``{answer_with}``."""

    def __post_init__(self) -> None:
        require("candidates", self.candidates, "passages", "problem", known=("count", "fence"))
        require("summary", self.summary, "passages", "problem", "candidate", known=("fence",))
        require("valid", self.valid, "problem", "candidate", "summary", "answer_with", known=("fence",))

    @property
    def needs(self) -> frozenset[Ability]:
        """To chat, and what the judge needs."""
        return frozenset({Ability.CHAT}) | needs_of(self.judge.asking.read)

    @property
    def places(self) -> dict[str, frozenset[str]]:
        """What the prompts want of a row beside what the stage puts in itself, by option."""
        return row_places(
            ("passages", "problem", "count", "candidate", "summary", "answer_with", "fence"),
            candidates=self.candidates,
            summary=self.summary,
            valid=self.valid,
        )

    async def __call__(self, record: Problem, context: Context) -> Sequence[Sampled | Rejection]:
        """A sample for each candidate, in the order in which they were named."""
        _, found = held(record)
        seed, shown = context.seed_for(record.id, _CALL), numbered(found)
        values = quoted(seed, passages=shown, problem=record.problem) | {"count": str(self.count)}
        parse = partial(_distinct, most=self.count)
        said = await asked_json(self.asking, self.candidates, values, parse, engine=context.engine, seed=seed)
        if isinstance(said, Unread):
            return [Rejection(record.id, "candidate_summaries: the candidates cannot be read", said.why)]
        summaries = await asyncio.gather(
            *(self._summary(record, shown, one, context, n) for n, one in enumerate(said, 1))
        )
        valid, ranks = await asyncio.gather(
            asyncio.gather(
                *(
                    self._valid(record, *both, context, n)
                    for n, both in enumerate(zip(said, summaries, strict=True))
                )
            ),
            self._ranks(record, summaries, context),
        )
        if ranks is None or None in valid:
            what = "a comparison" if ranks is None else "a summary's validity"
            return [Rejection(record.id, f"candidate_summaries: {what} could not be read")]
        verdicts = [await self._verdict(one, record, context) for one in said]
        known = [float(one or 0.0) for one in valid]
        totals = [v + r for v, r in zip(known, ranks, strict=True)]
        _measure(totals, verdicts, context)
        return [
            self._sample(record, n, said[n], summaries[n], (known[n], ranks[n], totals[n]), verdicts[n])
            for n in range(len(said))
        ]

    def _sample(
        self,
        record: Problem,
        number: int,
        candidate: str,
        summary: str,
        values: tuple[float, float, float],
        verdict: Verdict | None,
    ) -> Sampled:
        return Sampled(
            id=f"{record.id}/candidate/{number}",
            problem_id=record.id,
            index=number,
            problem=record.problem,
            answer=record.answer,
            messages=(Message("user", record.problem),),
            completion=candidate,
            finish_reason="stop",
            prompt_tokens=0,
            completion_tokens=0,
            verdict=verdict,
            scores=tuple(Score(n, v) for n, v in zip((VALIDITY, RANK, TOTAL), values, strict=True)),
            meta=record.meta,
            reasoning=summary,
        )

    async def _summary(self, record: Problem, shown: str, candidate: str, context: Context, call: int) -> str:
        seed = context.seed_for(record.id, _CALL + call)
        values = quoted(seed, passages=shown, problem=record.problem, candidate=candidate)
        return await asked_text(self.sampling, self.summary, values, engine=context.engine, seed=seed)

    async def _valid(
        self, record: Problem, candidate: str, summary: str, context: Context, call: int
    ) -> float | None:
        seed = context.seed_for(record.id, _CALL + 100 + call)
        values = quoted(seed, problem=record.problem, candidate=candidate, summary=summary)
        ballot = await self.judge.asking.choose(
            self.valid, values, ("yes", "no"), engine=context.engine, seed=seed
        )
        return None if ballot.best is None else float(ballot.best == "yes")

    async def _ranks(self, record: Problem, summaries: Sequence[str], context: Context) -> list[float] | None:
        """The points of each summary against the others; ``None`` where a comparison could not be read."""
        pairs = list(combinations(range(len(summaries)), 2))
        compared = await asyncio.gather(
            *(
                self.judge.compare(
                    summaries[a],
                    summaries[b],
                    problem=record.problem,
                    engine=context.engine,
                    seed=context.seed_for(record.id, _CALL + 200 + call),
                )
                for call, (a, b) in enumerate(pairs)
            )
        )
        points = [0.0] * len(summaries)
        for (a, b), one in zip(pairs, compared, strict=True):
            if one.winner is None:
                return None
            first, second = _WORTH[one.winner]
            points[a] += first
            points[b] += second
        return points

    async def _verdict(self, candidate: str, record: Problem, context: Context) -> Verdict | None:
        return None if record.answer is None else await context.judge(Completion(candidate), record.answer)

    def estimate(self, record: Problem) -> Estimate:
        """The candidates, a summary and a validity of each, and both orders of every two."""
        questions = 1 + 2 * self.count + self.count * (self.count - 1)
        return cost(record, self.asking, questions, self.count)


def _measure(totals: Sequence[float], verdicts: Sequence[Verdict | None], context: Context) -> None:
    """Whether the candidate with the greatest total is right, where one has it and that is decided."""
    best = [n for n, total in enumerate(totals) if total == max(totals)]
    verdict = verdicts[best[0]] if len(best) == 1 else None
    if verdict is not None and verdict.outcome in (Outcome.CORRECT, Outcome.INCORRECT):
        context.measure("the best candidate is right, in %", 100 * verdict.correct)


def _distinct(text: str, most: int) -> list[str]:
    """The candidates that are different answers, at least two."""
    found: dict[tuple[str, ...], str] = {}
    for one in msgspec.json.decode(text, type=CandidatesReply).candidates:
        if one.strip():
            found.setdefault(tuple(tokens(one)), one.strip())
    if len(found) < 2:
        raise ValueError(f"{len(found)} different candidates, not 2")
    return list(found.values())[:most]
