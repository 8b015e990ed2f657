"""The samples of one problem, and what is drawn next."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from typing import Literal

from msgspec.structs import replace

from gristmill.core.engine import Completion, Request
from gristmill.core.errors import RowRejected
from gristmill.core.prompts import RowValues, fill
from gristmill.core.records import Base, Evaluation, Judged, Problem
from gristmill.core.stages import Context, Rejection
from gristmill.core.verdicts import Verdict
from gristmill.synth.self_correction.goals import (
    GOALS,
    Beta,
    GoalName,
    Rates,
    assign,
    attempt_right,
    met,
    missing,
    says,
    usable,
)
from gristmill.synth.self_correction.prompts import (
    Marker,
    Said,
)
from gristmill.synth.self_correction.scheme import Scheme
from gristmill.verifiers.rules.arithmetic import sound

Step = Literal["evaluate", "correct"]


class Choices:
    """The samples of one problem, and what is to be drawn next."""

    def __init__(self, options: Scheme) -> None:
        self.options = options
        self.bases: list[Base] = []
        self.texts: dict[str, int] = {}
        self.refused: dict[int, tuple[Step, RowRejected]] = {}
        """The attempts that a request about was refused, with what it was for."""

    def moves(self) -> Generator[int | list[tuple[int, Step]], None, Literal["wanted", "budget", "hopeless"]]:
        """What to draw next, each time: so many attempts, or steps for attempts; at last why it ends."""
        options = self.options
        while goals := missing(assign(self.bases, options.want), options.want):
            rates = Rates.of(self.bases, Beta(options.prior.a, options.prior.b))
            if steps := self.steps(goals, rates):
                yield steps
                continue
            left = options.attempts - len(self.bases)
            if left <= 0:
                return "budget"
            if self.bases and self.hope(goals, rates, min(left, options.lookahead)) < options.min_chance:
                return "hopeless"
            yield min(left, options.attempts_per_round)
        return "wanted"

    def count(self, index: int, step: Step) -> int:
        """One more evaluation or correction of an attempt; with ``unbiased`` all that it may have."""
        options, base = self.options, self.bases[index]
        if not options.unbiased:
            return 1
        if step == "evaluate":
            return options.evaluations - len(base.evaluations)
        return options.corrections(attempt_right(base) is True) - len(base.corrections)

    def workable(self) -> list[Base]:
        """Attempts that can serve a goal: decided, the first of their text, and not refused since."""
        return [
            b
            for b in self.bases
            if attempt_right(b) is not None
            and self.texts[text_of(b.attempt.completion)] == b.index
            and b.index not in self.refused
        ]

    def steps(self, goals: Iterable[GoalName], rates: Rates) -> list[tuple[int, Step]]:
        """For each missing goal the likeliest attempt and the step it needs next; an attempt appears once.

        An attempt whose chance for the goal is below ``min_chance`` is given up.
        """
        served = assign(self.bases, self.options.want)
        taken = {i for i, names in served.items() if any(GOALS[n].exclusive for n in names)}
        chosen: dict[int, Step] = {}
        for name in goals:
            goal = GOALS[name]
            open_bases = [
                b
                for b in self.workable()
                if attempt_right(b) is goal.right
                and not met(goal, b)
                and not (goal.exclusive and b.index in taken)
            ]
            chances = [(self.options.chance(name, b, rates), -b.index) for b in open_bases]
            likely = [(c, place) for c, place in chances if c > 0 and c >= self.options.min_chance]
            # In the order drawn, or the likeliest first.
            likely.sort(key=lambda pair: pair[1:] if self.options.unbiased else pair, reverse=True)
            # With no limit on a goal every attempt that may still serve it is worked in this round.
            many = self.options.want.limit(name) is None
            for _, negative in likely[: None if many else 1]:
                base = self.bases[-negative]
                chosen.setdefault(-negative, "evaluate" if goal.says - says(base) else "correct")
        return list(chosen.items())

    def hope(self, goals: Iterable[GoalName], rates: Rates, attempts: int) -> float:
        """The best chance, over the missing goals, that the next attempts bring one more of it."""
        return max(
            rates.attempt(GOALS[g].right, attempts) * self.options.chance(g, None, rates) for g in goals
        )


class Search(Choices):
    """The search for one problem over an engine."""

    def __init__(self, options: Scheme, problem: Problem, answer: str, context: Context) -> None:
        super().__init__(options)
        self.problem = problem
        self.row = RowValues(problem)
        self.answer = answer
        self.context = context

    async def fixed(self) -> Literal["budget"]:
        """The paper's scheme; every count is drawn in full."""
        await self.draw_attempts(self.options.attempts)
        await asyncio.gather(*(self.evaluate(b.index, self.options.evaluations) for b in self.workable()))
        await asyncio.gather(
            *(
                self.correct(base.index, self.options.corrections(truth is True))
                for base in self.workable()
                if (truth := attempt_right(base)) in says(base) and False in says(base)
            )
        )
        return "budget"

    async def adaptive(self) -> Literal["wanted", "budget", "hopeless"]:
        """Draw what helps a goal that is still missing, until none is or none is likely to come."""
        moves = self.moves()
        while True:
            try:
                move = next(moves)
            except StopIteration as end:
                stopped: Literal["wanted", "budget", "hopeless"] = end.value
                return stopped
            if isinstance(move, int):
                await self.draw_attempts(move)
            else:
                await asyncio.gather(*(self.take(i, step) for i, step in move))

    async def take(self, index: int, step: Step) -> None:
        """Draw them."""
        count = self.count(index, step)
        await (self.evaluate(index, count) if step == "evaluate" else self.correct(index, count))

    def measure_shift(self) -> None:
        """Measure how long the attempts are that trajectories keep, beside the first that were drawn.

        The order of sampling may keep other attempts than the policy writes (docs/self-correction.md). What
        it writes are, for each goal of a problem, as many of the first attempts that could serve it.
        """
        served = assign(self.bases, self.options.want)
        for name, goal in GOALS.items():
            kept = [self.bases[i] for i, names in served.items() if goal.exclusive and name in names]
            alike = [b for b in self.workable() if attempt_right(b) is goal.right]
            which = "right" if goal.right else "wrong"
            for own, drawn in zip(kept, alike, strict=False):
                own_tokens, drawn_tokens = (b.attempt.completion.completion_tokens for b in (own, drawn))
                self.context.measure(f"tokens of an attempt that {name} keeps", own_tokens)
                self.context.measure(
                    f"tokens of the first {which} attempts where {name} keeps one", drawn_tokens
                )

    def rejections(self) -> list[Rejection]:
        """The refusals, as they are reported."""
        return [
            Rejection(
                f"{self.problem.id}/{index}", error.reason, f"to {step} attempt {index}: {error.message}"
            )
            for index, (step, error) in sorted(self.refused.items())
        ]

    async def draw_attempts(self, count: int) -> None:
        """``count`` more attempts, verified."""
        first = len(self.bases)
        request = self.options.turns.attempt.request(self.context.seed_for(self.problem.id), self.row)
        drawn = await self.sample(request, first, count)
        verdicts = await asyncio.gather(*(self.judge(c) for c in drawn))
        for index, (completion, verdict) in enumerate(zip(drawn, verdicts, strict=True), first):
            self.texts.setdefault(text_of(completion), index)
            self.bases.append(Base(index, Judged(completion, verdict, self.is_sound(completion))))

    async def evaluate(self, index: int, count: int) -> None:
        """``count`` more self-evaluations of an attempt."""
        base = self.bases[index]
        request = self.options.turns.evaluation.request(
            self.context.seed_for(self.problem.id, 1 + 2 * index),
            self.row,
            self.thought(attempt=base.attempt.completion.reasoning),
            attempt=text_of(base.attempt.completion),
            answer=base.attempt.verdict.extracted or "",
        )
        drawn = await self.work("evaluate", index, request, len(base.evaluations), count)
        read = [self.options.reader.read(c.text) if c.finished else None for c in drawn]
        new = tuple(
            Evaluation(c, r[0] if r else None, self.is_sound_check(c, base))
            for c, r in zip(drawn, read, strict=True)
        )
        self.bases[index] = replace(base, evaluations=base.evaluations + new)

    async def correct(self, index: int, count: int) -> None:
        """``count`` more corrections of an attempt, continuing the first evaluation that said "wrong"."""
        base = self.bases[index]
        found = evaluation_of(base, False, self.options.reader)
        if found is None:
            raise ValueError(f"attempt {index} has no evaluation that says 'wrong' to continue")
        request = self.options.turns.correction.request(
            self.context.seed_for(self.problem.id, 2 + 2 * index),
            self.row,
            self.thought(attempt=base.attempt.completion.reasoning, evaluation=found.reasoning),
            attempt=text_of(base.attempt.completion),
            answer=base.attempt.verdict.extracted or "",
            evaluation=found.text,
        )
        drawn = await self.work("correct", index, request, len(base.corrections), count)
        verdicts = await asyncio.gather(*(self.judge(c) for c in drawn))
        new = tuple(Judged(c, v, self.is_sound(c)) for c, v in zip(drawn, verdicts, strict=True))
        self.bases[index] = replace(base, corrections=base.corrections + new)

    def thought(self, **reasoning: str) -> dict[str, str]:
        """What is sent along of the reasoning of earlier turns, by the place that a turn stands for."""
        return reasoning if self.options.keep_reasoning else {}

    async def work(
        self, step: Step, index: int, request: Request, first: int, count: int
    ) -> list[Completion]:
        """Completions about an attempt; none if they are refused, which ends the work on this attempt."""
        try:
            return await self.sample(request, first, count)
        except RowRejected as error:
            self.refused[index] = step, error
            return []

    async def sample(self, request: Request, first: int, count: int) -> list[Completion]:
        """Completions whose text begins with the prompt's prefix, which the engine does not repeat."""
        if count == 0:
            return []
        drawn = await self.context.engine.generate(request, first=first, n=count)
        return [replace(c, text=request.prefix + c.text) for c in drawn] if request.prefix else drawn

    def is_sound(self, completion: Completion) -> bool:
        """Whether the arithmetic of a text may be imitated."""
        options = self.options
        return not options.sound_arithmetic or sound(completion.text, at_least=options.statements)

    def is_sound_check(self, completion: Completion, base: Base) -> bool:
        """Whether a self-evaluation may be imitated where its verdict fits."""
        holds = self.options.check_holds.right if attempt_right(base) else self.options.check_holds.wrong
        wanted = fill(holds, reference=self.answer, answer=base.attempt.verdict.extracted or "")
        return wanted in completion.text and self.is_sound(completion)

    async def judge(self, completion: Completion) -> Verdict:
        """The verifier's verdict."""
        return await self.context.judge(completion, self.answer)


def text_of(completion: Completion) -> str:
    """A completion's text as it is in later prompts and in exported data."""
    return completion.text.strip()


def evaluation_of(base: Base, said: bool, marker: Marker) -> Said | None:
    """The first usable evaluation of this verdict, cut at its marker, which is then written in full."""
    truth = attempt_right(base)
    for evaluation in base.evaluations:
        if usable(evaluation, truth) is said:
            read = marker.read(evaluation.completion.text)
            if read:
                return Said(read[1].strip(), evaluation.completion.reasoning)
    return None


def said_in(completion: Completion) -> Said:
    """A completion as it is in exported data."""
    return Said(text_of(completion), completion.reasoning)
